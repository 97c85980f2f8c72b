"""A node as a user starts it: `zerog up` in its own process, reached over HTTP and WebSocket only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

CLIENTS = Path(__file__).parent / "clients"
ZEROG = Path(sys.executable).parent / "zerog"
# The public suites lie beside the checkout or where ZEROG_FIXTURES says; tests skip where they are absent.
FIXTURES = Path(os.environ.get("ZEROG_FIXTURES", Path(__file__).parents[3] / "shared" / "fixtures"))


class Node:
    """A running `zerog up` (ephemeral unless `flags` say where); `banner` is its `--json` line."""

    def __init__(self, *flags: str, chain_only: bool = True) -> None:
        alone = ["--chain-only"] if chain_only else []
        self._start([ZEROG, "up", *alone, "--port", "0", "--json", *(flags or ["--ephemeral"])])

    def _start(self, command: Sequence[str | Path]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{command[1:3]} ended with {self.process.wait()} before its banner")
        try:
            self.banner = json.loads(line)
            self.url: str = self.banner["url"]
        except (ValueError, KeyError):
            self.process.kill()
            raise

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(timeout=20)
        finally:
            self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()


class StorageNode(Node):
    """A running `zerog storage node` beside the chain at `rpc`."""

    def __init__(self, rpc: str, flow: str, shard: str, *flags: str) -> None:
        self._start(
            [
                ZEROG,
                "storage",
                "node",
                "--rpc",
                rpc,
                "--flow",
                flow,
                "--shard",
                shard,
                "--ephemeral",
                "--json",
            ]
            + (list(flags) or ["--port", "0"])
        )


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    running = Node()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder with the foreign clients installed by npm."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (CLIENTS / "node_modules").is_dir():
        pytest.skip("the foreign clients are not installed: run `make setup-test`")
    return CLIENTS
