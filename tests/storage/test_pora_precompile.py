"""The native contract that checks proofs of random access, called as contracts call it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.storage.reference import merkle
from tests.storage.vectors import load, unhex

from zerog import Devnet, _native
from zerog.errors import RpcError
from zerog.storage import layout

ADDRESS = "0x0000000000000000000000000000000000000a20"
CASES = load("pora")["fixedInputs"]


@pytest.fixture(scope="module")
def chain() -> Iterator[Devnet]:
    with Devnet() as devnet:
        yield devnet


def words_of(case: dict[str, Any]) -> list[bytes]:
    span = case["range"]
    numbers = [int(span[name]) for name in ("startPosition", "mineLength", "shardId", "shardMask")]
    numbers += [case["recallPosition"], case["sealOffset"]]
    head = [unhex(case[name]) for name in ("minerId", "nonce", "subtaskDigest")]
    tail = [unhex(case["sealedContextDigest"]), (1).to_bytes(32, "big")]
    return head + [number.to_bytes(32, "big") for number in numbers] + tail


def input_of(case: dict[str, Any], words: list[bytes]) -> bytes:
    miner, context = unhex(case["minerId"]), unhex(case["sealedContextDigest"])
    sealed = _native.pora_seal(merkle.prng(layout.SEAL), miner, context, case["recallPosition"])
    return b"".join(words) + sealed + b"".join(map(unhex, case["merkleProof"]))


def call(chain: Devnet, data: bytes) -> bytes:
    answer = chain.client.request("eth_call", {"to": ADDRESS, "data": "0x" + data.hex()}, "latest")
    assert isinstance(answer, str)
    return unhex(answer)


@pytest.mark.parametrize("case", CASES, ids=["alone", "shard"])
def test_a_contract_call_evaluates_an_answer_to_the_bit(chain: Devnet, case: dict[str, Any]) -> None:
    found = call(chain, input_of(case, words_of(case)))
    assert found[:32] == unhex(case["poraHash"])
    assert found[32:64] == unhex(case["recoveredRoot"])
    assert int.from_bytes(found[64:], "big") == case["recallPosition"]


@pytest.mark.parametrize(
    ("index", "value"),
    [(4, 1023), (4, 1 << 64), (5, 1 << 64), (6, 1 << 64), (7, 1 << 64), (8, 64), (10, 2)],
    ids=["no load", "length", "shard id", "shard mask", "recall position", "seal offset", "flags"],
)
def test_a_number_out_of_range_fails_the_call(chain: Devnet, index: int, value: int) -> None:
    words = words_of(CASES[0])
    words[index] = value.to_bytes(32, "big")
    with pytest.raises(RpcError):
        call(chain, input_of(CASES[0], words))


def test_input_of_a_wrong_length_fails_the_call(chain: Devnet) -> None:
    data = input_of(CASES[0], words_of(CASES[0]))
    for broken in (b"", data[:-1], data[:4000], data + bytes(32 * 64)):
        with pytest.raises(RpcError):
            call(chain, broken)
