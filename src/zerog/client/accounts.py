"""Accounts whose key this process holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zerog.chain import keys
from zerog.errors import KeystoreError


class Account:
    """A private key and its address. The key is in no ``repr`` and no error."""

    __slots__ = ("_key", "address")

    def __init__(self, key: bytes | str) -> None:
        """From 32 bytes, or 64 hexadecimal digits."""
        raw = keys.parse_key(key) if isinstance(key, str) else bytes(key)
        if len(raw) != 32:
            raise KeystoreError(f"a private key has 32 bytes; this has {len(raw)}")
        self._key = raw
        self.address: str = keys.address_of(raw)

    @classmethod
    def random(cls) -> Account:
        """A fresh key from the operating system's randomness."""
        return cls(keys.random_key())

    @classmethod
    def from_mnemonic(cls, mnemonic: str, index: int = 0, path: str = "m/44'/60'/0'/0/") -> Account:
        """The account number ``index`` of a BIP-39 phrase."""
        return cls(keys.derive(mnemonic, path, index + 1)[index].key)

    @classmethod
    def from_key_file(cls, path: str | Path, password: str) -> Account:
        """From a web3 key file; raises `KeystoreError`."""
        return cls(keys.decrypt(Path(path), password.encode()))

    @property
    def key(self) -> bytes:
        """The private key, 32 bytes."""
        return self._key

    def sign_digest(self, digest: bytes) -> bytes:
        """r ‖ s ‖ v over 32 bytes, as they are."""
        return keys.sign_digest(self._key, digest)

    def sign_message(self, message: bytes | str) -> bytes:
        """As ``personal_sign`` does (EIP-191)."""
        raw = message.encode() if isinstance(message, str) else message
        return keys.sign_digest(self._key, keys.message_digest(raw))

    def sign_typed_data(self, typed_data: dict[str, Any]) -> bytes:
        """Over EIP-712 typed data: ``types``, ``domain``, ``primaryType``, ``message``."""
        return keys.sign_digest(self._key, keys.typed_data_digest(typed_data))

    def sign_transaction(self, transaction: dict[str, Any]) -> bytes:
        """The raw bytes of a complete JSON-RPC transaction object."""
        return keys.sign_transaction(self._key, transaction)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"<Account {self.address}>"
