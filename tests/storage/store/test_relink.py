"""A root that comes again: what is taken over at once, what later, and what a stop or a revert leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.storage.reference import merkle
from tests.storage.store.building import BLOCK, Chain, File, read_back

from zerog.storage.store import FlowStore, relink, shards
from zerog.storage.values import BlockMark, FileState, Segment, ShardConfig, Submission

BIG = File.of(merkle.prng(3_158_073))
SMALL = File.of(b"a little file" * 30)


class Brake:
    """Stops the store's thread before a segment until it is released."""

    def __init__(self) -> None:
        self.reached, self.free = threading.Event(), threading.Event()

    def hold(self) -> None:
        if threading.current_thread().name == "zerog-relink":
            self.reached.set()
            assert self.free.wait(60)


@pytest.fixture
def brake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brake]:
    """Two segments at once, one in a step, and a brake on the rest."""
    found, taken = Brake(), relink.Relinking._taken

    def braked(self: relink.Relinking, other: Submission, index: int) -> Segment | None:
        found.hold()
        return taken(self, other, index)

    monkeypatch.setattr(relink, "AT_ONCE", 2)
    monkeypatch.setattr(relink, "STEP", 1)
    monkeypatch.setattr(relink.Relinking, "_taken", braked)
    yield found
    found.free.set()


def with_big(path: Path) -> tuple[FlowStore, Chain]:
    store, chain = FlowStore.open(path, ShardConfig()), Chain()
    store.append([chain.submit(BIG), chain.submit(SMALL)], BLOCK)
    store.put_segments(0, BIG.segments)
    store.put_segments(1, SMALL.segments)
    return store, chain


def test_a_large_twin_does_not_hold_up_what_comes_after_it(tmp_path: Path, brake: Brake) -> None:
    store, chain = with_big(tmp_path)
    with store:
        store.append([chain.submit(BIG)], BLOCK)
        assert brake.reached.wait(60)
        assert store.held(2) == [(0, 2)]
        assert not store.settle(0)
        # The thread stands still in the middle of the large file.
        store.append([chain.submit(SMALL)], BlockMark(8, bytes(32)))
        assert store.state(3) is FileState.FINALIZED
        assert store.state(2) is FileState.PENDING
        brake.free.set()
        assert store.settle(60)
        assert store.state(2) is FileState.FINALIZED
        assert read_back(store, 2) == BIG.data


def test_what_a_close_interrupts_goes_on_at_the_next_open(tmp_path: Path, brake: Brake) -> None:
    store, chain = with_big(tmp_path)
    store.append([chain.submit(BIG)], BLOCK)
    assert brake.reached.wait(60)
    closing = threading.Thread(target=store.close)
    closing.start()
    brake.free.set()
    closing.join(60)
    assert not closing.is_alive()
    with FlowStore.open(tmp_path, ShardConfig()) as store:
        assert store.settle(60)
        assert read_back(store, 2) == BIG.data


def test_a_revert_in_the_middle_ends_it_and_the_data_serves_the_next_submission(
    tmp_path: Path, brake: Brake
) -> None:
    store, chain = with_big(tmp_path)
    with store:
        store.append([chain.submit(BIG)], BLOCK)
        assert brake.reached.wait(60)
        store.revert(0, None)
        chain.revert(0)
        # Another file has the place of the twin now.
        store.append([chain.submit(SMALL), chain.submit(SMALL), chain.submit(SMALL)], BLOCK)
        brake.free.set()
        assert store.settle(60)
        store.append([chain.submit(BIG)], BLOCK)
        assert store.settle(60)
        for seq, file in enumerate((SMALL, SMALL, SMALL, BIG)):
            assert read_back(store, seq) == file.data


def test_a_file_damaged_aside_costs_one_segment_only(tmp_path: Path) -> None:
    store, chain = with_big(tmp_path)
    with store:
        store.revert(0, None)
        kept = sorted((tmp_path / "aside").glob(f"{BIG.root.hex()}-*"))
        content = bytearray(kept[4].read_bytes())
        content[-5] ^= 1
        kept[4].write_bytes(content)
        store.append(chain.submissions, BLOCK)
        assert store.settle(60)
        assert store.missing(0) == [(4, 5)]
        assert list((tmp_path / "aside").iterdir()) == []


@pytest.mark.parametrize("text", ["0/1", "0/2", "1/2", "3/4", "5/8", "100/128", "7/1024", "5/4294967296"])
def test_own_segments_as_bits_are_those_that_the_shard_owns(text: str) -> None:
    shard = ShardConfig.parse(text)
    for start, size in ((1024, 1), (3 * 1024, 300 * 262144), (255 * 1024, 513 * 262144 + 1)):
        submission = Submission(0, b"", size, start, (), b"", b"", BLOCK, b"")
        own = [i for i in range(submission.segments) if shard.owns(start // 1024 + i)]
        found: list[int] = []
        for part in range(-(-submission.segments // 256)):
            for first, end in shards.ranges(shards.own_bits(submission, shard, part), part * 256):
                found += range(first, end)
        assert found == own
        assert shards.own_count(submission, shard) == len(own)


def test_common_parts_of_ranges() -> None:
    one, other = [(0, 3), (5, 9), (12, 13)], [(2, 6), (7, 8), (8, 20)]
    both = set().union(*(range(*r) for r in one)) & set().union(*(range(*r) for r in other))
    found = shards.common(one, other)
    assert {i for r in found for i in range(*r)} == both
    assert all(first < end for first, end in found)
    assert shards.common(one, []) == []


def test_data_kept_aside_survives_a_reopen_beside_a_pruned_submission_of_its_root(tmp_path: Path) -> None:
    file, chain = File.of(b"twin"), Chain()
    with FlowStore.open(tmp_path, ShardConfig()) as store:
        store.append([chain.submit(file), chain.submit(file)], BLOCK)
        store.put_segments(0, list(file.segments))
        assert store.settle(30)
        store.prune(0)
        chain.revert(1)
        store.revert(1, BLOCK)
    with FlowStore.open(tmp_path, ShardConfig()) as store:
        assert store.settle(30)
        store.append([chain.submit(file)], BLOCK)
        assert store.settle(30)
        assert read_back(store, 1) == b"twin"


def test_a_new_shard_takes_over_what_another_submission_of_the_root_holds(tmp_path: Path) -> None:
    twin, between, chain = File.of(b"x"), File.of(merkle.prng(786_431)), Chain()
    with FlowStore.open(tmp_path, ShardConfig(0, 2)) as store:
        store.append([chain.submit(file) for file in (twin, between, twin)], BLOCK)
        store.put_segments(0, list(twin.segments))
        assert store.held(2) == []
        store.set_shard(ShardConfig(0, 1))
        assert store.settle(30)
        assert read_back(store, 2) == b"x"


def test_data_kept_aside_waits_for_a_submission_at_a_place_that_the_shard_keeps(tmp_path: Path) -> None:
    file, chain = File.of(b"x"), Chain()
    with FlowStore.open(tmp_path, ShardConfig()) as store:
        store.append([chain.submit(f) for f in (file, File.of(merkle.prng(262_143)), file)], BLOCK)
        store.put_segments(0, list(file.segments))
        assert store.settle(30)
        store.revert(2, BLOCK)
        chain.revert(2)
        store.append([chain.submit(SMALL)], BLOCK)
        store.set_shard(ShardConfig(2, 4))
        assert store.settle(30)
        store.append([chain.submit(file)], BLOCK)
        assert store.settle(30)
        assert read_back(store, 3) == b"x"
