"""The key that signs receipts on this machine: made once, readable only by its owner."""

from __future__ import annotations

import os
from pathlib import Path

from zerog.chain.keys import parse_key, random_key
from zerog.errors import InferenceError, KeystoreError

_LONGEST_TEXT = 128


def load_or_create(path: Path) -> bytes:
    """The signing key in ``path``; makes one when there is no file.

    Raises
    ------
    InferenceError : the file cannot be read or written, holds no key, or others may read it.
    """
    try:
        return _load(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InferenceError(f"cannot read the signing key {path}: {error.strerror}") from None
    key = random_key()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as sink:
            sink.write(key.hex() + "\n")
    except FileExistsError:
        return _load(path)
    except OSError as error:
        raise InferenceError(f"cannot write the signing key {path}: {error.strerror}") from None
    return key


def _load(path: Path) -> bytes:
    with path.open() as source:
        if os.fstat(source.fileno()).st_mode & 0o077:
            raise InferenceError(f"others can read the signing key {path}", hint=f"chmod 600 {path}")
        text = source.read(_LONGEST_TEXT)
    try:
        return parse_key(text)
    except KeystoreError as error:
        raise InferenceError(f"{path} holds no signing key: {error.message}") from None
