"""The scrub in the background: everything that a node stores is read and checked again, at a bounded rate.

A round goes over the whole store, in small steps; the store remembers where it is, so a round survives
restarts. What turns out damaged counts as missing from then on: peers, if there are any, replace it
(`zerog.storage.peers`), and until then `Scrubber.report` names every place.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from zerog.errors import StorageError, ZerogError
from zerog.storage.layout import SEGMENT

if TYPE_CHECKING:
    from zerog.storage.store import FlowStore, Place

log = logging.getLogger("zerog.storage")

RATE = 16 << 20
"""Bytes per second."""
INTERVAL = 3600.0
"""Seconds from the end of a round to the start of the next."""
FIRST_PAUSE = 1.0
"""Seconds after the start: a node's first answers go first."""
_STEPS_PER_SECOND = 4
_STEP_LIMIT = 64
_FIXED_COST = 4096
"""Bytes that the look at a submission counts as, beside its data."""
_SHOWN = 32
"""Damaged places that a report lists."""


class Scrubber:
    """See the module's docstring. ``rate`` in bytes per second, 0 for never; ``interval`` in seconds."""

    def __init__(self, store: FlowStore, rate: int = RATE, interval: float = INTERVAL) -> None:
        self._store = store
        self._rate = rate
        self._interval = interval
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._failure: str | None = None
        self._running = False
        self._thread = threading.Thread(target=self._run, name="zerog-scrub", daemon=True)

    def start(self) -> None:
        """Begins; does nothing when the rate is 0."""
        if self._rate:
            self._thread.start()

    def close(self) -> None:
        """Ends the step under way, and waits for that."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def start_round(self) -> None:
        """Has the next round begin now; raises `StorageError` when the scrub is switched off."""
        if not self._rate:
            raise StorageError("the scrub is switched off", hint="set storage.scrub_rate")
        self._wake.set()

    def report(self) -> dict[str, Any]:
        """How it stands, as JSON. ``lastComplete``: UNIX seconds of the end of the last whole round."""
        damage = self._store.damage(_SHOWN)
        return {
            "rate": self._rate,
            "running": self._running,
            "lastComplete": self._store.last_scrub,
            "checkedSegments": self._store.scrubbed,
            "damaged": len(self._store.damaged()),
            "damage": [_place_json(place) for place in damage],
            "failure": self._failure,
        }

    # Its thread.

    def _run(self) -> None:
        pause = self._first_pause()
        while not self._stop.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self._round()
            except ZerogError as error:
                self._report_failure(error)
            except Exception:
                log.exception("the scrub failed")
                self._failure = "the scrub failed; the log says why"
            finally:
                self._running = False
            pause = self._interval

    def _first_pause(self) -> float:
        last = self._store.last_scrub
        if last is None:
            return FIRST_PAUSE
        return min(self._interval, max(FIRST_PAUSE, last + self._interval - time.time()))

    def _report_failure(self, error: ZerogError) -> None:
        text = f"the scrub cannot go on: {error.message}"
        if text != self._failure:
            log.error("%s", text)
        self._failure = text

    def _round(self) -> None:
        """One whole round, from where the last one was interrupted."""
        self._running = True
        limit = max(1, min(_STEP_LIMIT, self._rate // (_STEPS_PER_SECOND * SEGMENT)))
        while not self._stop.is_set():
            began = time.monotonic()
            step = self._store.scrub(limit=limit, stop=self._stop.is_set)
            if step.complete:
                self._failure = None
                return
            cost = step.bytes + limit * _FIXED_COST
            self._stop.wait(max(0.0, cost / self._rate - (time.monotonic() - began)))


def describe(place: Place) -> str:
    """Where damage is, in words."""
    return (
        f"segment {place.segment} of submission {place.seq} (0x{place.root.hex()}): flow sector {place.sector}, "
        f"{place.length} bytes at byte {place.offset} of {place.file}"
    )


def _place_json(place: Place) -> dict[str, Any]:
    return {
        "txSeq": place.seq,
        "root": "0x" + place.root.hex(),
        "segment": place.segment,
        "sector": place.sector,
        "file": place.file,
        "offset": place.offset,
        "length": place.length,
    }
