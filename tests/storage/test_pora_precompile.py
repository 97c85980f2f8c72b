"""The native contract that checks proofs of random access: results, gas and refusals, as contracts see them."""

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
HEAD = 11 * 32 + layout.SEAL
METER = "0x000000000000000000000000000000000000c0de"
METER_CODE = (
    "0x36602090038060205f37"  # the call data behind its first word, to memory
    "5a905f5f915f610a205f35fa5a"  # gas left; call with as much gas as the first word says; gas left
    "905f5290036020523d60405260605ff3"  # success, gas between, size of the answer
)
"""Code that measures a call of the native contract."""


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


def measured(chain: Devnet, allowance: int, data: bytes) -> tuple[bool, int, int]:
    """Whether a call with this much gas succeeds, the gas that it takes, the bytes that it answers."""

    def run(gas: int) -> tuple[int, int, int]:
        request = {"to": METER, "data": "0x" + gas.to_bytes(32, "big").hex() + data.hex()}
        answer = chain.client.request("eth_call", request, "latest", {METER: {"code": METER_CODE}})
        words = unhex(str(answer))
        success, used, size = (int.from_bytes(words[at : at + 32], "big") for at in (0, 32, 64))
        return success, used, size

    # Without gas the call fails and takes none: what is left is the instructions around it.
    _, around, _ = run(0)
    success, used, size = run(allowance)
    return bool(success), used - around, size


@pytest.mark.parametrize("siblings", [0, 1, 13, 64])
def test_gas_is_twelve_thousand_and_sixty_for_every_sibling(chain: Devnet, siblings: int) -> None:
    data = input_of(CASES[0], words_of(CASES[0]))[:HEAD] + bytes(32 * siblings)
    price = 12_000 + 60 * siblings
    assert measured(chain, price, data) == (True, price, 96)
    assert measured(chain, price + 9_999, data) == (True, price, 96)
    assert measured(chain, price - 1, data) == (False, price - 1, 0)


REFUSED = {
    "start position beyond 64 bits": (3, 1 << 64),
    "length beyond 64 bits": (4, 1 << 64),
    "length of no load": (4, 1023),
    "no length": (4, 0),
    "shard id beyond 64 bits": (5, 1 << 64),
    "shard mask beyond 64 bits": (6, 1 << 255),
    "recall position beyond 64 bits": (7, 1 << 64),
    "piece behind the load": (8, 64),
    "piece beyond 64 bits": (8, 1 << 64),
    "unknown flag": (10, 2),
    "flags beyond 64 bits": (10, 1 << 64 | 1),
    "recalled position beyond 64 bits": (3, (1 << 64) - 1),
    "load beyond 64 bits": (5, (1 << 64) - 1),
}


@pytest.mark.parametrize(("index", "value"), REFUSED.values(), ids=REFUSED)
def test_a_number_out_of_range_takes_all_gas_and_answers_nothing(
    chain: Devnet, index: int, value: int
) -> None:
    words = words_of(CASES[0])
    words[index] = value.to_bytes(32, "big")
    data = input_of(CASES[0], words)
    assert measured(chain, 77_777, data) == (False, 77_777, 0)
    with pytest.raises(RpcError):
        call(chain, data)


LENGTHS = (0, 1, 32, HEAD - 32, HEAD - 1, HEAD + 1, HEAD + 31, HEAD + 33, HEAD + 64 * 32 + 1, HEAD + 65 * 32)


@pytest.mark.parametrize("length", LENGTHS)
def test_input_of_a_wrong_length_takes_all_gas_and_answers_nothing(chain: Devnet, length: int) -> None:
    data = input_of(CASES[0], words_of(CASES[0]))[:HEAD].ljust(length, b"\0")[:length]
    assert measured(chain, 77_777, data) == (False, 77_777, 0)
    with pytest.raises(RpcError):
        call(chain, data)


def flow_of_the_vectors() -> tuple[bytes, bytes]:
    """The data of the flow of `flow.json`, and its root."""
    submissions = load("flow")["submissions"]
    data = bytearray(submissions[-1]["currentLength"] * layout.SECTOR)
    for entry in submissions:
        at = entry["startPos"] * layout.SECTOR
        data[at : at + entry["fileSize"]] = merkle.prng(entry["fileSize"])
    return bytes(data), unhex(submissions[-1]["flowRoot"])


def test_the_answer_that_the_official_contract_accepted_leads_to_its_flow(chain: Devnet) -> None:
    case = load("pora")["acceptedOnChain"]
    position, size = case["recallPosition"], layout.SEAL // layout.SECTOR
    data, root = flow_of_the_vectors()
    raw = data[position * layout.SECTOR :][: layout.SEAL]
    assert _native.keccak256(raw) == unhex(case["rawKeccak"])
    span, miner, context = case["range"], unhex(case["minerId"]), unhex(case["sealedContextDigest"])
    sealed = _native.pora_seal(raw, miner, context, position)
    assert _native.keccak256(sealed) == unhex(case["sealedKeccak"])
    # Sector 0 of the flow is the root of the empty flow; the tree is filled up to 2^17 leaves.
    leaves = [bytes(32), *merkle.leaves(data[layout.SECTOR :])]
    level = leaves + [merkle.EMPTY[0]] * ((1 << 17) - len(leaves))
    index, proof = position, []
    while len(level) > 1:
        proof.append(level[index ^ 1])
        level = [_native.keccak256(level[at] + level[at + 1]) for at in range(0, len(level), 2)]
        index //= 2
    assert level == [root]
    siblings = b"".join(proof[size.bit_length() - 1 :])
    numbers = [int(span[name]) for name in ("startPosition", "mineLength", "shardId", "shardMask")]
    nonce, subtask = unhex(case["nonce"]), unhex(case["subtaskDigest"])
    answer = (position, case["sealOffset"], context, sealed, siblings)
    expected = (unhex(case["poraHash"]), root, position)
    assert _native.pora_verify(miner, nonce, subtask, *numbers, *answer) == expected
    words = [miner, nonce, subtask, *(number.to_bytes(32, "big") for number in numbers)]
    words += [position.to_bytes(32, "big"), case["sealOffset"].to_bytes(32, "big"), context]
    found = call(chain, b"".join([*words, (1).to_bytes(32, "big"), sealed, siblings]))
    assert found == expected[0] + root + position.to_bytes(32, "big")
