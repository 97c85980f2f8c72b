"""Segments on disk: read, checked against their roots, and marked when they are wrong."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from zerog import _native
from zerog.errors import CorruptDataDir, DataDamaged, StorageError
from zerog.storage import layout
from zerog.storage.layout import SECTOR, SEGMENT_SECTORS
from zerog.storage.store.index import PART, PENDING, REBUILD, Index
from zerog.storage.store.sectors import SectorFiles
from zerog.storage.store.tree import FlowTree
from zerog.storage.values import Submission

log = logging.getLogger(__name__)

_BROKEN = (errno.EIO, errno.ENODATA, getattr(errno, "EUCLEAN", errno.EIO))
"""A read that fails with these fails again: the bytes are gone. Others (too many open files) say nothing of them."""


class SegmentReader:
    """Verified bytes. The caller holds the gate."""

    def __init__(
        self, index: Index, tree: FlowTree, sectors: SectorFiles, damaged: Callable[[int, int, int], None]
    ) -> None:
        """``damaged`` is told the submission, the segment and its bytes once they count as missing."""
        self._index = index
        self._tree = tree
        self._sectors = sectors
        self._damaged = damaged

    def holds(self, seq: int, index: int) -> bool:
        """Whether a segment is here."""
        return bool(self._index.bits(seq, index // PART) >> (index % PART) & 1)

    def read(self, submission: Submission, index: int) -> bytes | None:
        """A segment; ``None`` when it is not here. Raises `DataDamaged`, and marks it, when it is wrong."""
        if not self.holds(submission.seq, index):
            return None
        data = self.sound(submission, index)
        if data is None:
            self._mark(submission, index)
        return data

    def sound(self, submission: Submission, index: int) -> bytes | None:
        """The bytes of a segment when they hash to its root."""
        size = layout.segment_chunks(submission.size, index) * SECTOR
        root = self._tree.segment_root(submission, index)
        what = f"segment {index} of submission {submission.seq}"
        if root is None:
            raise CorruptDataDir(f"the storage index lacks the root of {what}", hint=REBUILD)
        try:
            data = self._sectors.read(submission.start + index * SEGMENT_SECTORS, size)
        except OSError as error:
            if error.errno not in _BROKEN:
                raise StorageError(f"{what} cannot be read: {error}") from error
            log.warning("reading %s: %s", what, error)
            return None
        if len(data) != size:
            return None
        leaves = layout.padded_segment_chunks(submission.size, index)
        return data if _native.merkle_root(data, leaves) == root else None

    def _mark(self, submission: Submission, index: int) -> None:
        """Marks a segment as damaged, unless it was repaired in the meantime; raises `DataDamaged`."""
        seq, part, bit = submission.seq, index // PART, 1 << (index % PART)
        sector = submission.start + index * SEGMENT_SECTORS
        gone = layout.segment_chunks(submission.size, index) * SECTOR
        with self._index.write() as db:
            bits, file = self._index.bits(seq, part), self._index.file(seq)
            marked = file is not None and bool(bits & bit) and self.sound(submission, index) is None
            if file is not None and marked:
                _, held, size = file
                Index.set_bits(db, seq, part, bits & ~bit)
                Index.set_file(db, seq, PENDING, held - 1, size - gone)
                Index.add_damaged(db, seq, index)
        if marked:
            self._damaged(seq, index, gone)
        raise DataDamaged(
            f"segment {index} of submission {seq} (flow sector {sector}, {self._sectors.path(sector).name})"
            " does not hash to its root",
            hint="it counts as missing now and is fetched from a peer or by another upload",
        )
