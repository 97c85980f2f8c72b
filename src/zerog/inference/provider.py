"""A provider at the gate: sees requests, answers them with the model, carries the answers back.

::

    provider = GateProvider(client, signatory, account)
    provider.enrol()                 # register with stake, join the queue
    provider.run(stop)               # until the event is set

It needs nothing but JSON-RPC, so it runs beside a node or far from it. It survives reverts and
snapshots of a devnet: what it must do follows from the chain's state, not from its memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerog.chain.keys import keccak256
from zerog.contracts import INFERENCE_GATE, INFERENCE_REGISTRY, artifact
from zerog.errors import (
    ContractReverted,
    InferenceError,
    RpcError,
    TransactionError,
    TransactionFailed,
    ZerogError,
)
from zerog.inference.answer import Answer, Domain, Inquiry, Signatory
from zerog.inference.answers import AnswerBook, Stage
from zerog.inference.receipt import SamplingParams, engine_id
from zerog.inference.transcript import SignedTranscript
from zerog.inference.verification import UNTRACED

if TYPE_CHECKING:
    from zerog.client import Account, Client, Contract
    from zerog.inference.publication import TranscriptStore

log = logging.getLogger("zerog.inference")

OPEN, PARKED = 1, 2
"""States of a request, as the gate counts them."""
SIGNED = 0
AUDITED = 2
"""The highest tier that audit can reach; a provider without evidence serves no higher request."""

_LOOKBACK = 50_000
_MAX_SPAN = 10_000
CONCURRENCY = 8
"""Requests that a provider works on at a time."""


@dataclass(frozen=True, slots=True)
class GateRequest:
    """A request as its event tells it; ``deadline`` in unix seconds, ``fee`` in wei."""

    inquiry: Inquiry
    model_id: bytes
    min_tier: int
    deadline: int
    fee: int


class RequestFeed:
    """The gate's requests for one model, each once, in the order of the chain.

    One that its provider hands back comes again; those that ``own`` (20 bytes) handed back do not.
    """

    def __init__(self, client: Client, model_id: bytes, own: bytes | None = None) -> None:
        self._client = client
        self._own = own
        self._model_id = model_id
        self._next_block = 0
        self._gate: Contract = client.contract(INFERENCE_GATE, artifact("InferenceGate").abi)

    def new(self) -> list[GateRequest]:
        """Requests since the last call; the first call looks back as far as deadlines can reach."""
        head = self._client.block_number
        if head + 1 < self._next_block:
            # The devnet went back to a snapshot: look at the replaced blocks again.
            self._next_block = 0
        found: list[GateRequest] = []
        for start in range(max(self._next_block, head - _LOOKBACK, 0), head + 1, _MAX_SPAN):
            last = min(head, start + _MAX_SPAN - 1)
            events = self._gate.events.InferenceRequested(
                from_block=start, to_block=last, modelId=self._model_id
            )
            found += map(request_of, events)
            found += self._declined(start, last, {request.inquiry.request_id for request in found})
        self._next_block = head + 1
        return found

    def _declined(self, first: int, last: int, known: set[bytes]) -> list[GateRequest]:
        """Requests of earlier blocks that were handed back in a span of blocks."""
        again: list[GateRequest] = []
        for event in self._gate.events.InferenceDeclined(from_block=first, to_block=last):
            request_id = bytes(event.requestId)
            if request_id in known or bytes.fromhex(event.provider[2:]) == self._own:
                continue
            asked = self._gate.events.InferenceRequested(
                from_block=max(0, first - _LOOKBACK),
                to_block=last,
                requestId=request_id,
                modelId=self._model_id,
            )
            again += map(request_of, asked)
        return again

    def is_open(self, request: GateRequest, provider: bytes | None = None) -> bool:
        """Whether the request can be answered now: by ``provider`` (20 bytes), or by anyone."""
        stored = self._gate.requestOf(request.inquiry.request_id)
        assigned = bytes.fromhex(stored.provider[2:])
        return (
            stored.state == OPEN
            and assigned in (bytes(20), provider)
            and request.deadline > self._client.block().timestamp
        )


class GateProvider:
    """Answers the gate's requests with one engine, several at a time.

    Parameters
    ----------
    client : the node to talk to.
    signatory : engine and signing key; its ``provider`` must be the address of ``account``.
    account : account that holds the stake and sends transactions.
    min_fee : requests that pay less are left alone, in wei.
    store : where transcripts are published; ``None``: they are not, and receipts have no data root.
    book : what was signed before; in memory when absent.
    concurrency : requests that are worked on at a time.
    sending : held while a transaction is sent; shared by providers of one account.
    """

    def __init__(
        self,
        client: Client,
        signatory: Signatory,
        account: Account | str,
        *,
        min_fee: int = 0,
        store: TranscriptStore | None = None,
        book: AnswerBook | None = None,
        concurrency: int = CONCURRENCY,
        sending: threading.Lock | None = None,
    ) -> None:
        self._client = client
        self._signatory = signatory
        self._account = account
        self._min_fee = min_fee
        # An answer without log-probabilities is worth its signature: nobody can audit it.
        self._highest = SIGNED if signatory.engine.description.endswith(UNTRACED) else AUDITED
        self._store = store
        self._address = bytes.fromhex(str(account)[2:])
        self._feed = RequestFeed(client, signatory.engine.model_id, self._address)
        self.book = book or AnswerBook()
        self.gate: Contract = client.contract(INFERENCE_GATE, artifact("InferenceGate").abi, account=account)
        self.registry: Contract = client.contract(
            INFERENCE_REGISTRY, artifact("InferenceRegistry").abi, account=account
        )
        self._concurrency = concurrency
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="zerog-answer")
        self._waiting: dict[bytes, GateRequest] = {}
        self._running: dict[bytes, Future[Answer | None]] = {}
        # One transaction of the account at a time: its nonces are dealt out by the node.
        self._sending = sending or threading.Lock()
        self._reconciled = False

    @property
    def model_id(self) -> bytes:
        """Identity of the model that answers."""
        return self._signatory.engine.model_id

    @property
    def domain(self) -> Domain:
        """Where the receipts count."""
        return self._signatory.domain

    @property
    def queue(self) -> tuple[int, int]:
        """Requests that are worked on, and that wait."""
        running = len(self._running)
        return running, max(0, len(self._waiting) - running)

    # ---------------------------------------------------------------- standing

    def enrol(self) -> None:
        """Registers signer, engine and stake as far as the chain does not know them; joins the queue."""
        engine = engine_id(self._signatory.engine.description)
        provider, engines = self.registry.providerOf(self._account)
        required: int = self.registry.minStake()
        signer = self._signatory.signer
        known = provider.signer == signer and provider.active and engine in engines
        if not known or provider.stake < required:
            with self._sending:
                self.registry.registerProvider(
                    signer, [engine], b"", b"", value=max(0, required - provider.stake)
                )
        model = self._signatory.engine.model_id
        if self._address not in (bytes.fromhex(queued[2:]) for queued in self.gate.queueOf(model)):
            with self._sending:
                self.gate.joinQueue(model)

    # ---------------------------------------------------------------- work

    def run(self, stop: threading.Event, poll: float = 0.2) -> None:
        """Serves until ``stop`` is set; looks at the chain every ``poll`` seconds.

        A node that is away for a moment is waited for.
        """
        while not stop.is_set():
            try:
                self._dispatch()
                self._reap()
                self._finish_parked()
            except (RpcError, TransactionError, ZerogError) as error:
                log.warning("the gate could not be served: %s", error)
            stop.wait(poll)

    def close(self) -> None:
        """Ends the threads; nothing new is taken up."""
        self._pool.shutdown(cancel_futures=True)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serves in a thread of its own while the ``with`` block runs."""
        stop = threading.Event()
        worker = threading.Thread(target=self.run, args=(stop,), name="zerog-provider")
        worker.start()
        try:
            yield
        finally:
            stop.set()
            worker.join()

    def interrupt(self) -> None:
        """Ends running generations, so that `run` can stop at once."""
        self._signatory.engine.interrupt()

    def serve(self) -> list[Answer]:
        """Answers what is open for this provider now, and finishes what waited for its window."""
        answers = []
        while self._dispatch():
            wait(self._running.values())
            answers += self._reap()
        self._finish_parked()
        return answers

    def answer(self, request: GateRequest) -> Answer:
        """The signed answer, not yet carried to the gate.

        Raises
        ------
        InferenceError : the engine refuses the request.
        """
        if request.inquiry.params.stopHash != bytes(32):
            raise InferenceError("the gate carries no stop strings, only their hash")
        now = self._client.block().timestamp
        return self._signatory.answer(request.inquiry, now, request.deadline, store=self._store)

    def transcript(self, answer: Answer) -> SignedTranscript:
        """The signed transcript of an answer."""
        return self._signatory.signed_transcript(answer)

    # ---------------------------------------------------------------- internals

    def _dispatch(self) -> int:
        """Takes up requests as long as there is room; the number that is worked on."""
        for request in self._feed.new():
            self._waiting[request.inquiry.request_id] = request
        for request_id, request in list(self._waiting.items()):
            if len(self._running) >= self._concurrency:
                break
            if request_id in self._running:
                continue
            if not self._is_mine(request):
                del self._waiting[request_id]
                self._decline(request_id)
                continue
            self._running[request_id] = self._pool.submit(self._serve_one, request)
        return len(self._running)

    def _reap(self) -> list[Answer]:
        """The answers that were finished. A node that failed in between is asked again."""
        answers, failure = [], None
        for request_id, running in list(self._running.items()):
            if not running.done():
                continue
            del self._running[request_id]
            try:
                answer = running.result()
            except (RpcError, TransactionError, ZerogError) as error:
                failure = error
                continue
            self._waiting.pop(request_id, None)
            if answer is not None:
                answers.append(answer)
        if failure is not None:
            raise failure
        return answers

    def _serve_one(self, request: GateRequest) -> Answer | None:
        request_id = request.inquiry.request_id
        try:
            answer = self._answer_once(request)
        except InferenceError as error:
            log.warning("request 0x%s is not served: %s", request_id.hex(), error)
            self._decline(request_id)
            return None
        if self._store is not None and answer.published:
            self._store.publish(answer.published)
        try:
            with self._sending:
                self._require_signer()
                self.gate.fulfill(answer.receipt.to_tuple(), answer.signature, answer.output)
        except (ContractReverted, TransactionFailed, InferenceError) as error:
            log.warning("the answer to 0x%s was refused: %s", request_id.hex(), error)
            self._decline(request_id)
            return None
        except (RpcError, TransactionError):
            # Whether it arrived is unknown: the book is compared with the chain before the next try.
            self._reconciled = False
            raise
        parked = self.gate.requestOf(request_id).state == PARKED
        self.book.move(request_id, Stage.PARKED if parked else Stage.DONE)
        log.info("answered request 0x%s", request_id.hex())
        return answer

    def _decline(self, request_id: bytes) -> None:
        """Hands an assigned request back, so that others may answer it: left to expire it would cost stake."""
        stored = self.gate.requestOf(request_id)
        if stored.state != OPEN or bytes.fromhex(stored.provider[2:]) != self._address:
            return
        try:
            with self._sending:
                self.gate.decline(request_id)
        except (RpcError, TransactionError) as error:
            log.warning("request 0x%s could not be handed back: %s", request_id.hex(), error)

    def _answer_once(self, request: GateRequest) -> Answer:
        """The answer to a request: the one in the book when it still fits, else a new one."""
        earlier = self.book.to_request(request.inquiry.request_id)
        if earlier is not None and self._fits(earlier.signed, request):
            log.info(
                "request 0x%s was answered before: carrying that answer", request.inquiry.request_id.hex()
            )
            return _again(earlier.signed, request.inquiry)
        self._require_signer()
        answer = self.answer(request)
        self.book.sign(self.transcript(answer))
        return answer

    def _fits(self, earlier: SignedTranscript, request: GateRequest) -> bool:
        """Whether an earlier answer is to this very request and by the signer of today.

        It is not when a devnet went back in time, or a chain was reorganised: then the same id can stand
        for another question or seed.
        """
        receipt, inquiry = earlier.receipt, request.inquiry
        return (
            receipt.inputHash == keccak256(inquiry.request)
            and receipt.paramsHash == inquiry.params.struct_hash()
            and (receipt.requester, receipt.deadline) == (inquiry.requester, request.deadline)
            and (receipt.modelId, receipt.provider) == (request.model_id, self._address)
            and earlier.domain == self.domain
            and "0x" + earlier.signer.hex() == self._signatory.signer.lower()
            and (receipt.dataRoot == bytes(32)) == (self._store is None)
        )

    def _require_signer(self) -> None:
        """Raises `InferenceError` when the account has registered another signer meanwhile."""
        provider, _ = self.registry.providerOf(self._account)
        if provider.signer != self._signatory.signer:
            raise InferenceError(
                f"the registered signer is {provider.signer}, not {self._signatory.signer} any more"
            )

    def _is_mine(self, request: GateRequest) -> bool:
        return (
            self._feed.is_open(request, self._address)
            and request.min_tier <= self._highest
            and request.fee >= self._min_fee
        )

    def answer_privately(self, inquiry: Inquiry, recipients: Sequence[bytes]) -> SignedTranscript:
        """Answers off chain, publishes the answer sealed for ``recipients``, and brings its receipt on chain.

        Raises
        ------
        InferenceError : the engine refuses, or there is no storage to publish to.
        """
        if self._store is None:
            raise InferenceError("a private answer needs storage, and this node has none")
        self._require_signer()
        now = self._client.block().timestamp
        answer = self._signatory.answer(inquiry, now, store=self._store, recipients=recipients)
        signed = self.transcript(answer)
        self.book.sign(signed, private=True)
        self._store.publish(answer.published)
        with self._sending:
            self.registry.record(answer.receipt.to_tuple(), answer.signature)
        self.book.move(inquiry.request_id, Stage.DONE)
        return signed

    def _reconcile(self) -> None:
        """Brings the book up to the chain: a process may have ended between a transaction and its note."""
        for request_id in self.book.at(Stage.SIGNED):
            entry, stored = self.book.to_request(request_id), self.gate.requestOf(request_id)
            if entry is None or bytes(stored.receiptHash) != entry.signed.receipt_hash:
                continue
            self.book.move(request_id, Stage.PARKED if stored.state == PARKED else Stage.DONE)
        self._reconciled = True

    def _finish_parked(self) -> None:
        if not self._reconciled:
            self._reconcile()
        for request_id in self.book.at(Stage.PARKED):
            if self.gate.requestOf(request_id).state != PARKED:
                self.book.move(request_id, Stage.DONE)
                continue
            try:
                self.gate.finalize.call(request_id)
            except RpcError:
                continue  # The window is open, or votes are missing.
            with self._sending:
                self.gate.finalize(request_id)
            self.book.move(request_id, Stage.DONE)


def _again(signed: SignedTranscript, inquiry: Inquiry) -> Answer:
    """The answer that a signed transcript tells of."""
    published = b""
    if signed.receipt.dataRoot != bytes(32):
        published = signed.envelope or signed.transcript.canonical_bytes()
    return Answer(
        inquiry, signed.transcript, signed.receipt, signed.receipt_hash, signed.signature, published
    )


def wait_for(condition: Callable[[], Any], timeout: float, what: str, pause: float = 0.05) -> Any:
    """The first true value of ``condition``; raises `InferenceError` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise InferenceError(f"{what} did not happen within {timeout:g} s")
        time.sleep(pause)
    return value


def request_of(event: Any) -> GateRequest:
    """A request from its decoded ``InferenceRequested`` event."""
    params = SamplingParams(*event.params)
    inquiry = Inquiry(
        request_id=bytes(event.requestId),
        requester=bytes.fromhex(event.requester[2:]),
        request=bytes(event.input),
        params=params,
    )
    return GateRequest(inquiry, bytes(event.modelId), event.minTier, event.deadline, event.fee)
