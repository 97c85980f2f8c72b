"""Audits on a devnet: draw, votes, and what their outcome means."""

from __future__ import annotations

import pytest
from tests.contracts.audit_court import BAD, ESCALATED, GOOD, Court

from zerog.contracts.genesis import AUDIT_PARAMETERS

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
