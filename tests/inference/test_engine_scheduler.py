"""Continuous batching, with a context that computes by arithmetic: who is served, and who fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerog.errors import EngineBusy, EngineCancelled, InferenceError
from zerog.inference.engines.llama_context import BATCH, Row
from zerog.inference.engines.scheduler import BULK_BESIDE_ANSWERS, Load, Scheduler
from zerog.inference.engines.sequences import MAX_ROWS_WAITING, Generating, Replaying, Slotted
from zerog.inference.receipt import SamplingParams

VOCABULARY = 97
END = 0
POISON = 96
"""A token that makes a decode call fail."""
DEADLINE = 20.0


class Arithmetic:
    """A context whose logits follow from the tokens of a slot; it checks that positions continue."""

    def __init__(self, slots: int) -> None:
        self._history: list[list[int]] = [[] for _ in range(slots)]
        self._rows: list[np.ndarray] = []
        self.batches: list[dict[int, int]] = []
        self.before: Callable[[], None] = lambda: None
        self.bend: Callable[[np.ndarray], np.ndarray] = lambda row: row
        self.closed = False

    def decode(self, rows: Sequence[Row], threads: int = 1) -> None:
        self.before()
        assert 1 <= len(rows) <= BATCH
        if any(row.token == POISON for row in rows):
            raise InferenceError("llama.cpp failed: poison")
        counts: dict[int, int] = {}
        self._rows = []
        for row in rows:
            history = self._history[row.slot]
            assert row.position == len(history)
            history.append(row.token)
            counts[row.slot] = counts.get(row.slot, 0) + 1
            logits = np.zeros(VOCABULARY, dtype=np.float32)
            logits[1 + (sum(history) * 31 + len(history)) % (VOCABULARY - 2)] = 1
            self._rows.append(logits)
        self.batches.append(counts)

    def logits(self, index: int) -> np.ndarray:
        return self.bend(self._rows[index])

    def forget(self, slot: int, position: int = 0) -> None:
        del self._history[slot][position:]

    def close(self) -> None:
        self.closed = True

    @property
    def is_empty(self) -> bool:
        return not any(self._history)


class Desk:
    """A scheduler with what a test needs around it."""

    def __init__(self, slots: int, max_waiting: int = 64) -> None:
        self.context = Arithmetic(slots)
        self.scheduler = Scheduler(self.context, slots, max_waiting)

    def ask(self, prompt: Sequence[int], count: int, cancelled: threading.Event | None = None) -> list[int]:
        sequence = generation(prompt, count, cancelled)
        return [chosen.token for chosen in self.rows(sequence)]

    def rows(self, sequence: Slotted) -> Iterator:
        self.scheduler.submit(sequence)
        try:
            yield from sequence.take(self.scheduler.wake)
        finally:
            sequence.abandon()
            self.scheduler.wake()

    def await_empty(self) -> None:
        until(lambda: self.scheduler.load.running == self.scheduler.load.waiting == 0)
        assert self.context.is_empty


def generation(prompt, count, cancelled=None):
    return Generating(
        prompt,
        SamplingParams(maxTokens=count),
        [],
        ending=frozenset([END]),
        piece=lambda token: b"%d " % token,
        cancelled=cancelled,
    )


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.001)


@pytest.fixture
def desk():
    made: list[Desk] = []

    def make(slots: int, max_waiting: int = 64) -> Desk:
        made.append(Desk(slots, max_waiting))
        return made[-1]

    yield make
    for each in made:
        each.scheduler.close()
        assert each.context.closed


def expected(prompt: Sequence[int], count: int) -> list[int]:
    history, tokens = list(prompt), []
    for _ in range(count):
        tokens.append(1 + (sum(history) * 31 + len(history)) % (VOCABULARY - 2))
        history.append(tokens[-1])
    return tokens


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.integers(1, 120), st.integers(1, 20), st.booleans()), min_size=1, max_size=12),
)
def test_sequences_together_are_what_they_are_alone(slots, asked):
    desk = Desk(slots)

    def one(number: int, size: int, count: int, cancel: bool) -> None:
        prompt = [1 + (number * 7 + i) % 90 for i in range(size)]
        cancelled = threading.Event()
        if not cancel:
            assert desk.ask(prompt, count, cancelled) == expected(prompt, count)
            return
        rows = desk.rows(generation(prompt, count, cancelled))
        assert next(rows).token == expected(prompt, 1)[0]
        rows.close()

    try:
        with ThreadPoolExecutor(len(asked)) as pool:
            done = [pool.submit(one, number, *each) for number, each in enumerate(asked)]
            for future in done:
                future.result(DEADLINE)
        desk.await_empty()
    finally:
        desk.scheduler.close()


def together(hub: Desk, *asked: tuple[int, int]) -> list[dict[int, int]]:
    """Rows of each slot in each step, of sequences (prompt size, tokens) that are there from the second step on."""
    gate = threading.Event()
    hub.context.before = gate.wait
    with ThreadPoolExecutor(len(asked)) as pool:
        done = [pool.submit(hub.ask, [5] * size, count) for size, count in asked]
        until(lambda: hub.scheduler.load.running + hub.scheduler.load.waiting == len(asked))
        gate.set()
        for future in done:
            future.result(DEADLINE)
    return hub.context.batches[1:]


def test_while_nobody_answers_prompts_fill_every_row_in_equal_shares(desk):
    steps = together(desk(3), (400, 1), (300, 1), (500, 1))[:20]
    assert all(sum(counts.values()) == BATCH for counts in steps)
    assert all(max(counts.values()) - min(counts.values()) <= 2 for counts in steps)


def test_beside_answers_prompts_together_get_a_bounded_share(desk):
    steps = together(desk(4), (400, 1), (2, 12), (300, 1), (1, 12))
    beside = [counts for counts in steps if list(counts.values()).count(1) == 2 and len(counts) == 4]
    assert len(beside) >= 8
    for counts in beside:
        assert sum(counts.values()) == 2 + BULK_BESIDE_ANSWERS
        assert sorted(counts.values()) == [1, 1, BULK_BESIDE_ANSWERS // 2, BULK_BESIDE_ANSWERS // 2]


def test_a_replay_beside_an_answer_gets_a_bounded_share_and_all_rows_when_it_is_over(desk):
    hub = desk(2)
    gate = threading.Event()
    hub.context.before = gate.wait
    with ThreadPoolExecutor(2) as pool:
        replay = pool.submit(lambda: sum(1 for _ in hub.rows(Replaying([5] * 600, 0, None))))
        answer = pool.submit(hub.ask, [7], 20)
        until(lambda: hub.scheduler.load.running + hub.scheduler.load.waiting == 2)
        gate.set()
        assert answer.result(DEADLINE) == expected([7], 20)
        assert replay.result(DEADLINE) == 600
    both = [counts for counts in hub.context.batches if len(counts) == 2]
    alone = [max(counts.values()) for counts in hub.context.batches[1:] if len(counts) == 1]
    assert both
    assert all(sum(counts.values()) <= 1 + BULK_BESIDE_ANSWERS for counts in both)
    assert alone.count(BATCH) >= len(alone) - 21


def test_many_prompts_beside_an_answer_get_a_row_each(desk):
    slots = BULK_BESIDE_ANSWERS + 4
    steps = together(desk(slots), (1, 30), *[(60, 1)] * (slots - 1))
    full = [counts for counts in steps[:10] if len(counts) == slots]
    assert full
    assert all(set(counts.values()) == {1} for counts in full)


def test_a_long_prompt_does_not_hold_up_an_answer(desk):
    hub = desk(2)
    gate = threading.Event()
    hub.context.before = gate.wait
    with ThreadPoolExecutor(2) as pool:
        long = pool.submit(hub.ask, [5] * 2000, 1)
        short = pool.submit(hub.ask, [7], 10)
        until(lambda: hub.scheduler.load.running + hub.scheduler.load.waiting == 2)
        gate.set()
        short.result(DEADLINE)
        assert len(hub.context.batches) <= 20 or not long.done()
        assert long.result(DEADLINE) == expected([5] * 2000, 1)


def test_a_full_queue_says_busy_and_takes_again_later(desk):
    hub = desk(1, max_waiting=2)
    gate = threading.Event()
    hub.context.before = gate.wait
    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(hub.ask, [3], 2) for _ in range(3)]
        until(lambda: hub.scheduler.load == Load(1, 2, 1, 2))
        with pytest.raises(EngineBusy, match="2 requests wait already, the limit is 2"):
            hub.ask([3], 2)
        gate.set()
        for future in done:
            assert future.result(DEADLINE) == expected([3], 2)
    assert hub.ask([3], 2) == expected([3], 2)


def test_many_at_once_cannot_pass_the_bound_before_the_thread_looks(desk):
    hub = desk(2, max_waiting=1)
    gate = threading.Event()
    hub.context.before = gate.wait
    sequences = [generation([3], 1) for _ in range(10)]
    taken = 0
    for sequence in sequences:
        try:
            hub.scheduler.submit(sequence)
            taken += 1
        except EngineBusy:
            pass
    gate.set()
    assert taken == 3


def test_a_cancelled_sequence_frees_its_slot_for_the_next(desk):
    hub = desk(1)
    cancelled = threading.Event()
    rows = hub.rows(generation([4], 10_000, cancelled))
    next(rows)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(hub.ask, [9], 3)
        cancelled.set()
        with pytest.raises(EngineCancelled, match="was cancelled"):
            list(rows)
        assert following.result(DEADLINE) == expected([9], 3)
    hub.await_empty()


def test_a_waiting_sequence_can_be_cancelled(desk):
    hub = desk(1)
    first = hub.rows(generation([4], 10_000))
    next(first)
    cancelled = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hub.ask, [9], 3, cancelled)
        until(lambda: hub.scheduler.load.waiting == 1)
        cancelled.set()
        with pytest.raises(EngineCancelled):
            waiting.result(DEADLINE)
    first.close()
    hub.await_empty()


def test_a_caller_that_goes_away_frees_its_slot(desk):
    hub = desk(1)
    rows = hub.rows(generation([4], 10_000))
    next(rows)
    rows.close()
    hub.await_empty()


def test_a_slow_reader_pauses_alone_and_misses_nothing(desk):
    hub = desk(2)
    count = MAX_ROWS_WAITING * 3
    slow = hub.rows(generation([4], count))
    tokens = [next(slow).token]
    assert hub.ask([9], count) == expected([9], count)
    fed_ahead = sum(sum(counts.values()) for counts in hub.context.batches) - count - 1
    assert fed_ahead <= MAX_ROWS_WAITING + BATCH
    tokens += [chosen.token for chosen in slow]
    assert tokens == expected([4], count)
    hub.await_empty()


def test_a_paused_replay_goes_on_where_it_stopped(desk):
    hub = desk(1)
    size = MAX_ROWS_WAITING * 2 + 50
    rows = hub.rows(Replaying([5] * size, 10, None))
    next(rows)
    until(lambda: sum(sum(counts.values()) for counts in hub.context.batches) > MAX_ROWS_WAITING)
    assert 1 + sum(1 for _ in rows) == size - 10


def test_a_sequence_that_llama_cpp_refuses_fails_alone(desk):
    hub = desk(3)
    gate = threading.Event()
    hub.context.before = gate.wait
    with ThreadPoolExecutor(3) as pool:
        good = [pool.submit(hub.ask, [number] * 70, 5) for number in (3, 4)]
        bad = pool.submit(hub.ask, [5] * 40 + [POISON] + [5] * 40, 5)
        until(lambda: hub.scheduler.load.running + hub.scheduler.load.waiting == 3)
        gate.set()
        with pytest.raises(InferenceError, match="poison"):
            bad.result(DEADLINE)
        assert [future.result(DEADLINE) for future in good] == [expected([n] * 70, 5) for n in (3, 4)]
    hub.await_empty()


def test_logits_that_are_no_numbers_fail_only_their_sequence(desk):
    hub = desk(2)
    gate = threading.Event()
    hub.context.before = gate.wait
    bad_token = expected([8], 1)[0]

    def bend(row):
        row = row.copy()
        if row.argmax() == bad_token:
            row[1] = np.nan
        return row

    hub.context.bend = bend
    with ThreadPoolExecutor(2) as pool:
        bad, good = pool.submit(hub.ask, [8], 5), pool.submit(hub.ask, [2, 2], 3)
        until(lambda: hub.scheduler.load.running + hub.scheduler.load.waiting == 2)
        gate.set()
        with pytest.raises(InferenceError, match="nothing is signed"):
            bad.result(DEADLINE)
        assert bad_token not in expected([2, 2], 3)
        assert good.result(DEADLINE) == expected([2, 2], 3)
    hub.await_empty()


def test_an_interrupt_ends_all_and_refuses_more(desk):
    hub = desk(1)
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(hub.ask, [4], 100_000_000) for _ in range(2)]
        until(lambda: hub.scheduler.load.waiting == 1)
        hub.scheduler.interrupt()
        for future in done:
            with pytest.raises(EngineCancelled, match="was interrupted"):
                future.result(DEADLINE)
    with pytest.raises(EngineCancelled, match="was interrupted"):
        hub.ask([4], 1)
    hub.await_empty()


def test_closing_ends_what_runs(desk):
    hub = desk(1)
    rows = hub.rows(generation([4], 100_000_000))
    next(rows)
    hub.scheduler.close()
    with pytest.raises(EngineCancelled, match="was closed"):
        for _ in rows:
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_the_engine_leaves_nobody_waiting(desk):
    hub = desk(1)

    def fault():
        raise ZeroDivisionError("a bug")

    hub.context.before = fault
    with pytest.raises(InferenceError, match="the engine failed: ZeroDivisionError: a bug"):
        hub.ask([4], 5)
    with pytest.raises(InferenceError, match="the engine failed"):
        hub.ask([4], 5)
