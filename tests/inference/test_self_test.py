"""An engine that computes anything else must not sign."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zerog.errors import InferenceError
from zerog.inference.answer import Signatory
from zerog.inference.engines import Generation
from zerog.inference.self_test import reference as packaged_reference
from zerog.inference.self_test import self_test


class Bent:
    """The real engine with one thing changed on its way out."""

    def __init__(self, engine, change=None, prompt=None):
        self._engine, self._change, self._prompt = engine, change, prompt

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def prompt_tokens(self, request):
        return self._prompt or self._engine.prompt_tokens(request)

    def generate(self, request, params, stop_strings=(), **options):
        generation = self._engine.generate(request, params, stop_strings, **options)
        return self._change(generation) if self._change else generation


def _at(index, **changes):
    def change(generation: Generation) -> Generation:
        steps = list(generation.steps)
        steps[index] = replace(steps[index], **changes)
        return replace(generation, steps=tuple(steps))

    return change


def test_the_packaged_reference_is_the_vector(reference):
    packaged = packaged_reference()
    assert packaged.leaves == reference["trace"]["leaves"]
    assert packaged.output_token_ids == reference["output_token_ids"]
    assert packaged.prompt_token_ids == reference["prompt_token_ids"]
    assert packaged.model_sha256 == reference["model"]["sha256"]


def test_other_logits_are_named_by_their_row(engine):
    with pytest.raises(InferenceError, match=r"row 5 has other logits.*nothing will be signed"):
        self_test(Bent(engine, _at(5, row_hash=bytes(32))))


def test_another_token_is_named_by_its_row(engine):
    with pytest.raises(InferenceError, match="row 3 chose token 7, expected 216"):
        self_test(Bent(engine, _at(3, token=7)))


def test_another_tokenizer_is_named(engine):
    with pytest.raises(InferenceError, match="the prompt became the tokens"):
        self_test(Bent(engine, prompt=[1, 2, 3]))


def test_an_early_end_is_named(engine):
    cut = Bent(engine, lambda generation: replace(generation, steps=generation.steps[:4]))
    with pytest.raises(InferenceError, match="row 4 is missing"):
        self_test(cut)


def test_nobody_can_sign_with_an_engine_that_fails(engine, signatory):
    with pytest.raises(InferenceError, match="row 0"):
        Signatory(Bent(engine, _at(0, row_hash=bytes(32))), signatory.key, bytes(20), signatory.domain)
