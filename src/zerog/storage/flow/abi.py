"""The few ABI shapes that the storage contracts use, as words of 32 bytes.

Everything that is read comes from a node which may be broken or hostile: a reader checks every offset and
length against the bytes that are there.
"""

from __future__ import annotations

from zerog.errors import AbiError

WORD = 32


class Reader:
    """Reads words at offsets of ABI-encoded bytes; raises `AbiError` beyond their end."""

    __slots__ = ("_base", "_raw")

    def __init__(self, raw: bytes, base: int = 0) -> None:
        self._raw = raw
        self._base = base

    def word(self, index: int) -> bytes:
        """The word number ``index`` of this tuple."""
        start = self._base + WORD * index
        if start + WORD > len(self._raw):
            raise AbiError(f"{len(self._raw)} bytes of return data end before word {index}")
        return self._raw[start : start + WORD]

    def uint(self, index: int, bits: int = 256) -> int:
        """An unsigned number of at most ``bits`` bits."""
        value = int.from_bytes(self.word(index), "big")
        if value >> bits:
            raise AbiError(f"word {index} is not a uint{bits}")
        return value

    def address(self, index: int) -> str:
        """An address, 0x-hexadecimal in lower case."""
        return f"0x{self.uint(index, 160):040x}"

    def at(self, index: int) -> Reader:
        """The tuple or array whose offset stands in word ``index``."""
        offset = self.uint(index)
        if self._base + offset > len(self._raw):
            raise AbiError(f"an offset points behind the {len(self._raw)} bytes of data")
        return Reader(self._raw, self._base + offset)

    def after_length(self) -> tuple[int, Reader]:
        """Length of the array that starts here, and a reader of its items."""
        length = self.uint(0)
        if length > len(self._raw):
            raise AbiError(f"an array of {length} items in {len(self._raw)} bytes")
        return length, Reader(self._raw, self._base + WORD)

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        if self._base + length > len(self._raw):
            raise AbiError(f"{length} bytes announced, {max(0, len(self._raw) - self._base)} there")
        return self._raw[self._base : self._base + length]


def words(*values: int | bytes) -> bytes:
    """Static arguments: numbers as big-endian words, bytes filled up on the right."""
    return b"".join(
        value.to_bytes(WORD, "big") if isinstance(value, int) else value.ljust(WORD, b"\0")
        for value in values
    )
