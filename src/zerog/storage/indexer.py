"""The indexer: which storage nodes there are, and which can serve a file now.

Its four methods are those of 0G's indexer. *Trusted* nodes are this one and those of the configuration;
*discovered* ones are the peers that this node met. Nothing is assumed about a node: its shard and whether it
has a file are asked when somebody wants to know, with short limits, and believed for seconds only. A search
that found nothing is never remembered. No service outside is contacted: locations of addresses are empty.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from zerog.chain.methods import MethodTable, Uint64, decode_bool
from zerog.errors import InvalidParams, RpcError, StorageError, TransportError
from zerog.storage.peers import Peers
from zerog.storage.peers.client import NodeClient
from zerog.storage.selection import ShardedNode, covers, select
from zerog.storage.values import FileState, ShardConfig

log = logging.getLogger("zerog.indexer")

BELIEVED = 3.0
"""Seconds for which a node's shard is believed."""
PATIENCE = 3.0
"""Seconds that a node may take to answer a client's question."""
REFRESH = 30.0
"""Seconds between looks at the configured nodes."""
MAX_REPLICAS = 1000
MAX_DROPPED = 1000
NOT_FOUND = "file not found"
_SERVER_ERROR = -32000


class Files(Protocol):
    """What the indexer asks of the node's own store (`FlowStore`)."""

    @property
    def shard(self) -> ShardConfig: ...
    def find(self, root: bytes, need_available: bool) -> int | None: ...
    def state(self, seq: int) -> FileState: ...


@dataclass(frozen=True, slots=True)
class OwnNode:
    """The storage node of this process. ``url`` gives its address as clients reach it, ``None`` before it listens."""

    url: Callable[[], str | None]
    store: Files


class TrustedNode:
    """A configured node, and what was last heard of it."""

    def __init__(self, client: NodeClient) -> None:
        self.client = client
        self._known: ShardedNode | None = None
        self._since = int(time.time())
        self._heard = float("-inf")
        self._asking: asyncio.Task[ShardedNode | None] | None = None

    async def ask(self, believed: float = BELIEVED) -> ShardedNode | None:
        """The node as it is now; ``None`` when it does not answer. Questions at the same time are one."""
        if self._known is not None and time.monotonic() - self._heard < believed:
            return self._known
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> ShardedNode | None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                shard = await self.client.shard()
        except (TransportError, RpcError, TimeoutError) as error:
            if self._known is not None:
                log.warning("storage node %s does not answer: %s", self.client.url, error)
            self._known = None
            self._since = int(time.time())
            return None
        self._heard = time.monotonic()
        latency = max(1, round((self._heard - begun) * 1000))
        self._known = ShardedNode(self.client.url, shard, latency, self._since)
        return self._known

    async def serves(self, root: bytes) -> tuple[bool, ShardedNode | None]:
        """Whether the node knows the file, and the node itself when it can serve it now."""
        try:
            async with asyncio.timeout(PATIENCE):
                report = await self.client.report_root(root)
        except (TransportError, RpcError, TimeoutError):
            return False, None
        if report is None:
            return False, None
        ready = report.finalized and not report.pruned
        return True, await self.ask() if ready else None


class IndexerService:
    """See the module's docstring.

    Parameters
    ----------
    own : the node of this process; ``None`` when the indexer runs alone.
    trusted : base URLs of further nodes.
    peers : the peers of the own node: the discovered nodes.
    """

    name = "indexer"

    def __init__(self, own: OwnNode | None, trusted: Sequence[str], peers: Peers) -> None:
        self._own = own
        self.trusted = [TrustedNode(NodeClient(url)) for url in dict.fromkeys(trusted)]
        self._peers = peers
        self._since = int(time.time())
        self._searches: dict[int, asyncio.Task[None]] = {}

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """The four ``indexer_*`` methods."""
        return {name: self._bound(name) for name in METHODS.names()}

    async def run(self) -> None:
        """Looks at the configured nodes from time to time until cancelled, so that answers find them warm."""
        try:
            while True:
                await asyncio.gather(*(node.ask() for node in self.trusted))
                await asyncio.sleep(REFRESH)
        finally:
            for task in self._searches.values():
                task.cancel()
            for node in self.trusted:
                node.client.close()

    def _bound(self, name: str) -> Callable[[Any], Awaitable[Any]]:
        method = METHODS.get(name)
        assert method is not None

        async def call(params: Any) -> Any:
            return await method(self, params)

        return call

    def own_node(self) -> ShardedNode | None:
        """This node as clients see it."""
        url = None if self._own is None else self._own.url()
        if self._own is None or url is None:
            return None
        return ShardedNode(url.rstrip("/"), self._own.store.shard, 1, self._since)

    async def nodes(self) -> tuple[list[ShardedNode], list[ShardedNode]]:
        """Trusted and discovered nodes that answer now."""
        asked = await asyncio.gather(*(node.ask() for node in self.trusted))
        own = self.own_node()
        trusted = _distinct(node for node in (own, *asked) if node is not None)
        urls = {node.url for node in trusted}
        return trusted, [node for node in self._peers.known() if node.url not in urls]

    async def locations(self, root: bytes) -> list[ShardedNode] | None:
        """The nodes that can serve the file now; ``None`` when they do not hold all of it.

        Raises `RpcError` when no trusted node knows the file.
        """
        answers = await asyncio.gather(*(node.serves(root) for node in self.trusted))
        serving = [node for _, node in answers if node is not None]
        seq = None if self._own is None else self._own.store.find(root, True)
        if self._own is not None and seq is not None:
            own = self.own_node()
            if own is not None and self._own.store.state(seq) is FileState.FINALIZED:
                serving.insert(0, own)
        elif not any(known for known, _ in answers):
            raise RpcError(_SERVER_ERROR, NOT_FOUND)
        serving = _distinct(serving)
        if not _covered(serving) and seq is not None:
            serving = _distinct([*serving, *await self._peers.holders(seq)])
        if _covered(serving):
            return serving
        if seq is not None:
            self._search(seq)
        return None

    def _search(self, seq: int) -> None:
        """Asks the peers to look for a file; one search for a file at a time, and never a pause after it."""
        if seq in self._searches:
            return

        async def search() -> None:
            try:
                await self._peers.find_file(seq)
            except (RpcError, TransportError) as error:
                log.debug("searching for submission %d: %s", seq, error)
            finally:
                self._searches.pop(seq, None)

        self._searches[seq] = asyncio.create_task(search())


def _distinct(nodes: Iterable[ShardedNode]) -> list[ShardedNode]:
    return list({node.url: node for node in reversed(list(nodes))}.values())[::-1]


def _covered(nodes: Sequence[ShardedNode]) -> bool:
    return covers([node.shard for node in nodes])


def _json(nodes: Sequence[ShardedNode]) -> list[dict[str, Any]]:
    return [node.to_json() for node in nodes]


def _decode_root(value: Any) -> bytes:
    digits = value.removeprefix("0x").removeprefix("0X") if isinstance(value, str) else ""
    try:
        root = bytes.fromhex(digits) if len(digits) == 64 else b""
    except ValueError:
        root = b""
    if len(root) != 32:
        raise ValueError("a root, 32 bytes as hexadecimal")
    return root


def _decode_method(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError("min, max, random or a number of shards")
    return value


def _decode_dropped(value: Any) -> list[str]:
    valid = (
        isinstance(value, list) and len(value) <= MAX_DROPPED and all(isinstance(url, str) for url in value)
    )
    if not valid:
        raise ValueError(f"at most {MAX_DROPPED} addresses of nodes")
    return [url.rstrip("/") for url in value]


Root = Annotated[bytes, _decode_root]
Selection = Annotated[str, _decode_method]
Addresses = Annotated[list[str], _decode_dropped]
Flag = Annotated[bool, decode_bool]
METHODS = MethodTable[IndexerService]()


@METHODS.handler("indexer_getShardedNodes")
async def sharded_nodes(indexer: IndexerService) -> dict[str, Any]:
    """All nodes."""
    trusted, discovered = await indexer.nodes()
    return {"trusted": _json(trusted), "discovered": _json(discovered) or None}


@METHODS.handler("indexer_getSelectedNodes")
async def selected_nodes(
    indexer: IndexerService,
    expected_replica: Uint64 | None = None,
    method: Selection | None = None,
    full_trusted: Flag | None = None,
    dropped: Addresses | None = None,
) -> dict[str, Any]:
    """Nodes that hold everything ``expected_replica`` times: three of five by discovered ones, unless unwanted."""
    replicas = 1 if expected_replica is None else expected_replica
    if replicas > MAX_REPLICAS:
        raise InvalidParams(f"expectedReplica is {replicas}; at most {MAX_REPLICAS} replicas are kept")
    trusted, discovered = await indexer.nodes()
    left_out = set(dropped or ())
    ours = [node for node in trusted if node.url not in left_out]
    others = [node for node in discovered if node.url not in left_out]
    # Discovered nodes take as much of their part as they can; the trusted ones carry the rest.
    for share in range(0 if full_trusted else replicas * 3 // 5, -1, -1):
        try:
            chosen = select(others, share, method or "min")
        except StorageError:
            continue
        try:
            picked = select(ours, replicas - share, method or "min")
        except StorageError as error:
            raise RpcError(_SERVER_ERROR, error.message) from None
        return {"trusted": _json(picked), "discovered": _json(chosen) or None}
    raise AssertionError("nothing is always covered")


@METHODS.handler("indexer_getNodeLocations")
async def node_locations(indexer: IndexerService) -> dict[str, Any]:
    """Where nodes stand: nobody is asked, so nothing is known."""
    return {}


@METHODS.handler("indexer_getFileLocations")
async def file_locations(indexer: IndexerService, root: Root) -> list[dict[str, Any]] | None:
    """Who can serve a file now."""
    found = await indexer.locations(root)
    return None if found is None else _json(found)
