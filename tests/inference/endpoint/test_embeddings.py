"""The embeddings route over real sockets: OpenAI's form, its client, and receipts anyone can repeat."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import openai
import pytest
from tests.inference.endpoint.conftest import Endpoint, Reply, embedder

from zerog.chain.keys import keccak256
from zerog.inference.embedding import decode_vectors, encode_vectors
from zerog.inference.endpoint import EndpointService, EndpointSettings
from zerog.inference.engine_host import EngineHost
from zerog.inference.models import MINILM_MODEL, ONNX_ENGINE
from zerog.inference.text_signature import check_text
from zerog.inference.transcript_file import decode_transcript
from zerog.inference.verification import check_execution, check_transcript
from zerog.node.alone import ServerAlone
from zerog.node.config import RpcSettings

NAME = "all-MiniLM-L6-v2"
TEXTS = ["A cat sits on the mat.", "Stock prices fell sharply."]


def body(**members: Any) -> bytes:
    return json.dumps({"model": NAME, "input": TEXTS} | members).encode()


def ask(endpoint: Endpoint, **members: Any) -> Reply:
    return endpoint.ask("POST", "/v1/embeddings", body(**members))


@pytest.fixture(scope="module")
def numbers(endpoint: Endpoint) -> Reply:
    return ask(endpoint)


def test_vectors_have_the_form_of_openais_api(numbers):
    answer = numbers.json
    assert (numbers.status, answer["object"], answer["model"]) == (200, "list", NAME)
    assert [(entry["object"], entry["index"]) for entry in answer["data"]] == [
        ("embedding", 0),
        ("embedding", 1),
    ]
    assert all(len(entry["embedding"]) == 384 for entry in answer["data"])
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0


def test_base64_holds_the_same_floats(endpoint, numbers):
    coded = ask(endpoint, encoding_format="base64").json
    for entry, plain in zip(coded["data"], numbers.json["data"], strict=True):
        values = struct.unpack("<384f", base64.b64decode(entry["embedding"]))
        assert list(values) == plain["embedding"]


def test_the_receipt_commits_to_the_vectors_that_were_sent(numbers):
    receipt = numbers.json["zerog"]["receipt"]
    vectors = [np.array(entry["embedding"], dtype=np.float32) for entry in numbers.json["data"]]
    assert receipt["outputHash"] == "0x" + keccak256(encode_vectors(vectors)).hex()
    assert receipt["inputHash"] == "0x" + keccak256(body()).hex()
    assert int(receipt["outputTokens"]) == 2


def test_anyone_can_repeat_vectors_from_their_receipt(endpoint, numbers):
    fetched = endpoint.get(numbers.json["zerog"]["urls"]["receipt"])
    transcript = decode_transcript(fetched.body)
    assert len(decode_vectors(transcript.transcript.output)) == 2
    checks = check_transcript(transcript, bytes.fromhex(endpoint.signer[2:])) + check_execution(
        transcript, embedder()
    )
    assert [check for check in checks if not check.passed] == []


def test_the_text_signature_covers_both_bodies(endpoint, numbers):
    entry = endpoint.get("/v1/signature/" + numbers.headers["zg-res-key"]).json
    assert "0x" + check_text(entry, body(), numbers.body).hex() == endpoint.signer.lower()


def test_openais_client_gets_vectors(endpoint, numbers):
    client = openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key="unused", max_retries=0, timeout=60)
    plain = client.embeddings.create(model=NAME, input=TEXTS, encoding_format="float")
    # Without a format this client asks for base64 and decodes it.
    coded = client.embeddings.create(model=NAME, input=TEXTS)
    expected = [entry["embedding"] for entry in numbers.json["data"]]
    assert [entry.embedding for entry in plain.data] == expected
    assert [list(map(float, entry.embedding)) for entry in coded.data] == expected
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.embeddings.create(model="text-embedding-3-small", input="Hi")


def test_the_models_list_names_both_models(endpoint):
    listed = {entry["id"]: entry["zerog"] for entry in endpoint.get("/v1/models").json["data"]}
    assert listed[NAME]["weightsRoot"] == MINILM_MODEL.weights_root
    assert listed[NAME]["class"] == "exact"
    assert endpoint.get(f"/v1/models/{NAME}").json["id"] == NAME


def test_the_engine_is_the_one_that_was_announced():
    assert embedder().description == ONNX_ENGINE


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a"] * 257}, "input"),
        ({"input": "word " * 600}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": "many"}, "dimensions"),
        ({"dimensions": 64}, "dimensions other than 384"),
        ({"temperature": 1}, "temperature"),
    ],
)
def test_bad_requests_get_openais_errors(endpoint, members, param):
    refused = ask(endpoint, **members)
    assert (refused.status, refused.error["param"]) == (400, param), refused.body
    assert endpoint.service.desk.under_way == 0


def test_a_model_that_cannot_be_loaded_is_unavailable(endpoint):
    def broken() -> Any:
        from zerog.errors import InferenceError

        raise InferenceError("no weights here")

    host: EngineHost = endpoint.service._hosts.default
    service = EndpointService(
        host, EndpointSettings(), embedder=host.beside(broken, endpoint.service._embedder.served)
    )
    with ServerAlone([service], RpcSettings(port=0)).start() as server:
        refused = ask(Endpoint(server.url, service, b""))
        assert (refused.status, refused.error["code"]) == (503, "engine_unavailable")
