"""The store against the vectors of the official contracts and SDKs."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.storage.reference import merkle
from tests.storage.reference.flow import flow_proof_holds
from tests.storage.store.building import BLOCK, Chain, File, read_back
from tests.storage.vectors import load, unhex

from zerog._native import keccak256
from zerog.storage.store import FlowStore
from zerog.storage.values import FileState, ShardConfig

CASES = load("merkle")["prng"]


@pytest.fixture(scope="module")
def files() -> list[File]:
    return [File.of(merkle.prng(case["size"])) for case in CASES]


@pytest.fixture(scope="module")
def filled(files: list[File], tmp_path_factory: pytest.TempPathFactory) -> FlowStore:
    path = tmp_path_factory.mktemp("store")
    chain = Chain()
    with_all = FlowStore.open(path, ShardConfig())
    with_all.append([chain.submit(file) for file in files], BLOCK)
    for seq, file in enumerate(files):
        assert with_all.put_segments(seq, file.segments)
    return with_all


def test_flow_roots_after_every_submission_equal_the_official_contract(
    files: list[File], tmp_path: Path
) -> None:
    store, chain = FlowStore.open(tmp_path / "s", ShardConfig()), Chain()
    assert (store.length(), store.root()) == (1, bytes(32))
    for file, line in zip(files, load("flow")["submissions"], strict=True):
        submission = chain.submit(file)
        store.append([submission], BLOCK)
        assert submission.start == line["startPos"]
        assert store.length() == line["currentLength"]
        assert store.root() == unhex(line["flowRoot"]) == store.root_at(submission.seq)
        assert store.flow_root_seq(store.root()) == submission.seq
    store.close()
    with FlowStore.open(tmp_path / "s", ShardConfig()) as again:
        assert again.root() == unhex(load("flow")["submissions"][-1]["flowRoot"])


def test_every_file_reads_back_as_it_was(filled: FlowStore, files: list[File]) -> None:
    for seq, file in enumerate(files):
        assert filled.state(seq) is FileState.FINALIZED
        assert read_back(filled, seq) == file.data


def test_proofs_equal_those_of_the_official_sdk(filled: FlowStore) -> None:
    for seq, case in enumerate(CASES):
        assert filled.find(unhex(case["fileRoot"]), True) == seq
        for expected in case["proofs"]:
            proof = filled.segment_proof(seq, expected["segment"])
            assert proof is not None
            assert [("0x" + item.hex()) for item in proof.lemma] == expected["lemma"]
            assert list(proof.path) == expected["path"]


def test_sector_proofs_hold_against_every_earlier_root(filled: FlowStore, files: list[File]) -> None:
    lines = load("flow")["submissions"]
    for sector in (0, 1, 2, 5, 7, 100, 1023, 1024, 5000, 16384, 49151, 49152, 60000, 68683, 68684, 69631):
        for line in lines:
            root, length = unhex(line["flowRoot"]), line["currentLength"]
            if sector >= length:
                continue
            proof = filled.sector_proof(sector, root)
            assert flow_proof_holds(proof, sector, expected_leaf(files, sector), root, length), (
                sector,
                length,
            )


def expected_leaf(files: list[File], sector: int) -> bytes:
    if sector == 0:
        return bytes(32)
    for file, line in zip(files, load("flow")["submissions"], strict=True):
        if line["startPos"] <= sector < line["startPos"] + line["sectors"]:
            at = (sector - line["startPos"]) * 256
            return keccak256(file.data[at : at + 256].ljust(256, b"\0"))
    return merkle.EMPTY[0]


def test_loads_hold_the_flow_and_their_roots_are_the_trees(filled: FlowStore, files: list[File]) -> None:
    for number in range(filled.length() // 1024):
        found = filled.read_load(number)
        assert found is not None
        data, pieces = found
        expected = bytearray(262144)
        for file, line in zip(files, load("flow")["submissions"], strict=True):
            at = line["startPos"] * 256 - number * 262144
            if -len(file.data) < at < 262144:
                piece = file.data[max(0, -at) : 262144 - at]
                expected[max(0, at) : max(0, at) + len(piece)] = piece
        assert data == bytes(expected)
        assert pieces == (1 << 64) - 1 - (number == 0)
        if number:
            assert filled.load_root(number) == merkle.merkle_root(data)
    assert filled.read_load(filled.length() // 1024) is None


def test_a_scrub_of_a_sound_store_finds_nothing(filled: FlowStore) -> None:
    report = filled.scrub(limit=10_000)
    assert report.complete
    assert report.damaged == ()
    assert report.segments == filled.statistics().segments == filled.statistics().scrubbed
    assert filled.statistics().last_scrub is not None
