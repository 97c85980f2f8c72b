"""A request to stop that a signal handler may make at any moment.

`threading.Event` is no such thing: a handler that runs while its own thread is inside ``Event.wait`` asks for the
lock that this thread holds, and hangs for ever. ``SimpleQueue.put`` is reentrant by its documentation.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue

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
