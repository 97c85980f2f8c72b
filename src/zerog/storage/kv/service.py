"""The KV layer as a service of a node: replay in a thread, notifications, and the JSON-RPC methods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zerog.storage.kv.api import METHODS, Caller, KvApi
from zerog.storage.kv.content import NodeKey, ReadChunks
from zerog.storage.kv.replay import GIVE_UP_AFTER, FlowReader, Replay
from zerog.storage.kv.store import KvStore
from zerog.storage.kv.watch import Watches

Handler = Callable[[Any], Awaitable[Any]]
INDEX = "kv.sqlite"


class _Nobody:
    agent: str | None = None
    push = None


def nobody() -> Caller:
    """A caller inside the process."""
    return _Nobody()


class KvService:
    """Answers ``kv_*`` and follows a flow.

    Parameters
    ----------
    flow : the submissions; whoever owns it calls `wake` and `reverted`.
    read_chunks : content by ``(seq, first chunk, end chunk)``, ``None`` for what is not here. On a node that keeps
        one shard only, it fetches the rest from other nodes.
    directory : where the index lies; ``None`` keeps it in memory.
    streams : stream ids to follow, ``None`` for all.
    chain_id : of the chain that the flow belongs to.
    caller : who makes the call that is being answered.
    """

    name = "kv"

    def __init__(
        self,
        flow: FlowReader,
        read_chunks: ReadChunks,
        *,
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
        self.replay = Replay(
            flow,
            self.store,
            read_chunks,
            streams=streams,
            key=key,
            give_up_after=give_up_after,
            on_change=self.watches.changed,
        )
        self._api = KvApi(flow, self.replay, self.watches, chain_id=chain_id, caller=caller)

    def methods(self) -> Mapping[str, Handler]:
        """All ``kv_*`` methods with their aliases, and ``admin_addStream``."""
        handlers: dict[str, Handler] = {}
        for name in METHODS.names():
            method = METHODS.get(name)
            assert method is not None
            handlers[name] = partial(method, self._api)
        return handlers

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
