"""The KV layer as a service of a node: replay in a thread, notifications, and the JSON-RPC methods.

Its methods are known at once; the index opens in a thread when the service runs, and calls that come earlier wait
for it for a short time. ::

    service = KvService(flow, directory=Path("kv"), chain_id=lambda: 31337)
    service.methods()        # {"kv_getValue": …}
    await service.run()      # until cancelled
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zerog.errors import RpcError, StorageError

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from zerog.storage.kv.api import Caller, KvApi
    from zerog.storage.kv.content import Fetch, NodeKey
    from zerog.storage.kv.elsewhere import SharedContent
    from zerog.storage.kv.replay import Replay
    from zerog.storage.kv.store import KvStore
    from zerog.storage.kv.watch import Watches
    from zerog.storage.values import Submission

# Everything heavier loads with the index: a node must answer before that.

Handler = Callable[[Any], Awaitable[Any]]
INDEX = "kv.sqlite"
OPEN_LIMIT = 10.0
"""Seconds that a call waits for the index to open."""
SETTLE_LOOKS, SETTLE_PAUSE = 1000, 0.002
"""How often, and after how many seconds, a call looks whether a known reorganisation was applied."""
GIVE_UP_AFTER = 60.0
"""Seconds that replay waits for a content by default."""
THREADS = 8
METHODS = (
    "kv_getStatus",
    "kv_getValue",
    "kv_getNext",
    "kv_getPrev",
    "kv_getFirst",
    "kv_getLast",
    "kv_getTransactionResult",
    "kv_getHoldingStreamIds",
    "kv_getReplayProgress",
    "kv_hasWritePermission",
    "kv_isAdmin",
    "kv_IsAdmin",
    "kv_isSpecialKey",
    "kv_isWriterOfKey",
    "kv_isWriterOfStream",
    "kv_getAccessControl",
    "admin_addStream",
    "kv_getChanges",
    "kv_subscribe",
    "kv_unsubscribe",
)
"""The names stand here, too, because the table that holds the methods loads later; a test compares them."""


class _Nobody:
    agent: str | None = None
    push = None


def nobody() -> Caller:
    """A caller inside the process."""
    return _Nobody()


async def _no_chain() -> None:
    return None


class Flow(Protocol):
    """What the KV layer reads of a node's store (`zerog.storage.store.FlowStore`)."""

    def next_seq(self) -> int:
        """Number of submissions."""
        ...

    def submission(self, seq: int) -> Submission | None:
        """A submission."""
        ...

    def submissions(self, first: int, limit: int) -> list[Submission]:
        """Submissions in order."""
        ...

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


@dataclass(frozen=True, slots=True)
class KvNode:
    """An opened KV layer: what `KvService` runs and answers from."""

    store: KvStore
    watches: Watches
    replay: Replay
    content: SharedContent
    api: KvApi
    pool: ThreadPoolExecutor

    def stop(self) -> None:
        """Ends replay after the step it is in, and whoever waits for other nodes."""
        self.replay.stop()
        self.content.stop()

    def close(self) -> None:
        """Gives the index back; after `stop`."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.store.close()


class KvService:
    """Answers ``kv_*`` and follows a flow.

    Parameters
    ----------
    flow : the submissions and their data; whoever owns it calls `wake` and `reverted`. ``None``: it comes with
        `attach`.
    directory : where the index lies; ``None`` keeps it in memory.
    streams : stream ids to follow, ``None`` for all.
    chain_id : of the chain that the flow belongs to.
    caller : who makes the call that is being answered.
    key : of encrypted streams.
    fetch : gets a segment, proof-checked, from another node, or ``None``; it may block.
    follow : waits until the flow has followed the newest block.
    """

    name = "kv"

    def __init__(
        self,
        flow: Flow | None = None,
        *,
        directory: Path | None = None,
        durable: bool = False,
        streams: Sequence[bytes] | None = None,
        chain_id: Callable[[], int],
        caller: Callable[[], Caller] = nobody,
        key: NodeKey | None = None,
        fetch: Fetch | None = None,
        follow: Callable[[], Awaitable[None]] = _no_chain,
        give_up_after: float = GIVE_UP_AFTER,
    ) -> None:
        self._flow = _LateFlow(flow)
        self._directory = directory
        self._durable = durable
        self._streams = streams
        self._chain_id = chain_id
        self._caller = caller
        self._key = key
        self._fetch = fetch
        self._follow = follow
        self._give_up_after = give_up_after
        self._lock = threading.Lock()
        self._node: KvNode | None = None
        self._failure: str | None = None
        self._waiting: list[asyncio.Future[None]] = []

    # What it answers.

    def methods(self) -> Mapping[str, Handler]:
        """All ``kv_*`` methods with their aliases, and ``admin_addStream``."""
        return {name: partial(self._answer, name) for name in METHODS}

    async def _answer(self, name: str, params: Any) -> Any:
        node = self._node
        if node is None:
            node = await self._opened()
        from zerog.storage.kv.api import METHODS as TABLE

        method = TABLE.get(name)
        assert method is not None
        await self._follow()
        await self._settle(node.replay)
        try:
            return await method(node.api, params)
        except StorageError as error:
            raise RpcError(-32603, "Internal error", error.message) from None

    async def _opened(self) -> KvNode:
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(opened)
        try:
            await asyncio.wait_for(opened, OPEN_LIMIT)
        except TimeoutError:
            pass
        finally:
            self._waiting.remove(opened)
        if self._node is None:
            raise RpcError(-32000, self._failure or "the KV layer is still opening its index")
        return self._node

    def _tell_opened(self) -> None:
        for opened in self._waiting:
            if not opened.done():
                opened.set_result(None)

    @staticmethod
    async def _settle(replay: Replay) -> None:
        """Waits for what the chain has taken back to be taken back here: nobody should read it any more."""
        for _ in range(SETTLE_LOOKS):
            if not replay.unsettled():
                return
            await asyncio.sleep(SETTLE_PAUSE)

    # What the owner of the flow tells; any thread.

    def attach(self, flow: Flow) -> None:
        """The flow was opened, or opened anew."""
        with self._lock:
            self._flow.flow = flow
            if self._node is not None:
                self._node.replay.recheck()

    def wake(self) -> None:
        """The flow has something new."""
        node = self._node
        if node is not None:
            node.replay.wake()

    def reverted(self, first_seq: int) -> None:
        """The flow dropped submissions from ``first_seq`` on."""
        node = self._node
        if node is not None:
            node.replay.reverted(first_seq)

    # Its life.

    def open(self) -> KvNode:
        """Opens the index if it is not open; blocks."""
        with self._lock:
            if self._node is None:
                self._node = self._make()
            return self._node

    def _make(self) -> KvNode:
        from concurrent.futures import ThreadPoolExecutor

        from zerog.storage.kv.api import KvApi
        from zerog.storage.kv.elsewhere import SharedContent
        from zerog.storage.kv.replay import Replay
        from zerog.storage.kv.store import KvStore
        from zerog.storage.kv.watch import Watches

        directory = self._directory
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        store = KvStore(None if directory is None else directory / INDEX, durable=self._durable)
        try:
            watches = Watches(store)
            content = SharedContent(self._flow.read_chunks, self._flow.submission, self._fetch)
            replay = Replay(
                self._flow,
                store,
                content.read_chunks,
                streams=self._streams,
                key=self._key,
                give_up_after=self._give_up_after,
                on_change=watches.changed,
            )
            if self._flow.flow is not None:
                replay.recheck()
        except BaseException:
            store.close()
            raise
        pool = ThreadPoolExecutor(THREADS, "zerog-kv")
        api = KvApi(self._flow, replay, watches, chain_id=self._chain_id, caller=self._caller, pool=pool)
        return KvNode(store, watches, replay, content, api, pool)

    async def run(self) -> None:
        """Opens, replays and notifies until cancelled; closes then."""
        loop = asyncio.get_running_loop()
        opening = asyncio.ensure_future(asyncio.to_thread(self.open))
        try:
            node = await asyncio.shield(opening)
            self._failure = None
            self._tell_opened()
            notifying = asyncio.create_task(node.watches.run())
            replaying = loop.run_in_executor(node.pool, node.replay.run)
            try:
                done, _ = await asyncio.wait((notifying, replaying), return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                node.stop()
                notifying.cancel()
                await asyncio.gather(notifying, replaying, return_exceptions=True)
        except StorageError as error:
            self._failure = f"the KV layer has stopped: {error.message}"
            self._tell_opened()
            raise
        finally:
            # A thread cannot be cancelled: what it opens is closed.
            with suppress(Exception):
                await opening
            await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Gives the index back; after `run`, which does it itself. `open` may follow."""
        with self._lock:
            node, self._node = self._node, None
        if node is not None:
            node.stop()
            node.close()
