"""Receipts are found in whatever transaction brought them, and nothing else is taken for one."""

from __future__ import annotations

import msgspec
import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from zerog.errors import InferenceError
from zerog.inference.audit.receipts import SIZE, find_receipt, parse_receipt, receipt_of
from zerog.inference.encoding import from_message
from zerog.inference.receipt import InferenceReceipt

SEPARATOR = b"\x05" * 32
TYPE = "(" + ",".join(kind for kind, _ in InferenceReceipt.members()) + ")"


@pytest.fixture(scope="module")
def receipts(vectors):
    return [from_message(InferenceReceipt, known["message"]) for known in vectors["receipts"]]


def test_the_encoding_is_that_of_the_abi(receipts):
    for receipt in receipts:
        words = encode([TYPE], [receipt.to_tuple()])
        assert len(words) == SIZE
        assert parse_receipt(words) == receipt


@pytest.mark.parametrize("before", [b"", b"\x12\x34\x56\x78", bytes(36), b"call" + bytes(64)])
def test_a_receipt_is_found_anywhere_in_the_input(receipts, before):
    receipt = receipts[0]
    data = before + encode([TYPE], [receipt.to_tuple()]) + b"signature and more"
    assert find_receipt(data, receipt.requestId, receipt.digest(SEPARATOR), SEPARATOR) == receipt


def test_a_twin_before_it_does_not_hide_a_receipt(receipts):
    receipt = receipts[0]
    twin = msgspec.structs.replace(receipt, outputTokens=1)
    data = b"".join(encode([TYPE], [r.to_tuple()]) for r in (twin, receipt)) + receipt.requestId
    assert find_receipt(data, receipt.requestId, receipt.digest(SEPARATOR), SEPARATOR) == receipt


def test_another_receipt_of_the_request_is_not_taken_for_it(receipts):
    receipt = receipts[0]
    data = encode([TYPE], [msgspec.structs.replace(receipt, outputTokens=1).to_tuple()])
    assert find_receipt(data, receipt.requestId, receipt.digest(SEPARATOR), SEPARATOR) is None


@given(st.binary(max_size=2 * SIZE))
def test_foreign_bytes_are_no_receipt(data):
    assert find_receipt(data, b"\x01" * 32, b"\x02" * 32, SEPARATOR) is None
    parsed = parse_receipt(data)
    assert parsed is None or encode([TYPE], [parsed.to_tuple()]) == data[:SIZE]


def test_a_decoded_struct_becomes_a_receipt(receipts):
    assert receipt_of(receipts[0].to_tuple()) == receipts[0]
    with pytest.raises(InferenceError, match="16 members, not 2"):
        receipt_of((1, 2))
