"""The peers of a node: who they are, how they do, whom to ask."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from zerog.errors import RpcError, TransportError, TransportTimeout
from zerog.storage.peers.client import Misbehaviour, NodeClient
from zerog.storage.peers.http import AnswerTooLong, base_url
from zerog.storage.peers.limits import TokenBucket
from zerog.storage.peers.score import Fault, Score
from zerog.storage.selection import ShardedNode
from zerog.storage.values import ShardConfig

log = logging.getLogger("zerog.peers")

MAX_PEERS = 64
"""Peers that a node keeps, configured ones not counted."""
FRESH = 60.0
"""Seconds after which a peer that was not heard of does not count as connected."""
Network = tuple[int, str]
"""Chain id and address of the flow contract, lower case."""


class Peer:
    """One peer. ``configured``: an operator named it, so the gateway may read from it."""

    def __init__(self, client: NodeClient, configured: bool) -> None:
        self.client = client
        self.url = client.url
        self.configured = configured
        self.score = Score()
        self.shard: ShardConfig | None = None
        self.version: str | None = None
        self.foreign: str | None = None
        """Why the peer is none of ours (another network, this node itself), or ``None``."""
        self.latency = 0.0
        self.since = int(time.time())
        self.heard = float("-inf")
        self.received = 0

    @property
    def usable(self) -> bool:
        """Whether it may be asked for data now."""
        return self.shard is not None and self.foreign is None and not self.score.banned

    @property
    def connected(self) -> bool:
        """Whether it is usable and was heard of lately."""
        return self.usable and time.monotonic() - self.heard < FRESH

    def node(self) -> ShardedNode:
        """As the indexer names it."""
        return ShardedNode(
            self.url, self.shard or ShardConfig(), max(1, round(self.latency * 1000)), self.since
        )

    def failed(self, error: Exception) -> None:
        """Blames the peer for a failed exchange."""
        fault = fault_of(error)
        if fault is None:
            return
        was = self.score.banned
        self.score.blame(fault)
        if fault is Fault.LIE or (self.score.banned and not was):
            log.warning("peer %s: %s%s", self.url, error, "; it is left alone" if self.score.banned else "")
        else:
            log.debug("peer %s: %s", self.url, error)


def fault_of(error: Exception) -> Fault | None:
    """What an error says about the peer; an orderly refusal says nothing."""
    if isinstance(error, Misbehaviour | AnswerTooLong):
        return Fault.LIE
    if isinstance(error, TransportTimeout | TimeoutError):
        return Fault.SILENCE
    return None if isinstance(error, RpcError) else Fault.UNREACHABLE


class PeerBook:
    """All peers.

    Parameters
    ----------
    configured : base URLs that the operator named; never dropped.
    identity : of this node, so that it recognises itself.
    network : the own network, or ``None`` while the chain did not answer yet: then no peer is used.
    limit : bandwidth for what is fetched.
    """

    def __init__(
        self,
        configured: list[str],
        identity: str,
        network: Callable[[], Network | None],
        limit: TokenBucket | None = None,
    ) -> None:
        self._identity = identity
        self._network = network
        self._limit = limit
        self._peers: dict[str, Peer] = {}
        for url in configured:
            self._add(base_url(url), True)

    def all(self) -> list[Peer]:
        """Every peer."""
        return list(self._peers.values())

    def usable(self) -> list[Peer]:
        """Those that may be asked, the best first."""
        peers = [peer for peer in self._peers.values() if peer.usable]
        return sorted(peers, key=lambda peer: (peer.score.points, peer.latency))

    def close(self) -> None:
        """Closes all connections."""
        for peer in self._peers.values():
            peer.client.close()

    async def refresh(self) -> None:
        """Asks every peer that is not banned how it is."""
        await asyncio.gather(*(self.meet(peer) for peer in self.all() if not peer.score.banned))

    async def meet(self, peer: Peer) -> None:
        """Asks one peer how it is: its network, its shard."""
        ours = self._network()
        if ours is None:
            return
        try:
            status = await peer.client.status()
            shard = await peer.client.shard()
        except (TransportError, RpcError) as error:
            peer.failed(error)
            peer.shard = None
            return
        peer.foreign = None
        if status.identity is not None and status.identity == self._identity:
            peer.foreign = "this node itself"
        elif (status.chain_id, status.flow) != (ours[0], ours[1].lower()):
            peer.foreign = f"chain {status.chain_id}, flow {status.flow[:42]}"
            log.warning("peer %s belongs to another network: %s", peer.url, peer.foreign)
        peer.shard, peer.version, peer.latency = shard, status.version, status.seconds
        peer.heard = time.monotonic()

    async def discover(self) -> None:
        """Asks usable peers whom they know, and meets those."""
        for peer in self.usable()[:8]:
            try:
                addresses = await peer.client.neighbours()
            except TransportError as error:
                peer.failed(error)
                continue
            for address in addresses:
                await self._consider(address, peer)

    async def _consider(self, address: str, source: Peer) -> None:
        try:
            url = base_url(address)
        except TransportError:
            return
        if url in self._peers or not await _may_lead(source.url, url):
            return
        strangers = [peer for peer in self._peers.values() if not peer.configured]
        if len(strangers) >= MAX_PEERS:
            useless = next((peer for peer in strangers if not peer.usable), None)
            if useless is None:
                return
            useless.client.close()
            del self._peers[useless.url]
        await self.meet(self._add(url, False))

    def _add(self, url: str, configured: bool) -> Peer:
        peer = Peer(NodeClient(url, self._limit), configured)
        self._peers[url] = peer
        return peer


async def _may_lead(source: str, target: str) -> bool:
    """Whether a peer may name that address: one outside must not send this node to addresses inside."""
    inside = await asyncio.gather(*map(_inside, (source, target)))
    return inside[0] or not inside[1]


async def _inside(url: str) -> bool:
    """Whether an address is not a public one; true when in doubt."""
    parts = urlsplit(url)
    try:
        found = await asyncio.wait_for(
            asyncio.get_running_loop().getaddrinfo(parts.hostname, None, type=socket.SOCK_STREAM), 3
        )
        return not all(ipaddress.ip_address(item[4][0]).is_global for item in found)
    except (OSError, ValueError):
        return True
