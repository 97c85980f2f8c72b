"""Downloads: every segment is proven against the root before it is written, from several nodes at once.

A download goes into ``.NAME.ROOT.part`` beside its target, with the roots of the segments that are there in
``….roots``; another attempt hashes those segments again and fetches the rest. The file takes its name only when
the roots of all segments fold to the root of the file.

A node that sends wrong bytes, a wrong proof or too much is named, never asked again for this file, and the
others take over; one that is slow or leaves segments out loses them to the others.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from zerog.errors import DataUnavailable, SegmentRefused, StorageError, TransportError
from zerog.storage import frame, layout
from zerog.storage.page_cache import WriteBehind
from zerog.storage.transfer.nodes import BATCH, NodeFile, NodeRefused, StorageNode, patiently
from zerog.storage.transfer.source import Counter, Progress
from zerog.storage.values import Segment, ShardConfig

CONNECTIONS = 2
"""Connections to each node."""
STALL = 10.0
"""Seconds after which a request that blocks the end of a download is given to another node, too."""
_SPAN = frame.MAX_SEGMENTS
_MISSING = bytes(32)
_BUFFER = BATCH * (layout.SEGMENT + 66 * 33 + 16) + 64


@dataclass(frozen=True, slots=True)
class Holder:
    """A node that has the file, under its own number of it."""

    node: StorageNode
    file: NodeFile
    shard: ShardConfig

    def owns(self, index: int) -> bool:
        """Whether its shard has segment ``index`` of the file."""
        return self.shard.owns(self.file.start // layout.SEGMENT_SECTORS + index)


class Target(Protocol):
    """Where verified segments go."""

    def write(self, offset: int, data: memoryview) -> None: ...

    def read(self, offset: int, size: int) -> memoryview: ...


class MemoryTarget:
    """A file in memory."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)

    def write(self, offset: int, data: memoryview) -> None:
        self.data[offset : offset + len(data)] = data

    def read(self, offset: int, size: int) -> memoryview:
        return memoryview(self.data)[offset : offset + size]


class NoTarget:
    """Nowhere: the segments are only checked."""

    def write(self, offset: int, data: memoryview) -> None:
        return None

    def read(self, offset: int, size: int) -> memoryview:
        return memoryview(b"")


class DiskTarget:
    """A part file."""

    def __init__(self, path: Path, size: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        if os.fstat(self._fd).st_size != size:
            os.ftruncate(self._fd, size)
        self._behind = WriteBehind(self._fd)

    def write(self, offset: int, data: memoryview) -> None:
        while len(data):
            written = os.pwrite(self._fd, data, offset)
            self._behind.wrote(offset, written)
            offset, data = offset + written, data[written:]

    def read(self, offset: int, size: int) -> memoryview:
        return memoryview(os.pread(self._fd, size, offset))

    def close(self) -> None:
        os.close(self._fd)


class RootsFile:
    """Which segments a part file holds: their roots, 32 bytes each, zeros for a missing one."""

    def __init__(self, path: Path, count: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        if os.fstat(self._fd).st_size != 32 * count:
            os.ftruncate(self._fd, 0)
            os.ftruncate(self._fd, 32 * count)

    def load(self, first: int, count: int) -> bytes:
        return os.pread(self._fd, 32 * count, 32 * first)

    def store(self, index: int, root: bytes) -> None:
        os.pwrite(self._fd, root, 32 * index)

    def close(self) -> None:
        os.close(self._fd)


class Download:
    """One file (or one fragment) on its way into a target."""

    def __init__(
        self,
        root: bytes,
        size: int,
        holders: Sequence[Holder],
        target: Target,
        *,
        base: int = 0,
        record: Callable[[int, bytes], None] | None = None,
        counter: Counter | None = None,
    ) -> None:
        """``base`` is where the file begins in ``target``; ``record`` is told the root of each new segment."""
        self.root, self.size = root, size
        self._target, self._base = target, base
        self._record, self._counter = record, counter or Counter(None)
        self._holders = sorted(holders, key=lambda holder: holder.node.faults)
        self._count = layout.segments(size)
        self._roots = bytearray(32 * layout.padded_segments(size))
        self._done = bytearray(self._count)
        self._left = self._count
        self._claims: dict[int, tuple[float, int]] = {}
        self._lowest = 0
        self._refused: dict[int, set[int]] = {}
        self._gone: set[int] = set()
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self.faults: list[str] = []

    # Resuming.

    def resume(self, roots: bytes) -> int:
        """Takes over segments that are in the target already; each is hashed again. The number taken."""
        from zerog._native import merkle_root

        taken = 0
        for index in range(self._count):
            root = roots[32 * index : 32 * index + 32]
            if root in (_MISSING, b""):
                continue
            length = self._length(index)
            data = self._target.read(self._base + index * layout.SEGMENT, length)
            leaves = layout.padded_segment_chunks(self.size, index)
            if len(data) == length and merkle_root(data, leaves) == root:
                self._finish(index, root)
                taken += 1
        return taken

    # Running.

    def run_first(self) -> None:
        """Fetches segment 0 alone, from the first node that can prove it; raises `DataUnavailable`."""
        buffer = memoryview(bytearray(_BUFFER))
        for number, holder in enumerate(self._holders):
            if holder.owns(0):
                self._fetch(number, holder, [0], buffer)
            if self._done[0]:
                return
        raise DataUnavailable(f"no node gave the beginning of 0x{self.root.hex()}: {'; '.join(self.faults)}")

    def run(self, cancelled: threading.Event | None = None) -> None:
        """Fetches what is missing; raises `DataUnavailable` with what every node did wrong."""
        if self._left:
            self._run_threads(cancelled)
        self._check_whole()

    def _run_threads(self, cancelled: threading.Event | None) -> None:
        workers = [
            threading.Thread(target=self._work, args=(number,), daemon=True, name=f"download-{number}")
            for number in range(len(self._holders))
            for _ in range(min(CONNECTIONS, self._count))
        ]
        for worker in workers:
            worker.start()
        try:
            while any(worker.is_alive() for worker in workers):
                with self._changed:
                    self._changed.wait(0.2)
                    if cancelled is not None and cancelled.is_set():
                        raise KeyboardInterrupt
                    if not self._left or self._failure is not None:
                        break
        except BaseException as error:
            self._stop(error)
            raise
        finally:
            patience = 1.0 if not self._left and self._failure is None else 0.0
            for worker in workers:
                worker.join(patience)
            if any(worker.is_alive() for worker in workers):
                self._stop(None)
            for worker in workers:
                worker.join(5.0)
        if self._failure is not None:
            raise self._failure
        if self._left:
            reasons = "; ".join(self.faults[-5:]) or "no node holds them"
            raise DataUnavailable(
                f"{self._left} of {self._count} segments of 0x{self.root.hex()} could not be had: {reasons}"
            )

    def _stop(self, error: BaseException | None) -> None:
        """Ends the workers: those that wait by the flag, those that read by closing their connections."""
        with self._changed:
            if error is not None and self._failure is None:
                self._failure = error
            self._gone.update(range(len(self._holders)))
            self._changed.notify_all()
        for holder in self._holders:
            holder.node.close()

    def _work(self, number: int) -> None:
        holder = self._holders[number]
        buffer = memoryview(bytearray(_BUFFER))
        try:
            while (claim := self._claim(number)) is not None:
                self._fetch(number, holder, claim, buffer)
        except (OSError, StorageError) as error:
            # Writing failed: no other node can help.
            self._stop(
                StorageError(f"cannot write the download: {error.strerror}")
                if isinstance(error, OSError)
                else error
            )
        except BaseException as error:
            self._stop(error)

    def _claim(self, number: int) -> list[int] | None:
        """Segments for a node to fetch: adjacent ones that nobody fetches; ``None`` when it can stop."""
        with self._changed:
            while True:
                if number in self._gone or not self._left or self._failure is not None:
                    return None
                claim = self._free(number, owned=True) or self._free(number, owned=False)
                if claim:
                    now = time.monotonic()
                    for index in claim:
                        self._claims[index] = (now, number)
                    return claim
                if not self._claims:
                    return None
                self._changed.wait(0.5)

    def _free(self, number: int, *, owned: bool) -> list[int]:
        """Up to `BATCH` segments in a window that one request can cover."""
        holder, refused = self._holders[number], self._refused.get(number, set())
        while self._lowest < self._count and self._done[self._lowest]:
            self._lowest += 1
        stale = time.monotonic() - STALL
        chosen: list[int] = []
        index = self._lowest
        while index < self._count and len(chosen) < BATCH and (not chosen or index - chosen[0] < _SPAN):
            claim = self._claims.get(index)
            taken = claim is not None and (claim[0] > stale or claim[1] == number)
            usable = not self._done[index] and not taken and index not in refused
            mine = holder.owns(index)
            if usable and (mine if owned else not mine and self._orphan(index)):
                chosen.append(index)
            elif chosen and mine:
                break
            index += 1
        return chosen

    def _orphan(self, index: int) -> bool:
        """Whether no node whose shard has the segment can still give it."""
        return not any(
            holder.owns(index) and number not in self._gone and index not in self._refused.get(number, set())
            for number, holder in enumerate(self._holders)
        )

    def _fetch(self, number: int, holder: Holder, claim: list[int], buffer: memoryview) -> None:
        start, end = claim[0], claim[-1] + 1
        got: set[int] = set()
        try:
            patiently(lambda: self._take(holder, start, end, buffer, got), attempts=3, pause=self._pause)
        except SegmentRefused as refusal:
            self._blame(number, f"{holder.node.url} sent a wrong segment ({refusal.message})", gone=True)
        except NodeRefused as refusal:
            self._blame(number, str(refusal), gone=True)
        except TransportError as error:
            self._blame(number, error.message, gone=True)
        missing = [index for index in claim if index not in got]
        with self._changed:
            for index in claim:
                if self._claims.get(index, (0.0, -1))[1] == number:
                    del self._claims[index]
            fresh = [index for index in missing if not self._done[index]]
            if fresh:
                self._refused.setdefault(number, set()).update(fresh)
            self._changed.notify_all()
        if fresh and number not in self._gone:
            self._blame(number, f"{holder.node.url} left out segment {fresh[0]}", gone=False)

    def _take(self, holder: Holder, start: int, end: int, buffer: memoryview, got: set[int]) -> None:
        from zerog._native import NativeError, verify_segment

        file = holder.file
        for segment in holder.node.download(file.seq, self.root, self.size, start, end, buffer):
            index = segment.index
            if not start <= index < end or segment.root != self.root or segment.file_size != self.size:
                raise SegmentRefused("index", f"segment {index} was not asked for")
            if self._done[index]:
                got.add(index)
                continue
            try:
                root = verify_segment(
                    self.root, self.size, index, segment.data, segment.proof.lemma, segment.proof.path
                )
            except NativeError as error:
                raise SegmentRefused(
                    str(getattr(error, "field", "data")), str(getattr(error, "message", error))
                ) from None
            self._write(segment)
            got.add(index)
            self._finish(index, root)

    def _write(self, segment: Segment) -> None:
        length = self._length(segment.index)
        data = memoryview(segment.data)[:length]
        if any(memoryview(segment.data)[length:]):
            raise SegmentRefused("file_size", f"the file is longer than {self.size} bytes")
        self._target.write(self._base + segment.index * layout.SEGMENT, data)

    def _length(self, index: int) -> int:
        return min(layout.SEGMENT, self.size - index * layout.SEGMENT)

    def _finish(self, index: int, root: bytes) -> None:
        """Marks a segment as there: in the record after its bytes are written."""
        with self._changed:
            if self._done[index]:
                return
            if self._record is not None:
                self._record(index, root)
            self._roots[32 * index : 32 * index + 32] = root
            self._done[index] = 1
            self._left -= 1
            if not self._left:
                self._changed.notify_all()
        self._counter.add(self._length(index))

    def _pause(self, seconds: float) -> None:
        with self._changed:
            if self._failure is None and self._left:
                self._changed.wait(seconds)

    def _blame(self, number: int, fault: str, *, gone: bool) -> None:
        with self._changed:
            if number in self._gone:
                return
            self._holders[number].node.faults += 1
            self.faults.append(fault)
            if gone:
                self._gone.add(number)
            self._changed.notify_all()

    def _check_whole(self) -> None:
        """The root over all segment roots: what was proven one by one is the whole file."""
        from zerog._native import fold_roots, merkle_root

        for index in range(self._count, layout.padded_segments(self.size)):
            empty = merkle_root(bytes(layout.SECTOR), layout.padded_segment_chunks(self.size, index))
            self._roots[32 * index : 32 * index + 32] = empty
        if fold_roots(self._roots) != self.root:
            raise StorageError(
                f"the segments do not make up 0x{self.root.hex()}: the partial file was altered"
            )


def download_file(
    parts: Sequence[tuple[bytes, int, Sequence[Holder]]],
    path: Path,
    *,
    progress: Progress | None = None,
    cancelled: threading.Event | None = None,
    finish: Callable[[Path], Path] | None = None,
) -> list[str]:
    """Fragments (root, size, holders), in order, into one file; what the nodes did wrong.

    ``finish`` may turn the complete part file into another one (decryption); that takes the name then.
    """
    part, roots_path = part_files(path, parts[0][0])
    counts = [layout.segments(size) for _, size, _ in parts]
    faults: list[str] = []
    try:
        target = DiskTarget(part, sum(size for _, size, _ in parts))
        roots = RootsFile(roots_path, sum(counts))
    except OSError as error:
        raise StorageError(f"cannot write {part}: {error.strerror}") from None
    try:
        counter, base, first = Counter(progress), 0, 0
        for (root, size, holders), count in zip(parts, counts, strict=True):
            one = Download(root, size, holders, target, base=base, counter=counter)
            one.resume(roots.load(first, count))
            one._record = _recorder(roots, first)
            try:
                one.run(cancelled)
            finally:
                faults += one.faults
            base, first = base + size, first + count
    except StorageError as error:
        if "was altered" in error.message:
            roots_path.unlink(missing_ok=True)
        raise
    finally:
        target.close()
        roots.close()
    done = part if finish is None else finish(part)
    done.replace(path)
    for leftover in (part, roots_path):
        with suppress(OSError):
            leftover.unlink(missing_ok=True)
    return faults


def _recorder(roots: RootsFile, first: int) -> Callable[[int, bytes], None]:
    return lambda index, root: roots.store(first + index, root)


def part_files(path: Path, root: bytes) -> tuple[Path, Path]:
    """The partial file of a download, and the roots of its segments."""
    part = path.with_name(f".{path.name}.{root.hex()[:16]}.part")
    return part, part.with_name(part.name + ".roots")


def fetch(
    parts: Sequence[tuple[bytes, int, Sequence[Holder]]], *, progress: Progress | None = None
) -> tuple[bytearray, list[str]]:
    """Fragments into memory, with what the nodes did wrong."""
    target = MemoryTarget(sum(size for _, size, _ in parts))
    counter, base = Counter(progress), 0
    faults: list[str] = []
    for root, size, holders in parts:
        one: Any = Download(root, size, holders, target, base=base, counter=counter)
        one.run()
        faults += one.faults
        base += size
    return target.data, faults
