"""The example consumers of the tiers OPTIMISTIC, AUDITED and TEE, from question to consequence."""

from __future__ import annotations

import pytest
from tests.contracts.audit_court import Court

from zerog.chain.keys import keccak256
from zerog.contracts import INFERENCE_REGISTRY, artifact
from zerog.contracts.genesis import AUDIT_FEE, AUDIT_WINDOW, REQUEST_TIMEOUT
from zerog.contracts.storage import mapping_slot
from zerog.inference.receipt import SamplingParams

PARAMS = SamplingParams(maxTokens=8)
TEXT = "Water makes other things wet."
STAKE = 10**18
OUTPUT = b"Yes."
QUOTE = keccak256(b"a quote")


def _raw(target) -> bytes:
    return bytes.fromhex(target.address[2:])


# OPTIMISTIC.


def test_a_summary_counts_once_nobody_objected(world, reverts):
    summaries = world.deploy("Summaries")
    requested = world.next_request_id(summaries)
    summaries.ask(world.model, TEXT, PARAMS.to_tuple(), account=world.user, value=1000)
    world.fulfill(world.answer(requested))
    with reverts("WindowOpen"):
        world.gate.finalize(requested)
    assert summaries.summaryOf(keccak256(TEXT.encode())) == ""
    world.net.mine(AUDIT_WINDOW)
    world.gate.finalize(requested)
    assert summaries.summaryOf(keccak256(TEXT.encode())) == OUTPUT.decode()
    with reverts("NotGate"):
        summaries.onInference(requested, b"a lie", 5)


# AUDITED.


@pytest.fixture
def wager(world):
    return world.deploy("Wager", world.user.address, world.stranger.address, STAKE)


def _bet(world, wager) -> bytes:
    requested = world.next_request_id(wager)
    wager.ask(world.model, b"Is water wet?", PARAMS.to_tuple(), value=2 * STAKE + AUDIT_FEE)
    return requested


@pytest.mark.parametrize(("output", "wins"), [(b"Yes.", "user"), (b"No.", "stranger"), (b"Ye", "stranger")])
def test_a_wager_is_paid_after_verifiers_repeated_the_computation(world, wager, reverts, output, wins):
    court = Court(world, world.net.accounts[4:7])
    requested = _bet(world, wager)
    receipt = world.answer(requested, output)
    world.fulfill(receipt, output)
    with reverts("PoITierTooLow"):
        world.gate.finalize(requested)
    court.round(receipt, lambda member: 1)
    world.gate.finalize(requested)
    winner = getattr(world, wins)
    assert wager.creditOf(winner) == 2 * STAKE
    before = world.client.balance(winner)
    wager.take(winner)
    assert world.client.balance(winner) == before + 2 * STAKE
    with reverts("NothingToTake"):
        wager.take(winner)


def test_a_wager_on_a_cheats_answer_is_called_off(world, wager, reverts):
    court = Court(world, world.net.accounts[4:7])
    requested = _bet(world, wager)
    receipt = world.answer(requested)
    world.fulfill(receipt)
    court.round(receipt, lambda member: 2)
    court.round(receipt, lambda member: 2)
    with reverts("NotRefunded"):
        wager.callOff()
    world.gate.finalize(requested)
    world.gate.refund(requested)
    wager.callOff()
    assert [wager.creditOf(side) for side in (world.user, world.stranger)] == [STAKE, STAKE]
    with reverts("NotRefunded"):
        wager.callOff()


def test_a_wager_nobody_answers_is_called_off_after_the_deadline(world, wager, reverts):
    with reverts("StakeMismatch"):
        wager.ask(world.model, b"?", PARAMS.to_tuple(), value=2 * STAKE - 1)
    requested = _bet(world, wager)
    with reverts("AlreadyAsked"):
        wager.ask(world.model, b"?", PARAMS.to_tuple(), value=2 * STAKE + AUDIT_FEE)
    world.net.increase_time(REQUEST_TIMEOUT + 1)
    world.net.mine()
    world.gate.refund(requested)
    wager.callOff()
    assert wager.creditOf(world.user) == STAKE


# TEE.


def _attest(world, until: int) -> None:
    """Writes what the judge of quotes writes when it admits a signer; its own tests are elsewhere."""
    slot = artifact("InferenceRegistry").slot("_attested")
    entry = mapping_slot(keccak256, slot, int(world.signer.address, 16))
    world.net.set_storage(INFERENCE_REGISTRY, entry, until)
    world.net.set_storage(INFERENCE_REGISTRY, entry + 1, int.from_bytes(QUOTE))


def test_a_report_is_sorted_by_an_attested_signer_only(world, reverts):
    triage = world.deploy("Triage", world.model, PARAMS.struct_hash())
    receipt = world.receipt(requester=_raw(triage), tier=3, evidenceHash=QUOTE)
    signature = world.sign(receipt)
    with reverts("PoITierTooLow"):
        triage.sort(receipt.to_tuple(), signature, OUTPUT)
    _attest(world, world.now - 1)
    with reverts("PoITierTooLow"):
        triage.sort(receipt.to_tuple(), signature, OUTPUT)
    _attest(world, world.now + 600)
    triage.sort(receipt.to_tuple(), signature, OUTPUT)
    assert triage.answerOf(receipt.inputHash) == OUTPUT.decode()
    with reverts("PoIReplayed"):
        triage.sort(receipt.to_tuple(), signature, OUTPUT)


def test_a_report_is_sorted_by_the_model_and_parameters_that_count(world, reverts):
    triage = world.deploy("Triage", keccak256(b"another model"), PARAMS.struct_hash())
    _attest(world, world.now + 600)
    receipt = world.receipt(requester=_raw(triage), tier=3, evidenceHash=QUOTE)
    with reverts("AnotherModel"):
        triage.sort(receipt.to_tuple(), world.sign(receipt), OUTPUT)
    triage = world.deploy("Triage", world.model, keccak256(b"other parameters"))
    receipt = world.receipt(requester=_raw(triage), tier=3, evidenceHash=QUOTE)
    with reverts("OtherParams"):
        triage.sort(receipt.to_tuple(), world.sign(receipt), OUTPUT)
