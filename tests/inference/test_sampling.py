"""The deterministic samplers."""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import numpy as np
import pytest

from zerog.errors import InferenceError
from zerog.inference.receipt import SamplingParams
from zerog.inference.sampling import check_params, choose, draw, gate_seed

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
