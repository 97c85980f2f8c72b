"""The indexer against scripted nodes: what it lists, what it leaves out, what it never remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from tests.storage.scripted import ScriptedNode, running

from zerog.errors import InvalidParams, RpcError
from zerog.storage.indexer import IndexerService, OwnNode
from zerog.storage.peers import Alone
from zerog.storage.selection import ShardedNode
from zerog.storage.values import FileState, ShardConfig

T = TypeVar("T")
ROOT = bytes(range(32))


class OwnFiles:
    """A store that knows files by root."""

    def __init__(self, shard: ShardConfig, files: dict[bytes, FileState]) -> None:
        self.shard = shard
        self.files = files

    def find(self, root: bytes, need_available: bool) -> int | None:
        return list(self.files).index(root) if root in self.files else None

    def state(self, seq: int) -> FileState:
        return list(self.files.values())[seq]


class Searching(Alone):
    """Peers that count the searches and know some nodes."""

    def __init__(self, known: list[ShardedNode] | None = None) -> None:
        self.searched: list[int] = []
        self.nodes = known or []

    def known(self) -> list[ShardedNode]:
        return self.nodes

    async def find_file(self, seq: int) -> None:
        self.searched.append(seq)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 30))


def storage_node(
    shard: tuple[int, int], *, finalized: bool | None = True, pruned: bool = False
) -> ScriptedNode:
    info = None if finalized is None else {"finalized": finalized, "pruned": pruned, "uploadedSegNum": 1}
    return ScriptedNode(
        {
            "zgs_getShardConfig": {"shardId": shard[0], "numShard": shard[1]},
            "zgs_getFileInfo": lambda *_: info,
        }
    )


def own(files: dict[bytes, FileState], shard: str = "0/1") -> OwnNode:
    return OwnNode(lambda: "http://127.0.0.1:1/", OwnFiles(ShardConfig.parse(shard), files))


def urls(nodes: list[dict[str, Any]] | None) -> list[str]:
    return [node["url"] for node in nodes or []]


async def ask(indexer: IndexerService, method: str, *params: Any) -> Any:
    return await indexer.methods()[method](list(params))


def test_own_and_configured_nodes_are_listed_with_the_shards_they_have_now() -> None:
    async def scenario() -> Any:
        async with running(storage_node((1, 2))) as other:
            indexer = IndexerService(own({}, "0/2"), [other.url], Alone())
            return other.url, await ask(indexer, "indexer_getShardedNodes")

    url, answer = run(scenario())
    assert urls(answer["trusted"]) == ["http://127.0.0.1:1", url]
    assert [node["config"] for node in answer["trusted"]] == [
        {"shardId": 0, "numShard": 2},
        {"shardId": 1, "numShard": 2},
    ]
    assert all(type(node["latency"]) is int and type(node["since"]) is int for node in answer["trusted"])
    assert answer["discovered"] is None


def test_a_node_that_does_not_answer_or_has_no_valid_shard_is_left_out() -> None:
    async def scenario() -> Any:
        async with running(storage_node((3, 2))) as senseless:
            indexer = IndexerService(own({}), ["http://127.0.0.1:9", senseless.url], Alone())
            return await ask(indexer, "indexer_getShardedNodes")

    assert urls(run(scenario())["trusted"]) == ["http://127.0.0.1:1"]


def test_a_file_is_located_only_at_nodes_that_can_serve_it_now() -> None:
    async def scenario() -> Any:
        async with (
            running(storage_node((0, 1))) as holder,
            running(storage_node((0, 1), finalized=False)) as waiting,
            running(storage_node((0, 1), pruned=True)) as pruned,
            running(storage_node((0, 1), finalized=None)) as ignorant,
        ):
            nodes = [holder.url, waiting.url, pruned.url, ignorant.url]
            indexer = IndexerService(own({ROOT: FileState.PENDING}), nodes, Alone())
            return holder.url, await ask(indexer, "indexer_getFileLocations", "0x" + ROOT.hex())

    url, answer = run(scenario())
    assert urls(answer) == [url]


def test_a_file_whose_shards_are_not_covered_has_no_locations_and_every_question_searches_again() -> None:
    async def scenario() -> Any:
        peers = Searching()
        async with running(storage_node((1, 4))) as half:
            indexer = IndexerService(own({ROOT: FileState.FINALIZED}, "0/4"), [half.url], peers)
            answers = []
            for _ in range(3):
                answers.append(await ask(indexer, "indexer_getFileLocations", ROOT.hex()))
                await asyncio.sleep(0)
            return answers, peers.searched

    answers, searched = run(scenario())
    assert answers == [None, None, None]
    assert searched == [0, 0, 0]


def test_shards_that_cover_a_file_together_are_all_located() -> None:
    async def scenario() -> Any:
        async with running(storage_node((1, 2))) as half:
            indexer = IndexerService(own({ROOT: FileState.FINALIZED}, "0/2"), [half.url], Alone())
            return half.url, await ask(indexer, "indexer_getFileLocations", ROOT.hex())

    url, answer = run(scenario())
    assert urls(answer) == ["http://127.0.0.1:1", url]


def test_an_unknown_root_is_an_error_and_is_found_as_soon_as_a_node_has_it() -> None:
    async def scenario() -> Any:
        files: dict[bytes, FileState] = {}
        indexer = IndexerService(own(files), [], Alone())
        with pytest.raises(RpcError, match="file not found") as refused:
            await ask(indexer, "indexer_getFileLocations", ROOT.hex())
        files[ROOT] = FileState.FINALIZED
        return refused.value.code, await ask(indexer, "indexer_getFileLocations", ROOT.hex())

    code, answer = run(scenario())
    assert code == -32000
    assert urls(answer) == ["http://127.0.0.1:1"]


def test_selected_nodes_meet_the_replication_and_leave_dropped_ones_out() -> None:
    async def scenario() -> Any:
        async with running(storage_node((0, 1))) as one, running(storage_node((0, 1))) as two:
            indexer = IndexerService(own({}), [one.url, two.url], Alone())
            chosen = await ask(indexer, "indexer_getSelectedNodes", 2, "min", True, ["http://127.0.0.1:1/"])
            with pytest.raises(RpcError, match="cannot select a subset") as refused:
                await ask(indexer, "indexer_getSelectedNodes", "4", "min", True, None)
            return [one.url, two.url], chosen, refused.value.code

    expected, chosen, code = run(scenario())
    assert urls(chosen["trusted"]) == expected
    assert code == -32000


def test_discovered_nodes_take_three_fifths_unless_trusted_ones_are_wanted() -> None:
    async def scenario() -> Any:
        found = [ShardedNode(f"http://peer{i}", ShardConfig(), 1, 1) for i in range(3)]
        async with running(storage_node((0, 1))) as one:
            indexer = IndexerService(own({}), [one.url], Searching(found))
            mixed = await ask(indexer, "indexer_getSelectedNodes", 5, "min", False, [])
            trusted = await ask(indexer, "indexer_getSelectedNodes", 2, "min", True, [])
            return mixed, trusted

    mixed, trusted = run(scenario())
    assert (len(mixed["trusted"]), len(mixed["discovered"])) == (2, 3)
    assert (len(trusted["trusted"]), trusted["discovered"]) == (2, None)


def test_no_location_service_is_asked_for_addresses() -> None:
    assert run(ask(IndexerService(own({}), [], Alone()), "indexer_getNodeLocations")) == {}


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("indexer_getFileLocations", [7]),
        ("indexer_getFileLocations", ["0x12"]),
        ("indexer_getFileLocations", []),
        ("indexer_getSelectedNodes", [10**9, "min", True, []]),
        ("indexer_getSelectedNodes", [1, {}, True, []]),
        ("indexer_getSelectedNodes", [1, "min", True, [1]]),
        ("indexer_getSelectedNodes", [1, "min", True, ["x"] * 100_000]),
        ("indexer_getShardedNodes", [1]),
    ],
)
def test_wrong_parameters_are_refused_by_name(method: str, params: list[Any]) -> None:
    with pytest.raises(InvalidParams):
        run(ask(IndexerService(own({}), [], Alone()), method, *params))
