"""Random histories of a store beside a model of sets and lists."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.storage.reference import merkle
from tests.storage.reference.flow import flow_proof_holds
from tests.storage.store.building import Chain, File

from zerog._native import keccak256
from zerog.errors import DataUnavailable, SegmentRefused
from zerog.storage import layout
from zerog.storage.store import Finalized, FlowStore, Reverted, StoreEvent
from zerog.storage.values import BlockMark, FileState, ShardConfig

EDGES = (1, 256, 257, 3841, 262_143, 262_144, 262_145, 524_288, 524_289, 786_431, 786_432)
SHARDS = [ShardConfig.parse(text) for text in ("0/1", "0/1", "0/2", "1/2", "2/4")]

sizes = st.sampled_from(EDGES) | st.integers(1, 3 * layout.SEGMENT)
numbers = st.integers(0, 10**6)


@functools.lru_cache(maxsize=512)
def file_of(size: int, kind: int) -> File:
    return File.of((merkle.prng if kind else merkle.mod251)(size))


class Model:
    """What the flow consists of and which segments must be here, may be here, and may not."""

    def __init__(self) -> None:
        self.chain = Chain()
        self.files: list[File] = []
        self.known: list[File] = []
        """Every file that ever was submitted, those of reverted submissions too."""
        self.pruned: set[int] = set()
        self.promised: list[set[int]] = []
        """By submission: acknowledged, or owed because another submission of the root had it."""
        self.aside: dict[bytes, set[int]] = {}
        self.seen: dict[bytes, set[int]] = {}
        """By root: segments that were ever put. Nothing else can be here."""
        self.shard = ShardConfig()

    def own(self, seq: int) -> set[int]:
        base = self.chain.submissions[seq].start // 1024
        return {i for i in range(len(self.files[seq].segments)) if self.shard.owns(base + i)}

    def append(self, files: list[File]) -> list[int]:
        added = range(len(self.files), len(self.files) + len(files))
        for file in files:
            self.chain.submit(file)
            self.files.append(file)
            self.known.append(file)
            self.promised.append(set())
        for seq in added:
            root = self.files[seq].root
            owed = set(self.aside.pop(root, ()))
            for other, file in enumerate(self.files):
                if file.root == root:
                    owed |= self.promised[other]
            self.promised[seq] = owed & self.own(seq)
        return list(added)

    def revert(self, count: int) -> None:
        for seq in range(count, len(self.files)):
            self.aside.setdefault(self.files[seq].root, set()).update(self.promised[seq])
        self.chain.revert(count)
        self.files, self.promised = self.files[:count], self.promised[:count]
        self.pruned = {seq for seq in self.pruned if seq < count}

    def reopened(self) -> None:
        """What lies aside goes to the first submission of its root that is not pruned, and shares its fate then."""
        for root in list(self.aside):
            live = [s for s, file in enumerate(self.files) if file.root == root and s not in self.pruned]
            if live:
                self.promised[live[0]] |= self.aside.pop(root) & self.own(live[0])
                if self.promised[live[0]] == self.own(live[0]):
                    self.became_final(live[0])

    def became_final(self, seq: int) -> None:
        for other, file in enumerate(self.files):
            if file.root == self.files[seq].root and other not in self.pruned:
                self.promised[other] |= self.promised[seq] & self.own(other)


class Histories(RuleBasedStateMachine):
    @initialize(shard=st.sampled_from(SHARDS))
    def open_first(self, shard: ShardConfig) -> None:
        self.path = Path(tempfile.mkdtemp())
        self.model = Model()
        self.block = 0
        self.announced: set[int] = set()
        self.model.shard = shard
        self.open()

    def open(self) -> None:
        self.store = FlowStore.open(self.path, self.model.shard)
        self.announced = {s for s in self.seqs() if self.store.state(s) is FileState.FINALIZED}
        self.store.listen(self.hear)

    def hear(self, event: StoreEvent) -> None:
        if isinstance(event, Finalized):
            self.announced.add(event.seq)
        elif isinstance(event, Reverted):
            self.announced = {seq for seq in self.announced if seq < event.first_seq}

    def seqs(self) -> range:
        return range(len(self.model.files))

    def mark(self) -> BlockMark:
        self.block += 1
        return BlockMark(self.block, self.block.to_bytes(32, "big"))

    @rule(files=st.lists(st.tuples(sizes, st.integers(0, 1)), min_size=1, max_size=3))
    def append_files(self, files: list[tuple[int, int]]) -> None:
        self.append([file_of(*file) for file in files])

    @precondition(lambda self: self.model.known)
    @rule(picks=st.lists(numbers, min_size=1, max_size=2))
    def append_known_roots(self, picks: list[int]) -> None:
        self.append([self.model.known[-1 - pick % len(self.model.known)] for pick in picks])

    def append(self, files: list[File]) -> None:
        added = self.model.append(files)
        self.store.append([self.model.chain.submissions[seq] for seq in added], self.mark())

    @precondition(lambda self: self.model.files)
    @rule(pick=numbers, order=st.permutations(range(3)), count=st.integers(1, 3), repeat=st.booleans())
    def put(self, pick: int, order: list[int], count: int, repeat: bool) -> None:
        seq = pick % len(self.model.files)
        file, own = self.model.files[seq], self.model.own(seq)
        indices = [i for i in order if i < len(file.segments)][:count]
        indices += indices[:1] if repeat else []
        if seq in self.model.pruned or not set(indices) <= own:
            with pytest.raises(SegmentRefused):
                self.store.put_segments(seq, [file.segments[i] for i in indices])
            accepted = set()
            if seq not in self.model.pruned:
                for index in indices:
                    if index not in own:
                        break
                    accepted.add(index)
        else:
            final = self.store.put_segments(seq, [file.segments[i] for i in indices])
            accepted = set(indices)
            assert final == (not self.store.missing(seq))
        self.model.seen.setdefault(file.root, set()).update(accepted)
        self.model.promised[seq] |= accepted
        if accepted and self.model.promised[seq] == own:
            self.model.became_final(seq)

    @precondition(lambda self: self.model.files)
    @rule(pick=numbers)
    def put_missing(self, pick: int) -> None:
        seq = pick % len(self.model.files)
        file, missing = self.model.files[seq], self.store.missing(seq)
        if missing:
            indices = [i for first, end in missing for i in range(first, end)]
            assert self.store.put_segments(seq, [file.segments[i] for i in indices])
            self.model.seen.setdefault(file.root, set()).update(indices)
            self.model.promised[seq] = self.model.own(seq)
            self.model.became_final(seq)

    @precondition(lambda self: self.model.files)
    @rule(pick=numbers)
    def revert_some(self, pick: int) -> None:
        count = pick % len(self.model.files)
        gone = self.store.revert(count, self.mark())
        assert gone == self.model.chain.submissions[count:]
        self.model.revert(count)

    @precondition(lambda self: self.model.files)
    @rule(pick=numbers)
    def prune_one(self, pick: int) -> None:
        seq = pick % len(self.model.files)
        self.store.prune(seq)
        self.model.pruned.add(seq)
        self.model.promised[seq] = set()

    @rule(shard=st.sampled_from(SHARDS))
    def reshard(self, shard: ShardConfig) -> None:
        self.store.set_shard(shard)
        self.model.shard = shard
        for seq in self.seqs():
            self.model.promised[seq] &= self.model.own(seq)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.open()
        self.model.reopened()

    @rule(limit=st.integers(1, 9))
    def scrub(self, limit: int) -> None:
        assert self.store.scrub(limit=limit).damaged == ()

    @precondition(lambda self: self.model.files)
    @rule(pick=numbers, index=st.integers(0, 2), sector=numbers, later=numbers)
    def read(self, pick: int, index: int, sector: int, later: int) -> None:
        seq = pick % len(self.model.files)
        file, held = self.model.files[seq], self.held(seq)
        if index not in held:
            assert self.store.read_segment(seq, index) is None
            assert index >= len(file.segments) or self.store.segment_proof(seq, index) is None
            return
        segment = file.segments[index]
        assert self.store.read_segment(seq, index) == segment.data
        assert self.store.segment_proof(seq, index) == segment.proof
        chunk = sector % (len(segment.data) // 256)
        first = index * 1024 + chunk
        leaf = bytes(segment.data[chunk * 256 : (chunk + 1) * 256])
        assert self.store.read_chunks(seq, first, first + 1) == leaf
        at = seq + later % (len(self.model.files) - seq)
        root, last = self.model.chain.roots[at], self.model.chain.submissions[at]
        place = self.model.chain.submissions[seq].start + first
        try:
            proof = self.store.sector_proof(place, root)
        except DataUnavailable:
            # Only a file beside whose data nobody has given yet can hide a sibling.
            assert any(self.store.missing(other) or other in self.model.pruned for other in self.seqs())
        else:
            assert flow_proof_holds(proof, place, keccak256(leaf), root, last.start + last.sectors)

    def held(self, seq: int) -> set[int]:
        return {i for first, end in self.store.held(seq) for i in range(first, end)}

    @invariant()
    def equals_the_model(self) -> None:
        model, store = self.model, self.store
        assert store.settle(60)
        assert store.next_seq() == len(model.files)
        assert store.root() == (model.chain.roots[-1] if model.files else bytes(32))
        assert store.submissions(0, 1000) == model.chain.submissions
        assert store.progress() == (
            BlockMark(self.block, self.block.to_bytes(32, "big")) if self.block else None
        )
        segments = size = 0
        for seq, file in enumerate(model.files):
            held, own = self.held(seq), model.own(seq)
            assert model.promised[seq] <= held <= own & model.seen.get(file.root, set()), seq
            missing = {i for first, end in store.missing(seq) for i in range(first, end)}
            assert store.uploaded_count(seq) == len(held)
            if seq in model.pruned:
                assert (store.state(seq), held, missing) == (FileState.PRUNED, set(), set())
                continue
            assert missing == own - held
            assert (store.state(seq) is FileState.FINALIZED) == (held == own)
            assert held != own or seq in self.announced, "final, and nobody was told"
            segments += len(held)
            size += sum(len(file.segments[i].data) for i in held)
        figures = store.statistics()
        assert (figures.segments, figures.bytes, figures.damaged) == (segments, size, 0)

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            for seq, file in enumerate(self.model.files):
                for index in self.held(seq):
                    assert self.store.read_segment(seq, index) == file.segments[index].data
                    assert self.store.segment_proof(seq, index) == file.segments[index].proof
            for _ in range(2):
                while not self.store.scrub(limit=100).complete:
                    pass
            assert self.store.damaged() == []
        finally:
            self.store.close()
            shutil.rmtree(self.path)


def test_random_histories_equal_the_model() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=80,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_random_histories_equal_the_model() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=1000,
            stateful_step_count=60,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
