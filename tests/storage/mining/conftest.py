"""A devnet with a storage node, whose store a test mines with a miner of its own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from zerog.client import Client, Devnet
from zerog.client.storage import Storage
from zerog.contracts import PORA_MINE, STORAGE_FLOW, STORAGE_REWARD
from zerog.node.stack import LocalRpc
from zerog.storage.mining.contract import MiningContracts
from zerog.storage.mining.miner import Miner, MinerOptions
from zerog.storage.mining.sealed import SealedStore
from zerog.storage.mining.sending import node_account
from zerog.storage.store import FlowStore

LIMIT = 60.0
"""Seconds for each wait: a miner of a devnet earns in that time."""


def until(condition: Callable[[], Any], state: Callable[[], Any] = lambda: "it") -> Any:
    """What the condition gives once it holds."""
    deadline = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < deadline, f"after {LIMIT:g} s: {state()}"
        time.sleep(0.02)
    return found


@dataclass
class Pit:
    """A chain, its store, and what is mined with."""

    net: Devnet
    store: FlowStore
    folder: Path
    contracts: MiningContracts = field(init=False)
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.contracts = MiningContracts(LocalRpc(self.net.node), PORA_MINE, STORAGE_FLOW, STORAGE_REWARD)

    def put(self, size: int) -> None:
        """Stores random bytes."""
        client = Client(self.net.url, account=self.net.accounts[1])
        with closing(Storage(self.net.url, client=client, state=self.folder / "state")) as storage:
            storage.put(os.urandom(size))

    def blocks(self, count: int) -> None:
        """Empty blocks."""
        self.net.client.request("hardhat_mine", hex(count))

    def miner(self, name: str = "miner", account: int = 3, answers: int = 0) -> tuple[Miner, SealedStore]:
        """A miner that keeps its data under ``name``; it sees the events of the store."""
        sealed = SealedStore(self.folder / name)
        sender = node_account(LocalRpc(self.net.node), self.net.accounts[account].address)
        miner = Miner(self.store, sealed, self.contracts, sender, options=MinerOptions(answers))
        self.store.listen(miner.hear)
        return miner, sealed

    def cycles(self, miner: Miner, condition: Callable[[], Any]) -> Any:
        """Runs the miner until the condition holds."""

        def step() -> Any:
            found = condition()
            if not found:
                miner.cycle(self.stop)
            return found

        return until(step, miner.status)


@pytest.fixture
def pit(tmp_path: Path) -> Iterator[Pit]:
    opened: list[Any] = []
    with Devnet(services=["storage"]) as net:
        service = next(service for service in net.node._services if service.name == "storage")
        service.on_open(opened.append)
        yield Pit(net, until(lambda: opened)[0].store, tmp_path)
