"""What a store tells: events and figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Appended:
    """Submissions joined the flow."""

    seqs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finalized:
    """All segments of a file that this node keeps are here."""

    seq: int


@dataclass(frozen=True, slots=True)
class Reverted:
    """Submissions from ``first_seq`` on left the flow."""

    first_seq: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """A stored segment turned out wrong; it counts as missing until it is put again."""

    seq: int
    index: int


StoreEvent = Appended | Finalized | Reverted | Damaged


@dataclass(frozen=True, slots=True)
class Place:
    """Where a segment is on disk.

    Attributes
    ----------
    sector : its first sector in the flow.
    file, offset, length : name of the data file; bytes.
    """

    seq: int
    segment: int
    root: bytes
    sector: int
    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What one step of a scrub did.

    Attributes
    ----------
    segments, bytes : checked in this step.
    damaged : (seq, segment) found wrong in this step.
    complete : the step reached the end of the flow; the next one starts from the beginning.
    """

    segments: int
    bytes: int
    damaged: tuple[tuple[int, int], ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class Statistics:
    """Figures of a store. ``last_scrub``: UNIX seconds of the end of the last complete scrub."""

    submissions: int
    length: int
    pending: int
    finalized: int
    pruned: int
    segments: int
    bytes: int
    damaged: int
    index_bytes: int
    last_scrub: float | None
    scrubbed: int
    """Segments checked by scrubs since the store was opened."""
    lost: bool
    """At open, the index lacked transactions that had been committed: a power cut, or damage of its log."""
