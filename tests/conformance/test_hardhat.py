"""hardhat 2: its test runner on a zerog network, and its own chain forked from a zerog node."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import Node

pytestmark = pytest.mark.conformance


def hardhat(clients: Path, out: Path, url: str, *arguments: str, fork: bool = False) -> str:
    environment = dict(
        os.environ, ZEROG_URL=url, HARDHAT_OUT=str(out), HARDHAT_DISABLE_TELEMETRY_PROMPT="true"
    )
    if fork:
        environment["FORK"] = "1"
    done = subprocess.run(
        ["npx", "hardhat", "--config", "hardhat.config.cjs", *arguments],
        cwd=clients / "hardhat",
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hardhat_tests_pass_on_a_zerog_network(node: Node, clients: Path, tmp_path: Path) -> None:
    assert "7 passing" in hardhat(clients, tmp_path, node.url, "test", "--network", "zerog")


def test_hardhat_forks_a_zerog_node(node: Node, clients: Path, tmp_path: Path) -> None:
    assert "7 passing" in hardhat(clients, tmp_path, node.url, "test", fork=True)
