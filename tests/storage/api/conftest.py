"""A devnet with a storage node, and files to store on it."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from zerog import Devnet, _native
from zerog.chain.keys import keccak256
from zerog.contracts import PREDEPLOYS
from zerog.storage.values import FileProof, Segment

FLOW = PREDEPLOYS["StorageFlow"]
PRICE = 232_830_643
SUBMIT = "((uint256,bytes,(bytes32,uint256)[]),address)"
OLD_SUBMIT = "(uint256,bytes,(bytes32,uint256)[])"


@dataclass(frozen=True)
class File:
    """A file with its tree, in the forms that clients send."""

    data: bytes
    tree: _native.FileTree

    @classmethod
    def of(cls, data: bytes) -> File:
        return cls(data, _native.FileTree.from_bytes(data))

    @property
    def root(self) -> str:
        return "0x" + self.tree.root.hex()

    @property
    def count(self) -> int:
        return -(-len(self.data) // 262_144)

    def chunk_bytes(self, index: int) -> bytes:
        padded = self.data + bytes(-len(self.data) % 256)
        return padded[index * 262_144 : (index + 1) * 262_144]

    def segment(self, index: int) -> Segment:
        lemma, path = self.tree.proof(index)
        proof = FileProof(tuple(lemma), tuple(path))
        return Segment(self.tree.root, index, self.chunk_bytes(index), proof, len(self.data))

    def json(self, index: int) -> dict[str, Any]:
        lemma, path = self.tree.proof(index)
        return {
            "root": self.root,
            "data": base64.b64encode(self.chunk_bytes(index)).decode(),
            "index": index,
            "proof": {"lemma": ["0x" + item.hex() for item in lemma], "path": list(path)},
            "fileSize": len(self.data),
        }

    def submission(self, submitter: str, tags: bytes = b"") -> bytes:
        from eth_abi.abi import encode

        value = ((len(self.data), tags, list(self.tree.nodes)), submitter)
        return keccak256(f"submit({SUBMIT})".encode())[:4] + encode([SUBMIT], [value])

    def old_submission(self, tags: bytes = b"") -> bytes:
        from eth_abi.abi import encode

        value = (len(self.data), tags, list(self.tree.nodes))
        return keccak256(f"submit({OLD_SUBMIT})".encode())[:4] + encode([OLD_SUBMIT], [value])

    @property
    def fee(self) -> int:
        return PRICE * sum(1 << height for _, height in self.tree.nodes)


_FRESH = itertools.count()


def pattern(size: int) -> bytes:
    """Bytes that differ everywhere, and from call to call: a reverted file that comes again has its data at once."""
    seed = next(_FRESH)
    block = b"".join(keccak256(f"{seed}/{index}".encode()) for index in range(-(-min(size, 8192) // 32)))
    return (block * (-(-size // len(block))))[:size]


def submit(net: Devnet, file: File, *, old: bool = False) -> None:
    account = net.accounts[0]
    data = file.old_submission() if old else file.submission(account.address)
    net.client.send(to=FLOW, value=file.fee, input=data, account=account)


def wait_until_final(net: Devnet, file: File, deadline: float = 10.0) -> None:
    """Waits until the node says that it has a file."""
    end = time.monotonic() + deadline
    while not net.client.request("zgs_checkFileFinalized", file.root):
        assert time.monotonic() < end, f"{file.root} is not final after {deadline} s"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def storage_devnet() -> Iterator[Devnet]:
    with Devnet(services=["storage"]) as net:
        yield net


@pytest.fixture
def net(storage_devnet: Devnet) -> Iterator[Devnet]:
    """The devnet as it was at its start: the storage node follows the chain back."""
    with storage_devnet.anchor():
        yield storage_devnet
