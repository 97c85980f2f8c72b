"""Runs the public fixture formats: state, blockchain, transaction, trie and RLP tests.

Each case and fork gives one `Case`, in the order of the files. Folders are walked in sorted order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path

import msgspec

from zerog.errors import ZerogError, native_errors


class Suite(Enum):
    """A fixture format."""

    STATE = "state_test"
    BLOCK = "block_test"
    TRANSACTION = "transaction_test"
    TRIE = "trie_test"
    RLP = "rlp_test"


class Case(msgspec.Struct, frozen=True, rename="camel"):
    """The outcome of one case under one fork; ``error`` says why ``passed`` is false."""

    name: str
    fork: str | None = None
    passed: bool = msgspec.field(name="pass", default=False)
    state_root: str | None = None
    error: str | None = None


def files(paths: Iterable[Path]) -> Iterator[Path]:
    """The JSON files among ``paths`` and below them; raises `ZerogError` for a missing path."""
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*.json") if not p.name.startswith("."))
        elif path.exists():
            yield path
        else:
            raise ZerogError(f"there is no file or folder {path}")


def run(suite: Suite, paths: Iterable[Path]) -> Iterator[Case]:
    """Runs every case of ``paths``. A file that cannot be read as a fixture is one failing case."""
    from zerog import _native

    runner: Callable[[str], Iterable[str]] = getattr(_native, suite.value)
    for path in files(paths):
        try:
            with native_errors():
                for line in runner(str(path)):
                    yield msgspec.json.decode(line, type=Case)
        except ZerogError as error:
            yield Case(str(path), error=error.message)
