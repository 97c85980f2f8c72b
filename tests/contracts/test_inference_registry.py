"""Every function and every revert of `InferenceRegistry`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.contracts.conftest import raw

from zerog.chain.keys import keccak256
from zerog.client import Account
from zerog.contracts import ENGINES, MODELS
from zerog.contracts.genesis import MIN_STAKE, UNSTAKE_DELAY
from zerog.inference.attestation import mock
from zerog.inference.encoding import from_message
from zerog.inference.receipt import AuditVote, InferenceReceipt, model_id

VECTORS = msgspec.json.decode((Path(__file__).parents[1] / "data/inference/receipts.json").read_bytes())
DEV_KEY = VECTORS["private_key"]
UNKNOWN = keccak256(b"unknown")
BURN = "0x000000000000000000000000000000000000dEaD"


def _model(uri: str = "", weights: bytes = UNKNOWN) -> dict[str, Any]:
    return {
        "weightsRoot": weights,
        "tokenizerHash": bytes(32),
        "chatTemplateHash": keccak256(b"template"),
        "quantId": keccak256(b"Q8_0"),
        "uri": uri,
    }


def _id_of(model: dict[str, Any]) -> bytes:
    return model_id(model["weightsRoot"], model["tokenizerHash"], model["chatTemplateHash"], "Q8_0")


# Genesis.


def test_the_default_model_is_registered_from_genesis(world):
    model = world.registry.modelOf(world.model)
    assert "0x" + model.weightsRoot.hex() == MODELS[0].weights_root
    assert model.chatTemplateHash == keccak256(MODELS[0].chat_template.encode())
    assert model.quantId == keccak256(b"Q4_1")
    assert model.uri == MODELS[0].uri


def test_the_default_engine_is_exact_from_genesis(world):
    assert world.registry.engineClass(keccak256(ENGINES[0].name.encode())) == 1


def test_parameters_come_from_genesis(world):
    assert world.registry.minStake() == MIN_STAKE
    assert world.registry.unstakeDelay() == UNSTAKE_DELAY


# Models and engines.


def test_anyone_registers_a_model_whose_identity_follows_from_it(world):
    model = _model("a location that is longer than one word of storage")
    world.registry.registerModel(_id_of(model), model, account=world.stranger)
    assert world.registry.isModel(_id_of(model))
    assert world.registry.modelOf(_id_of(model)).uri == model["uri"]


def test_a_model_under_a_false_identity_is_refused(world, reverts):
    with reverts("ModelIdMismatch"):
        world.registry.registerModel(UNKNOWN, _model())


def test_a_model_cannot_be_registered_twice(world, reverts):
    model = _model()
    world.registry.registerModel(_id_of(model), model)
    with reverts("ModelAlreadyRegistered"):
        world.registry.registerModel(_id_of(model), _model("elsewhere"))


def test_an_unknown_model_has_no_description(world, reverts):
    with reverts("PoIUnknownModel"):
        world.registry.modelOf(UNKNOWN)


def test_only_a_curator_sets_the_class_of_an_engine(world, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        world.registry.setEngineClass("mine", 1, account=world.stranger)
    world.registry.setEngineClass("mine", 2, account=world.admin)
    assert world.registry.engineClass(keccak256(b"mine")) == 2


# Providers and stake.


def test_a_provider_registers_with_its_stake(world):
    provider, engines = world.registry.providerOf(world.provider)
    assert provider.signer == world.signer.address
    assert provider.active
    assert engines == [world.engine]
    assert world.registry.stakeOf(world.provider) == MIN_STAKE
    assert world.registry.isEligible(world.provider)


def test_a_second_registration_changes_signer_and_engines_and_adds_stake(world, reverts):
    world.registry.setEngineClass("other", 2)
    other, signer = keccak256(b"other"), Account.random()
    made = mock.mint(raw(signer), now=world.now)
    world.registry.registerProvider(
        signer, [other], made.quote, made.collateral, account=world.provider, value=5
    )
    provider, engines = world.registry.providerOf(world.provider)
    assert (provider.signer, engines) == (signer.address, [other])
    assert provider.stake == MIN_STAKE + 5
    assert provider.quoteHash == keccak256(made.quote)
    with reverts("PoIBadSignature"):
        world.verify(world.receipt())


def test_a_provider_needs_the_least_stake(world, reverts):
    with reverts(f"StakeTooSmall(stake={MIN_STAKE - 1}, required={MIN_STAKE})"):
        world.register(world.stranger, world.signer, MIN_STAKE - 1)


def test_a_provider_needs_a_signer(world, reverts):
    with reverts("SignerZero"):
        world.registry.registerProvider("0x" + "00" * 20, [world.engine], b"", b"", value=MIN_STAKE)


@pytest.mark.parametrize("count", [0, 17])
def test_a_provider_runs_one_to_sixteen_engines(world, reverts, count):
    with reverts(f"EngineCountInvalid(given={count}, limit=16)"):
        world.registry.registerProvider(world.signer, [world.engine] * count, b"", b"", value=MIN_STAKE)


def test_a_provider_cannot_run_an_unknown_engine(world, reverts):
    with reverts("EngineUnknown"):
        world.registry.registerProvider(world.signer, [UNKNOWN], b"", b"", value=MIN_STAKE)


def test_quote_and_collateral_are_bounded(world, reverts):
    with reverts("QuoteTooLarge(size=16385, limit=16384)"):
        world.registry.registerProvider(world.signer, [world.engine], bytes(16385), b"", value=MIN_STAKE)
    with reverts("CollateralTooLarge(size=65537, limit=65536)"):
        world.registry.registerProvider(world.signer, [world.engine], b"", bytes(65537), value=MIN_STAKE)


def test_stake_can_be_added(world, reverts):
    world.registry.addStake(account=world.provider, value=7)
    assert world.registry.stakeOf(world.provider) == MIN_STAKE + 7
    with reverts("NotRegistered"):
        world.registry.addStake(account=world.stranger, value=7)


def test_unstaked_money_comes_back_after_the_delay(world, reverts):
    world.registry.requestUnstake(MIN_STAKE, account=world.provider)
    assert world.registry.stakeOf(world.provider) == 0
    assert not world.registry.providerOf(world.provider)[0].active
    with reverts("StakeLocked"):
        world.registry.withdrawStake(account=world.provider)
    world.net.increase_time(UNSTAKE_DELAY + 1)
    world.net.mine()
    before = world.client.balance(world.registry)
    world.registry.withdrawStake(account=world.provider)
    assert before - world.client.balance(world.registry) == MIN_STAKE


def test_nothing_is_withdrawn_without_an_exit(world, reverts):
    with reverts("NothingToWithdraw"):
        world.registry.withdrawStake(account=world.provider)
    with reverts("NotRegistered"):
        world.registry.withdrawStake(account=world.stranger)


def test_more_than_the_stake_cannot_leave(world, reverts):
    with reverts(f"UnstakeExceedsStake(amount={MIN_STAKE + 1}, stake={MIN_STAKE})"):
        world.registry.requestUnstake(MIN_STAKE + 1, account=world.provider)
    with reverts("NotRegistered"):
        world.registry.requestUnstake(1, account=world.stranger)


def test_a_reentrant_withdrawal_gains_nothing(world, reverts):
    payee = world.deploy("PayeeMock")
    register = world.registry.registerProvider.encode(world.signer, [world.engine], b"", b"")
    payee.execute(world.registry, register, value=MIN_STAKE)
    payee.execute(world.registry, world.registry.requestUnstake.encode(MIN_STAKE))
    world.net.increase_time(UNSTAKE_DELAY + 1)
    world.net.mine()
    withdraw = world.registry.withdrawStake.encode()
    with reverts("payment refused"):
        payee.execute(world.registry, withdraw)
    payee.setAccepts(True)
    payee.setOnPayment(world.registry, withdraw)
    with reverts("reentry failed"):
        payee.execute(world.registry, withdraw)
    assert world.client.balance(payee) == 0
    payee.setOnPayment("0x" + "00" * 20, b"")
    payee.execute(world.registry, withdraw)
    assert world.client.balance(payee) == MIN_STAKE


def test_a_provider_can_pause(world, reverts):
    world.registry.deactivate(account=world.provider)
    assert not world.registry.isEligible(world.provider)
    with reverts("PoIProviderInactive"):
        world.verify(world.receipt())
    with reverts("NotRegistered"):
        world.registry.deactivate(account=world.stranger)


# Slashing.


def test_slashing_burns_stake_and_leaves_the_reason(world):
    burnt = world.client.balance(BURN)
    slashed = world.registry.slash(world.provider, 10**18, UNKNOWN, account=world.admin)
    event = world.registry.decode(slashed)[0]
    assert (event.amount, event.reason, event.stakeLeft) == (10**18, UNKNOWN, MIN_STAKE - 10**18)
    assert world.client.balance(BURN) - burnt == 10**18


def test_stake_on_its_way_out_is_slashed_too(world):
    world.registry.requestUnstake(MIN_STAKE // 2, account=world.provider)
    world.registry.slash(world.provider, 2 * MIN_STAKE, UNKNOWN, account=world.admin)
    provider, _ = world.registry.providerOf(world.provider)
    assert (provider.stake, provider.unlocking) == (0, 0)
    assert world.client.balance(world.registry) == 0


def test_only_a_slasher_slashes_and_only_providers(world, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        world.registry.slash(world.provider, 1, UNKNOWN, account=world.stranger)
    with reverts("NotRegistered"):
        world.registry.slash(world.stranger, 1, UNKNOWN, account=world.admin)


# Receipts: the checks in the order of the protocol.


def test_a_good_receipt_verifies(world):
    receipt = world.receipt()
    ok, tier, receipt_hash = world.verify(receipt)
    assert (ok, tier) == (True, 0)
    assert receipt_hash == world.digest(receipt) == world.registry.hashReceipt(receipt.to_tuple())


def test_a_strangers_signature_is_refused(world, reverts):
    receipt = world.receipt()
    with reverts("PoIBadSignature"):
        world.verify(receipt, world.sign(receipt, world.stranger))


def test_the_providers_own_key_is_not_its_signer(world, reverts):
    receipt = world.receipt()
    with reverts("PoIBadSignature"):
        world.verify(receipt, world.sign(receipt, world.provider))


@pytest.mark.parametrize("size", [0, 64, 66])
def test_a_signature_of_another_length_is_refused(world, reverts, size):
    receipt = world.receipt()
    with reverts("PoIBadSignature"):
        world.verify(receipt, (world.sign(receipt) + b"\0")[:size])


@pytest.mark.parametrize("field", InferenceReceipt.__struct_fields__)
def test_changing_any_member_after_signing_is_refused(world, reverts, field):
    receipt = world.receipt()
    value = getattr(receipt, field)
    changed = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
    with reverts("PoIBadSignature"):
        world.verify(msgspec.structs.replace(receipt, **{field: changed}), world.sign(receipt))


def test_an_unregistered_provider_is_refused_by_its_signature(world, reverts):
    receipt = world.receipt(provider=bytes.fromhex(world.stranger.address[2:]))
    with reverts("PoIBadSignature"):
        world.verify(receipt, world.sign(receipt, world.stranger))


def test_an_unknown_model_is_refused(world, reverts):
    with reverts("PoIUnknownModel"):
        world.verify(world.receipt(modelId=UNKNOWN))


def test_an_engine_that_the_provider_does_not_run_is_refused(world, reverts):
    world.registry.setEngineClass("other", 1)
    with reverts("PoIProviderInactive"):
        world.verify(world.receipt(engineId=keccak256(b"other")))


def test_an_engine_that_the_curator_withdrew_is_refused(world, reverts):
    world.registry.setEngineClass(ENGINES[0].name, 0)
    with reverts("PoIProviderInactive"):
        world.verify(world.receipt())


def test_a_provider_below_the_least_stake_is_refused(world, reverts):
    world.registry.requestUnstake(1, account=world.provider)
    with reverts("PoIUnderStaked"):
        world.verify(world.receipt())


def test_an_expired_receipt_is_refused(world, reverts):
    assert world.verify(world.receipt(deadline=world.now + 10))
    with reverts("PoIExpired"):
        world.verify(world.receipt(deadline=world.now - 1))


def test_a_used_receipt_is_refused(world, reverts):
    receipt = world.receipt()
    world.registry.consume(receipt.to_tuple(), world.sign(receipt), 0, account=world.user)
    with reverts("PoIReplayed"):
        world.verify(receipt)
    with reverts("PoIReplayed"):
        world.verify(world.receipt(outputHash=UNKNOWN))


def test_a_lower_tier_than_asked_for_is_refused(world, reverts):
    with reverts("PoITierTooLow"):
        world.verify(world.receipt(), tier=1)


@pytest.mark.parametrize("tier", [1, 2, 6, 255])
def test_a_tier_that_nobody_can_claim_is_refused(world, reverts, tier):
    with reverts("PoITierTooLow"):
        world.verify(world.receipt(tier=tier))


def test_the_first_failing_check_is_the_one_reported(world, reverts):
    """Starts with everything wrong and repairs one thing at a time, in the order of the protocol."""
    used = world.receipt(requestId=UNKNOWN)
    world.registry.consume(used.to_tuple(), world.sign(used), 0, account=world.user)
    world.registry.requestUnstake(1, account=world.provider)
    world.registry.deactivate(account=world.provider)
    wrong = world.receipt(requestId=UNKNOWN, modelId=UNKNOWN, deadline=1, tier=1)
    with reverts("PoIBadSignature"):
        world.verify(wrong, b"")
    with reverts("PoIUnknownModel"):
        world.verify(wrong)
    wrong = msgspec.structs.replace(wrong, modelId=world.model)
    with reverts("PoIProviderInactive"):
        world.verify(wrong)
    world.registry.setParameters(0, 0)
    world.registry.registerProvider(world.signer, [world.engine], b"", b"", account=world.provider)
    world.registry.setParameters(MIN_STAKE, UNSTAKE_DELAY)
    with reverts("PoIUnderStaked"):
        world.verify(wrong)
    world.registry.addStake(account=world.provider, value=1)
    with reverts("PoIExpired"):
        world.verify(wrong)
    wrong = msgspec.structs.replace(wrong, deadline=world.now + 600)
    with reverts("PoIReplayed"):
        world.verify(wrong)
    with reverts("PoITierTooLow"):
        world.verify(msgspec.structs.replace(wrong, requestId=keccak256(b"fresh")))


# Evidence.


def test_a_claim_without_a_judge_is_worth_its_signature(world, reverts):
    _, tier, _ = world.verify(world.receipt(tier=3, evidenceHash=UNKNOWN))
    assert tier == 0
    with reverts("PoITierTooLow"):
        world.verify(world.receipt(tier=3, evidenceHash=UNKNOWN), tier=3)


def test_a_claim_counts_once_its_proof_was_accepted(world):
    world.registry.grantRole(keccak256(b"EVIDENCE_ROLE"), world.admin)
    claim = world.receipt(tier=4, evidenceHash=UNKNOWN)
    assert world.verify(claim)[1] == 0
    world.registry.recordEvidence(world.digest(claim), 4)
    assert world.verify(claim, tier=4)[1] == 4


def test_a_proof_of_one_kind_is_no_proof_of_another(world):
    world.registry.grantRole(keccak256(b"EVIDENCE_ROLE"), world.admin)
    claim = world.receipt(tier=5)
    world.registry.recordEvidence(world.digest(claim), 4)
    assert world.verify(claim)[1] == 0


def test_only_the_evidence_contract_records_and_only_evidence_tiers(world, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        world.registry.recordEvidence(UNKNOWN, 4, account=world.stranger)
    world.registry.grantRole(keccak256(b"EVIDENCE_ROLE"), world.admin)
    for tier in (0, 1, 2, 3, 6):
        with reverts(f"TierWithoutEvidence(tier={tier})"):
            world.registry.recordEvidence(UNKNOWN, tier)


# Using receipts up.


def test_consuming_records_the_receipt(world):
    receipt = world.receipt()
    done = world.registry.consume(receipt.to_tuple(), world.sign(receipt), 0, account=world.user)
    receipt_hash = world.digest(receipt)
    provider, block, tier, condemned = world.registry.receiptOf(receipt_hash)
    assert (provider, block, tier) == (world.provider.address, done.block_number, 0)
    assert not condemned
    assert world.registry.levelOf(receipt_hash) == (True, 0)
    assert world.registry.isUsed(receipt.requestId, world.user)


def test_only_the_requester_uses_up_a_receipt(world, reverts):
    receipt = world.receipt()
    with reverts("NotRequester"):
        world.registry.consume(receipt.to_tuple(), world.sign(receipt), 0, account=world.stranger)


def test_the_requester_cannot_take_an_answer_past_the_gate(world, reverts):
    answer = world.answer(world.request())
    with reverts("ReservedForGate"):
        world.registry.consume(answer.to_tuple(), world.sign(answer), 0, account=world.user)


def test_one_requesters_use_does_not_burn_anothers_request_id(world):
    """A requester in league with a provider must not block the next gate request of a victim."""
    victim, accomplice = world.user, world.stranger
    squatted = world.receipt(
        requestId=world.next_request_id(victim), requester=bytes.fromhex(accomplice.address[2:])
    )
    world.registry.consume(squatted.to_tuple(), world.sign(squatted), 0, account=accomplice)
    assert world.state(world.request(victim)) == 1


def test_only_gates_reserve_and_raise(world, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        world.registry.reserve(UNKNOWN, world.user, account=world.stranger)
    with reverts("NotAuditor"):
        world.registry.raiseTier(UNKNOWN, 1, account=world.stranger)


def test_a_request_id_is_reserved_once(world, reverts):
    world.registry.grantRole(keccak256(b"GATE_ROLE"), world.stranger)
    world.registry.reserve(UNKNOWN, world.user, account=world.stranger)
    with reverts("RequestIdTaken"):
        world.registry.reserve(UNKNOWN, world.user, account=world.stranger)


def test_tiers_only_rise_and_only_of_known_receipts(world, reverts):
    world.registry.grantRole(keccak256(b"GATE_ROLE"), world.stranger)
    receipt = world.receipt()
    with reverts("ReceiptUnknown"):
        world.registry.raiseTier(world.digest(receipt), 1, account=world.stranger)
    with reverts("ReceiptUnknown"):
        world.registry.receiptOf(world.digest(receipt))
    world.registry.consume(receipt.to_tuple(), world.sign(receipt), 0, account=world.user)
    world.registry.raiseTier(world.digest(receipt), 2, account=world.stranger)
    with reverts("TierNotRaised(current=2, given=1)"):
        world.registry.raiseTier(world.digest(receipt), 1, account=world.stranger)


def test_only_the_administrator_sets_parameters(world, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        world.registry.setParameters(1, 1, account=world.stranger)
    world.registry.setParameters(1, 2)
    assert (world.registry.minStake(), world.registry.unstakeDelay()) == (1, 2)


# Vectors.


def test_the_domain_is_that_of_the_vectors(world):
    assert "0x" + world.registry.domainSeparator().hex() == VECTORS["domain"]["separator"]
    _, name, version, chain_id, address, _, _ = world.registry.eip712Domain()
    domain = VECTORS["domain"]
    assert (name, version, chain_id) == (domain["name"], domain["version"], domain["chainId"])
    assert address == domain["verifyingContract"]


@pytest.mark.parametrize("vector", VECTORS["receipts"], ids=lambda v: v["name"])
def test_the_contract_hashes_the_receipts_of_the_vectors(world, vector):
    receipt = from_message(InferenceReceipt, vector["message"])
    assert "0x" + world.registry.hashReceipt(receipt.to_tuple()).hex() == vector["digest"]


@pytest.mark.parametrize("vector", VECTORS["audit_votes"], ids=["good", "bad"])
def test_the_contract_hashes_the_votes_of_the_vectors(world, vector):
    vote = from_message(AuditVote, vector["message"])
    assert "0x" + world.registry.hashVote(vote.to_tuple()).hex() == vector["digest"]


def test_the_contract_verifies_the_reference_receipt_and_refuses_its_bad_signatures(world, reverts):
    account = Account(DEV_KEY)
    world.register(account, account)
    good, refused = VECTORS["receipts"][0], VECTORS["refused"]
    # The receipt of the vectors has expired: the same statement with a later deadline is signed anew.
    receipt = from_message(InferenceReceipt, good["message"])
    signature = bytes.fromhex(good["signature"][2:])
    with reverts("PoIExpired"):
        world.verify(receipt, signature)
    same_message = [entry for entry in refused if entry["digest"] == good["digest"]]
    assert len(same_message) == 3
    for entry in same_message:
        with reverts(entry["expect"]):
            world.verify(receipt, bytes.fromhex(entry["signature"][2:]))
    with reverts("PoIBadSignature"):
        world.verify(msgspec.structs.replace(receipt, outputTokens=95), signature)
