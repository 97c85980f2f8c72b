"""Proof of random access in plain Python: the oracle beside the native kernels.

Written from the rules (specification of the 0G storage node), on `hashlib.blake2b` and single keccak calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from zerog._native import keccak256
from zerog.storage import layout

PAD = 16384
"""Bytes of a scratch pad."""
WORD = 32


def word(value: int) -> bytes:
    """A 256-bit number as in a preimage."""
    return value.to_bytes(WORD, "big")


def xor(left: bytes, right: bytes) -> bytes:
    """Bytewise; the lengths are equal."""
    size = len(left)
    assert len(right) == size
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(size, "big")


def seal(piece: bytes, miner_id: bytes, context: bytes, position: int) -> bytes:
    """One piece of 4,096 bytes at flow sector ``position``."""
    mask = keccak256(miner_id + context + word(position))
    sealed = b""
    for at in range(0, layout.SEAL, WORD):
        sealed += xor(piece[at : at + WORD], mask)
        mask = keccak256(sealed[-WORD:])
    return sealed


@dataclass(frozen=True, slots=True)
class Task:
    """What is mined: the miner, the subtask, and a range of the flow in sectors."""

    miner_id: bytes
    subtask: bytes
    start: int
    length: int
    shard_id: int = 0
    shard_mask: int = 2**64 - 1

    def scratch_pad(self, nonce: bytes) -> tuple[bytes, bytes, bytes]:
        """Pad, pad seed, recall seed."""
        numbers = (self.start, self.length, self.shard_id, self.shard_mask)
        digest = keccak256(b"".join(map(word, numbers)))
        seed = hashlib.blake2b(self.miner_id + nonce + self.subtask + digest).digest()
        cells = []
        first, second = seed[:WORD], seed[WORD:]
        for _ in range(PAD // 64):
            first = keccak256(first + second)
            second = keccak256(first + second)
            cells.append(first + second)
        return b"".join(cells), seed, keccak256(first + second)

    def load(self, recall_seed: bytes) -> int:
        """The load of the range that is recalled."""
        offset = int.from_bytes(recall_seed, "big") % (self.length // layout.SEGMENT_SECTORS)
        return (offset & self.shard_mask) | self.shard_id


def pora_hash(pad: bytes, seed: bytes, offset: int, sealed: bytes) -> bytes:
    """The hash of one try: piece ``offset`` of a load."""
    at = offset % (PAD // layout.SEAL) * layout.SEAL
    mixed = xor(sealed, pad[at : at + layout.SEAL])
    return hashlib.blake2b(word(offset) + seed + bytes(WORD) + mixed).digest()[:WORD]


def search(
    task: Task, sealed: bytes, target: bytes, nonce: bytes, iterations: int
) -> Iterator[tuple[int, bytes, int, int, bytes]]:
    """All hits (iteration, nonce, load, seal offset, hash); ``sealed`` holds the whole flow."""
    head = int.from_bytes(nonce[:8], "little")
    for iteration in range(iterations):
        tried = (head ^ iteration).to_bytes(8, "little") + nonce[8:]
        pad, seed, recall_seed = task.scratch_pad(tried)
        load = task.load(recall_seed)
        base = (task.start // layout.SEGMENT_SECTORS + load) * layout.SEGMENT
        for offset in range(layout.SEGMENT // layout.SEAL):
            if base == 0 and offset == 0:
                continue
            at = base + offset * layout.SEAL
            found = pora_hash(pad, seed, offset, sealed[at : at + layout.SEAL])
            if found <= target:
                yield iteration, tried, load, offset, found
