"""The peers of a running node: meets them, copies from them, repairs from them.

By default a node replicates everything of its own shard: what the chain says exists and the store misses is
looked for among the peers, new submissions at once, old ones from the beginning, again and again with growing
pauses. A damaged segment counts as missing and comes first.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlsplit

from zerog.errors import RpcError, SegmentRefused, StorageError, TransportError
from zerog.storage import layout
from zerog.storage.peers.book import Network, Peer, PeerBook
from zerog.storage.peers.limits import TokenBucket
from zerog.storage.peers.score import Fault
from zerog.storage.peers.sync import FileSync, SyncStore
from zerog.storage.selection import ShardedNode, covers
from zerog.storage.store.reports import Appended, Damaged, Reverted, StoreEvent
from zerog.storage.values import FileState, Submission

log = logging.getLogger("zerog.peers")

SCAN = 500
MAX_DUE = 50_000
"""Submissions that wait for their turn in memory; older ones are looked up in the store when there is room."""
TOGETHER = 64
"""Submissions that peers are asked about in one call."""
FIRST_RETRY = 1.0
LAST_RETRY = 300.0
REMEMBERED = 256
"""Finished synchronisations that ``admin_getSyncInfo`` still shows."""


@dataclass(frozen=True, slots=True)
class PeerSettings:
    """How a node deals with its peers.

    Attributes
    ----------
    urls : base URLs of peers.
    discover : peers may name further ones.
    replicate : everything of the own shard is fetched without being asked for.
    download, upload : bytes per second; ``None`` is unlimited.
    parallel : files fetched at a time.
    settle : seconds that a new submission's uploader has before peers are asked for it.
    refresh : seconds between looks at the peers.
    """

    urls: tuple[str, ...] = ()
    discover: bool = True
    replicate: bool = True
    download: int | None = None
    upload: int | None = None
    parallel: int = 4
    settle: float = 1.0
    refresh: float = 15.0


class ReplicatedStore(SyncStore, Protocol):
    """What the service asks of the store (`FlowStore`)."""

    def listen(self, listener: Callable[[StoreEvent], None]) -> None: ...
    def damaged(self) -> list[tuple[int, int]]: ...


class PeerService:
    """See the module's docstring; implements `zerog.storage.peers.Peers`.

    Parameters
    ----------
    network : chain id and flow address of this node, ``None`` until they are known.
    """

    name = "storage peers"

    def __init__(
        self,
        store: ReplicatedStore,
        settings: PeerSettings,
        network: Callable[[], Network | None],
    ) -> None:
        self.identity = secrets.token_hex(16)
        self._store = store
        self._settings = settings
        self._upload = TokenBucket(settings.upload)
        download = TokenBucket(settings.download)
        self.book = PeerBook(list(dict.fromkeys(settings.urls)), self.identity, network, download)
        self._due: list[tuple[float, int]] = []
        """Heap of (when, submission); an entry that differs from `_waiting` is void."""
        self._waiting: dict[int, tuple[float, int]] = {}
        """Submissions whose data is missed: when to look (infinity: that is going on), attempts so far."""
        self._scanned = 0
        self._syncs: dict[int, FileSync] = {}
        self._tasks: dict[int, asyncio.Task[bool]] = {}
        self._slots = asyncio.Semaphore(settings.parallel)
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        store.listen(self._heard)

    # The service ------------------------------------------------------------------------------------------

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """None: the node's ``admin_*`` methods speak for the peers."""
        return {}

    async def run(self) -> None:
        """Meets peers and copies from them until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._scanned = 0
        for seq, _ in await asyncio.to_thread(self._store.damaged):
            self._schedule(seq, 0.0)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._meet())
                group.create_task(self._replicate())
        finally:
            self._loop = None
            for task in list(self._tasks.values()):
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)
            self.book.close()

    async def _meet(self) -> None:
        rounds = 0
        while True:
            before = len(self.book.usable())
            await self.book.refresh()
            if self._settings.discover and rounds % 20 == 0 and self.book.usable():
                await self.book.discover()
            rounds += 1 if before else 0
            if len(self.book.usable()) > before:
                self._hurry()
            # Until somebody answers, look often: nodes of one network start together.
            await asyncio.sleep(
                self._settings.refresh if self.book.usable() else min(1.0, self._settings.refresh)
            )

    def _heard(self, event: StoreEvent) -> None:
        """An event of the store, on any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._react, event)

    def _react(self, event: StoreEvent) -> None:
        if isinstance(event, Damaged):
            log.warning("segment %d of submission %d is damaged; fetching it again", event.index, event.seq)
            self._schedule(event.seq, 0.0)
        elif isinstance(event, Appended) and self._settings.replicate:
            for seq in event.seqs:
                if len(self._waiting) < MAX_DUE:
                    self._schedule(seq, self._settings.settle)
        elif isinstance(event, Reverted):
            self._scanned = min(self._scanned, event.first_seq)
            for seq in [seq for seq in self._tasks if seq >= event.first_seq]:
                self._tasks[seq].cancel()

    def _schedule(self, seq: int, pause: float, attempt: int = 0) -> None:
        """Has a submission looked at after ``pause`` seconds, or sooner when that was planned already."""
        when = monotonic() + pause
        if when < self._waiting.get(seq, (math.inf, 0))[0]:
            self._waiting[seq] = (when, attempt)
            heapq.heappush(self._due, (when, seq))
            self._wake.set()

    def _hurry(self) -> None:
        """New peers: everything that waits is looked at again."""
        for seq, (when, attempt) in self._waiting.items():
            if when < math.inf:
                self._waiting[seq] = (0.0, attempt)
        self._due = [(0.0, seq) for seq, (when, _) in self._waiting.items() if when == 0.0]
        self._wake.set()

    # Replication ------------------------------------------------------------------------------------------

    async def _replicate(self) -> None:
        while True:
            if self._settings.replicate:
                await self._scan()
            self._wake.clear()
            batch = self._next_due()
            if batch and self.book.usable():
                await self._look(batch)
                continue
            for seq, attempt in batch:
                self._again(seq, attempt)
            pause = self._due[0][0] - monotonic() if self._due else None
            try:
                async with asyncio.timeout(None if pause is None else max(0.05, pause)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _scan(self) -> None:
        """Finds old submissions whose data is not here."""
        while self._scanned < self._store.next_seq() and len(self._waiting) < MAX_DUE:
            pending = await asyncio.to_thread(self._pending, self._scanned)
            for seq in pending:
                if seq not in self._waiting:
                    self._schedule(seq, 0.0)
            self._scanned = min(self._scanned + SCAN, self._store.next_seq())

    def _pending(self, first: int) -> list[int]:
        return [
            item.seq
            for item in self._store.submissions(first, SCAN)
            if self._store.state(item.seq) is FileState.PENDING
        ]

    def _next_due(self) -> list[tuple[int, int]]:
        now = monotonic()
        batch: list[tuple[int, int]] = []
        while self._due and self._due[0][0] <= now and len(batch) < TOGETHER:
            when, seq = heapq.heappop(self._due)
            planned, attempt = self._waiting.get(seq, (math.inf, 0))
            if planned != when:
                continue
            self._waiting[seq] = (math.inf, attempt)
            if seq in self._tasks:
                # It was damaged again while it is fetched: look when that has ended.
                self._schedule(seq, FIRST_RETRY, attempt)
            else:
                batch.append((seq, attempt))
        return batch

    def _again(self, seq: int, attempt: int) -> None:
        self._schedule(seq, min(LAST_RETRY, FIRST_RETRY * 2 ** min(attempt, 20)), attempt + 1)

    async def _look(self, batch: list[tuple[int, int]]) -> None:
        """Asks the peers about submissions that are due, and fetches those that somebody has."""
        states = await asyncio.to_thread(self._states, [seq for seq, _ in batch])
        open_ones = []
        for seq, attempt in batch:
            if states[seq] is FileState.PENDING:
                open_ones.append((seq, attempt))
            else:
                self._waiting.pop(seq, None)
        holders = await self._who_has([seq for seq, _ in open_ones])
        for seq, attempt in open_ones:
            if seq in holders:
                self._begin(seq, None, frozenset(holders[seq]), attempt)
            else:
                self._again(seq, attempt)

    def _states(self, seqs: Sequence[int]) -> dict[int, FileState | None]:
        found: dict[int, FileState | None] = {}
        for seq in seqs:
            try:
                found[seq] = self._store.state(seq)
            except StorageError:
                found[seq] = None
        return found

    async def _who_has(self, seqs: Sequence[int]) -> dict[int, set[str]]:
        """Which peers say that they have something of each submission; a promise is a finalized file."""
        found: dict[int, set[str]] = {}
        if not seqs:
            return found

        async def ask(peer: Peer) -> None:
            try:
                reports = await peer.client.reports(seqs)
            except (TransportError, RpcError) as error:
                peer.failed(error)
                return
            peer.heard = monotonic()
            for seq, report in reports.items():
                if seq in found or report.finalized or report.uploaded_seg_num:
                    promises = found.setdefault(seq, set())
                    if report.finalized and not report.pruned:
                        promises.add(peer.url)

        await asyncio.gather(*map(ask, self.book.usable()))
        return found

    def _begin(
        self,
        seq: int,
        wanted: tuple[int, int] | None,
        promised: frozenset[str] = frozenset(),
        attempt: int = 0,
    ) -> None:
        """Starts fetching a file; does nothing while that is under way."""
        submission = self._store.submission(seq)
        if submission is None or seq in self._tasks:
            return
        sync = FileSync(self._store, submission, self.book.usable, wanted, promised)
        self._syncs.pop(seq, None)
        self._syncs[seq] = sync
        task = asyncio.create_task(self._run_sync(sync), name=f"sync {seq}")
        self._tasks[seq] = task
        task.add_done_callback(lambda done: self._ended(seq, wanted is None, attempt, done))

    async def _run_sync(self, sync: FileSync) -> bool:
        async with self._slots:
            return await sync.run()

    def _ended(self, seq: int, whole: bool, attempt: int, task: asyncio.Task[bool]) -> None:
        self._tasks.pop(seq, None)
        while len(self._syncs) > REMEMBERED:
            oldest = next((at for at in self._syncs if at not in self._tasks), None)
            if oldest is None:
                break
            del self._syncs[oldest]
        if task.cancelled():
            self._waiting.pop(seq, None)
            return
        error = task.exception()
        if error is not None:
            log.error("fetching submission %d failed", seq, exc_info=error)
        done = error is None and task.result() and whole
        if done and self._waiting.get(seq, (0.0, 0))[0] == math.inf:
            del self._waiting[seq]
        elif seq in self._waiting and not done:
            moved = self._syncs[seq].written if seq in self._syncs else 0
            self._again(seq, 0 if moved else attempt)
        self._wake.set()

    # What the rest of the node asks -------------------------------------------------------------------------

    def connected(self) -> int:
        return sum(peer.connected for peer in self.book.all())

    def known(self) -> list[ShardedNode]:
        return [peer.node() for peer in self.book.usable() if peer.connected]

    def network_info(self) -> dict[str, Any]:
        peers = self.book.all()
        banned, connected = sum(peer.score.banned for peer in peers), self.connected()
        return {
            "peerId": self.identity,
            "listenAddresses": [],
            "totalPeers": len(peers),
            "bannedPeers": banned,
            "disconnectedPeers": len(peers) - connected - banned,
            "connectedPeers": connected,
            "connectedOutgoingPeers": connected,
            "connectedIncomingPeers": 0,
        }

    def peers(self) -> dict[str, Any]:
        return {peer.url: _describe(peer) for peer in self.book.all()}

    async def holders(self, seq: int) -> list[ShardedNode]:
        peers = self.book.usable()

        async def ask(peer: Peer) -> bool:
            try:
                report = await peer.client.report(seq)
            except (TransportError, RpcError) as error:
                peer.failed(error)
                return False
            return report is not None and report.finalized and not report.pruned

        answers = await asyncio.gather(*map(ask, peers))
        return [peer.node() for peer, has in zip(peers, answers, strict=True) if has]

    async def find_file(self, seq: int) -> None:
        self._known(seq)
        await self.book.refresh()
        if self._settings.replicate and self._states([seq])[seq] is FileState.PENDING:
            self._schedule(seq, 0.0)

    async def start_sync_file(self, seq: int) -> None:
        self._known(seq)
        self._waiting.setdefault(seq, (math.inf, 0))
        self._begin(seq, None)

    async def start_sync_chunks(self, seq: int, start: int, end: int) -> None:
        submission = self._known(seq)
        if not 0 <= start < end <= layout.chunks(submission.size):
            raise RpcError(-32603, "Internal error", f"chunks {start} to {end} are not in the file")
        per = layout.SEGMENT_SECTORS
        self._begin(seq, (start // per, -(-end // per)))

    async def terminate_sync(self, seq: int) -> bool:
        task = self._tasks.get(seq)
        if task is None:
            return False
        task.cancel()
        await asyncio.wait([task], timeout=5)
        return True

    def sync_state(self) -> dict[str, Any]:
        waiting = len(self._waiting)
        serial = {"tasks": len(self._tasks), "next": self._scanned, "max": max(0, self._store.next_seq() - 1)}
        return {
            "numSyncing": len(self._tasks),
            "catchedUp": self._scanned >= self._store.next_seq() and not waiting,
            "autoSyncSerial": serial | {"pendings": waiting, "nextInDb": self._scanned},
            "autoSyncRandom": {
                "name": "replicate",
                "tasks": len(self._tasks),
                "pendingTxs": waiting,
                "readyTxs": 0,
                "cachedReadyTxs": 0,
            },
        }

    def sync_status(self, seq: int) -> str:
        sync = self._syncs.get(seq)
        return "unknown" if sync is None else sync.status()

    def sync_info(self, seq: int | None) -> dict[str, Any]:
        chosen = self._syncs if seq is None else {seq: self._syncs[seq]} if seq in self._syncs else {}
        return {str(at): sync.info() for at, sync in chosen.items()}

    async def file_location(self, seq: int, all_shards: bool) -> list[dict[str, Any]] | None:
        found = await self.holders(seq)
        if not found or (all_shards and not covers([node.shard for node in found])):
            return None
        return [
            {
                "ip": urlsplit(node.url).hostname,
                "shardConfig": {"shardId": node.shard.id, "numShard": node.shard.shards},
            }
            for node in found
        ]

    async def fetch_segment(self, submission: Submission, index: int) -> bytes | None:
        base = submission.start // layout.SEGMENT_SECTORS
        for peer in self.book.usable():
            if not peer.configured or peer.shard is None or not peer.shard.owns(base + index):
                continue
            data = await self._fetch_checked(peer, submission, index)
            if data is not None:
                return data
        return None

    async def _fetch_checked(self, peer: Peer, submission: Submission, index: int) -> bytes | None:
        from zerog.storage.store.checks import verified

        try:
            segments = await peer.client.segments(submission, [index])
            for segment in segments:
                await asyncio.to_thread(verified, segment)
        except SegmentRefused as error:
            peer.score.blame(Fault.LIE)
            log.warning("peer %s sent a wrong segment of %d: %s", peer.url, submission.seq, error)
            return None
        except (TransportError, RpcError) as error:
            peer.failed(error)
            return None
        return bytes(segments[0].data) if segments else None

    async def outgoing(self, count: int) -> None:
        await self._upload.take(count)

    def _known(self, seq: int) -> Submission:
        submission = self._store.submission(seq)
        if submission is None:
            raise RpcError(-32603, "Internal error", "tx not found")
        return submission


def _describe(peer: Peer) -> dict[str, Any]:
    """In the form of ``admin_getPeers``."""
    host = urlsplit(peer.url).hostname
    status = "banned" if peer.score.banned else "connected" if peer.connected else "disconnected"
    heard = peer.heard if peer.heard > 0 else None
    return {
        "client": {
            "version": peer.version or "",
            "os": "",
            "protocol": "http",
            "agent": "zerog" if peer.version else "",
        },
        "connectionStatus": {
            "status": status,
            "connectionsIn": 0,
            "connectionsOut": int(peer.connected),
            "lastSeenSecs": None if heard is None else int(monotonic() - heard),
        },
        "listeningAddresses": [peer.url],
        "seenIps": [host],
        "isTrusted": peer.configured,
        "connectionDirection": "Outgoing",
        "enr": "",
        "score": round(peer.score.points, 1),
        "shard": None if peer.shard is None else str(peer.shard),
        "receivedBytes": peer.received,
        "since": peer.since,
        "reason": peer.foreign,
    }
