"""Nodes copy from each other: everything of their shard, from several at once, whatever dies or breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.storage.peers.network import NETWORK, StorePeer, data, service_for, serving, store_with, until
from tests.storage.store.building import BLOCK, Chain, File, read_back

from zerog.errors import DataDamaged
from zerog.storage.layout import SEGMENT
from zerog.storage.peers.service import PeerService
from zerog.storage.store import FlowStore
from zerog.storage.values import FileState, ShardConfig

T = TypeVar("T")
FINAL = FileState.FINALIZED


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 60))


@asynccontextmanager
async def started(service: PeerService) -> AsyncIterator[PeerService]:
    task = asyncio.create_task(service.run())
    try:
        yield service
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def flow_of(*sizes: int) -> tuple[Chain, list[File]]:
    chain, files = Chain(), [File.of(data(size, seed)) for seed, size in enumerate(sizes)]
    for file in files:
        chain.submit(file)
    return chain, files


def test_old_and_new_files_come_from_a_peer_byte_for_byte() -> None:
    async def scenario() -> None:
        chain, files = flow_of(1, 300, SEGMENT + 1, 5 * SEGMENT - 3)
        with store_with(chain, files) as full, store_with(chain, [], filled=False) as empty:
            async with serving(StorePeer(full)) as peer, started(service_for(empty, [peer.url])):
                await until(lambda: all(empty.state(seq) is FINAL for seq in range(4)))
                late = File.of(data(2 * SEGMENT, 9))
                chain.submit(late)
                full.append(chain.submissions[4:], BLOCK)
                empty.append(chain.submissions[4:], BLOCK)
                full.put_segments(4, late.segments)
                await until(lambda: empty.state(4) is FINAL)
                assert [read_back(empty, seq) for seq in range(5)] == [file.data for file in [*files, late]]

    run(scenario())


def test_a_node_without_the_binary_route_is_read_over_json_rpc() -> None:
    async def scenario() -> None:
        chain, files = flow_of(3 * SEGMENT + 5)
        with store_with(chain, files) as full, store_with(chain, [], filled=False) as empty:
            async with (
                serving(StorePeer(full, binary=False)) as peer,
                started(service_for(empty, [peer.url])),
            ):
                await until(lambda: empty.state(0) is FINAL)
                assert read_back(empty, 0) == files[0].data

    run(scenario())


def test_four_shards_all_finalise_from_one_another() -> None:
    async def scenario() -> None:
        chain, files = flow_of(9 * SEGMENT + 77, 500)
        with store_with(chain, files) as full:
            shards = [store_with(chain, [], f"{id}/4", filled=False) for id in range(4)]
            async with serving(StorePeer(full)) as peer:
                services = [service_for(store, [peer.url]) for store in shards]
                tasks = [asyncio.create_task(service.run()) for service in services]
                await until(lambda: all(s.state(0) is FINAL and s.state(1) is FINAL for s in shards))
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            held = [set(range(10)) & {i for a, b in s.held(0) for i in range(a, b)} for s in shards]
            assert sorted(index for part in held for index in part) == list(range(10))
            # A whole node fills itself from the four parts.
            parts = [StorePeer(store) for store in shards]
            with store_with(chain, [], filled=False) as empty:
                async with (
                    serving(parts[0]),
                    serving(parts[1]),
                    serving(parts[2]),
                    serving(parts[3]),
                    started(service_for(empty, [part.url for part in parts])),
                ):
                    await until(lambda: empty.state(0) is FINAL and empty.state(1) is FINAL)
                    assert [read_back(empty, 0), read_back(empty, 1)] == [file.data for file in files]
            for store in shards:
                store.close()

    run(scenario())


def test_a_file_is_fetched_from_several_peers_at_once_and_survives_the_death_of_one() -> None:
    async def scenario() -> None:
        chain, files = flow_of(60 * SEGMENT)
        with store_with(chain, files) as full, store_with(chain, [], filled=False) as empty:
            dying, living = StorePeer(full), StorePeer(full)
            died = asyncio.Event()

            def die() -> None:
                if dying.transfers == 2:
                    died.set()
                    raise ConnectionResetError("killed")

            dying.on_transfer = die
            async with (
                serving(living),
                serving(dying),
                started(service_for(empty, [dying.url, living.url])),
            ):
                await until(lambda: empty.state(0) is FINAL)
            assert died.is_set()
            assert dying.transfers >= 2
            assert living.transfers >= 2
            assert read_back(empty, 0) == files[0].data

    run(scenario())


def test_a_stopped_synchronisation_goes_on_where_it_was() -> None:
    async def scenario() -> None:
        chain, files = flow_of(40 * SEGMENT)
        with store_with(chain, files) as full, store_with(chain, [], filled=False) as empty:
            peer = StorePeer(full)
            async with serving(peer):
                async with started(service_for(empty, [peer.url])):
                    await until(lambda: empty.uploaded_count(0) >= 8)
                before = empty.uploaded_count(0)
                sent = peer.transfers
                async with started(service_for(empty, [peer.url])):
                    await until(lambda: empty.state(0) is FINAL)
            assert (peer.transfers - sent) * 8 <= 40 - before + 8 + 16
            assert read_back(empty, 0) == files[0].data

    run(scenario())


def flip_a_bit(folder: Path, near: bytes | memoryview) -> None:
    """Changes one bit of stored data, behind the store's back."""
    victim = next(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size > 3 * SEGMENT)
    content = bytearray(victim.read_bytes())
    at = content.find(near[:64])
    assert at >= 0
    content[at + 7] ^= 0x10
    with victim.open("r+b") as opened:
        opened.write(content)


def test_a_flipped_bit_is_found_by_the_read_and_repaired_from_a_peer(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain, files = flow_of(4 * SEGMENT)
        store = FlowStore.open(tmp_path, ShardConfig())
        store.append(chain.submissions, BLOCK)
        store.put_segments(0, files[0].segments)
        flip_a_bit(tmp_path, files[0].segments[2].data)
        with store, store_with(chain, files) as full:
            async with serving(StorePeer(full)) as peer, started(service_for(store, [peer.url])) as service:
                await until(lambda: service.connected() == 1)
                with pytest.raises(DataDamaged):
                    await asyncio.to_thread(store.read_segment, 0, 2)
                await until(lambda: store.state(0) is FINAL and not store.damaged())
                assert read_back(store, 0) == files[0].data

    run(scenario())


def test_orders_of_the_operator_are_carried_out_and_reported() -> None:
    async def scenario() -> None:
        chain, files = flow_of(6 * SEGMENT)
        with store_with(chain, files) as full, store_with(chain, [], filled=False) as empty:
            async with (
                serving(StorePeer(full)) as peer,
                started(service_for(empty, [peer.url], replicate=False)) as service,
            ):
                await until(lambda: service.connected() == 1)
                assert service.sync_status(0) == "unknown"
                assert await service.file_location(0, True) == [
                    {"ip": "127.0.0.1", "shardConfig": {"shardId": 0, "numShard": 1}}
                ]
                await service.start_sync_chunks(0, 1024, 3000)
                await until(lambda: service.sync_status(0) == "Completed")
                assert empty.held(0) == [(1, 3)]
                await service.start_sync_file(0)
                await until(lambda: empty.state(0) is FINAL)
                await until(lambda: service.sync_status(0) == "Completed")
                assert service.sync_info(None)["0"]["goal"]["numChunks"] == 6 * 1024
                assert await service.terminate_sync(0) is False
                described = service.peers()[peer.url]
                assert described["connectionStatus"]["status"] == "connected"
                assert described["receivedBytes"] == 6 * SEGMENT

    run(scenario())


def test_a_node_of_another_network_and_the_node_itself_are_not_used() -> None:
    async def scenario() -> None:
        chain, files = flow_of(500)
        with store_with(chain, files) as full, store_with(chain, [], filled=False) as empty:
            foreign = StorePeer(full, network=(1, NETWORK[1]))
            mirror = StorePeer(full)
            async with serving(foreign), serving(mirror):
                service = service_for(empty, [foreign.url, mirror.url])
                mirror.results["zgs_getStatus"]["zerog"]["id"] = service.identity
                await service.book.refresh()
                assert service.connected() == 0
                reasons = [peer["reason"] for peer in service.peers().values()]
                assert reasons[0].startswith("chain 1,")
                assert reasons[1] == "this node itself"

    run(scenario())


def test_peers_are_found_through_peers() -> None:
    async def scenario() -> None:
        chain, files = flow_of(3 * SEGMENT)
        with store_with(chain, files) as full, store_with(chain, [], filled=False) as empty:
            holder = StorePeer(full, identity="holder")
            friend = StorePeer(empty, identity="friend")
            with store_with(chain, [], filled=False) as mine:
                async with serving(holder), serving(friend):
                    friend.results["admin_getPeers"] = {
                        "x": {"listeningAddresses": [holder.url, "ftp://x", "http://a b"]}
                    }
                    async with started(service_for(mine, [friend.url], discover=True)):
                        await until(lambda: mine.state(0) is FINAL)

    run(scenario())
