"""The inference service of a node: a provider that costs nothing until somebody asks.

It watches the gate. The first request makes it load the model, check itself against the known
answer, register with stake and answer; after that it stays. Its JSON-RPC methods hand out what the
chain does not keep: ``poi_transcript`` and ``poi_status``. ``poi_ask`` takes a private question, which
would be public at the gate.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zerog.errors import InferenceError, InvalidParams, RpcError, ZerogError

if TYPE_CHECKING:
    from zerog.client import Client
    from zerog.inference.answer import Inquiry
    from zerog.inference.answers import AnswerBook
    from zerog.inference.engine_host import EngineHost
    from zerog.inference.engines import Engine
    from zerog.inference.provider import GateProvider
    from zerog.inference.publication import StorageTranscripts

# Everything heavier loads in the service's own thread: a node must answer before that.

log = logging.getLogger("zerog.inference")

POLL = 0.25
"""Seconds between looks at the chain."""
MAX_PRIVATE = 2
"""Private questions that are answered at a time; each waits in a thread."""
START_LIMIT = 60.0
"""Seconds in which the model must be loaded and the provider registered."""
_BUSY, _REFUSED = -32005, -32000


class InferenceService:
    """See the module's docstring.

    Parameters
    ----------
    connect : gives a client of the node, and the 0x-address of an account that the node holds: it
        stakes and pays gas. Called once the node answers.
    host : the node's engine, loaded at the first request.
    store : makes the place where transcripts and weights are published; ``None``: they are not.
    book : file of the provider's book of answers; ``None`` keeps it in memory.
    admit : puts the engine on the registry's list, where this node may do that.
    """

    name = "inference"

    def __init__(
        self,
        connect: Callable[[], tuple[Client, str]],
        host: EngineHost,
        *,
        store: Callable[[Client, str], StorageTranscripts] | None = None,
        book: Path | None = None,
        admit: Callable[[Client, Engine], None] | None = None,
    ) -> None:
        self._connect = connect
        self.host = host
        self._wanted = threading.Event()
        self._make_store = store
        self._admit = admit
        self._path = book
        self._book: AnswerBook | None = None
        self._opening = threading.Lock()
        self._provider: GateProvider | None = None
        self._failure: str | None = None
        self._asking = 0

    @property
    def publishes(self) -> bool:
        """Whether transcripts are published."""
        return self._make_store is not None

    def book(self) -> AnswerBook:
        """The provider's book of answers, opened when it is first needed; any thread."""
        from zerog.inference.answers import AnswerBook

        with self._opening:
            if self._book is None:
                self._book = AnswerBook(self._path)
            return self._book

    def wake(self) -> None:
        """Makes it take its place at the gate without waiting for a request there; any thread."""
        self._wanted.set()

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """``poi_transcript(receiptHash)``, ``poi_status()`` and ``poi_ask(question)``."""
        return {"poi_transcript": self._transcript, "poi_status": self._status, "poi_ask": self._ask}

    async def run(self) -> None:
        """Serves until cancelled."""
        import asyncio

        stop = threading.Event()
        try:
            await asyncio.to_thread(self._serve, stop)
        except asyncio.CancelledError:
            # The node ends. After a failure the engine stays: others use it, too.
            self.host.interrupt()
            raise
        finally:
            stop.set()

    def _serve(self, stop: threading.Event) -> None:
        from zerog.chain.keys import keccak256
        from zerog.contracts import MODELS
        from zerog.contracts.genesis import model_id
        from zerog.inference.provider import RequestFeed

        client, account = self._connect()
        if self._make_store is not None:
            task = partial(self._keep_offers, client, account, stop)
            threading.Thread(target=task, name="zerog-offers", daemon=True).start()
        address = bytes.fromhex(account[2:])
        feed = RequestFeed(client, model_id(MODELS[0], keccak256), address)
        try:
            # After a restart there may be requests that were dealt to this provider, and answers that wait.
            while not (self._wanted.is_set() or self._is_unfinished()) and not any(
                feed.is_open(request, address) for request in feed.new()
            ):
                if stop.wait(POLL):
                    return
            store = None if self._make_store is None else self._make_store(client, account)
            self._provider = self._start(client, account, store)
        except ZerogError as error:
            self._failure = str(error)
            raise
        self._failure = None
        if store is not None:
            task = partial(self._publish_weights, store, self._provider, stop)
            threading.Thread(target=task, name="zerog-weights", daemon=True).start()
        try:
            self._provider.run(stop, POLL)
        finally:
            self._provider.close()

    def _known_book(self) -> AnswerBook | None:
        """The book, if there is one: a node that nobody has asked makes none."""
        exists = self._book is not None or (self._path is not None and self._path.exists())
        return self.book() if exists else None

    def _is_unfinished(self) -> bool:
        from zerog.inference.answers import Stage

        book = self._known_book()
        return book is not None and bool(book.at(Stage.PARKED) or book.at(Stage.SIGNED))

    def _start(self, client: Client, account: str, store: StorageTranscripts | None) -> GateProvider:
        from zerog.inference.provider import GateProvider

        signatory = self.host.signatory()
        if self._admit is not None:
            self._admit(client, signatory.engine)
        provider = GateProvider(client, signatory, account, store=store, book=self.book())
        provider.enrol()
        if store is not None:
            store.warm()
        return provider

    def _keep_offers(self, client: Client, account: str, stop: threading.Event) -> None:
        """Publishes the transcripts of answers given off chain whose receipts turn up on chain."""
        while self._book is None and not (self._path is not None and self._path.exists()):
            if stop.wait(POLL):
                return
        from zerog.inference.offers import Offers

        assert self._make_store is not None
        offers = Offers(client, account, self.book(), partial(self._make_store, client, account))
        while not stop.wait(POLL):
            try:
                offers.publish_due()
            except (RpcError, ZerogError) as error:
                log.warning("a transcript that is due could not be published: %s", error)

    def _publish_weights(
        self, store: StorageTranscripts, provider: GateProvider, stop: threading.Event
    ) -> None:
        """Stores the model under its weights root, once an answer is out: verifiers fetch it there."""
        from zerog.contracts import MODELS
        from zerog.inference.weights import SMOLLM2, find

        while not provider.book.counts()["done"]:
            if stop.wait(POLL):
                return
        path, root = find(SMOLLM2), bytes.fromhex(MODELS[0].weights_root[2:])
        try:
            if path is not None:
                store.publish_weights(root, path)
                log.info("the weights of %s are stored under 0x%s", MODELS[0].name, root.hex())
        except (RpcError, ZerogError) as error:
            if not stop.is_set():
                log.warning("the weights of %s could not be stored: %s", MODELS[0].name, error)

    async def _transcript(self, params: Any) -> Any:
        from zerog.inference.encoding import parse_hex

        if not isinstance(params, list) or len(params) != 1:
            raise InvalidParams("poi_transcript takes one parameter, the receipt hash")
        try:
            receipt_hash = parse_hex(params[0], 32, "the receipt hash")
        except InferenceError as error:
            raise InvalidParams(error.message) from None
        book = self._known_book()
        known = None if book is None else book.document(receipt_hash)
        return None if known is None else msgspec.Raw(known)

    async def _status(self, params: Any) -> Any:
        from zerog.contracts import MODELS

        provider, book = self._provider, self._known_book()
        running, waiting = (0, 0) if provider is None else provider.queue
        return {
            "model": MODELS[0].name,
            "state": "serving" if provider else "waiting",
            "failure": self._failure,
            "queue": {"running": running, "waiting": waiting},
            "answers": {} if book is None else book.counts(),
            # Without a published transcript an audit ends in a slashing: such a provider stays below it.
            "tiers": ["SIGNED", "OPTIMISTIC", *(["AUDITED"] if self.publishes else [])],
        }

    async def _ask(self, params: Any) -> Any:
        import asyncio

        from zerog.inference.private_answers import parse_question

        inquiry, reader = parse_question(params)
        if self._asking >= MAX_PRIVATE:
            raise RpcError(_BUSY, f"{MAX_PRIVATE} private questions are being answered; ask again soon")
        self._asking += 1
        try:
            return msgspec.Raw(await asyncio.to_thread(self._answer_privately, inquiry, reader))
        except RpcError:
            raise
        except ZerogError as error:
            raise RpcError(_REFUSED, str(error)) from None
        finally:
            self._asking -= 1

    def _answer_privately(self, inquiry: Inquiry, reader: bytes) -> bytes:
        from zerog.inference.private_answers import verifier_keys
        from zerog.inference.provider import wait_for
        from zerog.inference.receipt import engine_id
        from zerog.inference.transcript_file import encode_transcript

        self.wake()
        wait_for(lambda: self._provider or self._failure, START_LIMIT, "the start of the provider")
        provider = self._provider
        if provider is None:
            raise InferenceError(f"the inference service failed: {self._failure}")
        client, _ = self._connect()
        engine = self.host.signatory().engine
        keys = verifier_keys(client, engine_id(engine.description))
        return encode_transcript(provider.answer_privately(inquiry, [reader, *keys]))
