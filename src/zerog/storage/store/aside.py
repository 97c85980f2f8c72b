"""Received data of reverted submissions, kept for the case that their roots come again.

One file per segment, a transfer frame with its proof: what is in it is only ever used through the checks of a
segment that arrives from outside, so that nothing here needs to be crash-safe. Bounded; what does not fit is
fetched again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from zerog.errors import SegmentRefused
from zerog.storage import frame
from zerog.storage.values import Segment

LIMIT = 100 << 20
"""Bytes kept aside, at most."""


class Aside:
    """The directory of kept segments."""

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self.directory = directory
        self.limit = limit
        directory.mkdir(exist_ok=True)
        self._used = sum(path.stat().st_size for path in directory.iterdir())

    def keep(self, segment: Segment) -> bool:
        """Keeps a segment; false when there is no room for it (also on the disk)."""
        pieces = frame.encode(segment.root, segment.file_size, [segment])
        size = sum(len(piece) for piece in pieces)
        if self._used + size > self.limit:
            return False
        path = self.directory / f"{segment.root.hex()}-{segment.index:08x}"
        if path.exists():
            return True
        try:
            with path.open("wb") as file:
                file.writelines(pieces)
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            return False
        self._used += size
        return True

    def roots(self) -> set[bytes]:
        """Roots of which something is kept."""
        names = (path.name.partition("-")[0] for path in self.directory.iterdir())
        return {bytes.fromhex(name) for name in names if len(name) == 64}

    def segments(self, root: bytes) -> Iterator[Segment]:
        """What is kept of a root; damaged files are skipped."""
        if not self._used:
            return
        for path in sorted(self.directory.glob(f"{root.hex()}-*")):
            with contextlib.suppress(SegmentRefused, OSError):
                yield from frame.decode(path.read_bytes())

    def drop(self, root: bytes) -> None:
        """Removes what is kept of a root."""
        if not self._used:
            return
        for path in self.directory.glob(f"{root.hex()}-*"):
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                path.unlink()
                self._used -= size
