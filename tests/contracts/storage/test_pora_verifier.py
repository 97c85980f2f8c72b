"""Verification of a proof of random access: the vectors, and the precompile against the Solidity code."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from tests.contracts.storage import pora
from tests.contracts.storage.conftest import vectors
from tests.contracts.storage.test_mine import flow_tree

from zerog.chain.keys import keccak256
from zerog.errors import RpcError

PRECOMPILE = "0x0000000000000000000000000000000000000a20"
FIXED = vectors("pora.json")["fixedInputs"]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _answer(case):
    raw = pora.prng(4096)
    miner, context = _bytes(case["minerId"]), _bytes(case["sealedContextDigest"])
    return pora.answer_of(
        minerId=miner,
        nonce=_bytes(case["nonce"]),
        search=tuple(int(case["range"][k]) for k in ("startPosition", "mineLength", "shardId", "shardMask")),
        recallPosition=case["recallPosition"],
        sealOffset=case["sealOffset"],
        sealedContextDigest=context,
        sealed=pora.seal(raw, miner, context, case["recallPosition"]),
        merkleProof=[_bytes(sibling) for sibling in case["merkleProof"]],
    )


@pytest.fixture
def harness(storage):
    return storage.deploy("PoraVerifierHarness")


@pytest.mark.parametrize("case", FIXED, ids=["one shard", "four shards"])
def test_solidity_gives_the_results_of_the_vectors(harness, case):
    answer = _answer(case)
    assert keccak256(b"".join(answer["sealedData"])) == _bytes(case["sealedKeccak"])
    found = harness.inSolidity(answer, _bytes(case["subtaskDigest"]), True)
    assert found.poraHash == _bytes(case["poraHash"])
    assert found.flowRoot == _bytes(case["recoveredRoot"])
    assert found.recallPosition == case["recallPosition"]
    raw = b"".join(harness.unseal(answer))
    assert raw == pora.prng(4096)
    assert keccak256(raw) == _bytes(case["rawKeccak"])
    assert harness.recoverMerkleRoot(answer, [raw[i : i + 32] for i in range(0, 4096, 32)]) == found.flowRoot


def test_the_python_reference_gives_the_vectors_too():
    for case in FIXED:
        answer = _answer(case)
        search = tuple(answer["range"].values())
        pad = pora.scratch_pad(answer["minerId"], answer["nonce"], _bytes(case["subtaskDigest"]), search)
        assert keccak256(pad.data) == _bytes(case["scratchPadKeccak"])
        assert pora.recalled_load(pad, search) == case["loadIndex"]
        assert pad.hash(b"".join(answer["sealedData"]), answer["sealOffset"]) == _bytes(case["poraHash"])


def test_the_precompile_agrees_with_solidity(storage, harness):
    source = random.Random(2)
    assert harness.byPrecompile(_answer(FIXED[0]), bytes(32), True).answered
    for length in (0, 1, 13, 64):
        for sealed in (True, False):
            shards = 1 << source.randrange(4)
            answer = pora.answer_of(
                minerId=source.randbytes(32),
                nonce=source.randbytes(32),
                search=(
                    source.randrange(4) << 25,
                    1024 * source.randrange(1, 200),
                    shards - 1,
                    2**64 - shards,
                ),
                recallPosition=source.randrange(1 << 40) * 16,
                sealOffset=source.randrange(64),
                sealedContextDigest=source.randbytes(32),
                sealed=source.randbytes(4096),
                merkleProof=[source.randbytes(32) for _ in range(length)],
            )
            subtask = source.randbytes(32)
            native = harness.byPrecompile(answer, subtask, sealed)
            solidity = harness.inSolidity(answer, subtask, sealed)
            assert tuple(native)[1:] == tuple(solidity)[:3]


@pytest.fixture(scope="module")
def flow():
    """Four loads of a flow, and the levels of its tree."""
    model = pora.FlowModel(4 * pora.LOAD)
    model.put(1, pora.prng((model.length - 1) * 256))
    return model, model.levels()


def _mined(flow, words, offset):
    """An honest answer for the nonce: what it recalls, with its proof."""
    model, levels = flow
    miner, nonce, subtask, context = words
    search = (0, model.length, 0, pora.NO_SHARDS)
    load = pora.recalled_load(pora.scratch_pad(miner, nonce, subtask, search), search)
    if load == 0:
        # Sector 0 holds no data.
        offset = max(offset, 1)
    position = load * pora.LOAD + offset * 16
    raw = bytes(model.data[position * 256 :][:4096])
    return pora.answer_of(
        minerId=miner,
        nonce=nonce,
        search=search,
        recallPosition=position,
        sealOffset=offset,
        sealedContextDigest=context,
        sealed=pora.seal(raw, miner, context, position),
        merkleProof=pora.proof_of(levels, position),
    )


def _flipped(word, bit):
    return (int.from_bytes(word) ^ 1 << bit).to_bytes(len(word))


def _corrupted(answer, field, index, bit):
    """The answer with one bit turned over."""
    value = answer[field]
    if isinstance(value, list):
        at = index % len(value)
        changed = [*value[:at], _flipped(value[at], bit), *value[at + 1 :]]
    elif isinstance(value, bytes):
        changed = _flipped(value, bit)
    else:
        changed = value ^ 1 << bit % (6 if field == "sealOffset" else 50)
    return answer | {field: changed}


FIELDS = (
    "minerId",
    "nonce",
    "sealedContextDigest",
    "recallPosition",
    "sealOffset",
    "sealedData",
    "merkleProof",
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=some.tuples(*[some.binary(min_size=32, max_size=32)] * 4),
    offset=some.integers(0, 63),
    field=some.sampled_from(FIELDS),
    index=some.integers(0, 127),
    bit=some.integers(0, 255),
)
def test_one_bit_spoils_an_answer_in_the_precompile_as_in_solidity(
    harness, flow, words, offset, field, index, bit
):
    subtask = words[2]
    honest = _mined(flow, words, offset)
    broken = _corrupted(honest, field, index, bit)
    outcomes = []
    for answer in (honest, broken):
        answered, *native = harness.byPrecompile(answer, subtask, True)
        assert answered
        assert native == list(harness.inSolidity(answer, subtask, True))[:3]
        outcomes.append((native, answer["recallPosition"]))
    (results, claimed), (spoilt, _) = outcomes
    assert (results[1], results[2]) == (flow[1][-1][0], claimed)
    assert spoilt != results


def test_without_precompile_verification_stays_affordable(harness):
    gas = harness.inSolidity(_answer(FIXED[0]), bytes(32), True).gasUsed
    assert gas < 100_000


def test_a_proof_of_more_siblings_than_the_precompile_takes_is_verified_in_solidity(harness):
    answer = _answer(FIXED[0]) | {"merkleProof": [bytes(32)] * 65}
    assert not harness.byPrecompile(answer, bytes(32), True).answered
    assert harness.inSolidity(answer, bytes(32), True).flowRoot != bytes(32)


def test_the_range_must_hold_a_load(harness):
    answer = _answer(FIXED[0])
    answer["range"] |= {"mineLength": 1023}
    with pytest.raises(RpcError):
        harness.inSolidity(answer, bytes(32), True)


def test_the_answer_that_the_official_contract_accepted_is_verified(harness):
    case = vectors("pora.json")["acceptedOnChain"]
    data, levels = flow_tree()
    position, miner = case["recallPosition"], _bytes(case["minerId"])
    raw = data[position * 256 :][:4096]
    assert keccak256(raw) == _bytes(case["rawKeccak"])
    context = _bytes(case["sealedContextDigest"])
    answer = pora.answer_of(
        minerId=miner,
        nonce=_bytes(case["nonce"]),
        search=tuple(int(case["range"][k]) for k in ("startPosition", "mineLength", "shardId", "shardMask")),
        recallPosition=position,
        sealOffset=case["sealOffset"],
        sealedContextDigest=context,
        sealed=pora.seal(raw, miner, context, position),
        merkleProof=pora.proof_of(levels, position),
    )
    found = harness.inSolidity(answer, _bytes(case["subtaskDigest"]), True)
    assert found.poraHash == _bytes(case["poraHash"])
    assert found.recallPosition == position
    assert found.flowRoot.hex() == vectors("flow.json")["submissions"][-1]["flowRoot"][2:]
