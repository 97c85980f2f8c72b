"""Large files pass through the page cache instead of filling it.

What is written stays in memory until the kernel writes it back, what is read stays for the next reader. Nobody reads
the beginning of a file of gigabytes soon, yet its pages push out everything else, cost more than pages that are used
again, and from a fifth of memory on writers stand still until the disk has caught up. So the disk starts at once
here, and what lies `KEPT` bytes back is given free, unless it was in memory before it was read. A file smaller than
that stays in memory as ever. Contents are not touched; a platform without these calls does as it always did.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress

WINDOW = 8 << 20
"""Bytes that are handled together."""
KEPT = 64 << 20
"""Bytes that stay in memory behind the writers, and behind the readers, of a file."""
_KNOWN = 256
"""Windows of which something is remembered, at most."""
_AHEAD = 2
"""Windows between a reader and the one that is looked at: farther than the kernel reads ahead."""


class WriteBehind:
    """Follows the writes to one file. Thread-safe."""

    def __init__(self, file: int) -> None:
        """``file`` is the descriptor; it stays the caller's."""
        self._file = file
        self._lock = threading.Lock()
        self._windows = _Windows()

    def wrote(self, offset: int, length: int) -> None:
        """Bytes were written. May wait for a disk that is far behind."""
        with self._lock:
            full, old = self._windows.add(offset, length)
        # The first time it starts to write the pages, the second time it lets go of those that are written.
        for number in (*full, *old):
            _let_go(self._file, number)


class ReadBehind:
    """Follows the reads of one file. Thread-safe."""

    def __init__(self, file: int) -> None:
        """``file`` is the descriptor; it stays the caller's."""
        self._file = file
        self._lock = threading.Lock()
        self._windows = _Windows()
        self._cold: dict[int, bool] = {}
        """Whether a window was on the disk alone before it was read."""

    def reads(self, offset: int) -> None:
        """Bytes from ``offset`` on are about to be read."""
        number = offset // WINDOW
        if number in self._cold and number + _AHEAD in self._cold:
            return
        with self._lock:
            for looked in (number, number + _AHEAD):
                if looked not in self._cold:
                    self._cold[looked] = _on_disk_alone(self._file, looked)
            while len(self._cold) > _KNOWN:
                del self._cold[next(iter(self._cold))]

    def read(self, offset: int, length: int) -> None:
        """Bytes were read."""
        with self._lock:
            _, old = self._windows.add(offset, length)
            gone = [number for number in old if self._cold.pop(number, False)]
        for number in gone:
            _let_go(self._file, number)


class _Windows:
    """Which windows were gone through as a whole."""

    def __init__(self) -> None:
        self._filling: dict[int, int] = {}
        self._full: dict[int, None] = {}

    def add(self, offset: int, length: int) -> tuple[list[int], list[int]]:
        """Notes bytes; the windows that are full by them, and those that are `KEPT` bytes back by now."""
        end, full = offset + length, list[int]()
        while offset < end:
            number = offset // WINDOW
            step = min(end, (number + 1) * WINDOW) - offset
            filled = self._filling.pop(number, 0) + step
            if filled < WINDOW:
                self._filling[number] = filled
            elif number not in self._full:
                full.append(number)
                self._full[number] = None
            offset += step
        while len(self._filling) > _KNOWN:
            # Left to the kernel.
            del self._filling[next(iter(self._filling))]
        old = list(self._full)[: max(0, len(self._full) - KEPT // WINDOW)]
        for number in old:
            del self._full[number]
        return full, old


def _on_disk_alone(file: int, number: int) -> bool:
    """Whether the last bytes of a window are not in memory; what cannot be told counts as no."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    try:
        os.preadv(file, [bytearray(1)], (number + 1) * WINDOW - 1, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _let_go(file: int, number: int) -> None:
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(file, number * WINDOW, WINDOW, os.POSIX_FADV_DONTNEED)
