"""Challenges, objections from outside the committee, and canaries."""

from __future__ import annotations

import pytest
from tests.contracts.audit_court import BAD, COMMITTING, ESCALATED, GOOD, NONE, STAKE, Court

from zerog.chain.keys import keccak256
from zerog.client import Account
from zerog.contracts.genesis import AUDIT_PARAMETERS, MIN_STAKE

BOND = AUDIT_PARAMETERS.bond
BURNT = "0x000000000000000000000000000000000000dEaD"
NO_LEAF = 0xFFFFFFFF
SALT = keccak256(b"canary")


@pytest.fixture
def court(world) -> Court:
    return Court(world, world.net.accounts[4:7])


# Challenges.


def test_a_challenger_who_is_right_gets_half_of_the_stake_and_the_bond_back(court, world):
    receipt, receipt_hash = court.recorded()
    at_risk = world.registry.atRiskOf(world.provider)
    court.audit.challenge(receipt_hash, 3, account=world.stranger, value=BOND)
    assert court.draw(receipt).fromLeaf == 3
    court.ballot(receipt_hash, lambda member: 2, leaf=3)
    assert court.state(receipt_hash) == BAD
    assert court.audit.creditOf(world.stranger) == at_risk // 2 + BOND
    assert world.registry.atRiskOf(world.provider) == 0
    assert world.client.balance(BURNT) == at_risk // 2


def test_a_challenger_who_is_wrong_loses_the_bond_to_the_accused_and_the_fire(court, world):
    receipt, receipt_hash = court.recorded()
    at_risk = world.registry.atRiskOf(world.provider)
    court.audit.challenge(receipt_hash, NO_LEAF, account=world.stranger, value=BOND)
    court.round(receipt, lambda member: 1)
    assert court.state(receipt_hash) == GOOD
    assert court.audit.creditOf(world.stranger) == 0
    assert court.audit.creditOf(world.provider) == BOND // 2
    assert world.client.balance(BURNT) == BOND - BOND // 2
    assert world.registry.atRiskOf(world.provider) == at_risk
    # The whole answer was checked.
    assert world.registry.levelOf(receipt_hash) == (True, 2)


def test_an_audited_receipt_can_still_be_challenged_and_condemned(court, world):
    receipt, receipt_hash = court.recorded()
    court.round(receipt, lambda member: 1)
    assert world.registry.levelOf(receipt_hash) == (True, 2)
    court.audit.challenge(receipt_hash, 0, account=world.stranger, value=BOND)
    court.round(receipt, lambda member: 2)
    assert court.state(receipt_hash) == BAD
    assert world.registry.levelOf(receipt_hash)[0] is False
    lost = STAKE * AUDIT_PARAMETERS.wrong_vote_ppm // 10**6
    assert [court.stake(member) for member in court.members] == [STAKE - lost] * 3


def test_a_challenge_is_held_to_its_bond_its_window_and_the_state(court, world, reverts):
    receipt, receipt_hash = court.recorded()
    with reverts("BondMismatch"):
        court.audit.challenge(receipt_hash, 0, value=BOND - 1)
    with reverts("ReceiptUnknown"):
        court.audit.challenge(keccak256(b"no receipt"), 0, value=BOND)
    court.draw(receipt)
    with reverts("WrongState"):
        court.audit.challenge(receipt_hash, 0, value=BOND)
    court.ballot(receipt_hash, lambda member: 1)
    world.net.mine(AUDIT_PARAMETERS.challenge_window)
    with reverts("ChallengeClosed"):
        court.audit.challenge(receipt_hash, 0, value=BOND)


def test_a_condemned_receipt_is_neither_judged_again_nor_used(court, world, reverts):
    consumer = world.deploy("ConsumerMock")
    receipt, receipt_hash = court.recorded(requester=bytes.fromhex(consumer.address[2:]))
    court.audit.challenge(receipt_hash, 0, account=world.stranger, value=BOND)
    court.round(receipt, lambda member: 2)
    with reverts("WrongState"):
        court.audit.challenge(receipt_hash, 0, account=world.stranger, value=BOND)
    world.registry.addStake(account=world.provider, value=MIN_STAKE)
    with reverts("ReceiptIsCondemned"):
        consumer.use(receipt.to_tuple(), world.sign(receipt), b"Yes.", 0)


# Objections of verifiers outside the committee.


@pytest.fixture
def large(world) -> Court:
    return Court(world, world.net.accounts[4:9])


def _outsider(court: Court, seated: list[str]) -> Account:
    return next(member for member in court.members if member.address not in seated)


def test_an_objection_from_outside_makes_sure_of_a_larger_committee(large, world):
    receipt, receipt_hash = large.recorded()
    outsider = _outsider(large, large.draw(receipt).members)
    at_risk = world.registry.atRiskOf(world.provider)
    large.object(receipt_hash, outsider, leaf=4)
    # The whole first committee is bought; it does not help.
    large.ballot(receipt_hash, lambda member: 1)
    assert large.state(receipt_hash) == ESCALATED
    assert large.draw(receipt).fromLeaf == 4
    large.ballot(receipt_hash, lambda member: 2, leaf=4)
    assert large.state(receipt_hash) == BAD
    assert large.audit.creditOf(outsider) >= at_risk // 2


def test_an_objection_after_the_audit_starts_a_dispute_with_the_stake_as_bond(large, world):
    receipt, receipt_hash = large.recorded()
    large.round(receipt, lambda member: 1)
    critic = large.members[0]
    large.object(receipt_hash, critic)
    assert large.state(receipt_hash) == ESCALATED
    large.round(receipt, lambda member: 1)
    assert large.stake(critic) == STAKE - STAKE * AUDIT_PARAMETERS.wrong_vote_ppm // 10**6


def test_an_objection_is_a_signed_one_of_a_registered_verifier(court, world, reverts):
    _, receipt_hash = court.recorded()
    with reverts("VerdictUnknown(verdict=1)"):
        court.object(receipt_hash, court.members[0], verdict=1)
    with reverts("VerdictUnknown(verdict=4)"):
        court.object(receipt_hash, court.members[0], verdict=4)
    with reverts("NotVerifier"):
        court.object(receipt_hash, world.stranger)
    vote = court.vote(receipt_hash, court.members[0], 2)
    with reverts("VoteBadSignature"):
        court.audit.attest(vote.to_tuple(), world.sign(vote, world.stranger))
    assert court.state(receipt_hash) == NONE


# Canaries.


def _planted(court: Court, requester: Account) -> tuple:
    """A receipt whose requester committed to it before it became known."""
    receipt = court.world.receipt()
    receipt_hash = court.world.digest(receipt)
    court.audit.commitCanary(keccak256(receipt_hash + SALT), account=requester)
    court.world.registry.record(receipt.to_tuple(), court.world.sign(receipt))
    return receipt, receipt_hash


def test_a_canary_catches_those_who_passed_it_and_spares_its_provider(court, world):
    receipt, receipt_hash = _planted(court, world.user)
    at_risk = world.registry.atRiskOf(world.provider)
    court.round(receipt, lambda member: 1)
    court.audit.revealCanary(receipt_hash, SALT, account=world.user, value=BOND)
    court.round(receipt, lambda member: 2)
    assert court.state(receipt_hash) == BAD
    assert world.registry.atRiskOf(world.provider) == at_risk
    assert court.audit.creditOf(world.user) == BOND
    lost = STAKE * AUDIT_PARAMETERS.canary_ppm // 10**6
    assert [court.stake(member) for member in court.members] == [STAKE - lost] * 3


def test_who_calls_a_good_answer_a_canary_loses_the_bond(court, world):
    receipt, receipt_hash = _planted(court, world.user)
    court.round(receipt, lambda member: 1)
    court.audit.revealCanary(receipt_hash, SALT, account=world.user, value=BOND)
    court.round(receipt, lambda member: 1)
    assert court.state(receipt_hash) == GOOD
    assert court.audit.creditOf(world.user) == 0
    assert [court.stake(member) for member in court.members] == [STAKE] * 3


def test_a_canary_that_was_noticed_costs_nobody(court, world):
    receipt, receipt_hash = _planted(court, world.user)
    at_risk = world.registry.atRiskOf(world.provider)
    court.round(receipt, lambda member: 2)
    court.audit.revealCanary(receipt_hash, SALT, account=world.user)
    court.round(receipt, lambda member: 2)
    assert court.state(receipt_hash) == BAD
    assert world.registry.atRiskOf(world.provider) == at_risk
    assert [court.stake(member) for member in court.members] == [STAKE] * 3


def test_only_its_requester_can_declare_a_receipt_a_canary_and_only_one_announced_before(
    court, world, reverts
):
    receipt, receipt_hash = _planted(court, world.stranger)
    # Too late: the receipt is known.
    court.audit.commitCanary(keccak256(receipt_hash + SALT), account=world.user)
    court.round(receipt, lambda member: 1)
    with reverts("NotRequester"):
        court.audit.revealCanary(receipt_hash, SALT, account=world.stranger, value=BOND)
    with reverts("CanaryNotCommitted"):
        court.audit.revealCanary(receipt_hash, SALT, account=world.user, value=BOND)
    with reverts("CanaryNotCommitted"):
        court.audit.revealCanary(receipt_hash, bytes(32), account=world.user, value=BOND)
    with reverts("CanaryKnown"):
        court.audit.commitCanary(keccak256(receipt_hash + SALT), account=world.user)


def test_a_canary_is_revealed_after_the_first_votes_with_a_bond_and_once(court, world, reverts):
    receipt, receipt_hash = _planted(court, world.user)
    court.draw(receipt)
    assert court.state(receipt_hash) == COMMITTING
    with reverts("WrongState"):
        court.audit.revealCanary(receipt_hash, SALT, account=world.user, value=BOND)
    court.ballot(receipt_hash, lambda member: 1)
    with reverts("BondMismatch"):
        court.audit.revealCanary(receipt_hash, SALT, account=world.user)
    court.audit.revealCanary(receipt_hash, SALT, account=world.user, value=BOND)
    with reverts("CanaryNotCommitted"):
        court.audit.revealCanary(receipt_hash, SALT, account=world.user, value=BOND)
