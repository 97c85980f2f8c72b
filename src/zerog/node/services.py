"""Services that run beside the chain, and their supervision.

A service (storage, inference, …) is a coroutine that runs until it is cancelled, and the JSON-RPC
methods that it answers. A service that fails is logged and started again after a growing pause; it
never takes the chain down with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from zerog.chain.methods import RouteHandler
from zerog.node.loop import Handler

log = logging.getLogger("zerog.services")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STOP_LIMIT = 2.0


class Service(Protocol):
    """Something that runs beside the chain.

    One that has a method ``new_block()`` hears of every block, on the thread that made it; it must return at once.
    """

    @property
    def name(self) -> str:
        """What the banner and the log call it."""
        ...

    def methods(self) -> Mapping[str, Handler]:
        """The JSON-RPC methods that it answers."""
        ...

    async def run(self) -> None:
        """Runs until cancelled; cleans up then."""
        ...


class RoutedService(Service, Protocol):
    """A service that also answers HTTP requests of its own."""

    def routes(self) -> Mapping[str, RouteHandler]:
        """Handlers by path prefix; the longest prefix of whole segments that covers a path wins.

        One that has a method ``body_limits()`` bounds the bodies of some of these prefixes, in bytes,
        below ``rpc.max_body``: what is longer is refused before it is read.
        """
        ...


def routes_of(service: Service) -> Mapping[str, RouteHandler]:
    """The routes of a service; most have none."""
    routes: Callable[[], Mapping[str, RouteHandler]] | None = getattr(service, "routes", None)
    return {} if routes is None else routes()


def limits_of(services: Sequence[Service]) -> dict[str, int]:
    """The bounds of bodies by path prefix, in bytes, over all services."""
    limits: dict[str, int] = {}
    for service in services:
        bounds: Callable[[], Mapping[str, int]] | None = getattr(service, "body_limits", None)
        limits |= {} if bounds is None else bounds()
    return limits


class Supervisor:
    """Owns the tasks of the services."""

    def __init__(self, services: Sequence[Service], first_pause: float = FIRST_PAUSE) -> None:
        self._services = services
        self._first_pause = first_pause
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Starts every service."""
        self._tasks = [
            asyncio.create_task(self._supervise(service), name=service.name) for service in self._services
        ]

    async def stop(self) -> None:
        """Cancels every service and waits for it, at most `STOP_LIMIT` seconds."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_LIMIT)
            for task in late:
                log.error("service %s did not stop within %.0f s", task.get_name(), STOP_LIMIT)

    async def _supervise(self, service: Service) -> None:
        pause = self._first_pause
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                await service.run()
                log.info("service %s has ended", service.name)
                return
            except Exception as error:
                if loop.time() - started > LONGEST_PAUSE:
                    pause = self._first_pause
                log.error("service %s failed (%s); starting it again in %.1f s", service.name, error, pause)
                log.debug("service %s", service.name, exc_info=True)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
