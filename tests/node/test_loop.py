"""The loop for methods written in Python: answers, failures, shutdown."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from zerog.errors import InvalidParams, RpcError, ZerogError
from zerog.node.loop import HandlerLoop


class RecordedReply:
    """Stands in for the native reply and waits for the answer."""

    agent = peer = push = None

    def __init__(self) -> None:
        self.answer: tuple[Any, ...] | None = None
        self._done = threading.Event()

    def resolve(self, result_json: bytes) -> None:
        self.answer = ("result", json.loads(result_json))
        self._done.set()

    def reject(self, code: int, message: str, data_json: bytes | None) -> None:
        self.answer = ("error", code, message, None if data_json is None else json.loads(data_json))
        self._done.set()

    def wait(self) -> tuple[Any, ...]:
        assert self._done.wait(10), "no answer"
        assert self.answer is not None
        return self.answer


async def echo(params: Any) -> Any:
    return params


async def refuse(params: Any) -> Any:
    raise InvalidParams("invalid argument 0 (x): expected y")


async def revert(params: Any) -> Any:
    raise RpcError(3, "execution reverted", "0x08")


async def fail(params: Any) -> Any:
    raise ZerogError("the disk is full", hint="make room")


async def crash(params: Any) -> Any:
    return 1 / 0


async def hang(params: Any) -> Any:
    await asyncio.Event().wait()


@pytest.fixture
def loop() -> Iterator[HandlerLoop]:
    handlers = {"echo": echo, "refuse": refuse, "revert": revert, "fail": fail, "crash": crash, "hang": hang}
    loop = HandlerLoop(handlers)
    loop.start()
    yield loop
    loop.stop()


def ask(loop: HandlerLoop, method: str, params: bytes = b"[1]") -> tuple[Any, ...]:
    reply: Any = RecordedReply()
    loop.dispatch(method, params, reply)
    answer: tuple[Any, ...] = reply.wait()
    return answer


def test_a_result_is_answered(loop: HandlerLoop) -> None:
    assert ask(loop, "echo", b'["a",2]') == ("result", ["a", 2])


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("refuse", ("error", -32602, "invalid argument 0 (x): expected y", None)),
        ("revert", ("error", 3, "execution reverted", "0x08")),
        ("fail", ("error", -32000, "the disk is full; make room", None)),
        ("crash", ("error", -32603, "internal error: ZeroDivisionError", None)),
        ("nothing", ("error", -32601, "the method nothing does not exist/is not available", None)),
    ],
)
def test_a_failure_is_answered_in_its_form(loop: HandlerLoop, method: str, answer: tuple[Any, ...]) -> None:
    assert ask(loop, method) == answer


def test_a_hanging_method_delays_no_other(loop: HandlerLoop) -> None:
    loop.dispatch("hang", b"[]", RecordedReply())  # type: ignore[arg-type]
    assert ask(loop, "echo") == ("result", [1])


def test_a_call_that_hangs_at_shutdown_is_answered(loop: HandlerLoop) -> None:
    reply: Any = RecordedReply()
    loop.dispatch("hang", b"[]", reply)
    assert ask(loop, "echo") == ("result", [1])
    loop.stop()
    assert reply.wait() == ("error", -32000, "the node is shutting down", None)


def test_a_call_before_the_loop_runs_waits_for_it() -> None:
    loop = HandlerLoop({"echo": echo})
    threading.Timer(0.05, loop.start).start()
    assert ask(loop, "echo") == ("result", [1])
    loop.stop()


def test_a_name_cannot_be_claimed_twice(loop: HandlerLoop) -> None:
    with pytest.raises(ValueError, match="two services claim echo"):
        loop.add({"echo": echo})


def test_a_call_from_python_gets_the_exception_itself(loop: HandlerLoop) -> None:
    with pytest.raises(InvalidParams):
        loop.run(loop.call("refuse", []))
