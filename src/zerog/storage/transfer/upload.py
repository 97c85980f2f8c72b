"""Uploads: segments with their proofs to every node that keeps them, in parallel."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from zerog.errors import StorageError, TransportError
from zerog.storage import layout
from zerog.storage.transfer.nodes import BATCH, NodeFile, NodeRefused, StorageNode, patiently
from zerog.storage.transfer.source import Counter, FileSource, Source
from zerog.storage.values import FileProof, Segment, ShardConfig

CONNECTIONS = 2
"""Connections to each node."""


@dataclass(frozen=True, slots=True)
class Receiver:
    """A node that an upload goes to."""

    node: StorageNode
    shard: ShardConfig


class NodeFailed(StorageError):
    """A node could not take an upload; ``url`` names it. Another node may be used in its place."""

    def __init__(self, url: str, message: str) -> None:
        super().__init__(message)
        self.url = url


def await_submission(
    receiver: Receiver, seq: int, root: bytes, timeout: float, pause: Callable[[float], object] = time.sleep
) -> NodeFile:
    """Waits until a node has seen a submission; raises `NodeFailed` that says how far it is."""
    node, deadline, wait = receiver.node, time.monotonic() + timeout, 0.005
    while True:
        try:
            file = patiently(lambda: node.file_by_seq(seq), deadline=deadline)
        except (TransportError, NodeRefused, StorageError) as error:
            raise NodeFailed(node.url, str(error)) from None
        if file is not None:
            if file.root != root:
                raise NodeFailed(
                    node.url, f"{node.url} has another file as submission {seq}: it follows another chain"
                )
            return file
        if time.monotonic() > deadline:
            raise NodeFailed(
                node.url, f"{node.url} has not seen submission {seq} after {timeout:g} s{_sync(node)}"
            )
        pause(wait)
        wait = min(0.5, wait * 1.5)


def _sync(node: StorageNode) -> str:
    with suppress(StorageError, NodeRefused, TransportError):
        status = node.status(fresh=True)
        return f": it is at block {status.sync_height} and expects submission {status.next_seq} next"
    return ""


def own_segments(file: NodeFile, shard: ShardConfig) -> list[int]:
    """Segments of a file that a node keeps."""
    first = file.start // layout.SEGMENT_SECTORS
    skip = (shard.id - first) % shard.shards
    return list(range(skip, layout.segments(file.size), shard.shards))


class Upload:
    """One file on its way to some nodes."""

    def __init__(
        self, source: Source, tree: Any, receivers: Sequence[Receiver], *, counter: Counter, timeout: float
    ) -> None:
        """``timeout`` in seconds for each wait: that a node sees the submission, that the file is final."""
        self._source, self._tree, self._receivers = source, tree, receivers
        self._counter, self._timeout = counter, timeout
        self._stop = threading.Event()

    def run(self, seq: int) -> None:
        """Uploads to all receivers; raises `NodeFailed`."""
        for receiver in self._receivers:
            self._run_node(receiver, seq)

    def _run_node(self, receiver: Receiver, seq: int) -> None:
        file = await_submission(receiver, seq, self._tree.root, self._timeout)
        own = own_segments(file, receiver.shard)
        if file.pruned:
            raise NodeFailed(receiver.node.url, f"{receiver.node.url} has dropped 0x{self._tree.root.hex()}")
        if file.finalized or not own:
            self._counter.add(self._bytes(own))
            return
        if self._send(receiver, seq, own):
            return
        if self._final(receiver, seq, 2.0):
            return
        # Everything was acknowledged and yet the node lacks something: once more.
        if not self._send(receiver, seq, own, count=False) and not self._final(receiver, seq, self._timeout):
            raise NodeFailed(
                receiver.node.url,
                f"{receiver.node.url} took all segments of 0x{self._tree.root.hex()}, "
                f"but the file is not final after {self._timeout:g} s",
            )

    def _final(self, receiver: Receiver, seq: int, timeout: float) -> bool:
        deadline, pause = time.monotonic() + timeout, 0.01
        while True:
            try:
                file = patiently(lambda: receiver.node.file_by_seq(seq))
            except (TransportError, NodeRefused, StorageError) as error:
                raise NodeFailed(receiver.node.url, str(error)) from None
            if file is not None and file.finalized:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(pause)
            pause = min(0.5, pause * 1.5)

    def _send(self, receiver: Receiver, seq: int, indexes: list[int], *, count: bool = True) -> bool:
        """Hands segments over, in several connections; whether the node calls the file final."""
        batch = BATCH if receiver.node.binary else 4
        work: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        for at in range(0, len(indexes), batch):
            work.put(indexes[at : at + batch])
        final, failures = threading.Event(), list[BaseException]()

        def run() -> None:
            buffer = memoryview(bytearray(batch * layout.SEGMENT))
            try:
                while not self._stop.is_set() and not failures and not final.is_set():
                    try:
                        part = work.get_nowait()
                    except queue.Empty:
                        return
                    segments = self._segments(part, buffer)
                    if patiently(partial(receiver.node.upload, seq, segments), pause=self._stop.wait):
                        final.set()
                    if count:
                        self._counter.add(self._bytes(part))
            except BaseException as error:
                failures.append(error)

        threads = [
            threading.Thread(target=run, daemon=True, name=f"upload-{number}")
            for number in range(min(CONNECTIONS, -(-len(indexes) // batch)))
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.5)
        except BaseException:
            self._stop.set()
            receiver.node.close()
            raise
        if failures and not final.is_set():
            raise self._explained(receiver.node, failures[0])
        return final.is_set()

    def _explained(self, node: StorageNode, failure: BaseException) -> BaseException:
        if isinstance(failure, NodeRefused):
            if isinstance(self._source, FileSource) and not self._source.unchanged():
                return StorageError(f"{self._source.path} was changed during the upload", hint="run it again")
            return NodeFailed(node.url, str(failure))
        if isinstance(failure, TransportError):
            return NodeFailed(node.url, failure.message)
        return failure

    def _segments(self, indexes: Sequence[int], buffer: memoryview) -> list[Segment]:
        """Segments as they travel, read into ``buffer``; the last chunk is filled with zeros."""
        segments, at = [], 0
        size, root = self._source.size, self._tree.root
        for index in indexes:
            length = min(layout.SEGMENT, size - index * layout.SEGMENT)
            whole = layout.segment_chunks(size, index) * layout.SECTOR
            view = buffer[at : at + whole]
            self._source.read_into(index * layout.SEGMENT, view[:length])
            view[length:] = bytes(whole - length)
            lemma, path = self._tree.proof(index)
            segments.append(Segment(root, index, view, FileProof(tuple(lemma), tuple(path)), size))
            at += whole
        return segments

    def _bytes(self, indexes: Sequence[int]) -> int:
        return sum(min(layout.SEGMENT, self._source.size - index * layout.SEGMENT) for index in indexes)
