"""What a miner works on and what it hands in, as pure values and rules (0G storage contracts, ``PoraMine``)."""

from __future__ import annotations

from dataclasses import dataclass

from zerog.storage.layout import SEAL_SECTORS, SEGMENT_SECTORS
from zerog.storage.values import FlowProof, ShardConfig

EMPTY_DIGEST = bytes.fromhex("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
"""Digest of a context in which nothing can be mined: keccak256 of nothing."""
MAX_RANGE = 1 << 35
"""Sectors of the longest range that one shard mines (8 TiB)."""
RANGE_ALIGNMENT = 1 << 25
"""A range starts on a multiple of this many sectors (8 GiB)."""
_MASK64 = (1 << 64) - 1
_PIECE_HEIGHT = 4


@dataclass(frozen=True, slots=True)
class Epoch:
    """A closed epoch: sectors from ``start`` to before ``end`` were added in it; ``digest`` (32 bytes) seals them."""

    start: int
    end: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What ``computeWorkerContext`` answers: the epoch to mine in, and this miner's part of it.

    ``mine_start`` is the block that ended the epoch before; ``target`` is the largest hash that wins before scaling.
    """

    epoch: int
    mine_start: int
    flow_root: bytes
    flow_length: int
    block_digest: bytes
    digest: bytes
    target: int
    subtask_digest: bytes
    max_shards: int

    @classmethod
    def decode(cls, data: bytes) -> WorkerContext:
        """From the nine words of the contract's answer; raises `ValueError`."""
        if len(data) != 9 * 32:
            raise ValueError(f"a worker context has 288 bytes, not {len(data)}")
        words = [data[at : at + 32] for at in range(0, len(data), 32)]
        number = [int.from_bytes(word) for word in words]
        return cls(
            epoch=number[0],
            mine_start=number[1],
            flow_root=words[2],
            flow_length=number[3],
            block_digest=words[4],
            digest=words[5],
            target=number[6],
            subtask_digest=words[7],
            max_shards=number[8],
        )


@dataclass(frozen=True, slots=True)
class RecallRange:
    """Part of the flow that a search draws from: sectors, and the shard as an id and a 64-bit mask."""

    start: int
    length: int
    shard_id: int
    shard_mask: int

    @classmethod
    def whole(cls, flow_length: int, shard: ShardConfig) -> RecallRange | None:
        """The longest range the contract takes for this shard; ``None`` while the flow has no full segment."""
        minable = flow_length // SEGMENT_SECTORS * SEGMENT_SECTORS
        if not minable:
            return None
        length = min(minable, MAX_RANGE * shard.shards)
        start = (minable - length) // RANGE_ALIGNMENT * RANGE_ALIGNMENT
        return cls(start, length, shard.id, ~(shard.shards - 1) & _MASK64)

    @property
    def shards(self) -> int:
        """How many shards share the range."""
        return 1 << (64 - self.shard_mask.bit_count())

    def holds(self, load: int) -> bool:
        """Whether a load (counted from the start of the range) lies wholly inside: the contract's own bound is lax."""
        return 0 <= load < self.length // SEGMENT_SECTORS


def scaled_target(target: int, flow_length: int, recall: RecallRange) -> int:
    """The largest hash that wins, as 256-bit number: a miner of few shards of a large flow tries less."""
    shard_length = min(flow_length // recall.shards, MAX_RANGE)
    if not shard_length:
        return 0
    scale = (min(flow_length, MAX_RANGE) << 64) // shard_length
    return (target // scale) << 64


@dataclass(frozen=True, slots=True)
class Answer:
    """A ``PoraAnswer``; hashes are 32 bytes, ``sealed`` 4,096, positions in sectors."""

    context_digest: bytes
    nonce: bytes
    miner_id: bytes
    recall: RecallRange
    position: int
    seal_offset: int
    sealed_context_digest: bytes
    sealed: bytes
    proof: tuple[bytes, ...]

    def encoded(self) -> bytes:
        """The ABI encoding of the struct, as argument of ``submit``."""
        head = [
            self.context_digest,
            self.nonce,
            self.miner_id,
            *(
                value.to_bytes(32)
                for value in (
                    self.recall.start,
                    self.recall.length,
                    self.recall.shard_id,
                    self.recall.shard_mask,
                    self.position,
                    self.seal_offset,
                )
            ),
            self.sealed_context_digest,
            self.sealed,
        ]
        fixed = b"".join(head)
        # One dynamic argument, a struct with one dynamic member behind its fixed ones.
        offset = (len(fixed) + 32).to_bytes(32)
        return (32).to_bytes(32) + fixed + offset + len(self.proof).to_bytes(32) + b"".join(self.proof)


def answer_proof(proof: FlowProof) -> tuple[bytes, ...]:
    """The siblings above a sealed piece: the contract recomputes those inside it."""
    return proof.lemma[1 + _PIECE_HEIGHT : -1]


def piece_position(load: int, seal_offset: int) -> int:
    """First sector of a piece of a load."""
    return load * SEGMENT_SECTORS + seal_offset * SEAL_SECTORS
