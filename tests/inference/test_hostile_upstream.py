"""A model server that lies, stalls or babbles: every case has its own error, and none keeps a place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from zerog.errors import (
    ConfigError,
    EngineBusy,
    EngineCancelled,
    UpstreamError,
    UpstreamLied,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from zerog.inference.engines.openai_compatible import OpenAICompatibleEngine
from zerog.inference.engines.upstream_http import Limits, endpoint, key_of
from zerog.inference.models import DEFAULT_MODEL
from zerog.inference.receipt import SamplingParams

KEY = "sk-secret"
LIMITS = Limits(connect=2, idle=0.4, total=3, line=4096, body=65536)
PARAMS = SamplingParams(maxTokens=2)


def entry(token: int, text: str, logprob: float = -0.5, **changes: Any) -> dict[str, Any]:
    others = [{"id": 1000 + i, "token": f"t{i}", "bytes": None, "logprob": -3.0 - i / 10} for i in range(7)]
    own = {"id": token, "token": text, "bytes": list(text.encode()), "logprob": logprob}
    return {**own, "top_logprobs": [own, *others], **changes}


def chunk(text: str, *entries: dict[str, Any], finish: str | None = None, usage: Any = None) -> bytes:
    choice = {
        "index": 0,
        "delta": {"content": text},
        "logprobs": {"content": list(entries)} if entries else None,
        "finish_reason": finish,
    }
    return sse(json.dumps({"choices": [choice], "usage": usage}))


def sse(text: str) -> bytes:
    return b"data: " + text.encode() + b"\n\n"


DONE = sse("[DONE]")
USAGE = {"prompt_tokens": 5, "completion_tokens": 2}
HONEST = [chunk("Hi", entry(1, "Hi")), chunk(" you", entry(2, " you"), finish="length", usage=USAGE), DONE]


class Script:
    """A server that answers its first completion honestly (the probe) and the next ones as told."""

    def __init__(self) -> None:
        self.answer: Callable[[BaseHTTPRequestHandler], None] = events(*HONEST)
        self.asked = 0
        self.released = threading.Event()
        script = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                body = json.dumps({"data": [{"id": "m", "owned_by": "somebody"}]}).encode()
                send(self, 200, "application/json", body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                script.asked += 1
                script.answer(self)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def engine(self, **options: Any) -> OpenAICompatibleEngine:
        return OpenAICompatibleEngine(
            endpoint(self.url, KEY), "m", DEFAULT_MODEL, limits=LIMITS, concurrency=1, **options
        )


def send(handler: BaseHTTPRequestHandler, status: int, kind: str, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def events(*parts: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: send(handler, 200, "text/event-stream", b"".join(parts))


@pytest.fixture
def script() -> Iterator[Script]:
    running = Script()
    yield running
    running.released.set()
    running.server.shutdown()
    running.server.server_close()


def second(**changes: Any) -> tuple[bytes, ...]:
    """An honest answer but for its second token."""
    return (HONEST[0], chunk(" you", entry(2, " you", **changes), finish="length", usage=USAGE), DONE)


def low(logprob: float) -> list[dict[str, Any]]:
    return [{"id": 2, "token": " you", "logprob": logprob}] + [
        {"id": 50 + i, "token": "x", "logprob": logprob} for i in range(7)
    ]


LIES = {
    "positive": (second(logprob=0.5, top_logprobs=low(0.5)), "positive log-probability"),
    "sum above 1": (second(logprob=-0.5, top_logprobs=low(-0.5)), "add up to more than 1"),
    "chosen missing": (second(id=77), "chosen token 77 is missing"),
    "too few": (second(top_logprobs=[]), "reports 0 alternatives"),
    "not greedy": (
        second(
            logprob=-5.0,
            top_logprobs=[*entry(9, "a")["top_logprobs"], {"id": 2, "token": "b", "logprob": -5.0}],
        ),
        "chosen token 2",
    ),
    "two values": (
        second(logprob=-0.1, top_logprobs=entry(2, " you")["top_logprobs"]),
        "two log-probabilities of token 2",
    ),
    "negative id": (second(id=-1), "token -1"),
    "other text": (
        (HONEST[0], chunk(" we", entry(2, " you"), finish="length"), DONE),
        "differs from its tokens",
    ),
    "text too long": ((HONEST[0], chunk(" you!", entry(2, " you"), finish="length"), DONE), "has 7 bytes"),
    "wrong count": (
        (
            HONEST[0],
            chunk(
                " you", entry(2, " you"), finish="length", usage={"prompt_tokens": 5, "completion_tokens": 3}
            ),
            DONE,
        ),
        "counts 3",
    ),
    "goes on": ((*HONEST[:2], chunk("!", entry(3, "!")), DONE), "goes on"),
    "too many tokens": ((*HONEST[:1], *HONEST[:1], *HONEST[:1], DONE), "the server goes on"),
    "short": ((chunk("Hi", entry(1, "Hi"), finish="length"), DONE), "ends after 1 of 2 tokens"),
    "none at all": ((chunk("Hi you", finish="length"), DONE), "text of the answer|no log-probabilities"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_named(script, lie):
    engine = script.engine()
    parts, words = LIES[lie]
    script.answer = events(*parts)
    with pytest.raises(UpstreamLied, match=words):
        engine.generate(b"Hello", PARAMS)
    script.answer = events(*HONEST)
    assert engine.generate(b"Hello", PARAMS).output == b"Hi you"


MALFORMED = {
    "NaN": (events(HONEST[0].replace(b"-0.5", b"NaN"), DONE), "malformed"),
    "infinity": (events(HONEST[0].replace(b"-0.5", b"1e999"), DONE), "malformed"),
    "no JSON": (events(sse("hello"), DONE), "malformed"),
    "deep JSON": (events(sse("[" * 2000), DONE), "malformed"),
    "no finish": (events(HONEST[0], DONE), "without a reason"),
    "strange finish": (
        events(HONEST[0], chunk("", finish="tool_calls"), DONE),
        "unknown reason 'tool_calls'",
    ),
    "truncated": (events(HONEST[0]), "breaks off"),
    "huge line": (events(b"data: " + b"x" * 10_000), "longer than 4096 bytes"),
    "huge stream": (events(*[b": ping\n\n"] * 10_000), "longer than the limit of 65536 bytes"),
    "no stream": (lambda h: send(h, 200, "application/json", b"{}"), "instead of an event stream"),
    "two choices": (events(sse('{"choices":[{"index":0},{"index":1}]}'), DONE), "several choices"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_broken_protocol_is_named(script, case):
    engine = script.engine()
    script.answer, words = MALFORMED[case]
    with pytest.raises(UpstreamMalformed, match=words):
        engine.generate(b"Hello", PARAMS)
    script.answer = events(*HONEST)
    assert engine.generate(b"Hello", PARAMS).output == b"Hi you"


def test_a_content_length_that_is_not_kept_breaks_off(script):
    engine = script.engine()

    def short(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.wfile.write(HONEST[0])

    script.answer = short
    with pytest.raises(UpstreamMalformed, match="breaks off"):
        engine.generate(b"Hello", PARAMS)


def test_a_redirect_is_not_followed(script):
    engine = script.engine()
    script.answer = lambda h: send(h, 307, "text/plain", b"", Location="http://127.0.0.1:1/")
    with pytest.raises(UpstreamRefused, match="redirects with status 307") as failure:
        engine.generate(b"Hello", PARAMS)
    assert failure.value.status == 307


def test_an_error_quotes_the_server_without_the_key(script):
    engine = script.engine()
    body = json.dumps({"error": {"message": f"bad\x00key {KEY}"}}).encode()
    script.answer = lambda h: send(h, 500, "application/json", body)
    with pytest.raises(UpstreamRefused, match="status 500: bad key …") as failure:
        engine.generate(b"Hello", PARAMS)
    assert KEY not in str(failure.value) and KEY not in repr(engine._target)


def test_an_error_inside_the_stream_ends_the_answer(script):
    engine = script.engine()
    script.answer = events(HONEST[0], sse('{"error": {"message": "out of memory"}}'), DONE)
    with pytest.raises(UpstreamRefused, match="out of memory"):
        engine.generate(b"Hello", PARAMS)


def test_a_busy_server_is_asked_again(script):
    engine = script.engine(retries=1)
    before = script.asked

    def busy(handler: BaseHTTPRequestHandler) -> None:
        script.answer = events(*HONEST)
        send(handler, 503, "text/plain", b"later")

    script.answer = busy
    assert engine.generate(b"Hello", PARAMS).output == b"Hi you"
    assert script.asked == before + 2


def test_an_answer_that_has_begun_is_not_asked_for_again(script):
    engine = script.engine(retries=3)
    before = script.asked
    script.answer = events(HONEST[0])
    with pytest.raises(UpstreamError):
        engine.generate(b"Hello", PARAMS)
    assert script.asked == before + 1


def drip(script: Script) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        try:
            while not script.released.wait(0.05):
                handler.wfile.write(b": still here\n")
        except OSError:
            return

    return answer


def test_a_server_that_is_silent_times_out(script):
    engine = script.engine()
    script.answer = lambda h: bool(script.released.wait(30))
    with pytest.raises(UpstreamTimeout, match="silent for"):
        engine.generate(b"Hello", PARAMS)


def test_a_server_that_drips_for_ever_times_out(script):
    engine = script.engine()
    script.answer = drip(script)
    with pytest.raises(UpstreamTimeout, match="longer than 3 s"):
        engine.generate(b"Hello", PARAMS)


def test_a_cancelled_wait_frees_its_place_and_a_full_queue_says_so(script):
    engine = script.engine(queue=0)
    script.answer = drip(script)
    cancelled = threading.Event()
    ended: list[BaseException] = []

    def ask() -> None:
        try:
            engine.generate(b"Hello", PARAMS, cancelled=cancelled)
        except EngineCancelled as error:
            ended.append(error)

    before = script.asked
    worker = threading.Thread(target=ask)
    worker.start()
    while script.asked == before:
        worker.join(0.01)
    with pytest.raises(EngineBusy):
        engine.generate(b"Hello", PARAMS)
    cancelled.set()
    worker.join(20)
    assert len(ended) == 1
    script.answer = events(*HONEST)
    assert engine.generate(b"Hello", PARAMS).output == b"Hi you"


def test_no_server_is_said_so(script):
    engine = script.engine(retries=0)
    script.server.shutdown()
    script.server.server_close()
    with pytest.raises(UpstreamUnavailable, match="no server answers"):
        engine.generate(b"Hello", PARAMS)


def test_without_log_probabilities_there_is_no_trace(script):
    script.answer = events(chunk("Hi"), chunk(" you", finish="stop", usage=USAGE), DONE)
    engine = script.engine()
    generation = engine.generate(b"Hello", PARAMS)
    assert engine.description.endswith("logprobs=none")
    assert generation.output == b"Hi you" and generation.steps == ()


def test_tokens_named_by_vllm_are_understood(script):
    named = [part.replace(b'"id": 1, "token": "Hi"', b'"token": "token_id:1"') for part in HONEST]
    named = [part.replace(b'"id": 2, "token": " you"', b'"token": "token_id:2"') for part in named]
    assert named[0] != HONEST[0] and named[1] != HONEST[1]
    script.answer = events(*named)
    assert script.engine().generate(b"Hello", PARAMS).tokens == [1, 2]


def test_the_key_comes_from_a_variable_or_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    assert key_of(variable="UPSTREAM_KEY") == key_of(file=path) == KEY
    path.write_text("two words")
    with pytest.raises(ConfigError, match="does not hold a key") as failure:
        key_of(file=path)
    assert "two words" not in str(failure.value)
    with pytest.raises(ConfigError, match="must not hold a user") as failure:
        endpoint("http://me:password@host/v1")
    assert "password@" not in str(failure.value)
