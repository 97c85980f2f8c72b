"""Segments that arrived before their transaction.

They wait in memory, checked against the root that they name, until the chain brings that root. Unknown
roots cost an attacker nothing, so everything is bounded: bytes of one file, bytes of all, seconds. When the
pool is full, new segments are refused: what was acknowledged is kept for its time. Segments of known
transactions never come here, so a flood cannot hurt them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from zerog.errors import StorageFull
from zerog.storage.api import compatibility
from zerog.storage.layout import SECTOR
from zerog.storage.values import Segment

MAX_FILE = 10 << 20
"""Bytes of the largest file whose segments may come before its transaction."""
MAX_BYTES = 64 << 20
LIFETIME = 300.0
"""Seconds."""
MAX_FILES = 65_536
_OVERHEAD = 512
"""Bytes that a small segment takes at least, so that many tiny ones count."""


@dataclass(slots=True)
class _Waiting:
    size: int
    expires: float
    segments: dict[int, Segment] = field(default_factory=dict)
    bytes: int = 0


class SegmentPool:
    """See the module's docstring. Thread-safe."""

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        lifetime: float = LIFETIME,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._lifetime = lifetime
        self._clock = clock
        self._lock = threading.Lock()
        self._files: dict[bytes, _Waiting] = {}
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._bytes

    def put(self, segment: Segment) -> None:
        """Keeps a segment whose proof was checked; raises `RpcError` or `StorageFull`."""
        if segment.file_size > MAX_FILE:
            raise compatibility.invalid_params(
                "file_size", "caching of large file when tx is unavailable is not supported"
            )
        with self._lock:
            self._expire()
            waiting = self._files.get(segment.root)
            if waiting is None:
                self._require_room(len(segment.data), new_file=True)
                waiting = self._files[segment.root] = _Waiting(segment.file_size, 0.0)
            elif waiting.size != segment.file_size:
                raise compatibility.invalid_params(
                    "file_size", "segment file size not matched with tx file size"
                )
            # Files stay in the order in which they expire.
            self._files[segment.root] = self._files.pop(segment.root)
            waiting.expires = self._clock() + self._lifetime
            if segment.index in waiting.segments:
                return
            self._require_room(len(segment.data))
            # The data may be a view of a whole request.
            kept = Segment(segment.root, segment.index, bytes(segment.data), segment.proof, segment.file_size)
            waiting.segments[segment.index] = kept
            waiting.bytes += _cost(kept)
            self._bytes += _cost(kept)

    def take(self, root: bytes) -> list[Segment]:
        """Removes and gives the segments of a root."""
        with self._lock:
            self._expire()
            waiting = self._files.pop(root, None)
            if waiting is None:
                return []
            self._bytes -= waiting.bytes
            return [waiting.segments[index] for index in sorted(waiting.segments)]

    def count(self, root: bytes) -> int:
        """How many segments of a root wait."""
        with self._lock:
            waiting = self._files.get(root)
            return 0 if waiting is None else len(waiting.segments)

    def _require_room(self, length: int, new_file: bool = False) -> None:
        full = self._bytes + max(length, _OVERHEAD) > self._max_bytes
        if full or (new_file and len(self._files) >= MAX_FILES):
            raise StorageFull(f"exceeds the maximum cached chunks of whole pool: {self._max_bytes // SECTOR}")

    def _expire(self) -> None:
        now = self._clock()
        while self._files:
            root, waiting = next(iter(self._files.items()))
            if waiting.expires > now:
                return
            del self._files[root]
            self._bytes -= waiting.bytes


def _cost(segment: Segment) -> int:
    return max(len(segment.data), _OVERHEAD)
