"""The nouns of storage, as immutable values."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from zerog.storage import layout


@dataclass(frozen=True, slots=True)
class SubmissionNode:
    """A perfect subtree of a file: ``root`` (32 bytes) over ``2**height`` chunks."""

    root: bytes
    height: int


@dataclass(frozen=True, slots=True)
class FileProof:
    """Merkle proof of a segment in its file.

    ``lemma`` is the segment root, the siblings from bottom to top, and the file root (the root alone when
    there is one leaf); ``path[i]`` is true when the node at that level is the left child.
    """

    lemma: tuple[bytes, ...]
    path: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class FlowProof:
    """Merkle proof of a sector or load in the flow: like `FileProof`, with two hashes for a single leaf."""

    lemma: tuple[bytes, ...]
    path: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment with its proof, as it travels: ``data`` is whole chunks, at most 262,144 bytes."""

    root: bytes
    index: int
    data: bytes | memoryview
    proof: FileProof
    file_size: int


@dataclass(frozen=True, slots=True)
class BlockMark:
    """A block up to which the flow was followed."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Submission:
    """One entry of the flow, from a ``Submit`` event.

    Attributes
    ----------
    seq : position among all submissions, from 0.
    root : root of the file (32 bytes), folded from ``nodes``.
    size : bytes of the file.
    start : first sector in the flow.
    nodes : the subtrees, largest first.
    tags : free bytes; KV stream ids.
    sender : 20 bytes: the account that sent the transaction (``tx.from``), never the event's sender.
    block, transaction : where it was recorded; hashes are 32 bytes.
    """

    seq: int
    root: bytes
    size: int
    start: int
    nodes: tuple[SubmissionNode, ...]
    tags: bytes
    sender: bytes
    block: BlockMark
    transaction: bytes

    @property
    def sectors(self) -> int:
        """Sectors in the flow, padding included."""
        return sum(1 << node.height for node in self.nodes)

    @property
    def segments(self) -> int:
        """Segments that carry data."""
        return layout.segments(self.size)


class FileState(enum.Enum):
    """What this node can say about a submission."""

    PENDING = "pending"
    """Known, but not all segments of this node's shard are here."""
    FINALIZED = "finalized"
    """Every segment of this node's shard is stored and checked."""
    PRUNED = "pruned"
    """The data was dropped on purpose."""


@dataclass(frozen=True, slots=True)
class ShardConfig:
    """Which flow segments a node keeps: those with ``segment % shards == id``; ``shards`` is a power of two."""

    id: int = 0
    shards: int = field(default=1)

    def __post_init__(self) -> None:
        if self.shards < 1 or self.shards & (self.shards - 1) or not 0 <= self.id < self.shards:
            raise ValueError(f"a shard is written id/count with a power of two as count, not {self}")

    @classmethod
    def parse(cls, text: str) -> ShardConfig:
        """From ``"0/4"``; raises `ValueError`."""
        head, slash, tail = text.partition("/")
        if not (slash and head.isdecimal() and tail.isdecimal() and len(text) <= 40):
            raise ValueError(f"a shard is written id/count, for example 0/4, not {text!r}")
        return cls(int(head), int(tail))

    def owns(self, flow_segment: int) -> bool:
        """Whether a node of this configuration keeps that segment of the flow."""
        return flow_segment % self.shards == self.id

    def overlaps(self, other: ShardConfig) -> bool:
        """Whether some segment belongs to both."""
        common = min(self.shards, other.shards)
        return self.id % common == other.id % common

    def __str__(self) -> str:
        return f"{self.id}/{self.shards}"
