"""ethers 6 and viem, unmodified, against `zerog up`: one test per check of the client's script."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import CLIENTS, Node

pytestmark = pytest.mark.conformance


def checks_of(script: str) -> list[str]:
    """The names of the checks, read from the script's own table."""
    text = (CLIENTS / script).read_text()
    return re.findall(r"^  (\w+): (?:async )?\(\) =>", text, re.MULTILINE)


@pytest.fixture(scope="module")
def results(node: Node, clients: Path, request: pytest.FixtureRequest) -> dict[str, dict[str, object]]:
    """Both scripts run once; check name → its line."""
    found: dict[str, dict[str, object]] = {}
    for script in ("ethers.mjs", "viem.mjs"):
        done = subprocess.run(
            ["node", script, node.url], cwd=clients, capture_output=True, text=True, timeout=600, check=False
        )
        for line in done.stdout.splitlines():
            result = json.loads(line)
            found[f"{script}:{result['check']}"] = result
        assert not done.stderr, done.stderr
    return found


@pytest.mark.parametrize(
    "check", [f"{script}:{name}" for script in ("ethers.mjs", "viem.mjs") for name in checks_of(script)]
)
def test_client_check_passes(check: str, results: dict[str, dict[str, object]]) -> None:
    assert check in results, "the script ended before this check"
    assert results[check]["ok"], results[check]["error"]
