"""Loads: 256 KiB of the flow as the miner reads it, whichever files lie in there."""

from __future__ import annotations

from zerog.errors import DataDamaged
from zerog.storage import layout
from zerog.storage.layout import SEAL_SECTORS, SECTOR, SEGMENT, SEGMENT_HEIGHT, SEGMENT_SECTORS
from zerog.storage.store import shards
from zerog.storage.store.proofs import ReadSegment
from zerog.storage.store.tree import EMPTY, FlowTree
from zerog.storage.values import Submission


def _bits(first: int, end: int) -> int:
    return (1 << end) - (1 << first) if end > first else 0


class LoadReader:
    """Puts loads together from verified segments."""

    def __init__(self, tree: FlowTree, read: ReadSegment) -> None:
        self._tree = tree
        self._read = read

    def read(self, load: int, length: int) -> tuple[bytes, int] | None:
        """The bytes (zeros where nothing is known) and a mask of the pieces that are complete and known."""
        first = load * SEGMENT_SECTORS
        if load < 0 or first >= length:
            return None
        content = bytearray(SEGMENT)
        # Gaps are known to be zero; sector 0 has no data, and what is not submitted yet is not complete.
        known = _bits(1 if load == 0 else 0, min(SEGMENT_SECTORS, length - first))
        for submission in self._tree.load_submissions(load, length):
            start = max(submission.start - first, 0)
            end = min(submission.start + submission.sectors - first, SEGMENT_SECTORS)
            if not self._fill(submission, load, content, start):
                known &= ~_bits(start, end)
        pieces = 0
        for piece in range(SEGMENT_SECTORS // SEAL_SECTORS):
            span = _bits(piece * SEAL_SECTORS, (piece + 1) * SEAL_SECTORS)
            if known & span == span:
                pieces |= 1 << piece
        return bytes(content), pieces

    def _fill(self, submission: Submission, load: int, content: bytearray, start: int) -> bool:
        """Copies the segment of a file that lies in a load; false when it is not known."""
        index = load - shards.base(submission)
        if not shards.storable(submission):
            return False
        if index >= layout.segments(submission.size):
            length = submission.start + submission.sectors
            return self._tree.hash(SEGMENT_HEIGHT, load, length) == EMPTY[SEGMENT_HEIGHT]
        try:
            data = self._read(submission, index)
        except DataDamaged:
            data = None
        if data is None:
            return False
        content[start * SECTOR : start * SECTOR + len(data)] = data
        return True
