"""Waits for an answer from the gate until the chain gives it a tier, and says meanwhile what is going on.

::

    wait = Wait(client, requester, request, say=print)
    signed = wait.answer()
    wait.tier(signed.receipt_hash, 2)

A wait that cannot succeed ends at once: a condemned answer, an audit without a conclusion, a request whose
deadline has passed. The fee is claimed back then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from zerog.errors import ContractReverted, InferenceError, RpcError, TransactionError
from zerog.inference.answer import Inquiry
from zerog.inference.audit.chain import Audit, AuditPhase
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.audit.history import tokens
from zerog.inference.dossier import TIERS
from zerog.inference.onchain import ANSWER_TIMEOUT, node_serves, tier_of
from zerog.inference.provider import OPEN, PARKED, GateRequest
from zerog.inference.transcript import SignedTranscript
from zerog.inference.transcript_file import decode_transcript

if TYPE_CHECKING:
    from zerog.client import Account, Client

POLL = 0.1
"""Seconds between looks at the chain."""
CARRY_AFTER = 5.0
"""Seconds after which an output that may be delivered, and that its provider left, is delivered from here."""
_AUDITED = 2
_HOPELESS = (AuditPhase.BAD, AuditPhase.UNAVAILABLE, AuditPhase.INCONCLUSIVE)


class Wait:
    """See the module's docstring.

    Parameters
    ----------
    client : the node.
    requester : the account that asked: it gets the fee back.
    request : what it asked.
    say : hears, in a few words, what is waited for; called again only when that changes.
    timeout : seconds that either wait may take.
    """

    def __init__(
        self,
        client: Client,
        requester: Account | str,
        request: GateRequest,
        say: Callable[[str], None] = lambda text: None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> None:
        self._client = client
        self._requester = requester
        self._request = request
        self._say = say
        self._timeout = timeout
        self._said = ""
        self._contracts = AuditContracts(client)

    @classmethod
    def of(cls, client: Client, signed: SignedTranscript, say: Callable[[str], None]) -> Wait:
        """For an answer that came through no gate: its receipt is on chain, a request is not."""
        receipt = signed.receipt
        inquiry = Inquiry(
            receipt.requestId, receipt.requester, signed.transcript.request, signed.transcript.params
        )
        request = GateRequest(inquiry, receipt.modelId, 0, receipt.deadline, 0)
        return cls(client, "0x" + receipt.requester.hex(), request, say)

    def answer(self) -> SignedTranscript:
        """The signed transcript, from the node's service when it answered, else from chain and storage.

        Raises
        ------
        InferenceError : nobody answers, or nobody has the transcript.
        """
        gate, request_id = self._contracts.gate, self._request.inquiry.request_id
        deadline = time.monotonic() + self._timeout
        while not (events := gate.events.InferenceFulfilled(requestId=request_id)):
            node_serves(self._client, self._request.model_id)
            self._still_open()
            self._tell("waiting for a provider to answer")
            self._pause(deadline, "the answer to the request")
        receipt_hash = bytes(events[0].receiptHash)
        found = self._client.request("poi_transcript", "0x" + receipt_hash.hex())
        if found is not None:
            return decode_transcript(msgspec.json.encode(found))
        from zerog.inference.retrieval import signed_from_chain

        return signed_from_chain(self._client, receipt_hash)

    def tier(self, receipt_hash: bytes, tier: int) -> None:
        """Returns when the receipt has the tier and its output was delivered.

        Raises
        ------
        InferenceError : it will never have it; what came of the fee is in the message.
        """
        deadline = time.monotonic() + self._timeout
        deliverable: float | None = None
        while True:
            reached = (tier_of(self._client, receipt_hash) or 0) >= tier
            parked = self._state() == PARKED
            if reached and not parked:
                return
            audit = self._contracts.audit(receipt_hash)
            if not reached and audit.phase in _HOPELESS:
                self._lost(audit.phase)
            if parked and self._is_deliverable():
                deliverable = deliverable or time.monotonic()
                if time.monotonic() - deliverable > CARRY_AFTER:
                    self._carry()
            self._tell(_progress(audit, tier))
            self._pause(deadline, f"tier {TIERS[tier]}")

    # Internals.

    def _state(self) -> int:
        return int(self._contracts.gate.requestOf(self._request.inquiry.request_id).state)

    def _still_open(self) -> None:
        if self._state() == OPEN and self._client.block().timestamp > self._request.deadline:
            raise InferenceError(f"nobody answered before the deadline; {self._give_back()}")

    def _lost(self, phase: AuditPhase) -> None:
        why = {
            AuditPhase.BAD: "the verifiers found that the answer is not what the model says",
            AuditPhase.UNAVAILABLE: "the provider did not publish the transcript of its answer",
            AuditPhase.INCONCLUSIVE: "the verifiers came to no conclusion",
        }[phase]
        raise InferenceError(f"{why}; {self._give_back()}", hint="do not rely on the answer; ask again")

    def _give_back(self) -> str:
        gate, request_id = self._contracts.gate, self._request.inquiry.request_id
        if self._state() == 0:
            return "it came through no gate, and no fee was paid"
        try:
            sent = gate.refund(request_id, account=self._requester)
            if self._request.fee:
                gate.withdraw(self._requester, account=self._requester)
        except (RpcError, TransactionError) as error:
            return f"the fee did not come back: {error}"
        return f"the fee of {tokens(self._request.fee)} came back in {sent.hash}"

    def _is_deliverable(self) -> bool:
        try:
            self._contracts.gate.finalize.call(self._request.inquiry.request_id)
        except ContractReverted:
            return False
        return True

    def _carry(self) -> None:
        try:
            self._contracts.gate.finalize(self._request.inquiry.request_id, account=self._requester)
        except (ContractReverted, TransactionError):
            return  # The provider was faster.

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)

    def _pause(self, deadline: float, what: str) -> None:
        if time.monotonic() > deadline:
            raise InferenceError(f"{what} did not happen within {self._timeout:g} s")
        time.sleep(POLL)


def _progress(audit: Audit, tier: int) -> str:
    """Where an audit stands, in a few words."""
    what = f"waiting for tier {TIERS[tier]}"
    if audit.phase is AuditPhase.NONE:
        return f"{what}: " + ("the draw of the verifiers" if tier == _AUDITED else "the audit window")
    if audit.phase is AuditPhase.ESCALATED:
        return f"{what}: objection; a larger committee is being drawn"
    count = len(audit.members)
    if audit.phase is AuditPhase.COMMITTING:
        done = sum(member.committed for member in audit.members)
        return (
            f"{what}: round {audit.round}, {done} of {count} verifiers have executed it again and committed"
        )
    if audit.phase is AuditPhase.REVEALING:
        done = sum(member.revealed for member in audit.members)
        return f"{what}: round {audit.round}, {done} of {count} votes are open"
    return f"{what}: the verifiers say {audit.phase.name.lower()}; delivery"
