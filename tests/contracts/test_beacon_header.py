"""Which headers the draw accepts as the proof of a past block's randomness."""

from __future__ import annotations

import pytest
from tests.contracts.audit_court import COMMITTING, Court

from zerog.chain.keys import keccak256
from zerog.contracts.genesis import AUDIT_PARAMETERS


@pytest.fixture
def court(world) -> Court:
    return Court(world, world.net.accounts[4:9])


@pytest.fixture
def drawing(court):
    """A receipt that can be drawn, and the bytes of its beacon's header."""
    receipt, _ = court.recorded()
    number = court.await_beacon(receipt)
    return receipt, number, bytes.fromhex(court.header(number)[2:])


def test_the_committee_follows_from_the_mix_hash_of_the_beacon(court, world, drawing):
    receipt, number, _ = drawing
    receipt_hash = world.digest(receipt)
    mix = bytes.fromhex(world.client.block(number).raw["mixHash"][2:])
    randomness = keccak256(mix + receipt_hash + bytes(32))
    expected, _ = court.verifiers.draw(
        world.engine, randomness, AUDIT_PARAMETERS.committee, world.provider.address, number
    )
    assert court.draw(receipt).members == expected


def test_a_header_of_another_block_is_refused(court, drawing, reverts):
    receipt, number, _ = drawing
    for other in (number - 1, number + 1):
        with reverts(f"HeaderMismatch(blockNumber={number}"):
            court.audit.drawAudit(receipt.to_tuple(), court.header(other))


def test_a_header_with_one_bit_changed_is_refused_wherever_it_is(court, drawing, reverts):
    receipt, _, header = drawing
    for place in range(0, len(header), 60):
        changed = bytearray(header)
        changed[place] ^= 1
        with reverts("HeaderMismatch"):
            court.audit.drawAudit.call(receipt.to_tuple(), bytes(changed))


def test_a_truncated_or_prolonged_header_is_refused(court, drawing, reverts):
    receipt, _, header = drawing
    for wrong in (b"", header[:1], header[:-1], header + b"\0"):
        with reverts("HeaderMismatch"):
            court.audit.drawAudit.call(receipt.to_tuple(), wrong)


def test_an_oversize_header_is_refused_before_it_is_hashed(court, drawing, reverts):
    receipt, _, header = drawing
    with reverts("HeaderMismatch"):
        court.audit.drawAudit.call(receipt.to_tuple(), header.ljust(1_024, b"\0"))
    with reverts("HeaderTooLarge(size=1025, limit=1024)"):
        court.audit.drawAudit.call(receipt.to_tuple(), header.ljust(1_025, b"\0"))


def test_headers_older_than_what_the_machine_remembers_come_from_the_history_contract(court, world):
    court.set(rate_ppm=999_999, challenge_window=5_000)
    receipt, receipt_hash = court.recorded()
    first = court.await_beacon(receipt)
    world.net.mine(300)
    late = court.audit.beaconOf(receipt_hash)
    court.audit.drawLate(receipt.to_tuple(), court.header(late), court.header(first))
    assert court.state(receipt_hash) == COMMITTING


def test_headers_older_than_the_history_contract_remembers_are_refused(court, world, reverts):
    court.set(rate_ppm=999_999, challenge_window=20_000)
    receipt, receipt_hash = court.recorded()
    first = court.await_beacon(receipt)
    world.net.mine(8_200)
    late = court.audit.beaconOf(receipt_hash)
    with reverts(f"HeaderMismatch(blockNumber={first}"):
        court.audit.drawLate(receipt.to_tuple(), court.header(late), court.header(first))
