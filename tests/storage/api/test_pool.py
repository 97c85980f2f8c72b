"""Segments that wait for their transaction: bounds in bytes, files and seconds; a flood hurts nobody else."""

from __future__ import annotations

import pytest
from tests.storage.api.conftest import File, pattern, submit

from zerog import Devnet
from zerog.errors import RpcError, StorageFull
from zerog.storage.api import pool as pool_module
from zerog.storage.api.pool import SegmentPool

SEGMENT = 262_144


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_was_put_is_taken_once_in_order(clock: Clock) -> None:
    pool, file = SegmentPool(clock=clock), File.of(pattern(600_000))
    for index in (2, 0, 1, 0):
        pool.put(file.segment(index))
    assert pool.count(file.tree.root) == 3 and pool.size == 600_064
    assert [segment.index for segment in pool.take(file.tree.root)] == [0, 1, 2]
    assert pool.take(file.tree.root) == [] and pool.size == 0


def test_the_bytes_of_a_request_are_not_kept_alive(clock: Clock) -> None:
    pool, file = SegmentPool(clock=clock), File.of(pattern(300))
    request = bytearray(file.chunk_bytes(0))
    segment = file.segment(0)
    pool.put(type(segment)(segment.root, 0, memoryview(request), segment.proof, segment.file_size))
    request[:] = bytes(len(request))
    assert bytes(pool.take(file.tree.root)[0].data) == file.chunk_bytes(0)


def test_segments_live_for_their_time_counted_from_the_newest(clock: Clock) -> None:
    pool, old, new = SegmentPool(lifetime=10.0, clock=clock), File.of(pattern(600_000)), File.of(pattern(300))
    pool.put(old.segment(0))
    clock.now += 6
    pool.put(new.segment(0))
    clock.now += 3
    pool.put(old.segment(1))
    clock.now += 8
    assert pool.take(new.tree.root) == [], "eleven seconds old"
    assert len(pool.take(old.tree.root)) == 2, "eight seconds after its newest segment"
    pool.put(old.segment(0))
    clock.now += 11
    pool.put(new.segment(0))
    assert pool.size == 512, "what expired makes room"


def test_a_full_pool_refuses_new_ones_and_keeps_what_it_acknowledged(clock: Clock) -> None:
    pool = SegmentPool(max_bytes=4 * SEGMENT, clock=clock)
    kept = File.of(pattern(4 * SEGMENT))
    for index in range(4):
        pool.put(kept.segment(index))
    for size in (1, SEGMENT):
        with pytest.raises(StorageFull, match="exceeds the maximum cached chunks of whole pool: 4096"):
            pool.put(File.of(pattern(size)).segment(0))
    assert len(pool.take(kept.tree.root)) == 4
    pool.put(File.of(pattern(SEGMENT)).segment(0))


def test_tiny_segments_count_with_their_overhead(clock: Clock) -> None:
    pool = SegmentPool(max_bytes=10 * 512, clock=clock)
    for _ in range(10):
        pool.put(File.of(pattern(1)).segment(0))
    with pytest.raises(StorageFull):
        pool.put(File.of(pattern(1)).segment(0))


def test_the_number_of_files_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_FILES", 3)
    pool, files = SegmentPool(clock=clock), [File.of(pattern(600_000)) for _ in range(4)]
    for file in files[:3]:
        pool.put(file.segment(0))
    with pytest.raises(StorageFull):
        pool.put(files[3].segment(0))
    pool.put(files[0].segment(1))


def test_a_file_above_the_limit_and_a_changed_size_are_refused(clock: Clock) -> None:
    pool, large = SegmentPool(clock=clock), File.of(pattern((10 << 20) + 1))
    with pytest.raises(RpcError) as caught:
        pool.put(large.segment(0))
    assert caught.value.data == "caching of large file when tx is unavailable is not supported"
    file = File.of(pattern(600_000))
    pool.put(file.segment(0))
    segment = file.segment(1)
    with pytest.raises(RpcError, match="file_size"):
        pool.put(type(segment)(segment.root, 1, segment.data, segment.proof, 600_001))
    assert pool.count(file.tree.root) == 1


def test_a_flood_without_transactions_does_not_touch_paid_files() -> None:
    with Devnet(services=["storage"], options={"storage.pool_bytes": 1 << 20}) as net:
        paid, early = File.of(pattern(600_000)), File.of(pattern(300_000))
        submit(net, paid)
        ask = net.client.request
        ask("zgs_uploadSegments", [early.json(0), early.json(1)])
        refused = 0
        for _ in range(12):
            try:
                ask("zgs_uploadSegment", File.of(pattern(SEGMENT)).json(0))
            except RpcError as error:
                assert (error.code, error.message[:26]) == (-32000, "exceeds the maximum cached")
                refused += 1
            assert int(ask("admin_getMetrics", "chunk_pool")["chunk_pool_bytes"].split()[1]) <= 1 << 20
        assert refused == 10
        ask("zgs_uploadSegments", [paid.json(index) for index in range(3)])
        assert ask("zgs_checkFileFinalized", paid.root) is True
        submit(net, early)
        assert ask("zgs_getFileInfo", early.root, True)["finalized"] is True
