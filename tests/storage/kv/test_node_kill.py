"""`kill -9` of a whole node while clients write streams: what was committed stays, nothing is there by half."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from zerog.client import Client
from zerog.client.kv import Kv, Stream
from zerog.client.storage import Storage
from zerog.errors import ZerogError

KEYS = 12
DEADLINE = 60.0


class Node:
    """`zerog up` on a data directory."""

    def __init__(self, folder: Path) -> None:
        home, config = folder / "home", folder / "config.toml"
        # A submission whose client died before it had sent the data never gets it.
        config.write_text("[kv]\ngive_up_after = 0.5\n")
        flags = ["--port", "0", "--json", "--data-dir", folder / "data", "--config", config]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zerog", "up", *flags],
            env={**os.environ, "ZEROG_HOME": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, f"no banner: {self.process.stderr.read()}"
        banner = json.loads(line)
        self.url: str = banner["url"]
        self.accounts: list[str] = [account["address"] for account in banner["accounts"]]

    def stream(self, number: int, state: Path) -> Stream:
        """A stream of its own account."""
        client = Client(self.url, account=self.accounts[number])
        storage = Storage(self.url, client=client, state=state)

        def upload(content: bytes, tags: bytes) -> int:
            return int(storage.put(content, tags=tags, again=True).seqs[0])

        return Kv(client, upload=upload).stream(number + 1)

    def end(self, *, kill: bool) -> None:
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.communicate(timeout=DEADLINE)


class Writer(threading.Thread):
    """Writes transactions of many keys until the node dies; keeps what the node reported as committed."""

    def __init__(self, node: Node, number: int, state: Path, committed: dict[int, bytes]) -> None:
        super().__init__(daemon=True)
        self.stream = node.stream(number, state)
        self.committed = committed
        self.dead = threading.Event()
        self.unexpected: BaseException | None = None

    def run(self) -> None:
        try:
            while True:
                value = os.urandom(40)
                version = self.stream.set_many({f"key-{index}": value for index in range(KEYS)})
                self.committed[version] = value
        except (ZerogError, OSError) as error:
            if not self.dead.is_set():
                self.unexpected = error
        except BaseException as error:
            self.unexpected = error


def _until_applied(client: Client) -> int:
    deadline = time.monotonic() + DEADLINE
    while (progress := client.kv.progress())["appliedSeq"] < progress["nextSeq"]:
        assert time.monotonic() < deadline, progress
        time.sleep(0.01)
    return int(progress["appliedSeq"])


def _changes(client: Client, number: int) -> dict[int, list[str]]:
    """Keys by version."""
    found: dict[int, list[str]] = {}
    first, after = 0, ""
    while page := client.request(
        "kv_getChanges", "0x" + (number + 1).to_bytes(32, "big").hex(), first, 1000, "", after
    ):
        for change in page:
            found.setdefault(change["version"], []).append(change["key"])
        first, after = page[-1]["version"], page[-1]["key"]
    return found


def _check(node: Node, committed: list[dict[int, bytes]]) -> None:
    client = Client(node.url)
    applied = _until_applied(client)
    for number, told in enumerate(committed):
        changes = _changes(client, number)
        assert set(told) <= set(changes), "a committed write is lost"
        assert all(len(keys) == KEYS for keys in changes.values()), "a transaction is there by half"
        assert all(version < applied for version in changes)
        stream = client.kv.stream(number + 1)
        for version, value in list(told.items())[-8:]:
            for index in (0, KEYS - 1):
                entry = stream.entry(f"key-{index}", version=version)
                assert entry is not None and (entry.version, entry.value) == (version, value)


def _kill(folder: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    committed: list[dict[int, bytes]] = [{}, {}]
    for _ in range(kills):
        node = Node(folder)
        try:
            _check(node, committed)
            writers = [
                Writer(node, number, folder / f"state-{number}", told)
                for number, told in enumerate(committed)
            ]
            before = sum(map(len, committed))
            for writer in writers:
                writer.start()
            deadline = time.monotonic() + DEADLINE
            while sum(map(len, committed)) < before + 3 and all(w.unexpected is None for w in writers):
                assert time.monotonic() < deadline, "nothing is committed any more"
                time.sleep(0.002)
            time.sleep(rng.random() * 0.2)
            for writer in writers:
                writer.dead.set()
        finally:
            node.end(kill=True)
        for writer in writers:
            writer.join(DEADLINE)
            assert not writer.is_alive() and writer.unexpected is None, writer.unexpected
    node = Node(folder)
    try:
        _check(node, committed)
        after_kills = _observed(node)
    finally:
        node.end(kill=False)
    # An index that was never killed, made from the same flow, is the same.
    shutil.rmtree(folder / "data" / "storage" / "kv")
    node = Node(folder)
    try:
        _check(node, committed)
        assert _observed(node) == after_kills
    finally:
        node.end(kill=False)
    assert node.process.returncode == 0


def _observed(node: Node) -> dict[str, Any]:
    client = Client(node.url)
    applied = _until_applied(client)
    return {
        "applied": applied,
        "results": [
            result
            for first in range(0, applied, 500)
            for result in client.batch(
                [("kv_getTransactionResult", [seq]) for seq in range(first, min(applied, first + 500))]
            )
        ],
        "changes": [_changes(client, number) for number in range(2)],
        "roles": [client.kv.stream(number + 1).roles() for number in range(2)],
    }


def test_a_node_that_is_killed_while_clients_write_loses_no_committed_write(tmp_path: Path) -> None:
    _kill(tmp_path, 5, 1)


@pytest.mark.soak
def test_a_node_that_is_killed_a_hundred_times_loses_no_committed_write(tmp_path: Path) -> None:
    _kill(tmp_path, 100, 2)
