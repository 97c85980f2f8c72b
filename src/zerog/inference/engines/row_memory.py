"""Logit rows read from where llama.cpp keeps them, without a Python object for each number.

cyllama hands out a row as a list of floats, which takes a tenth of the time of decoding a token, and
its library exports no symbol that could be called instead. So the address of the rows is looked for
once, by their content, and read through ``/proc/self/mem``: a wrong address is an error of the kernel,
not of this process. `LlamaContext` checks every row against cyllama's own word and goes back to the
lists where anything differs, or where there is no such file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from zerog.inference.logits import Logits

_MEMORY = "/proc/self/mem"
_CONTEXT_BYTES = 16384
"""How much of llama.cpp's context is searched; the pointer lies 208 bytes from its beginning."""
_HEAD = 64
"""Bytes that are compared first."""
_USER_SPACE = range(1 << 16, 1 << 47)


class RowMemory:
    """The rows of the last decode call, in the order of the batch.

    Parameters
    ----------
    file : descriptor of ``/proc/self/mem``, owned from now on.
    field : address of the pointer to the rows; llama.cpp may move the rows when they become more.
    size : numbers of a row.
    """

    def __init__(self, file: int, field: int, size: int) -> None:
        self._file = file
        self._field = field
        self._size = size

    @classmethod
    def find(cls, holder: object, rows: Sequence[Logits]) -> RowMemory | None:
        """Where ``rows`` lie now; ``None`` when that cannot be found out.

        Parameters
        ----------
        holder : object of an extension type that points to llama.cpp's context.
        rows : at least one row as cyllama gave it, from the first of the last decode call on.
        """
        try:
            file = os.open(_MEMORY, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        wanted = rows[0].tobytes()
        for field, address in _pointers(file, holder):
            if _read(file, address, _HEAD) == wanted[:_HEAD] and _read(file, address, len(wanted)) == wanted:
                found = cls(file, field, len(rows[0]))
                if all(_same(found.read(number), row) for number, row in enumerate(rows)):
                    return found
        os.close(file)
        return None

    def read(self, number: int) -> Logits | None:
        """A copy of row ``number``; ``None`` when its memory cannot be read."""
        row = np.empty(self._size, np.float32)
        pointer = _read(self._file, self._field, 8)
        if len(pointer) != 8:
            return None
        address = int.from_bytes(pointer, "little") + number * row.nbytes
        try:
            return row if os.preadv(self._file, [row.data], address) == row.nbytes else None
        except (OSError, OverflowError):
            return None

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._file)


def _pointers(file: int, holder: object) -> Iterator[tuple[int, int]]:
    """Address and value of everything like a pointer in the objects that ``holder`` points to."""
    # In CPython the id of an object is its address; the size is that of its C structure.
    for _, target in _words(file, id(holder), type(holder).__basicsize__):
        if target in _USER_SPACE and target % 8 == 0:
            for field, address in _words(file, target, _CONTEXT_BYTES):
                if address in _USER_SPACE and address % 4 == 0:
                    yield field, address


def _words(file: int, address: int, size: int) -> Iterator[tuple[int, int]]:
    data = _read(file, address, size)
    for offset, (word,) in enumerate(struct.iter_unpack("<Q", data[: len(data) // 8 * 8])):
        yield address + 8 * offset, word


def _read(file: int, address: int, size: int) -> bytes:
    """Bytes at an address; fewer or none where nothing is."""
    try:
        return os.pread(file, size, address)
    except (OSError, OverflowError):
        return b""


def _same(one: Logits | None, other: Logits) -> bool:
    return one is not None and one.tobytes() == other.tobytes()
