"""The embedded engine: bit for bit what the exact class promises."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest

from zerog.errors import InferenceError
from zerog.inference.engines import DeterminismClass, EngineCancelled, FinishReason
from zerog.inference.engines.llama_cpp import CONTEXT, LlamaCppEngine, default_threads
from zerog.inference.logits import trace_step
from zerog.inference.receipt import SamplingParams, engine_id
from zerog.inference.self_test import self_test
from zerog.inference.trace import merkle_root, trace_root
from zerog.inference.weights import SMOLLM2, fetch


@pytest.fixture(scope="module")
def generation(engine, reference):
    request = reference["user_prompt"].encode()
    return engine.generate(request, SamplingParams(maxTokens=96))


def test_it_reproduces_the_reference_inference(generation, reference):
    assert generation.tokens == reference["output_token_ids"]
    assert generation.output.decode() == reference["output_text"]
    assert generation.prompt_tokens == len(reference["prompt_token_ids"])
    assert generation.finish is FinishReason.LENGTH


def test_it_commits_to_the_reference_trace(generation, reference):
    trace = reference["trace"]
    leaves = [step.leaf(index) for index, step in enumerate(generation.steps)]
    assert ["0x" + leaf.hex() for leaf in leaves] == trace["leaves"]
    assert "0x" + trace_root(generation.steps).hex() == trace["trace_root"]
    assert "0x" + merkle_root(leaves[:8]).hex() == trace["trace_root_of_first_8_leaves"]


def test_one_prefill_gives_the_rows_of_the_decode_bit_for_bit(engine, generation, reference):
    rows = list(engine.replay(reference["user_prompt"].encode(), generation.tokens))
    digest = hashlib.sha256(b"".join(row.tobytes() for row in rows)).hexdigest()
    assert digest == reference["all_rows_sha256"]
    again = [trace_step(token, row) for token, row in zip(generation.tokens, rows, strict=True)]
    assert tuple(again) == generation.steps


def test_the_prompt_becomes_the_reference_tokens(engine, reference):
    request = reference["user_prompt"].encode()
    assert engine.prompt_tokens(request) == reference["prompt_token_ids"]


def test_model_and_engine_are_those_of_the_vectors(engine, vectors):
    assert "0x" + engine_id(engine.description).hex() == vectors["engine"]["engine_id"]
    expected = vectors["models"]["chatml_without_system_turn"]["model_id"]
    assert "0x" + engine.model_id.hex() == expected
    assert engine.determinism is DeterminismClass.EXACT


def test_it_passes_its_self_test(engine):
    self_test(engine)


def test_an_earlier_answer_leaves_no_trace_in_the_next(engine):
    params = SamplingParams(maxTokens=6)
    first = engine.generate(b"Name a fruit.", params)
    engine.generate(b"Something entirely different, and longer than before.", params)
    assert engine.generate(b"Name a fruit.", params) == first


def test_the_ending_token_is_the_last_leaf_and_not_in_the_output(engine):
    generation = engine.generate(b"Say only: hi", SamplingParams(maxTokens=200))
    assert generation.finish is FinishReason.END_TOKEN
    assert b"<|im_end|>" not in generation.output
    assert engine.ending(generation.tokens[:-1], SamplingParams(maxTokens=200), ()) is None


def test_a_stop_string_ends_the_answer_before_it(engine, reference):
    request = reference["user_prompt"].encode()
    generation = engine.generate(request, SamplingParams(maxTokens=96), ["brilliant", "never"])
    assert generation.finish is FinishReason.STOP_STRING
    assert generation.output == b"In the year 2023, a "


def test_output_bytes_survive_a_cut_inside_a_character(engine):
    generation = engine.generate("Repeat after me: 🎉🎉🎉🎉".encode(), SamplingParams(maxTokens=40))
    whole = generation.output.decode(errors="ignore").encode()
    assert generation.output.startswith(whole)
    assert len(generation.output) - len(whole) < 4


def test_the_seeded_sampler_runs_on_real_logits(engine):
    params = SamplingParams(maxTokens=8, temperatureMilli=1500, sampler=1, seed=1)
    other = SamplingParams(maxTokens=8, temperatureMilli=1500, sampler=1, seed=2)
    first = engine.generate(b"Tell me something.", params)
    assert engine.generate(b"Tell me something.", params) == first
    assert engine.generate(b"Tell me something.", other).tokens != first.tokens


@pytest.mark.parametrize("size", [511, 520])
def test_replay_is_exact_beyond_a_context_of_512(engine, size):
    request = ("word " * (size - 40)).encode()
    generation = engine.generate(request, SamplingParams(maxTokens=40))
    assert generation.prompt_tokens + len(generation.tokens) > 480
    rows = engine.replay(request, generation.tokens)
    for step, row in zip(generation.steps, rows, strict=True):
        assert trace_step(step.token, row) == step


def test_a_request_beyond_the_context_is_refused(engine):
    with pytest.raises(InferenceError, match=f"exceed the context of {CONTEXT} tokens"):
        engine.generate(b"word " * 2000, SamplingParams(maxTokens=100))
    with pytest.raises(InferenceError, match="exceed the context"):
        list(engine.replay(b"hi", [5] * CONTEXT))


def test_a_control_token_in_the_request_is_refused(engine):
    with pytest.raises(InferenceError, match="control token '<|im_end|>'".replace("|", r"\|")):
        engine.generate(b"hi<|im_end|>", SamplingParams(maxTokens=1))


@pytest.mark.parametrize("token", [-1, 49152])
def test_a_token_outside_the_vocabulary_is_refused(engine, token):
    with pytest.raises(InferenceError, match=f"token {token} is outside the vocabulary of 49152"):
        list(engine.replay(b"hi", [5, token]))


def test_replaying_nothing_gives_nothing(engine):
    assert list(engine.replay(b"hi", [])) == []


def test_concurrent_requests_do_not_mix(engine):
    params = SamplingParams(maxTokens=6)
    questions = [b"Name a fruit.", b"Name a city.", b"Name a river."]
    alone = [engine.generate(question, params) for question in questions]
    together: dict[int, object] = {}

    def ask(index: int) -> None:
        together[index] = engine.generate(questions[index], params)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[index] for index in range(3)] == alone


def test_an_interrupted_generation_ends_with_an_error():
    own = LlamaCppEngine(fetch(SMOLLM2))
    failures: list[str] = []

    def ask() -> None:
        try:
            own.generate(b"Count as far as you can.", SamplingParams(maxTokens=1500))
        except InferenceError as error:
            failures.append(error.message)

    worker = threading.Thread(target=ask)
    worker.start()
    own.interrupt()
    worker.join(60)
    own.close()
    assert failures == ["the engine was interrupted"]


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(InferenceError, match=r"no weights at .*nothing\.gguf"):
        LlamaCppEngine(tmp_path / "nothing.gguf")


def test_a_broken_weights_file_is_named(tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF but not really")
    with pytest.raises(InferenceError, match=r"broken\.gguf is not the weights of SmolLM2"):
        LlamaCppEngine(path)
    with pytest.raises(InferenceError, match=r"cannot load .*broken\.gguf"):
        LlamaCppEngine(path, unchecked=True)


@pytest.mark.parametrize(("cores", "threads"), [(None, 1), (1, 1), (2, 1), (8, 7)])
def test_one_core_stays_free(cores, threads):
    assert default_threads(cores) == threads


def test_rows_are_float32_of_the_vocabulary(engine):
    (row,) = engine.replay(b"hi", [5])
    assert row.dtype == np.float32
    assert row.shape == (49152,)


def test_pieces_of_the_output_are_the_output(engine, reference):
    pieces: list[bytes] = []
    generation = engine.generate(
        reference["user_prompt"].encode(), SamplingParams(maxTokens=40), on_text=pieces.append
    )
    assert b"".join(pieces) == generation.output
    assert len(pieces) > 20


def test_a_cancelled_generation_says_so(engine):
    cancelled = threading.Event()

    def stop(piece: bytes) -> None:
        cancelled.set()

    with pytest.raises(EngineCancelled, match="was cancelled"):
        engine.generate(b"Count.", SamplingParams(maxTokens=900), on_text=stop, cancelled=cancelled)


def test_a_replay_can_begin_at_a_later_leaf(engine, generation, reference):
    request = reference["user_prompt"].encode()
    rows = list(engine.replay(request, generation.tokens, first=90))
    for step, row in zip(generation.steps[90:], rows, strict=True):
        assert trace_step(step.token, row) == step
    assert list(engine.replay(request, generation.tokens, first=96)) == []


@pytest.mark.parametrize("stops", [("brilliant", "never"), ("a ", "2023, a"), ("zzz",)])
def test_the_end_is_found_at_the_same_token_whichever_prefix_is_asked_for(engine, reference, stops):
    request, params = reference["user_prompt"].encode(), SamplingParams(maxTokens=40)
    made = engine.generate(request, params, stops)
    found = [engine.ending(made.tokens[:count], params, stops) for count in range(1, len(made.tokens) + 1)]
    assert found == [None] * (len(found) - 1) + [(made.output, made.finish)]


def test_looking_for_the_end_reads_only_as_far_back_as_a_stop_string_reaches(engine, generation, monkeypatch):
    asked = []
    piece = engine._weights.piece
    monkeypatch.setattr(engine._weights, "piece", lambda token: asked.append(token) or piece(token))
    assert engine.ending(generation.tokens[:90], SamplingParams(maxTokens=96), ("@@@@@@@@",)) is None
    assert len(asked) <= 9
