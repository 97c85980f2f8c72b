"""The bytes of stored files, segment by segment: from the own store, else from a peer, always checked."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from zerog.errors import DataDamaged, DataUnavailable
from zerog.storage.layout import SEGMENT, SEGMENT_SECTORS
from zerog.storage.peers import Peers
from zerog.storage.values import FileState, ShardConfig, Submission

AHEAD = 4
"""Segments that are read before they are needed."""


class GatewayStore(Protocol):
    """What the gateway asks of the store (`FlowStore`)."""

    @property
    def shard(self) -> ShardConfig: ...
    def submission(self, seq: int) -> Submission | None: ...
    def seqs_of(self, root: bytes) -> list[int]: ...
    def find(self, root: bytes, need_available: bool) -> int | None: ...
    def state(self, seq: int) -> FileState: ...
    def read_segment(self, seq: int, index: int) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class _Piece:
    submission: Submission
    index: int
    start: int
    end: int


class Source:
    """Reads submissions; see the module's docstring."""

    def __init__(self, store: GatewayStore, peers: Peers) -> None:
        self._store = store
        self._peers = peers

    async def segment(self, submission: Submission, index: int) -> bytes:
        """A segment as it travels; raises `DataUnavailable` when nobody has it."""
        data = None
        if self._store.shard.owns(submission.start // SEGMENT_SECTORS + index):
            try:
                data = await asyncio.to_thread(self._store.read_segment, submission.seq, index)
            except DataDamaged:
                # The store has marked it; the peers repair it, and serve it meanwhile.
                data = None
        if data is None:
            data = await self._peers.fetch_segment(submission, index)
        if data is None:
            raise DataUnavailable(f"segment {index} of submission {submission.seq} is nowhere to be found")
        return data

    async def read(
        self, parts: Sequence[Submission], start: int, end: int
    ) -> AsyncGenerator[memoryview, None]:
        """Bytes ``[start, end)`` of files one after the other, a few segments ahead."""
        pieces = _pieces(parts, start, end)
        ahead: deque[tuple[_Piece, asyncio.Task[bytes]]] = deque()
        try:
            while True:
                while len(ahead) < AHEAD and (piece := next(pieces, None)) is not None:
                    task = asyncio.create_task(self.segment(piece.submission, piece.index))
                    ahead.append((piece, task))
                if not ahead:
                    return
                piece, task = ahead[0]
                data = await task
                ahead.popleft()
                yield memoryview(data)[piece.start : piece.end]
        finally:
            for _, task in ahead:
                task.cancel()
            await asyncio.gather(*(task for _, task in ahead), return_exceptions=True)

    async def whole(self, submission: Submission) -> bytes:
        """A small file; the caller has checked its size."""
        return b"".join([bytes(piece) async for piece in self.read([submission], 0, submission.size)])


def _pieces(parts: Sequence[Submission], start: int, end: int) -> Iterator[_Piece]:
    offset = 0
    for submission in parts:
        low, high = max(start - offset, 0), min(end - offset, submission.size)
        offset += submission.size
        position = low
        while position < high:
            index, within = divmod(position, SEGMENT)
            until = min(high, (index + 1) * SEGMENT)
            yield _Piece(submission, index, within, within + until - position)
            position = until


__all__ = ["GatewayStore", "Source"]
