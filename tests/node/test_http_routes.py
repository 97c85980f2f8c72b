"""HTTP routes of services over real sockets: streams, hang-ups, bounds, further ports, pushes."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import resource
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from zerog.chain.methods import CALL, HttpExchange, MethodTable, RouteHandler, Uint64
from zerog.errors import InvalidParams, PortInUse
from zerog.node import ports
from zerog.node.alone import ServerAlone
from zerog.node.config import RpcSettings, load
from zerog.node.devnet import Node
from zerog.node.loop import Handler
from zerog.node.ports import ExtraPort

PATIENCE = 30.0
PIECE = 1 << 18
BIG = 50 << 20

METHODS = MethodTable[object]()


@METHODS.handler("probe_add")
async def add(probe: object, first_number: Uint64, other: Uint64 = 0) -> int:
    return first_number + (other or 0)


class Probe:
    """A service whose routes show what a handler can do."""

    name = "probe"

    def __init__(self) -> None:
        self.gone = threading.Event()
        self.written = 0
        self.inside = 0
        self.most_inside = 0
        self.full = asyncio.Event()

    def methods(self) -> Mapping[str, Handler]:
        add_method = METHODS.get("probe_add")
        assert add_method is not None
        return {
            "probe_caller": self.caller,
            "probe_watch": self.watch,
            "probe_add": lambda params: add_method(self, params),
        }

    def routes(self) -> Mapping[str, RouteHandler]:
        return {
            "/probe/echo": self.echo,
            "/probe/stream": self.stream,
            "/probe/endless": self.endless,
            "/probe/meet": self.meet,
            "/probe/refuse": self.refuse,
            "/probe/crash": self.crash,
            "/probe/short": self.short,
            "/probe/silent": self.silent,
        }

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def caller(self, params: Any) -> Any:
        call = CALL.get()
        return [call.agent, call.peer is not None, call.push is not None]

    async def watch(self, params: Any) -> Any:
        push = CALL.get().push
        assert push is not None
        for number in range(3):
            push.send(msgspec.json.encode({"jsonrpc": "2.0", "method": "probe_note", "params": [number]}))
        return "watching"

    async def echo(self, exchange: HttpExchange) -> None:
        seen = [exchange.method, exchange.path, exchange.query, exchange.headers.get("x-key", "")]
        await exchange.respond(
            200, [json.dumps(seen).encode(), b"\n", exchange.body], headers={"x-seen": "yes"}
        )

    async def stream(self, exchange: HttpExchange) -> None:
        answer = await exchange.stream(200, {"content-type": "text/plain"}, BIG)
        for number in range(BIG // PIECE):
            await answer.write(bytes([number % 256]) * PIECE)
        await answer.finish()

    async def endless(self, exchange: HttpExchange) -> None:
        answer = await exchange.stream(200)
        while await answer.write(bytes(PIECE)):
            self.written += 1
        self.gone.set()

    async def meet(self, exchange: HttpExchange) -> None:
        self.inside += 1
        if self.inside == int(exchange.query):
            self.full.set()
        await self.full.wait()
        await exchange.respond(200, b"all here")

    async def refuse(self, exchange: HttpExchange) -> None:
        raise InvalidParams("index is not a number")

    async def crash(self, exchange: HttpExchange) -> None:
        raise KeyError("secret detail")

    async def short(self, exchange: HttpExchange) -> None:
        answer = await exchange.stream(200, {}, 10)
        await answer.write(b"12345")
        await answer.finish()

    async def silent(self, exchange: HttpExchange) -> None:
        return


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def server(probe: Probe) -> Iterator[ServerAlone]:
    with ServerAlone([probe], RpcSettings(port=0, transfer_timeout_secs=2)).start() as running:
        yield running


def connect(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)


def ask(
    url: str, verb: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = connect(url)
    try:
        connection.request(verb, target, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def call(url: str, method: str, params: Any, headers: Mapping[str, str] | None = None) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 2**60 + 1, "method": method, "params": params}).encode()
    answer = json.loads(ask(url, "POST", "/", body, headers)[1])
    assert answer["id"] == 2**60 + 1
    return answer


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_handler_sees_the_request_as_it_came(server: ServerAlone) -> None:
    target = "/probe/echo/../%2e%2e/etc?a=b%20c"
    answer, body = ask(server.url, "PUT", target, b"data\x00", {"X-Key": "value"})
    assert (answer.status, answer.headers["x-seen"]) == (200, "yes")
    seen, _, rest = body.partition(b"\n")
    assert json.loads(seen) == ["PUT", "/probe/echo/../%2e%2e/etc", "a=b%20c", "value"]
    assert rest == b"data\x00"


def test_a_connection_serves_many_requests(server: ServerAlone) -> None:
    connection = connect(server.url)
    connection.connect()
    first = connection.sock
    for _ in range(3):
        connection.request("GET", "/probe/echo")
        connection.getresponse().read()
        assert connection.sock is first
    connection.close()


def test_the_answer_to_head_is_announced_and_not_sent(server: ServerAlone) -> None:
    for target, length in (("/probe/stream", BIG), ("/probe/echo", 32)):
        answer, body = ask(server.url, "HEAD", target)
        assert (answer.status, answer.headers["content-length"], body) == (200, str(length), b"")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_large_stream_arrives_whole_in_constant_memory(server: ServerAlone) -> None:
    ask(server.url, "HEAD", "/probe/stream")
    before, peak, received = resident(), 0, 0
    connection = connect(server.url)
    connection.request("GET", "/probe/stream")
    answer = connection.getresponse()
    for number in range(BIG // PIECE):
        assert answer.read(PIECE) == bytes([number % 256]) * PIECE, number
        received += PIECE
        peak = max(peak, resident())
    assert (received, answer.read()) == (BIG, b"")
    assert peak - before < 24 << 20
    connection.close()


def test_a_client_that_hangs_up_ends_the_handlers_writing(server: ServerAlone, probe: Probe) -> None:
    connection = connect(server.url)
    connection.request("GET", "/probe/endless")
    connection.getresponse().read(PIECE)
    connection.close()
    assert probe.gone.wait(PATIENCE)


def test_a_client_that_does_not_read_holds_back_only_its_handler(server: ServerAlone, probe: Probe) -> None:
    slow = socket.create_connection((urlsplit(server.url).hostname or "", server.port))
    slow.sendall(b"GET /probe/endless HTTP/1.1\r\nHost: t\r\n\r\n")
    for _ in range(20):
        assert ask(server.url, "GET", "/probe/echo")[0].status == 200
    # The bound on transfers ends it at last.
    assert probe.gone.wait(PATIENCE)
    assert probe.written * PIECE < 64 << 20
    slow.close()


def test_two_hundred_exchanges_are_under_way_at_a_time(server: ServerAlone) -> None:
    connections = [connect(server.url) for _ in range(200)]
    for connection in connections:
        connection.request("GET", "/probe/meet?200")
    for connection in connections:
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"all here")
        connection.close()


def test_a_route_has_a_bound_of_its_own(
    monkeypatch: pytest.MonkeyPatch, server: ServerAlone, probe: Probe
) -> None:
    monkeypatch.setattr("zerog.node.loop.MAX_EXCHANGES", 2)
    waiting = [connect(server.url) for _ in range(2)]
    for connection in waiting:
        connection.request("GET", "/probe/meet?3")
    deadline = time.monotonic() + PATIENCE
    while probe.inside < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    answer, body = ask(server.url, "GET", "/probe/meet?3")
    assert (answer.status, json.loads(body)["error"]["code"]) == (503, -32005)
    assert ask(server.url, "GET", "/probe/echo")[0].status == 200
    for connection in waiting:
        connection.close()


@pytest.mark.parametrize(
    ("route", "status", "message"),
    [
        ("refuse", 400, "index is not a number"),
        ("crash", 500, "internal error: KeyError"),
        ("silent", 500, "the handler ended without an answer"),
    ],
)
def test_a_failure_before_the_answer_is_told_as_json(
    server: ServerAlone, route: str, status: int, message: str
) -> None:
    answer, body = ask(server.url, "GET", f"/probe/{route}")
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert json.loads(body)["error"]["message"] == message


def test_an_answer_that_is_too_short_breaks_the_connection(server: ServerAlone) -> None:
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(server.url, "GET", "/probe/short")


def test_a_page_of_another_origin_may_ask(server: ServerAlone) -> None:
    answer, _ = ask(server.url, "GET", "/probe/echo", headers={"Origin": "https://a.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    answer, _ = ask(server.url, "OPTIONS", "/probe/echo", headers={"Origin": "https://a.example"})
    assert "PUT" in answer.headers["access-control-allow-methods"]


def test_a_method_sees_the_agent_and_no_push_over_http(server: ServerAlone) -> None:
    answer = call(server.url, "probe_caller", [], {"User-Agent": "axios/0.27.2"})
    assert answer["result"] == ["axios/0.27.2", True, False]


def test_named_parameters_reach_their_places(server: ServerAlone) -> None:
    assert call(server.url, "probe_add", {"firstNumber": 1, "other": 2})["result"] == 3
    assert call(server.url, "probe_add", {"first_number": "0x10"})["result"] == 16
    error = call(server.url, "probe_add", {"first": 1})["error"]
    assert (error["code"], error["message"]) == (-32602, "unknown argument 'first', want firstNumber, other")


class WebSocket:
    """As much of RFC 6455 as a test of short texts needs."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), PATIENCE)
        key = b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET / HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nUser-Agent: probe/1\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self._file = self._socket.makefile("rb")
        while self._file.readline().strip():
            pass

    def send(self, text: bytes) -> None:
        assert len(text) < 126
        self._socket.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)

    def hear(self) -> Any:
        kind, length = self._file.read(2)
        assert kind == 0x81
        if length == 126:
            length = int.from_bytes(self._file.read(2))
        return json.loads(self._file.read(length))

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def test_a_method_sends_notifications_over_its_websocket(server: ServerAlone) -> None:
    client = WebSocket(server.url)
    client.send(b'{"jsonrpc":"2.0","id":1,"method":"probe_watch"}')
    heard = [client.hear() for _ in range(4)]
    assert [note["params"] for note in heard if "params" in note] == [[0], [1], [2]]
    assert [note["result"] for note in heard if "result" in note] == ["watching"]
    client.send(b'{"jsonrpc":"2.0","id":1,"method":"probe_caller"}')
    assert client.hear()["result"] == ["probe/1", True, True]
    client.close()


def test_without_a_chain_its_methods_are_unknown(server: ServerAlone) -> None:
    for method in ("eth_chainId", "net_version", "eth_sendRawTransaction"):
        assert call(server.url, method, [])["error"]["code"] == -32601


def test_a_server_alone_listens_on_further_ports(probe: Probe) -> None:
    with ServerAlone([probe], RpcSettings(port=0), [ExtraPort("kv", 0, optional=False)]).start() as running:
        assert call(running.urls["kv"], "probe_add", [1, 2])["result"] == 3
    with pytest.raises(ConnectionError):
        ask(running.url, "GET", "/probe/echo")


def node(probe: Probe | None = None, **options: Any) -> Node:
    return Node(
        load(None, {"rpc.port": 0, "node.ephemeral": True, **options}), services=[probe] if probe else []
    )


def test_a_node_serves_routes_and_chain_on_every_port(probe: Probe) -> None:
    with node(probe, **{"storage.port": 0, "kv.port": 0}).start() as running:
        ready = running.ready()
        assert sorted(ready.urls) == ["kv", "storage"]
        for url in (ready.url, *ready.urls.values()):
            assert ask(url, "GET", "/probe/echo")[0].status == 200
            assert call(url, "eth_chainId", [])["result"] == "0x7a69"
            assert call(url, "probe_add", [1])["result"] == 1


def test_a_wanted_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=rf":{port}: .*--indexer-port"):
            node(**{"indexer.port": port}).start()


def test_customary_ports_are_tried_beside_the_customary_one_only() -> None:
    def wanted(**options: Any) -> list[tuple[str, int, bool]]:
        found = ports.extra_ports(load(None, options))
        return [(port.service, port.port, port.optional) for port in found]

    assert wanted() == [("storage", 5678, True), ("indexer", 12345, True), ("kv", 6789, True)]
    assert wanted(**{"rpc.port": 9545}) == []
    assert wanted(**{"node.chain_only": True}) == []
    assert wanted(**{"rpc.port": 9545, "kv.port": 7000}) == [("kv", 7000, False)]


def test_a_customary_port_that_is_taken_is_left_out_with_a_warning(
    probe: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        further = [ExtraPort("storage", port, optional=True)]
        with ServerAlone([probe], RpcSettings(port=0), further).start() as running:
            assert running.urls == {}
            assert call(running.url, "probe_add", [1])["result"] == 1
    assert f"port {port} is taken" in caplog.text
