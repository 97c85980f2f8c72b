"""The bytes of the flow: sparse files in the flow's own address space, one per 8 GiB (a pricing chunk).

Sector ``s`` stands at byte ``256 * (s % 2**25)`` of file ``s // 2**25``. What no row of the index calls present
means nothing here, whatever it is: a write that was not indexed, or a remainder of an earlier submission.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from pathlib import Path
from typing import Any

from zerog.errors import StorageError, StorageFull
from zerog.storage.layout import SECTOR
from zerog.storage.page_cache import ReadBehind, WriteBehind
from zerog.storage.store.index import is_full

FILE_SECTORS = 1 << 25
"""Sectors of one file: 8 GiB."""

_KEEP_SIZE, _PUNCH_HOLE = 1, 2


class SectorFiles:
    """Positioned reads and writes; any thread may call anything."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[int, int] = {}
        self._written: dict[int, WriteBehind] = {}
        self._read: dict[int, ReadBehind] = {}
        self._dirty: set[int] = set()
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        directory.mkdir(exist_ok=True)

    def path(self, sector: int) -> Path:
        """The file that holds a sector."""
        return self.directory / f"{sector // FILE_SECTORS:08d}.sectors"

    def _file(self, sector: int, *, create: bool) -> int | None:
        number = sector // FILE_SECTORS
        file = self._files.get(number)
        if file is not None:
            return file
        with self._lock:
            file = self._files.get(number)
            if file is None:
                flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
                try:
                    file = os.open(self.path(sector), flags, 0o644)
                except FileNotFoundError:
                    return None
                self._written[number], self._read[number] = WriteBehind(file), ReadBehind(file)
                self._files[number] = file
        return file

    def write(self, sector: int, data: bytes | memoryview) -> None:
        """Writes whole sectors; raises `StorageFull`, or `StorageError` for a failing disk. They may cross a file border."""
        view = memoryview(data)
        while view:
            room = (FILE_SECTORS - sector % FILE_SECTORS) * SECTOR
            piece = view[:room]
            try:
                file = self._file(sector, create=True)
                assert file is not None
                _write_all(file, piece, sector % FILE_SECTORS * SECTOR)
            except OSError as error:
                raise _failed(error) from error
            number = sector // FILE_SECTORS
            with self._lock:
                self._dirty.add(number)
            self._written[number].wrote(sector % FILE_SECTORS * SECTOR, len(piece))
            sector += len(piece) // SECTOR
            view = view[room:]

    def read(self, sector: int, length: int) -> bytes:
        """``length`` bytes from a sector on; fewer when the file ends before. Raises `OSError`."""
        pieces = []
        while length:
            piece = min(length, (FILE_SECTORS - sector % FILE_SECTORS) * SECTOR)
            file, data = self._file(sector, create=False), b""
            if file is not None:
                offset, behind = sector % FILE_SECTORS * SECTOR, self._read[sector // FILE_SECTORS]
                behind.reads(offset)
                data = os.pread(file, piece, offset)
                behind.read(offset, len(data))
            pieces.append(data)
            if len(data) < piece:
                break
            sector += piece // SECTOR
            length -= piece
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def sync(self) -> None:
        """Waits until everything written before is on the disk, new directory entries included."""
        # One at a time: whoever comes while another waits for the disk waits for the same bytes.
        with self._syncing:
            with self._lock:
                dirty, self._dirty = self._dirty, set()
            try:
                for number in dirty:
                    os.fdatasync(self._files[number])
                if dirty:
                    _sync_directory(self.directory)
            except OSError as error:
                with self._lock:
                    self._dirty |= dirty
                raise _failed(error) from error

    def punch(self, sector: int, sectors: int) -> None:
        """Gives sectors back to the disk where the platform can; they read as zeros or as before."""
        while sectors:
            piece = min(sectors, FILE_SECTORS - sector % FILE_SECTORS)
            file = self._file(sector, create=False)
            if file is not None:
                _punch(file, sector % FILE_SECTORS * SECTOR, piece * SECTOR)
            sector += piece
            sectors -= piece

    def close(self) -> None:
        """Closes the files."""
        with self._lock:
            for file in self._files.values():
                os.close(file)
            self._files.clear()


def _failed(error: OSError) -> StorageError:
    if is_full(error):
        return StorageFull(f"no room for data of the flow: {error}", hint="make room on the disk")
    return StorageError(
        f"data of the flow cannot be written: {error}", hint="look at the disk and at the system's log"
    )


def _write_all(file: int, view: memoryview, offset: int) -> None:
    while view:
        written = os.pwrite(file, view, offset)
        view = view[written:]
        offset += written


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _fallocate() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    with contextlib.suppress(OSError, AttributeError):
        function = ctypes.CDLL(None, use_errno=True).fallocate
        function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        return function
    return None


_FALLOCATE = _fallocate()


def _punch(file: int, offset: int, length: int) -> None:
    # A file system without holes keeps the bytes: a loss of room, nothing else.
    if _FALLOCATE is not None:
        _FALLOCATE(file, _PUNCH_HOLE | _KEEP_SIZE, offset, length)
