"""Plays a dishonest provider on a devnet, and shows how it is drawn, objected to and slashed.

::

    play = CheatPlay(client, "q4_0", honest_engine, weights)
    for scene in play.play():
        print(scene.title, scene.facts)
    play.outcome.caught

Everything is real but the malice: the stake, the answer, the transcript in storage, the verifiers of the
devnet that find it, and the refund.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerog.errors import ContractReverted, InferenceError, RpcError
from zerog.inference.answer import Answer, Domain, Signatory, sampling
from zerog.inference.audit.chain import AuditPhase
from zerog.inference.audit.cheats import DESCRIPTIONS, cheat
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.audit.execution import judge
from zerog.inference.audit.history import WEI, Entry, history, tokens
from zerog.inference.provider import GateRequest, request_of, wait_for
from zerog.inference.receipt import INVERSE_CDF, AuditVote, SamplingParams, engine_id

if TYPE_CHECKING:
    from zerog.client import Account, Client
    from zerog.inference.engines import Engine
    from zerog.inference.publication import TranscriptStore

QUESTION = "Describe in a few sentences how a bridge carries its load."
TIER_AUDITED = 2
PATIENCE = 120.0
"""Seconds to wait for the verifiers."""
_TRIES = 32
"""Requests until the queue of providers comes round to the cheat."""


class Liar(Signatory):
    """Signs whatever its engine says: no self-test."""

    def __post_init__(self) -> None:
        """An honest provider would compare its engine with the known answer here."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A step of the play: a heading, facts by name, and the same for scripts."""

    title: str
    facts: dict[str, str]
    data: dict[str, Any]


@dataclass(slots=True)
class CheatOutcome:
    """What came of it; amounts in wei, ``bad_leaf`` is ``None`` when no leaf is at fault."""

    trick: str
    receipt_hash: str = ""
    state: str = ""
    bad_leaf: int | None = None
    reason: str = ""
    slashed: int = 0
    to_objectors: int = 0
    burnt: int = 0
    refunded: int = 0
    stake_left: int | None = None

    @property
    def caught(self) -> bool:
        """Whether the cheat lost its stake and the requester got the fee back."""
        return self.state == "bad" and self.slashed > 0 and self.stake_left == 0 and self.refunded > 0


def cheat_params(trick: str, max_tokens: int) -> SamplingParams:
    """Parameters of a request that the trick can be played on."""
    if trick == "other-seed":
        return SamplingParams(maxTokens=max_tokens, temperatureMilli=900, sampler=INVERSE_CDF)
    return sampling(max_tokens)


class CheatPlay:
    """See the module's docstring.

    Parameters
    ----------
    client : a devnet with verifiers and storage; it gives out funds for the asking.
    trick : one of `zerog.inference.audit.cheats.DESCRIPTIONS`.
    honest : the engine that the cheat poses as.
    weights : file of the true model.
    store : where the transcript is published.
    """

    def __init__(
        self,
        client: Client,
        trick: str,
        honest: Engine,
        weights: Path,
        store: TranscriptStore,
        *,
        question: str = QUESTION,
        max_tokens: int = 48,
    ) -> None:
        from zerog.client.accounts import Account

        self.outcome = CheatOutcome(trick)
        self._client = client
        self._trick = trick
        self._honest = honest
        self._weights = weights
        self._store = store
        self._question = question.encode()
        self._params = cheat_params(trick, max_tokens)
        self._contracts = AuditContracts(client)
        self._cheat: Account = Account.random()
        self._requester: Account = Account.random()

    def play(self) -> Iterator[Scene]:
        """The scenes, each after it has happened.

        Raises
        ------
        InferenceError : the devnet lacks a part, or its verifiers did not come to a verdict in time.
        """
        self._contracts.require()
        yield self._enter()
        request = self._ask()
        yield self._asked(request)
        engine = cheat(self._trick, self._honest, self._weights)
        try:
            answer = self._answer(engine, request)
        finally:
            engine.close()
        yield self._answered(answer)
        yield from self._audit(answer)
        yield self._explained(answer)
        yield self._refund(request)

    # Scenes.

    def _enter(self) -> Scene:
        registry, gate = self._contracts.registry, self._contracts.gate
        stake = int(registry.minStake())
        for account, need in ((self._cheat, stake + WEI), (self._requester, WEI)):
            self._client.request("anvil_setBalance", account.address, hex(need))
        engine, model = engine_id(self._honest.description), self._honest.model_id
        sent = registry.registerProvider(self._cheat, [engine], b"", b"", value=stake, account=self._cheat)
        gate.joinQueue(model, account=self._cheat)
        facts = {"provider": self._cheat.address, "stake": tokens(stake), "transaction": sent.hash}
        return Scene("A provider registers, with stake", facts, facts)

    def _ask(self) -> GateRequest:
        gate = self._contracts.gate
        fee = max(int(gate.parameters().auditFee), 10**15)
        for _ in range(_TRIES):
            sent = gate.requestInference(
                self._honest.model_id,
                self._question,
                self._params.to_tuple(),
                TIER_AUDITED,
                0,
                value=fee,
                account=self._requester,
            )
            request = next(request_of(e) for e in gate.decode(sent) if e.name == "InferenceRequested")
            if gate.requestOf(request.inquiry.request_id).provider == self._cheat.address:
                return request
        raise InferenceError(f"{_TRIES} requests went to other providers", hint="use a devnet of its own")

    def _asked(self, request: GateRequest) -> Scene:
        facts = {
            "requester": self._requester.address,
            "question": self._question.decode(),
            "fee": tokens(request.fee),
            "request": "0x" + request.inquiry.request_id.hex(),
        }
        return Scene("Somebody asks, and wants an audited answer", facts, facts)

    def _answer(self, engine: Engine, request: GateRequest) -> Answer:
        contracts, address = self._contracts, bytes.fromhex(self._cheat.address[2:])
        domain = Domain(self._client.chain_id, bytes.fromhex(contracts.registry.address[2:]))
        liar = Liar(engine, self._cheat.key, address, domain)
        now = self._client.block().timestamp
        answer = liar.answer(request.inquiry, now, request.deadline, store=self._store)
        self._store.publish(answer.published)
        contracts.gate.fulfill(
            answer.receipt.to_tuple(), answer.signature, answer.output, account=self._cheat
        )
        self.outcome.receipt_hash = "0x" + answer.receipt_hash.hex()
        return answer

    def _answered(self, answer: Answer) -> Scene:
        facts = {
            "it": DESCRIPTIONS[self._trick],
            "says": answer.output.decode(errors="replace").replace("\n", " ")[:160],
            "receipt": "0x" + answer.receipt_hash.hex(),
            "transcript": f"{len(answer.published):,} bytes in storage, root 0x{answer.receipt.dataRoot.hex()}",
        }
        return Scene("It cheats, signs, and the answer is parked until the audit", facts, facts)

    def _audit(self, answer: Answer) -> Iterator[Scene]:
        seen = 0

        def more() -> list[Entry]:
            return history(self._contracts, answer.receipt_hash)[seen:]

        state = AuditPhase.NONE
        while not state.settled:
            for entry in wait_for(more, PATIENCE, "the next step of the audit"):
                seen += 1
                self._note(entry)
                if entry.event != "AuditCommitted":
                    yield Scene(entry.text, {"transaction": entry.transaction}, entry.as_json())
            state = self._contracts.audit(answer.receipt_hash).phase
        for entry in more():
            self._note(entry)
            yield Scene(entry.text, {"transaction": entry.transaction}, entry.as_json())

    def _note(self, entry: Entry) -> None:
        outcome = self.outcome
        if entry.event == "AuditSettled":
            outcome.state = entry.facts["state"]
        elif entry.event == "AuditRevealed" and entry.facts["badLeaf"] is not None:
            leaf = entry.facts["badLeaf"]
            outcome.bad_leaf = leaf if outcome.bad_leaf is None else min(leaf, outcome.bad_leaf)
        elif entry.event == "ProviderSlashed":
            outcome.slashed += int(entry.facts["taken"])
            outcome.to_objectors += int(entry.facts["toObjectors"])
            outcome.burnt += int(entry.facts["burnt"])

    def _explained(self, answer: Answer) -> Scene:
        """What the verifiers saw, computed here once more."""
        found = judge(answer.transcript, answer.receipt, self._honest)
        self.outcome.reason = found.reason
        self.outcome.stake_left = int(self._contracts.registry.stakeOf(self._cheat))
        leaf = "none; the whole" if found.bad_index == AuditVote.NO_BAD_INDEX else str(found.bad_index)
        facts = {
            "first bad leaf": leaf,
            "what differed": found.reason,
            "stake left": tokens(self.outcome.stake_left),
        }
        return Scene("Why: anyone can compute it again", facts, {"badIndex": found.bad_index, **facts})

    def _refund(self, request: GateRequest) -> Scene:
        gate, request_id = self._contracts.gate, request.inquiry.request_id
        before = self._client.balance(self._requester)
        facts: dict[str, str] = {}
        try:
            refund = gate.refund(request_id, account=self._cheat)
            paid = gate.withdraw(self._requester, account=self._cheat)
        except (ContractReverted, RpcError) as error:
            return Scene("The fee does NOT come back", {"gate answers": error.message}, {})
        self.outcome.refunded = self._client.balance(self._requester) - before
        facts = {
            "refunded": tokens(self.outcome.refunded),
            "to": self._requester.address,
            "transactions": f"{refund.hash} {paid.hash}",
        }
        return Scene("The requester gets the fee back", facts, facts)
