"""Judging peers: what a failing costs, how it is forgotten, when a peer is left alone."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from time import monotonic

BANNED = 100.0
"""Points from which on a peer is not asked."""
CEILING = 1600.0
"""Points are not counted beyond this: half an hour or so until the peer is asked again."""
HALF_LIFE = 300.0
"""Seconds in which points fade to half."""


class Fault(enum.Enum):
    """What a peer did wrong; the value is what it costs."""

    LIE = 150.0
    """Bytes, proofs or positions that no honest node sends, or more than was asked for: banned at once."""
    SILENCE = 25.0
    """No answer in time, or too slow."""
    UNREACHABLE = 15.0
    """No connection, or one that broke."""
    PROMISE = 10.0
    """It says that it has a file, and does not give it."""


class Score:
    """Points of one peer: they fade with time, so nobody is banned for ever."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._points = 0.0
        self._at = clock()

    @property
    def points(self) -> float:
        """The points now."""
        return self._points * math.pow(0.5, (self._clock() - self._at) / HALF_LIFE)

    @property
    def banned(self) -> bool:
        """Whether the peer is left alone for now."""
        return self.points >= BANNED

    def blame(self, fault: Fault) -> None:
        """Adds the cost of a fault."""
        self._points, self._at = min(CEILING, self.points + fault.value), self._clock()

    def praise(self) -> None:
        """A useful answer: half of what is left is forgiven."""
        self._points, self._at = self.points / 2, self._clock()
