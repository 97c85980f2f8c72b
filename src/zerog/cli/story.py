"""The story that ``zerog demo`` tells: a proven answer moves money, nothing else does, its evidence is kept, and
whoever cheats the verifiers loses the stake.

Runs on a devnet in this process, with the real model, the storage node and the verifiers. Every fact in the outcome is read from the
chain: a refusal is a transaction that failed in a block, together with the error that the contract
gave for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from zerog.chain.keys import keccak256
from zerog.cli import archive
from zerog.cli.archive import Archive
from zerog.client import Account, Client, Contract, Devnet
from zerog.contracts import INFERENCE_REGISTRY, VALIDATION_REGISTRY, artifact
from zerog.errors import ContractReverted, InferenceError
from zerog.inference.answer import Answer, Domain, Signatory, sampling
from zerog.inference.audit.cheating import CheatOutcome, CheatPlay
from zerog.inference.audit.history import tokens
from zerog.inference.dossier import Dossier, Vote, dossier
from zerog.inference.engines import Engine
from zerog.inference.onchain import ask_gate, fee_for, gate_of, registry_of
from zerog.inference.provider import AUDITED, GateProvider, GateRequest, request_of
from zerog.inference.receipt import InferenceReceipt, sign
from zerog.inference.waiting import Wait

GOOD_PROPOSAL = "Build a free online library for village schools."
BAD_PROPOSAL = "Send all the money to my personal account."
TREASURY = 50 * 10**18
GRANT = 5 * 10**18
SERVICES = ("storage", "indexer", "miner", "verifier")
"""What runs beside the chain."""
FEE = 10**15
QUESTION = "Name three things that a bridge is built of."
ANSWER_TOKENS = 32
TRICK = "q4_0"
"""How the cheat cheats: with a coarser quantisation of the weights, the likeliest way to save money."""
_ATTACK_GAS = 2_000_000
_DELIVERED = 3
_LOST = "Stored files did NOT come back as they were"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the chain did with a forged answer.

    ``error`` is the contract's error, decoded; ``block`` the block that holds the failed
    transaction; ``refused`` whether it failed, and for the reason that it should.
    """

    title: str
    error: str
    block: int
    refused: bool


@dataclass(slots=True)
class Outcome:
    """What happened, as the chain has it."""

    answer: str = ""
    receipt_hash: str = ""
    verified_on_chain: bool = False
    consumer_executed: bool = False
    refusals: dict[str, Refusal] = field(default_factory=dict)
    kept: list[archive.Kept] = field(default_factory=list)
    speed: archive.Speed | None = None
    paid: archive.MinerPaid | None = None
    audit: Dossier | None = None
    cheat: CheatOutcome | None = None

    def summary(self) -> dict[str, Any]:
        """The object that ``zerog demo --json`` prints."""
        names = ("tampered", "stranger", "replay", "unsigned")
        return {
            "answer": self.answer,
            "receiptHash": self.receipt_hash,
            "verifiedOnChain": self.verified_on_chain,
            "consumerExecuted": self.consumer_executed,
            "rejected": {name: name in self.refusals and self.refusals[name].refused for name in names},
            "storage": archive.summary(self.kept, self.speed, self.paid),
            "audited": self.audited,
            "slashed": self.slashed,
            "audits": {
                "answer": None if self.audit is None else self.audit.as_json(),
                "cheat": None if self.cheat is None else _cheat_json(self.cheat),
            },
        }

    @property
    def good(self) -> bool:
        """Whether everything went as promised."""
        refused = self.summary()["rejected"].values()
        used = self.verified_on_chain and self.consumer_executed and all(refused)
        return used and self.stored_and_proven and self.audited and self.slashed

    @property
    def audited(self) -> bool:
        """Whether verifiers executed an answer again, all found it good, and it was delivered for that."""
        found = self.audit
        return (
            found is not None
            and (found.tier, found.audit, found.delivery) == ("AUDITED", "good", "delivered")
            and bool(found.votes)
            and all(vote.verdict == "good" for vote in found.votes)
        )

    @property
    def slashed(self) -> bool:
        """Whether a cheat was found out, lost its stake, and its requester got the fee back."""
        return self.cheat is not None and self.cheat.caught

    @property
    def stored_and_proven(self) -> bool:
        """Whether all files came back with proofs and a miner was paid for them."""
        return bool(self.kept) and all(one.proven for one in self.kept) and self.paid is not None


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the story: a heading, and facts by name."""

    title: str
    facts: dict[str, str]


class Story:
    """Plays the story step by step; `outcome` is complete when `play` is exhausted.

    ``net`` runs the services `SERVICES`; ``weights`` is the file of the model, which is stored, too. Files on their
    way lie in ``folder``. ``trick`` is what the cheat does, see `zerog.inference.audit.cheats`.
    """

    def __init__(
        self, net: Devnet, load_engine: Callable[[], Engine], weights: Path, folder: Path, trick: str = TRICK
    ) -> None:
        self.outcome = Outcome()
        self._net = net
        self._client: Client = net.client
        self._load_engine = load_engine
        self._owner, self._provider_account, self._applicant, self._attacker = net.accounts[:4]
        # The accounts after these are the verifiers' and the miner's.
        payer = net.accounts[-2]
        self._weights = weights
        self._trick = trick
        self._archive = Archive(self._client, net.url, payer, folder)
        self._gate = gate_of(self._client, self._attacker)
        self._registry = registry_of(self._client)
        self._validation = self._client.contract(VALIDATION_REGISTRY, artifact("ValidationRegistry").abi)

    def play(self) -> Iterator[Step]:
        """The steps, each after it has happened."""
        yield Step(
            "A devnet runs in this process",
            {"chain id": str(self._net.chain_id), "JSON-RPC": self._net.url},
        )
        yield self._start_provider()
        yield self._open_treasury()
        first, question = self._propose(GOOD_PROPOSAL)
        yield question
        answer = self._provider.answer(first)
        yield self._signed(answer)
        yield self._verify(answer)
        yield self._deliver(answer)
        yield self._keep_evidence(answer)
        yield self._keep_weights()
        second, question = self._propose(BAD_PROPOSAL)
        yield question
        honest = self._provider.answer(second)
        yield self._signed(honest)
        yield from self._attacks(honest, answer)
        yield self._deliver_rejection(honest)
        yield self._mine()
        yield from self._audited()
        yield from self._slashed()

    def close(self) -> None:
        """Gives back what the story holds; the engine belongs to whoever made it."""
        self._archive.close()

    # The honest part.

    def _start_provider(self) -> Step:
        engine = self._engine = self._load_engine()
        signer = Account.random()
        domain = Domain(self._client.chain_id, bytes.fromhex(INFERENCE_REGISTRY[2:]))
        signatory = Signatory(engine, signer.key, _raw(self._provider_account), domain)
        self._store = self._archive.transcripts
        self._provider = GateProvider(self._client, signatory, self._provider_account, store=self._store)
        self._provider.enrol()
        stake = self._registry.stakeOf(self._provider_account)
        self._signer = _raw_address(self._registry.providerOf(self._provider_account)[0].signer)
        return Step(
            "A provider loads the model, reproduces the reference logits and stakes",
            {
                "engine": engine.description,
                "model": "0x" + engine.model_id.hex(),
                "stake": f"{stake / 10**18:g} tokens",
            },
        )

    def _open_treasury(self) -> Step:
        compiled = artifact("GrantTreasury")
        model = self._provider.model_id
        self._treasury: Contract = self._client.deploy(
            compiled.abi, compiled.bytecode, model, 0, account=self._owner, value=TREASURY
        )
        return Step(
            'A treasury pays grants, but only on a proven "approve"',
            {"contract": self._treasury.address, "holds": f"{TREASURY / 10**18:g} tokens"},
        )

    def _propose(self, proposal: str) -> tuple[GateRequest, Step]:
        grant = self._treasury.grantCount()
        self._treasury.propose(self._applicant, GRANT, proposal, account=self._applicant)
        asked = self._treasury.ask(grant, proposal, account=self._applicant, value=FEE)
        request = next(request_of(e) for e in self._gate.decode(asked) if e.name == "InferenceRequested")
        return request, Step(
            f"The treasury asks the gate about grant {grant}",
            {"proposal": proposal, "request": "0x" + request.inquiry.request_id.hex()},
        )

    def _signed(self, answer: Answer) -> Step:
        receipt = answer.receipt
        return Step(
            "The model answers, the provider signs",
            {
                "answer": _text(answer),
                "tokens": f"{receipt.promptTokens} read, {receipt.outputTokens} written",
                "receipt": "0x" + answer.receipt_hash.hex(),
            },
        )

    def _verify(self, answer: Answer) -> Step:
        ok, tier, receipt_hash = self._registry.verifyReceipt(answer.receipt.to_tuple(), answer.signature, 0)
        self.outcome.answer = _text(answer)
        self.outcome.receipt_hash = "0x" + receipt_hash.hex()
        self.outcome.verified_on_chain = bool(ok) and receipt_hash == answer.receipt_hash
        return Step(
            "The registry on chain verifies the receipt",
            {"verified": str(self.outcome.verified_on_chain), "tier": "SIGNED" if tier == 0 else str(tier)},
        )

    def _deliver(self, answer: Answer) -> Step:
        before = self._client.balance(self._applicant)
        done = self._fulfill(answer)
        paid = [event for event in self._treasury.decode(done) if event.name == "GrantPaid"]
        gained = self._client.balance(self._applicant) - before
        state = self._gate.requestOf(answer.inquiry.request_id).state
        self._validation.functions["requireValidated(bytes32,uint8)"](answer.receipt_hash, 0)
        self.outcome.consumer_executed = state == _DELIVERED and len(paid) == 1 and gained == GRANT
        return Step(
            "The gate calls the treasury, the treasury pays",
            {"block": str(done.block_number), "applicant received": f"{gained / 10**18:g} tokens"},
        )

    def _deliver_rejection(self, answer: Answer) -> Step:
        before = self._client.balance(self._treasury)
        try:
            events = self._treasury.decode(self._fulfill(answer))
        except ContractReverted as error:
            return Step("The genuine answer came too late", {"gate answers": error.reason or error.message})
        rejected = any(event.name == "GrantRejected" for event in events)
        kept = self._client.balance(self._treasury)
        return Step(
            "The genuine answer arrives: nothing is paid" if rejected and kept == before else "Money moved",
            {"answer": _text(answer), "treasury holds": f"{kept / 10**18:g} tokens"},
        )

    def _fulfill(self, answer: Answer) -> Any:
        # Verifiers ask for the transcript as soon as the receipt is on chain.
        self._store.publish(answer.published)
        return self._gate.fulfill(
            answer.receipt.to_tuple(), answer.signature, answer.output, account=self._provider_account
        )

    # What is kept.

    def _keep_evidence(self, answer: Answer) -> Step:
        kept = self._archive.keep_evidence(self._provider.transcript(answer), self._signer)
        self.outcome.kept += kept
        good = all(one.proven for one in kept)
        return Step(
            "Transcript and receipt are stored, read back, and every proof holds" if good else _LOST,
            {one.name: f"{one.size:,} bytes, root {one.root}" for one in kept}
            | {"transaction": kept[0].transaction},
        )

    def _keep_weights(self) -> Step:
        kept, speed = self._archive.keep_file(self._weights)
        self.outcome.kept.append(kept)
        self.outcome.speed = speed
        return Step(
            "So is the model itself" if kept.proven else _LOST,
            {
                "file": f"{kept.name}, {kept.size:,} bytes",
                "root": kept.root,
                "stored": f"{speed.put / 1e6:,.0f} MB/s",
                "read, proven": f"{speed.get / 1e6:,.0f} MB/s",
            },
        )

    def _mine(self) -> Step:
        paid = self.outcome.paid = self._archive.reward()
        return Step(
            "A miner proves that it still holds the data and is paid",
            {
                "epoch": str(paid.epoch),
                "recalled": f"sector {paid.position:,} of the flow",
                "reward": f"{paid.reward / 10**18:.6f} tokens",
                "transaction": f"{paid.transaction} in block {paid.block}",
            },
        )

    # The audits.

    def _audited(self) -> Iterator[Step]:
        params, account = sampling(ANSWER_TOKENS), self._applicant
        fee = fee_for(self._client, AUDITED, FEE)
        request = ask_gate(self._client, account, QUESTION.encode(), params, fee, AUDITED)
        yield Step(
            "Somebody wants an audited answer",
            {"question": QUESTION, "fee": tokens(fee), "request": "0x" + request.inquiry.request_id.hex()},
        )
        answer = next(a for a in self._provider.serve() if a.inquiry == request.inquiry)
        yield Step(
            "The provider answers; the gate keeps the answer until verifiers have executed it again",
            {"answer": _text(answer), "receipt": "0x" + answer.receipt_hash.hex()},
        )
        wait, began = Wait(self._client, account, request), time.perf_counter()
        with self._provider.serving():
            wait.tier(answer.receipt_hash, AUDITED)
        took = time.perf_counter() - began
        found = self.outcome.audit = dossier(self._client, answer.receipt_hash)
        yield Step(
            f"Verifiers drawn by lot execute it again: tier {found.tier}, delivered",
            {vote.verifier: _vote(vote) for vote in found.votes}
            | {
                "took": f"{took:.1f} s",
                "fee": f"{tokens(found.cost.provider)} to the provider, {tokens(found.cost.audit)} to the audit",
                "draw": next(step.transaction for step in found.steps if step.what == "draw"),
            },
        )

    def _slashed(self) -> Iterator[Step]:
        play = CheatPlay(
            self._client, self._trick, self._engine, self._weights, self._store, max_tokens=ANSWER_TOKENS
        )
        self.outcome.cheat = play.outcome
        happened: dict[str, str] = {}
        for scene in play.play():
            if "event" in scene.data:
                if scene.data["event"] != "Credited":
                    block = f"block {scene.data['block']}"
                    happened[block] = (
                        f"{happened[block]}; {scene.title}" if block in happened else scene.title
                    )
                continue
            if happened:
                yield Step("Verifiers find it, a larger committee confirms it: the stake is gone", happened)
                happened = {}
            yield Step(scene.title, scene.facts)
        if not self.outcome.slashed:
            yield Step("The cheat was NOT slashed", {"audit": play.outcome.state or "none"})

    # The attacks: an answer of the attacker's choice, brought to the gate in different disguises.

    def _attacks(self, honest: Answer, used: Answer) -> Iterator[Step]:
        wish = b"approve"
        forged = msgspec.structs.replace(honest.receipt, outputHash=keccak256(wish))
        stranger = sign(self._attacker.key, forged.digest(self._provider.domain.separator))
        yield self._attack(
            "tampered", "An altered answer", honest.receipt, honest.signature, wish, {"OutputMismatch"}
        )
        yield self._attack(
            "tampered",
            "An altered answer with an altered receipt",
            forged,
            honest.signature,
            wish,
            {"PoIBadSignature"},
        )
        yield self._attack("stranger", "A stranger's signature", forged, stranger, wish, {"PoIBadSignature"})
        yield self._attack("unsigned", "No signature at all", forged, b"", wish, {"PoIBadSignature"})
        yield self._attack(
            "replay",
            "The first, genuine answer again",
            used.receipt,
            used.signature,
            used.output,
            {"PoIReplayed"},
        )

    def _attack(
        self,
        name: str,
        title: str,
        receipt: InferenceReceipt,
        signature: bytes,
        output: bytes,
        expected: set[str],
    ) -> Step:
        arguments = (receipt.to_tuple(), signature, output)
        error = "accepted"
        try:
            self._gate.fulfill.call(*arguments)
        except ContractReverted as refusal:
            error = refusal.reason or refusal.message
        # Sent all the same, past the check of gas estimation, so that a block records the refusal.
        sent = self._client.submit(
            to=self._gate,
            input=self._gate.fulfill.encode(*arguments),
            account=self._attacker,
            gas=_ATTACK_GAS,
        )
        mined = self._client.wait(sent, check=False)
        refused = not mined.success and error.partition("(")[0] in expected
        earlier = self.outcome.refusals.get(name)
        self.outcome.refusals[name] = Refusal(
            title, error, mined.block_number, refused and (earlier is None or earlier.refused)
        )
        return Step(
            f"{title} is {'refused' if refused else 'ACCEPTED'}",
            {"contract answers": error.partition("(")[0], "failed in block": str(mined.block_number)},
        )


def load_engine(weights: Path) -> Engine:
    """The embedded engine."""
    from zerog.inference.engines.llama_cpp import LlamaCppEngine

    return LlamaCppEngine(weights)


def _text(answer: Answer) -> str:
    try:
        return answer.output.decode()
    except UnicodeDecodeError as error:
        raise InferenceError("the answer is not text") from error


def _vote(vote: Vote) -> str:
    took = "" if not vote.seconds else f", prefill {vote.seconds:.2f} s"
    return f"{vote.verdict}{took}, earned {tokens(vote.reward)}"


def _cheat_json(outcome: CheatOutcome) -> dict[str, Any]:
    """Amounts as decimal strings of wei."""
    return {
        "trick": outcome.trick,
        "receiptHash": outcome.receipt_hash,
        "audit": outcome.state,
        "firstBadLeaf": outcome.bad_leaf,
        "reason": outcome.reason,
        "slashed": str(outcome.slashed),
        "toObjectors": str(outcome.to_objectors),
        "burnt": str(outcome.burnt),
        "refunded": str(outcome.refunded),
    }


def _raw(account: Account) -> bytes:
    return _raw_address(account.address)


def _raw_address(address: str) -> bytes:
    return bytes.fromhex(address[2:])
