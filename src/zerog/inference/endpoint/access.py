"""API keys of the endpoint: a file with one a line, readable only by its owner."""

from __future__ import annotations

import os
from pathlib import Path

from zerog.errors import ConfigError

_MAX_FILE = 1 << 20
_SHORTEST = 16


def load_keys(path: Path) -> tuple[str, ...]:
    """The keys in a file; empty lines and lines that start with ``#`` count for nothing.

    Raises
    ------
    ConfigError : the file cannot be read, others may read it, or it holds no key of sixteen
        printable ASCII characters or more. Names the line, never the key.
    """
    try:
        with path.open("rb") as source:
            if os.fstat(source.fileno()).st_mode & 0o077:
                raise ConfigError(f"others can read the API keys in {path}", hint=f"chmod 600 {path}")
            data = source.read(_MAX_FILE)
    except OSError as error:
        raise ConfigError(f"cannot read the API keys {path}: {error.strerror}") from None
    keys = []
    for number, raw in enumerate(data.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith(b"#"):
            continue
        if len(line) < _SHORTEST or not all(0x21 <= byte <= 0x7E for byte in line):
            raise ConfigError(
                f"line {number} of {path} is no API key: want at least {_SHORTEST} printable characters"
            )
        keys.append(line.decode())
    if not keys:
        raise ConfigError(
            f"{path} holds no API key", hint="without inference.api_key_file no key is asked for"
        )
    return tuple(keys)
