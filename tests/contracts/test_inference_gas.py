"""Gas of the calls that people pay for, against the committed `inference_gas.json` and the limits of the issue.

A change of more than two per cent is deliberate: write the new figures into the file with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.contracts.audit_court import Court

from zerog.chain.keys import keccak256
from zerog.contracts.genesis import AUDIT_PARAMETERS, AUDIT_WINDOW

SNAPSHOT = Path(__file__).parent / "inference_gas.json"
TOLERANCE = 0.02
FULFIL_LIMIT = 120_000
SENTENCE = (
    b"Water makes other things wet; whether it is wet itself is a matter of what the word is to mean here."
)
"""An output of 100 bytes."""


@pytest.fixture(scope="session")
def snapshot() -> dict[str, int]:
    found: dict[str, int] = msgspec.json.decode(SNAPSHOT.read_bytes())
    return found


@pytest.fixture
def close(snapshot: dict[str, int]) -> Any:
    def compare(name: str, receipt: Any) -> None:
        found, wanted = receipt.gas_used, snapshot[name]
        assert abs(found - wanted) <= TOLERANCE * wanted, f"{name}: {found} gas, the snapshot says {wanted}"

    return compare


def _answered(world: Any, requester: Any = None, tier: int = 0, output: bytes = SENTENCE) -> Any:
    requested = world.request(requester, tier=tier)
    return world.fulfill(world.answer(requested, output), output)


def _in_order(court: Court, drawn: list[str]) -> list[Any]:
    """Members as they sit: a seat is found by looking through those before it."""
    return sorted(court.members, key=lambda member: drawn.index(member.address))


def test_a_signed_answer_stays_within_its_limit_from_a_queued_providers_first_one_on(world, close):
    world.gate.joinQueue(world.model, account=world.provider)
    first, later = _answered(world), _answered(world)
    world.gate.withdraw(world.provider)
    after_withdrawal = _answered(world)
    assert max(first.gas_used, later.gas_used, after_withdrawal.gas_used) <= FULFIL_LIMIT
    close("fulfill: SIGNED, 100 bytes, no code", later)


def test_only_the_first_answer_of_a_provider_outside_the_queue_opens_its_account(world, close):
    close("fulfill: SIGNED, first answer of a provider that never queued", _answered(world))
    assert _answered(world).gas_used <= FULFIL_LIMIT


def test_answers_to_contracts_and_parked_ones_cost_what_the_snapshot_says(world, close):
    world.gate.joinQueue(world.model, account=world.provider)
    consumer = world.deploy("ConsumerMock")
    _answered(world, consumer)
    close("fulfill: SIGNED, 100 bytes, consumer that stores it", _answered(world, consumer))
    close("fulfill: parked, 100 bytes", _answered(world, tier=1))


def test_requests_cost_what_the_snapshot_says(world, close):
    world.gate.joinQueue(world.model, account=world.provider)
    ask = (world.model, b"Is water wet?", (8, 0, 1000, 0, 1000, 0, bytes(32), 0), 0, 0)
    world.gate.requestInference(*ask, account=world.user, value=1000)
    close("requestInference", world.gate.requestInference(*ask, account=world.user, value=1000))


def test_verification_by_code_costs_what_the_snapshot_says(world, snapshot):
    receipt = world.receipt()
    found = world.registry.verifyReceipt.estimate_gas(receipt.to_tuple(), world.sign(receipt), 0)
    wanted = snapshot["verifyReceipt in Solidity, as a transaction"]
    assert abs(found - wanted) <= TOLERANCE * wanted, found


def test_recording_and_a_whole_audit_cost_what_the_snapshot_says(world, close):
    court = Court(world, world.net.accounts[4:7])
    receipt = world.receipt()
    close("record", world.registry.record(receipt.to_tuple(), world.sign(receipt)))
    receipt_hash = world.digest(receipt)
    seated = _in_order(court, court.draw(receipt).members)
    close("drawAudit: three of three", court.transaction)
    votes = [court.vote(receipt_hash, member) for member in seated]
    commits = [court.commit(vote, member) for vote, member in zip(votes, seated, strict=True)]
    close("commitAudit", commits[1])
    reveals = [court.reveal(vote, member) for vote, member in zip(votes, seated, strict=True)]
    close("revealAudit", reveals[1])
    close("revealAudit: the last one settles", reveals[2])


def test_a_dispute_and_its_settlement_cost_what_the_snapshot_says(world, close):
    court = Court(world, world.net.accounts[4:7])
    receipt = world.receipt()
    world.registry.record(receipt.to_tuple(), world.sign(receipt))
    receipt_hash = world.digest(receipt)
    challenged = court.audit.challenge(receipt_hash, 3, account=world.user, value=AUDIT_PARAMETERS.bond)
    close("challenge", challenged)
    court.draw(receipt)
    # Not in the order of seats: what an absence costs depends on the member's place in the tree.
    for member in court.members[:2]:
        court.commit(court.vote(receipt_hash, member, 2, 3), member)
    world.net.mine(AUDIT_PARAMETERS.commit_window)
    court.reveal(court.vote(receipt_hash, court.members[0], 2, 3), court.members[0])
    world.net.mine(AUDIT_PARAMETERS.reveal_window)
    close("settle: one of three voted", court.audit.settle(receipt_hash))


def test_finalizing_costs_what_the_snapshot_says(world, close):
    world.gate.joinQueue(world.model, account=world.provider)
    requested = world.request(tier=1)
    world.fulfill(world.answer(requested, SENTENCE), SENTENCE)
    world.net.mine(AUDIT_WINDOW)
    close("finalize: OPTIMISTIC, 100 bytes", world.gate.finalize(requested))


def test_a_word_of_output_costs_what_an_event_costs(world):
    """Nothing of a delivered output is stored: 32 more bytes cost far less than a word of storage."""
    world.gate.joinQueue(world.model, account=world.provider)
    short, long = (_answered(world, output=keccak256(b"1") * n).gas_used for n in (1, 33))
    assert (long - short) / 32 < 1_500
