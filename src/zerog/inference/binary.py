"""The binary form of Proof-of-Inference records: big-endian numbers and length-prefixed fields.

`Reader` is strict, because what it reads comes from strangers: every length is compared with its limit
and with the bytes that are there before anything is allocated, and bytes that are left over are refused.
Whoever decodes and encodes again gets the same bytes::

    data = Writer().u8(1).field(b"hello").done()
    reader = Reader(data, "the greeting")
    reader.u8("version"), reader.field("text", 100), reader.end()
"""

from __future__ import annotations

import struct
from typing import Any

from zerog.errors import InferenceError

_U32_LIMIT = 1 << 32


class Writer:
    """Collects fields; every method returns the writer."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def u8(self, value: int) -> Writer:
        """One byte."""
        return self.fixed(value.to_bytes(1))

    def u32(self, value: int) -> Writer:
        """Four bytes; raises `InferenceError` when the value does not fit."""
        if not 0 <= value < _U32_LIMIT:
            raise InferenceError(f"{value} does not fit 32 bits")
        return self.fixed(value.to_bytes(4))

    def fixed(self, data: bytes) -> Writer:
        """Bytes whose number the format fixes."""
        self._parts.append(data)
        return self

    def field(self, data: bytes) -> Writer:
        """Bytes behind their number (u32)."""
        return self.u32(len(data)).fixed(data)

    def done(self) -> bytes:
        """Everything that was written."""
        return b"".join(self._parts)


class Reader:
    """Takes fields off the front of ``data``; ``what`` names the record in errors."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self._at

    def fixed(self, name: str, size: int) -> bytes:
        """``size`` bytes; raises `InferenceError` when fewer are left."""
        if size > self.left:
            raise InferenceError(
                f"{self._what} is cut short: {name} has {size} bytes, {self.left} are left at byte {self._at}"
            )
        self._at += size
        return bytes(self._data[self._at - size : self._at])

    def u8(self, name: str) -> int:
        """One byte."""
        return self.fixed(name, 1)[0]

    def u32(self, name: str) -> int:
        """Four bytes."""
        return int.from_bytes(self.fixed(name, 4))

    def count(self, name: str, limit: int, size: int) -> int:
        """A number of items of at least ``size`` bytes each, which must be there."""
        number = self.u32(name)
        if number > limit:
            raise InferenceError(f"{self._what}: {name} counts {number}, more than the limit of {limit}")
        if number * size > self.left:
            raise InferenceError(f"{self._what} is cut short: {number} {name} do not fit {self.left} bytes")
        return number

    def field(self, name: str, limit: int) -> bytes:
        """Bytes behind their number, at most ``limit``."""
        size = self.u32(name)
        if size > limit:
            raise InferenceError(f"{self._what}: {name} has {size} bytes, more than the limit of {limit}")
        return self.fixed(name, size)

    def text(self, name: str, limit: int) -> str:
        """A field of UTF-8."""
        try:
            return self.field(name, limit).decode()
        except UnicodeDecodeError:
            raise InferenceError(f"{self._what}: {name} is not UTF-8") from None

    def ascii(self, name: str, limit: int) -> str:
        """A field of ASCII."""
        try:
            return self.field(name, limit).decode("ascii")
        except UnicodeDecodeError:
            raise InferenceError(f"{self._what}: {name} is not ASCII") from None

    def unpack(self, name: str, form: struct.Struct) -> tuple[Any, ...]:
        """Values of a fixed layout."""
        return form.unpack(self.fixed(name, form.size))

    def end(self) -> None:
        """Raises `InferenceError` when bytes are left."""
        if self.left:
            raise InferenceError(f"{self._what} goes on for {self.left} bytes after its end")
