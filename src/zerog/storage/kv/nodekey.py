"""The key with which a node reads encrypted streams, from a file.

The 32 bytes are the AES key of files in version 1 of the encryption, and the secp256k1 private key of files in
version 2 (see `zerog.storage.transfer.encryption`). The format has no authentication code: what another key
encrypted comes out as nonsense, which replay finds to be no stream data.
"""

from __future__ import annotations

from pathlib import Path

from zerog.errors import ConfigError, KeystoreError, StorageError
from zerog.storage.kv.content import Crypt
from zerog.storage.transfer.encryption import Cipher, open_header, public_key

MAX_FILE = 1024


class FileKey:
    """A `zerog.storage.kv.content.NodeKey`."""

    def __init__(self, secret: bytes) -> None:
        """32 bytes; raises `ConfigError`."""
        if len(secret) != 32:
            raise ConfigError(f"the key of encrypted streams has 32 bytes, not {len(secret)}")
        self._secret = secret

    @classmethod
    def load(cls, path: Path) -> FileKey:
        """From a file: 32 raw bytes, or hexadecimal text; raises `ConfigError`."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE)
        except OSError as error:
            raise ConfigError(f"kv.key_file: cannot read {path}: {error.strerror}") from None
        if len(data) != 32:
            try:
                data = bytes.fromhex(data.decode("ascii").strip().removeprefix("0x"))
            except ValueError:
                data = b""
        if len(data) != 32:
            raise ConfigError(f"kv.key_file: {path} holds no 32-byte key (raw or hexadecimal)")
        return cls(data)

    @property
    def public_key(self) -> bytes:
        """For whom version 2 is encrypted (33 bytes); raises `KeystoreError` when the key is none of that kind."""
        return public_key(self._secret)

    def open(self, header: bytes) -> tuple[int, Crypt] | None:
        """See `zerog.storage.kv.content.NodeKey`."""
        try:
            cipher = open_header(header, key=self._secret, private_key=self._secret)
        except (StorageError, KeystoreError):
            return None
        return len(cipher.header), _decryption(cipher)

    def __repr__(self) -> str:
        return "<FileKey>"


def _decryption(cipher: Cipher) -> Crypt:
    def apply(offset: int, data: bytes) -> bytes:
        plain = bytearray(len(data))
        cipher.apply(offset, data, plain)
        return bytes(plain)

    return apply
