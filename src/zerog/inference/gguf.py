"""Reads what a GGUF file says about itself, and trusts none of it.

The format: magic, version, counts, key-value pairs, a table of tensors, then the tensors' data. Whoever
adds a model has it from somewhere, so every count and length is held against a bound, and against what is
left of the file, before anything is allocated. Long lists (vocabularies) are skipped, not kept::

    about = read_gguf(Path("model.gguf"))
    about.quantisation          # "Q8_0"

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from zerog.errors import InferenceError

MAX_PAIRS = 4096
MAX_TENSORS = 65_536
MAX_KEY = 1024
"""Bytes of a key or of a tensor's name."""
MAX_TEXT = 1 << 20
"""Bytes of one text."""
MAX_NUMBERS = 1 << 24
"""Numbers of one list."""
MAX_TEXTS = 1 << 21
"""Texts of all lists together: eight times the largest vocabulary known."""
_VERSIONS = (2, 3)
_DIMENSIONS = 4
_ALIGNMENT = 32

_TEXT, _LIST = 8, 9
_NUMBERS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}

FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
}  # fmt: skip
"""What ``general.file_type`` stands for; llama.cpp's names."""

_TENSOR_TYPES: Mapping[int, tuple[int, int]] = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Weights in a block of a tensor, and its bytes, by ggml's number."""


@dataclass(frozen=True, slots=True)
class Gguf:
    """What a file says about itself.

    ``values`` are its numbers and texts by key; of a list, its length. ``size`` in bytes.
    """

    version: int
    size: int
    tensors: int
    values: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        """For example ``llama``."""
        return str(self.values["general.architecture"])

    @property
    def name(self) -> str | None:
        """What its makers call it."""
        found = self.values.get("general.name")
        return found if isinstance(found, str) else None

    @property
    def chat_template(self) -> str | None:
        """The template in the file, in Jinja; ``None`` when it has none."""
        found = self.values.get("tokenizer.chat_template")
        return found if isinstance(found, str) else None

    @property
    def trained_context(self) -> int | None:
        """Tokens that the model was trained to keep in view."""
        found = self.values.get(f"{self.architecture}.context_length")
        return found if isinstance(found, int) else None

    @property
    def quantisation(self) -> str | None:
        """Name of ``general.file_type``; ``None`` when the file does not say, or says an unknown number."""
        found = self.values.get("general.file_type")
        return FILE_TYPES.get(found) if isinstance(found, int) else None


def read_gguf(path: Path) -> Gguf:
    """What the file at ``path`` says about itself; its tensors are not read.

    Raises
    ------
    InferenceError : it cannot be read, is no GGUF file, is cut off, or exceeds a bound. One sentence.
    """
    try:
        with path.open("rb") as source:
            size = source.seek(0, 2)
            source.seek(0)
            return _Reader(source, size).all()
    except OSError as error:
        raise InferenceError(f"{path} cannot be read: {error.strerror or error}") from None
    except _Malformed as error:
        raise InferenceError(f"{path} is no usable GGUF file: {error}") from None


class _Malformed(Exception):
    """What is wrong, to be said with the file's name."""


class _Reader:
    """One pass from the first byte to the first tensor."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source = source
        self._size = size
        self._at = 0
        self._texts = 0

    def all(self) -> Gguf:
        if (magic := self._take(4, "the magic")) != b"GGUF":
            raise _Malformed(f"it begins with {magic!r} instead of b'GGUF'")
        version = self._number("<I", "the version")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            order = ", written big-endian" if swapped in _VERSIONS else ""
            raise _Malformed(
                f"version {swapped if order else version}{order}; known are 2 and 3, little-endian"
            )
        tensors = self._count("tensors", MAX_TENSORS, 24)
        pairs = self._count("key-value pairs", MAX_PAIRS, 13)
        values: dict[str, Any] = {}
        for index in range(pairs):
            key = self._text(f"key {index}", MAX_KEY)
            if key in values:
                raise _Malformed(f"the key {key!r} stands there twice")
            values[key] = self._value(self._number("<I", f"the type of {key}"), key)
        if not isinstance(values.get("general.architecture"), str):
            raise _Malformed("it names no general.architecture")
        self._check_tensors(tensors, values.get("general.alignment", _ALIGNMENT))
        return Gguf(version, self._size, tensors, values)

    def _check_tensors(self, count: int, alignment: Any) -> None:
        """Every tensor must lie inside the file: a download that was cut off is found here."""
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16 or alignment & (alignment - 1):
            raise _Malformed(f"general.alignment is {alignment!r}, no power of two up to 65536")
        end, last = 0, ""
        for index in range(count):
            name = self._text(f"the name of tensor {index}", MAX_KEY)
            dimensions = self._number("<I", f"the dimensions of tensor {name}")
            if not 1 <= dimensions <= _DIMENSIONS:
                raise _Malformed(f"tensor {name} has {dimensions} dimensions, allowed are 1 to {_DIMENSIONS}")
            weights = math.prod(
                self._number("<Q", f"a dimension of tensor {name}") for _ in range(dimensions)
            )
            kind = self._number("<I", f"the type of tensor {name}")
            offset = self._number("<Q", f"the offset of tensor {name}")
            if kind not in _TENSOR_TYPES:
                raise _Malformed(f"tensor {name} has the unknown type {kind}")
            block, block_size = _TENSOR_TYPES[kind]
            if (until := offset + -(-weights // block) * block_size) > end:
                end, last = until, name
        start = -(-self._at // alignment) * alignment
        if start + end > self._size:
            raise _Malformed(
                f"it is cut off: tensor {last} ends at byte {start + end} of a file of {self._size} bytes"
            )

    def _value(self, kind: int, key: str) -> Any:
        if kind == _TEXT:
            return self._text(key, MAX_TEXT)
        if kind == _LIST:
            return self._skip_list(key)
        return self._number(_form(kind, key), key)

    def _skip_list(self, key: str) -> int:
        """Passes over a list; its length."""
        kind = self._number("<I", f"the type of {key}")
        if kind == _LIST:
            raise _Malformed(f"{key} is a list of lists")
        if kind == _TEXT:
            count = self._count(f"texts in {key}", MAX_TEXTS - self._texts, 8)
            self._texts += count
            for _ in range(count):
                self._skip(self._length(key, MAX_TEXT), key)
            return count
        size = struct.calcsize(_form(kind, key))
        count = self._count(f"numbers in {key}", MAX_NUMBERS, size)
        self._skip(count * size, key)
        return count

    def _text(self, what: str, limit: int) -> str:
        data = self._take(self._length(what, limit), what)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise _Malformed(f"{what} is not UTF-8 at byte {error.start}") from None

    def _length(self, what: str, limit: int) -> int:
        length: int = self._number("<Q", f"the length of {what}")
        if length > limit:
            raise _Malformed(f"{what} has {length} bytes, more than the limit of {limit}")
        return length

    def _count(self, what: str, limit: int, least: int) -> int:
        """A count of things of at least ``least`` bytes each."""
        count: int = self._number("<Q", f"the number of {what}")
        if count > limit:
            raise _Malformed(f"{count} {what}, more than the limit of {limit}")
        if count * least > self._size - self._at:
            raise _Malformed(f"it is cut off: {count} {what} do not fit the rest of the file")
        return count

    def _number(self, form: str, what: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form), what))[0]

    def _take(self, length: int, what: str) -> bytes:
        self._advance(length, what)
        data = self._source.read(length)
        if len(data) < length:
            raise _Malformed(f"it is cut off at {what}")
        return data

    def _skip(self, length: int, what: str) -> None:
        self._advance(length, what)
        self._source.seek(length, 1)

    def _advance(self, length: int, what: str) -> None:
        self._at += length
        if self._at > self._size:
            raise _Malformed(f"it is cut off at {what}")


def _form(kind: int, key: str) -> str:
    if kind not in _NUMBERS:
        raise _Malformed(f"{key} has the unknown type {kind}")
    return _NUMBERS[kind]
