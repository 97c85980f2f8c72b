"""The native contract at 0x…0A10 against its specification, the registry's Solidity code."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.contracts.conftest import World, raw

from zerog.chain.keys import keccak256
from zerog.chain.native_contracts import VERIFY_RECEIPT, receipt_slots
from zerog.client import Account, Devnet
from zerog.contracts import ENGINES, INFERENCE_REGISTRY, artifact
from zerog.contracts.genesis import MIN_STAKE
from zerog.contracts.storage import mapping_slot
from zerog.errors import RpcError
from zerog.inference.encoding import domain_separator
from zerog.inference.receipt import InferenceReceipt, sign

UNKNOWN = keccak256(b"unknown")
WORDS = 18


def _ask(world, target: str, data: bytes, value: int = 0) -> tuple[str, str]:
    """How a call ends: its kind and the bytes that come back."""
    call = {"from": world.user.address, "to": target, "data": "0x" + data.hex(), "value": hex(value)}
    try:
        return "returned", world.client.request("eth_call", call, "latest")
    except RpcError as error:
        return "reverted", error.data if isinstance(error.data, str) else "0x"


def _both(world, data: bytes, value: int = 0) -> tuple[str, str]:
    """The answer on which both agree."""
    native, solidity = (_ask(world, target, data, value) for target in (VERIFY_RECEIPT, INFERENCE_REGISTRY))
    assert native == solidity, f"native {native}, Solidity {solidity}, for 0x{data.hex()}"
    return native


def _call(world, receipt: InferenceReceipt, signature: bytes | None = None, tier: int = 0) -> bytes:
    signature = world.sign(receipt) if signature is None else signature
    return bytes(world.registry.verifyReceipt.encode(receipt.to_tuple(), signature, tier))


def _error(name: str) -> tuple[str, str]:
    return "reverted", "0x" + keccak256(f"{name}()".encode())[:4].hex()


@pytest.mark.parametrize("name", receipt_slots())
def test_the_native_contract_reads_where_the_compiler_put_it(name):
    assert receipt_slots()[name] == artifact("InferenceRegistry").slot(name)


def test_the_native_contract_reads_members_where_the_compiler_put_them():
    types = artifact("InferenceRegistry").storage_layout.types
    members = {
        type_["label"]: {m["label"]: (int(m["slot"]), int(m["offset"])) for m in type_["members"]}
        for type_ in types.values()
        if "members" in type_
    }
    provider = members["struct InferenceRegistry.Provider"]
    assert (provider["signer"], provider["active"], provider["stake"]) == ((0, 0), (0, 20), (1, 0))
    assert members["struct InferenceRegistry.Usage"]["used"] == (0, 20)
    assert members["struct EnumerableSet.Set"]["_positions"] == (1, 0)


def test_the_native_contract_reads_attestations_where_the_compiler_put_them():
    types = artifact("InferenceRegistry").storage_layout.types
    attestation = next(t for t in types.values() if t["label"] == "struct InferenceRegistry.Attestation")
    members = {m["label"]: (int(m["slot"]), int(m["offset"])) for m in attestation["members"]}
    assert (members["until"], members["quoteHash"]) == ((0, 0), (1, 0))


def test_a_good_receipt_gets_the_same_answer(world):
    receipt = world.receipt()
    kind, data = _both(world, _call(world, receipt))
    assert kind == "returned"
    assert data == "0x" + (1).to_bytes(32).hex() + bytes(32).hex() + world.digest(receipt).hex()


def test_every_error_comes_in_the_same_order(world):
    """Starts with everything wrong and repairs one thing at a time."""
    used = world.receipt(requestId=UNKNOWN)
    world.registry.consume(used.to_tuple(), world.sign(used), 0, account=world.user)
    world.registry.requestUnstake(1, account=world.provider)
    world.registry.deactivate(account=world.provider)
    wrong = world.receipt(requestId=UNKNOWN, modelId=UNKNOWN, deadline=1, tier=1)

    def refused(error: str, signature: bytes | None = None) -> None:
        assert _both(world, _call(world, wrong, signature)) == _error(error)

    refused("PoIBadSignature", b"")
    refused("PoIUnknownModel")
    wrong = msgspec.structs.replace(wrong, modelId=world.model)
    refused("PoIProviderInactive")
    world.registry.setParameters(0, 0)
    world.registry.registerProvider(world.signer, [world.engine], b"", b"", account=world.provider)
    world.registry.setParameters(MIN_STAKE, 86_400)
    refused("PoIUnderStaked")
    world.registry.addStake(account=world.provider, value=1)
    refused("PoIExpired")
    wrong = msgspec.structs.replace(wrong, deadline=world.now + 600)
    refused("PoIReplayed")
    wrong = msgspec.structs.replace(wrong, requestId=keccak256(b"fresh"))
    refused("PoITierTooLow")
    wrong = msgspec.structs.replace(wrong, tier=0)
    assert _both(world, _call(world, wrong))[0] == "returned"
    assert _both(world, _call(world, wrong, tier=1)) == _error("PoITierTooLow")


def test_an_engine_must_be_known_and_run_by_the_provider(world):
    world.registry.setEngineClass("other", 1)
    other = world.receipt(engineId=keccak256(b"other"))
    assert _both(world, _call(world, other)) == _error("PoIProviderInactive")
    world.registry.setEngineClass(ENGINES[0].name, 0)
    assert _both(world, _call(world, world.receipt())) == _error("PoIProviderInactive")


def test_the_deadline_counts_to_its_last_second(world):
    # A call at the head runs at the head's own time.
    assert _both(world, _call(world, world.receipt(deadline=world.now)))[0] == "returned"
    assert _both(world, _call(world, world.receipt(deadline=world.now - 1))) == _error("PoIExpired")


@pytest.mark.parametrize("tier", range(8))
def test_claims_without_evidence_get_the_same_answer(world, tier):
    claim = world.receipt(tier=tier, evidenceHash=UNKNOWN)
    for least in (0, 1, 3, 255):
        _both(world, _call(world, claim, tier=least))


def test_an_attested_signer_lifts_its_claim_until_it_expires(world):
    slot = mapping_slot(keccak256, receipt_slots()["_attested"], int(world.signer.address, 16))
    world.net.set_storage(INFERENCE_REGISTRY, slot, (1 << 64) | world.now)
    world.net.set_storage(INFERENCE_REGISTRY, slot + 1, int.from_bytes(UNKNOWN))
    claim = world.receipt(tier=3, evidenceHash=UNKNOWN)
    kind, data = _both(world, _call(world, claim, tier=3))
    assert (kind, data[2 + 64 : 2 + 128]) == ("returned", (3).to_bytes(32).hex())
    other = world.receipt(tier=3, evidenceHash=keccak256(b"another quote"))
    assert _both(world, _call(world, other, tier=3)) == _error("PoITierTooLow")
    world.net.set_storage(INFERENCE_REGISTRY, slot, world.now - 1)
    assert _both(world, _call(world, claim, tier=3)) == _error("PoITierTooLow")


@pytest.mark.parametrize("tier", [4, 5])
def test_recorded_evidence_lifts_its_claim_and_no_other(world, tier):
    claim = world.receipt(tier=tier, evidenceHash=UNKNOWN)
    slot = mapping_slot(keccak256, receipt_slots()["_evidence"], int.from_bytes(world.digest(claim)))
    world.net.set_storage(INFERENCE_REGISTRY, slot, tier)
    assert _both(world, _call(world, claim, tier=tier))[0] == "returned"
    world.net.set_storage(INFERENCE_REGISTRY, slot, 9 - tier)
    assert _both(world, _call(world, claim, tier=3)) == _error("PoITierTooLow")


def test_malleable_and_malformed_signatures_get_the_same_answer(world):
    receipt = world.receipt()
    good = world.sign(receipt)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    twin = good[:32] + (order - int.from_bytes(good[32:64])).to_bytes(32) + bytes([55 - good[64]])
    bad = [twin, good[:64], good + b"\0", good[:64] + bytes([good[64] - 27]), b"", bytes(65), b"\xff" * 65]
    for signature in bad:
        assert _both(world, _call(world, receipt, signature)) == _error("PoIBadSignature")


def test_dirty_bits_revert_without_data(world):
    data = _call(world, world.receipt())
    narrow = {1: 12, 2: 12, 10: 28, 11: 28, 12: 24, 13: 24, 14: 31, 17: 31}
    for word, clean in narrow.items():
        for byte in (0, clean - 1):
            bent = bytearray(data)
            bent[4 + 32 * word + byte] |= 1
            assert _both(world, bytes(bent)) == ("reverted", "0x")


def test_a_payment_is_refused(world):
    assert _both(world, _call(world, world.receipt()), value=1) == ("reverted", "0x")


def test_both_follow_the_chain_id():
    with Devnet(chain_id=4242) as net:
        admin, provider, user, stranger = net.accounts[:4]
        other = World(net, admin, provider, Account.random(), user, stranger)
        other.register(provider, other.signer)
        receipt = other.receipt()
        assert _both(other, _call(other, receipt))[0] == "returned"
        elsewhere = receipt.digest(domain_separator(31337, raw(INFERENCE_REGISTRY)))
        signature = sign(other.signer.key, elsewhere)
        assert _both(other, _call(other, receipt, signature)) == _error("PoIBadSignature")


def test_the_native_contract_answers_one_function(world):
    assert _ask(world, VERIFY_RECEIPT, world.registry.minStake.encode()) == ("reverted", "0x")
    assert _both(world, b"") == ("reverted", "0x")


def _offset(source: random.Random, data: bytes) -> bytes:
    """Moves the signature's offset or length to an edge."""
    edges = (
        0,
        31,
        32,
        512,
        544,
        576,
        577,
        len(data) - 36,
        len(data) - 35,
        len(data),
        2**64 - 1,
        2**64,
        2**256 - 1,
    )
    place = 4 + 32 * source.choice((16, 18))
    return data[:place] + source.choice(edges).to_bytes(32) + data[place + 32 :]


def _flip(source: random.Random, data: bytes) -> bytes:
    bent = bytearray(data)
    bent[source.randrange(len(bent))] ^= 1 << source.randrange(8)
    return bytes(bent)


def _cut(source: random.Random, data: bytes) -> bytes:
    return data[: source.randrange(len(data))]


def _extend(source: random.Random, data: bytes) -> bytes:
    return data + source.randbytes(source.randrange(1, 70))


def _zero_word(source: random.Random, data: bytes) -> bytes:
    place = 4 + 32 * source.randrange(WORDS)
    return data[:place] + bytes(32) + data[place + 32 :]


def _keep(source: random.Random, data: bytes) -> bytes:
    return data


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _offset,
    _flip,
    _cut,
    _extend,
    _zero_word,
    _keep,
)


def _random_receipt(world, source: random.Random) -> InferenceReceipt:
    """Mostly good; each member may go wrong."""
    rare: dict[str, Any] = {
        "requestId": source.randbytes(32),
        "requester": source.randbytes(20),
        "provider": source.randbytes(20),
        "modelId": source.randbytes(32),
        "engineId": source.randbytes(32),
        "deadline": source.choice((0, world.now - 1, world.now, 2**64 - 1)),
        "tier": source.randrange(7),
        "evidenceHash": source.randbytes(32),
        "outputTokens": source.choice((0, 2**32 - 1)),
    }
    return world.receipt(**{name: value for name, value in rare.items() if source.random() < 0.12})


@pytest.mark.parametrize("seed", range(4))
def test_both_agree_on_generated_and_mutated_calls(world, seed):
    """3,000 calls in all; each kind of answer is seen."""
    source = random.Random(seed)
    seen: dict[tuple[str, str], int] = {}
    for _ in range(750):
        receipt = _random_receipt(world, source)
        signer = world.signer if source.random() < 0.9 else world.stranger
        data = _call(world, receipt, world.sign(receipt, signer), source.choice((0, 0, 0, 1, 3)))
        kind, answer = _both(world, source.choice(MUTATIONS)(source, data))
        key = kind, "" if kind == "returned" else answer
        seen[key] = seen.get(key, 0) + 1
    expected = ("PoIBadSignature", "PoIUnknownModel", "PoIProviderInactive", "PoIExpired", "PoITierTooLow")
    assert {("returned", ""), ("reverted", "0x"), *map(_error, expected)} <= seen.keys(), seen


METER = "0x00000000000000000000000000000000000c0de5"


def _metered(world, target: str, gas: str) -> tuple[bool, int]:
    """Success and cost of a static call from a contract, with ``gas`` as bytecode that pushes its limit."""
    # calldatacopy(0, 0, size); before = gas(); ok = staticcall(gas, target, 0, size, 0, 0); used = before - gas()
    call = f"365f5f375a5f5f365f61{target[-4:]}{gas}fa"
    world.net.set_code(METER, bytes.fromhex(call + "5f525a900360205260405ff3"))
    data = _call(world, world.receipt())
    answer = world.client.request("eth_call", {"to": METER, "data": "0x" + data.hex()}, "latest")
    return bool(int(answer[2:66], 16)), int(answer[66:], 16)


def test_a_call_costs_at_most_ten_thousand_gas_and_less_than_in_solidity(world):
    answered, used = _metered(world, VERIFY_RECEIPT, "5a")
    assert answered
    assert 3_000 < used <= 10_000
    by_solidity, more = _metered(world, INFERENCE_REGISTRY, "5a")
    assert by_solidity
    assert used < more


def test_too_little_gas_is_no_answer(world):
    for gas in ("610001", "610dab", "6110ff"):
        answered, used = _metered(world, VERIFY_RECEIPT, gas)
        assert not answered
        assert used >= int(gas[2:], 16)
