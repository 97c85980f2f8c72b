"""A court of enrolled verifiers that drives audits on a devnet by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from zerog.chain.keys import keccak256
from zerog.client import Account, Contract, Receipt
from zerog.contracts import INFERENCE_AUDIT, VERIFIER_REGISTRY, artifact
from zerog.contracts.genesis import ACTIVATION_DELAY, AUDIT_PARAMETERS, VERIFIER_MIN_STAKE
from zerog.inference.receipt import AuditVote, InferenceReceipt

NONE, COMMITTING, REVEALING, ESCALATED, GOOD, BAD, UNAVAILABLE, INCONCLUSIVE = range(8)
STAKE = 2 * VERIFIER_MIN_STAKE
TOLERANT_POOL = keccak256(b"tolerant")
AWAY = None
"""Verdict of a member that does not vote."""


@dataclass
class Court:
    """The audit contracts of a world, with enrolled verifiers whose stake counts."""

    world: Any
    members: list[Account]
    pools: list[bytes] = field(default_factory=list)
    audit: Contract = field(init=False)
    verifiers: Contract = field(init=False)
    transaction: Any = field(init=False, default=None)

    def __post_init__(self) -> None:
        client, admin = self.world.client, self.world.admin
        self.audit = client.contract(INFERENCE_AUDIT, artifact("InferenceAudit").abi, account=admin)
        self.verifiers = client.contract(VERIFIER_REGISTRY, artifact("VerifierRegistry").abi, account=admin)
        self.enrol(self.members)

    def enrol(self, members: Iterable[Account], stake: int = STAKE) -> None:
        """Registers verifiers and waits until their stake counts."""
        for member in members:
            if member not in self.members:
                self.members.append(member)
            pools = self.pools or [self.world.engine]
            self.verifiers.registerVerifier(pools, b"", account=member, value=stake)
        self.world.net.mine(ACTIVATION_DELAY)

    def parked(self, requester: Any = None) -> tuple[bytes, InferenceReceipt, bytes]:
        """A request for AUDITED with its answer parked: request id, receipt, receipt hash."""
        requested = self.world.request(requester, tier=2)
        receipt = self.world.answer(requested)
        self.world.fulfill(receipt)
        return requested, receipt, self.world.digest(receipt)

    def recorded(self, **changes: Any) -> tuple[InferenceReceipt, bytes]:
        """A receipt that was handed over off chain, made known: receipt, receipt hash."""
        receipt = self.world.receipt(**changes)
        self.world.registry.record(receipt.to_tuple(), self.world.sign(receipt))
        return receipt, self.world.digest(receipt)

    def header(self, number: int) -> str:
        return str(self.world.client.request("debug_getRawHeader", hex(number)))

    def first_beacon(self, receipt: InferenceReceipt) -> int:
        """Earliest block whose randomness can draw the next committee."""
        receipt_hash = self.world.digest(receipt)
        audit = self.audit.auditOf(receipt_hash).audit
        if audit.state == ESCALATED:
            return int(audit.beaconBlock)
        return int(self.world.registry.receiptOf(receipt_hash)[1]) + AUDIT_PARAMETERS.beacon_delay

    def await_beacon(self, receipt: InferenceReceipt) -> int:
        """Waits until a committee can be drawn; the number of the beacon block."""
        first = self.first_beacon(receipt)
        while self.world.client.block_number <= first:
            self.world.net.mine()
        return int(self.audit.beaconOf(self.world.digest(receipt)))

    def draw(self, receipt: InferenceReceipt) -> Any:
        """Waits for the beacon and draws; the event."""
        number = self.await_beacon(receipt)
        self.transaction = self.audit.drawAudit(receipt.to_tuple(), self.header(number))
        return self.event(self.transaction, "AuditDrawn")

    def event(self, transaction: Receipt, name: str) -> Any:
        """The first event of that name in a transaction."""
        return next(event for event in self.audit.decode(transaction) if event.name == name)

    def vote(
        self, receipt_hash: bytes, verifier: Account, verdict: int = 1, leaf: int | None = None
    ) -> AuditVote:
        bad = AuditVote.NO_BAD_INDEX if leaf is None else leaf
        return AuditVote(receipt_hash, bytes.fromhex(verifier.address[2:]), verdict, bad, bytes(32))

    def salt(self, vote: AuditVote) -> bytes:
        return keccak256(b"salt" + vote.verifier)

    def commitment(self, vote: AuditVote) -> bytes:
        return keccak256(self.world.digest(vote) + self.salt(vote))

    def commit(self, vote: AuditVote, verifier: Account) -> Receipt:
        receipt: Receipt = self.audit.commitAudit(vote.receiptHash, self.commitment(vote), account=verifier)
        return receipt

    def reveal(self, vote: AuditVote, verifier: Account) -> Receipt:
        signature = self.world.sign(vote, verifier)
        receipt: Receipt = self.audit.revealAudit(vote.to_tuple(), signature, self.salt(vote))
        return receipt

    def object(self, receipt_hash: bytes, verifier: Account, verdict: int = 2, leaf: int = 0) -> Receipt:
        """The signed objection of a verifier outside the committee."""
        vote = self.vote(receipt_hash, verifier, verdict, leaf)
        receipt: Receipt = self.audit.attest(vote.to_tuple(), self.world.sign(vote, verifier))
        return receipt

    def ballot(
        self,
        receipt_hash: bytes,
        verdicts: Callable[[Account], int | None],
        leaf: int | None = None,
    ) -> Receipt | None:
        """All seated members commit and reveal, `AWAY` stays away; the settling transaction."""
        seated = {seat.verifier for seat in self.audit.auditOf(receipt_hash).seats}
        voters = [m for m in self.members if m.address in seated and verdicts(m) is not AWAY]
        votes = [
            self.vote(receipt_hash, m, verdict, None if verdict == 1 else leaf)
            for m in voters
            if (verdict := verdicts(m)) is not None
        ]
        for vote, member in zip(votes, voters, strict=True):
            self.commit(vote, member)
        if len(voters) < len(seated):
            self.world.net.mine(AUDIT_PARAMETERS.commit_window + 1)
        last = None
        for vote, member in zip(votes, voters, strict=True):
            last = self.reveal(vote, member)
        return last or self.audit.settle(receipt_hash)

    def round(
        self,
        receipt: InferenceReceipt,
        verdicts: Callable[[Account], int | None],
        leaf: int | None = None,
    ) -> Receipt | None:
        """Draws the next committee and lets it vote."""
        self.draw(receipt)
        return self.ballot(self.world.digest(receipt), verdicts, leaf)

    def state(self, receipt_hash: bytes) -> int:
        return int(self.audit.stateOf(receipt_hash))

    def stake(self, member: Account) -> int:
        return int(self.verifiers.atRiskOf(member))

    def set(self, **changes: Any) -> None:
        """Changes parameters of audits; names as in `AuditParameters` of the genesis."""
        self.audit.setParameters(astuple(replace(AUDIT_PARAMETERS, **changes)))
