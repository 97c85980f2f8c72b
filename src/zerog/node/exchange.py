"""An HTTP request and its answer as a route's handler sees them: `zerog.chain.methods.HttpExchange`.

The native request may be answered from any thread; here it is answered from the event loop, and
waiting for a slow client blocks nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from zerog.errors import RpcError, ZerogError, native_errors

if TYPE_CHECKING:
    from zerog._native import HttpRequest
    from zerog.chain.methods import Buffer

JSON = "application/json"
# The closest status of HTTP; whatever is not listed is the server's own trouble.
_STATUS = {-32600: 400, -32602: 400, -32601: 404, -32001: 404, -32005: 429}


class Exchange:
    """See the module's docstring."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._answered = False
        self.method = request.method
        self.path = request.path
        self.query = request.query
        self.headers: dict[str, str] = request.headers
        self.peer = request.peer

    @property
    def body(self) -> bytes:
        """The whole body of the request."""
        return self._request.body

    @property
    def answered(self) -> bool:
        """True once `respond` or `stream` was called."""
        return self._answered

    @property
    def gone(self) -> bool:
        """True when the client does not wait for the answer any more."""
        return self._request.gone

    async def respond(
        self,
        status: int,
        body: Buffer | list[Buffer] = b"",
        *,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = "application/octet-stream",
    ) -> None:
        """The whole answer; ``content_type`` ``None`` leaves the header out."""
        with native_errors():
            self._request.respond(status, _headers(headers, content_type), body)
        self._answered = True

    async def respond_json(self, status: int, value: Any) -> None:
        """The whole answer as JSON."""
        await self.respond(status, msgspec.json.encode(value), content_type=JSON)

    async def stream(
        self, status: int, headers: Mapping[str, str] | None = None, length: int | None = None
    ) -> Stream:
        """Begins an answer that is sent piece by piece; ``length`` in bytes, if it is known."""
        with native_errors():
            self._request.start(status, _headers(headers, None), length)
        self._answered = True
        return Stream(self._request)

    async def fail(self, error: BaseException) -> None:
        """Answers with an error in the form of JSON-RPC, as the status that fits best."""
        if isinstance(error, RpcError):
            status, body = _STATUS.get(error.code, 500), _error(error.code, error.message, error.data)
        elif isinstance(error, ZerogError):
            status, body = 500, _error(-32000, str(error), None)
        else:
            status, body = 500, _error(-32603, f"internal error: {type(error).__name__}", None)
        await self.respond_json(status, body)

    def abort(self) -> None:
        """Breaks off: status 500, or the end of the connection when the answer has begun."""
        self._request.abort()


class Stream:
    """A streamed answer. One task writes; an answer that is not finished shows as a broken connection."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    async def write(self, data: Buffer) -> bool:
        """Sends a piece and waits while the client is slow. False when it has gone: stop then."""
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[bool] = loop.create_future()

        def tell(outcome: bool) -> None:
            if not taken.done():
                taken.set_result(outcome)

        def told(outcome: bool) -> None:
            # A loop that has ended has taken whoever waits along.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, outcome)

        with native_errors():
            outcome = self._request.write_soon(data, told)
        return await taken if outcome is None else outcome

    async def finish(self) -> None:
        """Ends the answer; raises `ZerogError` when bytes of the announced length are missing."""
        with native_errors():
            self._request.finish()


def _headers(headers: Mapping[str, str] | None, content_type: str | None) -> dict[str, str]:
    result = dict(headers or {})
    if content_type is not None and not any(name.lower() == "content-type" for name in result):
        result["content-type"] = content_type
    return result


def _error(code: int, message: str, data: Any) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"error": error}
