"""The inference service of a node: a provider that costs nothing until somebody asks.

It watches the gate for requests to each of its models. The first request to one makes it load that
model, check it, register with stake and answer; after that it stays. Its JSON-RPC methods hand out what
the chain does not keep: ``poi_transcript`` and ``poi_status``. ``poi_ask`` takes a private question to the
default model, which would be public at the gate.
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
from zerog.inference.engine_host import EngineHost, ModelHosts, as_hosts

if TYPE_CHECKING:
    from zerog.client import Client
    from zerog.inference.answer import Inquiry
    from zerog.inference.answers import AnswerBook
    from zerog.inference.engines import Engine
    from zerog.inference.publication import StorageTranscripts
    from zerog.inference.seat import GateSeat

# Everything heavier loads in the service's own threads: a node must answer before that.

log = logging.getLogger("zerog.inference")

POLL = 0.25
"""Seconds between looks at the chain."""
RETRY = 5.0
"""Seconds before an added model that failed is tried again."""
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
    host : the node's engine, or those of several models; loaded at the first request.
    store : makes the place where transcripts and weights are published; ``None``: they are not.
    book : file of the provider's book of answers; those of added models lie beside it. ``None`` keeps
        them in memory.
    admit : puts the engine on the registry's list, where this node may do that.
    """

    name = "inference"

    def __init__(
        self,
        connect: Callable[[], tuple[Client, str]],
        host: EngineHost | ModelHosts,
        *,
        store: Callable[[Client, str], StorageTranscripts] | None = None,
        book: Path | None = None,
        admit: Callable[[Client, Engine], None] | None = None,
    ) -> None:
        self._connect = connect
        self.hosts = as_hosts(host)
        self._wanted = threading.Event()
        self._make_store = store
        self._admit = admit
        self._path = book
        self._book: AnswerBook | None = None
        self._opening = threading.Lock()
        self._sending = threading.Lock()
        self._seats: dict[EngineHost, GateSeat] = {}
        self._failures: dict[EngineHost, str] = {}
        self._asking = 0

    @property
    def host(self) -> EngineHost:
        """The engine of the default model."""
        return self.hosts.default

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
        """Makes it take its place at the gate for the default model without waiting for a request; any thread."""
        self._wanted.set()

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """``poi_transcript(receiptHash)``, ``poi_status()`` and ``poi_ask(question)``."""
        return {"poi_transcript": self._transcript, "poi_status": self._status, "poi_ask": self._ask}

    async def run(self) -> None:
        """Serves until cancelled."""
        import asyncio

        stop = threading.Event()
        added = [
            threading.Thread(target=self._serve_added, args=(host, stop), name="zerog-model", daemon=True)
            for host in self.hosts
            if host is not self.host
        ]
        for thread in added:
            thread.start()
        try:
            await asyncio.to_thread(self._serve, self.host, stop)
        except asyncio.CancelledError:
            # The node ends. After a failure the engines stay: others use them, too.
            self.hosts.interrupt()
            raise
        finally:
            stop.set()

    def _serve(self, host: EngineHost, stop: threading.Event) -> None:
        from zerog.inference.seat import GateSeat

        client, account = self._connect()
        default = host is self.host
        if default and self._make_store is not None:
            task = partial(self._keep_offers, client, account, stop)
            threading.Thread(target=task, name="zerog-offers", daemon=True).start()
        seat = GateSeat(
            client, account, host, self._make_store, partial(self._book_of, host), self._sending, self._admit
        )
        try:
            if not seat.wait(stop, self._is_wanted if default else lambda: False):
                return
            seat.take()
        except ZerogError as error:
            self._failures[host] = str(error)
            raise
        self._failures.pop(host, None)
        self._seats[host] = seat
        seat.serve(stop)

    def _serve_added(self, host: EngineHost, stop: threading.Event) -> None:
        """As `_serve`, again and again: one model that fails disturbs no other."""
        while not stop.is_set():
            try:
                self._serve(host, stop)
            except (ZerogError, RpcError) as error:
                log.warning("the model %s cannot be served: %s", host.served.model.name, error)
            except Exception:
                # Not the model's fault, but the others must not suffer from it.
                log.exception("serving the model %s failed", host.served.model.name)
            stop.wait(RETRY)

    def _is_wanted(self) -> bool:
        """Whether somebody woke it, or answers of an earlier run wait."""
        return self._wanted.is_set() or self._is_unfinished()

    def _known_book(self) -> AnswerBook | None:
        """The book, if there is one: a node that nobody has asked makes none."""
        exists = self._book is not None or (self._path is not None and self._path.exists())
        return self.book() if exists else None

    def _is_unfinished(self) -> bool:
        from zerog.inference.answers import Stage

        book = self._known_book()
        return book is not None and bool(book.at(Stage.PARKED) or book.at(Stage.SIGNED))

    def _book_of(self, host: EngineHost) -> AnswerBook:
        if host is self.host:
            return self.book()
        from zerog.inference.answers import AnswerBook
        from zerog.inference.models import id_of

        path = self._path
        if path is not None:
            path = path.with_name(f"{path.stem}-{id_of(host.served.model).hex()[:16]}{path.suffix}")
        return AnswerBook(path)

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

    async def _transcript(self, params: Any) -> Any:
        from zerog.inference.encoding import parse_hex

        if not isinstance(params, list) or len(params) != 1:
            raise InvalidParams("poi_transcript takes one parameter, the receipt hash")
        try:
            receipt_hash = parse_hex(params[0], 32, "the receipt hash")
        except InferenceError as error:
            raise InvalidParams(error.message) from None
        for seat in list(self._seats.values()):
            if (known := seat.document(receipt_hash)) is not None:
                return msgspec.Raw(known)
        book = self._known_book()
        kept = None if book is None else book.document(receipt_hash)
        return None if kept is None else msgspec.Raw(kept)

    async def _status(self, params: Any) -> Any:
        return self._status_of(self.host) | {"models": [self._status_of(host) for host in self.hosts]}

    def _status_of(self, host: EngineHost) -> dict[str, Any]:
        from zerog.inference.models import id_of

        seat, model = self._seats.get(host), host.served.model
        running, waiting = (0, 0) if seat is None else seat.queue
        book = self._known_book() if host is self.host else None
        counts = book.counts() if book is not None else {} if seat is None else seat.counts
        return {
            "model": model.name,
            "modelId": "0x" + id_of(model).hex(),
            "state": "serving" if seat else "waiting",
            "loaded": host.loaded is not None,
            "failure": self._failures.get(host),
            "queue": {"running": running, "waiting": waiting},
            "answers": counts,
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

        host = self.host
        self.wake()
        wait_for(
            lambda: host in self._seats or host in self._failures, START_LIMIT, "the start of the provider"
        )
        seat = self._seats.get(host)
        if seat is None:
            raise InferenceError(f"the inference service failed: {self._failures[host]}")
        client, _ = self._connect()
        engine = self.host.signatory().engine
        keys = verifier_keys(client, engine_id(engine.description))
        return encode_transcript(seat.provider.answer_privately(inquiry, [reader, *keys]))
