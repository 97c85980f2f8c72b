"""Supervision: a failing service is started again, a stopping one is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from zerog.node.loop import Handler
from zerog.node.services import Supervisor


class Flaky:
    """Fails ``failures`` times, then runs until it is cancelled."""

    name = "flaky"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.starts = 0
        self.running = asyncio.Event()
        self.cleaned = False

    def methods(self) -> Mapping[str, Handler]:
        return {}

    async def run(self) -> None:
        self.starts += 1
        if self.starts <= self.failures:
            raise RuntimeError("no peers")
        self.running.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaned = True


def test_a_failing_service_is_started_again_and_told_about(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> Flaky:
        service = Flaky(failures=2)
        supervisor = Supervisor([service], first_pause=0.001)
        await supervisor.start()
        await asyncio.wait_for(service.running.wait(), 10)
        await supervisor.stop()
        return service

    service = asyncio.run(scenario())
    assert service.starts == 3
    assert service.cleaned
    assert "service flaky failed (no peers)" in caplog.text
