"""Indexer, gateway and replication of a node, as one service.

They all stand in front of the storage node, live as long as its store is open, and are made anew when it
opens again. Nothing heavy is imported before the first request.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from zerog.errors import RpcError, ZerogError

if TYPE_CHECKING:
    import asyncio

    from zerog.chain.methods import HttpExchange
    from zerog.storage.gateway import GatewayService
    from zerog.storage.indexer import IndexerService
    from zerog.storage.peers import Peers
    from zerog.storage.store import FlowStore

log = logging.getLogger("zerog.storage")

METHODS = (
    "indexer_getShardedNodes",
    "indexer_getSelectedNodes",
    "indexer_getNodeLocations",
    "indexer_getFileLocations",
)
ROUTES = ("/file", "/files/info", "/node/status")
RETRY = 0.5
"""Seconds between attempts to find the store open."""


class OpenNode(Protocol):
    """An opened storage node (`zerog.storage.api.node.StorageNode`)."""

    @property
    def store(self) -> FlowStore: ...
    @property
    def peers(self) -> Peers: ...
    async def follow(self) -> None: ...


class Storage(Protocol):
    """The storage service of this node (`StorageService`)."""

    async def node(self) -> Any: ...
    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]: ...
    def on_open(self, listener: Callable[[Any], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """Settings of indexer and gateway.

    Attributes
    ----------
    trusted : base URLs of further storage nodes that clients may use and the gateway may ask.
    url : address of this node as its clients reach it; ``None``: where it listens.
    max_file : bytes of the largest file that the gateway serves; ``None``: any.
    """

    trusted: tuple[str, ...] = ()
    url: str | None = None
    max_file: int | None = None


class _Opened:
    """What was made for one opened node."""

    def __init__(self, node: OpenNode, indexer: IndexerService, gateway: GatewayService) -> None:
        self.node = node
        self.indexer = indexer
        self.gateway = gateway


class FrontService:
    """See the module's docstring. ``url`` gives where this node listens, ``None`` before it does."""

    name = "indexer"

    def __init__(
        self, storage: Storage, url: Callable[[], str | None], settings: FrontSettings | None = None
    ) -> None:
        self._storage = storage
        self._url = url
        self._settings = settings or FrontSettings()
        self._opened: _Opened | None = None

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """The ``indexer_*`` methods."""
        return {name: partial(self._call, name) for name in METHODS}

    def routes(self) -> Mapping[str, Callable[[HttpExchange], Awaitable[None]]]:
        """The gateway's."""
        return dict.fromkeys(ROUTES, self._serve)

    async def run(self) -> None:
        """Keeps the indexer's knowledge fresh and copies from peers, until cancelled."""
        import asyncio

        loop, reopened = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: Any) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(reopened.set)

        self._storage.on_open(tell)
        while True:
            try:
                opened = await self._open()
            except RpcError as error:
                log.debug("the storage node is not open: %s", error)
                await asyncio.sleep(RETRY)
                continue
            reopened.clear()
            await self._run_beside(opened, reopened)

    async def _run_beside(self, opened: _Opened, reopened: asyncio.Event) -> None:
        """Runs what belongs to an opened node until another one has opened."""
        import asyncio

        work: list[asyncio.Task[Any]] = [asyncio.create_task(opened.indexer.run())]
        replicate = getattr(opened.node.peers, "run", None)
        if replicate is not None:
            work.append(asyncio.create_task(replicate()))
        again = asyncio.create_task(reopened.wait())
        try:
            done, _ = await asyncio.wait([again, *work], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {again}:
                task.result()
        finally:
            for task in (again, *work):
                task.cancel()
            await asyncio.gather(again, *work, return_exceptions=True)

    async def _open(self) -> _Opened:
        """What serves the node that is open now; raises `RpcError` when none is."""
        node: OpenNode = await self._storage.node()
        # A file whose block was just mined is known to everybody who asks.
        await node.follow()
        if self._opened is None or self._opened.node is not node:
            self._opened = self._make(node)
        return self._opened

    def _make(self, node: OpenNode) -> _Opened:
        from zerog.storage.gateway import GatewayService, GatewaySettings
        from zerog.storage.indexer import IndexerService, OwnNode

        settings = self._settings
        own = OwnNode(lambda: settings.url or self._url(), node.store)
        indexer = IndexerService(own, settings.trusted, node.peers)
        clients = [trusted.client for trusted in indexer.trusted]
        gateway = GatewayService(
            node.store, node.peers, self._local, clients, GatewaySettings(max_file=settings.max_file)
        )
        return _Opened(node, indexer, gateway)

    async def _local(self, method: str, params: list[Any]) -> Any:
        return await self._storage.methods()[method](params)

    async def _call(self, name: str, params: Any) -> Any:
        opened = await self._open()
        return await opened.indexer.methods()[name](params)

    async def _serve(self, exchange: HttpExchange) -> None:
        try:
            opened = await self._open()
        except ZerogError as error:
            from zerog.storage.gateway.answers import InternalError, refused

            failure = InternalError(error.message)
            await exchange.respond_json(failure.status, refused(failure))
            return
        await opened.gateway.answer(exchange)
