"""The deterministic samplers."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.golden_sampler import FILE, cases, token_of

from zerog.errors import InferenceError
from zerog.inference.receipt import SamplingParams
from zerog.inference.sampling import check_params, choose, draw, gate_seed, may_choose

SEEDED = SamplingParams(maxTokens=8, temperatureMilli=1000, sampler=1, seed=7)


def _row(*probabilities: float) -> np.ndarray:
    return np.log(np.array(probabilities)).astype(np.float32)


def test_seed_and_draws_are_those_of_the_vectors(vectors):
    entry = vectors["seed"]
    seed = gate_seed(bytes.fromhex(entry["request_id"][2:]), bytes.fromhex(entry["block_randomness"][2:]))
    assert str(seed) == entry["seed"]
    assert [str(draw(seed, index)) for index in range(4)] == entry["u64_draws"]


def test_greedy_takes_the_highest_logit_and_the_lower_id_in_a_tie():
    row = np.array([0, 5, 5, 1], dtype=np.float32)
    assert choose(row, SamplingParams(maxTokens=1), 0, []) == 1


def test_greedy_ignores_what_came_before():
    row = np.array([0, 5, 4], dtype=np.float32)
    assert choose(row, SamplingParams(maxTokens=1), 9, [1, 1, 1]) == 1


def test_the_seeded_sampler_repeats_itself_and_follows_the_distribution():
    row = _row(0.5, 0.3, 0.2)
    drawn = [choose(row, SEEDED, index, []) for index in range(3000)]
    assert drawn == [choose(row, SEEDED, index, []) for index in range(3000)]
    counts = Counter(drawn)
    assert [round(counts[token] / 3000, 1) for token in range(3)] == [0.5, 0.3, 0.2]


def test_the_seeded_sampler_inverts_the_cumulative_distribution():
    row = _row(0.2, 0.5, 0.3)
    for index in range(50):
        u = draw(SEEDED.seed, index) / 2**64
        assert choose(row, SEEDED, index, []) == (1 if u < 0.5 else 2 if u < 0.8 else 0)


@pytest.mark.parametrize(
    ("change", "possible"),
    [({"topK": 1}, {1}), ({"topK": 2}, {1, 2}), ({"topPMilli": 1}, {1}), ({"topPMilli": 600}, {1, 2})],
)
def test_top_k_and_top_p_cut_the_tail(change, possible):
    row = _row(0.1, 0.5, 0.3, 0.1)
    params = msgspec.structs.replace(SEEDED, **change)
    assert {choose(row, params, index, []) for index in range(300)} == possible


def test_the_repetition_penalty_pushes_seen_tokens_down():
    row = np.array([2.0, 1.9, -1.0], dtype=np.float32)
    params = msgspec.structs.replace(SEEDED, repeatPenaltyMilli=2000, topK=1)
    assert choose(row, params, 0, []) == 0
    assert choose(row, params, 0, [0]) == 1


def test_a_low_temperature_approaches_greedy():
    params = msgspec.structs.replace(SEEDED, temperatureMilli=1)
    assert {choose(_row(0.3, 0.4, 0.3), params, index, []) for index in range(100)} == {1}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_is_chosen_from_logits_that_are_no_numbers(bad):
    with pytest.raises(InferenceError, match="nothing is signed"):
        choose(np.array([0, bad], dtype=np.float32), SamplingParams(maxTokens=1), 0, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maxTokens": 0}, "maxTokens = 0 must be between 1 and 4096"),
        ({"maxTokens": 4097}, "maxTokens = 4097"),
        ({"sampler": 2}, "sampler = 2 is unknown"),
        ({"temperatureMilli": 0}, "needs the greedy sampler"),
        ({"topPMilli": 0}, "topPMilli = 0"),
        ({"topPMilli": 1001}, "topPMilli = 1001"),
        ({"repeatPenaltyMilli": 0}, "would divide by zero"),
        ({"sampler": 0}, "temperatureMilli = 1000 must be 0 for greedy"),
        ({"sampler": 0, "temperatureMilli": 0, "topK": 1}, "topK = 1 must be 0"),
        ({"sampler": 0, "temperatureMilli": 0, "topPMilli": 9}, "topPMilli = 9 must be 1000"),
        ({"sampler": 0, "temperatureMilli": 0, "repeatPenaltyMilli": 9}, "must be 1000"),
    ],
)
def test_parameters_out_of_range_are_named(change, message):
    with pytest.raises(InferenceError, match=message):
        check_params(msgspec.structs.replace(SEEDED, **change))


def test_good_parameters_pass():
    check_params(SEEDED)
    check_params(SamplingParams(maxTokens=4096))


# ---------------------------------------------------------------- golden vectors

GOLDEN = msgspec.json.decode(FILE.read_bytes())


def test_the_golden_vectors_are_what_the_definition_gives():
    every_eighth = cases()[::8]
    assert every_eighth == GOLDEN["cases"][::8]
    assert len(GOLDEN["cases"]) == 96


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['row']} {case['params']['seed']}")
def test_the_seeded_sampler_chooses_the_golden_tokens(case):
    row = np.array(GOLDEN["rows"][case["row"]], dtype=np.float32)
    params = SamplingParams(maxTokens=99, sampler=1, **case["params"])
    decided = {index: token for index, token in enumerate(case["tokens"]) if token is not None}
    assert len(decided) >= 20
    chosen = {index: choose(row, params, index, case["context"]) for index in decided}
    assert chosen == decided
    assert all(may_choose(row, params, index, case["context"], token) for index, token in decided.items())


milli = st.integers(1, 3000)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=24),
    st.builds(
        dict,
        temperatureMilli=milli,
        topPMilli=st.integers(1, 1000),
        topK=st.integers(0, 30),
        repeatPenaltyMilli=milli,
        seed=st.integers(0, 2**64 - 1),
    ),
    st.integers(0, 4095),
    st.data(),
)
def test_any_parameters_choose_what_the_definition_gives(row, params, index, data):
    context = data.draw(st.lists(st.integers(0, len(row) - 1), max_size=6))
    token = token_of(row, params, index, context)
    given_params = SamplingParams(maxTokens=9, sampler=1, **params)
    values = np.array(row, dtype=np.float32)
    chosen = choose(values, given_params, index, context)
    assert may_choose(values, given_params, index, context, chosen)
    if token is not None and _orders_clearly(row, params["repeatPenaltyMilli"], context):
        assert chosen == token


def _orders_clearly(row, penalty_milli, context) -> bool:
    """Whether no two logits differ by so little that a penalty in float64 could change their order."""
    penalty = penalty_milli / 1000
    changed = [
        value if token not in context else value / penalty if value > 0 else value * penalty
        for token, value in enumerate(row)
    ]
    ordered = sorted(changed)
    steps = [b - a for a, b in itertools.pairwise(ordered)]
    return all(step == 0 or step > 1e-9 for step in steps) and (not context or all(steps))


# ---------------------------------------------------------------- what an audit accepts


def _on_edge(monkeypatch, offset: float) -> None:
    """Puts the draw beside the edge 0.5 of two equally likely tokens."""
    point = int(2**63 + offset * 2**64)
    monkeypatch.setattr("zerog.inference.sampling.draw", lambda seed, index: point)


EVEN = np.zeros(2, dtype=np.float32)


@pytest.mark.parametrize("offset", [0.0, 4e-13, -4e-13, 9.9e-13, -9.9e-13])
def test_both_neighbours_of_an_edge_within_the_tolerance_are_accepted(monkeypatch, offset):
    _on_edge(monkeypatch, offset)
    assert choose(EVEN, SEEDED, 0, []) == (1 if offset >= 0 else 0)
    assert may_choose(EVEN, SEEDED, 0, [], 0)
    assert may_choose(EVEN, SEEDED, 0, [], 1)


@pytest.mark.parametrize("offset", [1.1e-12, -1.1e-12, 1e-9, -1e-9, 0.3, -0.3])
def test_beyond_the_tolerance_only_the_chosen_token_is_accepted(monkeypatch, offset):
    _on_edge(monkeypatch, offset)
    chosen = choose(EVEN, SEEDED, 0, [])
    assert chosen == (1 if offset > 0 else 0)
    assert may_choose(EVEN, SEEDED, 0, [], chosen)
    assert not may_choose(EVEN, SEEDED, 0, [], 1 - chosen)


def test_tokens_without_weight_on_an_edge_are_accepted_like_their_neighbours(monkeypatch):
    # exp(-2000) is zero: tokens 1 and 2 have intervals of no width at 1.
    monkeypatch.setattr("zerog.inference.sampling.draw", lambda seed, index: 2**64 - 2**12)
    row = np.array([0, -2000, -2000], dtype=np.float32)
    assert choose(row, SEEDED, 0, []) == 0
    assert all(may_choose(row, SEEDED, 0, [], token) for token in range(3))
    monkeypatch.setattr("zerog.inference.sampling.draw", lambda seed, index: 2**63)
    assert not may_choose(row, SEEDED, 0, [], 1)


def test_a_token_cut_off_by_top_k_or_top_p_is_never_accepted():
    row = np.array([3, 2, 1, 0], dtype=np.float32)
    for index in range(200):
        for change in ({"topK": 2}, {"topPMilli": 700}):
            params = msgspec.structs.replace(SEEDED, **change)
            assert not may_choose(row, params, index, [], 2)
            assert not may_choose(row, params, index, [], 3)


def test_an_edge_at_the_end_of_the_sorted_head_is_seen_from_both_sides(monkeypatch):
    # 1,024 equal tokens: the head of 512 ends at 0.5 exactly.
    row = np.zeros(1024, dtype=np.float32)
    for offset, chosen in ((-5e-13, 511), (5e-13, 512)):
        _on_edge(monkeypatch, offset)
        assert choose(row, SEEDED, 0, []) == chosen
        assert {token for token in range(1024) if may_choose(row, SEEDED, 0, [], token)} == {511, 512}


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=2, max_size=9), st.integers(0, 8))
def test_greedy_has_no_tolerance(values, token):
    row = np.array(values, dtype=np.float32)
    accepted = may_choose(row, SamplingParams(maxTokens=1), 0, [], token % len(values))
    assert accepted == (token % len(values) == values.index(max(values)))


@pytest.mark.parametrize("sampler", [0, 1])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_token_is_accepted_from_logits_that_are_no_numbers(sampler, bad):
    params = SEEDED if sampler else SamplingParams(maxTokens=1)
    with pytest.raises(InferenceError, match="nothing is signed"):
        may_choose(np.array([0, bad], dtype=np.float32), params, 0, [], 0)
