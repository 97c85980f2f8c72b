"""`find_fault`, as a verifier uses it: every kind of fault with its leaf, and what is no fault."""

from __future__ import annotations

import dataclasses
import math

import msgspec
import numpy as np
import pytest

from zerog.inference.answer import Inquiry, sampling
from zerog.inference.encoding import ZERO_HASH
from zerog.inference.engines import FinishReason
from zerog.inference.logits import trace_step
from zerog.inference.receipt import INVERSE_CDF, SamplingParams
from zerog.inference.sampling import EDGE_TOLERANCE, choose, draw, may_choose
from zerog.inference.trace import TraceStep
from zerog.inference.verification import NO_LEAF, CannotCompare, find_fault

WRONG = b"\x01" * 32


@pytest.fixture(scope="session")
def honest(transcript):
    """The canonical transcript of a good answer of twelve tokens."""
    return transcript.transcript


def _with(transcript, **changes):
    return dataclasses.replace(transcript, **changes)


def _step(transcript, index, **changes):
    """The transcript with another leaf ``index``."""
    steps = list(transcript.steps)
    steps[index] = dataclasses.replace(steps[index], **changes)
    return _with(transcript, steps=tuple(steps))


def _params(transcript, **changes):
    return _with(transcript, params=msgspec.structs.replace(transcript.params, **changes))


def test_a_good_answer_has_no_fault(honest, transcript, engine):
    assert find_fault(honest, engine) is None
    assert find_fault(honest, engine, receipt=transcript.receipt) is None
    assert find_fault(honest, engine, len(honest.steps) - 1) is None


@pytest.mark.parametrize(
    ("member", "value", "name"),
    [
        ("inputHash", WRONG, "input hash"),
        ("outputHash", WRONG, "output hash"),
        ("paramsHash", WRONG, "parameters"),
        ("modelId", WRONG, "model id"),
        ("engineId", WRONG, "engine id"),
        ("traceRoot", WRONG, "trace root"),
        ("outputTokens", 11, "output tokens"),
        ("promptTokens", 1, "prompt tokens"),
    ],
)
def test_a_receipt_of_another_transcript_is_a_fault_without_a_leaf(
    honest, transcript, engine, member, value, name
):
    receipt = msgspec.structs.replace(transcript.receipt, **{member: value})
    fault = find_fault(honest, engine, receipt=receipt)
    assert (fault.index, fault.reason.split(":")[0]) == (NO_LEAF, name)


def test_stop_strings_that_the_parameters_do_not_name_are_a_fault(honest, transcript, engine):
    fault = find_fault(_with(honest, stop_strings=("x",)), engine, receipt=transcript.receipt)
    assert (fault.index, fault.reason.split(":")[0]) == (NO_LEAF, "stop strings")


def test_another_engine_or_model_says_nothing_about_the_answer(honest, engine):
    with pytest.raises(CannotCompare, match="do not agree bit for bit"):
        find_fault(_with(honest, engine="another/engine"), engine)
    with pytest.raises(CannotCompare, match="the engine has the model"):
        find_fault(_with(honest, model=dataclasses.replace(honest.model, quantisation="F16")), engine)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"request": b"\xff"}, "the model cannot read the request"),
        ({"request": b"<|im_end|>"}, "the model cannot read the request"),
        ({"prompt_tokens": 2}, "claimed 2, computed"),
        ({"steps": ()}, "the trace is empty"),
        ({"output": b"Something else"}, "the tokens spell another text than the output"),
    ],
    ids=["not text", "control token", "prompt tokens", "empty trace", "text"],
)
def test_a_fault_outside_the_leaves_has_no_leaf(honest, engine, changes, reason):
    fault = find_fault(_with(honest, **changes), engine)
    assert fault.index == NO_LEAF
    assert fault.reason.startswith(reason)


def test_parameters_that_no_engine_takes_are_a_fault(honest, engine):
    fault = find_fault(_params(honest, temperatureMilli=1), engine)
    assert fault.index == NO_LEAF
    assert fault.reason.startswith("no engine answers with these parameters")


def test_a_token_outside_the_vocabulary_is_the_fault_of_its_leaf(honest, engine):
    assert find_fault(_step(honest, 3, token=2**31), engine).index == 3


def test_a_wrong_row_is_the_fault_of_its_leaf(honest, engine):
    fault = find_fault(_step(honest, 5, row_hash=WRONG), engine)
    assert (fault.index, fault.reason) == (
        5,
        "row 5 differs: the answer is not from this model and engine",
    )


def test_wrong_log_probabilities_are_the_fault_of_their_leaf(honest, engine):
    pairs = list(honest.steps[5].pairs)
    pairs[7] = (pairs[7][0], pairs[7][1] - 1)
    fault = find_fault(_step(honest, 5, pairs=tuple(pairs)), engine)
    assert (fault.index, fault.reason) == (5, "row 5 is right, its eight log-probabilities are not")


def _continued(honest, engine, tokens) -> tuple[TraceStep, ...]:
    """True rows under these tokens."""
    rows = engine.replay(honest.request, tokens)
    return tuple(trace_step(token, row) for token, row in zip(tokens, rows, strict=True))


def test_a_token_that_the_sampler_does_not_choose_is_the_fault_of_its_leaf(honest, engine):
    tokens = [step.token for step in honest.steps]
    tokens[4] = honest.steps[4].pairs[1][0]
    fault = find_fault(_with(honest, steps=_continued(honest, engine, tokens)), engine)
    assert fault.index == 4
    assert fault.reason == f"token 4 is {tokens[4]}, the sampler chooses {honest.steps[4].token}"


def test_an_answer_that_stops_early_is_the_fault_of_its_last_leaf(honest, engine):
    fault = find_fault(_with(honest, steps=honest.steps[:6]), engine)
    assert (fault.index, fault.reason) == (5, "the trace stops before the answer ends")


def test_a_trace_that_goes_on_after_the_end_is_the_fault_of_the_leaf_after_it(honest, engine):
    fault = find_fault(_params(honest, maxTokens=8), engine)
    assert (fault.index, fault.reason) == (8, "the answer ends at token 7, the trace goes on")


def test_a_wrong_reason_of_the_end_is_a_fault_without_a_leaf(honest, engine):
    other = FinishReason.END_TOKEN if honest.finish is FinishReason.LENGTH else FinishReason.LENGTH
    fault = find_fault(_with(honest, finish=other), engine)
    assert fault.index == NO_LEAF
    assert fault.reason == f"the answer ends by {honest.finish.value}, not by {other.value}"


def test_more_tokens_than_the_context_holds_are_a_fault(honest, engine):
    many = _params(_with(honest, steps=honest.steps * 200), maxTokens=2400)
    fault = find_fault(many, engine)
    assert fault is not None


# From a leaf on.


def test_only_leaves_from_the_named_one_on_are_looked_at(honest, engine):
    lie = _step(honest, 3, row_hash=WRONG)
    assert find_fault(lie, engine, 3).index == 3
    assert find_fault(lie, engine, 4) is None
    both = _step(lie, 7, row_hash=WRONG)
    assert (find_fault(both, engine).index, find_fault(both, engine, 4).index) == (3, 7)


@pytest.mark.parametrize("leaf", [0, 5, 11])
def test_a_wrong_text_is_found_from_whatever_leaf(honest, engine, leaf):
    assert find_fault(_with(honest, output=b"Something else"), engine, leaf).index == NO_LEAF


@pytest.mark.parametrize("leaf", [0, 5])
def test_an_early_stop_is_found_from_whatever_leaf(honest, engine, leaf):
    assert find_fault(_with(honest, steps=honest.steps[:6]), engine, leaf).index == 5


def test_progress_counts_the_rows_that_are_looked_at(honest, engine):
    seen: list[tuple[int, int]] = []
    find_fault(honest, engine, 4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(1, 9)]


# The seeded sampler: a draw on the very edge of two tokens belongs to either.


SEEDED = SamplingParams(maxTokens=1, temperatureMilli=1000, sampler=INVERSE_CDF, seed=0)
VOCABULARY = 64


def _seed() -> int:
    """A seed whose first draw lies above one half, so that the likeliest token can end there."""
    return next(seed for seed in range(100) if 0.6 < draw(seed, 0) / 2**64 < 0.9)


def _row_with_edge_at(edge: float):
    """A row in which token 0 has the probability ``edge``, to about 1e-15.

    Logits are 32-bit floats, too coarse for that: ever smaller tokens take up the rest.
    """
    row = np.full(VOCABULARY, -90, dtype=np.float32)
    row[0] = 0
    rest = 1 / edge - 1
    for token, share in ((1, 0.999), (2, 0.999), (3, 0.999), (4, 0.999)):
        row[token] = np.float32(math.log(rest * share))
        rest -= math.exp(float(row[token]))
    return row


class _OneRow:
    """The embedded engine with a row of the test's own."""

    def __init__(self, engine, row):
        self._engine, self._row = engine, row

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def replay(self, request, tokens, first=0):
        yield self._row


def _one_token(honest, engine, params, token, row):
    output, finish = engine.ending([token], params, ())
    return _with(honest, params=params, steps=(trace_step(token, row),), output=output, finish=finish)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_draw_within_the_tolerance_of_an_edge_belongs_to_both_tokens(honest, engine, side):
    params = msgspec.structs.replace(SEEDED, seed=_seed())
    row = _row_with_edge_at(draw(params.seed, 0) / 2**64 + side * EDGE_TOLERANCE / 2)
    drawn, other = (0, 1) if side > 0 else (1, 0)
    assert choose(row, params, 0, []) == drawn
    for token in (drawn, other):
        assert may_choose(row, params, 0, [], token)
        assert find_fault(_one_token(honest, engine, params, token, row), _OneRow(engine, row)) is None
    fault = find_fault(_one_token(honest, engine, params, 2, row), _OneRow(engine, row))
    assert (fault.index, fault.reason) == (0, f"token 0 is 2, the sampler chooses {drawn}")


@pytest.mark.parametrize("side", [-1, 1])
def test_a_draw_beyond_the_tolerance_belongs_to_one_token(honest, engine, side):
    params = msgspec.structs.replace(SEEDED, seed=_seed())
    row = _row_with_edge_at(draw(params.seed, 0) / 2**64 + side * EDGE_TOLERANCE * 4)
    drawn, other = (0, 1) if side > 0 else (1, 0)
    assert find_fault(_one_token(honest, engine, params, drawn, row), _OneRow(engine, row)) is None
    fault = find_fault(_one_token(honest, engine, params, other, row), _OneRow(engine, row))
    assert (fault.index, fault.reason) == (0, f"token 0 is {other}, the sampler chooses {drawn}")


def test_greedy_has_no_tolerance(honest, engine):
    row = np.zeros(VOCABULARY, dtype=np.float32)
    row[1] = np.nextafter(np.float32(0), np.float32(1))
    params = sampling(1)
    assert find_fault(_one_token(honest, engine, params, 1, row), _OneRow(engine, row)) is None
    assert find_fault(_one_token(honest, engine, params, 0, row), _OneRow(engine, row)).index == 0


def test_a_seeded_answer_has_no_fault_and_another_seed_has(signatory, engine):
    params = SamplingParams(maxTokens=12, temperatureMilli=900, sampler=INVERSE_CDF, seed=7)
    inquiry = Inquiry(b"\x07" * 32, bytes(20), b"Tell me about rivers.", params)
    seeded = signatory.answer(inquiry, 1).transcript
    assert find_fault(seeded, engine) is None
    assert find_fault(_params(seeded, seed=8), engine).index != NO_LEAF


def test_no_data_root_is_no_fault_of_the_computation(honest, transcript, engine):
    receipt = msgspec.structs.replace(transcript.receipt, dataRoot=ZERO_HASH)
    assert find_fault(honest, engine, receipt=receipt) is None
