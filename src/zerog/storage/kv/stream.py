"""Stream data: what a KV transaction writes, as bytes, and the tags that say which streams it touches.

A KV transaction is an ordinary file of the flow. Its tags name the streams, its content is::

    u64 version
    u32 n { stream(32) u24 key length, key }                       reads
    u32 n { stream(32) u24 key length, key, u64 value length }     writes, then all values in that order
    u32 n { u8 operation, stream(32), [u24 key length, key], [account(20)] }   controls

Integers are big-endian. As the flow keeps whole sectors, a reader sees the content continued with zeros to the
end of its last sector, and ignores what follows the controls: nodes must agree on both.

Writing::

    data = StreamData(version=ANY_VERSION, writes=[Write(stream, b"k1", b"v1-value")])
    data.encode(), tags_of(data.streams())

Reading is done by `StreamReader`, part by part, over a file that may be far larger than memory.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from zerog.storage.layout import SECTOR, SEGMENT

STREAM_DOMAIN = bytes.fromhex("df2ff3bb0af36c6384e6206552a4ed807f6f6a26e7d0aa6bff772ddc9d4307aa")
"""SHA-256 of "STREAM": the first 32 bytes of the tags of a KV transaction."""
ANY_VERSION = (1 << 64) - 1
"""As version of a transaction: no key is checked for newer writes."""
MAX_ITEMS = 65_536
"""Reads, writes or controls of one transaction, at most (each)."""
MAX_KEY = (1 << 24) - 1
"""Bytes of a key, at most."""
MAX_KEY_BYTES = 64 << 20
"""Bytes of all keys of one transaction that a reader keeps in memory; more is a list too long."""
NO_ACCOUNT = bytes(20)


class Operation(enum.IntEnum):
    """What a control does. Operations of one `family` replace each other."""

    GRANT_ADMIN_ROLE = 0x00
    RENOUNCE_ADMIN_ROLE = 0x01
    SET_KEY_TO_SPECIAL = 0x10
    SET_KEY_TO_NORMAL = 0x11
    GRANT_WRITER_ROLE = 0x20
    REVOKE_WRITER_ROLE = 0x21
    RENOUNCE_WRITER_ROLE = 0x22
    GRANT_SPECIAL_WRITER_ROLE = 0x30
    REVOKE_SPECIAL_WRITER_ROLE = 0x31
    RENOUNCE_SPECIAL_WRITER_ROLE = 0x32

    @property
    def family(self) -> int:
        """The high four bits."""
        return self.value & 0xF0

    @property
    def has_key(self) -> bool:
        """Whether a key follows the stream."""
        return self.family in (0x10, 0x30)

    @property
    def has_account(self) -> bool:
        """Whether an account follows; whoever renounces is the sender."""
        return not self.renounces and self.family != 0x10

    @property
    def renounces(self) -> bool:
        """Whether the sender gives up a role of its own."""
        return self in _RENOUNCING


_RENOUNCING = frozenset(
    {
        Operation.RENOUNCE_ADMIN_ROLE,
        Operation.RENOUNCE_WRITER_ROLE,
        Operation.RENOUNCE_SPECIAL_WRITER_ROLE,
    }
)


@dataclass(frozen=True, slots=True)
class Read:
    """A key that must not be newer than the version of the transaction."""

    stream: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Write:
    """A key and its new value; an empty value deletes the key."""

    stream: bytes
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class LocatedWrite:
    """A write of which only the place of the value is known: ``offset`` and ``length`` in the content, bytes."""

    stream: bytes
    key: bytes
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Control:
    """A change of the access control of a stream."""

    operation: Operation
    stream: bytes
    key: bytes = b""
    account: bytes = NO_ACCOUNT


class StreamDataError(ValueError):
    """The content is no stream data; the text is part of the transaction's result."""


def _invalid() -> StreamDataError:
    return StreamDataError("Invalid stream data")


def _too_long() -> StreamDataError:
    return StreamDataError("Stream read/write/access_control list too long")


def tags_of(streams: Iterable[bytes]) -> bytes:
    """The tags of a transaction on ``streams`` (32 bytes each), in ascending order."""
    unique = sorted(set(streams))
    if not unique or any(len(stream) != 32 for stream in unique):
        raise ValueError("a KV transaction names at least one stream, 32 bytes each")
    return STREAM_DOMAIN + b"".join(unique)


def stream_ids(tags: bytes) -> tuple[bytes, ...]:
    """The streams that tags name, in their order; none for tags of other files."""
    if len(tags) % 32 or not tags.startswith(STREAM_DOMAIN):
        return ()
    return tuple(tags[at : at + 32] for at in range(32, len(tags), 32))


@dataclass(slots=True)
class StreamData:
    """A KV transaction that is to be written.

    ``version`` is the newest version of the keys that the writer has seen: a key that is read or written here
    and was changed later makes the transaction fail. `ANY_VERSION` checks nothing.
    """

    version: int = ANY_VERSION
    reads: list[Read] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)

    def streams(self) -> set[bytes]:
        """The streams that its tags must name: those written to or controlled."""
        return {item.stream for items in (self.writes, self.controls) for item in items}

    def encode(self) -> bytes:
        """The content of the file; raises `ValueError` for what the format cannot hold."""
        if not 0 <= self.version <= ANY_VERSION:
            raise ValueError(f"a version is a number below 2^64, not {self.version}")
        pieces = [struct.pack(">Q", self.version), _count("reads", self.reads)]
        pieces += [_stream(read.stream) + _key(read.key) for read in self.reads]
        pieces.append(_count("writes", self.writes))
        pieces += [
            _stream(write.stream) + _key(write.key) + struct.pack(">Q", len(write.value))
            for write in self.writes
        ]
        pieces += [write.value for write in self.writes]
        pieces.append(_count("controls", self.controls))
        pieces += map(_control, self.controls)
        return b"".join(pieces)


def _count(what: str, items: Sequence[object]) -> bytes:
    if len(items) > MAX_ITEMS:
        raise ValueError(f"a transaction has at most {MAX_ITEMS} {what}, not {len(items)}")
    return struct.pack(">I", len(items))


def _stream(stream: bytes) -> bytes:
    if len(stream) != 32:
        raise ValueError(f"a stream id has 32 bytes, not {len(stream)}")
    return stream


def _key(key: bytes) -> bytes:
    if not 1 <= len(key) <= MAX_KEY:
        raise ValueError(f"a key has from 1 to {MAX_KEY} bytes, not {len(key)}")
    return len(key).to_bytes(3, "big") + key


def _control(control: Control) -> bytes:
    operation = control.operation
    encoded = bytes([operation]) + _stream(control.stream)
    if operation.has_key:
        encoded += _key(control.key)
    if operation.has_account:
        if len(control.account) != 20:
            raise ValueError(f"an account has 20 bytes, not {len(control.account)}")
        encoded += control.account
    return encoded


class Content(Protocol):
    """The plain bytes of a file."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` (within the size)."""
        ...


class BytesContent:
    """Content in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, start: int, end: int) -> bytes:
        return self._data[start:end]


class StreamReader:
    """Reads the parts of a transaction in their order: `version`, `reads`, `writes`, `controls`.

    Every length is compared with what is left of the file before it is used, and values are skipped, so memory
    is bounded by the keys (`MAX_KEY_BYTES`) and one window of the file. Raises `StreamDataError`, and whatever
    ``content.read`` raises.
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        self._end = -(-content.size // SECTOR) * SECTOR
        self._at = 0
        self._window = b""
        self._window_start = 0
        self._key_bytes = 0

    def version(self) -> int:
        """The version that the writer has seen."""
        return self._number(8)

    def reads(self) -> list[Read]:
        """The keys that must not have changed."""
        return [Read(self._take(32), self._key()) for _ in range(self._length(32 + 3 + 1))]

    def writes(self) -> list[LocatedWrite]:
        """The writes, the last one of each key, in the order in which the keys appear first."""
        entries = [
            (self._take(32), self._key(), self._number(8)) for _ in range(self._length(32 + 3 + 1 + 8))
        ]
        last: dict[tuple[bytes, bytes], LocatedWrite] = {}
        for stream, key, length in entries:
            if length > self._end - self._at:
                raise _invalid()
            last[stream, key] = LocatedWrite(stream, key, self._at, length)
            self._at += length
        return list(last.values())

    def controls(self, sender: bytes) -> Iterator[Control]:
        """The controls; ``sender`` (20 bytes) is the account of what is renounced."""
        for _ in range(self._length(1 + 32)):
            try:
                operation = Operation(self._number(1))
            except ValueError:
                raise _invalid() from None
            stream = self._take(32)
            key = self._key() if operation.has_key else b""
            if operation.has_account:
                account = self._take(20)
            else:
                account = sender if operation.renounces else NO_ACCOUNT
            yield Control(operation, stream, key, account)

    def _length(self, least: int) -> int:
        """A number of items, of which each has at least ``least`` bytes."""
        count = self._number(4)
        if count > MAX_ITEMS:
            raise _too_long()
        if count * least > self._end - self._at:
            raise _invalid()
        return count

    def _number(self, size: int) -> int:
        return int.from_bytes(self._take(size), "big")

    def _key(self) -> bytes:
        length = self._number(3)
        if not length or length > self._end - self._at:
            raise _invalid()
        self._key_bytes += length
        if self._key_bytes > MAX_KEY_BYTES:
            raise _too_long()
        return self._take(length)

    def _take(self, length: int) -> bytes:
        if length > self._end - self._at:
            raise _invalid()
        pieces = []
        while length:
            offset = self._at - self._window_start
            if not 0 <= offset < len(self._window):
                self._load()
                offset = self._at - self._window_start
            piece = self._window[offset : offset + length]
            pieces.append(piece)
            self._at += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    def _load(self) -> None:
        """Makes the segment around the position the window, continued with zeros to the end of its sector."""
        start = self._at - self._at % SEGMENT
        end = min(start + SEGMENT, self._end)
        stored = min(end, self._content.size)
        window = self._content.read(start, stored) if start < stored else b""
        if len(window) != max(0, stored - start):
            raise ValueError(f"the content gave {len(window)} bytes for {start} to {stored}")
        self._window, self._window_start = window + bytes(end - start - len(window)), start
