"""Answers of the real model over HTTP: form, receipt, signature, and what anyone can check of them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.inference.endpoint.conftest import MODEL, PROVIDER, QUESTION, Endpoint, Reply, chat_body

from zerog.chain.keys import keccak256
from zerog.inference.text_signature import check_text
from zerog.inference.transcript_file import decode_transcript
from zerog.inference.verification import check_execution, check_transcript


@pytest.fixture(scope="module")
def whole(endpoint: Endpoint) -> Reply:
    return endpoint.chat(logprobs=True, top_logprobs=3)


@pytest.fixture(scope="module")
def streamed(endpoint: Endpoint) -> Reply:
    return endpoint.chat(stream=True, stream_options={"include_usage": True})


def text_of(streamed: Reply) -> str:
    return "".join(
        choice["delta"].get("content", "") for event in streamed.events for choice in event["choices"]
    )


def proof_of(streamed: Reply) -> dict[str, object]:
    (proof,) = [event["zerog"] for event in streamed.events if "zerog" in event]
    return proof


def test_an_answer_has_the_form_of_a_chat_completion(whole):
    answer = whole.json
    assert whole.status == 200
    assert answer["object"] == "chat.completion"
    assert answer["model"] == MODEL
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_the_receipt_commits_to_the_body_and_the_text(whole, endpoint):
    proof = whole.json["zerog"]
    text = whole.json["choices"][0]["message"]["content"]
    body = chat_body(logprobs=True, top_logprobs=3)
    assert proof["receipt"]["inputHash"] == "0x" + keccak256(body).hex()
    assert proof["receipt"]["outputHash"] == "0x" + keccak256(text.encode()).hex()
    assert proof["receipt"]["provider"] == "0x" + PROVIDER.hex() == whole.headers["provider"]
    assert whole.headers["x-zerog-receipt"] == proof["receiptHash"]
    assert whole.headers["x-zerog-signer"] == proof["signer"] == endpoint.signer


def test_anyone_can_repeat_an_answer_from_its_receipt(whole, endpoint, engine):
    fetched = endpoint.get(whole.json["zerog"]["urls"]["receipt"])
    transcript = decode_transcript(fetched.body)
    checks = check_transcript(transcript, bytes.fromhex(endpoint.signer[2:])) + check_execution(
        transcript, engine
    )
    assert [check for check in checks if not check.passed] == []
    assert "0x" + transcript.receipt_hash.hex() == whole.json["zerog"]["receiptHash"]


@pytest.mark.parametrize("prefix", ["/v1/signature/", "/signature/", "/v1/proxy/signature/"])
def test_the_text_signature_covers_both_bodies_as_sent(whole, streamed, endpoint, prefix):
    for reply, body in (
        (whole, chat_body(logprobs=True, top_logprobs=3)),
        (streamed, chat_body(stream=True, stream_options={"include_usage": True})),
    ):
        entry = endpoint.get(prefix + reply.headers["zg-res-key"] + "?model=x").json
        assert "0x" + check_text(entry, body, reply.body).hex() == endpoint.signer.lower()
        assert set(entry) == {"text", "signature", "signing_address", "signing_algo"}


def test_a_stream_tells_the_same_text_and_ends_with_the_proof(whole, streamed):
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert text_of(streamed) == whole.json["choices"][0]["message"]["content"]
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    assert proof_of(streamed)["receipt"]["traceRoot"] == whole.json["zerog"]["receipt"]["traceRoot"]
    assert streamed.events[-1]["choices"] == []
    assert streamed.events[-1]["usage"] == whole.json["usage"]
    assert len({event["id"] for event in streamed.events}) == 1


def test_every_event_without_usage_has_a_choice(endpoint):
    # Most programs read choices[0] of every event.
    assert all(len(event["choices"]) == 1 for event in endpoint.chat(stream=True).events)


def test_log_probabilities_come_from_the_trace(whole, endpoint):
    transcript = decode_transcript(endpoint.get(whole.json["zerog"]["urls"]["receipt"]).body)
    content = whole.json["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in content) == whole.json["choices"][0]["message"]["content"]
    for entry, step in zip(content, transcript.transcript.steps, strict=False):
        assert entry["logprob"] == step.pairs[0][1] / 65536
        assert [top["logprob"] for top in entry["top_logprobs"]] == [q / 65536 for _, q in step.pairs[:3]]


def test_a_completion_continues_its_prompt(endpoint):
    answer = endpoint.complete(prompt="The capital of France is", max_tokens=3, logprobs=2).json
    assert answer["object"] == "text_completion"
    choice = answer["choices"][0]
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]
    assert "Paris" in choice["text"]


def test_a_stop_string_is_not_told(endpoint):
    text = endpoint.chat(max_tokens=16).json["choices"][0]["message"]["content"]
    stop = text[3:5]
    whole = endpoint.chat(max_tokens=16, stop=stop).json["choices"][0]
    assert whole["message"]["content"] == text[: text.index(stop)]
    assert whole["finish_reason"] == "stop"
    assert text_of(endpoint.chat(max_tokens=16, stop=[stop], stream=True)) == text[: text.index(stop)]


def test_a_seed_makes_sampling_repeatable(endpoint):
    roots = [
        endpoint.chat(temperature=1.2, seed=seed).json["zerog"]["receipt"]["traceRoot"] for seed in (5, 5, 6)
    ]
    assert roots[0] == roots[1] != roots[2]


def test_eight_requests_at_a_time_are_answered_as_alone(endpoint):
    bodies = [
        {"messages": [{"role": "user", "content": f"Count from {n}."}], "max_tokens": 12} for n in range(8)
    ]

    def root(members):
        return endpoint.chat(**members).json["zerog"]["receipt"]["traceRoot"]

    with ThreadPoolExecutor(8) as clients:
        together = list(clients.map(root, bodies))
    assert together == [root(members) for members in bodies]


def test_models_are_listed_with_what_identifies_them(whole, endpoint):
    model = endpoint.get("/v1/models").json["data"][0]
    assert model["id"] == MODEL
    assert model["zerog"]["modelId"] == whole.json["zerog"]["receipt"]["modelId"]
    assert model["zerog"]["engineId"] == whole.json["zerog"]["receipt"]["engineId"]
    assert (model["zerog"]["class"], model["zerog"]["contextLength"]) == ("exact", 2048)
    for name in (MODEL, model["zerog"]["modelId"]):
        assert endpoint.get(f"/v1/models/{name}").json == model


def test_a_model_may_be_named_by_its_id(endpoint):
    model_id = endpoint.get("/v1/models").json["data"][0]["zerog"]["modelId"]
    body = json.dumps({"model": model_id, "messages": QUESTION, "max_tokens": 1}).encode()
    assert endpoint.ask("POST", "/v1/chat/completions", body).status == 200
