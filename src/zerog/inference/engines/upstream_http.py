"""One HTTP exchange with a model server that may be slow, huge or hostile.

Everything has a bound: connecting, the time between two pieces, the whole exchange, headers, lines, the
body. A watcher beside the exchange closes the connection when one of the times is over or the caller
cancels, so that no read can hang, whichever layer it sits in (TLS handshake and headers included).
Redirects are not followed: they would carry the key to another place.

::

    with exchange(endpoint, "POST", "chat/completions", body, limits, cancelled=event) as answer:
        for payload in answer.events():     # the data of server-sent events
            ...
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from zerog.errors import (
    ConfigError,
    EngineCancelled,
    InferenceError,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)

_POLL = 0.05
"""Seconds between looks of the watcher."""
_MAX_KEY = 8192
_SHOWN = 200
"""Characters of a server's own words in an error."""
_OK = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one exchange: seconds and bytes. ``idle``: between two pieces; ``total``: of everything."""

    connect: float = 10.0
    idle: float = 60.0
    total: float = 600.0
    line: int = 1 << 20
    body: int = 64 << 20
    error_body: int = 1 << 16


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Base URL of a server, and the key that opens it; the key appears in no text of this object."""

    secure: bool
    host: str
    port: int
    path: str
    key: str | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """The base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{self.path}"


def endpoint(url: str, key: str | None = None) -> Endpoint:
    """An endpoint from a base URL, with or without its ``/v1``.

    Raises
    ------
    ConfigError : no http(s) URL, or one with a user, a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("the upstream URL is malformed") from None
    if parts.username is not None or parts.password is not None:
        # Not shown: it holds a password.
        raise ConfigError(
            "the upstream URL must not hold a user or password", hint="put the key in a file or a variable"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{url!r} is not the base URL of a model server, such as http://127.0.0.1:8000/v1")
    secure = parts.scheme == "https"
    path = parts.path.rstrip("/")
    if not path.endswith("/v1"):
        path += "/v1"
    return Endpoint(secure, parts.hostname, port or (443 if secure else 80), path, key)


def key_of(variable: str | None = None, file: Path | None = None) -> str | None:
    """The key from an environment variable or a file; ``None`` when neither is named.

    Raises
    ------
    ConfigError : both are named, the variable is not set, the file cannot be read, or it holds no key.
        No message holds any part of a key.
    """
    if variable is not None and file is not None:
        raise ConfigError("the key of the upstream comes from a variable or a file, not from both")
    if variable is not None:
        where, text = f"the variable {variable}", os.environ.get(variable)
        if text is None:
            raise ConfigError(f"{where} with the key of the upstream is not set")
    elif file is not None:
        where = str(file)
        try:
            with file.open("rb") as source:
                text = source.read(_MAX_KEY + 1).decode("ascii", "replace")
        except OSError as error:
            raise ConfigError(f"cannot read the key of the upstream in {file}: {error.strerror}") from None
    else:
        return None
    text = text.strip()
    if not text or len(text) > _MAX_KEY or not all("!" <= character <= "~" for character in text):
        raise ConfigError(f"{where} does not hold a key: it must be one word of printable ASCII")
    return text


class Answer:
    """A running answer of status 200."""

    def __init__(
        self, response: http.client.HTTPResponse, target: Endpoint, limits: Limits, watch: _Watch
    ) -> None:
        self._response = response
        self._target = target
        self._limits = limits
        self._watch = watch

    def body(self) -> bytes:
        """The whole body.

        Raises
        ------
        UpstreamMalformed : longer than the limit, or it breaks off.
        """
        parts: list[bytes] = []
        size = 0
        while piece := self._read(self._response.read1, 1 << 16):
            size += len(piece)
            if size > self._limits.body:
                raise UpstreamMalformed(f"the answer is longer than the limit of {self._limits.body} bytes")
            parts.append(piece)
        if self._response.length:
            raise UpstreamMalformed(f"the answer breaks off {self._response.length} bytes before its end")
        return b"".join(parts)

    def events(self) -> Iterator[bytes]:
        """The data of every server-sent event up to ``[DONE]``.

        Raises
        ------
        UpstreamMalformed : no event stream, a line or the whole beyond its limit, or no ``[DONE]``.
        """
        kind = self._response.getheader("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream":
            raise UpstreamMalformed(
                f"the server answers {_words(kind) or 'nothing'} instead of an event stream"
            )
        data: list[bytes] = []
        for line in self._lines():
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                payload = b"\n".join(data)
                data = []
                if payload.strip() == b"[DONE]":
                    return
                yield payload
        raise UpstreamMalformed("the stream breaks off before its end")

    def _lines(self) -> Iterator[bytes]:
        size = 0
        while line := self._read(self._response.readline, self._limits.line + 1):
            size += len(line)
            if len(line) > self._limits.line:
                raise UpstreamMalformed(f"a line of the stream is longer than {self._limits.line} bytes")
            if size > self._limits.body:
                raise UpstreamMalformed(f"the stream is longer than the limit of {self._limits.body} bytes")
            yield line.rstrip(b"\r\n")

    def _read(self, read: Callable[[int], bytes], size: int) -> bytes:
        with _translated(self._target, self._limits, self._watch):
            data = read(size)
        # A connection that the watcher closed looks like the end of the answer.
        self._watch.progress()
        return data


@contextmanager
def exchange(
    target: Endpoint,
    method: str,
    path: str,
    body: bytes | None,
    limits: Limits,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[Answer]:
    """One request; the connection is closed at the end, also when the answer was not read to its end.

    Raises
    ------
    UpstreamUnavailable : no connection, or closed before the status line; nothing was answered.
    UpstreamTimeout : a limit of time was reached.
    UpstreamRefused : another status than 200; the message quotes the server without the key.
    UpstreamMalformed : no HTTP.
    EngineCancelled : ``cancelled`` became true.
    """
    watch = _Watch(limits, cancelled)
    connection: http.client.HTTPConnection | None = None
    try:
        with _translated(target, limits, watch):
            connection = _connect(target, limits, watch)
            response = _send(connection, target, method, path, body)
            watch.progress()
            if response.status != _OK:
                raise _refusal(response, target, limits)
        yield Answer(response, target, limits, watch)
    finally:
        if connection is not None:
            connection.close()
        watch.end()


@contextmanager
def _translated(target: Endpoint, limits: Limits, watch: _Watch) -> Iterator[None]:
    """The errors of the layers below in the words of this tree."""
    try:
        yield
    except _Closed:
        watch.check()
        raise UpstreamUnavailable(f"{target.url} closed the connection before it answered") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        # What the watcher did shows as one of many errors of the layer that was reading.
        watch.check()
        raise UpstreamMalformed(f"the answer of {target.url} breaks off: {_cause(error)}") from None


class _Closed(OSError):
    """The server closed the connection before it answered."""


class _Watch:
    """Closes a connection from beside when its time is over or nobody wants the answer any more."""

    def __init__(self, limits: Limits, cancelled: Callable[[], bool]) -> None:
        self._limits = limits
        self._cancelled = cancelled
        self._started = self._last = time.monotonic()
        self._over: InferenceError | None = None
        self._done = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="zerog-upstream-watch", daemon=True)

    def guard(self, connected: socket.socket) -> None:
        """Watches a connection, through a handle of its own that no layer above can close."""
        self._socket = socket.socket(fileno=os.dup(connected.fileno()))
        self._thread.start()

    def progress(self) -> None:
        """Something arrived."""
        self._last = time.monotonic()
        self.check()

    def check(self) -> None:
        """Raises what ended the exchange, if anything did."""
        if self._over is None and self._cancelled():
            self._over = EngineCancelled("the generation was cancelled")
        if self._over is not None:
            raise self._over

    def end(self) -> None:
        """Stops watching."""
        self._done.set()
        if self._socket is not None:
            self._thread.join()
            self._socket.close()

    def _run(self) -> None:
        while not self._done.wait(_POLL):
            self._over = self._over or self._reason()
            if self._over is not None and self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
                return

    def _reason(self) -> InferenceError | None:
        now = time.monotonic()
        if self._cancelled():
            return EngineCancelled("the generation was cancelled")
        if now - self._last > self._limits.idle:
            return UpstreamTimeout(f"the server was silent for {self._limits.idle:g} s")
        if now - self._started > self._limits.total:
            return UpstreamTimeout(f"the answer took longer than {self._limits.total:g} s")
        return None


def _connect(target: Endpoint, limits: Limits, watch: _Watch) -> http.client.HTTPConnection:
    watch.check()
    try:
        connected = socket.create_connection((target.host, target.port), limits.connect)
    except TimeoutError:
        raise UpstreamTimeout(f"{target.url} did not accept a connection in {limits.connect:g} s") from None
    except (OSError, UnicodeError) as error:
        raise UpstreamUnavailable(
            f"no server answers at {target.url}: {_cause(error)}",
            hint="check the address, or start the server",
        ) from None
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = connected
    try:
        watch.guard(connected)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # From here on the watcher keeps the time.
        connected.settimeout(None)
        if target.secure:
            import ssl

            connection.sock = ssl.create_default_context().wrap_socket(connected, server_hostname=target.host)
    except OSError as error:
        connection.close()
        watch.check()
        raise UpstreamUnavailable(f"no secure connection to {target.url}: {_cause(error)}") from None
    return connection


def _send(
    connection: http.client.HTTPConnection, target: Endpoint, method: str, path: str, body: bytes | None
) -> http.client.HTTPResponse:
    headers = {"Accept": "text/event-stream, application/json", "User-Agent": "zerog", "Connection": "close"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    if target.key is not None:
        headers["Authorization"] = f"Bearer {target.key}"
    # A server may refuse before it has read everything: its answer says why.
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request(method, f"{target.path}/{path}", body, headers)
    try:
        return connection.getresponse()
    except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
        raise _Closed from error


def _refusal(response: http.client.HTTPResponse, target: Endpoint, limits: Limits) -> UpstreamRefused:
    if 300 <= response.status < 400:
        return UpstreamRefused(
            f"{target.url} redirects with status {response.status}, which is not followed",
            response.status,
            hint="name the address that it redirects to",
        )
    text = response.read(limits.error_body).decode("utf-8", "replace")
    said = quote(_message(text), target.key)
    hint = "check the key of the upstream" if response.status in (401, 403) else None
    return UpstreamRefused(
        f"{target.url} answers status {response.status}" + (f": {said}" if said else ""),
        response.status,
        hint=hint,
    )


def quote(text: str, key: str | None) -> str:
    """A server's words for an error message: short, printable, without the key."""
    if key:
        text = text.replace(key, "…")
    return _words(text)


def _words(text: str) -> str:
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= _SHOWN else clean[:_SHOWN] + "…"


def _message(text: str) -> str:
    import msgspec

    try:
        error = msgspec.json.decode(text).get("error")
    except (msgspec.DecodeError, AttributeError, RecursionError):
        return text
    inner = error.get("message") if isinstance(error, dict) else error
    return inner if isinstance(inner, str) else text


def _cause(error: Exception) -> str:
    return _words(getattr(error, "strerror", None) or str(error) or type(error).__name__)
