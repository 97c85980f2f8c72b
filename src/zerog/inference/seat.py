"""The place of one model at the gate: waits for the first request, then answers with a provider.

Until then it costs a look at the chain every `POLL` seconds.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zerog.errors import RpcError, ZerogError
from zerog.inference.models import DEFAULT_MODEL, id_of
from zerog.inference.provider import GateProvider, RequestFeed

if TYPE_CHECKING:
    from zerog.client import Client
    from zerog.inference.answers import AnswerBook
    from zerog.inference.engine_host import EngineHost
    from zerog.inference.engines import Engine
    from zerog.inference.publication import StorageTranscripts

log = logging.getLogger("zerog.inference")

POLL = 0.25
"""Seconds between looks at the chain."""


class GateSeat:
    """See the module's docstring.

    Parameters
    ----------
    account : 0x-address of an account that the node holds: it stakes and pays gas.
    host : the model's engine.
    make_store : makes the place where transcripts and weights are published; ``None``: they are not.
    book : gives the book of answers.
    admit : puts the engine on the registry's list, where this node may do that.
    sending : held while a transaction is sent; shared by all seats of the account.
    """

    def __init__(
        self,
        client: Client,
        account: str,
        host: EngineHost,
        make_store: Callable[[Client, str], StorageTranscripts] | None,
        book: Callable[[], AnswerBook],
        sending: threading.Lock,
        admit: Callable[[Client, Engine], None] | None = None,
    ) -> None:
        self._client = client
        self._account = account
        self._host = host
        self._make_store = make_store
        self._book = book
        self._sending = sending
        self._admit = admit
        self._store: StorageTranscripts | None = None
        self._provider: GateProvider | None = None

    @property
    def provider(self) -> GateProvider:
        """Who answers; after `take`."""
        assert self._provider is not None
        return self._provider

    @property
    def queue(self) -> tuple[int, int]:
        """Requests that are worked on, and that wait."""
        return (0, 0) if self._provider is None else self._provider.queue

    @property
    def counts(self) -> Mapping[str, int]:
        """Answers by stage."""
        return {} if self._provider is None else self._provider.book.counts()

    def document(self, receipt_hash: bytes) -> bytes | None:
        """The signed transcript of an answer, as JSON."""
        return None if self._provider is None else self._provider.book.document(receipt_hash)

    def wait(self, stop: threading.Event, wanted: Callable[[], bool]) -> bool:
        """Returns at the first open request, or once ``wanted`` says so; False when ``stop`` is set."""
        # After a restart there may be requests that were dealt to this provider.
        address = bytes.fromhex(self._account[2:])
        feed = RequestFeed(self._client, id_of(self._host.served.model), address)
        while not wanted() and not any(feed.is_open(request, address) for request in feed.new()):
            if stop.wait(POLL):
                return False
        return True

    def take(self) -> None:
        """Loads the engine, registers and joins the queue; the engine stays in memory from then on.

        Raises
        ------
        ZerogError : the engine cannot be loaded, or the chain refuses.
        """
        store = None if self._make_store is None else self._make_store(self._client, self._account)
        with self._host.lease():
            signatory = self._host.signatory()
            self._host.pin()
        if self._admit is not None:
            self._admit(self._client, signatory.engine)
        provider = GateProvider(
            self._client, signatory, self._account,
            store=store, book=self._book(), sending=self._sending,
        )  # fmt: skip
        provider.enrol()
        if store is not None:
            store.warm()
        self._store, self._provider = store, provider

    def serve(self, stop: threading.Event) -> None:
        """Answers until ``stop`` is set; after `take`."""
        provider = self._provider
        assert provider is not None
        if self._store is not None:
            task = partial(self._publish_weights, self._store, provider, stop)
            threading.Thread(target=task, name="zerog-weights", daemon=True).start()
        try:
            provider.run(stop, POLL)
        finally:
            provider.close()

    def _publish_weights(
        self, store: StorageTranscripts, provider: GateProvider, stop: threading.Event
    ) -> None:
        """Stores the model under its weights root, once an answer is out: verifiers fetch it there."""
        while not provider.book.counts()["done"]:
            if stop.wait(POLL):
                return
        model = self._host.served.model
        root = bytes.fromhex(model.weights_root[2:])
        try:
            path = self._weights()
            if path is not None:
                store.publish_weights(root, path)
                log.info("the weights of %s are stored under 0x%s", model.name, root.hex())
        except (RpcError, ZerogError) as error:
            if not stop.is_set():
                log.warning("the weights of %s could not be stored: %s", model.name, error)

    def _weights(self) -> Path | None:
        from zerog.inference.model_store import ModelStore
        from zerog.inference.weights import SMOLLM2, find

        model = self._host.served.model
        return find(SMOLLM2) if model == DEFAULT_MODEL else ModelStore().find(id_of(model)).path
