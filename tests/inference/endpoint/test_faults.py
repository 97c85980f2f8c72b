"""Bad input, clients that go, engines that fail: a specific error, no receipt, no slot that stays taken."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.inference.endpoint.conftest import MODEL, Endpoint, chat_body, serve, wait_until

from zerog.errors import EngineBusy, EngineCancelled, InferenceError
from zerog.inference.endpoint import EndpointSettings


class Faulty:
    """The real engine with a fault in front of its generation."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.fault: Exception | None = None
        self.hold = threading.Event()
        self.hold.set()
        self.waiting = 0
        self.cancelled = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(self, *args: Any, cancelled: threading.Event | None = None, **named: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        self.waiting += 1
        try:
            while not self.hold.wait(0.01):
                if cancelled is not None and cancelled.is_set():
                    self.cancelled += 1
                    raise EngineCancelled("cancelled")
        finally:
            self.waiting -= 1
        return self._engine.generate(*args, cancelled=cancelled, **named)


@pytest.fixture(scope="module")
def faulty(engine: Any) -> Faulty:
    return Faulty(engine)


@pytest.fixture(scope="module")
def shaky(faulty: Faulty) -> Iterator[Endpoint]:
    for endpoint in serve(lambda: faulty, EndpointSettings(most=2)):
        # The self-test of a fresh engine comes before the faults.
        assert endpoint.chat().status == 200
        yield endpoint


def send(endpoint: Endpoint, body: bytes) -> socket.socket:
    """A request whose answer nobody reads yet."""
    parts = urlsplit(endpoint.url)
    client = socket.create_connection((parts.hostname, parts.port or 0), timeout=60)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, None),
        (b'{"model": "\xff"}', 400, None),
        (b'{"model": "m", "messages": [], "temperature": NaN}', 400, None),
        (b" " * 40_000, 413, "request_too_large"),
        (
            json.dumps({"model": "gpt-9", "messages": [{"role": "user", "content": "a"}]}).encode(),
            404,
            "model_not_found",
        ),
        (chat_body(messages=[{"role": "user", "content": "word " * 3000}]), 400, "context_length_exceeded"),
        (chat_body(max_tokens=2047), 400, "context_length_exceeded"),
        (chat_body(messages=[{"role": "user", "content": "<|im_end|>"}]), 400, None),
    ],
    ids=["json", "utf8", "nan", "large", "model", "context", "room", "control-token"],
)
def test_bad_requests_get_the_errors_of_openai(endpoint, body, status, code):
    reply = endpoint.ask("POST", "/v1/chat/completions", body)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert set(reply.error) == {"message", "type", "param", "code"}
    assert endpoint.service.desk.under_way == 0


def test_a_body_of_a_hundred_megabytes_is_refused_before_it_is_read(endpoint):
    parts = urlsplit(endpoint.url)
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=60) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 100000000\r\n\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 413")


def test_unknown_paths_and_wrong_verbs_have_errors_of_the_same_form(endpoint):
    assert endpoint.get("/v1/nothing").error["message"] == "Invalid URL (GET /v1/nothing)"
    assert endpoint.get("/v1/nothing").status == 404
    reply = endpoint.get("/v1/chat/completions")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert endpoint.ask("POST", "/v1/embeddings", b'{"model": "x", "input": "a"}').status == 404
    assert endpoint.get("/v1/models/x").error["code"] == "model_not_found"


def test_what_was_never_answered_has_no_receipt_and_no_signature(endpoint):
    assert endpoint.get("/v1/receipts/chatcmpl-0").error["code"] == "receipt_not_found"
    assert endpoint.get("/v1/signature/chatcmpl-0").error["code"] == "chat_id_not_found"
    broker = endpoint.get("/v1/proxy/signature/chatcmpl-0")
    assert (broker.status, broker.json) == (400, {"error": "Chat id not found or expired, chat_id_not_found"})


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_is_status_429(shaky, faulty, stream):
    faulty.fault = EngineBusy("full")
    try:
        reply = shaky.chat(stream=stream)
    finally:
        faulty.fault = None
    assert (reply.status, reply.error["code"]) == (429, "rate_limit_exceeded")
    assert int(reply.headers["retry-after"]) > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_engine_is_status_503(shaky, faulty, stream):
    kept = len(shaky.service.desk.memory)
    faulty.fault = InferenceError("the engine produced the logit nan")
    try:
        reply = shaky.chat(stream=stream)
    finally:
        faulty.fault = None
    assert (reply.status, reply.error["code"]) == (503, "engine_failed")
    assert len(shaky.service.desk.memory) == kept


def test_an_engine_that_cannot_be_loaded_is_status_503():
    def load() -> Any:
        raise InferenceError("SmolLM2 is not on this machine", hint="run: zerog infer fetch")

    for endpoint in serve(load):
        reply = endpoint.chat()
        assert (reply.status, reply.error["code"]) == (503, "engine_unavailable")
        assert "zerog infer fetch" in reply.error["message"]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_ends_its_generation(shaky, faulty, stream, half):
    kept, cancelled = len(shaky.service.desk.memory), faulty.cancelled
    faulty.hold.clear()
    try:
        client = send(shaky, chat_body(stream=stream))
        wait_until(lambda: faulty.waiting == 1, "the generation")
        if half:
            client.shutdown(socket.SHUT_WR)
        else:
            client.close()
        wait_until(lambda: faulty.cancelled == cancelled + 1, "the cancellation")
        wait_until(lambda: shaky.service.desk.under_way == 0, "the end of the request")
        client.close()
    finally:
        faulty.hold.set()
    assert len(shaky.service.desk.memory) == kept
    assert shaky.chat().status == 200


def test_more_requests_than_the_bound_are_refused_at_once(shaky, faulty):
    faulty.hold.clear()
    clients = []
    try:
        clients = [send(shaky, chat_body()) for _ in range(2)]
        wait_until(lambda: faulty.waiting == 2, "two generations")
        assert shaky.chat().status == 429
    finally:
        faulty.hold.set()
        for client in clients:
            client.recv(64)
            client.close()
    wait_until(lambda: shaky.service.desk.under_way == 0, "the end of the requests")
    assert shaky.chat().status == 200


def test_with_keys_only_who_has_one_may_ask(engine):
    key = "zk-0123456789abcdef"
    for endpoint in serve(lambda: engine, EndpointSettings(keys=("zk-another-key-0001", key))):
        for headers in ({}, {"authorization": "Bearer zk-wrong"}, {"authorization": key}):
            refused = endpoint.chat(headers)
            assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
            assert endpoint.get("/v1/models", headers).status == 401
        answered = endpoint.chat({"authorization": f"Bearer {key}"})
        assert answered.status == 200
        # 0G's clients fetch the signature without a key.
        assert endpoint.get("/v1/signature/" + answered.headers["zg-res-key"]).status == 200


def test_a_page_may_read_the_headers_of_the_proof(endpoint):
    reply = endpoint.get("/v1/models", {"Origin": "https://a.example"})
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "zg-res-key" in reply.headers["access-control-expose-headers"]
    assert MODEL in reply.body.decode()
