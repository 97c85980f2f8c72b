"""Whether a file is the weights that an identity names, at the price of one look when nothing changed.

Hashing a file takes a quarter of a second per 100 MB, too long for every start. The result is kept with
the file's size, times and inode; while these agree, the file counts as the one that was hashed. Whoever
suspects more than an accident asks for ``always``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError, StorageError
from zerog.inference.weights import cache_folder

Progress = Callable[[str, int, int], None]
"""Called with stage ("hash", "copy", …), bytes done, bytes in total."""


class Stamp(msgspec.Struct, frozen=True):
    """How a file looked when its root was computed."""

    path: str
    size: int
    modified_ns: int
    changed_ns: int
    device: int
    inode: int


class _Hashed(msgspec.Struct, frozen=True):
    stamp: Stamp
    root: str


def stamp_of(path: Path) -> Stamp:
    """How a file looks now.

    Raises
    ------
    InferenceError : it is not there, or no plain file.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise InferenceError(f"there are no weights at {path}: {error.strerror}") from None
    if not path.is_file():
        raise InferenceError(f"there are no weights at {path}: it is no file")
    return Stamp(
        str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_dev, state.st_ino
    )


def root_of(path: Path, progress: Progress | None = None, *, always: bool = False) -> bytes:
    """The storage root of a file: the known one if it looks unchanged, else computed.

    Parameters
    ----------
    always : compute it in any case.

    Raises
    ------
    InferenceError : the file cannot be read, or changes while it is read.
    """
    stamp = stamp_of(path)
    if not always and (known := _known(stamp)) is not None:
        return known
    root = _computed(path, stamp.size, progress)
    if stamp_of(path) != stamp:
        raise InferenceError(f"{path} changes while it is read")
    _keep(stamp, root)
    return root


def require_root(path: Path, wanted: str, name: str, progress: Progress | None = None) -> Stamp:
    """How the file looked when it was found to be the weights of model ``name``.

    Parameters
    ----------
    wanted : weights root, 0x-hexadecimal.

    Raises
    ------
    InferenceError : it is another file, or an altered one.
    """
    stamp = stamp_of(path)
    found = "0x" + root_of(path, progress).hex()
    if found != wanted:
        raise InferenceError(
            f"{path} is not the weights of {name}: its root is {found} instead of {wanted}",
            hint="it is another file or was altered; get it again, or add it under its own identity: zerog models add",
        )
    return stamp


def _computed(path: Path, size: int, progress: Progress | None) -> bytes:
    from zerog.storage.transfer.source import FileSource

    try:
        source = FileSource(path)
        try:
            tree = source.tree(None if progress is None else lambda done: progress("hash", done, size))
        finally:
            source.close()
    except StorageError as error:
        raise InferenceError(f"the weights at {path} cannot be read: {error.message}") from None
    root: bytes = tree.root
    return root


def _place(stamp: Stamp) -> Path:
    return cache_folder().parent / "stamps" / f"{keccak256(stamp.path.encode()).hex()[:32]}.json"


def _known(stamp: Stamp) -> bytes | None:
    try:
        kept = msgspec.json.decode(_place(stamp).read_bytes(), type=_Hashed)
        return bytes.fromhex(kept.root) if kept.stamp == stamp else None
    except (OSError, ValueError, msgspec.MsgspecError):
        return None  # Never hashed, or the note is damaged: hash again.


def _keep(stamp: Stamp, root: bytes) -> None:
    # A cache that cannot be written costs time, nothing else.
    with suppress(OSError):
        write_whole(_place(stamp), msgspec.json.encode(_Hashed(stamp, root.hex())))


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that at any time it is whole, the old one or the new one; raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
