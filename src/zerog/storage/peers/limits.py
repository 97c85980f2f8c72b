"""A budget of bytes per second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic


class TokenBucket:
    """Lets ``rate`` bytes per second through, and bursts of one second's worth.

    Parameters
    ----------
    rate : bytes per second; ``None`` is unlimited.
    clock : seconds; for tests.
    """

    def __init__(
        self,
        rate: int | None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if rate is not None and rate < 1:
            raise ValueError(f"a limit is at least one byte per second, not {rate}")
        self.rate = rate
        self._clock = clock
        self._level = float(rate or 0)
        self._at = clock()

    def debt(self, count: int) -> float:
        """Takes ``count`` bytes; the seconds to wait before they may pass.

        The level goes below zero, so what comes later waits behind what came first, and a request that is
        larger than a burst passes after its fair time.
        """
        if self.rate is None:
            return 0.0
        now = self._clock()
        self._level = min(float(self.rate), self._level + (now - self._at) * self.rate) - count
        self._at = now
        return max(0.0, -self._level / self.rate)

    def give_back(self, count: int) -> None:
        """Returns what was taken and not used."""
        self._level += count

    async def take(self, count: int) -> None:
        """Waits until ``count`` bytes may pass."""
        pause = self.debt(count)
        if pause > 0:
            await asyncio.sleep(pause)
