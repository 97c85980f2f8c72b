"""Private keys: derivation, signatures, and key files of the web3 keystore format, version 3.

The cryptography is the native engine's. Key files live in a directory that only its owner can
enter (0700), each readable only by its owner (0600), under the name that geth gives them. Nothing
here logs, prints or puts a key, a password or a mnemonic into an error.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from zerog.errors import KeystoreError, native_errors

MAX_KEYSTORE_BYTES = 1 << 20
_SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True, slots=True)
class DevAccount:
    """An account whose key the node knows: 0x-address and 32 bytes of key."""

    address: str
    key: bytes = field(repr=False)


def derive(mnemonic: str, path: str, count: int) -> list[DevAccount]:
    """The first ``count`` accounts of a BIP-39 phrase under a BIP-32 path ending before the index."""
    from zerog import _native

    with native_errors():
        return [DevAccount(a, k) for a, k in _native.derive_accounts(mnemonic, path, count)]


def random_mnemonic(words: int = 12) -> str:
    """A fresh BIP-39 phrase of 12, 15, 18, 21 or 24 words."""
    from zerog import _native

    with native_errors():
        return _native.random_mnemonic(words)


def random_key() -> bytes:
    """A fresh private key, 32 bytes, from the operating system's randomness."""
    return (1 + secrets.randbelow(_SECP256K1_ORDER - 1)).to_bytes(32, "big")


def parse_key(text: str) -> bytes:
    """A private key from 64 hexadecimal digits, with or without 0x. The text is not echoed."""
    digits = text.strip().removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise KeystoreError(f"a private key has 64 hexadecimal digits; this has {len(digits)} characters")
    key = bytes.fromhex(digits)
    if not 0 < int.from_bytes(key, "big") < _SECP256K1_ORDER:
        raise KeystoreError("the private key is outside the range of secp256k1")
    return key


def address_of(key: bytes) -> str:
    """The checksummed address of a private key."""
    from zerog import _native

    with native_errors():
        return _native.address_of(key)


def keccak256(data: bytes) -> bytes:
    """keccak-256, 32 bytes."""
    from zerog import _native

    return _native.keccak256(data)


def keccak256_each(data: memoryview, size: int) -> list[bytes]:
    """keccak-256 of every ``size`` bytes of ``data``: eight at a time, without the interpreter's lock."""
    from zerog import _native

    hashes: bytes = _native.keccak256_each(data, size)
    return [hashes[at : at + 32] for at in range(0, len(hashes), 32)]


def checksummed(address: str) -> str:
    """The address in the mixed case of EIP-55."""
    digits = address[2:].lower()
    digest = keccak256(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) >= 8 else c for c, d in zip(digits, digest, strict=False))


def message_digest(message: bytes) -> bytes:
    """The digest that ``personal_sign`` signs (EIP-191, version 0x45)."""
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)


def typed_data_digest(typed_data: dict[str, Any]) -> bytes:
    """The digest of EIP-712 typed data (``types``, ``domain``, ``primaryType``, ``message``)."""
    from zerog import _native

    with native_errors():
        return _native.eip712_digest(msgspec.json.encode(typed_data).decode())


def sign_digest(key: bytes, digest: bytes) -> bytes:
    """r ‖ s ‖ v (27 or 28) with low s, 65 bytes."""
    from zerog import _native

    with native_errors():
        return _native.sign_digest(key, digest)


def recover(digest: bytes, signature: bytes) -> str:
    """The address that signed; strict: low s, v 27 or 28."""
    from zerog import _native

    with native_errors():
        return _native.recover(digest, signature)


def sign_transaction(key: bytes, transaction: dict[str, Any]) -> bytes:
    """The raw bytes of a complete JSON-RPC transaction object, signed."""
    from zerog import _native

    with native_errors():
        return _native.sign_transaction(key, msgspec.json.encode(transaction).decode())


# Key files.


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file on disk and the address that it claims to hold."""

    address: str
    path: Path


class KeyStore:
    """A directory of key files; created on the first write."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __iter__(self) -> Iterator[KeyFile]:
        """The key files by name; files that are none are passed over, see `damaged`."""
        for path in self._paths():
            with suppress(KeystoreError):
                yield KeyFile(_claimed_address(path), path)

    def damaged(self) -> Iterator[tuple[Path, KeystoreError]]:
        """The files that iteration passes over, each with the error that names it and the reason."""
        for path in self._paths():
            try:
                _claimed_address(path)
            except KeystoreError as error:
                yield path, error

    def _paths(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return [p for p in sorted(self.directory.iterdir()) if p.is_file() and not p.name.startswith(".")]

    def find(self, address: str) -> KeyFile:
        """The key file of an address; raises `KeystoreError`."""
        wanted = address.lower()
        for entry in self:
            if entry.address.lower() == wanted:
                return entry
        damaged = list(self.damaged())
        # Its file is usually named after the address; another name leaves every damaged file suspect.
        named = [error for path, error in damaged if wanted.removeprefix("0x") in path.name.lower()]
        if damaged:
            reasons = "; ".join(error.message for error in named or (error for _, error in damaged))
            raise KeystoreError(f"no usable key file for {address} in {self.directory}: {reasons}")
        raise KeystoreError(
            f"no key file for {address} in {self.directory}", hint="`zerog accounts list` shows what there is"
        )

    def add(self, key: bytes, password: bytes) -> KeyFile:
        """Encrypts a key into a new file; raises `KeystoreError` when its address is there already."""
        address = address_of(key)
        if any(entry.address.lower() == address.lower() for entry in self):
            raise KeystoreError(f"{self.directory} already holds a key file for {address}")
        from zerog import _native

        with native_errors():
            text = _native.keystore_encrypt(key, password)
        self._make_directory()
        stamp = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
        path = self.directory / f"UTC--{stamp}.000000000Z--{address[2:].lower()}"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        return KeyFile(address, path)

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
        except OSError as error:
            raise KeystoreError(f"cannot use the key directory {self.directory}: {error.strerror}") from None


def decrypt(path: Path, password: bytes) -> bytes:
    """The key in a key file, 32 bytes; raises `KeystoreError` naming the file and what is wrong."""
    text = read_keystore(path)
    from zerog import _native
    from zerog.errors import ZerogError

    try:
        with native_errors():
            return _native.keystore_decrypt(text, password)
    except ZerogError as error:
        raise KeystoreError(f"{path}: {error.message}") from None


def read_keystore(path: Path) -> str:
    """The text of a key file, checked to be JSON of version 3."""
    try:
        if path.stat().st_size > MAX_KEYSTORE_BYTES:
            raise KeystoreError(f"{path} is larger than {MAX_KEYSTORE_BYTES} bytes: not a key file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise KeystoreError(f"cannot read the key file {path}: {reason}") from None
    try:
        content = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise KeystoreError(f"{path} is not a key file: {error}") from None
    if not isinstance(content, dict) or "crypto" not in {name.lower() for name in content}:
        raise KeystoreError(f"{path} is not a key file: it has no field 'crypto'")
    if content.get("version") != 3:
        raise KeystoreError(f"{path}: field 'version' is {content.get('version')!r}, expected 3")
    return text


def _claimed_address(path: Path) -> str:
    content = msgspec.json.decode(read_keystore(path))
    digits = str(content.get("address", "")).removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{40}", digits):
        raise KeystoreError(f"{path}: field 'address' is missing or not an address")
    return checksummed("0x" + digits)
