"""A small HTTP/1.1 client that a hostile server cannot keep busy.

Every exchange has a limit in bytes, a deadline for the whole, and a limit for silence: a server that sends
endlessly, drips, or never answers costs what the caller allowed and no more. Connections are kept.
Redirects are not followed: a peer does not send this node to other addresses.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from zerog.errors import TransportError, TransportTimeout

MAX_HEAD = 32 << 10
"""Bytes of status line and headers together, at most."""
MAX_KEPT = 8
"""Idle connections kept per server."""
READ = 256 << 10
_CHUNK_LINE = 1024
_MAX_TRAILERS = 32
_HEX = frozenset(b"0123456789abcdefABCDEF")


class AnswerTooLong(TransportError):
    """More came than was asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    headers: dict[str, str]
    body: bytearray


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one exchange may cost: bytes of the body, seconds for the whole, seconds of silence."""

    bytes: int
    seconds: float
    silence: float = 10.0


def base_url(text: str) -> str:
    """A server's address without a trailing slash; raises `TransportError` for anything but plain http(s)."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise TransportError(f"{text[:200]!r} is not an http:// or https:// address") from None
    clean = text.isascii() and text.isprintable() and " " not in text and len(text) <= 512
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not clean:
        raise TransportError(f"{text[:200]!r} is not an http:// or https:// address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise TransportError("the address of a node has neither credentials nor a query")
    return text.rstrip("/")


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.used = False

    def close(self) -> None:
        self.writer.close()


class HttpClient:
    """Exchanges with one server; ``url`` is its base address."""

    def __init__(self, url: str) -> None:
        self.url = base_url(url)
        self._parts: SplitResult = urlsplit(self.url)
        self._idle: list[_Connection] = []
        self._host = self._parts.netloc.encode()

    async def exchange(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        bounds: Bounds,
        content_type: str = "application/json",
    ) -> Answer:
        """One request and its answer; raises `TransportError` (and `AnswerTooLong`, `TransportTimeout`)."""
        try:
            async with asyncio.timeout(bounds.seconds):
                return await self._exchange(method, path, body, content_type, bounds)
        except TimeoutError:
            raise TransportTimeout(f"{self.url} did not answer within {bounds.seconds:g} s") from None
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise TransportError(f"the request to {self.url} failed: {reason}") from None

    def close(self) -> None:
        """Closes the kept connections."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _exchange(
        self, method: str, path: str, body: bytes, content_type: str, bounds: Bounds
    ) -> Answer:
        head = (
            f"{method} {self._parts.path}{path} HTTP/1.1\r\nHost: ".encode()
            + self._host
            + f"\r\nUser-Agent: zerog\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        while True:
            connection = self._idle.pop() if self._idle else await self._connect(bounds.silence)
            keep = False
            try:
                connection.writer.write(head + body)
                await connection.writer.drain()
                try:
                    status, headers = await self._head(connection, bounds)
                except (EOFError, ConnectionError):
                    # The server closed a connection that had been idle: it has not read the request.
                    if connection.used:
                        continue
                    raise
                answer = Answer(
                    status, headers, await self._body(connection, method, status, headers, bounds)
                )
                keep = headers.get("connection", "").lower() != "close" and _delimited(headers)
                return answer
            finally:
                connection.used = True
                if keep and len(self._idle) < MAX_KEPT:
                    self._idle.append(connection)
                else:
                    connection.close()

    async def _connect(self, limit: float) -> _Connection:
        import ssl

        secure = self._parts.scheme == "https"
        context = ssl.create_default_context() if secure else None
        port = self._parts.port or (443 if secure else 80)
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(
                self._parts.hostname, port, limit=READ, ssl=context
            )
        return _Connection(reader, writer)

    async def _head(self, connection: _Connection, bounds: Bounds) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(bounds.silence):
            raw = await connection.reader.readuntil(b"\r\n\r\n")
        if len(raw) > MAX_HEAD:
            raise ValueError("the head of the answer is too long")
        first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        version, _, rest = first.partition(" ")
        code = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (
            code.isascii() and code.isdigit() and len(code) == 3
        ):
            raise ValueError("the answer is not HTTP")
        headers: dict[str, str] = {"connection": "close"} if version == "HTTP/1.0" else {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError("a header of the answer is malformed")
            headers[name.strip().lower()] = value.strip()
        return int(code), headers

    async def _body(
        self, connection: _Connection, method: str, status: int, headers: dict[str, str], bounds: Bounds
    ) -> bytearray:
        body = bytearray()
        if method == "HEAD" or status in (204, 304):
            return body
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while size := await self._chunk_size(connection, bounds):
                await self._read(connection, body, size, bounds)
                await self._line(connection, bounds)
            for _ in range(_MAX_TRAILERS):
                if not await self._line(connection, bounds):
                    return body
            raise ValueError("the answer has too many trailers")
        length = headers.get("content-length")
        if length is not None:
            if not (length.isascii() and length.isdigit() and len(length) <= 18):
                raise ValueError("the length of the answer is malformed")
            await self._read(connection, body, int(length), bounds)
            return body
        while await self._some(connection, body, READ, bounds):
            self._check(len(body), bounds)
        return body

    async def _chunk_size(self, connection: _Connection, bounds: Bounds) -> int:
        text = (await self._line(connection, bounds)).partition(b";")[0].strip()
        if not 0 < len(text) <= 8 or not _HEX.issuperset(text):
            raise ValueError("a chunk of the answer is malformed")
        return int(text, 16)

    async def _line(self, connection: _Connection, bounds: Bounds) -> bytes:
        async with asyncio.timeout(bounds.silence):
            line = await connection.reader.readuntil(b"\n")
        if len(line) > _CHUNK_LINE:
            raise ValueError("a chunk of the answer is malformed")
        return line.rstrip(b"\r\n")

    async def _read(self, connection: _Connection, body: bytearray, count: int, bounds: Bounds) -> None:
        self._check(len(body) + count, bounds)
        end = len(body) + count
        while len(body) < end:
            if not await self._some(connection, body, end - len(body), bounds):
                raise EOFError("the answer was cut off")

    def _check(self, length: int, bounds: Bounds) -> None:
        if length > bounds.bytes:
            raise AnswerTooLong(f"{self.url} sent more than the {bounds.bytes} bytes that were asked for")

    async def _some(self, connection: _Connection, body: bytearray, most: int, bounds: Bounds) -> int:
        async with asyncio.timeout(bounds.silence):
            piece = await connection.reader.read(min(most, READ))
        body += piece
        return len(piece)


def _delimited(headers: dict[str, str]) -> bool:
    return "content-length" in headers or headers.get("transfer-encoding", "").lower() == "chunked"
