"""The phases of an audit: who may do what when, and the limits of the parameters."""

from __future__ import annotations

from dataclasses import astuple, fields, replace

import msgspec
import pytest
from tests.contracts.audit_court import COMMITTING, ESCALATED, GOOD, REVEALING, Court

from zerog.chain.keys import keccak256
from zerog.contracts.genesis import AUDIT_PARAMETERS, AuditParameters
from zerog.errors import ContractReverted, TransactionFailed

WINDOW = AUDIT_PARAMETERS.draw_window + 1


@pytest.fixture
def court(world) -> Court:
    return Court(world, world.net.accounts[4:7])


@pytest.fixture
def drawn(court):
    """Receipt hash of an audit whose committee was drawn."""
    receipt, receipt_hash = court.recorded()
    court.draw(receipt)
    return receipt_hash


# The draw.


def test_a_draw_waits_for_its_beacon(court, world, reverts):
    receipt, _ = court.recorded()
    with reverts("BeaconPending"):
        court.audit.drawAudit(receipt.to_tuple(), court.header(world.client.block_number))


def test_only_known_receipts_are_drawn_and_each_once(court, world, reverts):
    with reverts("ReceiptUnknown"):
        court.audit.drawAudit(world.receipt().to_tuple(), b"")
    receipt, _ = court.recorded()
    number = court.await_beacon(receipt)
    court.audit.drawAudit(receipt.to_tuple(), court.header(number))
    with reverts("WrongState"):
        court.audit.drawAudit(receipt.to_tuple(), court.header(number))


def test_at_rate_zero_only_answers_that_wait_for_audited_are_drawn(court, reverts):
    court.set(rate_ppm=0)
    receipt, _ = court.recorded()
    number = court.await_beacon(receipt)
    with reverts("NotSelected"):
        court.audit.drawAudit(receipt.to_tuple(), court.header(number))
    _, waiting, receipt_hash = court.parked()
    court.draw(waiting)
    assert court.state(receipt_hash) == COMMITTING


def test_the_lot_selects_the_share_that_the_rate_says(court, world):
    """Thirty receipts at one third, against the rule of the protocol: the threshold is exact, not near."""
    court.set(rate_ppm=333_333)
    selected = 0
    for index in range(30):
        receipt, receipt_hash = court.recorded(requestId=bytes(31) + bytes([index]))
        number = court.await_beacon(receipt)
        mix = bytes.fromhex(world.client.block(number).raw["mixHash"][2:])
        lot = int.from_bytes(keccak256(mix + receipt_hash))
        expected = lot < 2**256 * 333_333 // 10**6
        try:
            court.audit.drawAudit.call(receipt.to_tuple(), court.header(number))
            found = True
        except ContractReverted as error:
            assert error.reason is not None and error.reason.startswith("NotSelected"), error.reason
            found = False
        assert found == expected
        selected += found
    assert 0 < selected < 30


def test_a_missed_window_makes_way_for_the_next_beacon(court, world, reverts):
    receipt, receipt_hash = court.recorded()
    first = court.await_beacon(receipt)
    world.net.mine(WINDOW)
    second = court.audit.beaconOf(receipt_hash)
    assert second == first + WINDOW
    with reverts("HeaderMismatch"):
        court.audit.drawAudit(receipt.to_tuple(), court.header(first))
    court.audit.drawAudit(receipt.to_tuple(), court.header(second))
    assert court.state(receipt_hash) == COMMITTING


def test_a_late_draw_still_owes_the_lot_of_the_first_window(court, world, reverts):
    court.set(rate_ppm=999_999)
    receipt, receipt_hash = court.recorded()
    first = court.await_beacon(receipt)
    world.net.mine(WINDOW)
    second = court.audit.beaconOf(receipt_hash)
    with reverts("HeaderMismatch"):
        court.audit.drawAudit(receipt.to_tuple(), court.header(second))
    with reverts("HeaderMismatch"):
        court.audit.drawLate(receipt.to_tuple(), court.header(second), court.header(second))
    court.audit.drawLate(receipt.to_tuple(), court.header(second), court.header(first))
    assert court.state(receipt_hash) == COMMITTING


def test_after_the_challenge_window_the_lot_selects_nothing_more(court, world, reverts):
    court.set(rate_ppm=999_999)
    receipt, receipt_hash = court.recorded()
    first = court.await_beacon(receipt)
    world.net.mine(AUDIT_PARAMETERS.challenge_window + 1)
    late = court.audit.beaconOf(receipt_hash)
    with reverts("BeaconMissed"):
        court.audit.drawLate(receipt.to_tuple(), court.header(late), court.header(first))


# Votes.


def test_a_commitment_is_one_of_a_member_in_time(court, world, drawn, reverts):
    member = court.members[0]
    with reverts("NotMember"):
        court.audit.commitAudit(drawn, bytes(31) + b"\1", account=world.stranger)
    with reverts("CommitmentEmpty"):
        court.audit.commitAudit(drawn, bytes(32), account=member)
    with reverts("WrongState"):
        court.audit.commitAudit(bytes(32), bytes(31) + b"\1", account=member)
    world.net.mine(AUDIT_PARAMETERS.commit_window + 1)
    with reverts("CommitClosed"):
        court.commit(court.vote(drawn, member), member)


def test_the_last_commitment_opens_the_reveals_and_closes_the_commitments(court, drawn, reverts):
    votes = {member: court.vote(drawn, member) for member in court.members}
    first, *others = court.members
    court.commit(votes[first], first)
    with reverts("RevealNotOpen"):
        court.reveal(votes[first], first)
    for member in others:
        court.commit(votes[member], member)
    assert court.state(drawn) == REVEALING
    with reverts("CommitClosed"):
        court.commit(votes[first], first)
    court.reveal(votes[first], first)


def test_a_vote_is_revealed_as_committed_signed_and_in_time(court, world, drawn, reverts):
    votes = {member: court.vote(drawn, member) for member in court.members}
    for member, vote in votes.items():
        court.commit(vote, member)
    first, second, third = court.members
    changed = msgspec.structs.replace(votes[first], verdict=2)
    with reverts("CommitmentMismatch"):
        court.reveal(changed, first)
    with reverts("VoteBadSignature"):
        court.reveal(votes[first], second)
    with reverts("VerdictUnknown(verdict=9)"):
        court.reveal(msgspec.structs.replace(votes[first], verdict=9), first)
    with reverts("NotMember"):
        court.reveal(court.vote(drawn, world.stranger), world.stranger)
    court.reveal(votes[first], first)
    world.net.mine(AUDIT_PARAMETERS.reveal_window + 1)
    with reverts("RevealClosed"):
        court.reveal(votes[second], second)
    court.audit.settle(drawn)
    assert court.state(drawn) == ESCALATED
    with reverts("WrongState"):
        court.reveal(votes[third], third)


def test_a_round_is_not_settled_before_its_time(court, world, drawn, reverts):
    with reverts("WindowOpen"):
        court.audit.settle(drawn)
    member = court.members[0]
    court.commit(court.vote(drawn, member), member)
    world.net.mine(AUDIT_PARAMETERS.commit_window)
    with reverts("WindowOpen"):
        court.audit.settle(drawn)
    world.net.mine(AUDIT_PARAMETERS.reveal_window)
    court.audit.settle(drawn)
    assert court.state(drawn) == ESCALATED


def test_a_round_without_any_commitment_is_settled_when_commitments_are_over(court, world, drawn):
    world.net.mine(AUDIT_PARAMETERS.commit_window + 1)
    court.audit.settle(drawn)
    assert court.state(drawn) == ESCALATED


def test_a_settled_audit_is_not_settled_again(court, drawn, reverts):
    court.ballot(drawn, lambda member: 1)
    assert court.state(drawn) == GOOD
    with reverts("WrongState"):
        court.audit.settle(drawn)


def test_votes_of_every_round_stay_readable(court, drawn):
    court.ballot(drawn, lambda member: 1)
    assert [seat.verdict for seat in court.audit.seatsOf(drawn, 0)] == [1, 1, 1]
    assert court.audit.seatsOf(drawn, 1) == []


# Parameters and money.

LIMITS = {
    "rate_ppm": (0, 1_000_000),
    "committee": (1, 7),
    "escalated_committee": (3, 15),
    "max_rounds": (1, 3),
    "beacon_delay": (1, 64),
    "draw_window": (1, 200),
    "commit_window": (2, 50_000),
    "reveal_window": (2, 50_000),
    "challenge_window": (10, 1_000_000),
    "bond": (1, 2**96 - 1),
    "vote_reward": (0, 1_000 * 10**18),
    "challenger_share_ppm": (0, 500_000),
    "unavailable_ppm": (0, 1_000_000),
    "missed_deadline_ppm": (0, 100_000),
    "wrong_vote_ppm": (0, 1_000_000),
    "absent_ppm": (0, 100_000),
    "canary_ppm": (0, 1_000_000),
    "tolerant_strikes": (1, 10),
}


def test_every_parameter_has_limits():
    assert list(LIMITS) == [field.name for field in fields(AuditParameters)]


@pytest.mark.parametrize("name", list(LIMITS))
def test_a_parameter_is_accepted_at_its_limits_and_refused_beyond(court, reverts, name):
    least, most = LIMITS[name]
    solidity = "".join(part if n == 0 else part.capitalize() for n, part in enumerate(name.split("_")))

    def attempt(value: int) -> None:
        others = replace(AUDIT_PARAMETERS, escalated_committee=7)
        court.audit.setParameters.call(astuple(replace(others, **{name: value})))

    attempt(least)
    attempt(most)
    for value in [least - 1] * (least > 0) + [most + 1]:
        with reverts(f"ParameterOutOfRange(name='{solidity}')"):
            attempt(value)


def test_only_the_administrator_sets_parameters(court, world, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        court.audit.setParameters(astuple(AUDIT_PARAMETERS), account=world.stranger)
    court.set(committee=5)
    assert court.audit.parameters().committee == 5


def test_parameters_come_from_genesis(court):
    assert tuple(court.audit.parameters()) == astuple(AUDIT_PARAMETERS)


def test_money_that_nobody_expects_is_refused(court, world):
    with pytest.raises((ContractReverted, TransactionFailed)):
        world.client.send(to=court.audit.address, value=1, account=world.stranger)


def test_only_the_gate_reports_missed_deadlines(court, world, reverts):
    with reverts("NotGate"):
        court.audit.missedDeadline(world.provider.address, bytes(32))
