"""How a client reaches a node: HTTP with kept connections, or a function call."""

from __future__ import annotations

import http.client
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from zerog.errors import (
    ContractReverted,
    InvalidParams,
    RpcError,
    TransportError,
    TransportTimeout,
)

MAX_RESPONSE_BYTES = 1 << 30
Call = tuple[str, Sequence[Any]]


class Transport(Protocol):
    """Answers JSON-RPC calls."""

    def request(self, method: str, params: Sequence[Any]) -> Any:
        """The result; raises `RpcError` or `TransportError`."""
        ...

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """One result per call, in order; a call that failed gives its `RpcError` as a value."""
        ...

    def close(self) -> None:
        """Gives connections back."""
        ...


def rpc_error(error: dict[str, Any]) -> RpcError:
    """The exception for a JSON-RPC error object."""
    code, message, data = int(error.get("code", 0)), str(error.get("message", "")), error.get("data")
    if code == -32602:
        return InvalidParams(message, data)
    if code == 3 or message.startswith("execution reverted"):
        return ContractReverted(code, message, data)
    return RpcError(code, message, data)


class _Response(msgspec.Struct):
    result: Any = None
    error: dict[str, Any] | None = None
    id: int | str | None = None


class HttpTransport:
    """JSON-RPC over HTTP/1.1; one kept connection per thread.

    ``timeout`` in seconds covers connecting and each read.
    """

    def __init__(self, url: str, timeout: float = 60.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TransportError(f"{url!r} is not an http:// or https:// address")
        self.url = url
        self._timeout = timeout
        self._parts = parts
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._ids = itertools.count(1)
        self._local = threading.local()
        self._single = msgspec.json.Decoder(_Response)
        self._many = msgspec.json.Decoder(list[_Response])

    def request(self, method: str, params: Sequence[Any]) -> Any:
        body = msgspec.json.encode(
            {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": params}
        )
        response = self._decode(self._single, self._post(body))
        if response.error is not None:
            raise rpc_error(response.error)
        return response.result

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        if not calls:
            return []
        first = next(self._ids)
        body = msgspec.json.encode(
            [
                {"jsonrpc": "2.0", "id": first + index, "method": method, "params": params}
                for index, (method, params) in enumerate(calls)
            ]
        )
        raw = self._post(body)
        if raw.lstrip()[:1] == b"{":
            # The node refused the batch as a whole.
            raise rpc_error(
                self._decode(self._single, raw).error or {"message": "the batch was not answered"}
            )
        by_id = {response.id: response for response in self._decode(self._many, raw)}
        results: list[Any] = []
        for index in range(len(calls)):
            response = by_id.get(first + index)
            if response is None:
                raise TransportError(f"{self.url} did not answer call {index} of a batch")
            results.append(response.result if response.error is None else rpc_error(response.error))
        return results

    def close(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _decode(self, decoder: msgspec.json.Decoder[Any], raw: bytes) -> Any:
        try:
            return decoder.decode(raw)
        except msgspec.DecodeError as error:
            raise TransportError(f"{self.url} did not answer JSON-RPC: {error}") from None

    def _connect(self) -> http.client.HTTPConnection:
        parts = self._parts
        assert parts.hostname is not None
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=self._timeout, context=context
            )
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self._timeout)

    def _post(self, body: bytes) -> bytes:
        kept = getattr(self._local, "connection", None)
        if kept is not None:
            # A connection with half an exchange on it must not be used again.
            self._local.connection = None
            with suppress(http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                return self._kept_exchange(kept, body)
            # The node closed a connection that had been idle: it has not read the request.
            kept.close()
        return self._kept_exchange(self._connect(), body)

    def _kept_exchange(self, connection: http.client.HTTPConnection, body: bytes) -> bytes:
        """One request; the connection is kept for the next one when all went well.

        What a connection that had been idle can end with passes through when it had been used before.
        """
        fresh = connection.sock is None
        try:
            answer = self._exchange(connection, body)
        except ConnectionRefusedError:
            raise TransportError(
                f"no node answers at {self.url}", hint="start one with `zerog up`, or check the address"
            ) from None
        except TimeoutError:
            connection.close()
            raise TransportTimeout(f"{self.url} did not answer within {self._timeout:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            idle = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
            if not fresh and isinstance(error, idle):
                raise
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise TransportError(f"the request to {self.url} failed: {reason}") from None
        self._local.connection = connection
        return answer

    def _exchange(self, connection: http.client.HTTPConnection, body: bytes) -> bytes:
        if connection.sock is None:
            connection.connect()
            opened: Any = connection.sock
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read(MAX_RESPONSE_BYTES + 1)
        if len(answer) > MAX_RESPONSE_BYTES:
            connection.close()
            raise TransportError(f"the answer of {self.url} is larger than {MAX_RESPONSE_BYTES} bytes")
        if response.status != 200 and not answer.lstrip().startswith((b"{", b"[")):
            raise TransportError(f"{self.url} answered HTTP status {response.status} {response.reason}")
        return answer


class LocalTransport:
    """Calls a node of this process directly."""

    def __init__(self, call: Callable[[str, list[Any]], Any]) -> None:
        self._call = call

    def request(self, method: str, params: Sequence[Any]) -> Any:
        try:
            return self._call(method, list(params))
        except RpcError as error:
            raise rpc_error({"code": error.code, "message": error.message, "data": error.data}) from None

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        results: list[Any] = []
        for method, params in calls:
            try:
                results.append(self.request(method, params))
            except RpcError as error:
                results.append(error)
        return results

    def close(self) -> None:
        return None
