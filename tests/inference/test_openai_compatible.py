"""The engine for OpenAI-compatible servers against a real one: llama.cpp's server with the default model."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec
import pytest
from tests.inference.model_server import model_server

from zerog.errors import EngineCancelled, InferenceError, UpstreamRefused
from zerog.inference.engines import DeterminismClass, FinishReason
from zerog.inference.engines.openai_compatible import OpenAICompatibleEngine
from zerog.inference.engines.upstream_http import endpoint
from zerog.inference.engines.vocabulary import GgufVocabulary
from zerog.inference.models import DEFAULT_MODEL
from zerog.inference.receipt import SamplingParams
from zerog.inference.tolerance import UNREPORTED, tolerant_fault
from zerog.inference.trace import QUANTUM
from zerog.inference.weights import SMOLLM2, fetch

KEY = "key-of-the-test"


class Answer(msgspec.Struct):
    """What tolerant_fault looks at, of a generation."""

    request: bytes
    params: SamplingParams
    stop_strings: tuple[str, ...]
    output: bytes
    steps: tuple
    engine: str = "openai-compatible/test/logprobs=reported"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """URL of a server on other kernels than the embedded engine's."""
    with model_server(fetch(SMOLLM2), KEY) as url:
        yield url


@pytest.fixture(scope="module")
def vocabulary() -> GgufVocabulary:
    return GgufVocabulary(fetch(SMOLLM2))


@pytest.fixture(scope="module")
def upstream(address, vocabulary) -> OpenAICompatibleEngine:
    return OpenAICompatibleEngine(endpoint(address, KEY), "default", DEFAULT_MODEL, vocabulary=vocabulary)


def test_the_engine_says_what_its_traces_are(upstream):
    assert upstream.description == (
        "openai-compatible/server=llama-server/prompt=tokens/sampler=greedy/logprobs=reported"
    )
    assert upstream.determinism is DeterminismClass.TOLERANT


def test_an_answer_streams_and_has_a_step_a_token(upstream, engine):
    pieces: list[bytes] = []
    params = SamplingParams(maxTokens=40)
    generation = upstream.generate(b"What is the capital of France?", params, on_text=pieces.append)
    assert b"Paris" in generation.output
    assert b"".join(pieces) == generation.output and len(pieces) > 1
    assert generation.finish is FinishReason.END_TOKEN
    assert generation.prompt_tokens == len(engine.prompt_tokens(b"What is the capital of France?"))
    assert engine.ending(generation.tokens, params, ()) == (generation.output, generation.finish)
    assert all(step.row_hash == bytes(32) for step in generation.steps)


def test_an_honest_answer_passes_the_embedded_engine(upstream, engine):
    params = SamplingParams(maxTokens=32)
    request = b"Explain how rain forms."
    generation = upstream.generate(request, params)
    answer = Answer(request, params, (), generation.output, generation.steps)
    assert tolerant_fault(answer, engine) is None


@pytest.mark.parametrize("shift", [QUANTUM, -QUANTUM])
def test_shifted_log_probabilities_are_found(upstream, engine, shift):
    params = SamplingParams(maxTokens=24)
    generation = upstream.generate(b"Tell me about the sea.", params)
    steps = tuple(
        type(step)(
            step.token,
            step.row_hash,
            (step.pairs[0], *((token, min(q + shift, step.pairs[0][1])) for token, q in step.pairs[1:])),
        )
        for step in generation.steps
    )
    assert tolerant_fault(Answer(b"Tell me about the sea.", params, (), generation.output, steps), engine)


def test_a_character_of_several_tokens_has_all_of_them(upstream, engine):
    request, params = "Repeat after me: 🎉🎉🎉🎉".encode(), SamplingParams(maxTokens=39)
    generation = upstream.generate(request, params)
    assert "🎉".encode() in generation.output
    assert any(step.pairs == UNREPORTED for step in generation.steps)
    answer = Answer(request, params, (), generation.output, generation.steps)
    assert tolerant_fault(answer, engine) is None


def test_a_stop_string_ends_the_answer_at_its_token(upstream, engine):
    params = SamplingParams(maxTokens=60)
    pieces: list[bytes] = []
    generation = upstream.generate(b"Name a colour.", params, (" the", "is"), on_text=pieces.append)
    assert generation.finish is FinishReason.STOP_STRING
    assert engine.ending(generation.tokens, params, (" the", "is")) == (
        generation.output,
        FinishReason.STOP_STRING,
    )
    assert b"".join(pieces) == generation.output


def test_the_chat_route_serves_models_whose_template_is_the_servers(address):
    chat = OpenAICompatibleEngine(endpoint(address, KEY), "default", DEFAULT_MODEL)
    assert "prompt=chat" in chat.description
    generation = chat.generate(b"What is the capital of France?", SamplingParams(maxTokens=8))
    assert generation.output and generation.prompt_tokens > 0 and generation.steps


def test_cancelling_closes_the_connection_and_frees_the_place(address, vocabulary):
    one = OpenAICompatibleEngine(
        endpoint(address, KEY), "default", DEFAULT_MODEL, vocabulary=vocabulary, concurrency=1
    )
    cancelled = threading.Event()
    with pytest.raises(EngineCancelled):
        one.generate(
            b"Count as far as you can.",
            SamplingParams(maxTokens=1500),
            on_text=lambda piece: cancelled.set(),
            cancelled=cancelled,
        )
    assert one.generate(b"Hi", SamplingParams(maxTokens=2)).output


def test_a_wrong_key_is_refused_and_not_shown(address):
    with pytest.raises(UpstreamRefused) as failure:
        OpenAICompatibleEngine(endpoint(address, "wrong-secret"), "default", DEFAULT_MODEL)
    assert failure.value.status == 401
    assert "wrong-secret" not in str(failure.value)


def test_only_the_greedy_sampler_is_served(upstream):
    with pytest.raises(InferenceError, match="only the greedy sampler"):
        upstream.generate(b"Hi", SamplingParams(maxTokens=2, temperatureMilli=700, sampler=1))


def test_a_server_cannot_replay(upstream):
    with pytest.raises(InferenceError, match="cannot replay"):
        upstream.replay(b"Hi", [1])
