"""The embedded engine under concurrency: rows, tokens and text equal those of each request alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from zerog.errors import EngineBusy, EngineCancelled, InferenceError
from zerog.inference.engines import FinishReason, Generation
from zerog.inference.engines.llama_cpp import CONTEXT, MAX_SLOTS, LlamaCppEngine, slots_within
from zerog.inference.logits import trace_step
from zerog.inference.receipt import SamplingParams
from zerog.inference.weights import SMOLLM2, fetch

DEADLINE = 300.0


@dataclass(frozen=True)
class Case:
    """A request of ``words`` words and what it asks for."""

    words: int
    params: SamplingParams
    stops: tuple[str, ...] = ()

    @property
    def request(self) -> bytes:
        topics = ["river", "stone", "market", "winter", "engine", "garden", "letter"]
        text = " ".join(topics[(i * i + self.words) % len(topics)] for i in range(self.words))
        return f"Words: {text}. Write a short story about a robot who learns to paint.".encode()


def _seeded(count: int, seed: int, **changes: int) -> SamplingParams:
    return SamplingParams(maxTokens=count, temperatureMilli=900, sampler=1, seed=seed, **changes)


CASES = [
    Case(1450, _seeded(8, 6)),
    Case(3, SamplingParams(maxTokens=40)),
    Case(485, _seeded(24, 4)),
    Case(40, _seeded(24, 1)),
    Case(260, _seeded(12, 2, topK=40, topPMilli=900)),
    Case(12, SamplingParams(maxTokens=30), ("never", "the ")),
    Case(90, _seeded(20, 3, repeatPenaltyMilli=1300)),
    Case(700, _seeded(8, 5)),
]


@pytest.fixture(scope="module")
def alone(engine: LlamaCppEngine) -> list[Generation]:
    """Every case with nobody beside it."""
    return [engine.generate(case.request, case.params, case.stops) for case in CASES]


def _ask(engine: LlamaCppEngine, case: Case, first: threading.Event | None = None) -> Generation:
    def told(piece: bytes) -> None:
        if first is not None:
            first.set()

    return engine.generate(case.request, case.params, case.stops, on_text=told)


def _cancelled_after_some_tokens(engine: LlamaCppEngine, words: int) -> None:
    pieces: list[bytes] = []
    cancelled = threading.Event()

    def told(piece: bytes) -> None:
        pieces.append(piece)
        if len(pieces) == 2:
            cancelled.set()

    with pytest.raises(EngineCancelled):
        case = Case(words, SamplingParams(maxTokens=400))
        engine.generate(case.request, case.params, on_text=told, cancelled=cancelled)


def await_idle(engine: LlamaCppEngine) -> None:
    until(lambda: engine.load.running == engine.load.waiting == 0)


def await_either(event: threading.Event, future: Future[Generation]) -> None:
    until(lambda: event.is_set() or future.done())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


def test_the_cases_cover_long_contexts(alone):
    sizes = sorted(generation.prompt_tokens + len(generation.steps) for generation in alone)
    assert sizes[-1] >= 1470
    assert sizes[0] < 70
    assert FinishReason.STOP_STRING in {generation.finish for generation in alone}


def test_eight_at_once_with_others_cancelled_between_are_bit_for_bit_what_they_are_alone(engine, alone):
    with ThreadPoolExecutor(len(CASES) + 3) as pool:
        done = [pool.submit(_ask, engine, case) for case in CASES[:4]]
        victims = [pool.submit(_cancelled_after_some_tokens, engine, words) for words in (5, 260)]
        done += [pool.submit(_ask, engine, case) for case in CASES[4:]]
        victims.append(pool.submit(_cancelled_after_some_tokens, engine, 64))
        together = [future.result(DEADLINE) for future in done]
        for victim in victims:
            victim.result(DEADLINE)
    for one, other in zip(together, alone, strict=True):
        assert one == other
    await_idle(engine)


def test_requests_that_arrive_while_others_decode_change_nothing(engine, alone):
    with ThreadPoolExecutor(len(CASES)) as pool:
        done: list[tuple[int, Future[Generation]]] = []
        for index in (1, 3, 5, 6, 4):
            # The next request arrives when this one has told its first piece.
            first = threading.Event()
            done.append((index, pool.submit(_ask, engine, CASES[index], first)))
            await_either(first, done[-1][1])
        for index, future in done:
            assert future.result(DEADLINE) == alone[index]


def test_replays_beside_generations_give_the_rows_that_were_committed(engine, alone):
    def replay(index: int, first: int) -> list[bool]:
        steps = alone[index].steps
        rows = engine.replay(CASES[index].request, alone[index].tokens, first)
        return [trace_step(step.token, row) == step for step, row in zip(steps[first:], rows, strict=True)]

    with ThreadPoolExecutor(6) as pool:
        replays = [pool.submit(replay, index, first) for index, first in ((2, 0), (7, 3), (1, 0))]
        answers = {index: pool.submit(_ask, engine, CASES[index]) for index in (3, 6)}
        assert all(all(future.result(DEADLINE)) for future in replays)
        assert all(future.result(DEADLINE) == alone[index] for index, future in answers.items())


def test_a_replay_that_is_not_read_to_its_end_frees_its_slot(engine, alone):
    rows = engine.replay(CASES[1].request, alone[1].tokens)
    next(rows)
    rows.close()
    await_idle(engine)


def test_a_reader_that_fails_ends_its_generation_and_frees_its_slot(engine):
    def broken(piece: bytes) -> None:
        raise BrokenPipeError("the client has gone")

    with pytest.raises(BrokenPipeError):
        engine.generate(b"Count.", SamplingParams(maxTokens=500), on_text=broken)
    await_idle(engine)


@pytest.mark.parametrize(
    ("request_bytes", "params", "message"),
    [
        (b"", SamplingParams(maxTokens=5), "the request is empty"),
        (b"  \n", SamplingParams(maxTokens=5), "the request is empty"),
        (b"caf\xe9", SamplingParams(maxTokens=5), "not UTF-8 at byte 3"),
        (b"x" * 32_769, SamplingParams(maxTokens=5), "more than the limit of 32768"),
        (b"word " * 2200, SamplingParams(maxTokens=5), "exceed the context"),
        (b"hi", SamplingParams(maxTokens=2040), "exceed the context"),
        (b"hi<|im_start|>system", SamplingParams(maxTokens=5), "control token"),
        (b"hi", SamplingParams(maxTokens=-1), "maxTokens = -1 does not fit uint32"),
        (b"hi", SamplingParams(maxTokens=2**32), "maxTokens = 4294967296 does not fit uint32"),
        (b"hi", SamplingParams(maxTokens=5, sampler=9), "sampler = 9 is unknown"),
        (b"hi", SamplingParams(maxTokens=5, sampler=1, temperatureMilli=-5), "temperatureMilli = -5"),
        (b"hi", SamplingParams(maxTokens=5, sampler=1, temperatureMilli=9, topK=-1), "topK = -1"),
        (b"hi", SamplingParams(maxTokens=5, sampler=1, temperatureMilli=9, seed=2**64), "seed = "),
    ],
)
def test_bad_input_gets_its_error_and_leaves_no_slot_taken(engine, request_bytes, params, message):
    with pytest.raises(InferenceError, match=message):
        engine.generate(request_bytes, params)
    assert (engine.load.running, engine.load.waiting) == (0, 0)


class Feverish(LlamaCppEngine):
    """The real engine on a machine whose logits become NaN while a temperature is set."""

    fever = False

    def _open_context(self, slots):
        engine, context = self, super()._open_context(slots)

        class Context:
            def __getattr__(self, name):
                return getattr(context, name)

            def logits(self, index):
                row = context.logits(index)
                if engine.fever:
                    row[7] = np.nan
                return row

        return Context()


@pytest.fixture(scope="module")
def small():
    """An engine of one slot and a queue of one, whose logits can go wrong."""
    engine = Feverish(fetch(SMOLLM2), slots=1, max_waiting=1)
    yield engine
    engine.close()


def test_logits_that_are_no_numbers_are_refused_and_the_next_request_is_served(small, reference):
    small.fever = True
    try:
        with pytest.raises(InferenceError, match="logit nan for token 7: nothing is signed"):
            small.generate(b"Name a fruit.", SamplingParams(maxTokens=5))
    finally:
        small.fever = False
    await_idle(small)
    generation = small.generate(reference["user_prompt"].encode(), SamplingParams(maxTokens=8))
    assert generation.tokens == reference["output_token_ids"][:8]


def test_a_full_engine_says_busy_and_serves_again(small):
    running = threading.Event()
    cancelled = threading.Event()

    def hold(limit: int) -> None:
        with pytest.raises(EngineCancelled):
            small.generate(
                b"Count.",
                SamplingParams(maxTokens=limit),
                on_text=lambda piece: running.set(),
                cancelled=cancelled,
            )

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(hold, 1500)
        assert running.wait(DEADLINE)
        second = pool.submit(hold, 1500)
        until(lambda: small.load.waiting == 1)
        with pytest.raises(EngineBusy, match="1 requests wait already"):
            small.generate(b"Me, too.", SamplingParams(maxTokens=1))
        cancelled.set()
        first.result(DEADLINE)
        second.result(DEADLINE)
    await_idle(small)
    assert small.generate(b"Me, too.", SamplingParams(maxTokens=1)).steps


@pytest.mark.parametrize(
    ("memory", "slots"), [(0, 1), (CONTEXT * 23_040 * 3, 3), (1 << 40, MAX_SLOTS), (CONTEXT * 23_040 - 1, 1)]
)
def test_memory_bounds_the_slots(memory, slots):
    assert slots_within(memory, CONTEXT * 23_040) == slots


def test_rows_are_read_from_memory_where_the_kernel_lets_us(engine):
    assert engine.reads_memory


def test_staggered_arrivals_and_cancellations_beside_replays_change_nothing(engine, alone):
    order = (1, 3, 5, 6, 4, 2)
    started = {index: threading.Event() for index in order}

    def replay(index: int) -> bool:
        rows = engine.replay(CASES[index].request, alone[index].tokens)
        steps = zip(alone[index].steps, rows, strict=True)
        return all(trace_step(step.token, row) == step for step, row in steps)

    with ThreadPoolExecutor(len(order) + 4) as pool:
        done, others = [], []
        for number, index in enumerate(order):
            done.append((index, pool.submit(_ask, engine, CASES[index], started[index])))
            await_either(started[index], done[-1][1])
            if number in (1, 3):
                others.append(pool.submit(replay, (7, 2)[number // 3]))
                others.append(pool.submit(_cancelled_after_some_tokens, engine, 20 * number))
        assert all(future.result(DEADLINE) == alone[index] for index, future in done)
        assert [future.result(DEADLINE) for future in others] == [True, None, True, None]
    await_idle(engine)


def test_logits_that_are_no_numbers_reach_a_replay_only_as_they_are(small):
    generation = small.generate(b"Name a fruit.", SamplingParams(maxTokens=5))
    small.fever = True
    try:
        rows = list(small.replay(b"Name a fruit.", generation.tokens))
    finally:
        small.fever = False
    assert all(np.isnan(row[7]) for row in rows)
    with pytest.raises(InferenceError, match="nothing is signed"):
        trace_step(0, rows[0])
    await_idle(small)
