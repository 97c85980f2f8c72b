"""Reading what a stranger sent: identifiers, paths, names, ranges. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from zerog.storage.gateway.answers import InvalidParameter

MAX_PATH = 8192
MAX_PARTS = 128
MAX_NAME = 200
"""Characters of a download's name."""
MAX_RANGES = 16
"""Ranges of one request; more are answered with the whole file, as HTTP allows."""
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})")
Cid = int | bytes
"""A sequence number, or a root of 32 bytes."""


def parse_cid(text: str) -> Cid:
    """A sequence number in decimal, or a root in hexadecimal with or without ``0x``."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 20:
        return parse_seq(text)
    return parse_root(text)


def parse_seq(text: str) -> int:
    """A sequence number below 2^63."""
    if not (text.isascii() and text.isdigit() and len(text) <= 20) or int(text) >= 1 << 63:
        raise InvalidParameter("a txSeq is a decimal number")
    return int(text)


def parse_root(text: str) -> bytes:
    """A root."""
    digits = text.removeprefix("0x").removeprefix("0X")
    if len(digits) != 64 or not re.fullmatch("[0-9a-fA-F]{64}", digits):
        raise InvalidParameter("a root is 32 bytes in hexadecimal")
    return bytes.fromhex(digits)


def parse_query(query: str, fields: int = 200) -> list[tuple[str, str]]:
    """Names and values of a query."""
    if len(query) > MAX_PATH * 2:
        raise InvalidParameter("the query is too long")
    try:
        return parse_qsl(query, keep_blank_values=True, max_num_fields=fields, errors="strict")
    except ValueError:
        raise InvalidParameter("the query is malformed") from None


def parse_path(raw: str) -> list[str]:
    """The names of a percent-encoded path inside a directory, each checked.

    A name is decoded once, after the path was split: what is encoded twice, climbs, or hides a separator, a
    NUL or a control character is refused.
    """
    if len(raw) > MAX_PATH:
        raise InvalidParameter("the path is too long")
    names = [_name(part) for part in raw.split("/") if part]
    if len(names) > MAX_PARTS:
        raise InvalidParameter("the path is too deep")
    return names


def _name(part: str) -> str:
    if _ESCAPE.search(part):
        raise InvalidParameter("the path has a malformed escape")
    try:
        name = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise InvalidParameter("the path is not UTF-8") from None
    unsafe = any(unicodedata.category(char) == "Cc" for char in name)
    if name in (".", "..") or "/" in name or "\\" in name or unsafe:
        raise InvalidParameter(f"{part[:80]!r} is not the name of a file")
    return name


def disposition(name: str) -> str:
    """``Content-Disposition`` of an attachment (RFC 6266): nothing of the name can end the header.

    The plain part keeps harmless ASCII only; the encoded part carries the rest.
    """
    base = re.split(r"[/\\]", name)[-1]
    clean = "".join("_" if unicodedata.category(char)[0] == "C" else char for char in base)[:MAX_NAME].strip()
    if clean.strip(". ") == "":
        clean = "file"
    plain = re.sub(r"[^A-Za-z0-9 ._()+@=,~-]", "_", clean)
    encoded = "" if plain == clean else f"; filename*=UTF-8''{quote(clean.encode(), safe='')}"
    return f'attachment; filename="{plain}"{encoded}'


class Unsatisfiable(Exception):
    """No range lies in the file (416)."""


def parse_ranges(headers: Mapping[str, str], size: int, etag: str) -> list[tuple[int, int]] | None:
    """The wanted parts, ``[start, end)``; ``None`` when the whole file is wanted (RFC 9110, 14).

    A malformed header, another unit, too many ranges, or an ``If-Range`` of another version mean the whole
    file. Raises `Unsatisfiable`.
    """
    text = headers.get("range")
    if text is None or headers.get("if-range", etag) != etag:
        return None
    unit, equals, rest = text.partition("=")
    parts = [part.strip() for part in rest.split(",")] if equals else []
    parts = [part for part in parts if part]
    if unit.strip().lower() != "bytes" or not 0 < len(parts) <= MAX_RANGES:
        return None
    ranges = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match is None or part == "-":
            return None
        first, last = match.groups()
        if first and last and int(first) > int(last):
            return None
        start = int(first) if first else max(0, size - int(last))
        end = min(size, int(last) + 1) if first and last else size
        if start < end:
            ranges.append((start, end))
    if not ranges:
        raise Unsatisfiable
    # Overlapping ranges multiply what one request costs.
    if sum(end - start for start, end in ranges) > size:
        return None
    return ranges


def matches(header: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` names the version."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags
