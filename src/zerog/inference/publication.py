"""Where transcripts and weights can be had by anyone: our storage, under their Merkle roots.

A receipt names the root of its transcript (``dataRoot``), a model the root of its weights
(``weightsRoot``). Whoever fetches either needs to trust no node: every segment comes with a proof that
ends in the root::

    store = StorageTranscripts(client.storage)
    root = store.publish(transcript.canonical_bytes())
    assert store.fetch(root, limit=MAX_CANONICAL) == transcript.canonical_bytes()
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from zerog.errors import DataUnavailable, InferenceError, StorageError, UnknownFile

log = logging.getLogger("zerog.inference")

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)`` in bytes."""


class Roots(Protocol):
    """Knows where bytes will be found."""

    def root_of(self, data: bytes) -> bytes:
        """The root, 32 bytes, under which ``data`` will be found; nothing is stored."""


class TranscriptStore(Roots, Protocol):
    """A place for published bytes."""

    def publish(self, data: bytes) -> bytes:
        """Stores ``data``; returns its root when the store has all of it for good.

        Raises
        ------
        ZerogError : it could not be stored; the same call goes on where it stopped.
        """

    def fetch(self, root: bytes, limit: int) -> bytes | None:
        """The bytes under a root, proven; ``None`` when they cannot be had or are more than ``limit``."""


class Later:
    """Says where bytes will be found that are published only when somebody needs them."""

    def root_of(self, data: bytes) -> bytes:
        """See `TranscriptStore.root_of`."""
        return data_root(data)


def data_root(data: bytes) -> bytes:
    """The storage root of bytes, 32 bytes."""
    from zerog.storage.transfer.source import BytesSource

    root: bytes = BytesSource(data).tree().root
    return root


class Files(Protocol):
    """What is needed of `zerog.client.Storage`."""

    def put(self, content: Any, *, progress: Progress | None = None) -> Any: ...

    def read(self, root: bytes, *, limit: int) -> bytes: ...

    def get(self, root: bytes, path: Path, *, progress: Progress | None = None) -> Path: ...

    def info(self, root: bytes) -> Any: ...


class StorageTranscripts:
    """A `TranscriptStore` on a storage network; ``files`` pays for what is published."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def warm(self) -> None:
        """Waits until the storage answers, so that the first answer need not."""
        self.has(bytes(32))

    def root_of(self, data: bytes) -> bytes:
        """See `TranscriptStore.root_of`."""
        return data_root(data)

    def publish(self, data: bytes) -> bytes:
        """See `TranscriptStore.publish`. Paid for once; bytes that are there already cost nothing."""
        return bytes.fromhex(self._files.put(data).root[2:])

    def fetch(self, root: bytes, limit: int) -> bytes | None:
        """See `TranscriptStore.fetch`.

        Raises
        ------
        StorageError, TransportError : no storage node answers, which says nothing about the data.
        """
        try:
            if self._files.info(root).size > limit:
                log.warning("0x%s is larger than %d bytes: not fetched", root.hex(), limit)
                return None
            return self._files.read(root, limit=limit)
        except (UnknownFile, DataUnavailable):
            return None

    def has(self, root: bytes) -> bool:
        """Whether all of a file is there."""
        try:
            return bool(self._files.info(root).finalized)
        except UnknownFile:
            return False

    def publish_weights(self, root: bytes, path: Path, progress: Progress | None = None) -> None:
        """Stores a model's weights, unless they are there.

        Raises
        ------
        InferenceError : the file has another root than ``root``.
        StorageError : it could not be stored.
        """
        if self.has(root):
            return
        if (found := weights_root(path)) != root:
            raise InferenceError(f"{path} has the root 0x{found.hex()}, not 0x{root.hex()}")
        self._files.put(path, progress=progress)

    def weights(self, root: bytes, target: Path, progress: Progress | None = None) -> Path:
        """Downloads the weights with that root to ``target``, every segment proven, and goes on where
        an interrupted download stopped.

        Raises
        ------
        InferenceError : nobody has them, or not all of them.
        """
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return self._files.get(root, target, progress=progress)
        except OSError as error:
            raise InferenceError(f"cannot write {target}: {error.strerror}") from None
        except StorageError as error:
            raise InferenceError(f"the weights 0x{root.hex()} cannot be had: {error.message}") from None


def weights_root(path: Path) -> bytes:
    """The storage root of a file; raises `StorageError` when it cannot be read."""
    from zerog.storage.transfer.source import FileSource

    source = FileSource(path)
    try:
        root: bytes = source.tree().root
    finally:
        source.close()
    return root
