"""Contents of which the own node keeps a part only: what its shard leaves out comes from other nodes.

`SharedContent.read_chunks` looks in the own store first; a segment that is not there, or that is damaged there, is
fetched (whoever fetches has checked its proof). The segments that were used last stay in memory.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from zerog.errors import StorageError
from zerog.storage.kv.content import Fetch, ReadChunks
from zerog.storage.layout import SECTOR, SEGMENT_SECTORS
from zerog.storage.values import Submission

KEPT = 64
"""Segments that stay in memory: 16 MiB."""
ASK_AGAIN = 1.0
"""Seconds before the other nodes are asked again for what nobody had."""
_Place = tuple[bytes, int]


class SharedContent:
    """See the module's docstring. Any thread may read; never the event loop's, for it may wait for the network."""

    def __init__(
        self,
        read_chunks: ReadChunks,
        submission: Callable[[int], Submission | None],
        fetch: Fetch | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_own = read_chunks
        self._submission = submission
        self._fetch = fetch
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Place, bytes] = OrderedDict()
        self._absent: dict[_Place, float] = {}
        self._stopped = False

    def stop(self) -> None:
        """Asks nobody any more."""
        self._stopped = True

    def read_chunks(self, seq: int, start: int, end: int) -> bytes | memoryview | None:
        """Chunks ``[start, end)`` of one segment; ``None`` when nobody has them. Raises as the own store does."""
        failure: StorageError | None = None
        own: bytes | memoryview | None = None
        try:
            own = self._read_own(seq, start, end)
        except StorageError as error:
            failure = error
        if own is not None:
            return own
        segment = self._elsewhere(seq, start // SEGMENT_SECTORS)
        if segment is None:
            if failure is not None:
                raise failure
            return None
        first = start // SEGMENT_SECTORS * SEGMENT_SECTORS
        return segment[(start - first) * SECTOR : (end - first) * SECTOR]

    def _elsewhere(self, seq: int, index: int) -> bytes | None:
        if self._fetch is None:
            return None
        submission = self._submission(seq)
        if submission is None:
            return None
        # By root, not by number: a reorganisation gives the number to another file.
        place = (submission.root, index)
        with self._lock:
            kept = self._kept.get(place)
            if kept is not None:
                self._kept.move_to_end(place)
                return kept
            if self._stopped or self._clock() < self._absent.get(place, 0.0):
                return None
        fetched = self._fetch(submission, index)
        with self._lock:
            if fetched is None:
                now = self._clock()
                self._absent = {place: until for place, until in self._absent.items() if until > now}
                self._absent[place] = now + ASK_AGAIN
                return None
            self._absent.pop(place, None)
            self._kept[place] = fetched
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return fetched
