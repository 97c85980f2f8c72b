"""The check that an engine on this machine computes what the exact class promises.

A known answer with the commitment to every one of its logit rows is part of the package. A provider
whose machine produces anything else must not sign: honest or not, an audit would find it wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources

import msgspec

from zerog.errors import InferenceError
from zerog.inference.engines import Engine
from zerog.inference.logits import trace_step
from zerog.inference.models import DEFAULT_MODEL, id_of
from zerog.inference.receipt import SamplingParams

LONG_CONTEXT = 512
"""Tokens of context that the long prompt of `exactness` exceeds."""
QUESTIONS = ("Name three colours.", "What is 17 + 25?", "Write a short story about a lighthouse.")
"""What `exactness` asks."""
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
    """Reproduces the first ``rows`` rows of the reference inference; of another model, `exactness` of as many.

    Raises
    ------
    InferenceError : prompt tokens, a chosen token or a row differ; names the first.
    """
    own = getattr(engine, "self_test", None)
    if own is not None:
        # Another kind of engine knows what it has to reproduce.
        own()
        return
    if engine.model_id != id_of(DEFAULT_MODEL):
        # Nobody has a known answer of a model that a user added.
        exactness(engine, QUESTIONS[:1], rows)
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


@dataclass(frozen=True, slots=True)
class Exactness:
    """What was compared: rows in all, and the longest context in tokens."""

    rows: int
    context: int


def full_exactness(engine: Engine, rows: int = 32) -> Exactness:
    """`exactness` over all questions, and one with more than `LONG_CONTEXT` tokens of context.

    Raises
    ------
    InferenceError : as `exactness`.
    """
    return exactness(engine, (*QUESTIONS, _long_question(engine)), rows)


def exactness(engine: Engine, questions: Sequence[str], rows: int) -> Exactness:
    """Generates answers, all at the same time, then computes each again by one prefill: every row must agree.

    That is what the exact class promises and what audits rely on. It is known of architectures of
    llama.cpp that were measured, not of all: experts and recurrent layers may add in another order.

    Raises
    ------
    InferenceError : a row or token differs; names the first. Or the engine cannot answer.
    """
    params = SamplingParams(maxTokens=rows)
    with ThreadPoolExecutor(len(questions), thread_name_prefix="zerog-self-test") as pool:
        answers = list(pool.map(lambda question: engine.generate(question.encode(), params), questions))
    compared = longest = 0
    for question, answer in zip(questions, answers, strict=True):
        again = engine.replay(question.encode(), answer.tokens)
        for index, (step, row) in enumerate(zip(answer.steps, again, strict=True)):
            if trace_step(step.token, row).leaf(index) != step.leaf(index):
                raise InferenceError(
                    f"self-test: generating and checking differ in row {index} of the answer to {question[:40]!r}",
                    hint="audits would find honest answers wrong: nothing will be signed with this model",
                )
        compared += len(answer.steps)
        longest = max(longest, answer.prompt_tokens + len(answer.steps))
    return Exactness(compared, longest)


def _long_question(engine: Engine) -> str:
    """A question of more than `LONG_CONTEXT` tokens, as far as the model's context allows."""
    line = "Mix red and blue to get violet; item %d has another shade. "
    room = getattr(engine, "context_length", LONG_CONTEXT * 2) - 64
    lines: list[str] = []
    while True:
        longer = [*lines, *(line % number for number in range(len(lines), len(lines) + 8))]
        tokens = len(engine.prompt_tokens("".join(longer).encode()))
        if tokens > room:
            return "".join(lines) or QUESTIONS[0]
        lines = longer
        if tokens > LONG_CONTEXT:
            return "".join(lines)


def _fail(index: int, what: str) -> None:
    raise InferenceError(
        f"self-test: row {index} {what}",
        hint="this machine does not reproduce the exact class: nothing will be signed",
    )
