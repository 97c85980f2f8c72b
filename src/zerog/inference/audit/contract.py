"""The audit contract and the registry of verifiers over JSON-RPC: calls, events, and answers as values."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zerog.chain.keys import keccak256
from zerog.contracts import INFERENCE_GATE, INFERENCE_REGISTRY, artifact
from zerog.errors import ContractReverted, InferenceError
from zerog.inference.audit.chain import Audit, AuditPhase, Head, Member, Recorded, Terms
from zerog.inference.audit.header import encode_header
from zerog.inference.audit.receipts import as_address, find_receipt, receipt_of
from zerog.inference.audit.sending import Call, refusal
from zerog.inference.encoding import domain_separator
from zerog.inference.engines import DeterminismClass
from zerog.inference.receipt import AuditVote, InferenceReceipt

if TYPE_CHECKING:
    from zerog.client import Client, Contract
    from zerog.client.contract import Event

log = logging.getLogger("zerog.audit")

INFERENCE_AUDIT = "0x0000000000000000000000000000000000007003"
VERIFIER_REGISTRY = "0x0000000000000000000000000000000000007004"
_MANY = 32
"""The largest draw that the registry of verifiers makes."""
TOLERANT_POOL = keccak256(b"tolerant")
"""Verifiers that compare receipts of the tolerant class."""


class AuditContracts:
    """An `AuditChain` over JSON-RPC: registry, gate, audit and registry of verifiers at 0x-addresses."""

    def __init__(
        self,
        client: Client,
        *,
        registry: str = INFERENCE_REGISTRY,
        gate: str = INFERENCE_GATE,
        audit: str = INFERENCE_AUDIT,
        verifiers: str = VERIFIER_REGISTRY,
    ) -> None:
        self.client = client
        self.registry: Contract = client.contract(registry, artifact("InferenceRegistry").abi)
        self.gate: Contract = client.contract(gate, artifact("InferenceGate").abi)
        self.audits: Contract = client.contract(audit, artifact("InferenceAudit").abi)
        self.verifiers: Contract = client.contract(verifiers, artifact("VerifierRegistry").abi)
        self._receipts: dict[bytes, Recorded] = {}

    def require(self) -> None:
        """Raises `InferenceError` when the chain has no audit contract there."""
        if not self.client.code(self.audits.address):
            raise InferenceError(
                f"there is no audit contract at {self.audits.address}", hint="use a zerog chain"
            )

    @cached_property
    def separator(self) -> bytes:
        """See `AuditChain.separator`."""
        return domain_separator(self.client.chain_id, as_address(self.registry.address))

    @cached_property
    def identity(self) -> bytes:
        """See `AuditChain.identity`. The genesis is in it: a devnet that starts anew is another chain."""
        genesis = bytes.fromhex(self.client.block(0).hash[2:])
        return keccak256(self.client.chain_id.to_bytes(32) + genesis + as_address(self.audits.address))

    # The chain.

    def head(self) -> Head:
        """See `AuditChain.head`."""
        block = self.client.block()
        return Head(block.number, block.hash)

    def block_hash(self, number: int) -> str | None:
        """See `AuditChain.block_hash`."""
        block = self.client.request("eth_getBlockByNumber", hex(number), False)
        return None if block is None else str(block["hash"])

    def header(self, number: int) -> bytes:
        """See `AuditChain.header`."""
        block = self.client.request("eth_getBlockByNumber", hex(number), False)
        if block is None:
            raise InferenceError(f"the chain has no block {number}")
        return encode_header(block)

    # What happened.

    def recorded(self, first: int, last: int) -> list[Recorded]:
        """See `AuditChain.recorded`."""
        found: dict[bytes, Recorded] = {}
        for event in self._happened(first, last):
            receipt_hash = bytes(event.receiptHash)
            known = self._receipts.get(receipt_hash) or self._recover(receipt_hash, event)
            if known is not None:
                found[receipt_hash] = self._receipts[receipt_hash] = known
        return list(found.values())

    def receipt(self, receipt_hash: bytes) -> InferenceReceipt | None:
        """A receipt that the registry has noted, from the transaction that brought it."""
        known = self._receipts.get(receipt_hash)
        if known is None:
            block = self.noted_block(receipt_hash)
            if block is None:
                return None
            known = next((r for r in self.recorded(block, block) if r.receipt_hash == receipt_hash), None)
        return None if known is None else known.receipt

    def _happened(self, first: int, last: int) -> list[Event]:
        topics = [
            event.digest
            for contract in (self.registry, self.audits)
            for event in contract.abi.events
            if event.name in _TELLING
        ]
        logs = self.client.logs(
            address=[self.registry, self.audits],
            topics=[["0x" + topic.hex() for topic in topics]],
            from_block=first,
            to_block=last,
        )
        return [*self.registry.decode(logs), *self.audits.decode(logs)]

    def _recover(self, receipt_hash: bytes, event: Event) -> Recorded | None:
        if event.name == "AuditDrawn":
            receipt = receipt_of(event.receipt)
            return Recorded(receipt_hash, receipt, event.log.block_number or 0)
        if event.name not in ("ReceiptConsumed", "ReceiptRecorded"):
            # A dispute over a receipt that came on chain before this verifier looked.
            block = self.recorded_block(receipt_hash)
            earlier = [] if block is None or block == event.log.block_number else self.recorded(block, block)
            return next((r for r in earlier if r.receipt_hash == receipt_hash), None)
        transaction = self.client.transaction(event.log.transaction_hash or "0x")
        data = b"" if transaction is None else bytes.fromhex(transaction["input"][2:])
        receipt_found = find_receipt(data, bytes(event.requestId), receipt_hash, self.separator)
        if receipt_found is None:
            log.warning("receipt 0x%s is not in its transaction: it cannot be audited", receipt_hash.hex())
            return None
        return Recorded(receipt_hash, receipt_found, event.log.block_number or 0)

    # Where things stand.

    def terms(self) -> Terms:
        """See `AuditChain.terms`."""
        found = self.audits.parameters()
        return Terms(
            rate_ppm=found.ratePpm,
            beacon_delay=found.beaconDelay,
            draw_window=found.drawWindow,
            challenge_window=found.challengeWindow,
            bond=found.bond,
        )

    def recorded_block(self, receipt_hash: bytes) -> int | None:
        """See `AuditChain.recorded_block`."""
        try:
            found = self.registry.receiptOf(receipt_hash)
        except ContractReverted:
            return None
        return None if found.condemned else int(found.blockNumber)

    def noted_block(self, receipt_hash: bytes) -> int | None:
        """Block that brought a receipt, condemned or not; ``None`` when there is none."""
        try:
            return int(self.registry.receiptOf(receipt_hash).blockNumber) or None
        except ContractReverted:
            return None

    def audit(self, receipt_hash: bytes) -> Audit:
        """See `AuditChain.audit`."""
        return _audit_of(self.audits.auditOf(receipt_hash))

    def beacon(self, receipt_hash: bytes) -> int | None:
        """See `AuditChain.beacon`."""
        try:
            return int(self.audits.beaconOf(receipt_hash))
        except ContractReverted as error:
            if refusal(error) == "BeaconPending":
                return None
            raise

    def drawable(self, receipt: InferenceReceipt, beacon: int) -> tuple[int, int]:
        """Verifiers that a draw with this beacon can reach, and those that will be reachable soon."""
        pool = TOLERANT_POOL if self.is_tolerant(receipt.engineId) else receipt.engineId
        members, _ = self.verifiers.draw(pool, bytes(32), _MANY, "0x" + receipt.provider.hex(), beacon)
        registered = [as_address(member) for member in self.verifiers.verifiersOf(pool)]
        return len(members), len([member for member in registered if member != receipt.provider])

    def is_tolerant(self, engine: bytes) -> bool:
        """Whether the registry has an engine in the class tolerant."""
        return int(self.registry.engineClass(engine)) == DeterminismClass.TOLERANT.value

    def standing(self, account: str) -> tuple[int, set[bytes]]:
        """Stake of a verifier in wei, and the pools it has joined; nothing for a stranger."""
        verifier, pools = self.verifiers.verifierOf(account)
        return (int(verifier.stake), {bytes(pool) for pool in pools}) if verifier.active else (0, set())

    def register(self, pools: Sequence[bytes], encryption_key: bytes, value: int) -> Call:
        """Registers a verifier, or changes it and adds ``value`` wei to its stake."""
        data = self.verifiers.registerVerifier.encode(list(pools), encryption_key)
        return Call(self.verifiers.address, data, "register", value)

    def credit(self, account: str) -> int:
        """Wei that wait to be withdrawn."""
        return int(self.audits.creditOf(account))

    # Calls.

    def draw(self, receipt: InferenceReceipt, header: bytes, selection: bytes | None = None) -> Call:
        """See `AuditChain.draw`."""
        if selection is None:
            return self._call("draw", "drawAudit", receipt.to_tuple(), header)
        return self._call("draw", "drawLate", receipt.to_tuple(), header, selection)

    def commit(self, receipt_hash: bytes, commitment: bytes) -> Call:
        """See `AuditChain.commit`."""
        return self._call("commit", "commitAudit", receipt_hash, commitment)

    def reveal(self, vote: AuditVote, signature: bytes, salt: bytes) -> Call:
        """See `AuditChain.reveal`."""
        return self._call("reveal", "revealAudit", vote.to_tuple(), signature, salt)

    def settle(self, receipt_hash: bytes) -> Call:
        """See `AuditChain.settle`."""
        return self._call("settle", "settle", receipt_hash)

    def challenge(self, receipt_hash: bytes, leaf: int, bond: int) -> Call:
        """Disputes a receipt; ``bond`` in wei."""
        return self._call("challenge", "challenge", receipt_hash, leaf, value=bond)

    def withdraw(self, account: str) -> Call:
        """Pays out credits."""
        return self._call("withdraw", "withdraw", account)

    def explain(self, error: ContractReverted) -> ContractReverted:
        """A revert with its reason, whichever of the contracts it comes from."""
        for contract in (self.audits, self.verifiers, self.registry, self.gate):
            told = contract.explained(error)
            if told.reason:
                return told
        return error

    def _call(self, what: str, function: str, *arguments: Any, value: int = 0) -> Call:
        data = self.audits.functions[function].encode(*arguments)
        return Call(self.audits.address, data, what, value)


_TELLING = frozenset({"ReceiptConsumed", "ReceiptRecorded", "AuditDrawn", "AuditEscalated"})
"""Events after which an audit may need something."""


def _audit_of(found: Any) -> Audit:
    stored = found.audit
    return Audit(
        phase=AuditPhase(stored.state),
        round=stored.round,
        from_leaf=stored.fromLeaf,
        beacon_block=stored.beaconBlock,
        commit_ends=stored.commitEnds,
        reveal_ends=stored.revealEnds,
        members=tuple(
            Member(as_address(seat.verifier), bytes(seat.commitment), seat.verdict) for seat in found.seats
        ),
    )
