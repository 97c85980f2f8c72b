"""Attacks on proven inference, each by its name, each carried out and each without success.

Quotes of another signer and expired collateral are attacked in the tests of `TeeAttestation`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from tests.contracts.audit_court import AWAY, BAD, ESCALATED, GOOD, REVEALING, STAKE, Court

from zerog.chain.keys import keccak256
from zerog.client import Account
from zerog.contracts import INFERENCE_REGISTRY
from zerog.contracts.genesis import ACTIVATION_DELAY, AUDIT_PARAMETERS, AUDIT_SHARE_PPM, MIN_STAKE, model_id
from zerog.inference.encoding import domain_separator
from zerog.inference.receipt import SamplingParams, request_id, sign
from zerog.inference.sampling import gate_seed
from zerog.inference.trace import trace_root
from zerog.inference.transcript import decode_canonical
from zerog.inference.verification import binding_fault

OPEN, PARKED, DELIVERED, CALLBACK_FAILED = 1, 2, 3, 4
REVERT_HUGE, BURN_GAS, REENTER = 2, 3, 4
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
OTHER = keccak256(b"another")
OUTPUT = b"Yes."
TRANSCRIPT = Path(__file__).parents[1] / "data/inference/transcripts/greedy.bin"


def raw(target) -> bytes:
    return bytes.fromhex(target.address[2:])


@pytest.fixture
def consumer(world):
    return world.deploy("ConsumerMock")


@pytest.fixture
def court(world) -> Court:
    return Court(world, world.net.accounts[4:9])


# The receipt.


def test_replayed_receipt(world, consumer, reverts):
    answer = world.answer(world.request(consumer))
    world.fulfill(answer)
    with reverts("PoIReplayed"):
        world.fulfill(answer)
    with reverts("PoIReplayed"):
        world.verify(answer)
    with reverts("PoIReplayed"):
        consumer.use(answer.to_tuple(), world.sign(answer), OUTPUT, 0)
    # Signed again for a later time it is still the answer to a question that was answered.
    again = msgspec.structs.replace(answer, deadline=answer.deadline + 60)
    with reverts("PoIReplayed"):
        world.fulfill(again)


def test_other_chain_id(world, reverts):
    answer = world.answer(world.request())
    elsewhere = domain_separator(world.net.chain_id + 1, bytes.fromhex(INFERENCE_REGISTRY[2:]))
    with reverts("PoIBadSignature"):
        world.fulfill(answer, signature=sign(world.signer.key, answer.digest(elsewhere)))


def test_other_registry(world, reverts):
    answer = world.answer(world.request())
    elsewhere = domain_separator(world.net.chain_id, OTHER[:20])
    with reverts("PoIBadSignature"):
        world.fulfill(answer, signature=sign(world.signer.key, answer.digest(elsewhere)))


def test_other_gate(world, consumer, reverts):
    """An answer to one gate's request is neither brought to another nor used past its gate."""
    answer = world.answer(world.request(consumer))
    with reverts("ReservedForGate"):
        consumer.use(answer.to_tuple(), world.sign(answer), OUTPUT, 0)
    foreign = request_id(world.net.chain_id, OTHER[:20], raw(consumer), 0)
    with reverts("NotRequester"):
        world.fulfill(msgspec.structs.replace(answer, requestId=foreign))


def test_other_requester(world, consumer, reverts):
    mine = world.receipt()
    with reverts("NotRequester"):
        consumer.use(mine.to_tuple(), world.sign(mine), OUTPUT, 0)
    diverted = msgspec.structs.replace(mine, requester=raw(consumer))
    with reverts("PoIBadSignature"):
        consumer.use(diverted.to_tuple(), world.sign(mine), OUTPUT, 0)


def test_malleable_signature(world, reverts):
    answer = world.answer(world.request())
    good = world.sign(answer)
    r, s, v = good[:32], int.from_bytes(good[32:64]), good[64]
    twin = r + (ORDER - s).to_bytes(32) + bytes([55 - v])
    compact = r + (s | (v - 27) << 255).to_bytes(32)
    for forged in (twin, compact, good[:64] + bytes([v - 27]), good + b"\0", good[:64]):
        with reverts("PoIBadSignature"):
            world.fulfill(answer, signature=forged)
    world.fulfill(answer, signature=good)


def test_expired(world, reverts):
    answer = world.answer(world.request(), deadline=world.now + 5)
    world.net.increase_time(60)
    world.net.mine()
    with reverts("PoIExpired"):
        world.fulfill(answer)
    with reverts("PoIExpired"):
        world.verify(answer)


def test_unregistered_model(world, reverts):
    with reverts("PoIUnknownModel"):
        world.verify(world.receipt(modelId=OTHER))
    with reverts("PoIUnknownModel"):
        world.gate.requestInference(OTHER, b"?", SamplingParams(maxTokens=1).to_tuple(), 0, 0)


# The provider.


def test_unstaked_provider(world, reverts):
    answer = world.answer(world.request())
    world.registry.slash(world.provider, 1, OTHER)
    with reverts("PoIUnderStaked"):
        world.fulfill(answer)
    nobody = msgspec.structs.replace(answer, provider=raw(world.stranger))
    with reverts("PoIBadSignature"):
        world.fulfill(nobody, signature=world.sign(nobody, world.stranger))
    with reverts("StakeTooSmall"):
        world.register(world.stranger, world.stranger, MIN_STAKE - 1)


def test_exiting_provider(world, court, reverts):
    """Who leaves can neither answer any more nor save its stake from an audit of what it answered."""
    receipt, _ = court.recorded()
    open_request = world.answer(world.request())
    world.registry.requestUnstake(1, account=world.provider)
    with reverts("PoIUnderStaked"):
        world.fulfill(open_request)
    world.net.mine()
    world.registry.requestUnstake(MIN_STAKE - 1, account=world.provider)
    with reverts("PoIProviderInactive"):
        world.fulfill(open_request)
    court.round(receipt, lambda member: 2)
    court.round(receipt, lambda member: 2)
    assert world.registry.atRiskOf(world.provider) == 0


def test_provider_key_rotated_mid_flight(world, reverts):
    requested = world.request()
    answer = world.answer(requested)
    stolen = world.sign(answer)
    successor = Account.random()
    world.register(world.provider, successor)
    with reverts("PoIBadSignature"):
        world.fulfill(answer, signature=stolen)
    world.fulfill(answer, signature=world.sign(answer, successor))
    assert world.state(requested) == DELIVERED


# What the receipt commits to.


def test_output_bytes_changed(world, reverts):
    answer = world.answer(world.request())
    for changed in (b"Yes!", b"Yes", b"Yes. ", b"", b"yes."):
        with reverts("OutputMismatch"):
            world.fulfill(answer, changed, world.sign(answer))
    adjusted = msgspec.structs.replace(answer, outputHash=keccak256(b"No."))
    with reverts("PoIBadSignature"):
        world.fulfill(adjusted, b"No.", world.sign(answer))


def test_trace_leaf_changed(world, reverts):
    """One bit of one leaf: the root moves, the signature does not fit, and the transcript no longer binds."""
    transcript = decode_canonical(TRANSCRIPT.read_bytes())
    honest = world.receipt(
        modelId=model_id(transcript.model, keccak256),
        engineId=keccak256(transcript.engine.encode()),
        inputHash=keccak256(transcript.request),
        outputHash=keccak256(transcript.output),
        paramsHash=transcript.params.struct_hash(),
        traceRoot=trace_root(transcript.steps),
        promptTokens=transcript.prompt_tokens,
        outputTokens=len(transcript.steps),
    )
    assert binding_fault(transcript, honest) is None
    for index, step in enumerate(transcript.steps):
        lie = dataclasses.replace(step, row_hash=bytes([step.row_hash[0] ^ 1]) + step.row_hash[1:])
        steps = (*transcript.steps[:index], lie, *transcript.steps[index + 1 :])
        assert trace_root(steps) != honest.traceRoot
        assert binding_fault(dataclasses.replace(transcript, steps=steps), honest) is not None
    forged = msgspec.structs.replace(honest, traceRoot=OTHER)
    with reverts("PoIBadSignature"):
        world.verify(forged, world.sign(honest))


def test_params_changed(world, reverts):
    requested = world.request()
    other = SamplingParams(maxTokens=9)
    with reverts("ParamsMismatch"):
        world.fulfill(world.answer(requested, paramsHash=other.struct_hash()))
    answer = world.answer(requested)
    adjusted = msgspec.structs.replace(answer, paramsHash=other.struct_hash())
    with reverts("PoIBadSignature"):
        world.fulfill(adjusted, signature=world.sign(answer))


def test_seed_grinding(world, reverts):
    """Neither who asks nor who answers chooses the seed: whatever is asked for, the chain's comes out."""
    chosen = SamplingParams(maxTokens=8, temperatureMilli=700, sampler=1)
    for wish in (0, 7, 2**64 - 1):
        requested = world.request(params=msgspec.structs.replace(chosen, seed=wish))
        mix = world.client.block(world.client.block_number).raw["mixHash"]
        seed = gate_seed(requested, bytes.fromhex(mix[2:]))
        settled = msgspec.structs.replace(chosen, seed=seed)
        assert world.gate.requestOf(requested).paramsHash == settled.struct_hash()
        for ground in (wish, seed + 1 & 2**64 - 1):
            lucky = msgspec.structs.replace(chosen, seed=ground)
            with reverts("ParamsMismatch"):
                world.fulfill(world.answer(requested, paramsHash=lucky.struct_hash()))


# The callback.


def test_front_run_fulfilment(world, consumer, reverts):
    """Who copies an answer from the queue of transactions pays for delivering it, and the provider is paid."""
    world.gate.joinQueue(world.model, account=world.provider)
    world.register(world.stranger, world.stranger)
    requested = world.request(consumer, fee=1000)
    answer = world.answer(requested)
    own = msgspec.structs.replace(answer, provider=raw(world.stranger))
    with reverts("ProviderMismatch"):
        world.fulfill(own, signature=world.sign(own, world.stranger), account=world.stranger)
    world.fulfill(answer, account=world.stranger)
    assert consumer.lastOutput() == OUTPUT
    assert world.gate.creditOf(world.provider) == 1000 - 1000 * AUDIT_SHARE_PPM // 10**6
    assert world.gate.creditOf(world.stranger) == 0
    with reverts("PoIReplayed"):
        world.fulfill(answer)


def test_re_entrant_consumer(world, consumer):
    """During its callback a consumer holds the answer to its other question, and cannot bring it."""
    consumer.setMode(REENTER)
    first, second = world.request(consumer), world.request(consumer)
    inner = world.answer(second)
    attempts = [
        world.gate.fulfill.encode(inner.to_tuple(), world.sign(inner), OUTPUT),
        world.gate.retry.encode(first),
        world.gate.finalize.encode(first),
        world.gate.withdraw.encode(consumer.address),
    ]
    for attempt in attempts:
        consumer.setReentry(attempt)
        world.fulfill(world.answer(first))
        assert consumer.reentryResult() == keccak256(b"ReentrancyGuardReentrantCall()")[:4]
        assert (world.state(first), world.state(second)) == (DELIVERED, OPEN)
        first = world.request(consumer)


@pytest.mark.parametrize("mode", [BURN_GAS, REVERT_HUGE])
def test_gas_bomb_consumer(world, consumer, mode):
    """It burns the gas that it asked for and not more; the provider is paid, the output kept."""
    consumer.setMode(mode)
    requested = world.request(consumer, gas=300_000, fee=1000)
    done = world.fulfill(world.answer(requested))
    assert done.gas_used < 300_000 + 350_000
    assert world.state(requested) == CALLBACK_FAILED
    assert world.gate.outputOf(requested) == OUTPUT
    assert world.gate.creditOf(world.provider) > 0


# Verifiers.


def _seated(court: Court, receipt) -> list[Account]:
    drawn = court.draw(receipt).members
    return [member for member in court.members if member.address in drawn]


def test_verifier_copies_anothers_vote(court, reverts):
    """A copied commitment can be opened by its author only, so that the copyist has not voted."""
    receipt, receipt_hash = court.recorded()
    author, copyist, third = _seated(court, receipt)
    votes = {member: court.vote(receipt_hash, member) for member in (author, third)}
    court.commit(votes[author], author)
    court.audit.commitAudit(receipt_hash, court.commitment(votes[author]), account=copyist)
    court.commit(votes[third], third)
    court.reveal(votes[author], author)
    court.reveal(votes[third], third)
    stolen = court.vote(receipt_hash, copyist)
    with reverts("CommitmentMismatch"):
        court.audit.revealAudit(
            stolen.to_tuple(), court.world.sign(stolen, copyist), court.salt(votes[author])
        )
    with reverts("AlreadyRevealed"):
        court.reveal(votes[author], author)
    court.world.net.mine(AUDIT_PARAMETERS.reveal_window)
    court.audit.settle(receipt_hash)
    assert court.state(receipt_hash) == ESCALATED
    assert court.stake(copyist) == STAKE - STAKE * AUDIT_PARAMETERS.absent_ppm // 10**6
    assert court.stake(author) == STAKE


def test_verifier_votes_twice(court, reverts):
    receipt, receipt_hash = court.recorded()
    double, *others = _seated(court, receipt)
    good, bad = court.vote(receipt_hash, double), court.vote(receipt_hash, double, 2, 0)
    court.commit(good, double)
    with reverts("AlreadyCommitted"):
        court.commit(bad, double)
    for member in others:
        court.commit(court.vote(receipt_hash, member), member)
    court.reveal(good, double)
    with reverts("AlreadyRevealed"):
        court.reveal(good, double)
    with reverts("CommitmentMismatch"):
        court.reveal(court.vote(receipt_hash, others[0], 2, 0), others[0])
    assert court.state(receipt_hash) == REVEALING


def test_verifier_censored(court, world):
    """Keeping an honest vote out of the chain does not pass a lie: it brings more judges."""
    receipt, receipt_hash = court.recorded()
    honest, *bought = _seated(court, receipt)
    court.ballot(receipt_hash, lambda member: 1 if member in bought else AWAY)
    world.net.mine(AUDIT_PARAMETERS.reveal_window)
    if court.state(receipt_hash) != ESCALATED:
        court.audit.settle(receipt_hash)
    assert court.state(receipt_hash) == ESCALATED
    assert court.stake(honest) == STAKE - STAKE * AUDIT_PARAMETERS.absent_ppm // 10**6
    assert len(court.draw(receipt).members) == 5
    court.ballot(receipt_hash, lambda member: 2)
    assert court.state(receipt_hash) == BAD
    assert all(court.stake(m) < STAKE - STAKE // 20 for m in bought)


def test_randomness_bias_by_withholding(court, world, reverts):
    """Who sees a beacon it dislikes can only wait for the next one, which is fixed too: no choice within a window, and
    nothing that happens after the beacon changes what it draws."""
    receipt, receipt_hash = court.recorded()
    first = court.await_beacon(receipt)
    randomness = keccak256(
        bytes.fromhex(world.client.block(first).raw["mixHash"][2:]) + receipt_hash + bytes(32)
    )
    draw = (world.engine, randomness, 3, world.provider.address, first)
    fixed, _ = court.verifiers.draw(*draw)
    rich = world.net.accounts[9]
    court.verifiers.registerVerifier([world.engine], b"", account=rich, value=50 * STAKE)
    chosen = next(member for member in court.members if member.address == fixed[0])
    court.verifiers.requestUnstake(STAKE, account=chosen)
    for _ in range(AUDIT_PARAMETERS.draw_window - 3):
        assert court.audit.beaconOf(receipt_hash) == first
        with reverts("HeaderMismatch"):
            court.audit.drawAudit.call(receipt.to_tuple(), court.header(world.client.block_number - 1))
        assert court.verifiers.draw(*draw)[0] == fixed
        world.net.mine()
    assert court.draw(receipt).members == fixed
    assert AUDIT_PARAMETERS.draw_window < ACTIVATION_DELAY
    court.ballot(receipt_hash, lambda member: 1)
    assert court.state(receipt_hash) == GOOD
