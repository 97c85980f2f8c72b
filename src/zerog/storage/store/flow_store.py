"""`FlowStore`: submissions in, segments in, bytes and proofs out."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from zerog.errors import (
    CorruptDataDir,
    DataUnavailable,
    SegmentRefused,
    StorageError,
    StorageFull,
    UnknownFile,
)
from zerog.storage import layout
from zerog.storage.layout import SECTOR, SEGMENT_HEIGHT, SEGMENT_SECTORS
from zerog.storage.store import proofs, shards, upkeep
from zerog.storage.store.aside import Aside
from zerog.storage.store.checks import check_submission, lock_directory, verified
from zerog.storage.store.gate import Gate
from zerog.storage.store.index import FINALIZED, PART, PENDING, PRUNED, REBUILD, Index
from zerog.storage.store.loads import LoadReader
from zerog.storage.store.relink import Relinking
from zerog.storage.store.reports import (
    Appended,
    Damaged,
    Finalized,
    Place,
    Reverted,
    ScrubReport,
    Statistics,
    StoreEvent,
)
from zerog.storage.store.scrub import Scrub
from zerog.storage.store.sectors import FILE_SECTORS, SectorFiles
from zerog.storage.store.segments import SegmentReader
from zerog.storage.store.tree import FIRST_LEAF, FlowTree, Peaks, crossing
from zerog.storage.values import (
    BlockMark,
    FileProof,
    FileState,
    FlowProof,
    Segment,
    ShardConfig,
    Submission,
)

log = logging.getLogger(__name__)

_STATES = (FileState.PENDING, FileState.FINALIZED, FileState.PRUNED)


class FlowStore:
    """See the package. Thread-safe and blocking; made by `open`."""

    def __init__(self, path: Path, *, durable: bool, max_bytes: int | None, temporary: bool) -> None:
        self.path = path
        self.durable = durable
        self.max_bytes = max_bytes
        self.shard = ShardConfig()
        self._temporary = weakref.finalize(self, shutil.rmtree, path, True) if temporary else None
        self._listeners: list[Callable[[StoreEvent], None]] = []
        self._gate = Gate()
        self._chain = threading.Lock()
        """Held by append and revert: one at a time decides what the flow is."""
        self._lock = lock_directory(path)
        try:
            self._index = Index(path / "index.sqlite", durable=durable)
            self._sectors = SectorFiles(path / "flow")
            self._relinking = Relinking(self, self._index, Aside(path / "aside"))
            self._tree = FlowTree(self._index)
            self._segments = SegmentReader(self._index, self._tree, self._sectors, self._damage)
            self._loads = LoadReader(self._tree, self._segments.read)
            self._scrub = Scrub(self._index, self._tree, self._gate, self._check_segment)
            self._cached = functools.lru_cache(maxsize=128)(self._load_submission)
            self._recover()
        except BaseException:
            self._close_files()
            raise

    @classmethod
    def open(
        cls,
        path: Path | None,
        shard: ShardConfig,
        *,
        durable: bool = False,
        max_bytes: int | None = None,
    ) -> FlowStore:
        """Opens or creates a store and finishes what a crash left half-done.

        Parameters
        ----------
        path : its directory; ``None`` for a temporary one that `close` removes.
        shard : what this node keeps; another one than before re-shards.
        durable : wait for the disk before a segment or a submission counts as stored. Without it ``kill -9``
            loses nothing either, but a power cut may cost the last seconds (found by the checks on read).
        max_bytes : most bytes of segments, or ``None`` for what the disk holds.

        Raises
        ------
        DataDirLocked, ForeignDataDir, CorruptDataDir, StorageFull
        """
        temporary = path is None
        path = Path(tempfile.mkdtemp(prefix="zerog-storage-")) if path is None else path
        store = cls(path, durable=durable, max_bytes=max_bytes, temporary=temporary)
        try:
            stored = store._index.meta("shard")
            if stored is None:
                with store._index.write() as db:
                    Index.set_meta(db, "shard", str(shard).encode())
            else:
                store.shard = ShardConfig.parse(stored.decode())
            store.set_shard(shard)
            store._relinking.start()
        except BaseException:
            store.close()
            raise
        return store

    def _recover(self) -> None:
        rows = self._index.rows("SELECT max(seq), count(*) FROM submission")
        last, count = rows[0]
        files = self._index.rows("SELECT count(*) FROM file")[0][0]
        if count != (0 if last is None else last + 1) or files != count:
            raise CorruptDataDir("the storage index lacks submissions", hint=REBUILD)
        self._next = int(count)
        self._peaks = Peaks()
        if count:
            submission, root = self._index.submissions("WHERE seq = ?", last)[0]
            self._peaks = self._tree.peaks(submission.start + submission.sectors)
            if self._peaks.root() != root:
                raise CorruptDataDir(
                    "the flow root in the storage index is not that of its tree", hint=REBUILD
                )
        self._root = self._peaks.root()
        self._bytes = self._index.rows("SELECT coalesce(sum(bytes), 0) FROM file")[0][0]
        upkeep.give_back(self._index, self._sectors)

    # The flow ---------------------------------------------------------------------------------------------

    def next_seq(self) -> int:
        """Sequence number that the next submission must have."""
        return self._next

    def length(self) -> int:
        """Sectors of the flow."""
        return self._peaks.length

    def root(self) -> bytes:
        """Root of the flow."""
        return self._root

    def progress(self) -> BlockMark | None:
        """The block up to which the flow was followed."""
        raw = self._index.meta("progress")
        return None if raw is None else BlockMark(int.from_bytes(raw[:8], "big"), raw[8:])

    def append(self, submissions: Sequence[Submission], progress: BlockMark) -> None:
        """First phase: adds submissions and moves the progress mark, all or nothing.

        Raises `StorageError` for a gap, a wrong start or a submission that contradicts itself.
        """
        with self._chain:
            peaks, rows = self._peaks.copy(), []
            for seq, submission in enumerate(submissions, self._next):
                if submission.seq != seq:
                    raise StorageError(f"submission {submission.seq} came where {seq} was due")
                check_submission(submission)
                start, closed = peaks.append(submission.nodes)
                if start != submission.start:
                    raise StorageError(f"submission {seq} starts at {submission.start}, its place is {start}")
                rows.append((submission, peaks.root(), closed))
            empty = []
            with self._gate.shared():
                with self._index.write() as db:
                    for submission, root, closed in rows:
                        Index.add_submission(db, submission, root)
                        Index.add_tree(db, closed)
                        nothing = shards.storable(submission) and not shards.own_count(submission, self.shard)
                        Index.set_file(db, submission.seq, FINALIZED if nothing else PENDING, 0, 0)
                        if nothing:
                            empty.append(submission.seq)
                    Index.set_meta(db, "progress", progress.number.to_bytes(8, "big") + progress.hash)
                self._peaks, self._root, self._next = peaks, peaks.root(), self._next + len(rows)
        if rows:
            self._tell(Appended(tuple(submission.seq for submission, _, _ in rows)))
        for seq in empty:
            self._tell(Finalized(seq))
        self._relinking.fill(submission for submission, _, _ in rows)

    def revert(self, first_seq: int, progress: BlockMark | None) -> list[Submission]:
        """Takes submissions from ``first_seq`` on out of the flow; returns them.

        What was received of them is kept aside (up to 100 MiB) for the case that their roots come again.
        """
        with self._chain, self._gate.alone():
            gone = [s for s, _ in self._index.submissions("WHERE seq >= ? ORDER BY seq", first_seq)]
            last = self.submission(first_seq - 1) if first_seq > 0 else None
            if first_seq < 0 or (first_seq > 0 and last is None):
                raise StorageError(f"there is no submission {first_seq - 1} to go back to")
            for submission in gone:
                self._relinking.keep(submission)
            length = last.start + last.sectors if last else 1
            peaks = self._tree.peaks(length) if last else Peaks()
            with self._index.write() as db:
                for table in ("submission", "file", "held", "damaged"):
                    db.execute(f"DELETE FROM {table} WHERE seq >= ?", (first_seq,))
                load = length // SEGMENT_SECTORS
                db.execute("DELETE FROM tree WHERE id >= ?", (2 * load,))
                db.executemany("DELETE FROM tree WHERE id = ?", [(n,) for n in crossing(load)])
                mark = None if progress is None else progress.number.to_bytes(8, "big") + progress.hash
                Index.set_meta(db, "progress", mark)
            self._cached.cache_clear()
            self._scrub.restart()
            self._peaks, self._root, self._next = peaks, peaks.root(), first_seq if gone else self._next
            self._bytes = self._index.rows("SELECT coalesce(sum(bytes), 0) FROM file")[0][0]
        if gone:
            self._tell(Reverted(first_seq))
        return gone

    def root_at(self, seq: int) -> bytes | None:
        """Root of the flow after a submission."""
        rows = self._index.submissions("WHERE seq = ?", seq)
        return rows[0][1] if rows else None

    def length_at(self, seq: int) -> int | None:
        """Length of the flow after a submission."""
        submission = self.submission(seq)
        return None if submission is None else submission.start + submission.sectors

    def flow_root_seq(self, root: bytes) -> int | None:
        """The last submission after which the flow had this root."""
        rows = self._index.rows("SELECT max(seq) FROM submission WHERE flow_root = ?", root)
        return None if rows[0][0] is None else int(rows[0][0])

    # Files ------------------------------------------------------------------------------------------------

    def _load_submission(self, seq: int) -> Submission | None:
        rows = self._index.submissions("WHERE seq = ?", seq)
        return rows[0][0] if rows else None

    def submission(self, seq: int) -> Submission | None:
        """A submission."""
        if 0 <= seq < self._next:
            return self._cached(seq)
        # One that `append` has just committed is there for `find`, so it is here, too.
        return self._load_submission(seq) if 0 <= seq < 1 << 63 else None

    def submissions(self, first: int, limit: int) -> list[Submission]:
        """Up to ``limit`` submissions from ``first`` on."""
        return [s for s, _ in self._index.submissions("WHERE seq >= ? ORDER BY seq LIMIT ?", first, limit)]

    def _known(self, seq: int) -> Submission:
        submission = self.submission(seq)
        if submission is None and 0 <= seq < self._next:
            raise CorruptDataDir(f"the storage index lacks submission {seq}", hint=REBUILD)
        if submission is None:
            raise UnknownFile(f"no submission has number {seq}")
        return submission

    def _file(self, seq: int) -> tuple[int, int, int]:
        file = self._index.file(seq)
        if file is None and 0 <= seq < self._next:
            raise CorruptDataDir(f"the storage index lacks the state of submission {seq}", hint=REBUILD)
        if file is None:
            raise UnknownFile(f"no submission has number {seq}")
        return file

    def seqs_of(self, root: bytes) -> list[int]:
        """Submissions of a root, in order."""
        return [
            seq for (seq,) in self._index.rows("SELECT seq FROM submission WHERE root = ? ORDER BY seq", root)
        ]

    def find(self, root: bytes, need_available: bool) -> int | None:
        """The submission that answers for a root: the first finalized one, else the first that is not pruned when
        ``need_available``, else the first."""
        seqs = self.seqs_of(root)
        states = [self.state(seq) for seq in seqs]
        for seq, state in zip(seqs, states, strict=True):
            if state is FileState.FINALIZED:
                return seq
        for seq, state in zip(seqs, states, strict=True):
            if not need_available or state is not FileState.PRUNED:
                return seq
        return None

    def state(self, seq: int) -> FileState:
        """State of a submission's data; raises `UnknownFile`."""
        return _STATES[self._file(seq)[0]]

    def uploaded_count(self, seq: int) -> int:
        """Segments that are here."""
        return self._file(seq)[1]

    def holds(self, seq: int, index: int) -> bool:
        """Whether a segment is here."""
        return self._segments.holds(seq, index)

    def held(self, seq: int) -> list[tuple[int, int]]:
        """Ranges of segments that are here; ends exclusive."""
        self._known(seq)
        return shards.joined(
            [r for part, bits in self._index.parts(seq) for r in shards.ranges(bits, part * PART)]
        )

    def missing(self, seq: int) -> list[tuple[int, int]]:
        """Ranges of segments of this node's shard that are not here; nothing for a pruned file."""
        submission = self._known(seq)
        if self._file(seq)[0] == PRUNED or not shards.storable(submission):
            return []
        here = dict(self._index.parts(seq))
        found = []
        for part in range(-(-submission.segments // PART)):
            bits = shards.own_bits(submission, self.shard, part) & ~here.get(part, 0)
            found += shards.ranges(bits, part * PART)
        return shards.joined(found)

    # Data in ----------------------------------------------------------------------------------------------

    def put_segment(self, seq: int, segment: Segment) -> bool:
        """Second phase: checks, writes and indexes a segment; true when the file is final now.

        A segment that is here already is accepted as it is. Raises `UnknownFile`, `SegmentRefused`, `StorageFull`.
        """
        return self.put_segments(seq, [segment])

    def put_segments(self, seq: int, segments: Sequence[Segment]) -> bool:
        """Like `put_segment`, in one transaction. Those before a refused one are stored, then the refusal raised."""
        with self._gate.shared():
            submission = self._known(seq)
            written: list[tuple[int, list[tuple[int, bytes]]]] = []
            refusal: Exception | None = None
            batch = 0
            for segment in segments:
                try:
                    hashes = self._write(submission, segment, batch)
                except (SegmentRefused, StorageFull) as error:
                    refusal = error
                    break
                if hashes is not None:
                    written.append((segment.index, hashes))
                    batch += len(segment.data)
            became_final = bool(written) and self._enter(submission, written)
            final = became_final or self._file(seq)[0] == FINALIZED
        if became_final:
            self._tell(Finalized(seq))
            self._relinking.fill_twins(submission)
        if refusal is not None:
            raise refusal
        return final

    def _write(self, submission: Submission, segment: Segment, batch: int) -> list[tuple[int, bytes]] | None:
        """Checks a segment and writes its bytes; the hashes it taught, or ``None`` when it is here already."""
        if segment.root != submission.root:
            raise SegmentRefused("root", "data root and tx seq not match")
        if segment.file_size != submission.size:
            raise SegmentRefused("file_size", "segment file size not matched with tx file size")
        if not shards.storable(submission):
            raise SegmentRefused("file_size", f"files above {layout.MAX_FILE_SIZE} bytes are not kept")
        if not 0 <= segment.index < submission.segments:
            raise SegmentRefused("index", "index out of bound")
        state, _, _ = self._file(submission.seq)
        if state == PRUNED:
            raise SegmentRefused("root", "already pruned")
        if self.holds(submission.seq, segment.index):
            return None
        if not self.shard.owns(shards.base(submission) + segment.index):
            raise SegmentRefused("index", f"segment {segment.index} does not belong to shard {self.shard}")
        # Segments that other threads write right now may exceed the limit; each is counted from its commit on.
        if self.max_bytes is not None and self._bytes + batch + len(segment.data) > self.max_bytes:
            raise StorageFull(
                f"the store is limited to {self.max_bytes} bytes", hint="raise the limit or prune"
            )
        root = verified(segment)
        self._sectors.write(submission.start + segment.index * SEGMENT_SECTORS, segment.data)
        return proofs.learnt(submission, segment, root)

    def _enter(self, submission: Submission, written: list[tuple[int, list[tuple[int, bytes]]]]) -> bool:
        """Indexes segments whose bytes are written; true when the file became final by it."""
        if self.durable:
            self._sectors.sync()
        seq = submission.seq
        # The index's lock makes this a read-modify-write; nothing else writes while it is held.
        with self._index.write() as db:
            state, held, size = self._file(seq)
            parts: dict[int, int] = {}
            added = 0
            for index, hashes in written:
                part, bit = index // PART, 1 << (index % PART)
                bits = parts[part] if part in parts else self._index.bits(seq, part)
                if not bits & bit:
                    held += 1
                    added += layout.segment_chunks(submission.size, index) * SECTOR
                parts[part] = bits | bit
                Index.add_tree(db, hashes)
                db.execute("DELETE FROM damaged WHERE seq = ? AND segment = ?", (seq, index))
            for part, bits in parts.items():
                Index.set_bits(db, seq, part, bits)
            final = held == shards.own_count(submission, self.shard)
            Index.set_file(db, seq, FINALIZED if final else PENDING, held, size + added)
            self._bytes += added
        return final and state != FINALIZED

    # Data out ---------------------------------------------------------------------------------------------

    def read_segment(self, seq: int, index: int) -> bytes | None:
        """A segment as it travels (whole chunks), checked against its root; ``None`` when it is not here.

        Raises `DataDamaged` when the bytes are wrong; the segment counts as missing from then on.
        """
        with self._gate.shared():
            submission = self._known(seq)
            if not shards.storable(submission) or not 0 <= index < submission.segments:
                return None
            return self._segments.read(submission, index)

    def _damage(self, seq: int, index: int, size: int) -> None:
        with self._index.still():
            self._bytes -= size
        self._tell(Damaged(seq, index))

    def read_chunks(self, seq: int, start: int, end: int) -> bytes | None:
        """Chunks ``[start, end)`` of a file, checked; ``None`` when some of them are not here."""
        with self._gate.shared():
            submission = self._known(seq)
            if not shards.storable(submission) or not 0 <= start < end <= layout.chunks(submission.size):
                raise SegmentRefused("end_index", "invalid chunk index")
            pieces = []
            for index in range(start // SEGMENT_SECTORS, (end - 1) // SEGMENT_SECTORS + 1):
                data = self._segments.read(submission, index)
                if data is None:
                    return None
                first = index * SEGMENT_SECTORS
                pieces.append(data[max(0, start - first) * SECTOR : (end - first) * SECTOR])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def segment_proof(self, seq: int, index: int) -> FileProof | None:
        """Proof of a segment in its file; ``None`` when the segment is not here."""
        with self._gate.shared():
            submission = self._known(seq)
            return proofs.segment_proof(self._tree, submission, index) if self.holds(seq, index) else None

    def read_load(self, load: int) -> tuple[bytes, int] | None:
        """256 KiB of the flow, and a mask of the 64 pieces of 4 KiB that are complete and known; ``None`` beyond
        the flow."""
        with self._gate.shared():
            return self._loads.read(load, self._peaks.length)

    def load_root(self, load: int) -> bytes | None:
        """Root of a load of the flow as it is now, when it is known."""
        with self._gate.shared():
            length = self._peaks.length
            return self._tree.hash(SEGMENT_HEIGHT, load, length) if load * SEGMENT_SECTORS < length else None

    def sector_proof(self, sector: int, flow_root: bytes | None) -> FlowProof:
        """Proof of a sector in the current flow, or in an earlier one named by its root.

        Raises `DataUnavailable` when the sector's data is not here, or the root was never the flow's.
        """
        with self._gate.shared():
            length, root = self._peaks.length, self._root
            if flow_root is not None and flow_root != root:
                seq = self.flow_root_seq(flow_root)
                at = self.length_at(seq) if seq is not None else 1 if flow_root == FIRST_LEAF else None
                if at is None:
                    raise DataUnavailable(f"0x{flow_root.hex()} was never the root of this flow")
                length, root = at, flow_root
            return proofs.sector_proof(self._tree, self._segments.read, sector, length, root)

    # Same root again --------------------------------------------------------------------------------------

    def settle(self, timeout: float) -> bool:
        """Waits until every submission has what was here of its root; false after ``timeout`` seconds."""
        return self._relinking.settle(timeout)

    def segment(self, seq: int, index: int) -> Segment | None:
        """A segment with its proof, as it is sent to others; ``None`` when it is not here.

        Raises `DataDamaged` like `read_segment`.
        """
        with self._gate.shared():
            submission = self._known(seq)
            data = self._segments.read(submission, index)
            if data is None:
                return None
            proof = proofs.segment_proof(self._tree, submission, index)
        return Segment(submission.root, index, data, proof, submission.size)

    def travelling(self, submission: Submission, index: int) -> Segment | None:
        """Like `segment`, for those who are alone; ``None`` for damage, too."""
        data = self._segments.sound(submission, index)
        if data is None:
            return None
        proof = proofs.segment_proof(self._tree, submission, index)
        return Segment(submission.root, index, data, proof, submission.size)

    def unchanged(self) -> AbstractContextManager[None]:
        """Nothing is reverted, pruned or re-sharded meanwhile."""
        return self._gate.shared()

    # Upkeep -----------------------------------------------------------------------------------------------

    def prune(self, seq: int) -> None:
        """Drops the data of a submission for good."""
        with self._gate.alone():
            submission = self._known(seq)
            _, _, size = self._file(seq)
            with self._index.write() as db:
                upkeep.prune_file(db, self._index, submission)
            self._bytes -= size
            upkeep.give_back(self._index, self._sectors)

    def set_shard(self, shard: ShardConfig) -> None:
        """Keeps another shard from now on: drops what does not belong to it; `missing` lists what it lacks."""
        final: list[int] = []
        with self._gate.alone():
            if shard == self.shard:
                return
            with self._index.write() as db:
                seq = 0
                while batch := self.submissions(seq, 256):
                    for submission in batch:
                        if not shards.storable(submission):
                            continue
                        file = self._file(submission.seq)
                        if upkeep.reshard_file(db, self._index, submission, file, shard):
                            final.append(submission.seq)
                    seq = batch[-1].seq + 1
                Index.set_meta(db, "shard", str(shard).encode())
            self.shard = shard
            self._bytes = self._index.rows("SELECT coalesce(sum(bytes), 0) FROM file")[0][0]
            upkeep.give_back(self._index, self._sectors)
        for seq in final:
            self._tell(Finalized(seq))
        # What a file lacks now, another one of its root may hold.
        self._relinking.start()

    def damaged(self) -> list[tuple[int, int]]:
        """(seq, segment) whose bytes were found wrong and not replaced yet."""
        return self._index.damaged()

    def damage(self, limit: int) -> list[Place]:
        """Where on disk the first ``limit`` of `damaged` are."""
        places = (self.place(seq, index) for seq, index in self.damaged()[:limit])
        return [place for place in places if place is not None]

    def place(self, seq: int, index: int) -> Place | None:
        """Where on disk a segment is; ``None`` for a submission that does not exist (any more)."""
        submission = self.submission(seq)
        if submission is None or not 0 <= index < submission.segments:
            return None
        sector = submission.start + index * SEGMENT_SECTORS
        length = layout.segment_chunks(submission.size, index) * SECTOR
        offset = sector % FILE_SECTORS * SECTOR
        return Place(seq, index, submission.root, sector, self._sectors.path(sector).name, offset, length)

    @property
    def last_scrub(self) -> float | None:
        """UNIX seconds of the end of the last complete scrub."""
        return self._scrub.finished

    @property
    def scrubbed(self) -> int:
        """Segments checked by scrubs since the store was opened."""
        return self._scrub.checked

    def scrub(self, *, limit: int = 64, stop: Callable[[], bool] | None = None) -> ScrubReport:
        """One step of checking everything: about ``limit`` segments from where the last step ended.

        ``stop`` is asked between segments and ends the step early. Raises `CorruptDataDir` for a damaged index.
        """
        return self._scrub.step(limit, stop or (lambda: False))

    def _check_segment(self, seq: int, index: int) -> int:
        """Bytes of a segment that was checked with its proof and is sound; 0 when it is not here.

        Raises `DataDamaged`.
        """
        with self._gate.shared():
            submission = self.submission(seq)
            data = None if submission is None else self._segments.read(submission, index)
            if submission is None or data is None:
                return 0
            proofs.segment_proof(self._tree, submission, index)
        return len(data)

    def statistics(self) -> Statistics:
        """Figures."""
        counts = dict.fromkeys((PENDING, FINALIZED, PRUNED), 0)
        segments = 0
        for state, files, held in self._index.rows(
            "SELECT state, count(*), sum(held) FROM file GROUP BY state"
        ):
            counts[state] = files
            segments += held
        return Statistics(
            submissions=self._next,
            length=self._peaks.length,
            pending=counts[PENDING],
            finalized=counts[FINALIZED],
            pruned=counts[PRUNED],
            segments=segments,
            bytes=self._bytes,
            damaged=len(self.damaged()),
            index_bytes=sum(p.stat().st_size for p in self.path.glob("index.sqlite*")),
            last_scrub=self._scrub.finished,
            scrubbed=self._scrub.checked,
            lost=self._index.lost,
        )

    def listen(self, listener: Callable[[StoreEvent], None]) -> None:
        """Calls ``listener`` after every change, on the thread that made it; it must not block."""
        self._listeners.append(listener)

    def _tell(self, event: StoreEvent) -> None:
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a listener of the store failed")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for calls under way, then closes; a temporary directory is removed."""
        self._relinking.stop()
        with self._gate.alone():
            self._close_files()
        if self._temporary is not None:
            self._temporary()

    def _close_files(self) -> None:
        for part in ("_sectors", "_index"):
            if hasattr(self, part):
                getattr(self, part).close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
