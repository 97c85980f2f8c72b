"""The native kernels of storage against the vectors and the plain Python oracles."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.storage.reference import merkle, pora
from tests.storage.reference.flow import ReferenceFlow
from tests.storage.vectors import load, unhex

from zerog import _native
from zerog.storage import layout
from zerog.storage.values import SubmissionNode

FILES = load("merkle")["prng"] + load("merkle")["mod251"]
ANSWERS = [*load("pora")["fixedInputs"], load("pora")["acceptedOnChain"]]
DATA = merkle.prng(1_400_000)


def data_of(case: dict[str, Any]) -> bytes:
    make = merkle.prng if case in load("merkle")["prng"] else merkle.mod251
    return make(case["size"])


@pytest.mark.parametrize("case", FILES, ids=lambda case: str(case["size"]))
def test_bytes_disk_and_stream_give_the_tree_of_the_vectors(case: dict[str, Any], tmp_path: Path) -> None:
    data = data_of(case)
    path = tmp_path / "file"
    path.write_bytes(b"head" + data)
    builder = _native.FileTreeBuilder(len(data))
    for at in range(0, len(data), 77_777):
        builder.update(memoryview(data)[at : at + 77_777])
    trees = [_native.FileTree.from_bytes(data), _native.FileTree.from_file(str(path), 4), builder.finish()]
    for tree in trees:
        assert (tree.size, tree.root) == (case["size"], unhex(case["fileRoot"]))
        assert tree.nodes == [(unhex(node["root"]), node["height"]) for node in case["nodes"]]
        assert tree.segment_roots == b"".join(map(unhex, case["segmentRoots"]))
        assert _native.fold_roots(tree.segment_roots) == tree.root
        for proof in case["proofs"]:
            expected = ([unhex(item) for item in proof["lemma"]], proof["path"])
            assert tree.proof(proof["segment"]) == expected
            assert _native.file_proof(tree.segment_roots, proof["segment"]) == expected


@given(st.integers(1, 40_000), st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_roots_equal_the_oracle(size: int, more: int) -> None:
    data = DATA[:size]
    leaves = layout.chunks(size) + more
    assert _native.merkle_root(data, leaves) == merkle.merkle_root(data, leaves)


def test_the_heap_of_a_subtree_equals_the_oracle() -> None:
    for size, leaves in ((1, 1), (300, 2), (0, 4), (2000, 16)):
        assert _native.subtree_roots(DATA[:size], leaves) == merkle.subtree_roots(DATA[:size], leaves)


def test_a_height_without_tree_is_refused() -> None:
    assert [_native.empty_root(height) for height in range(64)] == merkle.EMPTY
    with pytest.raises(_native.NativeError) as refusal:
        _native.empty_root(65)
    assert refusal.value.kind == "storage"


@given(st.integers(1, len(DATA)), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_a_segment_passes_and_each_forgery_of_it_fails(size: int, chance: random.Random) -> None:
    data = DATA[:size]
    tree = _native.FileTree.from_bytes(data)
    index = chance.randrange(layout.segments(size))
    part = data[index * layout.SEGMENT : (index + 1) * layout.SEGMENT]
    part += bytes(-len(part) % layout.SECTOR)
    lemma, path = tree.proof(index)
    assert _native.verify_segment(tree.root, size, index, part, lemma, path) == lemma[0]
    at = chance.randrange(len(part))
    changed = part[:at] + bytes([part[at] ^ 1]) + part[at + 1 :]
    forgeries: list[tuple[int, int, bytes, list[bytes], list[bool]]] = [
        (size, index, changed, lemma, path),
        (size, index + 1, part, lemma, path),
        (size, index, part[:-256], lemma, path),
        (size, index, part, lemma[:-1], path),
        (size, index, part, lemma, [*path, True]),
        (size, index, part, [*lemma, *[bytes(32)] * 10_000], [*path, *[True] * 10_000]),
        (size, index, part, [item[:-1] for item in lemma], path),
    ]
    for forgery in forgeries:
        with pytest.raises(_native.NativeError) as refusal:
            _native.verify_segment(tree.root, *forgery)
        assert refusal.value.kind == "segment"
        assert refusal.value.field in ("", "file_size", "index", "data", "proof")


def test_the_flow_of_the_vectors_comes_out_to_the_bit() -> None:
    frontier = _native.FlowFrontier()
    for case, step in zip(load("merkle")["prng"], load("flow")["submissions"], strict=True):
        nodes = [(unhex(node["root"]), node["height"]) for node in case["nodes"]]
        assert frontier.append(nodes) == step["startPos"]
        assert (frontier.length, frontier.root()) == (step["currentLength"], unhex(step["flowRoot"]))
        frontier = _native.FlowFrontier(frontier.state())


@given(st.lists(st.integers(1, 3_000_000), min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_the_frontier_equals_the_perfect_tree(sizes: list[int]) -> None:
    frontier, oracle = _native.FlowFrontier(), ReferenceFlow()
    for seq, size in enumerate(sizes):
        nodes = [
            SubmissionNode(_native.keccak256(bytes([seq, height])), height)
            for height in layout.node_heights(size)
        ]
        assert frontier.append([(node.root, node.height) for node in nodes]) == oracle.append(nodes)
        assert frontier.length == oracle.length
        assert frontier.root() == oracle.root()


def test_an_exception_of_the_progress_ends_the_hashing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    seen: list[int] = []
    _native.FileTree.from_file(str(path), progress=seen.append)
    assert seen[-1] == len(DATA)

    def refuse(done: int) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError):
        _native.FileTree.from_file(str(path), progress=refuse)


def test_files_that_cannot_be_hashed_are_refused_with_their_name(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    for path in (empty, tmp_path / "missing", tmp_path):
        with pytest.raises(_native.NativeError) as refusal:
            _native.FileTree.from_file(str(path), 0, None if path == empty else 1)
        assert refusal.value.kind == "storage"


@pytest.mark.parametrize("case", ANSWERS, ids=["alone", "shard", "accepted"])
def test_scratch_pads_equal_the_vectors_and_the_oracle(case: dict[str, Any]) -> None:
    span = case["range"]
    numbers = [int(span[name]) for name in ("startPosition", "mineLength", "shardId", "shardMask")]
    miner, nonce, subtask = (unhex(case[name]) for name in ("minerId", "nonce", "subtaskDigest"))
    pad, seed, recall = _native.pora_scratch_pad(miner, nonce, subtask, *numbers)
    assert _native.keccak256(pad) == unhex(case["scratchPadKeccak"])
    assert (seed, recall) == (unhex(case["padSeed"]), unhex(case["recallSeed"]))
    assert (pad, seed, recall) == pora.Task(miner, subtask, *numbers).scratch_pad(nonce)


@pytest.mark.parametrize("case", ANSWERS[:2], ids=["alone", "shard"])
def test_an_answer_of_the_vectors_is_evaluated_to_the_bit(case: dict[str, Any]) -> None:
    span = case["range"]
    numbers = [int(span[name]) for name in ("startPosition", "mineLength", "shardId", "shardMask")]
    miner, nonce, subtask = (unhex(case[name]) for name in ("minerId", "nonce", "subtaskDigest"))
    context, position, offset = unhex(case["sealedContextDigest"]), case["recallPosition"], case["sealOffset"]
    sealed = _native.pora_seal(DATA[: layout.SEAL], miner, context, position)
    assert _native.keccak256(sealed) == unhex(case["sealedKeccak"])
    proof = b"".join(map(unhex, case["merkleProof"]))
    found = _native.pora_verify(miner, nonce, subtask, *numbers, position, offset, context, sealed, proof)
    assert found == (unhex(case["poraHash"]), unhex(case["recoveredRoot"]), position)


@pytest.mark.parametrize("pieces", [1, 3, 8, 13])
def test_sealing_equals_the_oracle_and_comes_undone(pieces: int) -> None:
    miner, context, position = b"m" * 32, b"c" * 32, 4096
    raw = DATA[: pieces * layout.SEAL]
    sealed = _native.pora_seal(raw, miner, context, position)
    parts = [raw[at : at + layout.SEAL] for at in range(0, len(raw), layout.SEAL)]
    expected = [pora.seal(part, miner, context, position + 16 * i) for i, part in enumerate(parts)]
    assert sealed == b"".join(expected)
    assert _native.pora_unseal(sealed, miner, context, position) == raw


@pytest.mark.parametrize("threads", [1, 3])
def test_a_search_finds_what_the_oracle_finds(threads: int, tmp_path: Path) -> None:
    loads = 5
    sealed = DATA[: loads * layout.SEGMENT]
    path = tmp_path / "sealed"
    path.write_bytes(sealed)
    task = pora.Task(b"m" * 32, b"s" * 32, 0, loads * layout.SEGMENT_SECTORS)
    target = (2**256 // 640).to_bytes(32, "big")
    nonce = bytes(range(200, 232))
    hits = list(pora.search(task, sealed, target, nonce, 60))
    assert hits
    expected = [hit[1:] for hit in hits if hit[0] == hits[0][0]]
    everything = (b"\xff" * 8) * loads
    with path.open("rb") as file:
        numbers = (
            task.miner_id,
            task.subtask,
            0,
            task.length,
            0,
            task.shard_mask,
            target,
            nonce,
            60,
            threads,
        )
        assert _native.pora_search(file.fileno(), everything, *numbers) == expected
        assert _native.pora_search(file.fileno(), bytes(8 * loads), *numbers) == []
