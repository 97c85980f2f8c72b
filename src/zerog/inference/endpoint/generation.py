"""One generation in a thread of its own, followed from the event loop; it ends when its client goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from zerog.errors import EngineCancelled
from zerog.inference.answer import Inquiry

if TYPE_CHECKING:
    from zerog.chain.methods import HttpExchange
    from zerog.inference.engines import Engine, Generation

LOOK = 0.05
"""Seconds between looks whether the client still waits."""


class Running:
    """A generation under way. Whoever starts one ends it: with `result`, or with `cancel`.

    Text arrives in a queue without a bound of its own: it holds at most the answer's tokens, and a
    slow client must not hold up the batch in which other clients' answers are generated.
    """

    def __init__(self, executor: Executor, engine: Engine, inquiry: Inquiry) -> None:
        """Starts it; from a coroutine."""
        self._cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._future = self._loop.run_in_executor(executor, self._generate, engine, inquiry)

    def cancel(self) -> None:
        """Ends the generation within a token's time."""
        self._cancelled.set()

    async def text(self, exchange: HttpExchange) -> AsyncIterator[bytes]:
        """The output in pieces, until it is complete or has failed.

        Raises
        ------
        EngineCancelled : the client has gone; the generation is cancelled then.
        """
        while True:
            try:
                piece = await asyncio.wait_for(self._pieces.get(), LOOK)
            except TimeoutError:
                self._require_client(exchange)
                continue
            if piece is None:
                return
            yield piece

    async def result(self, exchange: HttpExchange) -> Generation:
        """The complete generation.

        Raises
        ------
        EngineCancelled : the client has gone; the generation is cancelled then.
        InferenceError : the engine failed.
        """
        while True:
            done, _ = await asyncio.wait([self._future], timeout=LOOK)
            if done:
                return self._future.result()
            self._require_client(exchange)

    async def ended(self) -> None:
        """Cancels and waits until the engine has let go of it."""
        self.cancel()
        await asyncio.wait([self._future])
        if not self._future.cancelled():
            # Whoever wanted to know has been told: an error must not be reported as lost.
            self._future.exception()

    def _require_client(self, exchange: HttpExchange) -> None:
        if exchange.gone:
            self.cancel()
            raise EngineCancelled("the client has gone")

    def _generate(self, engine: Engine, inquiry: Inquiry) -> Generation:
        try:
            return engine.generate(
                inquiry.request,
                inquiry.params,
                inquiry.stop_strings,
                on_text=self._deliver,
                cancelled=self._cancelled,
            )
        finally:
            self._tell(None)

    def _deliver(self, piece: bytes) -> None:
        if not self._tell(piece):
            self.cancel()

    def _tell(self, piece: bytes | None) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._pieces.put_nowait, piece)
        except RuntimeError:
            return False  # The event loop has ended: the node stops.
        return True


Clock = Callable[[], int]
"""Unix seconds."""
