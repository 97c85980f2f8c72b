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
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerog.contracts import INFERENCE_GATE, INFERENCE_REGISTRY, artifact
from zerog.errors import InferenceError, RpcError, TransactionError, ZerogError
from zerog.inference.answer import Answer, Domain, Inquiry, Signatory
from zerog.inference.receipt import SamplingParams, engine_id
from zerog.inference.transcript import Transcript, transcript_of

if TYPE_CHECKING:
    from zerog.client import Account, Client, Contract

log = logging.getLogger("zerog.inference")

OPEN, PARKED = 1, 2
"""States of a request, as the gate counts them."""
AUDITED = 2
"""The highest tier that audit can reach; a provider without evidence serves no higher request."""

_LOOKBACK = 50_000
_MAX_SPAN = 10_000
_KEPT_TRANSCRIPTS = 256


@dataclass(frozen=True, slots=True)
class GateRequest:
    """A request as its event tells it; ``deadline`` in unix seconds, ``fee`` in wei."""

    inquiry: Inquiry
    model_id: bytes
    min_tier: int
    deadline: int
    fee: int


class RequestFeed:
    """The gate's requests for one model, each once, in the order of the chain."""

    def __init__(self, client: Client, model_id: bytes) -> None:
        self._client = client
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
        self._next_block = head + 1
        return found

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
    """Answers the gate's requests with one engine.

    Parameters
    ----------
    client : the node to talk to.
    signatory : engine and signing key; its ``provider`` must be the address of ``account``.
    account : account that holds the stake and sends transactions.
    min_fee : requests that pay less are left alone, in wei.
    """

    def __init__(
        self, client: Client, signatory: Signatory, account: Account | str, *, min_fee: int = 0
    ) -> None:
        self._client = client
        self._signatory = signatory
        self._account = account
        self._min_fee = min_fee
        self._address = bytes.fromhex(str(account)[2:])
        self._feed = RequestFeed(client, signatory.engine.model_id)
        self.gate: Contract = client.contract(INFERENCE_GATE, artifact("InferenceGate").abi, account=account)
        self.registry: Contract = client.contract(
            INFERENCE_REGISTRY, artifact("InferenceRegistry").abi, account=account
        )
        self._seen: dict[bytes, GateRequest] = {}
        self._parked: set[bytes] = set()
        self.transcripts: OrderedDict[bytes, Transcript] = OrderedDict()

    @property
    def model_id(self) -> bytes:
        """Identity of the model that answers."""
        return self._signatory.engine.model_id

    @property
    def domain(self) -> Domain:
        """Where the receipts count."""
        return self._signatory.domain

    # ---------------------------------------------------------------- standing

    def enrol(self) -> None:
        """Registers signer, engine and stake as far as the chain does not know them; joins the queue."""
        engine = engine_id(self._signatory.engine.description)
        provider, engines = self.registry.providerOf(self._account)
        required: int = self.registry.minStake()
        signer = self._signatory.signer
        known = provider.signer == signer and provider.active and engine in engines
        if not known or provider.stake < required:
            self.registry.registerProvider(
                signer, [engine], b"", b"", value=max(0, required - provider.stake)
            )
        model = self._signatory.engine.model_id
        if self._address not in (bytes.fromhex(queued[2:]) for queued in self.gate.queueOf(model)):
            self.gate.joinQueue(model)

    # ---------------------------------------------------------------- work

    def run(self, stop: threading.Event, poll: float = 0.2) -> None:
        """Serves until ``stop`` is set; looks at the chain every ``poll`` seconds.

        A node that is away for a moment is waited for.
        """
        while not stop.is_set():
            try:
                self.serve()
            except (RpcError, TransactionError, ZerogError) as error:
                log.warning("the gate could not be served: %s", error)
            stop.wait(poll)

    def interrupt(self) -> None:
        """Ends a running generation, so that `run` can stop at once."""
        self._signatory.engine.interrupt()

    def serve(self) -> list[Answer]:
        """Answers what is open for this provider now, and finishes what waited for its window."""
        for request in self._feed.new():
            self._seen[request.inquiry.request_id] = request
        answers = []
        for request_id, request in list(self._seen.items()):
            # Forgotten only afterwards: a node that fails in between is asked again.
            answer = self._serve_one(request)
            del self._seen[request_id]
            if answer is not None:
                answers.append(answer)
        for request_id in list(self._parked):
            self._finish(request_id)
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
        return self._signatory.answer(request.inquiry, now, request.deadline)

    def transcript(self, answer: Answer) -> Transcript:
        """The transcript of an answer."""
        signatory = self._signatory
        return transcript_of(answer, signatory.domain, signatory.engine.description, signatory.key)

    # ---------------------------------------------------------------- internals

    def _serve_one(self, request: GateRequest) -> Answer | None:
        request_id = request.inquiry.request_id
        if not self._is_mine(request):
            return None
        try:
            answer = self.answer(request)
            self.gate.fulfill(answer.receipt.to_tuple(), answer.signature, answer.output)
        except InferenceError as error:
            log.warning("request 0x%s is not served: %s", request_id.hex(), error)
            self._decline(request_id)
            return None
        except (RpcError, TransactionError) as error:
            log.warning("the answer to 0x%s was refused: %s", request_id.hex(), error)
            return None
        self._keep(self.transcript(answer))
        if self.gate.requestOf(request_id).state == PARKED:
            self._parked.add(request_id)
        log.info("answered request 0x%s", request_id.hex())
        return answer

    def _decline(self, request_id: bytes) -> None:
        # A request that is assigned here and left to expire would cost stake.
        if bytes.fromhex(self.gate.requestOf(request_id).provider[2:]) != self._address:
            return
        try:
            self.gate.decline(request_id)
        except (RpcError, TransactionError) as error:
            log.warning("request 0x%s could not be declined: %s", request_id.hex(), error)

    def _is_mine(self, request: GateRequest) -> bool:
        return (
            self._feed.is_open(request, self._address)
            and request.min_tier <= AUDITED
            and request.fee >= self._min_fee
        )

    def _finish(self, request_id: bytes) -> None:
        request = self.gate.requestOf(request_id)
        if request.state != PARKED:
            self._parked.discard(request_id)
            return
        try:
            self.gate.finalize.call(request_id)
        except RpcError:
            return  # The window is open, or votes are missing.
        self.gate.finalize(request_id)
        self._parked.discard(request_id)

    def _keep(self, transcript: Transcript) -> None:
        self.transcripts[transcript.receipt_hash] = transcript
        while len(self.transcripts) > _KEPT_TRANSCRIPTS:
            self.transcripts.popitem(last=False)


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
