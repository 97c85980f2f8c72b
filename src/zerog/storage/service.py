"""The storage service of a node: the flow, the data, and what clients ask of them.

Its methods are known at once; the store opens in a thread, and calls that come earlier wait for it for a
short time. ::

    service = StorageService(connect, "0x…7100", Path("storage"))
    service.methods()        # {"zgs_getStatus": …, "admin_getPeers": …}
    await service.run()      # until cancelled
    await service.node()     # StorageNode: store, sync, pool, peers
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerog.errors import ConfigError, RpcError, StorageError, WrongChain, ZerogError

if TYPE_CHECKING:
    from zerog.chain.methods import HttpExchange
    from zerog.storage.api.node import Network, StorageNode
    from zerog.storage.flow.contract import ChainRpc
    from zerog.storage.peers import Peers
    from zerog.storage.store import FlowStore

# Everything heavier loads in the service's own thread: a node must answer before that.

log = logging.getLogger("zerog.storage")

OPEN_LIMIT = 10.0
"""Seconds that a call waits for the store to open."""
IDENTITY = "chain.json"
ZGS = (
    "zgs_getStatus",
    "zgs_uploadSegment",
    "zgs_uploadSegmentByTxSeq",
    "zgs_uploadSegments",
    "zgs_uploadSegmentsByTxSeq",
    "zgs_downloadSegment",
    "zgs_downloadSegmentByTxSeq",
    "zgs_downloadSegmentWithProof",
    "zgs_downloadSegmentWithProofByTxSeq",
    "zgs_getFileInfo",
    "zgs_getFileInfoByTxSeq",
    "zgs_checkFileFinalized",
    "zgs_getShardConfig",
    "zgs_getSectorProof",
    "zgs_getFlowContext",
    "zgs_getHashAtNodeIndex",
    "zgs_getDataByNodeIndex",
    "zgs_getMetaDataByNodeIndex",
)
ADMIN = (
    "admin_findFile",
    "admin_startSyncFile",
    "admin_startSyncChunks",
    "admin_terminateSync",
    "admin_getSyncServiceState",
    "admin_getSyncStatus",
    "admin_getSyncInfo",
    "admin_getNetworkInfo",
    "admin_getPeers",
    "admin_getFileLocation",
    "admin_getMetrics",
    "admin_startScrub",
    "admin_getScrub",
    "admin_shutdown",
)
"""The names stand here, too, because the tables that hold the methods load later; a test compares them."""


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """How a node stores.

    Attributes
    ----------
    shard : ``"id/count"``: which segments of the flow it keeps.
    durable : wait for the disk before something counts as stored.
    max_bytes : bytes of data, at most; ``None`` for what the disk holds.
    confirmations : blocks on top of one before it is followed; ``None``: 0 on devnets, else 1.
    pool_bytes : bytes of segments that may wait for their transaction.
    scrub_rate : bytes per second that are read and checked again in the background; 0: none.
    scrub_interval : seconds from one round of that to the next.
    admin_anywhere : ``admin_*`` methods answer to other machines, too.
    """

    shard: str = "0/1"
    durable: bool = False
    max_bytes: int | None = None
    confirmations: int | None = None
    pool_bytes: int = 64 << 20
    scrub_rate: int = 16 << 20
    scrub_interval: float = 3600.0
    admin_anywhere: bool = False


class StorageService:
    """See the module's docstring.

    Parameters
    ----------
    connect : gives the JSON-RPC of the chain; called once the node answers.
    flow : 0x-address of the Flow contract.
    path : directory of the data; ``None`` keeps it in a temporary one.
    head : gives the hash of the newest block, when the chain is in this process.
    peers : makes the other nodes' representative from the opened store; ``None``: this node is alone.
    shutdown : ends the program, for ``admin_shutdown``.
    """

    name = "storage"

    def __init__(
        self,
        connect: Callable[[], ChainRpc],
        flow: str,
        path: Path | None,
        options: StorageOptions | None = None,
        *,
        head: Callable[[], bytes] | None = None,
        peers: Callable[[FlowStore], Peers] | None = None,
        shutdown: Callable[[], None] | None = None,
    ) -> None:
        self.options = options or StorageOptions()
        self._connect = connect
        self._flow = flow.lower()
        self._path = path
        self._head = head
        self._make_peers = peers
        self._shutdown = shutdown
        self._node: StorageNode | None = None
        self._failure: str | None = None
        self._opened: list[asyncio.Future[None]] = []
        self._listeners: list[Callable[[StorageNode], None]] = []

    def require_start(self) -> None:
        """Raises `ZerogError` when chain or contract are not what they should be: checks before starting."""
        from zerog.errors import AbiError
        from zerog.storage.flow.contract import FlowContract, explain_missing

        rpc = self._connect()
        try:
            rpc.request("eth_chainId", [])
            FlowContract(rpc, self._flow).submissions()
        except (AbiError, RpcError) as error:
            raise StorageError(explain_missing(rpc, self._flow, error)) from None

    # What it answers.

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """The ``zgs_*`` and ``admin_*`` methods."""
        return {name: partial(self._answer, name) for name in (*ZGS, *ADMIN)}

    def routes(self) -> Mapping[str, Callable[[HttpExchange], Awaitable[None]]]:
        """The binary transfer routes."""
        return {"/zerog/segments": self._segments}

    async def node(self) -> StorageNode:
        """The opened node; raises `RpcError` when it does not open in time, or why it cannot."""
        if self._node is None:
            await self._wait_open()
        if self._node is None:
            raise RpcError(-32000, self._failure or "the storage node is still opening its store")
        return self._node

    def on_open(self, listener: Callable[[StorageNode], None]) -> None:
        """Calls ``listener`` with the node whenever it has opened (at once when it is open)."""
        self._listeners.append(listener)
        if self._node is not None:
            listener(self._node)

    def new_block(self) -> None:
        """The chain has a new block. Callable from any thread."""
        node = self._node
        if node is not None:
            node.sync.wake()

    async def _wait_open(self) -> None:
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._opened.append(opened)
        try:
            await asyncio.wait_for(opened, OPEN_LIMIT)
        except TimeoutError:
            pass
        finally:
            self._opened.remove(opened)

    def _tell_opened(self) -> None:
        for opened in self._opened:
            if not opened.done():
                opened.set_result(None)

    async def _answer(self, name: str, params: Any) -> Any:
        node = await self.node()
        from zerog.chain.methods import CALL
        from zerog.storage import guard
        from zerog.storage.api import admin, compatibility, zgs
        from zerog.storage.api.node import as_rpc_error

        try:
            if name.startswith("admin_"):
                guard.require_local(self.options.admin_anywhere)
                order = admin.METHODS.get(name)
                assert order is not None
                return await order(admin.Operator(node, self._shutdown), params)
            method = zgs.METHODS.get(name)
            assert method is not None
            await node.follow()
            return compatibility.result(CALL.get().agent, name, await method(node, params))
        except StorageError as error:
            raise as_rpc_error(error) from None

    async def _segments(self, exchange: HttpExchange) -> None:
        from zerog.storage.api import routes

        try:
            node = await self.node()
        except RpcError as error:
            await routes.refuse(exchange, 503, error)
            return
        await node.follow()
        await routes.segments(node, exchange)

    # Its life.

    async def run(self) -> None:
        """Serves until cancelled; raises `ZerogError` when it cannot go on."""
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        ended: asyncio.Future[None] = loop.create_future()

        def serve() -> None:
            error: BaseException | None = None
            try:
                self._serve(loop, stop)
            except BaseException as caught:
                error = caught
            with suppress(RuntimeError):  # The loop may have ended.
                loop.call_soon_threadsafe(finish, error)

        def finish(error: BaseException | None) -> None:
            if ended.done():
                return
            if error is None:
                ended.set_result(None)
            else:
                ended.set_exception(error)

        threading.Thread(target=serve, name="zerog-storage", daemon=True).start()
        try:
            await asyncio.shield(ended)
        finally:
            stop.set()
            self.new_block()
            # The store closes in its thread; data that is being written gets its time.
            await asyncio.wait([ended])
            ended.exception()

    def _serve(self, loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        """Opens, follows the chain, closes. Runs in a thread of its own."""
        store: FlowStore | None = None
        node: StorageNode | None = None
        try:
            network, rpc = self._network()
            store = self._open_store(network)
            node = self._compose(store, rpc, network)
            self._node, self._failure = node, None
            for listener in list(self._listeners):
                listener(node)
            loop.call_soon_threadsafe(self._tell_opened)
            node.scrubber.start()
            _load_answers()
            node.sync.run(stop)
        except ZerogError as error:
            self._failure = f"the storage node has stopped: {error.message}"
            loop.call_soon_threadsafe(self._tell_opened)
            raise
        finally:
            self._node = None
            if node is not None:
                node.scrubber.close()
                node.close()
            if store is not None:
                store.close()

    def _network(self) -> tuple[Network, ChainRpc]:
        from zerog.storage.api.node import Network

        rpc = self._connect()
        return Network(int(rpc.request("eth_chainId", []), 16), self._flow), rpc

    def _open_store(self, network: Network) -> FlowStore:
        from zerog.storage.store import FlowStore
        from zerog.storage.values import ShardConfig

        try:
            shard = ShardConfig.parse(self.options.shard)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if self._path is not None:
            claim(self._path, network)
        return FlowStore.open(
            self._path, shard, durable=self.options.durable, max_bytes=self.options.max_bytes
        )

    def _compose(self, store: FlowStore, rpc: ChainRpc, network: Network) -> StorageNode:
        from zerog.storage.api.node import StorageNode
        from zerog.storage.api.pool import SegmentPool
        from zerog.storage.flow.sync import FlowSync
        from zerog.storage.peers import Alone
        from zerog.storage.scrubbing import Scrubber, describe
        from zerog.storage.store import Appended, Damaged

        sync = FlowSync(rpc, self._flow, store, confirmations=self.options.confirmations)
        peers = Alone() if self._make_peers is None else self._make_peers(store)
        scrubber = Scrubber(store, self.options.scrub_rate, self.options.scrub_interval)
        pool = SegmentPool(self.options.pool_bytes)
        node = StorageNode(store, sync, pool, peers, network, scrubber, self._head)

        def hear(event: Any) -> None:
            if isinstance(event, Appended):
                node.flush(event.seqs)
            elif isinstance(event, Damaged):
                place = store.place(event.seq, event.index)
                if place is not None:
                    log.error("damaged: %s", describe(place))

        store.listen(hear)
        return node


def _load_answers() -> None:
    """Loads what answering takes, here in the service's thread: the first call would stop the event loop for it."""
    from importlib import import_module

    for name in ("guard", "api.admin", "api.compatibility", "api.routes", "api.zgs"):
        import_module(f"zerog.storage.{name}")


def claim(path: Path, network: Network) -> None:
    """Notes in a directory which chain and contract its data belongs to; raises `WrongChain` for another."""
    import msgspec

    mine = {"chainId": network.chain_id, "flow": network.flow}
    file = path / IDENTITY
    try:
        stored = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        path.mkdir(parents=True, exist_ok=True)
        fresh = file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(mine))
        fresh.replace(file)
        return
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(f"{file} cannot be read: {error}") from None
    if stored != mine:
        raise WrongChain(
            f"{path} holds the flow of chain {stored.get('chainId')}, contract {stored.get('flow')}, "
            f"not of chain {network.chain_id}, contract {network.flow}",
            hint="choose another data directory",
        )
