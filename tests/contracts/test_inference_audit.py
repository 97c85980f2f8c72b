"""Audits on a devnet: draw, votes, and what their outcome means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from zerog.chain.keys import keccak256
from zerog.client import Account, Contract
from zerog.contracts import INFERENCE_AUDIT, VERIFIER_REGISTRY, artifact
from zerog.contracts.genesis import ACTIVATION_DELAY, AUDIT_PARAMETERS, VERIFIER_MIN_STAKE
from zerog.inference.receipt import AuditVote, InferenceReceipt

NONE, COMMITTING, REVEALING, ESCALATED, GOOD, BAD, UNAVAILABLE, INCONCLUSIVE = range(8)
STAKE = 2 * VERIFIER_MIN_STAKE
DELIVERED, DISPUTED = 3, 5


@dataclass
class Court:
    """The audit contracts of a world, with enrolled verifiers."""

    world: Any
    members: list[Account]
    audit: Contract = field(init=False)
    verifiers: Contract = field(init=False)

    def __post_init__(self) -> None:
        client, admin = self.world.client, self.world.admin
        self.audit = client.contract(INFERENCE_AUDIT, artifact("InferenceAudit").abi, account=admin)
        self.verifiers = client.contract(VERIFIER_REGISTRY, artifact("VerifierRegistry").abi, account=admin)
        for member in self.members:
            self.verifiers.registerVerifier([self.world.engine], b"", account=member, value=STAKE)
        self.world.net.mine(ACTIVATION_DELAY)

    def parked(self, requester: Any = None) -> tuple[bytes, InferenceReceipt, bytes]:
        """A request for AUDITED with its answer parked: request id, receipt, receipt hash."""
        requested = self.world.request(requester, tier=2)
        receipt = self.world.answer(requested)
        self.world.fulfill(receipt)
        return requested, receipt, self.world.digest(receipt)

    def header(self, number: int) -> str:
        return str(self.world.client.request("debug_getRawHeader", hex(number)))

    def draw(self, receipt: InferenceReceipt) -> Any:
        """Waits for the beacon and draws; the event."""
        receipt_hash = self.world.digest(receipt)
        audit = self.audit.auditOf(receipt_hash).audit
        known = self.world.registry.receiptOf(receipt_hash)[1]
        first = audit.beaconBlock if audit.state == ESCALATED else known + AUDIT_PARAMETERS.beacon_delay
        while self.world.client.block_number <= first:
            self.world.net.mine()
        number = self.audit.beaconOf(receipt_hash)
        drawn = self.audit.drawAudit(receipt.to_tuple(), self.header(number))
        return next(event for event in self.audit.decode(drawn) if event.name == "AuditDrawn")

    def vote(
        self, receipt_hash: bytes, verifier: Account, verdict: int = 1, leaf: int | None = None
    ) -> AuditVote:
        bad = AuditVote.NO_BAD_INDEX if leaf is None else leaf
        return AuditVote(receipt_hash, bytes.fromhex(verifier.address[2:]), verdict, bad, bytes(32))

    def salt(self, vote: AuditVote) -> bytes:
        return keccak256(b"salt" + vote.verifier)

    def commit(self, vote: AuditVote, verifier: Account) -> None:
        commitment = keccak256(self.world.digest(vote) + self.salt(vote))
        self.audit.commitAudit(vote.receiptHash, commitment, account=verifier)

    def reveal(self, vote: AuditVote, verifier: Account) -> Any:
        return self.audit.revealAudit(vote.to_tuple(), self.world.sign(vote, verifier), self.salt(vote))

    def ballot(self, receipt_hash: bytes, verdicts: Callable[[Account], int | None]) -> None:
        """All members commit and reveal; None stays away."""
        seated = {seat.verifier for seat in self.audit.auditOf(receipt_hash).seats}
        voters = [m for m in self.members if m.address in seated and verdicts(m) is not None]
        votes = [self.vote(receipt_hash, m, verdicts(m) or 0) for m in voters]
        for vote, member in zip(votes, voters, strict=True):
            self.commit(vote, member)
        if len(voters) < len(seated):
            self.world.net.mine(AUDIT_PARAMETERS.commit_window + 1)
        for vote, member in zip(votes, voters, strict=True):
            self.reveal(vote, member)

    def state(self, receipt_hash: bytes) -> int:
        return int(self.audit.stateOf(receipt_hash))


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
