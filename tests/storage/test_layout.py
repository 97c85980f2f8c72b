"""The layout rules against the vectors, and their edges."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.reference import flow, merkle
from tests.storage.vectors import load, unhex

from zerog.storage import layout

FILES = load("merkle")["prng"] + load("merkle")["mod251"]
SIZES = st.integers(1, 1 << 40) | st.integers(1, 5_000)


@pytest.mark.parametrize("case", FILES, ids=lambda case: str(case["size"]))
def test_chunks_padding_and_heights_equal_the_vectors(case: dict) -> None:
    size = case["size"]
    assert (layout.chunks(size), layout.padded_chunks(size)) == (case["chunks"], case["paddedChunks"])
    assert layout.node_heights(size) == [node["height"] for node in case["nodes"]]
    assert layout.padded_segments(size) == len(case["segmentRoots"])


@pytest.mark.parametrize("case", [c for c in FILES if c["size"] <= 300_000], ids=lambda c: str(c["size"]))
def test_the_oracle_reproduces_roots_and_proofs_of_the_vectors(case: dict) -> None:
    make = merkle.prng if case in load("merkle")["prng"] else merkle.mod251
    data = make(case["size"])
    roots = merkle.segment_roots(data)
    assert roots == [unhex(root) for root in case["segmentRoots"]]
    assert merkle.tree(roots) == unhex(case["fileRoot"]) == merkle.fold(merkle.nodes(data))
    assert [node.root for node in merkle.nodes(data)] == [unhex(node["root"]) for node in case["nodes"]]
    for proof in case["proofs"]:
        found = merkle.file_proof(roots, proof["segment"])
        assert list(found.lemma) == [unhex(item) for item in proof["lemma"]]
        assert list(found.path) == proof["path"]


def test_positions_and_lengths_equal_the_official_flow_contract() -> None:
    length = 1
    for line in load("flow")["submissions"]:
        start, length = layout.place(length, layout.node_heights(line["fileSize"]))
        assert (start, length) == (line["startPos"], line["currentLength"])


def test_flow_roots_of_the_oracle_equal_the_official_flow_contract() -> None:
    nodes = {case["size"]: case["nodes"] for case in load("merkle")["prng"]}
    reference = flow.ReferenceFlow()
    assert reference.root() == unhex(load("flow")["initial"]["root"])
    for line in load("flow")["submissions"]:
        reference.append(
            [merkle.SubmissionNode(unhex(n["root"]), n["height"]) for n in nodes[line["fileSize"]]]
        )
        assert reference.root() == unhex(line["flowRoot"])


def test_lengths_after_uniform_submissions_equal_the_upstream_expectations() -> None:
    length = 1
    for line in load("flow")["lengthsAfterSectors"]:
        _, length = layout.place(length, layout.node_heights(line["sectors"] * layout.SECTOR))
        assert length == line["currentLength"]


def test_start_positions_repeat_the_upstream_expectations() -> None:
    length, starts = 1, []
    for line in load("flow")["startPositions"]:
        start, length = layout.place(length, layout.node_heights(line["sectors"] * layout.SECTOR))
        starts.append(start)
    assert starts == [line["startPos"] for line in load("flow")["startPositions"]]


@pytest.mark.parametrize("size", [0, -1, layout.MAX_FILE_SIZE + 1])
def test_sizes_without_a_layout_are_refused(size: int) -> None:
    for rule in (layout.chunks, layout.padded_chunks, layout.segments, layout.node_heights):
        with pytest.raises(ValueError, match="a file has from 1 to"):
            rule(size)


@given(SIZES)
def test_nodes_are_the_padded_file(size: int) -> None:
    heights = layout.node_heights(size)
    assert sum(1 << height for height in heights) == layout.padded_chunks(size)
    assert all(left > right for left, right in pairwise(heights))
    assert heights[0] - heights[-1] < layout.MAX_HEIGHT_SPREAD
    assert layout.chunks(size) <= layout.padded_chunks(size) <= layout.chunks(size) * 9 // 8 + 1


@given(SIZES)
def test_segments_of_a_file_are_its_chunks(size: int) -> None:
    last = layout.segments(size) - 1
    assert last * layout.SEGMENT_SECTORS + layout.segment_chunks(size, last) == layout.chunks(size)
    assert layout.last_segment_bytes(size) == layout.segment_chunks(size, last) * layout.SECTOR
    padded_last = layout.padded_segments(size) - 1
    whole = padded_last * layout.SEGMENT_SECTORS + layout.padded_segment_chunks(size, padded_last)
    assert whole == layout.padded_chunks(size)


@given(st.lists(SIZES, min_size=1, max_size=30))
def test_placed_files_are_aligned_apart_and_never_cross_a_segment_when_small(sizes: list[int]) -> None:
    length = 1
    for size in sizes:
        start, after = layout.place(length, layout.node_heights(size))
        padded = layout.padded_chunks(size)
        assert start >= length
        assert after == start + padded
        assert start % (1 << layout.node_heights(size)[0]) == 0
        if padded <= layout.SEGMENT_SECTORS:
            assert start // layout.SEGMENT_SECTORS == (after - 1) // layout.SEGMENT_SECTORS
        else:
            assert start % layout.SEGMENT_SECTORS == 0
        length = after
