"""Every function and every revert of `InferenceGate`."""

from __future__ import annotations

import msgspec
import pytest

from zerog.chain.keys import keccak256
from zerog.contracts.genesis import (
    AUDIT_FEE,
    AUDIT_SHARE_PPM,
    AUDIT_WINDOW,
    MAX_CALLBACK_GAS,
    REQUEST_TIMEOUT,
)
from zerog.errors import ContractReverted, TransactionFailed
from zerog.inference.receipt import SamplingParams
from zerog.inference.sampling import gate_seed

OPEN, PARKED, DELIVERED, CALLBACK_FAILED, DISPUTED, REFUNDED = range(1, 7)
ACCEPT, REVERT, REVERT_HUGE, BURN_GAS, REENTER, ASK_AGAIN = range(6)
UNKNOWN = keccak256(b"unknown")
INPUT = b"Is water wet?"
OUTPUT = b"Yes."
FEE = 1000
PAID = FEE - FEE * AUDIT_SHARE_PPM // 10**6
"""What a provider gets of the fee; the rest pays for audits."""
PARAMS = SamplingParams(maxTokens=8)


def _raw(target) -> bytes:
    return bytes.fromhex(target.address[2:])


def _after_deadline(world) -> None:
    world.net.increase_time(REQUEST_TIMEOUT + 1)
    world.net.mine()


@pytest.fixture
def consumer(world):
    """A contract that asks and receives."""
    return world.deploy("ConsumerMock")


# Requests.


def test_a_request_takes_the_fee_and_fixes_the_question(world):
    requested = world.request(fee=FEE)
    request = world.gate.requestOf(requested)
    assert requested != bytes(32)
    assert (request.state, request.fee, request.requester) == (OPEN, FEE, world.user.address)
    assert request.inputHash == keccak256(INPUT)
    assert request.paramsHash == PARAMS.struct_hash()
    assert request.deadline == world.now + REQUEST_TIMEOUT
    assert world.client.balance(world.gate) == FEE


def test_request_ids_are_those_of_the_protocol_and_never_repeat(world):
    for _ in range(2):
        expected = world.next_request_id(world.user)
        assert world.request() == expected


def test_the_event_carries_what_a_provider_needs(world):
    sent = world.gate.requestInference(
        world.model, INPUT, PARAMS.to_tuple(), 1, 77, account=world.user, value=FEE
    )
    event = world.gate.decode(sent)[0]
    assert (event.input, event.minTier, event.gasLimit, event.fee) == (INPUT, 1, 77, FEE)
    assert event.params.maxTokens == 8
    assert event.modelId == world.model


def test_the_seed_of_the_second_sampler_comes_from_the_chain(world):
    chosen = SamplingParams(maxTokens=8, temperatureMilli=700, seed=1, sampler=1)
    requested = world.request(params=chosen)
    block = world.client.block(world.client.block_number).raw
    seed = gate_seed(requested, bytes.fromhex(block["mixHash"][2:]))
    settled = msgspec.structs.replace(chosen, seed=seed)
    assert world.gate.requestOf(requested).paramsHash == settled.struct_hash()


def test_a_request_for_an_unknown_model_is_refused(world, reverts):
    with reverts("PoIUnknownModel"):
        world.gate.requestInference(UNKNOWN, INPUT, PARAMS.to_tuple(), 0, 0)


def test_a_request_is_bounded_in_every_dimension(world, reverts):
    def ask(data=INPUT, params=PARAMS, tier=0, gas=0):
        return world.gate.requestInference.call(world.model, data, params.to_tuple(), tier, gas)

    assert ask(bytes(32_768), tier=5, gas=MAX_CALLBACK_GAS)
    with reverts("InputTooLarge(size=32769, limit=32768)"):
        ask(bytes(32_769))
    with reverts("TierUnknown(tier=6)"):
        ask(tier=6)
    with reverts(f"CallbackGasTooHigh(gasLimit={MAX_CALLBACK_GAS + 1}"):
        ask(gas=MAX_CALLBACK_GAS + 1)
    for tokens in (0, 4097):
        with reverts(f"TokensOutOfRange(maxTokens={tokens}, limit=4096)"):
            ask(params=SamplingParams(maxTokens=tokens))
    with reverts("SamplerUnknown(sampler=2)"):
        ask(params=SamplingParams(maxTokens=1, sampler=2))


@pytest.mark.parametrize("field", ["temperatureMilli", "topPMilli", "topK", "repeatPenaltyMilli"])
def test_greedy_requests_have_neutral_parameters(world, reverts, field):
    with reverts("GreedyParamsNotNeutral"):
        world.request(params=SamplingParams(maxTokens=8, **{field: 5}))


# Answers.


def test_an_answer_reaches_the_consumer_and_pays_the_provider(world, consumer):
    requested = world.request(consumer, fee=FEE)
    done = world.fulfill(world.answer(requested))
    assert world.events(done) == ["InferenceFulfilled", "InferenceDelivered", "ReceiptConsumed"]
    assert world.state(requested) == DELIVERED
    assert (consumer.lastRequestId(), consumer.lastOutput(), consumer.lastTier()) == (requested, OUTPUT, 0)
    assert world.gate.creditOf(world.provider) == PAID


def test_the_callback_gets_the_gas_that_was_asked_for(world, consumer):
    requested = world.request(consumer, gas=333_333)
    world.fulfill(world.answer(requested))
    assert 330_000 < consumer.gasSeen() <= 333_333


def test_anybody_may_carry_an_answer(world, consumer):
    requested = world.request(consumer)
    world.fulfill(world.answer(requested), account=world.stranger)
    assert world.state(requested) == DELIVERED


def test_an_account_without_code_gets_its_answer_in_the_event(world):
    requested = world.request(world.user)
    done = world.fulfill(world.answer(requested))
    event = next(e for e in world.gate.decode(done) if e.name == "InferenceFulfilled")
    assert event.output == OUTPUT
    assert world.state(requested) == DELIVERED


def test_an_altered_output_is_refused(world, reverts):
    answer = world.answer(world.request())
    with reverts("OutputMismatch"):
        world.fulfill(answer, b"No.")


def test_an_altered_output_with_its_hash_adjusted_is_refused(world, reverts):
    answer = world.answer(world.request())
    forged = msgspec.structs.replace(answer, outputHash=keccak256(b"No."))
    with reverts("PoIBadSignature"):
        world.fulfill(forged, b"No.", world.sign(answer))


def test_an_unsigned_answer_is_refused(world, reverts):
    answer = world.answer(world.request())
    with reverts("PoIBadSignature"):
        world.fulfill(answer, signature=b"")


def test_a_strangers_answer_is_refused(world, reverts):
    answer = world.answer(world.request())
    with reverts("PoIBadSignature"):
        world.fulfill(answer, signature=world.sign(answer, world.stranger))


def test_a_replayed_answer_is_refused(world, reverts):
    answer = world.answer(world.request())
    world.fulfill(answer)
    with reverts("PoIReplayed"):
        world.fulfill(answer)


def test_an_expired_receipt_is_refused(world, reverts):
    answer = world.answer(world.request(), deadline=world.now - 1)
    with reverts("PoIExpired"):
        world.fulfill(answer)


def test_an_answer_after_the_requests_deadline_is_refused(world, reverts):
    requested = world.request()
    _after_deadline(world)
    with reverts("PoIExpired"):
        world.fulfill(world.answer(requested, deadline=world.now + 600))


def test_an_answer_to_no_request_is_refused(world, reverts):
    with reverts("NotRequester"):
        world.fulfill(world.receipt())
    with reverts("RequestNotOpen"):
        self_made = world.receipt(requester=_raw(world.gate))
        world.net.set_balance(world.gate, 10**18)
        with world.net.impersonate(world.gate) as gate:
            world.gate.fulfill.call(self_made.to_tuple(), world.sign(self_made), OUTPUT, account=gate)


@pytest.mark.parametrize(
    ("field", "error"),
    [
        ("requester", "NotRequester"),
        ("inputHash", "InputMismatch"),
        ("paramsHash", "ParamsMismatch"),
    ],
)
def test_a_genuine_receipt_about_something_else_is_refused(world, reverts, field, error):
    size = 20 if field == "requester" else 32
    with reverts(error):
        world.fulfill(world.answer(world.request(), **{field: UNKNOWN[:size]}))


def test_a_receipt_of_another_model_is_refused(world, reverts):
    model = (UNKNOWN, bytes(32), UNKNOWN, UNKNOWN, "")
    other = keccak256(UNKNOWN + bytes(32) + UNKNOWN + UNKNOWN)
    world.registry.registerModel(other, model)
    with reverts("ModelMismatch"):
        world.fulfill(world.answer(world.request(), modelId=other))


def test_an_output_that_is_too_long_is_refused(world, reverts):
    long = bytes(8193)
    with reverts("OutputTooLarge(size=8193, limit=8192)"):
        world.fulfill(world.answer(world.request(), long), long)


def test_evidence_that_audit_cannot_supply_must_be_there_at_once(world, reverts):
    with reverts("PoITierTooLow"):
        world.fulfill(world.answer(world.request(tier=3), tier=3))


def test_a_proven_claim_is_delivered_at_once(world, consumer):
    world.registry.grantRole(keccak256(b"EVIDENCE_ROLE"), world.admin)
    requested = world.request(consumer, tier=4)
    answer = world.answer(requested, tier=4, evidenceHash=UNKNOWN)
    world.registry.recordEvidence(world.digest(answer), 4)
    world.fulfill(answer)
    assert (world.state(requested), consumer.lastTier()) == (DELIVERED, 4)


# Consumers that misbehave.


def test_a_reverting_consumer_loses_nothing(world, consumer):
    consumer.setMode(REVERT)
    requested = world.request(consumer, fee=FEE)
    done = world.fulfill(world.answer(requested))
    failure = next(e for e in world.gate.decode(done) if e.name == "CallbackFailed")
    assert failure.reason[4:] == requested
    assert world.state(requested) == CALLBACK_FAILED
    assert world.gate.outputOf(requested) == OUTPUT
    assert world.gate.creditOf(world.provider) == PAID


def test_a_failed_callback_can_be_retried_by_anybody(world, consumer):
    consumer.setMode(REVERT)
    requested = world.request(consumer)
    world.fulfill(world.answer(requested))
    consumer.setMode(ACCEPT)
    world.gate.retry(requested, account=world.stranger)
    assert world.state(requested) == DELIVERED
    assert consumer.lastOutput() == OUTPUT
    assert world.gate.outputOf(requested) == b""


def test_a_retry_that_fails_keeps_the_output(world, consumer, reverts):
    consumer.setMode(REVERT)
    requested = world.request(consumer)
    world.fulfill(world.answer(requested))
    with reverts("RetryFailed"):
        world.gate.retry(requested)
    assert world.gate.outputOf(requested) == OUTPUT


def test_there_is_nothing_to_retry_after_success(world, consumer, reverts):
    requested = world.request(consumer)
    with reverts("NothingToRetry"):
        world.gate.retry(requested)
    world.fulfill(world.answer(requested))
    with reverts("NothingToRetry"):
        world.gate.retry(requested)


def test_a_huge_revert_reason_is_cut(world, consumer):
    consumer.setMode(REVERT_HUGE)
    requested = world.request(consumer, gas=200_000)
    done = world.fulfill(world.answer(requested))
    failure = next(e for e in world.gate.decode(done) if e.name == "CallbackFailed")
    assert len(failure.reason) == 256
    assert world.state(requested) == CALLBACK_FAILED


def test_a_consumer_cannot_burn_more_than_its_gas(world, consumer):
    consumer.setMode(BURN_GAS)
    requested = world.request(consumer, gas=300_000)
    done = world.fulfill(world.answer(requested))
    assert world.state(requested) == CALLBACK_FAILED
    assert done.gas_used < 900_000


def test_a_carrier_cannot_starve_the_callback(world, consumer):
    requested = world.request(consumer, gas=1_000_000)
    answer = world.answer(requested)
    needed = world.gate.fulfill.estimate_gas(
        answer.to_tuple(), world.sign(answer), OUTPUT, account=world.stranger
    )
    assert needed > 1_000_000
    with pytest.raises((TransactionFailed, ContractReverted)):
        world.fulfill(answer, account=world.stranger, gas=900_000)
    assert world.state(requested) == OPEN


def test_too_little_gas_is_named(world, consumer, reverts):
    requested = world.request(consumer, gas=1_000_000)
    answer = world.answer(requested)
    with reverts("GasTooLow"):
        world.gate.fulfill.call(
            answer.to_tuple(), world.sign(answer), OUTPUT, account=world.stranger, gas=900_000
        )


@pytest.mark.parametrize("function", ["retry", "finalize"])
def test_a_callback_cannot_reenter_the_gate(world, consumer, function):
    consumer.setMode(REENTER)
    requested = world.request(consumer)
    consumer.setReentry(world.gate.functions[function].encode(requested))
    world.fulfill(world.answer(requested))
    assert consumer.reentryResult() == keccak256(b"ReentrancyGuardReentrantCall()")[:4]
    assert world.state(requested) == DELIVERED


def test_a_callback_cannot_withdraw(world, consumer):
    consumer.setMode(REENTER)
    requested = world.request(consumer)
    consumer.setReentry(world.gate.withdraw.encode(world.provider))
    world.fulfill(world.answer(requested))
    assert consumer.reentryResult() == keccak256(b"ReentrancyGuardReentrantCall()")[:4]
    assert world.gate.creditOf(world.provider) == PAID


def test_a_callback_may_ask_the_next_question(world, consumer):
    consumer.setMode(ASK_AGAIN)
    requested = world.request(consumer)
    expected = world.next_request_id(consumer)
    world.fulfill(world.answer(requested))
    assert world.state(requested) == DELIVERED
    assert consumer.lastRequestId() == expected
    assert world.state(expected) == OPEN


# Parked outputs and audit.


def _parked(world, tier=1, requester=None):
    requested = world.request(requester, tier=tier)
    answer = world.answer(requested)
    world.fulfill(answer)
    assert world.state(requested) == PARKED
    return requested, world.digest(answer)


def test_an_output_below_the_tier_asked_for_waits_without_pay(world, consumer):
    requested, _ = _parked(world, 1, consumer)
    assert world.gate.outputOf(requested) == OUTPUT
    assert consumer.lastOutput() == b""
    assert world.gate.creditOf(world.provider) == 0


def test_a_parked_output_becomes_optimistic_after_the_window(world, consumer, reverts):
    requested, receipt_hash = _parked(world, 1, consumer)
    with reverts("WindowOpen"):
        world.gate.finalize(requested)
    world.net.mine(AUDIT_WINDOW)
    world.gate.finalize(requested, account=world.stranger)
    assert (world.state(requested), consumer.lastTier()) == (DELIVERED, 1)
    assert world.registry.levelOf(receipt_hash) == (True, 1)
    assert world.gate.creditOf(world.provider) == PAID
    with reverts("NotParked"):
        world.gate.finalize(requested)


def test_silence_does_not_make_an_output_audited(world, reverts):
    requested, _ = _parked(world, 2)
    world.net.mine(AUDIT_WINDOW)
    with reverts("PoITierTooLow"):
        world.gate.finalize(requested)


# Refunds and payments.


def test_an_unanswered_request_is_refunded_after_its_deadline(world, reverts):
    requested = world.request(fee=FEE)
    with reverts("DeadlineNotPassed"):
        world.gate.refund(requested)
    _after_deadline(world)
    world.gate.refund(requested, account=world.stranger)
    assert world.state(requested) == REFUNDED
    assert world.gate.creditOf(world.user) == FEE
    with reverts("NotRefundable"):
        world.gate.refund(requested)


def test_a_refunded_request_cannot_be_answered(world, reverts):
    requested = world.request()
    _after_deadline(world)
    world.gate.refund(requested)
    with reverts("RequestNotOpen"):
        world.fulfill(world.answer(requested, deadline=world.now + 600))


def test_an_answered_or_unknown_request_is_not_refunded(world, reverts):
    requested = world.request()
    world.fulfill(world.answer(requested))
    _after_deadline(world)
    with reverts("NotRefundable"):
        world.gate.refund(requested)
    with reverts("NotRefundable"):
        world.gate.refund(UNKNOWN)


def test_an_output_that_only_waits_for_its_window_is_not_refunded(world, reverts):
    requested, _ = _parked(world, 1)
    _after_deadline(world)
    with reverts("NotRefundable"):
        world.gate.refund(requested)


def test_an_output_that_no_audit_confirmed_is_refunded(world):
    requested, _ = _parked(world, 2)
    _after_deadline(world)
    world.gate.refund(requested)
    assert world.state(requested) == REFUNDED


def test_credits_are_paid_to_their_owner_whoever_calls(world, reverts):
    world.fulfill(world.answer(world.request(fee=FEE)), account=world.stranger)
    before = world.client.balance(world.provider)
    world.gate.withdraw(world.provider, account=world.stranger)
    assert world.client.balance(world.provider) == before + PAID
    with reverts("NothingToWithdraw"):
        world.gate.withdraw(world.provider)


def test_a_payee_that_refuses_money_hurts_only_itself(world, reverts):
    payee = world.deploy("PayeeMock")
    ask = world.gate.requestInference.encode(world.model, INPUT, PARAMS.to_tuple(), 0, 0)
    requested = world.next_request_id(payee)
    payee.execute(world.gate, ask, value=FEE)
    _after_deadline(world)
    world.gate.refund(requested)
    with reverts("payment refused"):
        world.gate.withdraw(payee.address)
    assert world.gate.creditOf(payee.address) == FEE
    payee.setAccepts(True)
    world.gate.withdraw(payee.address)
    assert world.client.balance(payee) == FEE


def test_a_reentrant_payee_is_paid_once(world, reverts):
    payee = world.deploy("PayeeMock")
    ask = world.gate.requestInference.encode(world.model, INPUT, PARAMS.to_tuple(), 0, 0)
    for _ in range(2):
        payee.execute(world.gate, ask, value=FEE)
    _after_deadline(world)
    world.gate.refund(world.gate.events.InferenceRequested(requester=payee.address)[0].requestId)
    payee.setAccepts(True)
    payee.setOnPayment(world.gate, world.gate.withdraw.encode(payee.address))
    with reverts("reentry failed"):
        world.gate.withdraw(payee.address)
    assert world.client.balance(world.gate) == 2 * FEE


# The queue.


def test_requests_are_dealt_out_in_turn(world):
    world.register(world.stranger, world.stranger)
    for provider in (world.provider, world.stranger):
        world.gate.joinQueue(world.model, account=provider)
    assert world.gate.queueOf(world.model) == [world.provider.address, world.stranger.address]
    assigned = [world.gate.requestOf(world.request()).provider for _ in range(3)]
    assert assigned == [world.provider.address, world.stranger.address, world.provider.address]


def test_only_the_assigned_provider_answers(world, reverts):
    world.register(world.stranger, world.stranger)
    world.gate.joinQueue(world.model, account=world.stranger)
    requested = world.request()
    with reverts("ProviderMismatch"):
        world.fulfill(world.answer(requested))


def test_without_a_queue_any_provider_answers(world):
    requested = world.request()
    assert world.gate.requestOf(requested).provider == "0x" + "00" * 20
    world.fulfill(world.answer(requested))
    assert world.gate.requestOf(requested).provider == world.provider.address


def test_a_silent_provider_leaves_the_queue(world):
    world.gate.joinQueue(world.model, account=world.provider)
    requested = world.request()
    _after_deadline(world)
    refunded = world.gate.refund(requested)
    assert "QueueLeft" in world.events(refunded)
    assert world.gate.queueOf(world.model) == []


def test_a_provider_that_lost_its_stake_is_passed_over(world):
    world.register(world.stranger, world.stranger)
    for provider in (world.provider, world.stranger):
        world.gate.joinQueue(world.model, account=provider)
    world.registry.slash(world.provider, 1, UNKNOWN)
    assert world.gate.requestOf(world.request()).provider == world.stranger.address
    assert world.gate.queueOf(world.model) == [world.stranger.address]


def test_joining_and_leaving_the_queue_is_checked(world, reverts):
    with reverts("PoIUnknownModel"):
        world.gate.joinQueue(UNKNOWN, account=world.provider)
    with reverts("ProviderNotEligible"):
        world.gate.joinQueue(world.model, account=world.stranger)
    with reverts("NotQueued"):
        world.gate.leaveQueue(world.model, account=world.provider)
    world.gate.joinQueue(world.model, account=world.provider)
    with reverts("AlreadyQueued"):
        world.gate.joinQueue(world.model, account=world.provider)
    world.gate.leaveQueue(world.model, account=world.provider)
    assert world.gate.queueOf(world.model) == []


def test_only_the_administrator_sets_parameters(world, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        world.gate.setParameters((1, 2, 3, 4, 5), account=world.stranger)
    world.gate.setParameters((1, 2, 3, 4, 5))
    assert tuple(world.gate.parameters()) == (1, 2, 3, 4, 5)


def test_parameters_come_from_genesis(world):
    expected = (REQUEST_TIMEOUT, AUDIT_WINDOW, MAX_CALLBACK_GAS, AUDIT_SHARE_PPM, AUDIT_FEE)
    assert tuple(world.gate.parameters()) == expected


# Consumers that take receipts directly.


def test_a_direct_receipt_is_used_once_by_its_consumer(world, consumer, reverts):
    receipt = world.receipt(requester=_raw(consumer))
    signature = world.sign(receipt)
    consumer.use(receipt.to_tuple(), signature, OUTPUT, 0)
    assert consumer.lastOutput() == OUTPUT
    with reverts("PoIReplayed"):
        consumer.use(receipt.to_tuple(), signature, OUTPUT, 0)


def test_a_direct_receipt_is_held_to_its_output_tier_and_addressee(world, consumer, reverts):
    receipt = world.receipt(requester=_raw(consumer))
    with reverts("OutputNotReceipted"):
        consumer.use(receipt.to_tuple(), world.sign(receipt), b"No.", 0)
    with reverts("PoITierTooLow"):
        consumer.use(receipt.to_tuple(), world.sign(receipt), OUTPUT, 1)
    foreign = world.receipt()
    with reverts("NotRequester"):
        consumer.use(foreign.to_tuple(), world.sign(foreign), OUTPUT, 0)


def test_only_the_gate_calls_back(world, consumer, reverts):
    with reverts("NotGate"):
        consumer.onInference(UNKNOWN, OUTPUT, 0)
