"""A directory as one file: the manifest that names its files by their roots.

Compatible with the official Go client::

    keccak256("0g-storage-client-dir-codec")   32 bytes
    u16 version, big-endian                    2 (1 is read, too)
    JSON                                       {"name", "type": "file"|"directory"|"symbolic",
                                                "roots", "size", "link", "entries"}

``roots`` are those of the file's fragments, in order; an empty file has none. Version 1 has one ``hash``
instead. The entries of a directory are sorted by the bytes of their names; the top one is called ``/``.

A manifest comes from anywhere: `decode` refuses names that are paths, duplicates, trees that are too deep or
too large, and links that lead out of the tree.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from zerog.chain.keys import keccak256
from zerog.errors import StorageError
from zerog.storage.layout import MAX_FILE_SIZE

VERSION = 2
MAX_MANIFEST = 64 << 20
"""Bytes of the largest manifest."""
MAX_DEPTH = 100
"""Directories inside one another, at most."""
MAX_NESTING = 2 * MAX_DEPTH + 4
"""Open brackets of its JSON, at most: two for each directory, and some for its entries' members."""
MAX_ENTRIES = 1_000_000
"""Files, links and directories of a manifest, at most."""
MAX_NAME = 255
"""Bytes of a name, at most, as on a file system."""
_HEAD = 34
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{\]}]', re.DOTALL)
"""Strings as a whole, so that brackets in them do not count, and brackets."""


def magic() -> bytes:
    """The first 32 bytes of a manifest."""
    return keccak256(b"0g-storage-client-dir-codec")


class Kind(enum.Enum):
    """What an entry is; the values are those of the format."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "symbolic"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file (``roots``, ``size`` in bytes), a directory (``entries``) or a symbolic link (``link``)."""

    name: str
    kind: Kind
    roots: tuple[bytes, ...] = ()
    size: int = 0
    link: str = ""
    entries: tuple[Entry, ...] = field(default=())

    def locate(self, path: str) -> Entry | None:
        """The entry at a relative path with ``/`` between names; ``None`` when there is none."""
        entry = self
        for name in (part for part in path.split("/") if part not in ("", ".")):
            found = next((child for child in entry.entries if child.name == name), None)
            if found is None:
                return None
            entry = found
        return entry

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Entry]]:
        """Every entry below this one with its relative path, directories before what is in them."""
        for child in self.entries:
            path = f"{prefix}{child.name}"
            yield path, child
            yield from child.walk(path + "/")


def is_manifest(data: bytes) -> bool:
    """Whether a file that begins with ``data`` (34 bytes are enough) is a manifest."""
    return data[:32] == magic()


def encode(top: Entry) -> bytes:
    """The manifest of a directory; raises `StorageError` for what `decode` would refuse."""
    body = msgspec.json.encode(_to_json(top))
    blob = magic() + VERSION.to_bytes(2, "big") + body
    decode(blob)
    return blob


def decode(blob: bytes) -> Entry:
    """The directory of a manifest; raises `StorageError` that names what is wrong with it."""
    if len(blob) > MAX_MANIFEST:
        raise StorageError(f"a directory manifest has at most {MAX_MANIFEST} bytes, not {len(blob)}")
    if len(blob) < _HEAD or not is_manifest(blob):
        raise StorageError("the file is not a directory manifest")
    version = int.from_bytes(blob[32:_HEAD], "big")
    if version not in (1, VERSION):
        raise StorageError(f"the directory manifest has version {version}; 1 and 2 are known")
    if _nesting(blob[_HEAD:]) > MAX_NESTING:
        # The decoder recurses; how far it may is up to the program around it.
        raise StorageError(f"the directory manifest is deeper than {MAX_DEPTH}")
    try:
        raw = msgspec.json.decode(blob[_HEAD:])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise StorageError(f"the directory manifest is not JSON: {error}") from None
    return _Reader().top(raw)


def _nesting(body: bytes) -> int:
    """How many brackets of JSON are open at the deepest place; stops counting beyond `MAX_NESTING`."""
    depth = deepest = 0
    for token in _STRUCTURE.finditer(body):
        mark = token.group()[0]
        if mark in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_NESTING:
                break
        elif mark in b"]}":
            depth -= 1
    return deepest


class _Reader:
    """Turns the JSON of a manifest into entries and checks every one."""

    def __init__(self) -> None:
        self._count = 0

    def top(self, raw: Any) -> Entry:
        if not isinstance(raw, dict) or raw.get("type") != Kind.DIRECTORY.value:
            raise StorageError("the top of a directory manifest is not a directory")
        return Entry("/", Kind.DIRECTORY, entries=self._entries(raw, 0))

    def _entries(self, raw: dict[str, Any], depth: int) -> tuple[Entry, ...]:
        children = raw.get("entries") or []
        if not isinstance(children, list):
            raise StorageError("the entries of a directory manifest are not a list")
        if depth >= MAX_DEPTH:
            raise StorageError(f"the directory manifest is deeper than {MAX_DEPTH}")
        entries = tuple(self._entry(child, depth) for child in children)
        if len({entry.name for entry in entries}) != len(entries):
            raise StorageError("the directory manifest names an entry twice")
        return entries

    def _entry(self, raw: Any, depth: int) -> Entry:
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise StorageError(f"the directory manifest has more than {MAX_ENTRIES} entries")
        if not isinstance(raw, dict):
            raise StorageError("an entry of the directory manifest is no object")
        name = _name(raw.get("name"))
        match raw.get("type"):
            case Kind.DIRECTORY.value:
                return Entry(name, Kind.DIRECTORY, entries=self._entries(raw, depth + 1))
            case Kind.LINK.value:
                return Entry(name, Kind.LINK, link=_link(name, raw.get("link"), depth))
            case Kind.FILE.value:
                return _file(name, raw)
            case kind:
                raise StorageError(f"{name!r} in the directory manifest has the unknown type {kind!r:.40}")


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise StorageError(f"a name in the directory manifest is no text: {name!r:.40}")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise StorageError(f"a name in the directory manifest is no valid text: {name!r:.60}") from None
    control = any(ord(char) < 32 or ord(char) == 127 for char in name)
    if name in ("", ".", "..") or "/" in name or "\\" in name or control or length > MAX_NAME:
        raise StorageError(f"{name!r:.60} in the directory manifest is not a usable name")
    return name


def _link(name: str, link: Any, depth: int) -> str:
    """The target of a link in a directory at ``depth``: relative and inside the tree."""
    if not isinstance(link, str) or not link or "\0" in link or len(link) > 4096:
        raise StorageError(f"the link {name!r} in the directory manifest has no usable target")
    level = depth
    for part in link.split("/"):
        level += -1 if part == ".." else 0 if part in ("", ".") else 1
        if level < 0:
            break
    if link.startswith("/") or level < 0:
        raise StorageError(f"the link {name!r} leads out of the directory: {link!r:.80}")
    return link


def _file(name: str, raw: dict[str, Any]) -> Entry:
    size = raw.get("size") or 0
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_FILE_SIZE:
        raise StorageError(f"the file {name!r} in the directory manifest has no usable size")
    single = raw.get("hash")
    roots = raw.get("roots") or ([single] if single else [])
    if not isinstance(roots, list):
        raise StorageError(f"the roots of {name!r} in the directory manifest are not a list")
    parsed = tuple(_root(name, root) for root in roots)
    if bool(parsed) != bool(size) or len(parsed) > 1 << 16:
        raise StorageError(
            f"the file {name!r} in the directory manifest has {size} bytes, {len(parsed)} roots"
        )
    return Entry(name, Kind.FILE, roots=parsed, size=size)


def _root(name: str, text: Any) -> bytes:
    try:
        root = bytes.fromhex(text.removeprefix("0x"))
    except (ValueError, AttributeError):
        root = b""
    if len(root) != 32:
        raise StorageError(f"a root of {name!r} in the directory manifest has not 32 bytes")
    return root


def _to_json(entry: Entry) -> dict[str, Any]:
    raw: dict[str, Any] = {"name": entry.name, "type": entry.kind.value}
    if entry.roots:
        raw["roots"] = ["0x" + root.hex() for root in entry.roots]
    if entry.size:
        raw["size"] = entry.size
    if entry.link:
        raw["link"] = entry.link
    if entry.entries:
        ordered = sorted(entry.entries, key=lambda child: child.name.encode("utf-8", "surrogatepass"))
        raw["entries"] = [_to_json(child) for child in ordered]
    return raw
