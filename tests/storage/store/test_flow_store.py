"""What the store does with submissions and segments: order, refusals, twins, reverts, shards, damage."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from tests.storage.reference import merkle
from tests.storage.reference.flow import flow_proof_holds
from tests.storage.store.building import BLOCK, Chain, File, read_back

from zerog._native import keccak256
from zerog.errors import (
    DataDamaged,
    DataDirLocked,
    DataUnavailable,
    ForeignDataDir,
    SegmentRefused,
    StorageError,
    StorageFull,
    UnknownFile,
)
from zerog.storage import layout
from zerog.storage.store import Appended, Damaged, Finalized, FlowStore, Reverted
from zerog.storage.store import sectors as sector_files
from zerog.storage.values import (
    BlockMark,
    FileProof,
    FileState,
    Segment,
    ShardConfig,
    Submission,
    SubmissionNode,
)

BIG = File.of(merkle.prng(3_158_073))
SMALL = File.of(b"a little file" * 30)
OTHER = File.of(merkle.mod251(1_048_579))


def opened(path: Path | None = None, shard: str = "0/1", **options: object) -> FlowStore:
    return FlowStore.open(path, ShardConfig.parse(shard), **options)  # type: ignore[arg-type]


def filled(store: FlowStore, *files: File) -> Chain:
    chain = Chain()
    store.append([chain.submit(file) for file in files], BLOCK)
    return chain


def put_own(store: FlowStore, seq: int, file: File) -> None:
    for first, end in store.missing(seq):
        store.put_segments(seq, file.segments[first:end])


def test_a_fresh_store_is_the_fresh_flow() -> None:
    with opened() as store:
        assert (store.next_seq(), store.length(), store.root(), store.progress()) == (0, 1, bytes(32), None)
        assert store.sector_proof(0, None).lemma == (bytes(32), bytes(32))


def test_a_temporary_store_leaves_nothing_behind() -> None:
    store = opened()
    path = store.path
    assert path.is_dir()
    store.close()
    assert not path.exists()


def test_a_file_is_final_with_its_last_segment_in_any_order(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        filled(store, BIG)
        for count, segment in enumerate(reversed(BIG.segments), 1):
            assert store.state(0) is FileState.PENDING
            assert store.put_segment(0, segment) == (count == len(BIG.segments))
            assert store.uploaded_count(0) == count
        assert store.state(0) is FileState.FINALIZED
        assert store.put_segment(0, BIG.segments[3])
    with opened(tmp_path) as again:
        assert read_back(again, 0) == BIG.data
        assert again.progress() == BLOCK


def test_held_and_missing_are_ranges() -> None:
    with opened() as store:
        filled(store, BIG)
        store.put_segments(0, [BIG.segments[i] for i in (1, 2, 3, 7)])
        assert store.held(0) == [(1, 4), (7, 8)]
        assert store.missing(0) == [(0, 1), (4, 7), (8, 13)]


def test_chunks_are_read_across_segments() -> None:
    with opened() as store:
        filled(store, BIG)
        store.put_segments(0, BIG.segments)
        assert store.read_chunks(0, 1000, 1100) == BIG.data[1000 * 256 : 1100 * 256]
        last = layout.chunks(len(BIG.data))
        assert store.read_chunks(0, last - 1, last) == BIG.data[(last - 1) * 256 :].ljust(256, b"\0")
        for start, end in ((5, 5), (6, 5), (-1, 4), (0, last + 1)):
            with pytest.raises(SegmentRefused, match="end_index"):
                store.read_chunks(0, start, end)


def test_what_is_not_here_is_none() -> None:
    with opened() as store:
        filled(store, BIG)
        assert store.read_segment(0, 0) is None
        assert store.read_segment(0, 13) is None
        assert store.read_chunks(0, 0, 1) is None
        assert store.segment_proof(0, 0) is None
        with pytest.raises(UnknownFile):
            store.read_segment(1, 0)
        with pytest.raises(UnknownFile):
            store.put_segment(1, BIG.segments[0])


def hostile_segments() -> dict[str, Segment]:
    good = BIG.segments[5]
    proof = good.proof
    flipped = bytearray(good.data)
    flipped[77] ^= 1
    return {
        "a flipped bit": replace(good, data=bytes(flipped)),
        "another index": replace(good, index=6),
        "an index beyond the file": replace(good, index=13),
        "a negative index": replace(good, index=-1),
        "a root of another file": replace(good, root=OTHER.root),
        "another size": replace(good, file_size=good.file_size - 1),
        "no data": replace(good, data=b""),
        "half a chunk": replace(good, data=good.data[:-128]),
        "a chunk too few": replace(good, data=good.data[:-256]),
        "a chunk too many": replace(good, data=bytes(good.data) + bytes(256)),
        "no proof": replace(good, proof=FileProof((), ())),
        "a short lemma": replace(good, proof=FileProof(proof.lemma[:-1], proof.path)),
        "a long lemma": replace(good, proof=FileProof(proof.lemma * 20, proof.path * 20)),
        "the proof of another segment": replace(good, proof=BIG.segments[4].proof),
        "a foreign sibling": replace(
            good, proof=FileProof((proof.lemma[0], b"\x01" * 32, *proof.lemma[2:]), proof.path)
        ),
        "a flipped path": replace(good, proof=FileProof(proof.lemma, tuple(not p for p in proof.path))),
    }


@pytest.mark.parametrize("name", hostile_segments())
def test_a_hostile_segment_is_refused_and_nothing_changes(name: str) -> None:
    with opened() as store:
        filled(store, SMALL, BIG)
        with pytest.raises(SegmentRefused):
            store.put_segment(1, hostile_segments()[name])
        assert store.held(1) == []
        assert store.statistics().bytes == 0
        assert not list(store.path.glob("flow/*"))


def test_segments_before_a_refused_one_are_stored() -> None:
    with opened() as store:
        filled(store, BIG)
        with pytest.raises(SegmentRefused):
            store.put_segments(
                0, [*BIG.segments[:2], replace(BIG.segments[2], data=bytes(262144)), BIG.segments[3]]
            )
        assert store.held(0) == [(0, 2)]


def test_appending_with_a_gap_a_wrong_place_or_foreign_nodes_changes_nothing() -> None:
    with opened() as store:
        chain = filled(store, SMALL)
        good = chain.submit(BIG)
        for bad in (
            replace(good, seq=2),
            replace(good, start=good.start + 4096),
            replace(good, root=SMALL.root),
            replace(good, size=good.size * 2),
        ):
            with pytest.raises(StorageError):
                store.append([bad], BlockMark(9, bytes(32)))
        assert (store.next_seq(), store.progress(), store.root()) == (1, BLOCK, chain.roots[0])
        store.append([good], BLOCK)
        assert store.root() == chain.roots[1]


def test_a_submission_that_no_disk_could_hold_only_moves_the_flow() -> None:
    node = SubmissionNode(b"\x05" * 32, 58)
    with opened() as store:
        chain = filled(store, SMALL)
        size = 256 << 58
        huge = Submission(1, node.root, size, 1 << 58, (node,), b"", bytes(20), BLOCK, bytes(32))
        store.append([huge], BLOCK)
        assert store.state(1) is FileState.PENDING
        assert (store.missing(1), store.held(1), store.length()) == ([], [], 1 << 59)
        with pytest.raises(SegmentRefused, match="file_size"):
            store.put_segment(1, Segment(node.root, 0, bytes(262144), FileProof((), ()), size))
        store.put_segments(0, SMALL.segments)
        proof = store.sector_proof(chain.submissions[0].start, None)
        leaf = keccak256(SMALL.data[:256])
        assert flow_proof_holds(proof, chain.submissions[0].start, leaf, store.root(), 1 << 59)
        assert store.read_load(1 << 48) == (bytes(262144), 0)
        assert store.scrub(limit=100).complete
        assert store.revert(1, BLOCK) == [huge]
        assert store.root() == chain.roots[0]


def test_the_same_root_is_shared_whether_it_comes_before_or_after_the_data() -> None:
    events: list[object] = []
    with opened() as store:
        store.listen(events.append)
        chain = filled(store, BIG, BIG)
        store.put_segments(0, BIG.segments)
        assert [store.state(seq) for seq in (0, 1)] == [FileState.FINALIZED] * 2
        store.append([chain.submit(SMALL), chain.submit(BIG)], BLOCK)
        assert store.state(3) is FileState.FINALIZED
        for seq in (0, 1, 3):
            assert read_back(store, seq) == BIG.data
        assert store.seqs_of(BIG.root) == [0, 1, 3]
    assert events == [Appended((0, 1)), Finalized(0), Finalized(1), Appended((2, 3)), Finalized(3)]


def test_a_root_is_answered_by_the_first_final_then_the_first_not_pruned() -> None:
    with opened() as store:
        chain = filled(store, BIG)
        store.put_segments(0, BIG.segments)
        store.prune(0)
        assert store.find(BIG.root, True) is None
        assert store.find(BIG.root, False) == 0
        store.append([chain.submit(BIG)], BLOCK)
        assert store.find(BIG.root, True) == 1
        store.put_segments(1, BIG.segments)
        assert store.find(BIG.root, False) == 1
        assert store.find(b"\x01" * 32, False) is None


def test_pruned_data_is_gone_and_refused_and_its_room_given_back(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        filled(store, BIG, SMALL)
        for seq, file in enumerate((BIG, SMALL)):
            store.put_segments(seq, file.segments)
        used = (tmp_path / "flow/00000000.sectors").stat().st_blocks
        store.prune(0)
        assert (tmp_path / "flow/00000000.sectors").stat().st_blocks < used // 2
        assert store.state(0) is FileState.PRUNED
        assert store.read_segment(0, 1) is None
        assert store.missing(0) == []
        with pytest.raises(SegmentRefused, match="already pruned"):
            store.put_segment(0, BIG.segments[0])
        assert read_back(store, 1) == SMALL.data
        assert store.statistics().bytes == layout.chunks(len(SMALL.data)) * 256


def test_reverted_data_comes_back_with_its_root_even_at_another_place() -> None:
    events: list[object] = []
    with opened() as store:
        chain = filled(store, SMALL, BIG, OTHER)
        roots = list(chain.roots)
        store.put_segments(1, BIG.segments)
        store.put_segments(2, OTHER.segments[:2])
        store.listen(events.append)
        gone = store.revert(1, BlockMark(3, b"\x03" * 32))
        assert [s.seq for s in gone] == [1, 2]
        assert (store.root(), store.next_seq()) == (roots[0], 1)
        assert store.progress() == BlockMark(3, b"\x03" * 32)
        assert store.submission(1) is None
        chain.revert(1)
        store.append([chain.submit(OTHER), chain.submit(BIG)], BLOCK)
        assert store.root() == chain.roots[2] == store.root_at(2)
        assert store.held(1) == [(0, 2)]
        assert store.state(2) is FileState.FINALIZED
        assert read_back(store, 2) == BIG.data
        assert not list((store.path / "aside").iterdir())
        assert events == [Reverted(1), Appended((1, 2)), Finalized(2)]


@pytest.mark.parametrize("left", [0, 40, 100_000])
def test_a_file_that_a_kill_left_half_written_aside_does_not_cost_the_next_revert_its_data(
    tmp_path: Path, left: int
) -> None:
    with opened(tmp_path) as store:
        chain = filled(store, SMALL, BIG)
        store.put_segments(1, BIG.segments)
        store.revert(1, BLOCK)
        kept = sorted((tmp_path / "aside").iterdir())
        assert len(kept) == len(BIG.segments)
        store.append(chain.submissions[1:], BLOCK)
    kept[0].write_bytes(bytes(left))
    with opened(tmp_path) as store:
        store.revert(1, BLOCK)
        store.append(chain.submissions[1:], BLOCK)
        assert store.state(1) is FileState.FINALIZED
        assert read_back(store, 1) == BIG.data


def test_a_kill_while_data_is_put_aside_leaves_nothing_that_is_taken_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands there before and after each file gets its name; what has no name yet may be cut anywhere."""
    moments: list[dict[str, bytes]] = []

    def copy() -> None:
        moments.append({path.name: path.read_bytes() for path in (tmp_path / "aside").iterdir()})

    with opened(tmp_path) as store:
        chain = filled(store, BIG)
        store.put_segments(0, BIG.segments[:2])
        replace_file = Path.replace

        def replaced(part: Path, name: Path) -> Path:
            copy()
            replace_file(part, name)
            copy()
            return name

        monkeypatch.setattr(Path, "replace", replaced)
        store.revert(0, None)
        monkeypatch.undo()
        store.append(chain.submissions, BLOCK)
    assert len(moments) == 4
    for moment in moments:
        for name, content in moment.items():
            (tmp_path / "aside" / name).write_bytes(content if name.endswith(".frame") else content[:99])
        with opened(tmp_path) as store:
            store.revert(0, None)
            store.append(chain.submissions, BLOCK)
            assert store.held(0) == [(0, 2)]
            assert list((tmp_path / "aside").iterdir()) == []


def test_a_revert_to_nothing_is_a_fresh_flow() -> None:
    with opened() as store:
        chain = filled(store, SMALL, BIG)
        store.revert(0, None)
        assert (store.root(), store.length(), store.next_seq(), store.progress()) == (bytes(32), 1, 0, None)
        store.append(chain.submissions, BLOCK)
        assert store.root() == chain.roots[1]


@pytest.mark.parametrize("shard", ["0/2", "1/2", "3/4", "7/8"])
def test_a_shard_keeps_its_segments_and_is_final_with_them(shard: str) -> None:
    config = ShardConfig.parse(shard)
    with opened(shard=shard) as store:
        chain = filled(store, SMALL, BIG, OTHER)
        for seq, file in enumerate((SMALL, BIG, OTHER)):
            base = chain.submissions[seq].start // 1024
            own = [i for i in range(len(file.segments)) if config.owns(base + i)]
            assert [i for first, end in store.missing(seq) for i in range(first, end)] == own
            assert (store.state(seq) is FileState.FINALIZED) == (not own)
            for index in range(len(file.segments)):
                if index not in own:
                    with pytest.raises(SegmentRefused, match="does not belong to shard"):
                        store.put_segment(seq, file.segments[index])
            put_own(store, seq, file)
            assert store.state(seq) is FileState.FINALIZED
            for index in own:
                assert store.read_segment(seq, index) == file.segments[index].data
                assert store.segment_proof(seq, index) == file.segments[index].proof
                sector = chain.submissions[seq].start + index * 1024
                leaf = keccak256(bytes(file.segments[index].data[:256]))
                for root, last in zip(chain.roots[seq:], chain.submissions[seq:], strict=True):
                    proof = store.sector_proof(sector, root)
                    assert flow_proof_holds(proof, sector, leaf, root, last.start + last.sectors)
        assert store.scrub(limit=1000).complete


def test_the_data_of_another_shard_has_no_sector_proof() -> None:
    with opened(shard="0/2") as store:
        chain = filled(store, BIG)
        put_own(store, 0, BIG)
        with pytest.raises(DataUnavailable):
            store.sector_proof(chain.submissions[0].start + 1024, None)
        with pytest.raises(DataUnavailable):
            store.sector_proof(store.length(), None)
        with pytest.raises(DataUnavailable):
            store.sector_proof(1, b"\x09" * 32)


def test_resharding_drops_what_is_foreign_and_lists_what_is_missing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        filled(store, SMALL, BIG)
        store.put_segments(1, BIG.segments)
        store.set_shard(ShardConfig(1, 2))
        assert store.state(1) is FileState.FINALIZED
        assert [first for first, _ in store.held(1)] == [1, 3, 5, 7, 9, 11]
        assert store.state(0) is FileState.FINALIZED
    with opened(tmp_path, "0/1") as store:
        assert store.shard == ShardConfig()
        assert store.state(1) is FileState.PENDING
        assert [first for first, _ in store.missing(1)] == [0, 2, 4, 6, 8, 10, 12]
        put_own(store, 1, BIG)
        assert read_back(store, 1) == BIG.data
        assert store.state(0) is FileState.PENDING
        assert store.scrub(limit=1000).complete


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_a_flipped_bit_is_found_by_reading_and_repaired_by_putting_again(tmp_path: Path) -> None:
    events: list[object] = []
    with opened(tmp_path) as store:
        chain = filled(store, BIG)
        store.put_segments(0, BIG.segments)
        store.listen(events.append)
        flip(tmp_path / "flow/00000000.sectors", (chain.submissions[0].start + 4 * 1024) * 256 + 12345)
        with pytest.raises(DataDamaged, match=r"segment 4 of submission 0 .*00000000\.sectors"):
            store.read_segment(0, 4)
        assert store.read_segment(0, 4) is None
        assert store.state(0) is FileState.PENDING
        assert store.damaged() == [(0, 4)] and store.missing(0) == [(4, 5)]
        assert store.put_segment(0, BIG.segments[4])
        assert store.damaged() == []
        assert read_back(store, 0) == BIG.data
    assert events == [Damaged(0, 4), Finalized(0)]


def test_the_scrub_finds_damage_in_bounded_steps(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        chain = filled(store, BIG, OTHER)
        for seq, file in enumerate((BIG, OTHER)):
            store.put_segments(seq, file.segments)
        flip(tmp_path / "flow/00000000.sectors", (chain.submissions[1].start + 2048) * 256)
        found, steps = [], 0
        while not (report := store.scrub(limit=3)).complete:
            assert report.segments <= 3
            found += report.damaged
            steps += 1
        assert found == [(1, 2)]
        assert steps >= 6
        assert store.scrub(limit=50, stop=lambda: True).segments == 0


def test_a_truncated_data_file_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        chain = filled(store, BIG)
        store.put_segments(0, BIG.segments)
        os.truncate(tmp_path / "flow/00000000.sectors", (chain.submissions[0].start + 1024) * 256)
        report = store.scrub(limit=100)
        assert [index for _, index in report.damaged] == list(range(1, 13))
        assert store.held(0) == [(0, 1)]


def test_a_full_disk_refuses_changes_nothing_and_works_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as store:
        filled(store, BIG)
        store.put_segments(0, BIG.segments[:3])

        def no_room(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(sector_files, "_write_all", no_room)
            with pytest.raises(StorageFull, match="no room"):
                store.put_segments(0, BIG.segments[3:])
        assert store.held(0) == [(0, 3)]
        assert store.put_segments(0, BIG.segments[3:])
        assert read_back(store, 0) == BIG.data


def test_the_limit_in_bytes_is_kept() -> None:
    with opened(max_bytes=600_000) as store:
        filled(store, BIG)
        with pytest.raises(StorageFull, match="limited to 600000 bytes"):
            store.put_segments(0, BIG.segments)
        assert store.uploaded_count(0) == 2
        assert store.statistics().bytes == 2 * 262144


def test_a_directory_in_use_is_locked(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(DataDirLocked):
        opened(tmp_path)


def test_a_foreign_index_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "index.sqlite") as foreign:
        foreign.execute("CREATE TABLE mine (a)")
    foreign.close()
    with pytest.raises(ForeignDataDir):
        opened(tmp_path)
