"""Which nodes cover the shards."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerog.errors import StorageError
from zerog.storage.selection import ShardedNode, select
from zerog.storage.values import ShardConfig


def nodes(*shards: str) -> list[ShardedNode]:
    return [ShardedNode(f"{number}:{shard}", ShardConfig.parse(shard)) for number, shard in enumerate(shards)]


def chosen(method: str, replicas: int, *shards: str) -> list[str]:
    return [node.url for node in select(nodes(*shards), replicas, method, rng=random.Random(1))]


def test_min_prefers_nodes_that_hold_much() -> None:
    assert chosen("min", 1, "0/2", "1/2", "0/1") == ["2:0/1"]


def test_max_prefers_nodes_that_hold_little() -> None:
    assert chosen("max", 1, "0/1", "1/2", "0/2") == ["2:0/2", "1:1/2"]


def test_nodes_that_add_nothing_are_passed_over() -> None:
    assert chosen("min", 1, "0/2", "0/4", "1/4", "3/4") == ["0:0/2", "2:1/4", "3:3/4"]


def test_a_number_takes_only_nodes_with_that_many_shards() -> None:
    assert chosen("2", 1, "0/1", "0/2", "1/2") == ["1:0/2", "2:1/2"]


@pytest.mark.parametrize("shards", [(), ("0/2",), ("0/2", "1/4"), ("1/4", "2/4", "3/4")])
def test_a_shard_that_nobody_has_is_an_error(shards: tuple[str, ...]) -> None:
    with pytest.raises(StorageError, match="replication requirement"):
        select(nodes(*shards), 1)


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(StorageError, match="min, max, random"):
        select(nodes("0/1"), 1, "best")


SHARDS = st.integers(0, 3).flatmap(lambda d: st.integers(0, 2**d - 1).map(lambda i: f"{i}/{2**d}"))


@given(st.lists(SHARDS, max_size=12), st.integers(1, 3), st.sampled_from(["min", "max", "random"]))
def test_a_selection_holds_every_segment_often_enough_or_none_could(
    shards: list[str], replicas: int, method: str
) -> None:
    def coverage(some: list[ShardedNode]) -> int:
        return min(sum(node.shard.owns(segment) for node in some) for segment in range(8))

    every = nodes(*shards)
    try:
        assert coverage(select(every, replicas, method)) >= replicas
    except StorageError:
        assert coverage(every) < replicas
