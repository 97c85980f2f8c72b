"""The scrub: everything that is stored is read again and checked, a bounded step at a time.

Per submission: the seals of its rows; its place and the flow root after it, recomputed from nodes alone; the
hashes of the flow tree; counts and state; every segment with its proof. At the end of a round SQLite checks the
structure of the index. Damaged segments are marked (and so fetched again); a damaged index cannot be repaired
in place and is raised.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from zerog.errors import CorruptDataDir, DataDamaged
from zerog.storage import layout
from zerog.storage.layout import SEGMENT_SECTORS
from zerog.storage.store import shards
from zerog.storage.store.gate import Gate
from zerog.storage.store.index import FINALIZED, PART, PRUNED, REBUILD, Index, checked
from zerog.storage.store.reports import ScrubReport
from zerog.storage.store.tree import FlowTree, Peaks
from zerog.storage.values import ShardConfig, Submission


class Scrub:
    """Where the scrub stands. One step runs at a time."""

    def __init__(
        self, index: Index, tree: FlowTree, gate: Gate, check_segment: Callable[[int, int], int]
    ) -> None:
        self._index = index
        self._tree = tree
        self._gate = gate
        self._check_segment = check_segment
        self._lock = threading.Lock()
        raw = index.meta("scrub") or bytes(24)
        self._seq, self._segment = int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:16], "big")
        ended = int.from_bytes(raw[16:24], "big")
        self.finished: float | None = ended / 1000 if ended else None
        self.checked = 0
        self._peaks: Peaks | None = None
        self._generation = 0

    def restart(self) -> None:
        """The flow was reverted: what is remembered of it may be wrong."""
        self._generation += 1

    def step(self, limit: int, stop: Callable[[], bool]) -> ScrubReport:
        """Checks about ``limit`` segments (a submission without segments counts as one)."""
        with self._lock:
            self._index.forget_pages()
            segments = size = work = 0
            damaged: list[tuple[int, int]] = []
            complete = False
            while work < limit and not stop():
                if self._segment == 0 and not self._check_submission():
                    self._check_structure()
                    complete = True
                    self._seq, self._peaks, self.finished = 0, None, time.time()
                    break
                work += 1
                index = self._next_segment()
                if index is None:
                    self._seq, self._segment = self._seq + 1, 0
                    continue
                self._segment = index + 1
                segments += 1
                try:
                    size += self._check_segment(self._seq, index)
                except DataDamaged:
                    damaged.append((self._seq, index))
            self.checked += segments
            self._remember()
        return ScrubReport(segments, size, tuple(damaged), complete)

    def _remember(self) -> None:
        ended = 0 if self.finished is None else int(self.finished * 1000)
        raw = b"".join(value.to_bytes(8, "big") for value in (self._seq, self._segment, ended))
        with self._index.write() as db:
            Index.set_meta(db, "scrub", raw)

    def _next_segment(self) -> int | None:
        """The next segment of the current submission that is here."""
        part = self._segment // PART
        for at, bits in self._index.parts(self._seq):
            if at < part:
                continue
            if at == part:
                bits &= -1 << (self._segment % PART)
            if bits:
                return at * PART + (bits & -bits).bit_length() - 1
        return None

    def _check_submission(self) -> bool:
        """Checks the rows of the current submission; false when there is none."""
        with self._gate.shared(), self._index.still():
            found = self._index.submissions("WHERE seq = ?", self._seq)
            if not found:
                return False
            submission, root = found[0]
            self._check_place(submission, root)
            self._check_tree(submission)
            self._check_file(submission)
            return True

    def _check_place(self, submission: Submission, root: bytes) -> None:
        length = 1
        if submission.seq:
            before, _ = self._index.submissions("WHERE seq = ?", submission.seq - 1)[0]
            length = before.start + before.sectors
        peaks = self._peaks
        if peaks is None or peaks.length != length or self._generation:
            peaks, self._generation = (self._tree.peaks(length) if submission.seq else Peaks()), 0
        start, closed = peaks.append(submission.nodes)
        self._peaks = peaks
        wrong = start != submission.start or peaks.root() != root
        if wrong or any(self._index.tree_hash(number) != value for number, value in closed):
            raise CorruptDataDir(
                f"the storage index contradicts itself at submission {submission.seq}", hint=REBUILD
            )

    def _check_tree(self, submission: Submission) -> None:
        first = 2 * (submission.start // SEGMENT_SECTORS)
        end = 2 * ((submission.start + submission.sectors) // SEGMENT_SECTORS)
        while rows := self._index.rows(
            "SELECT id, hash, seal FROM tree WHERE id >= ? AND id < ? ORDER BY id LIMIT 1024", first, end
        ):
            for row in rows:
                checked("tree", row)
            first = rows[-1][0] + 1

    def _check_file(self, submission: Submission) -> None:
        file = self._index.file(submission.seq)
        held = size = 0
        for part, bits in self._index.parts(submission.seq) if shards.storable(submission) else ():
            held += bits.bit_count()
            size += shards.bytes_of(submission, bits, part)
            if bits >> max(0, min(PART, layout.segments(submission.size) - part * PART)):
                held = -1
        shard = ShardConfig.parse((self._index.meta("shard") or b"").decode())
        final = shards.storable(submission) and held == shards.own_count(submission, shard)
        fits = (
            file is not None
            and file[1:] == (held, size)
            and (file[0] == PRUNED or (file[0] == FINALIZED) == final)
        )
        if not fits:
            raise CorruptDataDir(
                f"the storage index miscounts the segments of submission {submission.seq}", hint=REBUILD
            )

    def _check_structure(self) -> None:
        found = [text.decode(errors="replace") for (text,) in self._index.rows("PRAGMA integrity_check(3)")]
        if found != ["ok"]:
            raise CorruptDataDir(f"the storage index is damaged: {'; '.join(found)}", hint=REBUILD)
        self._index.damaged()
        self._index.holes(1000)
