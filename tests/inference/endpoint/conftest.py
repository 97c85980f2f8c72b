"""The endpoint over real sockets, with the session's engine behind it."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.inference.conftest import DOMAIN

from zerog.chain.keys import address_of, random_key
from zerog.inference.endpoint import EndpointService, EndpointSettings
from zerog.inference.engine_host import EngineHost, Served
from zerog.inference.engines import DeterminismClass
from zerog.inference.engines.onnx import OnnxEngine, minilm
from zerog.inference.models import MINILM_MODEL, ONNX_ENGINE
from zerog.node.alone import ServerAlone
from zerog.node.config import RpcSettings

PATIENCE = 120.0
MODEL = "SmolLM2-135M-Instruct"
QUESTION = [{"role": "user", "content": "Name a colour."}]
PROVIDER = bytes(19) + b"\x07"


@dataclass
class Reply:
    """Status, headers in lower case, body as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def events(self) -> list[Any]:
        """The events of a stream; the end is not one of them."""
        return [
            json.loads(event.removeprefix("data: "))
            for event in self.body.decode().split("\n\n")
            if event and event != "data: [DONE]"
        ]


@dataclass
class Endpoint:
    """A running endpoint."""

    url: str
    service: EndpointService
    key: bytes

    @property
    def signer(self) -> str:
        return address_of(self.key)

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)

    def ask(
        self, verb: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        connection = self.connect()
        try:
            connection.request(verb, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(
                answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return self.ask("GET", path, headers=headers)

    def chat(self, headers: Mapping[str, str] | None = None, **members: Any) -> Reply:
        return self.ask("POST", "/v1/chat/completions", chat_body(**members), headers)

    def complete(self, **members: Any) -> Reply:
        return self.ask("POST", "/v1/completions", json.dumps({"model": MODEL} | members).encode())


def chat_body(**members: Any) -> bytes:
    return json.dumps({"model": MODEL, "messages": QUESTION, "max_tokens": 8} | members).encode()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.01)


def embedder() -> OnnxEngine:
    return OnnxEngine(minilm())


def serve(load: Callable[[], Any], settings: EndpointSettings | None = None) -> Iterator[Endpoint]:
    """An endpoint over an engine that ``load`` gives; its requests and threads must be gone at the end."""
    key = random_key()
    host = EngineHost(load, lambda: key, lambda: (DOMAIN, PROVIDER))
    announced = Served(MINILM_MODEL, ONNX_ENGINE, DeterminismClass.EXACT)
    service = EndpointService(host, settings, embedder=host.beside(embedder, announced))
    with ServerAlone([service], RpcSettings(port=0)).start() as server:
        yield Endpoint(server.url, service, key)
        wait_until(lambda: service.desk.under_way == 0, "the end of all requests")


@pytest.fixture(scope="session")
def endpoint(engine: Any) -> Iterator[Endpoint]:
    """One for all tests that change nothing."""
    yield from serve(lambda: engine)
