"""`kill -9` at random moments under load: nothing that a client saw is lost, the state recomputes.

A short version runs with the other tests; `make soak` kills 200 times in each mining mode.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from zerog import _native

ZEROG = Path(sys.executable).parent / "zerog"
MODES = {
    "automine": [],
    "interval": ["--block-time", "0.2"],
    "manual": ["--no-mining"],
    "mixed": ["--block-time", "0.2", "--mixed-mining"],
}
KEYS = [_native.keccak256(f"kill-{i}".encode()) for i in range(4)]
GWEI = 10**9


class Node:
    def __init__(self, folder: Path, mode: str) -> None:
        self.process = subprocess.Popen(
            [ZEROG, "up", "--chain-only", "--port", "0", "--json", "--data-dir", folder, *MODES[mode]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        assert line, f"no banner: {self.process.stderr.read()}"
        self.url: str = json.loads(line)["url"]

    def rpc(self, method: str, *params: Any) -> Any:
        payload = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, payload, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            parsed = json.load(answer)
        if "error" in parsed:
            raise RuntimeError(f"{method}: {parsed['error']}")
        return parsed["result"]

    def kill(self) -> None:
        self.process.kill()  # SIGKILL
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


class Client(threading.Thread):
    """Sends transfers of one account until the node dies; keeps what the node told it."""

    def __init__(self, node: Node, key: bytes, mine: bool) -> None:
        super().__init__(daemon=True)
        self.node, self.key, self.mine = node, key, mine
        self.address = _native.address_of(key)
        self.receipts: dict[str, dict[str, Any]] = {}
        self.acknowledged: list[str] = []
        self.unexpected: Exception | None = None

    def run(self) -> None:
        waiting: list[str] = []
        try:
            nonce = int(self.node.rpc("eth_getTransactionCount", self.address, "pending"), 16)
            while True:
                transaction = {
                    "type": "0x2", "chainId": hex(31337), "nonce": hex(nonce), "to": "0x" + os.urandom(20).hex(),
                    "value": "0x1", "input": "0x", "gas": hex(21_000), "maxFeePerGas": hex(50 * GWEI),
                    "maxPriorityFeePerGas": hex(GWEI), "accessList": [],
                }  # fmt: skip
                raw = _native.sign_transaction(self.key, json.dumps(transaction))
                hash_ = self.node.rpc("eth_sendRawTransaction", "0x" + raw.hex())
                self.acknowledged.append(hash_)
                waiting.append(hash_)
                nonce += 1
                if self.mine and nonce % 5 == 0:
                    self.node.rpc("evm_mine")
                for pending in list(waiting[:3]):
                    receipt = self.node.rpc("eth_getTransactionReceipt", pending)
                    if receipt:
                        self.receipts[pending] = receipt
                        waiting.remove(pending)
        except (urllib.error.URLError, ConnectionError, OSError, ValueError):
            return  # the node is dead
        except Exception as error:
            self.unexpected = error


def check_after_restart(node: Node, clients: list[Client], heads: dict[int, str]) -> None:
    head = int(node.rpc("eth_blockNumber"), 16)
    assert head >= max(heads, default=0), "the head went back"
    for number, hash_ in heads.items():
        assert node.rpc("eth_getBlockByNumber", hex(number), False)["hash"] == hash_
    for client in clients:
        assert client.unexpected is None, client.unexpected
        for hash_, receipt in client.receipts.items():
            assert node.rpc("eth_getTransactionReceipt", hash_) == receipt
        for hash_ in client.acknowledged:
            found = node.rpc("eth_getTransactionByHash", hash_)
            assert found is not None, f"an acknowledged transaction is neither mined nor pending: {hash_}"


def verify(folder: Path) -> None:
    """The state root recomputes from the flat state (the node must be down: one process owns the folder)."""
    done = subprocess.run(
        [ZEROG, "chain", "verify", "--data-dir", folder, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["equal"] is True


def kill_loop(folder: Path, mode: str, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    node = Node(folder, mode)
    try:
        for key in KEYS:
            node.rpc("anvil_setBalance", _native.address_of(key), hex(10**24))
        for done in range(kills):
            if kills > 10 and done % 20 == 0:
                print(f"{mode}: {done} of {kills} kills", flush=True)
            clients = [Client(node, key, mine=mode == "manual") for key in KEYS]
            heads = load_until_killed(node, clients, rng.uniform(0.05, 0.8))
            verify(folder)
            node = Node(folder, mode)
            check_after_restart(node, clients, heads)
    finally:
        node.kill()


def load_until_killed(node: Node, clients: list[Client], seconds: float) -> dict[int, str]:
    """Runs the clients, kills the node after `seconds`; the heads that were seen, by number."""
    for client in clients:
        client.start()
    heads: dict[int, str] = {}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        block = node.rpc("eth_getBlockByNumber", "latest", False)
        heads[int(block["number"], 16)] = block["hash"]
    node.kill()
    for client in clients:
        client.join(timeout=30)
        assert not client.is_alive()
    return heads


@pytest.mark.parametrize("mode", MODES)
def test_a_few_kills_lose_nothing(mode: str, tmp_path: Path) -> None:
    kill_loop(tmp_path / "data", mode, kills=3, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("mode", MODES)
def test_two_hundred_kills_lose_nothing(mode: str, tmp_path: Path) -> None:
    kill_loop(tmp_path / "data", mode, kills=200, seed=3)
