"""State files: what `--dump-state` writes and `--load-state` reads.

The native engine writes and reads JSON lines (heading, one account per line, closing line) as a
stream. Around that, a file may be packed with gzip, and a file that anvil wrote is converted, so
that a project can bring its state along.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from zerog.errors import ZerogError

_GZIP = b"\x1f\x8b"
_HEADING = b'{"format":"zerog-state"'
_CHUNK = 1 << 20
_ZERO_HASH = "0x" + "00" * 32


class StateFileError(ZerogError):
    """A state file that cannot be read; the message says where it breaks."""


def normalise(source: Path, target: Path, max_bytes: int) -> Path:
    """Writes ``source`` as the plain format of the native engine to ``target``.

    ``max_bytes`` bounds the unpacked size, so that a small file cannot fill the disk.
    """
    import gzip
    import zlib

    plain = target.with_suffix(".plain")
    try:
        with source.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            with plain.open("wb") as out:
                if packed:
                    with gzip.open(file, "rb") as stream:
                        _copy(stream, out, max_bytes)  # type: ignore[arg-type]
                else:
                    _copy(file, out, max_bytes)
        with plain.open("rb") as file:
            ours = file.read(len(_HEADING)) == _HEADING
    except (OSError, EOFError, zlib.error) as error:
        raise StateFileError(f"{source.name} is not a readable state file: {error}") from None
    if ours:
        return plain.replace(target)
    _from_anvil(plain, target)
    plain.unlink()
    return target


def pack(plain: Path, target: Path) -> None:
    """Packs a plain state file with gzip."""
    import gzip
    import shutil

    with plain.open("rb") as source, gzip.open(target, "wb", compresslevel=4) as out:
        shutil.copyfileobj(source, out, _CHUNK)


def _copy(source: BinaryIO, target: BinaryIO, max_bytes: int) -> None:
    total = 0
    while chunk := source.read(_CHUNK):
        total += len(chunk)
        if total > max_bytes:
            raise StateFileError(f"the state is larger than {max_bytes} bytes")
        target.write(chunk)


class _AnvilAccount(msgspec.Struct, frozen=True):
    balance: str = "0x0"
    nonce: int | str = 0
    code: str = "0x"
    storage: dict[str, str] = {}


class _AnvilBlock(msgspec.Struct, frozen=True):
    number: int | str = 0
    timestamp: int | str = 0


class _AnvilState(msgspec.Struct, frozen=True):
    accounts: dict[str, _AnvilAccount]
    block: _AnvilBlock | None = None


def _integer(value: int | str) -> int:
    if isinstance(value, int):
        return value
    try:
        return int(value, 0)
    except ValueError:
        raise StateFileError(f"{value[:40]!r} in the anvil state is no number") from None


def _from_anvil(source: Path, target: Path) -> None:
    try:
        state = msgspec.json.decode(source.read_bytes(), type=_AnvilState)
    except msgspec.DecodeError as error:
        raise StateFileError(f"neither a zerog nor an anvil state: {error}") from None
    with target.open("wb") as out:
        heading: dict[str, Any] = {
            "format": "zerog-state",
            "version": 1,
            "chainId": 0,
            "number": 0,
            "hash": _ZERO_HASH,
            "stateRoot": _ZERO_HASH,
        }
        if state.block is not None:
            # Contracts remember block numbers and times: the chain grows to those of the dump.
            heading["number"] = _integer(state.block.number)
            heading["timestamp"] = _integer(state.block.timestamp)
        out.write(msgspec.json.encode(heading) + b"\n")
        for address, account in sorted(state.accounts.items(), key=lambda item: item[0].lower()):
            line = {
                "address": address,
                "nonce": _integer(account.nonce),
                "balance": account.balance,
                "code": account.code,
                "storage": account.storage,
            }
            out.write(msgspec.json.encode(line) + b"\n")
        out.write(msgspec.json.encode({"accounts": len(state.accounts)}) + b"\n")
