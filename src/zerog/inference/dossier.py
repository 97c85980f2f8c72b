"""What a chain knows of one answer: its transactions, who audited it and how, what it cost.

::

    found = dossier(client, receipt_hash)
    found.tier, found.votes, found.cost.fee

Everything is read from events and transaction receipts; only how long a re-execution took, and why a
verifier voted as it did, comes from the node's own verifiers (``audit_findings``) where it has some.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerog.errors import ContractReverted, InferenceError, RpcError
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.audit.history import Entry, history

if TYPE_CHECKING:
    from zerog.client import Client

TIERS = ("SIGNED", "OPTIMISTIC", "AUDITED", "TEE", "ZK", "NATIVE")
"""What the protocol calls the tiers, by number."""
STATES = ("unknown", "open", "parked", "delivered", "callback failed", "disputed", "refunded")
"""What a person calls the states of a request, by the gate's number."""
LOOKBACK = 50_000
"""Blocks before a receipt in which its request is looked for."""
_METHOD_NOT_FOUND = -32601
_STEPS = {
    "InferenceRequested": "request",
    "InferenceFulfilled": "fulfil",
    "ReceiptRecorded": "record",
    "AuditDrawn": "draw",
    "AuditCommitted": "commit",
    "AuditRevealed": "reveal",
    "AuditEscalated": "escalate",
    "AuditSettled": "settle",
    "Challenged": "challenge",
    "InferenceDelivered": "finalize",
    "InferenceRefunded": "refund",
}
"""What a transaction is called by the events in it; a later one does not rename it."""


@dataclass(frozen=True, slots=True)
class Step:
    """A transaction of an answer's life; ``gas`` used, ``cost`` in wei paid by ``sender``."""

    what: str
    transaction: str
    block: int
    sender: str
    gas: int
    cost: int


@dataclass(frozen=True, slots=True)
class Vote:
    """What one drawn verifier said; ``verdict`` is ``None`` until it reveals.

    ``seconds`` of re-execution and ``reason`` are known for verifiers of the node that was asked only;
    ``reward`` in wei.
    """

    round: int
    verifier: str
    verdict: str | None = None
    bad_leaf: int | None = None
    reward: int = 0
    seconds: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """Where the fee went, in wei; zero fee when the answer came through no gate.

    ``provider`` is what the provider got, ``audit`` what the audit contract got, ``rewards`` what it
    passed on to verifiers for this receipt.
    """

    fee: int = 0
    provider: int = 0
    audit: int = 0
    rewards: int = 0


@dataclass(frozen=True, slots=True)
class Dossier:
    """See the module's docstring. ``audit`` is the state of the audit, ``delivery`` that of the request."""

    receipt_hash: bytes
    request_id: bytes
    provider: str
    tier: str
    condemned: bool
    audit: str
    delivery: str | None
    steps: tuple[Step, ...]
    votes: tuple[Vote, ...]
    cost: Cost
    events: tuple[Entry, ...]

    def gas_of(self, steps: Iterable[str]) -> int:
        """Wei that transactions of these kinds cost."""
        wanted = set(steps)
        return sum(step.cost for step in self.steps if step.what in wanted)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``; amounts are decimal strings of wei."""
        return {
            "receiptHash": "0x" + self.receipt_hash.hex(),
            "requestId": "0x" + self.request_id.hex(),
            "provider": self.provider,
            "tier": self.tier,
            "condemned": self.condemned,
            "audit": self.audit,
            "delivery": self.delivery,
            "verifiers": [_vote_json(vote) for vote in self.votes],
            "cost": {
                "fee": str(self.cost.fee),
                "provider": str(self.cost.provider),
                "audit": str(self.cost.audit),
                "rewards": str(self.cost.rewards),
                "gas": {name: str(self.gas_of(kinds)) for name, kinds in PAYERS.items()},
            },
            "transactions": [
                {
                    "what": step.what,
                    "transaction": step.transaction,
                    "block": step.block,
                    "from": step.sender,
                    "gas": step.gas,
                    "cost": str(step.cost),
                }
                for step in self.steps
            ],
        }


PAYERS = {
    "requester": ("request", "refund"),
    "provider": ("fulfil", "record", "finalize"),
    "verifiers": ("draw", "commit", "reveal", "settle", "escalate", "challenge"),
}
"""Who usually sends which transactions; anybody may carry most of them."""


def dossier(client: Client, receipt_hash: bytes) -> Dossier:
    """Everything about a receipt that the chain has noted.

    Raises
    ------
    InferenceError : the registry does not know it.
    """
    contracts = AuditContracts(client)
    provider, block, tier, condemned = _standing(contracts, receipt_hash)
    entries = history(contracts, receipt_hash, block)
    brought, request_id = _brought(contracts, receipt_hash, block)
    asked, fee, delivery = _request(contracts, request_id, block)
    after = _events(client, contracts.gate, {"InferenceDelivered", "InferenceRefunded"}, request_id, block)
    found = [*asked, *brought, *((e.event, e.transaction) for e in entries), *after]
    return Dossier(
        receipt_hash=receipt_hash,
        request_id=request_id,
        provider=provider,
        tier=TIERS[tier] if tier < len(TIERS) else str(tier),
        condemned=condemned,
        audit=contracts.audit(receipt_hash).phase.name.lower(),
        delivery=delivery,
        steps=tuple(_steps(client, found)),
        votes=tuple(_votes(entries, _findings(client, receipt_hash))),
        cost=_cost(contracts, fee, delivery, entries),
        events=tuple(entries),
    )


# The parts.


def _standing(contracts: AuditContracts, receipt_hash: bytes) -> tuple[str, int, int, bool]:
    """Provider, block of the record, tier, whether it was condemned."""
    try:
        found = contracts.registry.receiptOf(receipt_hash)
    except ContractReverted:
        found = None
    if found is None or not found.blockNumber:
        raise InferenceError(f"the registry does not know the receipt 0x{receipt_hash.hex()}")
    return str(found.provider), int(found.blockNumber), int(found.tier), bool(found.condemned)


def _events(
    client: Client, contract: Any, names: set[str], indexed: bytes, first: int
) -> list[tuple[str, str]]:
    """Name and transaction of the events of one request; its id is their first indexed member."""
    logs = client.logs(address=contract, topics=[None, "0x" + indexed.hex()], from_block=first)
    return [
        (event.name, event.log.transaction_hash or "")
        for event in contract.decode(logs)
        if event.name in names
    ]


def _brought(
    contracts: AuditContracts, receipt_hash: bytes, block: int
) -> tuple[list[tuple[str, str]], bytes]:
    """The transaction that brought the receipt on chain, and its request id."""
    logs = contracts.client.logs(
        address=contracts.registry,
        topics=[None, "0x" + receipt_hash.hex()],
        from_block=block,
        to_block=block,
    )
    for event in contracts.registry.decode(logs):
        if event.name in ("ReceiptConsumed", "ReceiptRecorded"):
            name = "InferenceFulfilled" if event.name == "ReceiptConsumed" else event.name
            return [(name, event.log.transaction_hash or "")], bytes(event.requestId)
    raise InferenceError(f"block {block} does not tell of the receipt 0x{receipt_hash.hex()}")


def _request(
    contracts: AuditContracts, request_id: bytes, block: int
) -> tuple[list[tuple[str, str]], int, str | None]:
    """The transaction of the request, its fee in wei, and where the request stands."""
    logs = contracts.client.logs(
        address=contracts.gate,
        topics=[None, "0x" + request_id.hex()],
        from_block=max(0, block - LOOKBACK),
        to_block=block,
    )
    for event in contracts.gate.decode(logs):
        if event.name == "InferenceRequested":
            state = int(contracts.gate.requestOf(request_id).state)
            return (
                [(event.name, event.log.transaction_hash or "")],
                int(event.fee),
                STATES[state] if state < len(STATES) else str(state),
            )
    return [], 0, None


def _steps(client: Client, found: Iterable[tuple[str, str]]) -> list[Step]:
    """One step per transaction, named by its first event, in the order of the chain."""
    named: dict[str, str] = {}
    for event, transaction in found:
        if event in _STEPS:
            named.setdefault(transaction, _STEPS[event])
    steps = []
    for transaction, what in named.items():
        receipt = client.receipt(transaction)
        if receipt is not None:
            cost = receipt.gas_used * receipt.effective_gas_price
            place = (receipt.block_number, receipt.index)
            step = Step(what, transaction, receipt.block_number, receipt.sender, receipt.gas_used, cost)
            steps.append((place, step))
    return [step for _, step in sorted(steps, key=lambda item: item[0])]


def _votes(entries: Iterable[Entry], findings: dict[tuple[int, str], dict[str, Any]]) -> list[Vote]:
    seats: dict[tuple[int, str], dict[str, Any]] = {}
    rewards: dict[str, int] = {}
    current = 0
    for entry in entries:
        facts = entry.facts
        if entry.event == "AuditDrawn":
            current = int(facts["round"])
            seats |= {(current, member): {} for member in facts["members"]}
        elif entry.event == "AuditRevealed":
            seats.setdefault((current, facts["verifier"]), {}).update(
                verdict=facts["verdict"], bad_leaf=facts["badLeaf"]
            )
        elif entry.event == "Credited":
            rewards[facts["account"]] = rewards.get(facts["account"], 0) + int(facts["amount"])
    votes = []
    for (number, verifier), said in seats.items():
        own = findings.get((number, verifier.lower()), {})
        # A reward is for the whole audit: it stands with the verifier's last vote.
        last = max(r for r, other in seats if other == verifier)
        reward = rewards.get(verifier, 0) if number == last else 0
        votes.append(
            Vote(
                number, verifier, reward=reward, seconds=own.get("seconds"), reason=own.get("reason", ""),
                **said,
            )
        )  # fmt: skip
    return votes


def _findings(client: Client, receipt_hash: bytes) -> dict[tuple[int, str], dict[str, Any]]:
    """What the node's own verifiers say of their votes; nothing where it has none."""
    try:
        found = client.request("audit_findings", "0x" + receipt_hash.hex())
    except RpcError as error:
        if error.code == _METHOD_NOT_FOUND:
            return {}
        raise
    return {(int(facts["round"]), str(facts["verifier"]).lower()): facts for facts in found}


def _cost(contracts: AuditContracts, fee: int, delivery: str | None, entries: Iterable[Entry]) -> Cost:
    share = fee * int(contracts.gate.parameters().auditSharePpm) // 1_000_000
    members: set[str] = set()
    rewards, good = 0, False
    for entry in entries:
        if entry.event == "AuditDrawn":
            members |= set(entry.facts["members"])
        elif entry.event == "AuditSettled":
            good = entry.facts["state"] == "good"
        elif entry.event == "Credited" and entry.facts["account"] in members:
            rewards += int(entry.facts["amount"])
    delivered = delivery in ("delivered", "callback failed")
    return Cost(
        fee=fee,
        provider=fee - share if delivered else 0,
        audit=share if delivered or good else 0,
        rewards=rewards,
    )


def _vote_json(vote: Vote) -> dict[str, Any]:
    return {
        "round": vote.round,
        "verifier": vote.verifier,
        "verdict": vote.verdict,
        "badLeaf": vote.bad_leaf,
        "reward": str(vote.reward),
        "seconds": vote.seconds,
        "reason": vote.reason,
    }
