"""The storage predeploys on a devnet, and files as submissions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zerog.client import Account, Client, Contract, Devnet, Receipt
from zerog.contracts import PORA_MINE, STORAGE_FLOW, STORAGE_MARKET, STORAGE_REWARD, artifact

VECTORS = Path(__file__).parents[2] / "storage/vectors"
SUBMIT = "submit(((uint256,bytes,(bytes32,uint256)[]),address))"
SUBMIT_OLD = "submit((uint256,bytes,(bytes32,uint256)[]))"
BATCH = "batchSubmit(((uint256,bytes,(bytes32,uint256)[]),address)[])"
BATCH_OLD = "batchSubmit((uint256,bytes,(bytes32,uint256)[])[])"


@cache
def vectors(name: str) -> Any:
    """A file of vectors, decoded."""
    return msgspec.json.decode((VECTORS / name).read_bytes())


@dataclass(frozen=True)
class File:
    """What the contract is told about a file."""

    size: int
    nodes: tuple[tuple[bytes, int], ...]

    @property
    def sectors(self) -> int:
        return sum(1 << height for _, height in self.nodes)

    def data(self, tags: bytes = b"") -> tuple[int, bytes, list[tuple[bytes, int]]]:
        return (self.size, tags, list(self.nodes))


def plain(sectors: int, salt: int = 0) -> File:
    """A file of this many sectors, as wide as its padding allows; sectors is a padded size."""
    nodes: list[tuple[bytes, int]] = []
    for height in reversed(range(sectors.bit_length())):
        if sectors >> height & 1:
            nodes.append(((salt * 1000 + height + 1).to_bytes(32), height))
    return File(sectors * 256, tuple(nodes))


@cache
def prng_files() -> tuple[File, ...]:
    """The files of `flow.json`, in order."""
    return tuple(
        File(entry["size"], tuple((bytes.fromhex(n["root"][2:]), n["height"]) for n in entry["nodes"]))
        for entry in vectors("merkle.json")["prng"]
    )


@dataclass
class Storage:
    """A flow with its market and reward."""

    net: Devnet
    admin: Account
    user: Account
    stranger: Account
    flow: Contract = field(init=False)
    market: Contract = field(init=False)
    reward: Contract = field(init=False)
    pora: Contract = field(init=False)

    def __post_init__(self) -> None:
        self.flow = self._at(STORAGE_FLOW, "RefundingFlow")
        self.market = self._at(STORAGE_MARKET, "FixedPrice")
        self.reward = self._at(STORAGE_REWARD, "ChunkLinearReward")
        self.pora = self._at(PORA_MINE, "PoraMine")

    def _at(self, address: str, name: str) -> Contract:
        return self.client.contract(address, artifact(name).abi, account=self.user)

    @property
    def client(self) -> Client:
        return self.net.client

    @property
    def block(self) -> int:
        return int(self.client.block().number)

    def mine(self, blocks: int) -> None:
        """Empty blocks."""
        self.client.request("hardhat_mine", hex(blocks))

    def deploy(self, name: str, *arguments: Any) -> Contract:
        """Deploys a shipped contract or a mock."""
        mock = Path(__file__).parents[1] / f"artifacts/{name}.json"
        if mock.exists():
            compiled = msgspec.json.decode(mock.read_bytes())
            return self.client.deploy(compiled["abi"], compiled["bytecode"], *arguments, account=self.admin)
        made = artifact(name)
        return self.client.deploy(made.abi, made.bytecode, *arguments, account=self.admin)

    def fee(self, file: File) -> int:
        return file.sectors * int(self.market.pricePerSector())

    def submit(self, file: File, **options: Any) -> Receipt:
        """Submits a file of the user, for exactly its fee when nothing else is said."""
        options.setdefault("value", self.fee(file))
        receipt: Receipt = self.flow.functions[SUBMIT]((file.data(), self.user.address), **options)
        return receipt

    def batch(self, files: Sequence[File], **options: Any) -> Receipt:
        """Submits several files in one call."""
        options.setdefault("value", sum(map(self.fee, files)))
        receipt: Receipt = self.flow.functions[BATCH](
            [(file.data(), self.user.address) for file in files], **options
        )
        return receipt

    def root(self) -> bytes:
        """The flow's root."""
        return bytes(self.flow.computeFlowRoot.call())


@pytest.fixture
def storage(zerog_devnet: Devnet) -> Storage:
    """The predeploys of a fresh devnet."""
    admin, user, stranger = zerog_devnet.accounts[:3]
    return Storage(zerog_devnet, admin, user, stranger)
