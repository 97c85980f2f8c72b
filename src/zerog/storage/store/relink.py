"""The same root again: data that is here already goes to every submission of its root.

A submission takes over what another one of its root holds, and what was kept aside of a reverted one. The thread
that appends, or that makes a file final, does a bounded part of that itself, so that small files are final at
once; the rest goes to a thread of the store, so that a large twin holds nobody up. What a kill interrupts starts
again with the next `start`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from zerog.errors import DataDamaged, SegmentRefused, StorageError, StorageFull, UnknownFile
from zerog.storage.store import shards
from zerog.storage.store.index import PART
from zerog.storage.values import FileState, Segment, Submission

if TYPE_CHECKING:
    from zerog.storage.store.aside import Aside
    from zerog.storage.store.flow_store import FlowStore
    from zerog.storage.store.index import Index

log = logging.getLogger(__name__)

STEP = 16
"""Segments copied in one transaction."""
AT_ONCE = 64
"""Segments that a caller copies itself before it leaves the rest to the thread: 16 MiB."""

Steps = Iterator[int]
"""Work that is under way: each step tells how many segments it looked at."""


class Relinking:
    """Takes data over from submission to submission. Any thread may call anything."""

    def __init__(self, store: FlowStore, index: Index, aside: Aside) -> None:
        self._store = store
        self._index = index
        self._aside = aside
        self._local = threading.local()
        self._condition = threading.Condition()
        self._later: deque[Steps] = deque()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._reverts = 0

    def start(self) -> None:
        """Finds what a kill left undone."""
        query = (
            "SELECT DISTINCT p.seq FROM file p JOIN submission s ON s.seq = p.seq JOIN submission t"
            " ON t.root = s.root AND t.seq != s.seq JOIN file f ON f.seq = t.seq WHERE p.state = 0 AND f.held > 0"
        )
        seqs = [seq for (seq,) in self._index.rows(query)]
        seqs += [seq for root in self._aside.roots() for seq in self._store.seqs_of(root)]
        self.fill(s for s in map(self._store.submission, seqs) if s is not None)

    def fill_twins(self, submission: Submission) -> None:
        """Fills the other submissions of a root of which one has become final."""
        seqs = [seq for seq in self._store.seqs_of(submission.root) if seq != submission.seq]
        self.fill(s for s in map(self._store.submission, seqs) if s is not None)

    def fill(self, submissions: Iterable[Submission]) -> None:
        """Fills submissions from what is here of their roots; at most `AT_ONCE` segments before it returns."""
        work = [self._steps(submission) for submission in submissions]
        above: deque[Steps] | None = getattr(self._local, "queue", None)
        if above is not None:
            # A step made a file final: the loop that runs the step goes on with its twins.
            above.extend(work)
            return
        queue = self._local.queue = deque(work)
        try:
            done = 0
            while queue and done < AT_ONCE:
                done += self._advance(queue)
        finally:
            self._local.queue = None
            if queue:
                self._leave(queue)

    def keep(self, submission: Submission) -> None:
        """Keeps what is here of a submission that is reverted; the caller is alone."""
        self._reverts += 1
        for part, bits in self._index.parts(submission.seq):
            for first, end in shards.ranges(bits, part * PART):
                for index in range(first, end):
                    segment = self._store.travelling(submission, index)
                    if segment is not None and not self._aside.keep(segment):
                        return

    def settle(self, timeout: float) -> bool:
        """Waits until nothing is left to take over; false after ``timeout`` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: self._thread is None, timeout)

    def stop(self) -> None:
        """Ends the thread after the step that it is at."""
        with self._condition:
            self._stopped = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _leave(self, queue: deque[Steps]) -> None:
        with self._condition:
            if self._stopped:
                return
            self._later.extend(queue)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="zerog-relink", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        queue = self._local.queue = deque[Steps]()
        while True:
            with self._condition:
                queue.extend(self._later)
                self._later.clear()
                if self._stopped or not queue:
                    self._thread = None
                    self._condition.notify_all()
                    return
            try:
                self._advance(queue)
            except Exception:
                log.exception("data of a root that is here already could not be taken over")

    @staticmethod
    def _advance(queue: deque[Steps]) -> int:
        """One step of what is first in the queue; leaves it there unless it has ended or failed."""
        steps = queue.popleft()
        done = next(steps, None)
        if done is None:
            return 0
        queue.appendleft(steps)
        return done

    def _steps(self, submission: Submission) -> Steps:
        """Fills a pending submission."""
        store, seq = self._store, submission.seq
        reverts = self._reverts
        try:
            if store.state(seq) is FileState.PRUNED:
                return  # what was kept aside waits for a submission that takes it
            for other in self._others(submission):
                ranges = shards.common(store.missing(seq), store.held(other.seq))
                for first, end in ranges:
                    for at in range(first, end, STEP):
                        found = [self._taken(other, i) for i in range(at, min(end, at + STEP))]
                        store.put_segments(seq, [s for s in found if s is not None])
                        yield len(found)
            foreign = set()
            for kept in self._aside.segments(submission.root):
                if self._store.shard.owns(shards.base(submission) + kept.index):
                    self._put_kept(submission, kept)
                else:
                    foreign.add(kept.index)  # for a submission at another place
                yield 1
            # A revert in between has kept more, for the submissions that come after it.
            with store.unchanged():
                if self._reverts == reverts:
                    self._aside.drop(submission.root, keep=foreign)
        except StorageFull as error:
            log.warning("submission %d could not take over data of its root: %s", seq, error)
        except (SegmentRefused, UnknownFile) as error:
            # Reverted or pruned in the meantime: there is nothing to take over.
            log.info("submission %d takes nothing over: %s", seq, error)
        except StorageError:
            if not self._stopped:
                raise

    def _others(self, submission: Submission) -> list[Submission]:
        store = self._store
        seqs = [s for s in store.seqs_of(submission.root) if s != submission.seq and store.uploaded_count(s)]
        return [s for s in map(store.submission, seqs) if s is not None]

    def _taken(self, other: Submission, index: int) -> Segment | None:
        try:
            return self._store.segment(other.seq, index)
        except DataDamaged:
            return None

    def _put_kept(self, submission: Submission, segment: Segment) -> None:
        try:
            self._store.put_segment(submission.seq, segment)
        except SegmentRefused as error:
            if error.field == "root":
                raise  # pruned in the meantime: what is kept stays kept
            # A file that was damaged while it lay aside: the others may be sound.
            log.warning("segment %d of submission %d, kept aside: %s", segment.index, submission.seq, error)
