"""Sending files over HTTP: whole, in ranges, or not again."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zerog.errors import DataUnavailable
from zerog.storage.gateway import requests
from zerog.storage.gateway.source import Source
from zerog.storage.values import Submission

if TYPE_CHECKING:
    from zerog.chain.methods import HttpExchange, HttpStream

OCTETS = "application/octet-stream"


async def deliver(
    exchange: HttpExchange, source: Source, parts: Sequence[Submission], size: int, name: str
) -> None:
    """Answers GET and HEAD for files one after the other, ``size`` bytes together.

    The first bytes are read and checked before the answer begins: raises `DataUnavailable` then. When bytes
    are missing later, the connection breaks: the client sees fewer bytes than it was promised.
    """
    etag = _etag(parts)
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": requests.disposition(name),
        # A stranger's bytes on this origin: never to be run or guessed at by a browser.
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    if requests.matches(exchange.headers.get("if-none-match"), etag):
        await exchange.respond(304, headers={"ETag": etag}, content_type=None)
        return
    try:
        ranges = requests.parse_ranges(exchange.headers, size, etag)
    except requests.Unsatisfiable:
        unsatisfied = {"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"}
        await exchange.respond(416, headers=unsatisfied, content_type=None)
        return
    if ranges is None:
        plan = _Plan([(b"", 0, size)], b"")
        status, headers["Content-Type"] = 200, OCTETS
    elif len(ranges) == 1:
        ((start, end),) = ranges
        plan = _Plan([(b"", start, end)], b"")
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        status, headers["Content-Type"] = 206, OCTETS
    else:
        boundary = secrets.token_hex(16)
        plan = _multipart(ranges, size, boundary)
        status, headers["Content-Type"] = 206, f"multipart/byteranges; boundary={boundary}"
    await _send(exchange, source, parts, plan, status, headers)


class _Plan:
    """What is sent: pieces of text, each before bytes ``[start, end)`` of the file, and a last text."""

    def __init__(self, pieces: list[tuple[bytes, int, int]], tail: bytes) -> None:
        self.pieces = pieces
        self.tail = tail

    @property
    def length(self) -> int:
        return sum(len(text) + end - start for text, start, end in self.pieces) + len(self.tail)


def _multipart(ranges: Sequence[tuple[int, int]], size: int, boundary: str) -> _Plan:
    pieces = []
    for at, (start, end) in enumerate(ranges):
        head = (
            f"--{boundary}\r\nContent-Type: {OCTETS}\r\nContent-Range: bytes {start}-{end - 1}/{size}\r\n\r\n"
        )
        pieces.append((("\r\n" if at else "").encode() + head.encode(), start, end))
    return _Plan(pieces, f"\r\n--{boundary}--\r\n".encode())


async def _send(
    exchange: HttpExchange,
    source: Source,
    parts: Sequence[Submission],
    plan: _Plan,
    status: int,
    headers: dict[str, str],
) -> None:
    if exchange.method == "HEAD":
        # As much is checked as before a GET is answered.
        _, start, end = plan.pieces[0]
        async for _ in source.read(parts, start, min(end, start + 1)):
            pass
        head = await exchange.stream(status, headers, plan.length)
        await head.finish()
        return
    stream: HttpStream | None = None
    for text, start, end in plan.pieces:
        before: bytes = text
        reading = source.read(parts, start, end)
        try:
            async for data in reading:
                # The answer begins when the first bytes are there and checked.
                stream = stream or await exchange.stream(status, headers, plan.length)
                if before and not await stream.write(before):
                    return
                before = b""
                if not await stream.write(data):
                    return
        except DataUnavailable as error:
            if stream is None:
                raise
            raise ConnectionAbortedError(f"the file cannot be sent to its end: {error.message}") from None
        finally:
            await reading.aclose()
    stream = stream or await exchange.stream(status, headers, plan.length)
    if plan.tail:
        await stream.write(plan.tail)
    await stream.finish()


def _etag(parts: Sequence[Submission]) -> str:
    from zerog.chain.keys import keccak256

    if len(parts) == 1:
        return f'"0x{parts[0].root.hex()}"'
    return f'"0x{keccak256(b"".join(part.root for part in parts)).hex()}"'
