"""GGUF files made by hand: small ones that are right, and every way to be wrong."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

F32 = 0
_ALIGNMENT = 32


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str, value: Any) -> bytes:
    """A key with a text, an unsigned number, a truth value, or a list of texts or numbers."""
    return text(key) + _value(value)


def _value(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case str() | bytes():
            return struct.pack("<I", 8) + text(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        case [*_]:
            return struct.pack("<IIQ", 9, 4, len(value)) + struct.pack(f"<{len(value)}I", *value)
    raise TypeError(value)


ABOUT: dict[str, Any] = {
    "general.architecture": "llama",
    "general.name": "Tiny",
    "general.file_type": 7,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.ggml.token_type": [1, 1, 1],
    "llama.context_length": 128,
    "tokenizer.chat_template": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
}


def gguf(
    about: dict[str, Any] | None = None,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    pairs: Sequence[bytes] | None = None,
    weights: int = 64,
) -> bytes:
    """A file with one tensor of ``weights`` f32 numbers."""
    entries = (
        [pair(*item) for item in (ABOUT if about is None else about).items()] if pairs is None else pairs
    )
    head = magic + struct.pack("<IQQ", version, 1, len(entries)) + b"".join(entries)
    head += text("output.weight") + struct.pack("<IQIQ", 1, weights, F32, 0)
    head += bytes(-len(head) % _ALIGNMENT)
    return head + bytes(range(256)) * (weights * 4 // 256) + bytes(weights * 4 % 256)
