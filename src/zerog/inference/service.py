"""The inference service of a node: a provider that costs nothing until somebody asks.

It watches the gate. The first request makes it load the model, check itself against the known
answer, register with stake and answer; after that it stays. Its JSON-RPC methods hand out what the
chain does not keep: ``poi_transcript`` and ``poi_status``.
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
    from zerog.inference.engine_host import EngineHost
    from zerog.inference.provider import GateProvider
    from zerog.inference.publication import StorageTranscripts

# Everything heavier loads in the service's own thread: a node must answer before that.

log = logging.getLogger("zerog.inference")

POLL = 0.25
"""Seconds between looks at the chain."""


class InferenceService:
    """See the module's docstring.

    Parameters
    ----------
    connect : gives a client of the node, and the 0x-address of an account that the node holds: it
        stakes and pays gas. Called once the node answers.
    host : the node's engine, loaded at the first request.
    store : makes the place where transcripts and weights are published; ``None``: they are not.
    book : file of the provider's book of answers; ``None`` keeps it in memory.
    """

    name = "inference"

    def __init__(
        self,
        connect: Callable[[], tuple[Client, str]],
        host: EngineHost,
        *,
        store: Callable[[Client, str], StorageTranscripts] | None = None,
        book: Path | None = None,
    ) -> None:
        self._connect = connect
        self.host = host
        self._wanted = threading.Event()
        self._make_store = store
        self._book = book
        self._provider: GateProvider | None = None
        self._failure: str | None = None

    def wake(self) -> None:
        """Makes it take its place at the gate without waiting for a request there; any thread."""
        self._wanted.set()

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """``poi_transcript(receiptHash)`` and ``poi_status()``."""
        return {"poi_transcript": self._transcript, "poi_status": self._status}

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
        feed = RequestFeed(client, model_id(MODELS[0], keccak256))
        try:
            while not self._wanted.is_set() and not any(map(feed.is_open, feed.new())):
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
        self._provider.run(stop, POLL)

    def _start(self, client: Client, account: str, store: StorageTranscripts | None) -> GateProvider:
        from zerog.inference.answers import AnswerBook
        from zerog.inference.provider import GateProvider

        signatory = self.host.signatory()
        provider = GateProvider(client, signatory, account, store=store, book=AnswerBook(self._book))
        provider.enrol()
        if store is not None:
            store.warm()
        return provider

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
        known = self._provider.book.document(receipt_hash) if self._provider else None
        return None if known is None else msgspec.Raw(known)

    async def _status(self, params: Any) -> Any:
        from zerog.contracts import MODELS

        provider = self._provider
        running, waiting = (0, 0) if provider is None else provider.queue
        return {
            "model": MODELS[0].name,
            "state": "serving" if provider else "waiting",
            "failure": self._failure,
            "queue": {"running": running, "waiting": waiting},
            "answers": {} if provider is None else provider.book.counts(),
        }
