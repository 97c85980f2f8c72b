"""HTTP to a storage node: kept connections, bodies in pieces, answers read into the caller's buffer.

Every exchange has a deadline as a whole: a node that sends a byte a minute is as dead as a silent one.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from zerog.errors import TransportError, TransportTimeout

MIN_RATE = 256 << 10
"""Bytes per second below which a transfer counts as stalled."""
_MAX_PIECES = 512
Piece = bytes | bytearray | memoryview


class _Paced(io.RawIOBase):
    """A socket's raw stream whose reads end at a deadline."""

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._raw: Any = connection.makefile("rb", buffering=0)
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._connection.settimeout(remaining)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; ``body`` is a view of the buffer that was given, or bytes of its own."""

    status: int
    body: memoryview
    content_type: str


class Wire:
    """One base address; a kept connection per thread."""

    def __init__(self, url: str, timeout: float) -> None:
        """``timeout`` in seconds for an exchange without much data; large ones get more by `MIN_RATE`."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TransportError(f"{url!r} is not an http:// or https:// address")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._parts = parts
        self._prefix = parts.path.rstrip("/")
        self._local = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    def exchange(
        self,
        method: str,
        path: str,
        body: Sequence[Piece] = (),
        *,
        content_type: str = "application/json",
        into: memoryview | None = None,
        limit: int = 64 << 20,
        expect: int = 0,
    ) -> Answer:
        """One request and its answer.

        ``into`` receives the body of the answer when it fits; ``limit`` bounds the answer and ``expect`` is
        its likely size, bytes. Raises `TransportError`; the connection is closed then.
        """
        length = sum(len(piece) for piece in body)
        deadline = time.monotonic() + self.timeout + (length + expect) / MIN_RATE
        for attempt in (0, 1):
            connection = self._connection()
            fresh = connection.sock is None
            try:
                return self._attempt(
                    connection, method, path, body, length, content_type, into, limit, deadline
                )
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                self._drop(connection)
                if fresh or attempt:
                    raise TransportError(f"{self.url} closed the connection: {_reason(error)}") from None
                # A kept connection that the node had closed: every route is idempotent, so once more.
            except ConnectionRefusedError:
                self._drop(connection)
                raise TransportError(f"no node answers at {self.url}") from None
            except TimeoutError:
                self._drop(connection)
                raise TransportTimeout(
                    f"{self.url} did not answer {path.partition('?')[0]} in time"
                ) from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._drop(connection)
                raise TransportError(f"the request to {self.url} failed: {_reason(error)}") from None
            except BaseException:
                self._drop(connection)
                raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Closes the connections of all threads; running exchanges fail."""
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            sock = connection.sock
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        kept: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if kept is not None:
            return kept
        host, port = self._parts.hostname or "", self._parts.port
        made: http.client.HTTPConnection
        if self._parts.scheme == "https":
            made = http.client.HTTPSConnection(
                host, port, timeout=self.timeout, context=ssl.create_default_context()
            )
        else:
            made = http.client.HTTPConnection(host, port, timeout=self.timeout)
        self._local.connection = made
        with self._lock:
            self._open.add(made)
        return made

    def _drop(self, connection: http.client.HTTPConnection) -> None:
        connection.close()
        self._local.connection = None
        with self._lock:
            self._open.discard(connection)

    def _attempt(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Sequence[Piece],
        length: int,
        content_type: str,
        into: memoryview | None,
        limit: int,
        deadline: float,
    ) -> Answer:
        if connection.sock is None:
            connection.connect()
        sock: Any = connection.sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(self.timeout)
        connection.putrequest(method, self._prefix + path, skip_accept_encoding=True)
        if length or method == "POST":
            connection.putheader("Content-Type", content_type)
            connection.putheader("Content-Length", str(length))
        connection.endheaders()
        _send(sock, body, deadline)

        def response_of(sock: socket.socket, *_: Any, **options: Any) -> http.client.HTTPResponse:
            response = http.client.HTTPResponse(sock, method=options.get("method"))
            response.fp.close()
            response.fp = io.BufferedReader(_Paced(sock, deadline), 64 << 10)
            return response

        connection.response_class = response_of  # type: ignore[assignment]
        response = connection.getresponse()
        content = _body(response, into, limit)
        kind = response.headers.get("Content-Type", "")
        closing = response.will_close
        response.close()
        if closing:
            self._drop(connection)
        return Answer(response.status, content, kind)


def _send(sock: socket.socket, body: Sequence[Piece], deadline: float) -> None:
    """Sends pieces without joining them."""
    pieces = [memoryview(piece).cast("B") for piece in body if len(piece)]
    if isinstance(sock, ssl.SSLSocket):
        for piece in pieces:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            sock.sendall(piece)
        return
    while pieces:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        sock.settimeout(remaining)
        sent = sock.sendmsg(pieces[:_MAX_PIECES])
        done = 0
        while done < len(pieces) and sent >= len(pieces[done]):
            sent -= len(pieces[done])
            done += 1
        del pieces[:done]
        if sent:
            pieces[0] = pieces[0][sent:]


def _body(response: http.client.HTTPResponse, into: memoryview | None, limit: int) -> memoryview:
    """The whole body, in ``into`` when it fits there; `http.client.HTTPException` when it is cut or too long."""
    length = response.length
    if length is not None and length > limit:
        raise http.client.HTTPException(f"the answer has {length} bytes, more than {limit}")
    if into is None or (length is not None and length > len(into)):
        raw = response.read(limit + 1)
        if len(raw) > limit:
            raise http.client.HTTPException(f"the answer has more than {limit} bytes")
        if length is not None and len(raw) != length:
            raise http.client.HTTPException("the answer was cut off")
        return memoryview(raw)
    view = into if length is None else into[:length]
    got = 0
    while got < len(view):
        count = response.readinto(view[got:])
        if not count:
            break
        got += count
    if length is not None and got != length:
        raise http.client.HTTPException("the answer was cut off")
    if length is None and got == len(view) and response.read(1):
        raise http.client.HTTPException(f"the answer has more than {len(view)} bytes")
    return view[:got]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
