"""Comparing by distance: every measure alone, the form of what is reported, the end, and the thresholds file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from zerog.errors import InferenceError
from zerog.inference.engines import FinishReason
from zerog.inference.logits import Logits, log_softmax, ranked
from zerog.inference.receipt import INVERSE_CDF, SamplingParams
from zerog.inference.tolerance import (
    DEFAULT_THRESHOLDS,
    LEAST_ROWS,
    UNREPORTED,
    RowDistance,
    Thresholds,
    measure,
    read_thresholds,
    row_distance,
    thresholds_of,
    tolerant_fault,
    wrong_form,
)
from zerog.inference.trace import PAIRS, QUANTUM, TraceStep
from zerog.inference.verification import NO_LEAF, CannotCompare

VOCABULARY = 32
END = 0
HALF = 1
"""A token that is the first byte of a two-byte character; the next one completes it."""
LENGTH = 20


class Exact:
    """A model whose likeliest token follows from the position; every token spells one letter."""

    model_id = b"\x07" * 32

    def row(self, position: int) -> Logits:
        row = np.array([-0.3 * i for i in range(VOCABULARY)], dtype=np.float32)
        return np.roll(row, 2 + position % 8)

    def replay(self, request: bytes, tokens: Sequence[int], first: int = 0) -> Iterator[Logits]:
        return (self.row(position) for position in range(first, len(tokens)))

    def ending(
        self, tokens: Sequence[int], params: SamplingParams, stop_strings: Sequence[str]
    ) -> tuple[bytes, FinishReason] | None:
        if any(token >= VOCABULARY for token in tokens):
            raise InferenceError(f"token {max(tokens)} is outside the vocabulary")
        text = b"".join(b"\xc3" if t == HALF else bytes([0x41 + t]) for t in tokens if t != END)
        if tokens and tokens[-1] == END:
            return text, FinishReason.END_TOKEN
        return (text, FinishReason.LENGTH) if len(tokens) >= params.maxTokens else None


class Answer(msgspec.Struct):
    """What is looked at, of a transcript."""

    steps: tuple[TraceStep, ...]
    output: bytes
    params: SamplingParams = SamplingParams(maxTokens=LENGTH)
    request: bytes = b"Hi"
    stop_strings: tuple[str, ...] = ()
    engine: str = "openai-compatible/test/logprobs=reported"


def reported(token: int, row: Logits) -> TraceStep:
    """What an honest server reports."""
    top = ranked(row, PAIRS)
    quanta = np.rint(log_softmax(row, top) * QUANTUM)
    pairs = tuple((int(i), int(q)) for i, q in zip(top, quanta, strict=True))
    return TraceStep(token, bytes(32), pairs)


@pytest.fixture
def model() -> Any:
    return Exact()


@pytest.fixture
def honest(model: Exact) -> Answer:
    tokens = [int(model.row(position).argmax()) for position in range(LENGTH)]
    steps = tuple(reported(token, model.row(i)) for i, token in enumerate(tokens))
    return Answer(steps, bytes(0x41 + token for token in tokens))


def with_steps(answer: Answer, **changed: TraceStep) -> Answer:
    steps = list(answer.steps)
    for name, step in changed.items():
        steps[int(name.removeprefix("at_"))] = step
    return msgspec.structs.replace(answer, steps=tuple(steps))


# Measures.


def test_an_honest_answer_is_at_no_distance(honest, model):
    assert tolerant_fault(honest, model) is None
    found = measure([row_distance(step, model.row(i)) for i, step in enumerate(honest.steps)])
    assert (found.distance_micro, found.missing_micro, found.chosen_micro, found.regret_micro) == (0, 0, 0, 0)


def test_the_distance_is_the_mean_difference_of_the_pairs(model):
    step = reported(2, model.row(0))
    moved = dataclasses.replace(step, pairs=tuple((token, q - 800) for token, q in step.pairs))
    found = row_distance(moved, model.row(0))
    assert (found.distance, found.chosen, found.missing, found.regret) == (800, 800, 0, 0)


def test_a_token_outside_the_verifiers_eight_is_missing(model):
    step = reported(2, model.row(0))
    stranger = int(ranked(model.row(0), PAIRS + 1)[-1])
    found = row_distance(
        dataclasses.replace(step, pairs=(*step.pairs[:-1], (stranger, step.pairs[-1][1]))), model.row(0)
    )
    assert found.missing == 1
    assert found.distance == pytest.approx(0.3 * QUANTUM / PAIRS, rel=0.01)


def test_a_token_outside_the_vocabulary_is_as_far_as_can_be(model):
    step = reported(2, model.row(0))
    lied = dataclasses.replace(step, pairs=(*step.pairs[:-1], (VOCABULARY + 5, step.pairs[-1][1])))
    found = row_distance(lied, model.row(0))
    assert found.missing == 1
    assert found.distance == pytest.approx(0.3 * (VOCABULARY - 1) * QUANTUM / PAIRS, rel=0.01)


def test_regret_counts_where_nothing_was_reported(model):
    found = row_distance(TraceStep(5, bytes(32), UNREPORTED), model.row(0))
    assert not found.reported
    assert found.regret == pytest.approx(0.9 * QUANTUM, abs=2)


def test_rows_that_are_no_numbers_condemn_nobody(model):
    row = model.row(0)
    step = reported(2, row)
    row[4] = math.nan
    with pytest.raises(InferenceError, match="logit nan"):
        row_distance(step, row)


def test_a_short_answer_is_divided_by_the_least_number_of_rows():
    row = RowDistance(True, QUANTUM, 2, QUANTUM // 2, 7)
    short, long = measure([row] * 2), measure([row] * (2 * LEAST_ROWS))
    assert short.distance_micro == 1_000_000 * 2 // LEAST_ROWS
    assert (long.distance_micro, long.missing_micro, long.chosen_micro) == (1_000_000, 250_000, 500_000)
    assert measure([]).regret_micro == 0


def test_the_worst_leaf_is_the_farthest_the_first_of_equals():
    near, far = RowDistance(True, 1, 0, 0, 0), RowDistance(True, 1, 0, 0, 9)
    assert measure([near, far, far, near]).worst == 1


@pytest.mark.parametrize("name", ["distance_micro", "missing_micro", "chosen_micro", "regret_micro"])
def test_each_measure_accuses_alone_and_only_beyond_its_limit(name):
    limits = msgspec.structs.asdict(DEFAULT_THRESHOLDS)
    found = dataclasses.replace(measure([]), **limits)
    assert found.excess(DEFAULT_THRESHOLDS) is None
    beyond = dataclasses.replace(found, **{name: limits[name] + 1})
    assert f"allowed are {limits[name] / 1e6:.3f}" in str(beyond.excess(DEFAULT_THRESHOLDS))


# Form.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: (p[0], p[0], *p[2:]), "appears twice"),
        (lambda p: ((p[0][0], 1), *p[1:]), "is positive"),
        (lambda p: (p[0], p[2], p[1], *p[3:]), "falling order"),
        (lambda p: tuple((token, -10) for token, _ in p), "more than 1"),
        (lambda p: ((31, p[0][1]), *p[1:]), "not among the eight"),
        (lambda p: ((p[1][0], p[0][1]), (p[0][0], p[1][1]), *p[2:]), "not the likeliest"),
    ],
)
def test_what_no_honest_server_reports_is_named(honest, model, change, reason):
    step = honest.steps[3]
    lied = dataclasses.replace(step, pairs=change(step.pairs))
    assert reason in str(wrong_form(lied))
    fault = tolerant_fault(with_steps(honest, at_3=lied), model)
    assert fault is not None and fault.index == 3 and reason in fault.reason


def test_equal_log_probabilities_may_come_in_any_order(model):
    step = reported(2, model.row(0))
    (first, q), (second, _), *rest = step.pairs
    tied = dataclasses.replace(step, pairs=((second, q), (first, q), *rest))
    # Twice the likeliest is more than there is; less likely ones are not.
    halved = dataclasses.replace(tied, pairs=tuple((t, value - QUANTUM) for t, value in tied.pairs))
    assert wrong_form(halved) is None


# End and text.


def test_a_text_that_the_tokens_do_not_spell_is_found(honest, model):
    fault = tolerant_fault(msgspec.structs.replace(honest, output=honest.output + b"!"), model)
    assert fault is not None and fault.index == NO_LEAF and "another text" in fault.reason


def test_a_trace_that_stops_early_or_goes_on_is_found(honest, model):
    early = tolerant_fault(msgspec.structs.replace(honest, steps=honest.steps[:-1]), model)
    assert early is not None and (early.index, "before the answer ends" in early.reason) == (LENGTH - 2, True)
    shorter = msgspec.structs.replace(honest, params=SamplingParams(maxTokens=5))
    late = tolerant_fault(shorter, model)
    assert late is not None and (late.index, "goes on" in late.reason) == (5, True)


def test_a_token_outside_the_vocabulary_is_found_at_its_leaf(honest, model):
    pairs = ((VOCABULARY, honest.steps[4].pairs[0][1]), *honest.steps[4].pairs[1:])
    fault = tolerant_fault(with_steps(honest, at_4=TraceStep(VOCABULARY, bytes(32), pairs)), model)
    assert fault is not None and fault.index == 4 and "outside the vocabulary" in fault.reason


def test_log_probabilities_may_be_missing_only_inside_a_character(honest, model):
    hidden = dataclasses.replace(honest.steps[2], pairs=UNREPORTED)
    fault = tolerant_fault(with_steps(honest, at_2=hidden), model)
    assert fault is not None and fault.index == 2 and "of a whole token are missing" in fault.reason
    # The first half of a character: nothing to object to but that it is not the likeliest.
    half = TraceStep(HALF, bytes(32), UNREPORTED)
    output = honest.output[:-1] + b"\xc3"
    last = msgspec.structs.replace(with_steps(honest, **{f"at_{LENGTH - 1}": half}), output=output)
    loose = Thresholds(regret_micro=100_000_000)
    assert tolerant_fault(last, model, loose) is None
    assert "worse than the likeliest" in str(tolerant_fault(last, model))


def test_an_answer_without_leaves_or_of_another_sampler_is_a_fault(honest, model):
    assert "nothing to compare" in str(tolerant_fault(msgspec.structs.replace(honest, steps=()), model))
    sampled = SamplingParams(maxTokens=LENGTH, temperatureMilli=700, sampler=INVERSE_CDF)
    fault = tolerant_fault(msgspec.structs.replace(honest, params=sampled), model)
    assert "no sampler but the greedy" in str(fault)


def test_an_answer_of_a_silent_server_cannot_be_compared(honest, model):
    silent = msgspec.structs.replace(honest, engine="openai-compatible/test/logprobs=none")
    with pytest.raises(CannotCompare, match="worth its signature only"):
        tolerant_fault(silent, model)


def test_a_text_of_another_model_that_the_true_one_read_is_found_by_regret(honest, model):
    second = int(ranked(model.row(7), 6)[5])
    read = reported(second, model.row(7))
    # Its log-probabilities are right, put in the order that the form wants.
    posed = dataclasses.replace(read, pairs=UNREPORTED)
    found = row_distance(posed, model.row(7))
    assert measure([found]).excess(DEFAULT_THRESHOLDS) is not None
    assert "not the likeliest" in str(wrong_form(read))


# Thresholds.


def document(**changed: Any) -> bytes:
    limits = {"distanceMicro": 1, "missingMicro": 2, "chosenMicro": 3, "regretMicro": 4}
    return json.dumps({"format": "zerog-tolerance/1", "thresholds": limits | changed, "more": 1}).encode()


def test_a_models_own_thresholds_replace_the_defaults(tmp_path, monkeypatch):
    monkeypatch.delenv("ZEROG_TOLERANCE", raising=False)
    assert thresholds_of(Exact.model_id) == DEFAULT_THRESHOLDS
    monkeypatch.setenv("ZEROG_TOLERANCE", str(tmp_path))
    assert thresholds_of(Exact.model_id) == DEFAULT_THRESHOLDS
    (tmp_path / f"0x{Exact.model_id.hex()}.json").write_bytes(document())
    assert thresholds_of(Exact.model_id) == Thresholds(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not json", "holds no thresholds"),
        (document(other=1), "holds no thresholds"),
        (document(chosenMicro=0), "chosen_micro = 0 is out of range"),
        (document(regretMicro=1 << 40), "out of range"),
        (document().replace(b"tolerance/1", b"tolerance/9"), "has the format 'zerog-tolerance/9'"),
    ],
)
def test_a_thresholds_file_that_cannot_be_used_is_refused(tmp_path, content, reason):
    path = tmp_path / "limits.json"
    path.write_bytes(content)
    with pytest.raises(InferenceError, match=reason):
        read_thresholds(path)
    with pytest.raises(InferenceError, match="cannot read"):
        read_thresholds(tmp_path / "missing.json")
