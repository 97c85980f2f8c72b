"""Runs the public fixture formats: state, blockchain, transaction, trie and RLP tests.

Each case and fork gives one `Case`, in the sorted order of the files.
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


def parts(paths: Iterable[Path]) -> Iterator[Path]:
    """What is run as one: a file, or a folder without the folders in it.

    The native runner takes the files of a part in parallel; parts come one after another, so
    results appear while a large tree is under way. Raises `ZerogError` for a missing path.
    """
    for path in paths:
        if not path.exists():
            raise ZerogError(f"there is no file or folder {path}")
        children = sorted(path.iterdir()) if path.is_dir() else []
        if any(child.is_dir() for child in children):
            yield from (c for c in children if c.suffix == ".json" or (c.is_dir() and any(c.rglob("*.json"))))
        else:
            yield path


def run(suite: Suite, paths: Iterable[Path]) -> Iterator[Case]:
    """Runs every case of ``paths``. A part that cannot be run at all is one failing case."""
    from zerog import _native

    runner: Callable[[str], Iterable[str]] = getattr(_native, suite.value)
    for path in parts(paths):
        try:
            with native_errors():
                lines = runner(str(path))
        except ZerogError as error:
            yield Case(str(path), error=error.message)
            continue
        for line in lines:
            yield msgspec.json.decode(line, type=Case)
