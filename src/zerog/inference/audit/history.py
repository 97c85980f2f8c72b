"""What happened to one receipt in its audits, told from the events of the chain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerog.inference.audit.chain import AuditPhase
from zerog.inference.audit.vote import VERDICTS
from zerog.inference.receipt import AuditVote

if TYPE_CHECKING:
    from zerog.client.contract import Event
    from zerog.inference.audit.contract import AuditContracts

WEI = 10**18


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened: a sentence, facts for scripts, and where it stands on chain."""

    event: str
    text: str
    facts: dict[str, Any]
    block: int
    transaction: str

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"event": self.event, "block": self.block, "transaction": self.transaction, **self.facts}


def history(contracts: AuditContracts, receipt_hash: bytes, first_block: int = 0) -> list[Entry]:
    """Everything that the audit contract said of a receipt from ``first_block`` on, in the order of the chain."""
    logs = contracts.client.logs(
        address=contracts.audits, topics=[None, "0x" + receipt_hash.hex()], from_block=first_block
    )
    return list(_told(contracts.audits.decode(logs)))


def tokens(wei: int) -> str:
    """An exact amount for a person."""
    whole, rest = divmod(wei, WEI)
    return f"{whole}.{rest:018d}".rstrip("0").rstrip(".") + " tokens"


def _told(events: list[Event]) -> Iterator[Entry]:
    for event in events:
        told = _TELLERS.get(event.name)
        if told is not None:
            text, facts = told(event)
            log = event.log
            yield Entry(event.name, text, facts, log.block_number or 0, log.transaction_hash or "")


def _drawn(event: Event) -> tuple[str, dict[str, Any]]:
    members = list(event.members)
    text = f"round {event.round}: {len(members)} verifiers drawn: {', '.join(map(_short, members))}"
    if event.round and event.fromLeaf:
        text += f"; they look from leaf {event.fromLeaf} on"
    return text, {"round": event.round, "members": members, "fromLeaf": event.fromLeaf}


def _committed(event: Event) -> tuple[str, dict[str, Any]]:
    return f"{_short(event.verifier)} has committed to a vote", {"verifier": event.verifier}


def _revealed(event: Event) -> tuple[str, dict[str, Any]]:
    verdict = VERDICTS.get(event.verdict, str(event.verdict))
    leaf = None if event.badIndex == AuditVote.NO_BAD_INDEX else event.badIndex
    where = "" if leaf is None else f", first bad leaf {leaf}"
    return (
        f"{_short(event.verifier)} voted {verdict}{where}",
        {"verifier": event.verifier, "verdict": verdict, "badLeaf": leaf},
    )


def _escalated(event: Event) -> tuple[str, dict[str, Any]]:
    return (
        f"objection: a larger committee will be drawn for round {event.round}",
        {"round": event.round, "fromLeaf": event.fromLeaf},
    )


def _settled(event: Event) -> tuple[str, dict[str, Any]]:
    state = AuditPhase(event.state).name.lower()
    return f"settled in round {event.round}: {state}", {"state": state, "round": event.round}


def _provider_slashed(event: Event) -> tuple[str, dict[str, Any]]:
    burnt = event.taken - event.kept
    text = (
        f"provider {_short(event.provider)} loses {tokens(event.taken)}: "
        f"{tokens(event.kept)} to the objectors, {tokens(burnt)} burnt"
    )
    amounts = {"taken": str(event.taken), "toObjectors": str(event.kept), "burnt": str(burnt)}
    return text, {"provider": event.provider, **amounts}


def _verifier_slashed(event: Event) -> tuple[str, dict[str, Any]]:
    reason = bytes(event.reason).rstrip(b"\0").decode("ascii", "replace")
    text = f"verifier {_short(event.verifier)} loses {tokens(event.taken)}: {reason}"
    return text, {"verifier": event.verifier, "taken": str(event.taken), "reason": reason}


def _credited(event: Event) -> tuple[str, dict[str, Any]]:
    return (
        f"{_short(event.account)} is credited {tokens(event.amount)}",
        {"account": event.account, "amount": str(event.amount)},
    )


def _challenged(event: Event) -> tuple[str, dict[str, Any]]:
    return f"challenged: {event.args}", {name: _plain(value) for name, value in event.args.items()}


def _short(address: str) -> str:
    return f"{address[:8]}…{address[-4:]}"


def _plain(value: Any) -> Any:
    return "0x" + bytes(value).hex() if isinstance(value, bytes) else value


_TELLERS = {
    "AuditDrawn": _drawn,
    "AuditCommitted": _committed,
    "AuditRevealed": _revealed,
    "AuditEscalated": _escalated,
    "AuditSettled": _settled,
    "ProviderSlashed": _provider_slashed,
    "VerifierSlashed": _verifier_slashed,
    "Challenged": _challenged,
    "Credited": _credited,
}
