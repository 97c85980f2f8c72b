"""Every cheat is found by re-execution, with the leaf where it begins; an honest answer never is."""

from __future__ import annotations

import os

import pytest

from zerog.errors import InferenceError
from zerog.inference.answer import Domain, Inquiry
from zerog.inference.audit.cheating import Liar, cheat_params
from zerog.inference.audit.cheats import DESCRIPTIONS, cheat
from zerog.inference.audit.execution import judge
from zerog.inference.receipt import AuditVote
from zerog.inference.weights import SMOLLM2, fetch

KEY = b"\x01" * 32
DOMAIN = Domain(31337, b"\x02" * 20)
PROMPTS = (
    b"Name three colours.",
    b"Describe how a bridge carries its load.",
    b"Write a poem about the sea and the wind.",
    b"Explain what a prime number is to a child.",
    b"List the planets in order of their distance from the sun.",
)
FEW = PROMPTS[: int(os.environ.get("ZEROG_CHEAT_PROMPTS", "1"))]


def answered(engine, trick, prompt, tokens=16):
    liar = Liar(engine, KEY, bytes(20), DOMAIN)
    return liar.answer(Inquiry(bytes(32), bytes(20), prompt, cheat_params(trick, tokens)), 1)


def caught(honest, trick, prompt):
    engine = cheat(trick, honest, fetch(SMOLLM2))
    try:
        answer = answered(engine, trick, prompt)
    finally:
        engine.close()
    return judge(answer.transcript, answer.receipt, honest), answer


@pytest.mark.parametrize("trick", DESCRIPTIONS)
@pytest.mark.parametrize("prompt", FEW)
def test_a_cheat_is_found(engine, trick, prompt):
    finding, _ = caught(engine, trick, prompt)
    assert finding.verdict == AuditVote.BAD
    assert finding.reason


@pytest.mark.soak
@pytest.mark.parametrize("trick", DESCRIPTIONS)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_cheat_is_found_whatever_the_question(engine, trick, prompt):
    finding, _ = caught(engine, trick, prompt)
    assert finding.verdict == AuditVote.BAD


@pytest.mark.parametrize("trick", ["tamper", "other-seed"])
def test_an_honest_answer_is_good(engine, trick):
    answer = answered(engine, trick, PROMPTS[1])
    assert judge(answer.transcript, answer.receipt, engine).good


def test_the_leaf_where_a_change_begins_is_named(engine):
    finding, answer = caught(engine, "tamper", PROMPTS[0])
    honest = engine.generate(PROMPTS[0], cheat_params("tamper", 16))
    same = [a.token == b for a, b in zip(answer.transcript.steps, honest.tokens, strict=False)]
    assert finding.bad_index == same.index(False)


def test_an_escalated_committee_that_starts_at_the_bad_leaf_finds_it(engine):
    finding, answer = caught(engine, "logit", PROMPTS[0])
    again = judge(answer.transcript, answer.receipt, engine, finding.bad_index)
    assert (again.verdict, again.bad_index) == (AuditVote.BAD, finding.bad_index)


def test_a_leaf_behind_the_lie_does_not_whitewash_it(engine):
    finding, answer = caught(engine, "tamper", PROMPTS[1])
    later = len(answer.transcript.steps) - 1
    assert finding.bad_index < later
    again = judge(answer.transcript, answer.receipt, engine, later)
    assert again == finding


def test_an_unknown_cheat_is_refused_with_the_known_ones(engine):
    with pytest.raises(InferenceError, match=r"no cheat 'magic'.*q4_0"):
        cheat("magic", engine, fetch(SMOLLM2))


def test_a_greedy_answer_has_no_seed_to_change(engine):
    with pytest.raises(InferenceError, match="no seed"):
        cheat("other-seed", engine, fetch(SMOLLM2)).generate(PROMPTS[0], cheat_params("tamper", 4))
