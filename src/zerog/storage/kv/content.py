"""The plain bytes of a file of the flow, as far as they are here.

`FlowContent` reads ranges of one submission through an injected function and, when the node has a key, decrypts
them; it never holds more than one segment. ``Unavailable`` says that bytes are not here yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from zerog.errors import StorageError
from zerog.storage.kv.stream import StreamDataError
from zerog.storage.layout import SECTOR, SEGMENT, SEGMENT_SECTORS
from zerog.storage.values import Submission

ReadChunks = Callable[[int, int, int], "bytes | memoryview | None"]
"""``(seq, first chunk, end chunk)`` to bytes; ``None`` when they are not here."""
Fetch = Callable[[Submission, int], "bytes | None"]
"""``(submission, segment)`` to the segment as another node keeps it, proof-checked; ``None`` when nobody has it."""
Crypt = Callable[[int, bytes], bytes]
"""``(offset in the plain content, bytes)`` to plain bytes."""
MAX_HEADER = 50
"""Bytes of the longest encryption header."""


class Unavailable(StorageError):
    """Bytes of a known file are not on this node."""


class NodeKey(Protocol):
    """The key with which a node reads encrypted streams."""

    def open(self, header: bytes) -> tuple[int, Crypt] | None:
        """From the first `MAX_HEADER` bytes (or fewer): the header's size and the cipher; ``None`` for no header
        that this key opens."""
        ...


class FlowContent:
    """The content of a submission (`zerog.storage.kv.stream.Content`)."""

    def __init__(self, submission: Submission, read_chunks: ReadChunks, key: NodeKey | None = None) -> None:
        """Raises `Unavailable`, and `StreamDataError` when ``key`` does not open the file."""
        self._submission = submission
        self._read_chunks = read_chunks
        self._header, self._crypt = 0, None
        if key is not None:
            opened = key.open(self._stored(0, min(MAX_HEADER, submission.size)))
            if opened is None or opened[0] > submission.size:
                raise StreamDataError("Invalid stream data")
            self._header, self._crypt = opened
        self.size = submission.size - self._header

    _crypt: Crypt | None

    def read(self, start: int, end: int) -> bytes:
        """Plain bytes; raises `Unavailable`."""
        if not 0 <= start <= end <= self.size:
            raise ValueError(f"bytes {start} to {end} of {self.size}")
        stored = self._stored(start + self._header, end + self._header)
        return stored if self._crypt is None else self._crypt(start, stored)

    def _stored(self, start: int, end: int) -> bytes:
        pieces = []
        while start < end:
            # Segment by segment: that is what the store verifies at once.
            stop = min(end, start - start % SEGMENT + SEGMENT)
            first = start // SECTOR
            try:
                chunks = self._read_chunks(self._submission.seq, first, -(-stop // SECTOR))
            except StorageError as error:
                # Damaged (it may be repaired), not storable, or gone with a reorganisation.
                raise Unavailable(error.message) from error
            if chunks is None:
                segment = first // SEGMENT_SECTORS
                raise Unavailable(f"segment {segment} of submission {self._submission.seq} is not here")
            piece = bytes(chunks[start - first * SECTOR : stop - first * SECTOR])
            if len(piece) != stop - start:
                raise StorageError(
                    f"submission {self._submission.seq} gave {len(piece)} of {stop - start} bytes"
                )
            pieces.append(piece)
            start = stop
        return b"".join(pieces)
