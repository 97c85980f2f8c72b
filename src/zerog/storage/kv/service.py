"""The KV layer as a service of a node: replay in a thread, notifications, and the JSON-RPC methods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from zerog.storage.kv.api import METHODS, Caller, KvApi
from zerog.storage.kv.content import NodeKey, ReadChunks
from zerog.storage.kv.replay import GIVE_UP_AFTER, FlowReader, Replay
from zerog.storage.kv.store import KvStore
from zerog.storage.kv.watch import Watches
from zerog.storage.values import Submission

Handler = Callable[[Any], Awaitable[Any]]
INDEX = "kv.sqlite"


class _Nobody:
    agent: str | None = None
    push = None


def nobody() -> Caller:
    """A caller inside the process."""
    return _Nobody()


class Flow(FlowReader, Protocol):
    """What the KV layer reads of a node's store (`zerog.storage.store.FlowStore`)."""

    def read_chunks(self, seq: int, start: int, end: int) -> bytes | memoryview | None:
        """Content; ``None`` when some of it is not here."""
        ...


class _LateFlow:
    """A flow that is opened later: empty until then."""

    def __init__(self, flow: Flow | None) -> None:
        self.flow = flow

    def next_seq(self) -> int:
        return 0 if self.flow is None else self.flow.next_seq()

    def submission(self, seq: int) -> Submission | None:
        return None if self.flow is None else self.flow.submission(seq)

    def submissions(self, first: int, limit: int) -> list[Submission]:
        return [] if self.flow is None else self.flow.submissions(first, limit)

    def read_chunks(self, seq: int, start: int, end: int) -> bytes | memoryview | None:
        return None if self.flow is None else self.flow.read_chunks(seq, start, end)


class KvService:
    """Answers ``kv_*`` and follows a flow.

    Parameters
    ----------
    flow : the submissions and their data; whoever owns it calls `wake` and `reverted`. ``None``: it comes with
        `attach`.
    read_chunks : instead of the flow's own, where that does not have everything: a node that keeps one shard
        only fetches the rest from other nodes.
    directory : where the index lies; ``None`` keeps it in memory.
    streams : stream ids to follow, ``None`` for all.
    chain_id : of the chain that the flow belongs to.
    caller : who makes the call that is being answered.
    """

    name = "kv"

    def __init__(
        self,
        flow: Flow | None = None,
        *,
        read_chunks: ReadChunks | None = None,
        directory: Path | None = None,
        durable: bool = False,
        streams: Sequence[bytes] | None = None,
        chain_id: Callable[[], int],
        caller: Callable[[], Caller] = nobody,
        key: NodeKey | None = None,
        give_up_after: float = GIVE_UP_AFTER,
    ) -> None:
        self.store = KvStore(None if directory is None else directory / INDEX, durable=durable)
        self.watches = Watches(self.store)
        self._flow = _LateFlow(flow)
        self.replay = Replay(
            self._flow,
            self.store,
            read_chunks or self._flow.read_chunks,
            streams=streams,
            key=key,
            give_up_after=give_up_after,
            on_change=self.watches.changed,
        )
        if flow is not None:
            self.replay.recheck()
        self._api = KvApi(self._flow, self.replay, self.watches, chain_id=chain_id, caller=caller)

    def methods(self) -> Mapping[str, Handler]:
        """All ``kv_*`` methods with their aliases, and ``admin_addStream``."""
        handlers: dict[str, Handler] = {}
        for name in METHODS.names():
            method = METHODS.get(name)
            assert method is not None
            handlers[name] = partial(method, self._api)
        return handlers

    def attach(self, flow: Flow) -> None:
        """The flow was opened, or opened anew; any thread."""
        self._flow.flow = flow
        self.replay.recheck()

    def wake(self) -> None:
        """The flow has something new; any thread."""
        self.replay.wake()

    def reverted(self, first_seq: int) -> None:
        """The flow dropped submissions from ``first_seq`` on; any thread."""
        self.replay.reverted(first_seq)

    async def run(self) -> None:
        """Replays and notifies until cancelled."""
        self.replay.rearm()
        notifying = asyncio.create_task(self.watches.run())
        replaying = asyncio.create_task(asyncio.to_thread(self.replay.run))
        try:
            done, _ = await asyncio.wait((notifying, replaying), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self.replay.stop()
            notifying.cancel()
            await asyncio.gather(notifying, replaying, return_exceptions=True)

    def close(self) -> None:
        """Gives the index back; after `run`."""
        self.store.close()
