"""Finds whole receipts on a chain that keeps only their hashes.

Contracts store and log a receipt's hash; who draws an audit needs the receipt itself. It stands in the
input of the transaction that brought it, whatever contract that went to: as sixteen words that hash to
what was logged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zerog.errors import InferenceError
from zerog.inference.encoding import ZERO_ADDRESS
from zerog.inference.receipt import InferenceReceipt

_WORD = 32
_SIZES = {"address": 20, "bytes32": 32, "uint8": 1, "uint32": 4, "uint64": 8}
_MEMBERS = InferenceReceipt.members()
SIZE = _WORD * len(_MEMBERS)
"""Bytes of an ABI-encoded receipt."""


def find_receipt(
    data: bytes, request_id: bytes, receipt_hash: bytes, separator: bytes
) -> InferenceReceipt | None:
    """The receipt with that hash inside a transaction's input; ``None`` when it is not there.

    ``request_id`` is its first word. Other callers' data may hold that word anywhere, so every place is tried.
    """
    at = data.find(request_id)
    while at >= 0:
        receipt = parse_receipt(data[at : at + SIZE])
        if receipt is not None and receipt.digest(separator) == receipt_hash:
            return receipt
        at = data.find(request_id, at + 1)
    return None


def parse_receipt(words: bytes) -> InferenceReceipt | None:
    """A receipt from its ABI encoding; ``None`` when the bytes are too few or a word is out of range."""
    if len(words) < SIZE:
        return None
    values: list[Any] = []
    for index, (kind, _) in enumerate(_MEMBERS):
        word, size = words[index * _WORD : (index + 1) * _WORD], _SIZES[kind]
        if any(word[: _WORD - size]):
            return None
        value = word[_WORD - size :]
        values.append(int.from_bytes(value) if kind.startswith("uint") else value)
    return InferenceReceipt(*values)


def receipt_of(struct: object) -> InferenceReceipt:
    """A receipt from a decoded ABI tuple.

    Raises
    ------
    InferenceError : it has other members than a receipt.
    """
    values = list(struct) if isinstance(struct, tuple | list) else []
    if len(values) != len(_MEMBERS):
        raise InferenceError(f"a receipt has {len(_MEMBERS)} members, not {len(values)}")
    plain: Iterator[Any] = (
        bytes.fromhex(value[2:]) if kind == "address" else value
        for (kind, _), value in zip(_MEMBERS, values, strict=True)
    )
    return InferenceReceipt(*plain)


def as_address(text: str | None) -> bytes:
    """20 bytes of a 0x-address."""
    return ZERO_ADDRESS if text is None else bytes.fromhex(text[2:])
