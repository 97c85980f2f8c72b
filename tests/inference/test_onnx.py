"""Embeddings and classifiers through ONNX Runtime: the same bits every time, and receipts anyone can repeat."""

from __future__ import annotations

import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.inference.conftest import DOMAIN, NOW

from zerog.client import Account
from zerog.errors import EngineBusy, EngineCancelled, InferenceError
from zerog.inference.answer import Inquiry, Signatory
from zerog.inference.embedding import MAX_INPUTS, decode_vectors, encode_vectors, neutral_params
from zerog.inference.engines.onnx import (
    RAW_OUTPUT,
    OnnxEngine,
    OnnxModel,
    Reference,
    identify,
    minilm,
    reference_of,
)
from zerog.inference.receipt import SamplingParams
from zerog.inference.transcript import SignedTranscript, Transcript, decode_canonical
from zerog.inference.transcript_file import decode_transcript, encode_transcript
from zerog.inference.verification import (
    NO_LEAF,
    CannotCompare,
    check_execution,
    check_transcript,
    find_fault,
)

TEXTS = ["A cat sits on the mat.", "A kitten rests on a rug.", "Stock prices fell sharply."]


@pytest.fixture(scope="module")
def embedder() -> OnnxEngine:
    return OnnxEngine(minilm())


@pytest.fixture(scope="module")
def signed(embedder: OnnxEngine) -> SignedTranscript:
    return sign(embedder, request(*TEXTS), len(TEXTS))


def request(*inputs: Any) -> bytes:
    return json.dumps({"input": list(inputs)}).encode()


def sign(engine: OnnxEngine, body: bytes, count: int) -> SignedTranscript:
    account = Account.random()
    signatory = Signatory(engine, account.key, bytes.fromhex(account.address[2:]), DOMAIN)
    inquiry = Inquiry(bytes(31) + b"\x02", bytes(20), body, neutral_params(count))
    return signatory.signed_transcript(signatory.answer(inquiry, NOW))


def changed(transcript: Transcript, index: int, **members: Any) -> Transcript:
    steps = list(transcript.steps)
    steps[index] = dataclasses.replace(steps[index], **members)
    return dataclasses.replace(transcript, steps=tuple(steps))


def classifier(
    folder: Path, weights: list[list[float]], operator: str = "Identity", known: bool = True
) -> OnnxModel:
    """A model file with one matrix, as a user would bring it; its reference is what it gives here."""
    matrix = np.array(weights, dtype=np.float32)
    nodes = [
        helper.make_node("MatMul", ["features", "matrix"], ["product"]),
        helper.make_node(operator, ["product"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, matrix.shape[0]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, matrix.shape[1]])],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    path = folder / f"{operator}-{abs(hash(matrix.tobytes()))}.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, str(path))
    model = OnnxModel(path, identify("spam", path, None, RAW_OUTPUT, "f32"))
    if not known:
        return model
    return dataclasses.replace(model, reference=reference_of(OnnxEngine(model), [(1.0, 2.0, 3.0)]))


# Vectors.


def test_this_machine_reproduces_the_known_vectors(embedder):
    embedder.self_test()


def test_similar_texts_have_near_vectors_of_length_one(embedder):
    cat, kitten, stocks = embedder.embed(TEXTS)
    assert cat.dtype == np.float32 and cat.shape == (384,)
    assert abs(float(np.linalg.norm(cat)) - 1) < 1e-6
    assert cat @ kitten > 0.5 > 0.2 > cat @ stocks


def test_a_vector_depends_on_no_other_input_and_no_other_thread(embedder):
    alone = {text: embedder.embed([text])[0].tobytes() for text in TEXTS}
    with ThreadPoolExecutor(4) as pool:
        orders = [TEXTS, TEXTS[::-1], TEXTS[1:] * 3, [TEXTS[2]]] * 3
        for order, found in zip(orders, pool.map(embedder.embed, orders), strict=True):
            assert [vector.tobytes() for vector in found] == [alone[text] for text in order]


def test_the_output_is_canonical_and_has_a_leaf_an_input(embedder):
    generation = embedder.generate(request(*TEXTS), neutral_params(3))
    vectors = decode_vectors(generation.output)
    assert generation.output == encode_vectors(vectors)
    assert len(generation.output) == 8 + 3 * 384 * 4
    assert generation.tokens == [0, 1, 2]
    assert generation.prompt_tokens == len(embedder.prompt_tokens(request(*TEXTS)))
    for step, vector in zip(generation.steps, vectors, strict=True):
        largest = [dimension for dimension, _ in step.pairs]
        assert largest == sorted(range(384), key=lambda i: (-vector[i], i))[:8]


def test_plain_text_is_one_input(embedder):
    plain = embedder.generate(TEXTS[0].encode(), neutral_params(1))
    assert plain.output == embedder.generate(request(TEXTS[0]), neutral_params(1)).output


# Receipts.


def test_a_receipt_over_vectors_can_be_repeated_by_anyone(signed, embedder):
    again = decode_transcript(encode_transcript(signed))
    assert again == signed
    checks = check_transcript(again) + check_execution(again, embedder)
    assert [check for check in checks if not check.passed] == []
    data = signed.transcript.canonical_bytes()
    assert find_fault(decode_canonical(data), embedder, receipt=signed.receipt) is None
    assert (signed.receipt.outputTokens, signed.receipt.tier) == (3, 0)


@pytest.mark.parametrize("index", [0, 2])
def test_a_forged_vector_is_found_at_its_leaf(signed, embedder, index):
    fault = find_fault(changed(signed.transcript, index, row_hash=bytes(32)), embedder)
    assert fault is not None and fault.index == index and "vector" in fault.reason


def test_forged_components_and_foreign_leaves_are_found(signed, embedder):
    pairs = signed.transcript.steps[1].pairs
    lied = changed(signed.transcript, 1, pairs=((pairs[0][0], pairs[0][1] + 1), *pairs[1:]))
    assert "largest components are not" in str(find_fault(lied, embedder))
    assert "is of input 0" in str(find_fault(changed(signed.transcript, 2, token=0), embedder))


def test_a_vector_is_no_excuse_behind_the_first_leaf_looked_at(signed, embedder):
    lied = changed(signed.transcript, 0, row_hash=bytes(32))
    assert find_fault(lied, embedder, 1) is None


def test_an_output_with_another_bit_is_found(signed, embedder):
    output = bytearray(signed.transcript.output)
    output[-1] ^= 1
    fault = find_fault(dataclasses.replace(signed.transcript, output=bytes(output)), embedder)
    assert fault is not None and fault.index == NO_LEAF and "other vectors" in fault.reason


def test_a_missing_vector_is_found(signed, embedder):
    short = dataclasses.replace(signed.transcript, steps=signed.transcript.steps[:2])
    fault = find_fault(short, embedder)
    assert fault is not None and fault.index == 2


def test_vectors_of_another_model_cannot_be_compared(signed, tmp_path):
    with pytest.raises(CannotCompare, match="has the model"):
        find_fault(signed.transcript, OnnxEngine(classifier(tmp_path, [[1.0], [2.0], [3.0]])))


# The self-test.


def test_an_engine_that_gives_other_vectors_does_not_sign():
    model = minilm()
    assert model.reference is not None
    rows = [*model.reference.rows[:-1], "0x" + "11" * 32]
    other = dataclasses.replace(model, reference=Reference(model.reference.inputs, rows))
    with pytest.raises(InferenceError, match="vector 2 is another one than the reference"):
        sign(OnnxEngine(other), b"Hi", 1)


def test_a_model_without_a_known_vector_does_not_sign(tmp_path):
    engine = OnnxEngine(classifier(tmp_path, [[1.0], [2.0], [3.0]], known=False))
    assert engine.embed([(1.0, 2.0, 3.0)])[0].tolist() == [14.0]
    with pytest.raises(InferenceError, match="no vector of spam is known"):
        sign(engine, request([1.0, 2.0, 3.0]), 1)


# Classifiers.


def test_a_classifier_is_signed_and_repeated(tmp_path):
    model = classifier(tmp_path, [[0.5, -1.0], [0.25, 2.0], [-0.125, 0.0]])
    engine = OnnxEngine(model)
    signed = sign(engine, request([1, 2, 4], [0, 1, 0]), 2)
    assert [v.tolist() for v in decode_vectors(signed.transcript.output)] == [[0.5, 3.0], [0.25, 2.0]]
    checks = check_transcript(signed) + check_execution(signed, OnnxEngine(model))
    assert [check for check in checks if not check.passed] == []
    assert decode_canonical(signed.transcript.canonical_bytes()) == signed.transcript


def test_a_classifier_with_other_weights_is_another_model(tmp_path):
    honest = OnnxEngine(classifier(tmp_path, [[1.0], [2.0], [3.0]]))
    signed = sign(OnnxEngine(classifier(tmp_path, [[1.0], [2.0], [3.5]])), request([1, 1, 1]), 1)
    with pytest.raises(CannotCompare):
        find_fault(signed.transcript, honest)
    posed = dataclasses.replace(signed.transcript, model=dataclasses.replace(honest.model, uri=""))
    assert "vector 0 differs" in str(find_fault(posed, honest))


def test_nothing_is_signed_that_is_not_a_number(tmp_path):
    engine = OnnxEngine(classifier(tmp_path, [[1.0], [1.0], [1.0]], "Log"))
    with pytest.raises(InferenceError, match="nothing is signed"):
        engine.generate(request([-1, 0, 0]), neutral_params(1))
    assert engine.generate(request([1, 1, 1]), neutral_params(1)).steps


# Bad input.


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "input 0 is empty"),
        (b"\xff", "not UTF-8 at byte 0"),
        (request(), "0 inputs, allowed are 1"),
        (request(*["a"] * (MAX_INPUTS + 1)), "257 inputs"),
        (request("a", " "), "input 1 is empty"),
        (request("a", None), "input 1 is neither a text nor"),
        (request([1, 2]), "reads texts, not numbers"),
        (request("word " * 600), "602 tokens, more than the limit of 512"),
        (b"x" * 40_000, "more than the limit of 32768"),
    ],
)
def test_bad_requests_are_refused_by_name(embedder, body, reason):
    with pytest.raises(InferenceError, match=reason):
        embedder.generate(body, neutral_params(MAX_INPUTS + 1))


def test_numbers_beyond_float32_are_refused(tmp_path):
    engine = OnnxEngine(classifier(tmp_path, [[1.0], [1.0], [1.0]]))
    for body in (request([1e300, 0, 0]), b'{"input": [[1, 2, true]]}', b'{"input": [[]]}'):
        with pytest.raises(InferenceError, match="input 0 is neither"):
            engine.generate(body, neutral_params(1))
    with pytest.raises(InferenceError, match="ONNX Runtime cannot run spam"):
        engine.generate(request([1, 2]), neutral_params(1))


def test_sampling_and_too_few_leaves_are_refused(embedder):
    with pytest.raises(InferenceError, match="vectors are not sampled"):
        embedder.generate(b"Hi", SamplingParams(maxTokens=1, seed=4))
    with pytest.raises(InferenceError, match="maxTokens of at least 3"):
        embedder.generate(request(*TEXTS), neutral_params(2))
    with pytest.raises(InferenceError, match="no stop strings"):
        embedder.generate(b"Hi", neutral_params(1), ("a",))


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(InferenceError, match="cannot load"):
        OnnxEngine(OnnxModel(path, identify("broken", path, None, RAW_OUTPUT, "f32")))


def test_a_cancelled_request_ends_and_a_full_queue_refuses(tmp_path):
    engine = OnnxEngine(classifier(tmp_path, [[1.0], [1.0], [1.0]]), queue=0)
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(EngineCancelled):
        engine.generate(request([1, 1, 1]), neutral_params(1), cancelled=cancelled)
    with engine._place(), pytest.raises(EngineBusy):
        engine.embed([(1.0, 1.0, 1.0)])
    assert engine.embed([(1.0, 1.0, 1.0)])[0].tolist() == [3.0]


@pytest.mark.parametrize("output", [b"", bytes(8), encode_vectors([np.ones(2, np.float32)]) + b"\0"])
def test_output_that_is_not_canonical_is_refused(output):
    with pytest.raises(InferenceError, match="the output"):
        decode_vectors(output)


def test_a_vector_outlives_its_encoding():
    vector = np.array([1.5, -2.25], dtype=np.float32)
    (again,) = decode_vectors(encode_vectors([vector]))
    assert again.tobytes() == vector.tobytes()
    assert msgspec.json.encode(again.tolist()) == b"[1.5,-2.25]"
