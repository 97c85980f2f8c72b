"""Reference of proof of random access in plain Python: sealing, one search, the flow as a perfect tree."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from zerog.chain.keys import keccak256

LOAD = 1024
NO_SHARDS = 2**64 - 1


def u256(value: int) -> bytes:
    return value.to_bytes(32)


def prng(size: int) -> bytes:
    """The generator of the vectors."""
    blocks = (hashlib.sha256(i.to_bytes(8)).digest() for i in range((size + 31) // 32))
    return b"".join(blocks)[:size]


def seal(raw: bytes, miner: bytes, context: bytes, position: int) -> bytes:
    mask, sealed = keccak256(miner + context + u256(position)), bytearray()
    for at in range(0, len(raw), 32):
        word = bytes(a ^ b for a, b in zip(raw[at : at + 32], mask, strict=True))
        sealed += word
        mask = keccak256(word)
    return bytes(sealed)


@dataclass(frozen=True)
class Pad:
    """What one nonce gives: the seed, the pad, the seed of the recall."""

    seed: bytes
    data: bytes
    recall: bytes

    def hash(self, sealed: bytes, offset: int) -> bytes:
        quarter = self.data[4096 * (offset % 4) :][:4096]
        mixed = bytes(a ^ b for a, b in zip(sealed, quarter, strict=True))
        return hashlib.blake2b(u256(offset) + self.seed + bytes(32) + mixed).digest()[:32]


def scratch_pad(miner: bytes, nonce: bytes, subtask: bytes, search: tuple[int, int, int, int]) -> Pad:
    """``search`` is start, length, shard id and shard mask."""
    digest = keccak256(b"".join(map(u256, search)))
    seed = state = hashlib.blake2b(miner + nonce + subtask + digest).digest()
    cells = []
    for _ in range(256):
        high = keccak256(state)
        state = high + keccak256(high + state[32:])
        cells.append(state)
    return Pad(seed, b"".join(cells), keccak256(state))


def recalled_load(pad: Pad, search: tuple[int, int, int, int]) -> int:
    """Load that the nonce recalls, counted from the start of the range."""
    _, length, shard, mask = search
    return int.from_bytes(pad.recall) % (length // LOAD) & mask | shard


class FlowModel:
    """The flow as bytes and as a perfect tree; gaps are zero sectors, the first leaf is 32 zero bytes."""

    def __init__(self, sectors: int) -> None:
        self.length = sectors
        self.data = bytearray(sectors * 256)

    def put(self, start: int, content: bytes) -> None:
        self.data[start * 256 : start * 256 + len(content)] = content

    def levels(self) -> list[list[bytes]]:
        """Nodes from the leaves to the root."""
        leaves = [keccak256(bytes(self.data[i : i + 256])) for i in range(0, len(self.data), 256)]
        leaves[0] = bytes(32)
        size = 1 << (self.length - 1).bit_length()
        level = leaves + [keccak256(bytes(256))] * (size - self.length)
        result = [level]
        while len(level) > 1:
            level = [keccak256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
            result.append(level)
        return result


def proof_of(levels: list[list[bytes]], position: int) -> list[bytes]:
    """Siblings from the piece of sixteen sectors up to below the root."""
    index, proof = position >> 4, []
    for level in levels[4:-1]:
        proof.append(level[index ^ 1])
        index >>= 1
    return proof


def answer_of(**fields: Any) -> dict[str, Any]:
    """An answer as the contract takes it."""
    return {
        "contextDigest": fields.pop("contextDigest", bytes(32)),
        "sealedData": [fields["sealed"][i : i + 32] for i in range(0, 4096, 32)],
        "range": dict(
            zip(("startPosition", "mineLength", "shardId", "shardMask"), fields.pop("search"), strict=True)
        ),
        **{key: value for key, value in fields.items() if key != "sealed"},
    }
