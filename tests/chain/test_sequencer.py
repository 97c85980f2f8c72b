"""The sequencer against an engine that keeps a list of blocks: order, modes, failures."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from zerog.chain.engine import Attributes, FinalizedBlock, Head, Work
from zerog.chain.sequencer import Closed, Mining, Mode, Sequencer

DEADLINE = 10.0


def eventually(condition: Callable[[], bool]) -> None:
    """Waits for ``condition`` with a deadline."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.002)


class ListEngine:
    """A `BlockEngine` over a list, level-triggered as the native one is."""

    def __init__(self) -> None:
        self.blocks: list[int] = []
        self.attributes: list[Attributes] = []
        self.pool = 0
        self.unfit = 0
        self.automine = True
        self.fail_next = 0
        self.waits = 0
        self._woken = False
        self._candidate: tuple[int, Attributes] | None = None
        self._changed = threading.Condition()

    def send(self, count: int) -> None:
        with self._changed:
            self.pool += count
            self._changed.notify_all()

    def wait_work(self, timeout_ms: int) -> Work:
        self.waits += 1
        end = time.monotonic() + timeout_ms / 1000
        with self._changed:
            while True:
                if self._woken:
                    self._woken = False
                    return "timeout"
                if self.automine and self.pool + self.unfit:
                    return "ready"
                if not self._changed.wait(end - time.monotonic()):
                    return "timeout"

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def next_attributes(self, now: int) -> Attributes:
        return {"timestamp": now, "maxTransactions": None}

    def propose(self, attributes: Attributes) -> bytes:
        if self.fail_next:
            self.fail_next -= 1
            raise RuntimeError("disk full")
        limit = attributes["maxTransactions"]
        taken = self.pool if limit is None else min(limit, self.pool)
        self._candidate = (taken, attributes)
        return taken.to_bytes(4, "big")

    def process_proposal(self, payload: bytes) -> str | None:
        return None

    def finalize_block(self, payload: bytes) -> FinalizedBlock:
        taken = int.from_bytes(payload, "big")
        return FinalizedBlock(len(self.blocks) + 1, "0x", "0x", 21000 * taken, taken, "0x")

    def commit(self) -> Head:
        assert self._candidate is not None
        taken, attributes = self._candidate
        self.pool -= taken
        self.blocks.append(taken)
        self.attributes.append(attributes)
        return Head(len(self.blocks), "0x", "0x", attributes["timestamp"])


@pytest.fixture
def engine() -> ListEngine:
    return ListEngine()


@pytest.fixture
def started(engine: ListEngine) -> Iterator[Callable[..., Sequencer]]:
    running: list[Sequencer] = []

    def start(mining: Mining, **options: Any) -> Sequencer:
        def on_automine(on: bool) -> None:
            engine.automine = on

        sequencer = Sequencer(engine, mining, on_automine=on_automine, **options)
        running.append(sequencer)
        sequencer.start()
        return sequencer

    yield start
    for sequencer in running:
        sequencer.stop()


def test_automine_makes_one_block_per_transaction(
    engine: ListEngine, started: Callable[..., Sequencer]
) -> None:
    started(Mining(Mode.AUTOMINE))
    engine.send(50)
    eventually(lambda: len(engine.blocks) == 50)
    assert engine.blocks == [1] * 50


def test_automine_takes_a_batch_when_told_so(engine: ListEngine, started: Callable[..., Sequencer]) -> None:
    engine.send(50)
    started(Mining(Mode.AUTOMINE, batch=20))
    eventually(lambda: sum(engine.blocks) == 50)
    assert engine.blocks == [20, 20, 10]


def test_manual_mode_mines_only_on_request(engine: ListEngine, started: Callable[..., Sequencer]) -> None:
    sequencer = started(Mining(Mode.MANUAL))
    engine.send(3)
    assert sequencer.run(lambda: list(engine.blocks)) == []
    sequencer.mine()
    assert engine.blocks == [3]


def test_interval_mode_ticks_without_transactions(
    engine: ListEngine, started: Callable[..., Sequencer]
) -> None:
    started(Mining(Mode.INTERVAL, block_time=0.01))
    eventually(lambda: len(engine.blocks) >= 3)
    assert set(engine.blocks) == {0}


def test_mixed_mode_mines_a_transaction_before_the_tick(
    engine: ListEngine, started: Callable[..., Sequencer]
) -> None:
    started(Mining(Mode.MIXED, block_time=3600))
    engine.send(1)
    eventually(lambda: engine.blocks == [1])


def test_mining_many_blocks_spaces_their_timestamps(
    engine: ListEngine, started: Callable[..., Sequencer]
) -> None:
    sequencer = started(Mining(Mode.MANUAL), clock=lambda: 1000.0)
    head = sequencer.mine(4, 60)
    assert head is not None and head.number == 4
    assert [a["timestamp"] for a in engine.attributes] == [1000, 1060, 1120, 1180]


def test_a_turn_runs_before_the_rest_of_a_burst(
    engine: ListEngine, started: Callable[..., Sequencer]
) -> None:
    engine.send(100_000)
    sequencer = started(Mining(Mode.AUTOMINE))
    seen = sequencer.run(lambda: len(engine.blocks))
    assert seen < 100_000


def test_a_failing_block_is_retried_and_the_loop_lives(
    engine: ListEngine, started: Callable[..., Sequencer], caplog: pytest.LogCaptureFixture
) -> None:
    engine.fail_next = 2
    started(Mining(Mode.AUTOMINE))
    engine.send(1)
    eventually(lambda: engine.blocks == [1])
    assert "disk full" in caplog.text


def test_a_failure_is_told_once_in_one_line_until_a_block_succeeds(
    engine: ListEngine, started: Callable[..., Sequencer], caplog: pytest.LogCaptureFixture
) -> None:
    started(Mining(Mode.AUTOMINE))
    for blocks in ([1], [1, 1]):
        engine.fail_next = 3
        engine.send(1)
        eventually(lambda blocks=blocks: engine.blocks == blocks)  # type: ignore[misc]
    assert [record.getMessage().count("disk full") for record in caplog.records] == [1, 1]
    assert "Traceback" not in caplog.text


def test_a_failure_has_its_traceback_when_debugging(
    engine: ListEngine, started: Callable[..., Sequencer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "zerog.sequencer")
    engine.fail_next = 1
    started(Mining(Mode.AUTOMINE))
    engine.send(1)
    eventually(lambda: engine.blocks == [1])
    assert "Traceback" in caplog.text


def test_transactions_that_fit_no_block_make_no_empty_blocks_and_no_busy_loop(
    engine: ListEngine, started: Callable[..., Sequencer]
) -> None:
    engine.unfit = 1
    sequencer = started(Mining(Mode.AUTOMINE))
    eventually(lambda: engine.waits >= 3)
    assert sequencer.run(lambda: list(engine.blocks)) == []
    # Pauses grow from 20 ms: three waits took at least two pauses, so the loop slept.
    assert engine.waits < 100


def test_a_turn_raises_to_its_caller_and_not_into_the_loop(
    engine: ListEngine, started: Callable[..., Sequencer]
) -> None:
    sequencer = started(Mining(Mode.MANUAL))

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        sequencer.run(fail)
    assert sequencer.mine() is not None


def test_turns_after_stop_are_refused(engine: ListEngine, started: Callable[..., Sequencer]) -> None:
    sequencer = started(Mining(Mode.MANUAL))
    sequencer.stop()
    with pytest.raises(Closed):
        sequencer.mine()


def test_stop_ends_a_long_mine_request(engine: ListEngine, started: Callable[..., Sequencer]) -> None:
    sequencer = started(Mining(Mode.MANUAL))
    request = sequencer.submit(lambda: sequencer.mine_now(10**9))
    eventually(lambda: len(engine.blocks) > 10)
    sequencer.stop()
    with pytest.raises(Closed, match="blocks were mined"):
        request.result(DEADLINE)


def test_a_timestamp_of_one_request_does_not_leak_into_the_next(
    engine: ListEngine, started: Callable[..., Sequencer]
) -> None:
    sequencer = started(Mining(Mode.MANUAL), clock=lambda: 7.0)
    sequencer.run(lambda: sequencer.mine_now(1, timestamp=99))
    sequencer.mine()
    assert [a["timestamp"] for a in engine.attributes] == [99, 7]


@pytest.mark.parametrize(
    ("mining", "automine", "interval"),
    [
        (Mining(Mode.AUTOMINE), Mode.AUTOMINE, Mode.INTERVAL),
        (Mining(Mode.MANUAL), Mode.AUTOMINE, Mode.INTERVAL),
        (Mining(Mode.INTERVAL, 5), Mode.MIXED, Mode.INTERVAL),
        (Mining(Mode.MIXED, 5), Mode.MIXED, Mode.INTERVAL),
    ],
)
def test_switches_move_between_modes(
    mining: Mining,
    automine: Mode,
    interval: Mode,
    engine: ListEngine,
    started: Callable[..., Sequencer],
) -> None:
    sequencer = started(mining)
    sequencer.set_automine(True)
    assert sequencer.mining.mode is automine
    sequencer.set_mining(mining)
    sequencer.set_interval(9)
    assert (sequencer.mining.mode, sequencer.mining.block_time) == (interval, 9)
    sequencer.set_interval(0)
    assert sequencer.mining.mode is Mode.MANUAL


@pytest.mark.parametrize("block_time", [None, 0, -1, float("nan"), 1e300])
def test_an_interval_needs_a_sensible_block_time(block_time: float | None) -> None:
    with pytest.raises(ValueError, match="block time"):
        Mining(Mode.INTERVAL, block_time)


def test_concurrent_turns_never_overlap(engine: ListEngine, started: Callable[..., Sequencer]) -> None:
    sequencer = started(Mining(Mode.AUTOMINE))
    engine.send(200)
    inside = 0
    worst = 0

    def turn() -> None:
        nonlocal inside, worst
        inside += 1
        worst = max(worst, inside)
        time.sleep(0)
        inside -= 1

    threads = [threading.Thread(target=lambda: [sequencer.run(turn) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert worst == 1
    eventually(lambda: sum(engine.blocks) == 200)
    assert list(itertools.repeat(1, 200)) == engine.blocks
