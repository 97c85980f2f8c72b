"""Which storage nodes to use: enough of them to cover every shard the wanted number of times.

A node keeps the flow segments with ``segment % shards == id``. The shard space is a binary tree: a node of
``shards = 2**d`` covers one vertex at depth ``d``, and a vertex is covered as often as itself plus the less
covered of its halves. Nodes are taken in the order of the method until the root is covered often enough; one
whose vertex is covered already is passed over. This is the rule of the official clients.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zerog.errors import StorageError
from zerog.storage.values import ShardConfig

NOT_COVERED = "cannot select a subset from the returned nodes that meets the replication requirement"
"""The words of the official indexer, which clients may match."""
MAX_SHARDS = 1 << 32
"""Shard counts above this are passed over: no network has so many nodes."""


@dataclass(frozen=True, slots=True)
class ShardedNode:
    """A storage node as the indexer names it. ``latency`` in milliseconds, ``since`` in UNIX seconds."""

    url: str
    shard: ShardConfig
    latency: int = 0
    since: int = 0

    def to_json(self) -> dict[str, Any]:
        """The form of ``indexer_getShardedNodes``."""
        config = {"shardId": self.shard.id, "numShard": self.shard.shards}
        return {"url": self.url, "config": config, "latency": self.latency, "since": self.since}

    @classmethod
    def from_json(cls, raw: Any) -> ShardedNode:
        """From the form of ``indexer_getShardedNodes``; raises `StorageError`."""
        try:
            config = raw["config"]
            shard = ShardConfig(int(config["shardId"]), int(config["numShard"]))
            return cls(str(raw["url"]), shard, int(raw.get("latency") or 0), int(raw.get("since") or 0))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise StorageError(f"the indexer names a node that is none: {raw!r:.120}") from None


class _Cover:
    """A vertex of the shard tree: how often it is covered by nodes of its depth and below."""

    __slots__ = ("halves", "own")

    def __init__(self) -> None:
        self.own = 0
        self.halves: list[_Cover | None] = [None, None]

    def replicas(self) -> int:
        below = [0 if half is None else half.replicas() for half in self.halves]
        return self.own + min(below)

    def insert(self, depth: int, shard: int, above: int, want: int) -> bool:
        """Whether a node adds anything; ``above`` is how often the ancestors cover this vertex."""
        if above + self.replicas() >= want:
            return False
        if depth == 0:
            self.own += 1
            return True
        half = self.halves[shard & 1]
        if half is None:
            half = self.halves[shard & 1] = _Cover()
        return half.insert(depth - 1, shard >> 1, above + self.own, want)


def select(
    nodes: Sequence[ShardedNode], replicas: int, method: str = "min", *, rng: random.Random | None = None
) -> list[ShardedNode]:
    """Nodes that together hold every segment ``replicas`` times.

    Parameters
    ----------
    method : ``min`` prefers nodes that hold much (few shards), ``max`` nodes that hold little, ``random``
        shuffles, a number takes only nodes with that many shards.

    Raises
    ------
    StorageError : the nodes do not cover every shard, or the method is unknown.
    """
    if replicas < 1:
        return []
    root, chosen = _Cover(), []
    for node in _ordered(nodes, method, rng):
        if node.shard.shards > MAX_SHARDS:
            continue
        if root.insert(node.shard.shards.bit_length() - 1, node.shard.id, 0, replicas):
            chosen.append(node)
        if root.replicas() >= replicas:
            return chosen
    raise StorageError(NOT_COVERED)


def covers(shards: Sequence[ShardConfig], replicas: int = 1) -> bool:
    """Whether nodes of these configurations hold every segment ``replicas`` times."""
    try:
        select([ShardedNode("", shard) for shard in shards], replicas)
    except StorageError:
        return False
    return True


def _ordered(nodes: Sequence[ShardedNode], method: str, rng: random.Random | None) -> list[ShardedNode]:
    if method == "min":
        return sorted(nodes, key=lambda node: (node.shard.shards, node.shard.id))
    if method == "max":
        return sorted(nodes, key=lambda node: (-node.shard.shards, node.shard.id))
    if method == "random":
        shuffled = list(nodes)
        (rng or random.Random()).shuffle(shuffled)
        return shuffled
    if method.isdecimal() and len(method) <= 20:
        return [node for node in nodes if node.shard.shards == int(method)]
    raise StorageError(f"a node selection is min, max, random or a number of shards, not {method!r:.40}")
