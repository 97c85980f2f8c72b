"""A closed-loop HTTP/1.1 load client on raw sockets and epoll: the next request goes out when the answer is in.

Loopback only. All request bytes are made before the clock starts; answers are parsed after it stops.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


def body(method: str, params: Sequence[Any], number: int = 1) -> dict[str, Any]:
    """One JSON-RPC request object."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}


def post(host: str, payload: bytes) -> bytes:
    """The bytes of a keep-alive POST with `payload`."""
    head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    return head.encode() + payload


@dataclass
class Outcome:
    """What a phase measured. `seconds` is from the first send to the last answer; latencies are in seconds."""

    requests: int
    items: int
    seconds: float
    received: int
    latencies: list[float]
    answers: list[bytes] = field(repr=False)
    timed_out: bool = False

    def percentile(self, share: float) -> float:
        """Latency in milliseconds below which `share` of the requests stayed."""
        ordered = sorted(self.latencies)
        return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")

    def errors(self) -> list[Any]:
        """Errors in the answers kept, found by parsing them."""
        found = []
        for answer in self.answers:
            parsed = json.loads(answer)
            for one in parsed if isinstance(parsed, list) else [parsed]:
                if "error" in one or "result" not in one:
                    found.append(one.get("error", one))
        return found


class _Connection:
    __slots__ = ("buffer", "expected", "queue", "sent", "socket", "started")

    def __init__(self, address: tuple[str, int], queue: list[bytes]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.queue = queue
        self.sent = 0
        self.started = 0.0
        self.buffer = b""
        self.expected = 0


def _joined(chunked: bytes) -> bytes:
    """The body of a whole chunked answer."""
    out, at = b"", 0
    while True:
        line = chunked.index(b"\r\n", at)
        size = int(chunked[at:line], 16)
        if size == 0:
            return out
        out += chunked[line + 2 : line + 2 + size]
        at = line + 2 + size + 2


def run(
    url: str,
    queues: list[list[bytes]],
    *,
    items_per_request: int = 1,
    seconds: float | None = None,
    limit: float = 120.0,
    keep_every: int = 1,
) -> Outcome:
    """Drives one connection per queue.

    With `seconds` the queues repeat until the time is up (reads); without, each request goes out once (writes).
    `limit` caps the phase in seconds. One answer in `keep_every` is kept for parsing.
    """
    parts = urlsplit(url)
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    if not address[0].startswith("127.") and address[0] != "localhost":
        raise ValueError(f"load goes to loopback only, not to {address[0]}")
    connections = [_Connection(address, queue) for queue in queues if queue]
    poll = select.epoll()
    by_fd = {c.socket.fileno(): c for c in connections}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    latencies: list[float] = []
    answers: list[bytes] = []
    received = done = 0
    clock = time.perf_counter
    begin = last = clock()
    stop = begin + (seconds if seconds is not None else limit)
    for c in connections:
        c.started = clock()
        c.socket.sendall(c.queue[0])
        c.sent = 1
    active = len(connections)
    while active:
        ready = poll.poll(max(0.0, begin + limit - clock()))
        if not ready:
            break
        for fd, _ in ready:
            c = by_fd[fd]
            chunk = c.socket.recv(1 << 20)
            if not chunk:
                raise ConnectionError(f"the server closed a connection after {done} answers")
            received += len(chunk)
            c.buffer = c.buffer + chunk if c.buffer else chunk
            if not c.expected:
                end = c.buffer.find(b"\r\n\r\n")
                if end < 0:
                    continue
                head = c.buffer[:end].lower()
                at = head.find(b"content-length:")
                if at < 0 and b"transfer-encoding: chunked" in head:
                    # hardhat answers in chunks; the last one is empty.
                    if not c.buffer.endswith(b"\r\n0\r\n\r\n"):
                        continue
                    c.buffer = c.buffer[: end + 4] + _joined(c.buffer[end + 4 :])
                    at, head = 0, b"content-length:%d" % (len(c.buffer) - end - 4)
                elif at < 0:
                    raise ValueError(f"an answer without Content-Length: {head[:200]!r}")
                stop_at = head.find(b"\r\n", at)
                length = int(head[at + 15 : stop_at if stop_at > 0 else len(head)])
                c.expected = end + 4 + length
            if len(c.buffer) < c.expected:
                continue
            last = clock()
            latencies.append(last - c.started)
            if done % keep_every == 0:
                answers.append(c.buffer[c.buffer.index(b"\r\n\r\n") + 4 :])
            done += 1
            c.buffer, c.expected = b"", 0
            if seconds is not None:
                if last >= stop:
                    active -= 1
                    continue
                c.sent = c.sent % len(c.queue)
            elif c.sent >= len(c.queue):
                active -= 1
                continue
            c.started = last
            c.socket.sendall(c.queue[c.sent])
            c.sent += 1
    poll.close()
    for c in connections:
        c.socket.close()
    return Outcome(done, done * items_per_request, last - begin, received, latencies, answers, active > 0)
