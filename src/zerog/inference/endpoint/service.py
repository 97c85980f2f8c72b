"""The endpoint as a service of a node: its routes, and nothing that costs time before somebody asks."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerog.inference.engine_host import as_hosts

if TYPE_CHECKING:
    from zerog.chain.methods import HttpExchange
    from zerog.inference.answers import AnswerBook
    from zerog.inference.endpoint.desk import Desk
    from zerog.inference.engine_host import EngineHost, ModelHosts

MAX_BODY = 1 << 20
"""Bytes of a body that the front reads before it refuses it; what a prompt may have is less."""
BODY_ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
OPEN_ROUTES = ("/signature", "/v1/signature", "/v1/proxy/signature")
"""Routes that ask for no key: 0G's clients send none, and the ids cannot be guessed."""


def _wall_clock() -> int:
    return int(time.time())


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Bounds and access.

    Attributes
    ----------
    keys : API keys of which a request must carry one; none: everybody who reaches the port may ask.
    most : requests that may be under way; the engine's own queue may be shorter.
    """

    keys: tuple[str, ...] = ()
    most: int = 64


class EndpointService:
    """See the package's docstring.

    Parameters
    ----------
    host : the node's engine, or those of several models.
    now : the time that receipts carry; unix seconds.
    on_first : called once when the default engine has been loaded for this endpoint, from a thread.
    embedder : the engine of the embeddings route; without one that route knows no model.
    book : where answers are written down whose transcripts are published once their receipts come on
        chain; without it receipts name no transcript, and cannot be audited.
    """

    name = "endpoint"

    def __init__(
        self,
        host: EngineHost | ModelHosts,
        settings: EndpointSettings | None = None,
        *,
        now: Callable[[], int] = _wall_clock,
        on_first: Callable[[], None] | None = None,
        book: Callable[[], AnswerBook] | None = None,
        embedder: EngineHost | None = None,
    ) -> None:
        self._hosts = as_hosts(host)
        self._embedder = embedder
        self._settings = settings or EndpointSettings()
        self._now = now
        self._on_first = on_first
        self._book = book
        self._started = _wall_clock()
        self._desk: Desk | None = None

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """None: the endpoint speaks HTTP only."""
        return {}

    def routes(self) -> Mapping[str, Callable[[HttpExchange], Awaitable[None]]]:
        """Path prefixes and who answers them; ``/v1`` for the errors of unknown paths."""
        return dict.fromkeys(("/v1", *BODY_ROUTES, *OPEN_ROUTES), self.answer)

    def body_limits(self) -> Mapping[str, int]:
        """Bytes of a body on the routes that take one."""
        return dict.fromkeys(BODY_ROUTES, MAX_BODY)

    async def run(self) -> None:
        """Waits; ends what is under way when it is cancelled."""
        import asyncio

        try:
            await asyncio.Event().wait()
        finally:
            if self._desk is not None:
                self._desk.close()

    async def answer(self, exchange: HttpExchange) -> None:
        """Answers one request."""
        await self.desk.answer(exchange)

    @property
    def desk(self) -> Desk:
        """Who answers; loaded when it is first asked for."""
        if self._desk is None:
            from zerog.inference.endpoint.desk import Desk

            self._desk = Desk(
                self._hosts,
                self._settings,
                self._now,
                self._on_first,
                self._started,
                self._book,
                self._embedder,
            )
        return self._desk
