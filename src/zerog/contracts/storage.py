"""Where Solidity puts state variables, as far as genesis storage needs it.

Source: Solidity documentation, "Layout of State Variables in Storage". Keys and slots are integers,
the result of every function is a mapping from slot to word.
"""

from __future__ import annotations

from collections.abc import Callable

Keccak = Callable[[bytes], bytes]
Slots = dict[int, int]

_WORD = 32
_SHORT_STRING_LIMIT = 31


def mapping_slot(keccak256: Keccak, slot: int, key: int) -> int:
    """Slot of ``mapping[key]`` for a mapping declared at ``slot``; addresses and hashes are integers."""
    return int.from_bytes(keccak256(key.to_bytes(_WORD) + slot.to_bytes(_WORD)))


def array_slots(keccak256: Keccak, slot: int, words: list[int]) -> Slots:
    """A dynamic array of 32-byte words declared at ``slot``: its length, then the elements."""
    first = int.from_bytes(keccak256(slot.to_bytes(_WORD)))
    return {slot: len(words)} | {first + i: word for i, word in enumerate(words)}


def string_slots(slot: int, text: str) -> Slots:
    """A ``string`` declared at ``slot``; at most 31 bytes, which share the slot with their length.

    Raises
    ------
    ValueError : the text is longer.
    """
    data = text.encode()
    if len(data) > _SHORT_STRING_LIMIT:
        raise ValueError(f"{text!r} has {len(data)} bytes, a short string at most {_SHORT_STRING_LIMIT}")
    return {slot: int.from_bytes(data.ljust(_SHORT_STRING_LIMIT, b"\0") + bytes([2 * len(data)]))}


def packed(*fields: tuple[int, int]) -> int:
    """One word of several fields given as (value, size in bytes), the first at the lowest end.

    Raises
    ------
    ValueError : a value does not fit its size, or the fields do not fit a word.
    """
    word = shift = 0
    for value, size in fields:
        if not 0 <= value < 1 << (8 * size):
            raise ValueError(f"{value} does not fit {size} bytes")
        word |= value << (8 * shift)
        shift += size
    if shift > _WORD:
        raise ValueError(f"{shift} bytes do not fit a word")
    return word
