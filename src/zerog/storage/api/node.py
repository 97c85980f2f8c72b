"""What a storage node does for its clients, whatever form their requests have.

`StorageNode` joins store, chain, pool and peers. JSON-RPC (`zgs`, `admin`) and the binary routes translate to
and from it. It lives on the event loop; whatever touches data runs in its threads.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from zerog.errors import (
    DataDamaged,
    RpcError,
    SegmentRefused,
    StorageError,
    StorageFull,
    UnknownFile,
)
from zerog.storage import layout
from zerog.storage.api import compatibility, wire
from zerog.storage.api.pool import SegmentPool
from zerog.storage.values import FileState, Segment, Submission

if TYPE_CHECKING:
    from zerog.storage.flow.sync import FlowSync
    from zerog.storage.peers import Peers
    from zerog.storage.scrubbing import Scrubber
    from zerog.storage.store import FlowStore

log = logging.getLogger("zerog.storage")

T = TypeVar("T")

MAX_WRITERS = 16
"""Uploads that are written at a time."""
MAX_WAITING_WRITERS = 1_024
"""Uploads that wait for their turn."""
WRITE_WAIT = 30.0
"""Seconds that an upload waits for its turn."""
FRESH_LIMIT = 2.0
"""Seconds that an answer waits for the newest block."""
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000


def internal_error(detail: str) -> RpcError:
    """An internal error in the form of 0G's node."""
    return RpcError(INTERNAL_ERROR, "Internal error", detail)


def as_rpc_error(error: StorageError) -> RpcError:
    """A refusal in the form that clients of 0G's node read."""
    if isinstance(error, SegmentRefused):
        return compatibility.invalid_params(error.field, error.detail)
    if isinstance(error, UnknownFile):
        return internal_error("tx not found")
    if isinstance(error, StorageFull):
        return RpcError(SERVER_ERROR, error.message)
    return internal_error(error.message)


@dataclass(frozen=True, slots=True)
class Network:
    """The chain and the contract that a node follows; ``flow`` is a 0x-address in lower case."""

    chain_id: int
    flow: str


class _Turns:
    """Lets few writers in at a time; the others wait, within limits."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(MAX_WRITERS)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING_WRITERS:
            raise _too_many_writers()
        self._waiting += 1
        try:
            await asyncio.wait_for(self._free.acquire(), WRITE_WAIT)
        except TimeoutError:
            raise _too_many_writers() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


def _too_many_writers() -> RpcError:
    return RpcError(SERVER_ERROR, f"too many data writing: {MAX_WRITERS}")


class StorageNode:
    """See the module's docstring."""

    def __init__(
        self,
        store: FlowStore,
        sync: FlowSync,
        pool: SegmentPool,
        peers: Peers,
        network: Network,
        scrubber: Scrubber,
        head: Callable[[], bytes] | None = None,
    ) -> None:
        """``head`` gives the hash of the chain's newest block, if that is cheap to know."""
        self.store = store
        self.sync = sync
        self.pool = pool
        self.peers = peers
        self.network = network
        self.scrubber = scrubber
        self._head = head
        threads = min(MAX_WRITERS, 2 * (os.cpu_count() or 1))
        self._readers = ThreadPoolExecutor(threads, "zerog-storage-read")
        self._writers = ThreadPoolExecutor(threads, "zerog-storage-write")
        self._turns = _Turns()

    def close(self) -> None:
        """Waits for what is being written and read."""
        self._writers.shutdown(cancel_futures=True)
        self._readers.shutdown(cancel_futures=True)

    async def read(self, work: Callable[..., T], *arguments: Any) -> T:
        """Runs blocking work that reads in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *arguments)

    # Looking up.

    async def follow(self) -> None:
        """Waits, if the chain is at hand and has moved, until its newest block was followed."""
        if self._head is None or self.sync.failure is not None:
            return
        mark = self.sync.followed
        if mark is None or mark.hash != self._head():
            await self.fresh()

    async def fresh(self) -> None:
        """Waits until the blocks that exist now were followed, or a short time is over."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        def finished() -> None:
            with suppress(RuntimeError):  # The loop may have ended.
                loop.call_soon_threadsafe(wake)

        self.sync.after_pass(finished)
        try:
            await asyncio.wait_for(done, FRESH_LIMIT)
        except TimeoutError:
            log.debug("the newest block was not followed in time")

    async def find(self, root: bytes, need_available: bool) -> Submission | None:
        """The submission that answers for a root; of an unknown root after a look at the newest block."""
        seq = self.store.find(root, need_available)
        if seq is None and not self.store.seqs_of(root):
            await self.fresh()
            seq = self.store.find(root, need_available)
        return None if seq is None else self.store.submission(seq)

    async def by_seq(self, seq: int) -> Submission | None:
        """A submission by its number; of an unknown one after a look at the newest block."""
        if seq >= 1 << 63:
            return None
        found = self.store.submission(seq)
        if found is None:
            await self.fresh()
            found = self.store.submission(seq)
        return found

    def info(self, submission: Submission) -> dict[str, Any]:
        """FileInfo, with what of the file is here under ``zerog``."""
        store, seq = self.store, submission.seq
        state = store.state(seq)
        waiting = 0 if state is not FileState.PENDING else self.pool.count(submission.root)
        uploaded = submission.segments
        if state is FileState.PENDING:
            uploaded = waiting or store.uploaded_count(seq)
        held = sum(end - start for start, end in store.held(seq))
        missing = sum(end - start for start, end in store.missing(seq))
        return {
            "tx": wire.transaction_json(submission),
            "finalized": state is FileState.FINALIZED,
            "isCached": waiting > 0,
            "uploadedSegNum": uploaded,
            "pruned": state is FileState.PRUNED,
            "zerog": {
                "shard": str(store.shard),
                "segments": submission.segments,
                "held": held,
                "missing": missing,
            },
        }

    # Uploading.

    async def upload(self, segments: Sequence[Segment], seq: int | None) -> bool:
        """Checks and stores segments; whether their (last) file is final now.

        ``seq`` names the submission that they belong to; ``None`` finds it by root. Segments whose
        transaction is not known yet wait in the pool. Raises `RpcError` and `StorageError`; what came before
        the segment that is refused stays stored.
        """
        if not segments:
            return False
        async with self._turns.turn():
            if not self._known(segments, seq):
                await self.fresh()
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._writers, self._put_all, segments, seq)

    def _known(self, segments: Sequence[Segment], seq: int | None) -> bool:
        if seq is not None:
            return self._submission(b"", seq) is not None
        roots = {segment.root for segment in segments}
        return all(self.store.find(root, False) is not None for root in roots)

    def _submission(self, root: bytes, seq: int | None) -> Submission | None:
        if seq is None:
            seq = self.store.find(root, False)
        return None if seq is None or seq >= 1 << 63 else self.store.submission(seq)

    def _put_all(self, segments: Sequence[Segment], seq: int | None) -> bool:
        opened: set[int] = set()
        finalized = False
        for root, group in itertools.groupby(segments, key=lambda segment: segment.root):
            submission = self._submission(root, seq)
            if submission is None:
                for segment in group:
                    wire.require_whole_chunks(segment)
                    self._keep_for_later(segment, seq)
                finalized = False
                continue
            chosen = list(group)
            if submission.seq not in opened:
                # A file that becomes final within this call still takes its repeated segments.
                self._require_open(submission, chosen[0])
                opened.add(submission.seq)
            finalized = self._put(submission, chosen)
        return finalized

    def _require_open(self, submission: Submission, segment: Segment) -> None:
        wire.require_whole_chunks(segment)
        if submission.root != segment.root:
            raise internal_error("data root and tx seq not match")
        if submission.size != segment.file_size:
            raise SegmentRefused("file_size", "segment file size not matched with tx file size")
        state = self.store.state(submission.seq)
        if state is FileState.FINALIZED:
            raise SegmentRefused("root", compatibility.FINALIZED)
        if state is FileState.PRUNED:
            raise SegmentRefused("root", "already pruned")

    def _put(self, submission: Submission, segments: Sequence[Segment]) -> bool:
        """Stores segments of one file, in their order, up to the first that is refused."""
        mine: list[Segment] = []
        refusal: Exception | None = None
        first = submission.start // layout.SEGMENT_SECTORS
        for segment in segments:
            try:
                wire.require_whole_chunks(segment)
                if 0 <= segment.index < submission.segments and not self.store.shard.owns(
                    first + segment.index
                ):
                    # Some clients send every segment to every node; another node keeps this one.
                    verify(segment)
                    continue
            except (StorageError, RpcError) as error:
                refusal = error
                break
            mine.append(segment)
        finalized = self.store.put_segments(submission.seq, mine)
        if refusal is not None:
            raise refusal
        return finalized

    def _keep_for_later(self, segment: Segment, seq: int | None) -> None:
        verify(segment)
        self.pool.put(segment)
        # The transaction may have come between the look and the pool.
        submission = self._submission(segment.root, seq)
        if submission is not None and submission.root == segment.root:
            self.flush([submission.seq])

    def flush(self, seqs: Sequence[int]) -> None:
        """Stores the segments that waited for these submissions. Called from the thread of the sync, too."""
        for seq in seqs:
            submission = self.store.submission(seq)
            if submission is None:
                continue
            waiting = self.pool.take(submission.root)
            if not waiting:
                continue
            try:
                self._put(submission, waiting)
            except (StorageError, RpcError) as error:
                log.warning("segments that waited for submission %d are refused: %s", seq, error.message)

    # Downloading.

    async def chunks(self, submission: Submission, start: int, end: int) -> bytes | None:
        """Chunks of a file, ``end`` exclusive; ``None`` when they are not all here."""
        if start >= end:
            raise SegmentRefused("end_index", "invalid chunk index")
        if end - start > layout.SEGMENT_SECTORS:
            raise SegmentRefused("end_index", f"exceeds maximum chunks {layout.SEGMENT_SECTORS}")
        count = layout.chunks(submission.size)
        if end > count:
            raise RpcError(SERVER_ERROR, f"end entry index exceeds tx size: {end} > {count}")
        return await self.read(self.store.read_chunks, submission.seq, start, end)

    async def segment(self, submission: Submission, index: int) -> Segment | None:
        """A segment with its proof; ``None`` when it is not here."""
        if index >= submission.segments:
            raise SegmentRefused("index", "index out of bound")
        return await self.read(self.read_segment, submission, index)

    def read_segment(self, submission: Submission, index: int) -> Segment | None:
        """`segment`, blocking."""
        data = self.store.read_segment(submission.seq, index)
        proof = None if data is None else self.store.segment_proof(submission.seq, index)
        if data is None or proof is None:
            return None
        return Segment(submission.root, index, data, proof, submission.size)


def verify(segment: Segment) -> None:
    """Checks a segment against the root that it names; raises `SegmentRefused`."""
    from zerog import _native

    proof = segment.proof
    if segment.file_size < 1:
        raise SegmentRefused("file_size", "file is empty")
    if segment.file_size > layout.MAX_FILE_SIZE:
        raise SegmentRefused("file_size", f"larger than {layout.MAX_FILE_SIZE} bytes")
    try:
        _native.verify_segment(
            segment.root, segment.file_size, segment.index, segment.data, proof.lemma, proof.path
        )
    except _native.NativeError as error:
        if error.kind != "segment":
            raise DataDamaged(error.message) from error
        raise SegmentRefused(str(getattr(error, "field", "proof")), error.message) from None
    except OverflowError:
        raise SegmentRefused("index", "index out of bound") from None
