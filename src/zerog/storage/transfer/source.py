"""What is uploaded: a file, bytes, a part of either, or one of them encrypted. Read in blocks, never mapped.

Every source is read at any offset by several threads; the file may be larger than memory.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from zerog.errors import StorageError, native_errors
from zerog.storage import layout
from zerog.storage.transfer.encryption import Cipher, Encryption

BLOCK = 4 << 20
"""Bytes read at a time."""
Progress = Callable[[int], None]
"""Is told how many bytes are done; may raise to cancel."""


class Source(Protocol):
    """Bytes of known size."""

    name: str
    size: int

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fills ``view`` from ``offset``; raises `StorageError` when the bytes are not there (any more)."""
        ...

    def tree(self, progress: Progress | None = None) -> Any:
        """The Merkle tree (`zerog._native.FileTree`)."""
        ...

    def close(self) -> None:
        """Gives the file back."""
        ...


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes | bytearray | memoryview, name: str = "data") -> None:
        self._data = memoryview(data).cast("B")
        self.name = name
        self.size = len(self._data)

    def read_into(self, offset: int, view: memoryview) -> None:
        view[:] = self._data[offset : offset + len(view)]

    def tree(self, progress: Progress | None = None) -> Any:
        from zerog._native import FileTree

        with native_errors():
            return FileTree.from_bytes(self._data)

    def close(self) -> None:
        return None


class FileSource:
    """A file on disk, or ``length`` bytes of it from ``offset``."""

    def __init__(self, path: Path, *, temporary: bool = False, name: str | None = None) -> None:
        self.path = path
        self.name = name or path.name
        self._temporary = temporary
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from None
        state = os.fstat(self._fd)
        if not os.path.isfile(path):  # noqa: PTH113
            os.close(self._fd)
            raise StorageError(f"{path} is not a regular file")
        self.size = state.st_size
        self._stamp = state.st_mtime_ns, state.st_size

    def read_into(self, offset: int, view: memoryview) -> None:
        got = 0
        while got < len(view):
            count = os.preadv(self._fd, [view[got:]], offset + got)
            if not count:
                raise StorageError(f"{self.path} became shorter during the upload")
            got += count

    def unchanged(self) -> bool:
        """Whether size and time are those of the beginning."""
        state = os.fstat(self._fd)
        return (state.st_mtime_ns, state.st_size) == self._stamp

    def tree(self, progress: Progress | None = None) -> Any:
        from zerog._native import FileTree

        with native_errors():
            return FileTree.from_file(str(self.path), 0, self.size, 0, progress)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self._temporary:
                self.path.unlink(missing_ok=True)


class PartSource:
    """A part of another source: one fragment."""

    def __init__(self, whole: Source, offset: int, size: int) -> None:
        self._whole = whole
        self._offset = offset
        self.size = size
        self.name = whole.name

    def read_into(self, offset: int, view: memoryview) -> None:
        self._whole.read_into(self._offset + offset, view)

    def tree(self, progress: Progress | None = None) -> Any:
        if isinstance(self._whole, FileSource):
            from zerog._native import FileTree

            with native_errors():
                return FileTree.from_file(str(self._whole.path), self._offset, self.size, 0, progress)
        return built_tree(self, progress)

    def close(self) -> None:
        self._whole.close()


class EncryptedSource:
    """Another source, encrypted: its header, then its bytes under the cipher."""

    def __init__(self, plain: Source, encryption: Encryption, progress: Progress | None = None) -> None:
        self._plain = plain
        self.cipher: Cipher = encryption.begin(plain.tree(progress).root)
        self.name = plain.name
        self.size = plain.size + len(self.cipher.header)

    def read_into(self, offset: int, view: memoryview) -> None:
        header = self.cipher.header
        if offset < len(header):
            head = header[offset : offset + len(view)]
            view[: len(head)] = head
            offset, view = len(header), view[len(head) :]
        if len(view):
            at = offset - len(header)
            self._plain.read_into(at, view)
            self.cipher.apply(at, view, view)

    def tree(self, progress: Progress | None = None) -> Any:
        return built_tree(self, progress)

    def close(self) -> None:
        self._plain.close()


def built_tree(source: Source, progress: Progress | None = None) -> Any:
    """The tree of a source that is read block by block."""
    from zerog._native import FileTreeBuilder

    buffer = memoryview(bytearray(min(BLOCK, source.size)))
    with native_errors():
        builder = FileTreeBuilder(source.size)
        for offset in range(0, source.size, BLOCK):
            block = buffer[: min(BLOCK, source.size - offset)]
            source.read_into(offset, block)
            builder.update(block)
            if progress is not None:
                progress(offset + len(block))
        return builder.finish()


def source_of(content: Path | str | bytes | bytearray | memoryview | BinaryIO) -> Source:
    """A source for a path, bytes, or an open binary file (which is copied to a temporary one).

    Raises
    ------
    StorageError : it cannot be read, or is empty: the format has no empty files.
    """
    source: Source
    if isinstance(content, str | Path):
        source = FileSource(Path(content))
    elif isinstance(content, bytes | bytearray | memoryview):
        source = BytesSource(content)
    else:
        source = _spooled(content)
    if not 1 <= source.size <= layout.MAX_FILE_SIZE:
        source.close()
        raise StorageError(
            f"{source.name} is empty: the storage format has no files of 0 bytes"
            if not source.size
            else f"{source.name} has {source.size} bytes; at most {layout.MAX_FILE_SIZE} can be stored"
        )
    return source


def _spooled(file: BinaryIO) -> Source:
    handle, name = tempfile.mkstemp(prefix="zerog-put-")
    try:
        with os.fdopen(handle, "wb") as copy:
            shutil.copyfileobj(file, copy, BLOCK)
        label = getattr(file, "name", None)
        return FileSource(Path(name), temporary=True, name=label if isinstance(label, str) else "stream")
    except (OSError, io.UnsupportedOperation, StorageError):
        Path(name).unlink(missing_ok=True)
        raise


class Counter:
    """Adds up the progress of several threads and passes it on."""

    def __init__(self, report: Progress | None) -> None:
        self._report = report
        self._lock = threading.Lock()
        self.done = 0

    def add(self, count: int) -> None:
        """Adds bytes; what the receiver raises comes through."""
        with self._lock:
            self.done += count
            if self._report is not None:
                self._report(self.done)
