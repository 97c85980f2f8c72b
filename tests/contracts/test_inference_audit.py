"""Audits on a devnet: draw, votes, and what their outcome means."""

from __future__ import annotations

import pytest
from tests.contracts.audit_court import (
    AWAY,
    BAD,
    ESCALATED,
    GOOD,
    INCONCLUSIVE,
    STAKE,
    TOLERANT_POOL,
    UNAVAILABLE,
    Court,
)

from zerog.chain.keys import keccak256
from zerog.contracts.genesis import (
    AUDIT_FEE,
    AUDIT_PARAMETERS,
    AUDIT_SHARE_PPM,
    REQUEST_TIMEOUT,
    UNSTAKE_DELAY,
)

DELIVERED, DISPUTED = 3, 5


@pytest.fixture
def court(world) -> Court:
    """Three verifiers whose stake counts."""
    return Court(world, world.net.accounts[4:7])


def test_an_output_that_all_drawn_verifiers_confirm_is_audited_and_delivered(court, world):
    consumer = world.deploy("ConsumerMock")
    requested, receipt, receipt_hash = court.parked(consumer)
    drawn = court.draw(receipt)
    assert sorted(drawn.members) == sorted(member.address for member in court.members)
    court.ballot(receipt_hash, lambda member: 1)
    assert court.state(receipt_hash) == GOOD
    assert world.registry.levelOf(receipt_hash) == (True, 2)
    world.gate.finalize(requested, account=world.stranger)
    assert (world.state(requested), consumer.lastTier()) == (DELIVERED, 2)
    assert all(court.audit.creditOf(member) == AUDIT_PARAMETERS.vote_reward for member in court.members)


def test_a_cheat_is_condemned_and_loses_all_stake(court, world):
    requested, receipt, receipt_hash = court.parked()
    court.draw(receipt)
    at_stake = world.registry.atRiskOf(world.provider)
    court.ballot(receipt_hash, lambda member: 2)
    assert court.state(receipt_hash) == ESCALATED
    court.draw(receipt)
    court.ballot(receipt_hash, lambda member: 2)
    assert court.state(receipt_hash) == BAD
    assert world.registry.atRiskOf(world.provider) == 0
    shares = [court.audit.creditOf(member) for member in court.members]
    assert sum(shares) + court.audit.pool() == at_stake // 2
    assert world.registry.levelOf(receipt_hash)[0] is False
    world.gate.finalize(requested)
    assert world.state(requested) == DISPUTED
    world.gate.refund(requested)
    assert world.gate.creditOf(world.user) > 0


# Rounds.


@pytest.fixture
def large(world) -> Court:
    """Five verifiers: two of them sit in no first committee."""
    return Court(world, world.net.accounts[4:9])


def test_an_absent_member_brings_a_larger_committee_and_pays_for_its_absence(large, world):
    receipt, receipt_hash = large.recorded()
    absent = large.draw(receipt).members[0]
    large.ballot(receipt_hash, lambda member: AWAY if member.address == absent else 1)
    assert large.state(receipt_hash) == ESCALATED
    lost = STAKE * AUDIT_PARAMETERS.absent_ppm // 10**6
    assert [STAKE - large.stake(m) for m in large.members] == [
        lost if m.address == absent else 0 for m in large.members
    ]
    assert len(large.draw(receipt).members) == 5
    large.ballot(receipt_hash, lambda member: 1)
    assert large.state(receipt_hash) == GOOD
    assert world.registry.levelOf(receipt_hash) == (True, 2)


def test_one_wrong_objection_costs_its_author_and_nobody_else(large, world):
    receipt, receipt_hash = large.recorded()
    liar = large.draw(receipt).members[1]
    large.ballot(receipt_hash, lambda member: 2 if member.address == liar else 1)
    large.round(receipt, lambda member: 1)
    assert large.state(receipt_hash) == GOOD
    lost = STAKE * AUDIT_PARAMETERS.wrong_vote_ppm // 10**6
    assert {m.address: STAKE - large.stake(m) for m in large.members} == {
        m.address: lost if m.address == liar else 0 for m in large.members
    }
    assert world.registry.levelOf(receipt_hash) == (True, 2)


def test_a_later_committee_checks_from_the_least_leaf_that_was_objected_to(large):
    receipt, receipt_hash = large.recorded()
    seated = large.draw(receipt).members
    leaves = {seated[0]: 7, seated[1]: 2}
    for member in (m for m in large.members if m.address in seated):
        bad = leaves.get(member.address)
        large.commit(large.vote(receipt_hash, member, 2 if bad else 1, bad), member)
    for member in (m for m in large.members if m.address in seated):
        bad = leaves.get(member.address)
        large.reveal(large.vote(receipt_hash, member, 2 if bad else 1, bad), member)
    assert large.draw(receipt).fromLeaf == 2


def test_a_refuted_objection_does_not_lift_leaves_that_nobody_checked(court, world):
    receipt, receipt_hash = court.recorded()
    court.audit.challenge(receipt_hash, 2, account=world.stranger, value=AUDIT_PARAMETERS.bond)
    court.round(receipt, lambda member: 1)
    assert court.state(receipt_hash) == GOOD
    assert world.registry.levelOf(receipt_hash) == (True, 0)


def test_when_a_request_waits_for_audited_a_committee_also_checks_the_leaves_before(court, world):
    requested, receipt, receipt_hash = court.parked()
    court.audit.challenge(receipt_hash, 2, account=world.stranger, value=AUDIT_PARAMETERS.bond)
    court.round(receipt, lambda member: 1)
    assert court.state(receipt_hash) == ESCALATED
    assert court.draw(receipt).fromLeaf == 0
    court.ballot(receipt_hash, lambda member: 1)
    assert court.state(receipt_hash) == GOOD
    world.gate.finalize(requested)
    assert world.state(requested) == DELIVERED


def test_a_transcript_that_nobody_can_get_condemns_and_costs_a_tenth(court, world):
    requested, receipt, receipt_hash = court.parked()
    at_risk = world.registry.atRiskOf(world.provider)
    court.round(receipt, lambda member: 3)
    court.round(receipt, lambda member: 3)
    assert court.state(receipt_hash) == UNAVAILABLE
    lost = at_risk * AUDIT_PARAMETERS.unavailable_ppm // 10**6
    assert world.registry.atRiskOf(world.provider) == at_risk - lost
    world.gate.finalize(requested)
    assert world.state(requested) == DISPUTED


def test_bad_and_unavailable_votes_together_are_the_milder_verdict(world):
    court = Court(world, world.net.accounts[4:8])
    receipt, receipt_hash = court.recorded()
    at_risk = world.registry.atRiskOf(world.provider)
    court.round(receipt, lambda member: 2)
    seated = court.draw(receipt).members
    court.ballot(receipt_hash, lambda member: 2 if member.address in seated[:2] else 3)
    assert court.state(receipt_hash) == UNAVAILABLE
    lost = at_risk * AUDIT_PARAMETERS.unavailable_ppm // 10**6
    assert world.registry.atRiskOf(world.provider) == at_risk - lost


def test_a_committee_that_cannot_agree_condemns_nobody_and_the_requester_is_refunded(court, world):
    requested, receipt, receipt_hash = court.parked()
    at_risk = world.registry.atRiskOf(world.provider)
    for _ in range(AUDIT_PARAMETERS.max_rounds + 1):
        first, second, _third = court.draw(receipt).members
        verdicts = {first: 1, second: 2}
        court.ballot(receipt_hash, lambda member, v=verdicts: v.get(member.address))
    assert court.state(receipt_hash) == INCONCLUSIVE
    assert world.registry.atRiskOf(world.provider) == at_risk
    assert world.registry.levelOf(receipt_hash) == (True, 0)
    world.gate.refund(requested)
    assert world.gate.creditOf(world.user) == AUDIT_FEE


def test_a_dispute_for_which_nobody_draws_ends_without_conclusion_and_returns_the_bond(court, world, reverts):
    _receipt, receipt_hash = court.recorded()
    court.audit.challenge(receipt_hash, 0, account=world.stranger, value=AUDIT_PARAMETERS.bond)
    with reverts("WindowOpen"):
        court.audit.settle(receipt_hash)
    world.net.mine(AUDIT_PARAMETERS.challenge_window + AUDIT_PARAMETERS.beacon_delay + 1)
    court.audit.settle(receipt_hash)
    assert court.state(receipt_hash) == INCONCLUSIVE
    assert court.audit.creditOf(world.stranger) == AUDIT_PARAMETERS.bond


def test_without_verifiers_nobody_can_be_drawn(world, reverts):
    court = Court(world, [])
    receipt, _ = court.recorded()
    number = court.await_beacon(receipt)
    with reverts("NobodyToDraw"):
        court.audit.drawAudit(receipt.to_tuple(), court.header(number))


def test_a_provider_never_judges_itself(court, world):
    court.enrol([world.provider])
    receipt, _ = court.recorded()
    assert world.provider.address not in court.draw(receipt).members


# The class tolerant.


def test_the_class_tolerant_is_judged_by_its_pool_first_and_slashed_from_the_second_strike(world):
    world.registry.setEngineClass("tolerant engine", 2)
    engine = keccak256(b"tolerant engine")
    world.registry.registerProvider(
        world.signer.address, [world.engine, engine], b"", b"", account=world.provider
    )
    court = Court(world, world.net.accounts[4:7], pools=[TOLERANT_POOL])
    exact = Court(world, world.net.accounts[7:9], pools=[engine])
    at_risk = world.registry.atRiskOf(world.provider)
    for strike in (1, 2):
        receipt, receipt_hash = court.recorded(engineId=engine, requestId=keccak256(bytes([strike])))
        first = court.draw(receipt).members
        assert sorted(first) == sorted(member.address for member in court.members)
        # One of them errs: verifiers of this class run another engine.
        court.ballot(receipt_hash, lambda member, f=first: 1 if member.address == f[0] else 2)
        assert sorted(exact.draw(receipt).members) == sorted(member.address for member in exact.members)
        exact.ballot(receipt_hash, lambda member: 2)
        assert court.state(receipt_hash) == BAD
        assert court.audit.strikesOf(world.provider) == strike
        assert world.registry.atRiskOf(world.provider) == (at_risk if strike == 1 else 0)
    assert all(court.stake(member) == STAKE for member in court.members)


# Exits do not escape.


def test_stake_of_a_provider_on_its_way_out_is_seized(court, world, reverts):
    receipt, _receipt_hash = court.recorded()
    world.registry.requestUnstake(world.registry.stakeOf(world.provider), account=world.provider)
    court.round(receipt, lambda member: 2)
    court.round(receipt, lambda member: 2)
    assert world.registry.atRiskOf(world.provider) == 0
    world.net.increase_time(UNSTAKE_DELAY + 1)
    with reverts("NothingToWithdraw"):
        world.registry.withdrawStake(account=world.provider)


def test_a_verifier_on_its_way_out_still_answers_for_its_vote(large, world):
    receipt, receipt_hash = large.recorded()
    seated = large.draw(receipt).members
    leaver = next(member for member in large.members if member.address == seated[0])
    large.verifiers.requestUnstake(STAKE, account=leaver)
    large.ballot(receipt_hash, lambda member: 2 if member is leaver else 1)
    large.round(receipt, lambda member: 1)
    assert large.stake(leaver) == STAKE - STAKE * AUDIT_PARAMETERS.wrong_vote_ppm // 10**6


# Deadlines of the gate.


def test_a_missed_deadline_costs_a_thousandth(court, world):
    world.gate.joinQueue(world.model, account=world.provider)
    requested = world.request()
    at_risk = world.registry.atRiskOf(world.provider)
    world.net.increase_time(REQUEST_TIMEOUT + 1)
    world.net.mine()
    world.gate.refund(requested)
    lost = at_risk * AUDIT_PARAMETERS.missed_deadline_ppm // 10**6
    assert world.registry.atRiskOf(world.provider) == at_risk - lost


def test_a_declined_request_is_open_to_all_and_costs_nothing(court, world, reverts):
    world.gate.joinQueue(world.model, account=world.provider)
    world.register(world.stranger, world.stranger)
    requested = world.request()
    with reverts("ProviderMismatch"):
        world.gate.decline(requested, account=world.stranger)
    world.gate.decline(requested, account=world.provider)
    at_risk = world.registry.atRiskOf(world.provider)
    answer = world.answer(requested, provider=bytes.fromhex(world.stranger.address[2:]))
    world.fulfill(answer, signature=world.sign(answer, world.stranger))
    assert (world.state(requested), world.registry.atRiskOf(world.provider)) == (DELIVERED, at_risk)
    with reverts("RequestNotOpen"):
        world.gate.decline(requested, account=world.provider)


def test_a_request_is_not_declined_after_its_deadline(court, world, reverts):
    world.gate.joinQueue(world.model, account=world.provider)
    requested = world.request()
    world.net.increase_time(REQUEST_TIMEOUT + 1)
    world.net.mine()
    with reverts("PoIExpired"):
        world.gate.decline(requested, account=world.provider)


# Rewards.


def test_rewards_come_from_the_fees_of_the_audited_provider_and_are_paid_out(court, world, reverts):
    world.fulfill(world.answer(world.request(fee=10**15)))
    receipt, _ = court.recorded()
    court.round(receipt, lambda member: 1)
    member = court.members[0]
    assert court.audit.creditOf(member) == AUDIT_PARAMETERS.vote_reward
    before = world.client.balance(member)
    court.audit.withdraw(member, account=world.stranger)
    assert world.client.balance(member) == before + AUDIT_PARAMETERS.vote_reward
    with reverts("NothingToWithdraw"):
        court.audit.withdraw(member)
    share = 10**15 * AUDIT_SHARE_PPM // 10**6
    assert world.gate.creditOf(world.provider) == 10**15 - share
    assert court.audit.pool() == share - 3 * AUDIT_PARAMETERS.vote_reward


def test_a_pool_that_is_too_small_is_shared_and_anybody_can_fill_it(court, world):
    court.audit.fundPool(account=world.stranger, value=10)
    receipt, _ = court.recorded()
    court.round(receipt, lambda member: 1)
    assert [court.audit.creditOf(member) for member in court.members] == [3, 3, 3]
    assert court.audit.pool() == 1
