"""Ranges, bounds and the encoding of answers."""

from __future__ import annotations

import pytest
from eth_abi import encode
from hypothesis import given
from hypothesis import strategies as st

from zerog.storage.layout import SEGMENT_SECTORS
from zerog.storage.mining.answer import (
    MAX_RANGE,
    Answer,
    RecallRange,
    WorkerContext,
    answer_proof,
    scaled_target,
)
from zerog.storage.values import FlowProof, ShardConfig

ABI = (
    "(bytes32,bytes32,bytes32,(uint256,uint256,uint64,uint64),uint256,uint256,bytes32,bytes32[128],bytes32[])"
)


@pytest.mark.parametrize("siblings", [0, 1, 13])
def test_encoding_is_the_abi_of_the_struct(siblings: int) -> None:
    sealed = bytes(range(256)) * 16
    proof = tuple(bytes([index]) * 32 for index in range(siblings))
    recall = RecallRange(0, 69_632, 1, (1 << 64) - 2)
    answer = Answer(b"\1" * 32, b"\2" * 32, b"\3" * 32, recall, 43_184, 11, b"\4" * 32, sealed, proof)
    words = [sealed[at : at + 32] for at in range(0, 4096, 32)]
    expected = (
        b"\1" * 32, b"\2" * 32, b"\3" * 32, (0, 69_632, 1, (1 << 64) - 2), 43_184, 11, b"\4" * 32, words, proof,
    )  # fmt: skip
    assert answer.encoded() == encode([ABI], [expected])


def test_flow_without_a_full_segment_has_no_range() -> None:
    assert RecallRange.whole(1023, ShardConfig()) is None


@given(st.integers(1024, 1 << 50), st.integers(0, 8))
def test_range_is_what_the_contract_takes(flow_length: int, exponent: int) -> None:
    shards = 1 << exponent
    recall = RecallRange.whole(flow_length, ShardConfig(shards - 1, shards))
    assert recall is not None
    longest = flow_length // SEGMENT_SECTORS * SEGMENT_SECTORS
    assert recall.shards == shards
    assert recall.start % (1 << 25) == 0
    assert recall.start + recall.length <= longest
    assert recall.length <= MAX_RANGE * shards
    assert recall.length >= min(longest, MAX_RANGE * shards)
    assert recall.shard_id & recall.shard_mask == 0


def test_whole_small_flow_in_one_shard_keeps_the_target_in_its_upper_bits() -> None:
    recall = RecallRange(0, 2048, 0, (1 << 64) - 1)
    assert scaled_target(2**256 - 1, 2048, recall) == (2**192 - 1) << 64


def test_one_of_four_shards_gets_a_quarter_of_the_target() -> None:
    recall = RecallRange(0, 4096, 0, (1 << 64) - 4)
    assert scaled_target(2**255, 4096, recall) == 2**253


def test_load_that_crosses_the_end_of_the_range_is_outside() -> None:
    recall = RecallRange(0, 2048, 0, (1 << 64) - 1)
    assert recall.holds(1)
    assert not recall.holds(2)


def test_proof_of_an_answer_starts_above_the_piece() -> None:
    lemma = tuple(bytes([index]) * 32 for index in range(9))
    assert answer_proof(FlowProof(lemma, (True,) * 7)) == lemma[5:-1]


def test_truncated_context_is_refused() -> None:
    with pytest.raises(ValueError, match="288 bytes"):
        WorkerContext.decode(bytes(287))
