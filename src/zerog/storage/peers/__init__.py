"""The other storage nodes: finding them, copying from them, repairing from them, judging them.

Everything that comes from a peer is hostile until its proof holds against a root that the chain committed:
a peer can waste some bounded bytes and seconds, never change a stored byte. What wastes is scored down.

The node's ``admin_*`` and ``zgs_getStatus`` methods, its transfer routes and the gateway see the peers through
`Peers`; `Alone` is a node without any, `zerog.storage.peers.service.PeerService` the real thing.
"""

from __future__ import annotations

from typing import Any, Protocol

from zerog.errors import RpcError
from zerog.storage.selection import ShardedNode
from zerog.storage.values import Submission

__all__ = ["Alone", "Peers"]


class Peers(Protocol):
    """What the rest of a node asks of its peers.

    Called on the event loop of the node's services. Plain methods answer at once from memory; coroutines
    may take bounded time. JSON values are in the form of 0G's node.
    """

    @property
    def identity(self) -> str:
        """Name of this node among its peers: 16 random bytes of hexadecimal, new at every start.

        ``zgs_getStatus`` shows it as ``zerog.id``, so that a node recognises itself behind another address.
        """
        ...

    def connected(self) -> int:
        """Peers that answered lately and are not banned (``connectedPeers``)."""
        ...

    def network_info(self) -> dict[str, Any]:
        """``admin_getNetworkInfo``."""
        ...

    def peers(self) -> dict[str, Any]:
        """``admin_getPeers``: by address; ``listeningAddresses`` holds the base URL."""
        ...

    def known(self) -> list[ShardedNode]:
        """Peers that answered lately and are not banned."""
        ...

    async def holders(self, seq: int) -> list[ShardedNode]:
        """Peers that have everything of the file that their shard keeps, asked now."""
        ...

    async def find_file(self, seq: int) -> None:
        """``admin_findFile``: asks all peers now who has the file; raises `RpcError` for an unknown one."""
        ...

    async def start_sync_file(self, seq: int) -> None:
        """``admin_startSyncFile``: fetches what is missing of the file now; returns when that has begun."""
        ...

    async def start_sync_chunks(self, seq: int, start: int, end: int) -> None:
        """``admin_startSyncChunks``: the same for chunks from ``start`` to before ``end``."""
        ...

    async def terminate_sync(self, seq: int) -> bool:
        """``admin_terminateSync``: whether a running synchronisation was stopped."""
        ...

    def sync_state(self) -> dict[str, Any]:
        """``admin_getSyncServiceState``."""
        ...

    def sync_status(self, seq: int) -> str:
        """``admin_getSyncStatus``: "Completed", "unknown", or a text about the state."""
        ...

    def sync_info(self, seq: int | None) -> dict[str, Any]:
        """``admin_getSyncInfo``: by sequence number; of all when ``seq`` is ``None``."""
        ...

    async def file_location(self, seq: int, all_shards: bool) -> list[dict[str, Any]] | None:
        """``admin_getFileLocation``: ``[{ip, shardConfig}]`` of peers that have the file now.

        ``None`` when nobody has it, or, with ``all_shards``, when those that have it do not cover it.
        """
        ...

    async def fetch_segment(self, submission: Submission, index: int) -> bytes | None:
        """A segment as it travels, from a configured peer, its proof checked; ``None`` when nobody has it."""
        ...

    async def outgoing(self, count: int) -> None:
        """Waits until ``count`` bytes may be sent under the node's upload limit."""
        ...


class Alone:
    """A node that knows no other."""

    identity = ""

    def connected(self) -> int:
        return 0

    def network_info(self) -> dict[str, Any]:
        return {
            "peerId": self.identity,
            "listenAddresses": [],
            "totalPeers": 0,
            "bannedPeers": 0,
            "disconnectedPeers": 0,
            "connectedPeers": 0,
            "connectedOutgoingPeers": 0,
            "connectedIncomingPeers": 0,
        }

    def peers(self) -> dict[str, Any]:
        return {}

    def known(self) -> list[ShardedNode]:
        return []

    async def holders(self, seq: int) -> list[ShardedNode]:
        return []

    async def find_file(self, seq: int) -> None:
        return None

    async def start_sync_file(self, seq: int) -> None:
        raise RpcError(-32603, "Internal error", "this node has no peers to fetch from")

    async def start_sync_chunks(self, seq: int, start: int, end: int) -> None:
        raise RpcError(-32603, "Internal error", "this node has no peers to fetch from")

    async def terminate_sync(self, seq: int) -> bool:
        return False

    def sync_state(self) -> dict[str, Any]:
        return {"numSyncing": 0, "catchedUp": None, "autoSyncSerial": None, "autoSyncRandom": None}

    def sync_status(self, seq: int) -> str:
        return "unknown"

    def sync_info(self, seq: int | None) -> dict[str, Any]:
        return {}

    async def file_location(self, seq: int, all_shards: bool) -> list[dict[str, Any]] | None:
        return None

    async def fetch_segment(self, submission: Submission, index: int) -> bytes | None:
        return None

    async def outgoing(self, count: int) -> None:
        return None
