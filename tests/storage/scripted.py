"""A storage node that says what a test tells it to: JSON-RPC and raw HTTP on a free port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

Raw = Callable[[asyncio.StreamWriter, str, str], Awaitable[bool]]


class ScriptedNode:
    """``results`` maps a method to its result or to a function of its parameters; an exception refuses.

    ``raw`` may answer a request by itself: it gets the stream, the HTTP method and the path, and says whether
    it did.
    """

    def __init__(self, results: dict[str, Any] | None = None, raw: Raw | None = None) -> None:
        self.results = results or {}
        self.raw = raw
        self.calls: list[tuple[str, Any]] = []
        self.url = ""

    def _answer(self, call: dict[str, Any]) -> dict[str, Any]:
        method, params = call["method"], call.get("params", [])
        self.calls.append((method, params))
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": call["id"]}
        if method not in self.results:
            return reply | {"error": {"code": -32601, "message": f"the method {method} does not exist"}}
        result = self.results[method]
        return reply | {"result": result(*params) if callable(result) else result}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                verb, path, _ = head.split(" ", 2)
                length = next(
                    (
                        int(line[15:])
                        for line in head.split("\r\n")
                        if line.lower().startswith("content-length:")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                if self.raw is not None and await self.raw(writer, verb, path):
                    continue
                if verb != "POST":
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                    continue
                call = json.loads(body)
                answer = [self._answer(one) for one in call] if isinstance(call, list) else self._answer(call)
                text = json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(node: ScriptedNode) -> AsyncIterator[ScriptedNode]:
    """The node listens on a free port of this machine while the block runs."""
    server = await asyncio.start_server(node.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    node.url = f"http://{host}:{port}"
    try:
        yield node
    finally:
        server.close()
