"""Replay: applies the KV transactions of the flow, strictly in the order of their sequence numbers.

Each submission ends with one of the results that 0G's KV node knows, or with none when it is not a KV transaction
of monitored streams. Whatever it holds, replay goes on with the next one.

The content may come later than the submission. Replay waits for it, says so in `Replay.waiting`, and after
``give_up_after`` seconds records ``DownloadFailed`` and goes on. When the content comes after all, replay goes back
to that submission and applies it and its successors anew, so that every node ends with the state of one that had
all contents in time. A reorganisation of the chain is handled in the same way.

The writer is the account that sent the transaction (`Submission.sender`), whatever the event of the flow says.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from zerog.errors import StorageError
from zerog.storage.kv import access
from zerog.storage.kv.content import FlowContent, NodeKey, ReadChunks, Unavailable
from zerog.storage.kv.store import KvStore, identity
from zerog.storage.kv.stream import Control, LocatedWrite, StreamDataError, StreamReader, stream_ids
from zerog.storage.layout import SEGMENT_SECTORS
from zerog.storage.values import Submission

log = logging.getLogger("zerog.kv")

COMMIT = "Commit"
VERSION_CONFLICT = "VersionConfliction"
TAGS_MISMATCH = "TagsMismatch"
NO_WRITE_PERMISSION = "SenderNoWritePermission"
DOWNLOAD_FAILED = "DownloadFailed"

POLL = 0.5
"""Seconds between looks for what nobody announces."""
REORGANISATION_DEPTH = 10_000
"""Submissions that are compared with the flow at the start."""
_SHOWN_KEY = 32


class FlowReader(Protocol):
    """What replay asks of the flow."""

    def next_seq(self) -> int:
        """Number of submissions."""
        ...

    def submission(self, seq: int) -> Submission | None:
        """A submission."""
        ...

    def submissions(self, first: int, limit: int) -> list[Submission]:
        """Submissions in order."""
        ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """A content that replay waits for, since a time of ``time.monotonic``."""

    seq: int
    root: bytes
    since: float
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a transaction comes to."""

    result: str
    writes: Sequence[LocatedWrite] = ()
    controls: Sequence[Control] = ()


def shown_key(key: bytes) -> str:
    """A key as results show it: 32 characters of text at most, NONE, or UNKNOWN."""
    if not key:
        return "NONE"
    try:
        return key.decode()[:_SHOWN_KEY]
    except UnicodeDecodeError:
        return "UNKNOWN"


class Monitor:
    """Which streams are monitored. Any thread may ask."""

    def __init__(self, streams: Sequence[bytes] | None) -> None:
        """``None`` monitors all."""
        self.everything = streams is None
        self._streams = frozenset(streams or ())

    def __contains__(self, stream: bytes) -> bool:
        return self.everything or stream in self._streams

    def add(self, stream: bytes) -> None:
        """Monitors one more."""
        self._streams |= {stream}

    def streams(self) -> list[bytes]:
        """The named streams, ascending."""
        return sorted(self._streams)


def execute(
    store: KvStore, monitor: Monitor, submission: Submission, open_content: Callable[[], FlowContent]
) -> Outcome | None:
    """What ``submission`` comes to on the state of ``store``; ``None`` when it is none of the monitored streams.

    Raises `Unavailable` while its content is not here; nothing is changed in any case.
    """
    streams = stream_ids(submission.tags)
    if not streams or any(stream not in monitor for stream in streams):
        return None
    sender, seq = submission.sender, submission.seq
    if not any(access.can_write(store, sender, stream, seq) for stream in streams):
        return Outcome(NO_WRITE_PERMISSION)
    try:
        return _execute(store, monitor, sender, seq, streams, StreamReader(open_content()))
    except StreamDataError as error:
        return Outcome(f"DataParseError: {error}")


def _execute(
    store: KvStore,
    monitor: Monitor,
    sender: bytes,
    seq: int,
    streams: tuple[bytes, ...],
    reader: StreamReader,
) -> Outcome:
    version = reader.version()
    for read in reader.reads():
        if read.stream not in monitor:
            return Outcome(TAGS_MISMATCH)
        if _newer(store, read.stream, read.key, version, seq):
            return Outcome(VERSION_CONFLICT)
    tagged = frozenset(streams)
    writes = reader.writes()
    for write in writes:
        if write.stream not in tagged:
            return Outcome(TAGS_MISMATCH)
        if _newer(store, write.stream, write.key, version, seq):
            return Outcome(VERSION_CONFLICT)
        if not access.has_write_permission(store, sender, write.stream, write.key, seq):
            return Outcome(
                f"WritePermissionDenied: stream: 0x{write.stream.hex()}, key: {shown_key(write.key)}"
            )
    controls = access.effective_controls(store, sender, streams, reader.controls(sender), seq)
    if any(control.stream not in tagged for control in controls):
        return Outcome(TAGS_MISMATCH)
    refused = access.refused_control(store, sender, streams, controls, seq)
    if refused is not None:
        return Outcome(
            f"AccessControlPermissionDenied: operation: {refused.operation.name}, stream: 0x{refused.stream.hex()}"
            f", key: {shown_key(refused.key)}, account: 0x{refused.account.hex()}"
        )
    return Outcome(COMMIT, writes, controls)


def _newer(store: KvStore, stream: bytes, key: bytes, version: int, seq: int) -> bool:
    latest = store.get(stream, key, seq)
    return latest is not None and latest.version > version


class Replay:
    """Follows a flow in a thread of its own; see the module's docstring."""

    def __init__(
        self,
        flow: FlowReader,
        store: KvStore,
        read_chunks: ReadChunks,
        *,
        streams: Sequence[bytes] | None = None,
        key: NodeKey | None = None,
        give_up_after: float = 60.0,
        on_change: Callable[[int | None], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``streams`` names those to follow, ``None`` follows all. ``read_chunks(seq, first, end)`` gives content
        once it is here. ``on_change`` hears, on the thread of replay, that something was applied (``None``), or
        that everything from a sequence number on was taken back."""
        self.store = store
        self.waiting: Waiting | None = None
        self._flow = flow
        self._read_chunks = read_chunks
        self._key = key
        self._give_up_after = give_up_after
        self._on_change = on_change or (lambda reverted: None)
        self._clock = clock
        self._lock = threading.Lock()
        self._revert_to: int | None = None
        self._taking_back = False
        self._absent: dict[int, int] = {}
        self._wake = threading.Event()
        self._recheck = threading.Event()
        self._stop = threading.Event()
        self.monitor = self._monitored(streams)

    def _monitored(self, streams: Sequence[bytes] | None) -> Monitor:
        """The monitor of configured and added streams; what is new makes replay begin again."""
        store = self.store
        followed_all = store.set_all_monitored(streams is None)
        if streams is None:
            if not followed_all:
                store.revert(0)
            return Monitor(None)
        new = [stream for stream in streams if store.monitor(stream)]
        if new and not followed_all:
            store.revert(0)
        return Monitor(store.monitored())

    # What other threads call.

    def wake(self) -> None:
        """There may be something new."""
        self._wake.set()

    def reverted(self, first_seq: int) -> None:
        """The chain dropped submissions from ``first_seq`` on."""
        with self._lock:
            self._revert_to = first_seq if self._revert_to is None else min(self._revert_to, first_seq)
        self._wake.set()

    def unsettled(self) -> bool:
        """Whether something may still be applied that the flow has taken back."""
        with self._lock:
            return self._taking_back or self._must_take_back()

    def _must_take_back(self) -> bool:
        first = self._revert_to
        return self._recheck.is_set() or (first is not None and first < self.store.progress())

    def add_stream(self, stream: bytes) -> None:
        """Monitors a stream for good, its past included; call it on any thread."""
        if self.store.monitor(stream) and not self.monitor.everything:
            self.monitor.add(stream)
            first = self._first_of({stream})
            if first is not None:
                self.reverted(first)

    def recheck(self) -> None:
        """The flow was opened: what was applied is compared with it before replay goes on."""
        self._recheck.set()
        self._wake.set()

    def stop(self) -> None:
        """Ends `run` after the step it is in."""
        self._stop.set()
        self._wake.set()

    def content(self, submission: Submission) -> FlowContent:
        """The content of a submission; raises `Unavailable`."""
        return FlowContent(submission, self._read_chunks, self._key)

    # The thread.

    def run(self) -> None:
        """Replays until `stop`."""
        while not self._stop.is_set():
            self._wake.clear()
            self.catch_up()
            self._wake.wait(POLL)

    def catch_up(self) -> None:
        """Applies whatever can be applied now."""
        self._come_back()
        while not self._stop.is_set() and self.step():
            pass

    def step(self) -> bool:
        """Applies the next submission; false when there is nothing to do now."""
        self._take_back()
        seq = self.store.progress()
        submission = self._flow.submission(seq)
        if submission is None:
            self.waiting = None
            return False
        missing = False
        try:
            outcome = execute(self.store, self.monitor, submission, lambda: self.content(submission))
        except Unavailable as error:
            if self._wait_for(submission, error.message):
                return False
            outcome, missing = Outcome(DOWNLOAD_FAILED), True
            log.warning("KV transaction %d: its data did not come; going on without it", seq)
        self.waiting = None
        if outcome is None:
            self.store.apply(submission, None)
        else:
            self.store.apply(submission, outcome.result, outcome.writes, outcome.controls, missing=missing)
            log.debug("KV transaction %d: %s", seq, outcome.result)
            self._on_change(None)
        return True

    def _wait_for(self, submission: Submission, reason: str) -> bool:
        """Notes what is awaited; false when it has been awaited long enough."""
        if self.store.is_missing(submission.seq):
            return False
        waiting = self.waiting
        if waiting is None or (waiting.seq, waiting.root) != (submission.seq, submission.root):
            waiting = Waiting(submission.seq, submission.root, self._clock(), reason)
            self.waiting = waiting
        return self._clock() - waiting.since < self._give_up_after

    def _come_back(self) -> None:
        """Goes back to the first given-up content that is here now."""
        for seq in self.store.missing():
            submission = self._flow.submission(seq)
            if submission is None:
                continue
            if not self._is_here(submission):
                continue
            log.info("the data of KV transaction %d has come; applying it and what follows again", seq)
            self.store.found(seq)
            self._on_change(seq)
            return

    def _is_here(self, submission: Submission) -> bool:
        """Whether every segment can be read. The one that was not there last time is tried first."""
        segments, first = submission.segments, self._absent.get(submission.seq, 0)
        for segment in (first, *range(segments)):
            chunk = segment * SEGMENT_SECTORS
            try:
                here = self._read_chunks(submission.seq, chunk, chunk + 1) is not None
            except StorageError:
                here = False
            if not here:
                self._absent[submission.seq] = segment
                return False
        self._absent.pop(submission.seq, None)
        return True

    def _take_back(self) -> None:
        with self._lock:
            self._taking_back = self._must_take_back()
            if not self._taking_back:
                self._revert_to = None
                return
        try:
            if self._recheck.is_set():
                self._recheck.clear()
                self._compare()
            with self._lock:
                first, self._revert_to = self._revert_to, None
            if first is not None and first < self.store.progress():
                self.store.revert(first)
                self._absent.clear()
                self._on_change(first)
        finally:
            self._taking_back = False

    def _compare(self) -> None:
        """Takes back what is not in the flow: the node ended between the flow's reorganisation and ours."""
        first = max(0, self.store.progress() - REORGANISATION_DEPTH)
        applied = self.store.identities(first, REORGANISATION_DEPTH)
        flow = {submission.seq: submission for submission in self._flow.submissions(first, len(applied))}
        for seq, known in applied:
            submission = flow.get(seq)
            if submission is None or identity(submission) != known:
                self.reverted(seq)
                return

    def _first_of(self, streams: set[bytes]) -> int | None:
        """The first applied submission that names one of ``streams``."""
        progress = self.store.progress()
        for first in range(0, progress, 1000):
            for submission in self._flow.submissions(first, min(1000, progress - first)):
                if not streams.isdisjoint(stream_ids(submission.tags)):
                    return submission.seq
        return None
