"""Fetching what is missing of one file from several peers at once.

The store knows what is missing, so a synchronisation can stop anywhere and go on later, after a crash, too.
Missing segments are handed out in small batches; every peer has a few workers that take batches which the
peer's shard can hold. A batch that a peer did not deliver goes back for the others. What arrives is written by
`put_segments`, which checks every proof against the root that the chain committed.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from zerog.errors import RpcError, SegmentRefused, StorageError, TransportError
from zerog.storage import layout
from zerog.storage.peers.book import Peer
from zerog.storage.peers.score import Fault
from zerog.storage.values import FileState, Segment, ShardConfig, Submission

log = logging.getLogger("zerog.peers")

BATCH = 8
"""Segments of one request, at most."""
WORKERS = 2
"""Requests to one peer at a time for one file."""
MAX_SOURCES = 8
"""Peers that one file is fetched from at a time."""
MAX_EMPTY = 3
"""Batches in a row that a peer may fail to have before it is not asked for more of the file in this round."""
MAX_WAITING = 256
_OURS = frozenset({"root", "file_size", "index"})
"""Fields that were compared with the own submission before: if the store refuses them, the flow has changed."""


class SyncStore(Protocol):
    """What a synchronisation asks of the store (`FlowStore`)."""

    @property
    def shard(self) -> ShardConfig: ...
    def next_seq(self) -> int: ...
    def submission(self, seq: int) -> Submission | None: ...
    def submissions(self, first: int, limit: int) -> list[Submission]: ...
    def state(self, seq: int) -> FileState: ...
    def missing(self, seq: int) -> list[tuple[int, int]]: ...
    def put_segments(self, seq: int, segments: Sequence[Segment]) -> bool: ...


class SyncState(enum.Enum):
    """How far a synchronisation is; the values are what ``admin_getSyncStatus`` shows."""

    FINDING = "FindingPeers"
    DOWNLOADING = "Downloading"
    COMPLETED = "Completed"
    FAILED = "Failed"


@dataclass
class _Batch:
    """Segments that are asked for together, and who did not deliver them."""

    indices: list[int]
    refused: set[str] = field(default_factory=set)


class FileSync:
    """See the module's docstring.

    Parameters
    ----------
    peers : the usable peers, the best first; asked anew in every round.
    wanted : file segments from the first to before the second; ``None``: all that are missing.
    promised : addresses of peers that say they have the file.
    """

    def __init__(
        self,
        store: SyncStore,
        submission: Submission,
        peers: Callable[[], list[Peer]],
        wanted: tuple[int, int] | None = None,
        promised: frozenset[str] = frozenset(),
    ) -> None:
        self.submission = submission
        self.wanted = wanted or (0, submission.segments)
        self.state = SyncState.FINDING
        self.reason = ""
        self.written = 0
        """Segments written by this synchronisation."""
        self._store = store
        self._peers = peers
        self._begun = monotonic()
        self._ended: float | None = None
        self._active: Counter[str] = Counter()
        self._queue: deque[_Batch] = deque()
        self._changed = asyncio.Event()
        self._busy = 0
        self._empty: Counter[str] = Counter()
        self._promised = promised
        self._fatal: StorageError | None = None
        self._fresh: Iterator[_Batch] = iter(())

    async def run(self) -> bool:
        """Fetches what it can get; true when nothing that was wanted is missing any more."""
        try:
            complete = await self._run()
        except StorageError as error:
            # A full disk, or a submission that left the flow: not the peers' fault.
            return self._end(SyncState.FAILED, str(error))
        except BaseException:
            self._end(SyncState.FAILED, "terminated")
            raise
        return self._end(
            SyncState.COMPLETED if complete else SyncState.FAILED, "" if complete else "no peer has it"
        )

    def info(self) -> dict[str, Any]:
        """In the form of ``admin_getSyncInfo``."""
        first, end = self.wanted
        per = layout.SEGMENT_SECTORS
        total = layout.chunks(self.submission.size)
        return {
            "elapsedSecs": int((self._ended or monotonic()) - self._begun),
            "peers": {"connected": len(self._peers()), "downloading": len(+self._active)},
            "goal": {
                "numChunks": total,
                "indexStart": first * per,
                "indexEnd": min(total, end * per),
                "allChunks": self.wanted == (0, self.submission.segments),
            },
            "nextChunks": min(total, (first + self.written) * per),
            "state": self.status(),
        }

    def status(self) -> str:
        """In the form of ``admin_getSyncStatus``."""
        if self.state is SyncState.FAILED:
            return f"Failed {{ reason: {self.reason} }}"
        if self.state is SyncState.DOWNLOADING:
            return f"Downloading {{ segments: {self.written}, peers: {len(+self._active)} }}"
        return str(self.state.value)

    def _end(self, state: SyncState, reason: str) -> bool:
        self.state, self.reason, self._ended = state, reason, monotonic()
        return state is SyncState.COMPLETED

    async def _run(self) -> bool:
        while missing := await self._missing():
            before = self.written
            peers = self._peers()[:MAX_SOURCES]
            if not peers:
                return False
            self.state = SyncState.DOWNLOADING
            self._queue.clear()
            self._empty.clear()
            self._fresh = _batches(missing)
            async with asyncio.TaskGroup() as group:
                for peer in peers:
                    for _ in range(WORKERS):
                        group.create_task(self._work(peer))
            if self._fatal is not None:
                raise self._fatal
            if self.written == before:
                return not await self._missing()
        return True

    async def _missing(self) -> list[tuple[int, int]]:
        ranges = await asyncio.to_thread(self._store.missing, self.submission.seq)
        first, end = self.wanted
        return [(max(a, first), min(b, end)) for a, b in ranges if max(a, first) < min(b, end)]

    def _take(self, peer: Peer) -> _Batch | None:
        """A batch that the peer may have; ``None`` when there is none for it now."""
        for batch in list(self._queue):
            if peer.url not in batch.refused and self._may_hold(peer, batch):
                self._queue.remove(batch)
                return batch
        for batch in self._fresh:
            if self._may_hold(peer, batch):
                return batch
            self._queue.append(batch)
            if len(self._queue) > MAX_WAITING:
                return None
        return None

    def _may_hold(self, peer: Peer, batch: _Batch) -> bool:
        base = self.submission.start // layout.SEGMENT_SECTORS
        return peer.shard is not None and any(peer.shard.owns(base + index) for index in batch.indices)

    async def _work(self, peer: Peer) -> None:
        """Takes batches until none is left that the peer could deliver."""
        while peer.usable and self._fatal is None and self._empty[peer.url] < MAX_EMPTY:
            batch = self._take(peer)
            if batch is None:
                if not self._busy:
                    return
                # What another peer has under way may come back.
                self._changed.clear()
                await self._changed.wait()
                continue
            self._busy += 1
            self._active[peer.url] += 1
            try:
                await self._fetch(peer, batch)
            finally:
                self._busy -= 1
                self._active[peer.url] -= 1
                self._changed.set()

    async def _fetch(self, peer: Peer, batch: _Batch) -> None:
        got = await self._obtain(peer, batch)
        rest = [index for index in batch.indices if index not in got]
        if rest:
            self._queue.append(_Batch(rest, batch.refused | {peer.url}))
        if got:
            self._empty[peer.url] = 0
            peer.score.praise()
            return
        self._empty[peer.url] += 1
        if peer.url in self._promised and peer.usable:
            peer.score.blame(Fault.PROMISE)

    async def _obtain(self, peer: Peer, batch: _Batch) -> set[int]:
        """Fetches and writes; the segments that came."""
        try:
            segments = await peer.client.segments(self.submission, batch.indices)
            await self._put(peer, segments)
        except (TransportError, RpcError) as error:
            peer.failed(error)
        except StorageError as error:
            if isinstance(error, SegmentRefused) and error.field not in _OURS:
                peer.score.blame(Fault.LIE)
                log.warning("peer %s sent a wrong segment of %d: %s", peer.url, self.submission.seq, error)
            else:
                self._fatal = error
        else:
            return {segment.index for segment in segments}
        return set()

    async def _put(self, peer: Peer, segments: list[Segment]) -> None:
        if not segments:
            return
        await asyncio.to_thread(self._store.put_segments, self.submission.seq, segments)
        self.written += len(segments)
        peer.received += sum(len(segment.data) for segment in segments)


def _batches(missing: Sequence[tuple[int, int]]) -> Iterator[_Batch]:
    for first, end in missing:
        for at in range(first, end, BATCH):
            yield _Batch(list(range(at, min(at + BATCH, end))))
