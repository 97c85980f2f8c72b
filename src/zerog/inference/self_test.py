"""The check that an engine on this machine computes what the exact class promises.

A known answer with the commitment to every one of its logit rows is part of the package. A provider
whose machine produces anything else must not sign: honest or not, an audit would find it wrong.
"""

from __future__ import annotations

from importlib import resources

import msgspec

from zerog.errors import InferenceError
from zerog.inference.engines import Engine
from zerog.inference.receipt import SamplingParams

QUICK_ROWS = 8
"""Rows that are compared at every start; the whole vector is compared in the test suite."""


class Reference(msgspec.Struct, frozen=True):
    """The known answer; hashes are 0x-hexadecimal."""

    model_sha256: str
    user_prompt: str
    prompt_token_ids: list[int]
    output_token_ids: list[int]
    output_text: str
    leaves: list[str]
    trace_root: str


def reference() -> Reference:
    """The reference inference of SmolLM2-135M-Instruct Q4_1."""
    data = (resources.files("zerog.inference") / "data" / "reference_inference.json").read_bytes()
    return msgspec.json.decode(data, type=Reference)


def self_test(engine: Engine, rows: int = QUICK_ROWS) -> None:
    """Reproduces the first ``rows`` rows of the reference inference.

    Raises
    ------
    InferenceError : prompt tokens, a chosen token or a row differ; names the first.
    """
    own = getattr(engine, "self_test", None)
    if own is not None:
        # Another kind of engine knows what it has to reproduce.
        own()
        return
    known = reference()
    request = known.user_prompt.encode()
    prompt = engine.prompt_tokens(request)
    if prompt != known.prompt_token_ids:
        raise InferenceError(
            f"self-test: the prompt became the tokens {prompt}, expected {known.prompt_token_ids}",
            hint="the tokenizer or template is another one: nothing will be signed",
        )
    generation = engine.generate(request, SamplingParams(maxTokens=rows))
    for index, step in enumerate(generation.steps):
        if step.token != known.output_token_ids[index]:
            _fail(index, f"chose token {step.token}, expected {known.output_token_ids[index]}")
        if "0x" + step.leaf(index).hex() != known.leaves[index]:
            _fail(index, "has other logits than the reference")
    if len(generation.steps) < rows:
        _fail(len(generation.steps), "is missing: the generation ended early")


def _fail(index: int, what: str) -> None:
    raise InferenceError(
        f"self-test: row {index} {what}",
        hint="this machine does not reproduce the exact class: nothing will be signed",
    )
