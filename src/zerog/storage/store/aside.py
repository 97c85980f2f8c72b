"""Received data of reverted submissions, kept for the case that their roots come again.

One file per segment, a transfer frame with its proof: what is in it is only ever used through the checks of a
segment that arrives from outside. A file gets its name when it is written to the end, so that no kill leaves half
of one under a name that counts as kept. Bounded; what does not fit is fetched again.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

from zerog.errors import SegmentRefused
from zerog.storage import frame
from zerog.storage.values import Segment

LIMIT = 100 << 20
"""Bytes kept aside, at most."""
_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{8}\.frame")
"""Names of complete files; everything else in the directory is a remainder."""


class Aside:
    """The directory of kept segments. Any thread may call anything."""

    def __init__(self, directory: Path, limit: int = LIMIT) -> None:
        self.directory = directory
        self.limit = limit
        self._lock = threading.Lock()
        self._roots: dict[str, dict[str, int]] = {}
        """By root: the names of its files and their sizes."""
        directory.mkdir(exist_ok=True)
        for path in directory.iterdir():
            if _NAME.fullmatch(path.name):
                self._roots.setdefault(path.name[:64], {})[path.name] = path.stat().st_size
            else:
                path.unlink()
        self._used = sum(size for files in self._roots.values() for size in files.values())

    def keep(self, segment: Segment) -> bool:
        """Keeps a segment; false when there is no room for it (also on the disk)."""
        pieces = frame.encode(segment.root, segment.file_size, [segment])
        size = sum(len(piece) for piece in pieces)
        root = segment.root.hex()
        name = f"{root}-{segment.index:08x}.frame"
        with self._lock:
            files = self._roots.get(root, {})
            if self._used - files.get(name, 0) + size > self.limit:
                return False
            # What has the name already may be damaged: it is replaced, the bytes at hand were just checked.
            part = self.directory / f"{name}.part"
            try:
                with part.open("wb") as file:
                    file.writelines(pieces)
                part.replace(self.directory / name)
            except OSError:
                with contextlib.suppress(OSError):
                    part.unlink()
                return False
            self._used += size - files.get(name, 0)
            self._roots.setdefault(root, {})[name] = size
        return True

    def roots(self) -> set[bytes]:
        """Roots of which something is kept."""
        with self._lock:
            return {bytes.fromhex(root) for root in self._roots}

    def segments(self, root: bytes) -> Iterator[Segment]:
        """What is kept of a root; damaged files are skipped."""
        with self._lock:
            names = sorted(self._roots.get(root.hex(), ()))
        for name in names:
            with contextlib.suppress(SegmentRefused, OSError):
                yield from frame.decode((self.directory / name).read_bytes())

    def drop(self, root: bytes, keep: Collection[int] = ()) -> None:
        """Removes what is kept of a root, but for the segments in ``keep``."""
        kept = {f"{root.hex()}-{index:08x}.frame" for index in keep}
        with self._lock:
            files = self._roots.pop(root.hex(), {})
            rest = {name: size for name, size in files.items() if name in kept}
            if rest:
                self._roots[root.hex()] = rest
            for name in files.keys() - rest.keys():
                with contextlib.suppress(OSError):
                    (self.directory / name).unlink()
                self._used -= files[name]
