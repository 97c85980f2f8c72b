"""Ranking, log-softmax and the Merkle tree over logit rows."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError
from zerog.inference.logits import (
    log_softmax,
    ranked,
    require_finite,
    row_hashes,
    trace_step,
    trace_steps,
)
from zerog.inference.trace import TraceStep, merkle_root, trace_root

rows = st.lists(st.floats(-50, 50, width=32), min_size=8, max_size=64).map(
    lambda values: np.array(values, dtype=np.float32)
)


def _leaf(number: int) -> bytes:
    return keccak256(bytes([number]))


def _node(left: bytes, right: bytes) -> bytes:
    return keccak256(b"\x01" + left + right)


def test_the_leaf_is_the_hash_of_the_105_byte_preimage():
    row = np.arange(10, dtype=np.float32)
    step = trace_step(9, row)
    pairs = b"".join(
        struct.pack(">Ii", token, round(float(log_softmax(row)[token]) * 65536)) for token in range(9, 1, -1)
    )
    preimage = b"\x00" + struct.pack(">II", 3, 9) + keccak256(row.tobytes()) + pairs
    assert len(preimage) == 105
    assert step.leaf(3) == keccak256(preimage)


def test_the_root_of_nothing_is_zero():
    assert trace_root([]) == bytes(32)


def test_the_root_of_one_leaf_is_the_leaf():
    step = TraceStep(1, bytes(32), ((0, 0),) * 8)
    assert trace_root([step]) == step.leaf(0)


def test_an_odd_node_is_promoted_unchanged():
    a, b, c = map(_leaf, range(3))
    assert merkle_root([a, b, c]) == _node(_node(a, b), c)
    five = [*map(_leaf, range(5))]
    assert merkle_root(five) == _node(_node(_node(*five[:2]), _node(*five[2:4])), five[4])


def test_the_root_depends_on_the_order():
    leaves = [*map(_leaf, range(4))]
    assert merkle_root(leaves) != merkle_root(leaves[::-1])


@settings(deadline=None)
@given(rows)
def test_ranking_is_by_logit_then_by_lower_id(row):
    expected = sorted(range(len(row)), key=lambda i: (-row[i], i))
    for count in (1, 8, len(row), len(row) + 5):
        assert list(ranked(row, count)) == expected[:count]


def test_ties_go_to_the_lower_id():
    row = np.array([1, 2, 2, 2, 0, 0, 0, 0, 0, 0], dtype=np.float32)
    assert list(ranked(row, 3)) == [1, 2, 3]
    assert [token for token, _ in trace_step(1, row).pairs] == [1, 2, 3, 0, 4, 5, 6, 7]


@settings(deadline=None)
@given(rows)
def test_log_softmax_is_a_distribution(row):
    logprobs = log_softmax(row)
    assert logprobs.dtype == np.float64
    assert math.isclose(float(np.exp(logprobs).sum()), 1.0, rel_tol=1e-12)
    assert (logprobs <= 0).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_are_never_committed(bad):
    row = np.zeros(16, dtype=np.float32)
    row[5] = bad
    with pytest.raises(InferenceError, match="for token 5: nothing is signed"):
        require_finite(row)
    with pytest.raises(InferenceError, match="nothing is signed"):
        trace_step(0, row)


@settings(deadline=None)
@given(st.integers(0, 21), st.integers(1, 300))
def test_hashes_side_by_side_are_those_of_each_row(count, size):
    rows = [np.arange(size, dtype=np.float32) * number for number in range(count)]
    assert row_hashes(rows) == [keccak256(row.tobytes()) for row in rows]


def test_rows_that_are_views_with_gaps_are_hashed_by_their_numbers():
    table = np.arange(60, dtype=np.float32).reshape(6, 10)
    assert row_hashes([table[:, 0], table[:, 3]]) == [keccak256(table[:, i].tobytes()) for i in (0, 3)]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_steps_of_many_rows_are_those_of_each(seed):
    dice = np.random.default_rng(seed)
    rows = [dice.normal(0, 4, 600).astype(np.float32) for _ in range(11)]
    assert trace_steps(range(11), rows) == [trace_step(token, row) for token, row in enumerate(rows)]


def test_one_bad_row_among_many_is_never_committed():
    rows = [np.zeros(16, dtype=np.float32) for _ in range(9)]
    rows[6][5] = math.nan
    with pytest.raises(InferenceError, match="for token 5: nothing is signed"):
        trace_steps(range(9), rows)


@settings(deadline=None)
@given(rows)
def test_log_softmax_of_some_ids_has_the_bits_of_the_whole(row):
    ids = ranked(row, 8)
    wide = row.astype(np.float64) - float(row.max())
    assert log_softmax(row, ids).tobytes() == (wide - np.log(np.exp(wide).sum()))[ids].tobytes()
