"""Stopping: the request, which a signal handler may make at any moment, and the order in which things end.

For the request `threading.Event` would not do: a handler that runs while its own thread is inside ``Event.wait`` asks for the
lock that this thread holds, and hangs for ever. ``SimpleQueue.put`` is reentrant by its documentation.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

log = logging.getLogger("zerog.node")

_LOOK = 0.5
"""Seconds between looks: Python runs a handler only between two waits when the signal came just before one."""


class StopRequest:
    """Set once, by anyone; see the module's docstring."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Ends every `wait`, those to come included."""
        self._queue.put(None)

    def wait(self) -> None:
        """Waits until `set`."""
        while True:
            try:
                self._queue.get(timeout=_LOOK)
            except Empty:
                continue
            self._queue.put(None)
            return


class Closers:
    """What was started, and how each of it ends: closed once, in reverse order, whatever fails on the way."""

    def __init__(self) -> None:
        self._closers: list[Callable[[], None]] = []
        self._closing = threading.RLock()

    def add(self, close: Callable[[], None]) -> None:
        """Something was started; ``close`` ends it."""
        self._closers.append(close)

    def close(self) -> None:
        """Ends everything; a second call waits for the first and does nothing."""
        with self._closing:
            while self._closers:
                close = self._closers.pop()
                try:
                    close()
                except Exception:
                    log.exception("stopping failed")
