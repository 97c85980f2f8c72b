"""The encryption of the official SDKs, bit by bit, and what it cannot tell by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerog.errors import KeystoreError, StorageError
from zerog.storage.transfer.encryption import Encryption, encrypt_with, open_header, public_key

VECTORS: Any = json.loads((Path(__file__).parents[1] / "vectors" / "encryption.json").read_text())


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


KEY = raw(VECTORS["aes256ctr"]["key"])
NONCE = raw(VECTORS["aes256ctr"]["nonce"])


def applied(cipher: Any, offset: int, data: bytes) -> bytes:
    into = bytearray(len(data))
    cipher.apply(offset, data, into)
    return bytes(into)


def test_the_keystream_is_that_of_the_vectors_at_any_offset() -> None:
    cipher = encrypt_with(KEY, NONCE)
    assert applied(cipher, 0, bytes(40)) == raw(VECTORS["aes256ctr"]["keystream0to40"])
    assert applied(cipher, 21, bytes(8)) == raw(VECTORS["aes256ctr"]["keystream21to29"])


def test_a_version_1_stream_is_that_of_the_vectors() -> None:
    cipher, plain = encrypt_with(KEY, NONCE), VECTORS["derived"]["plaintext"].encode()
    assert cipher.header + applied(cipher, 0, plain) == raw(VECTORS["derived"]["v1"])


def test_a_version_2_stream_of_another_program_is_read() -> None:
    stream = raw(VECTORS["derived"]["v2"])
    cipher = open_header(stream, private_key=raw(VECTORS["ecies"]["recipientPrivateKey"]))
    assert applied(cipher, 0, stream[50:]) == VECTORS["derived"]["plaintext"].encode()
    assert not cipher.checkable


def test_a_public_key_is_that_of_the_vectors() -> None:
    assert public_key(raw(VECTORS["ecies"]["ephemeralPrivateKey"])) == raw(
        VECTORS["ecies"]["ephemeralPublicKey"]
    )


@given(st.integers(0, 1 << 40), st.integers(0, 100), st.binary(min_size=1, max_size=100))
def test_a_part_is_encrypted_as_within_the_whole(offset: int, skip: int, data: bytes) -> None:
    cipher = encrypt_with(KEY, b"\xff" * 16)
    whole = applied(cipher, offset, bytes(skip) + data)
    assert applied(cipher, offset + skip, data) == whole[skip:]


def test_the_same_file_encrypts_to_the_same_bytes_with_one_key_only() -> None:
    root = bytes(31) + b"\x01"
    assert Encryption(key=KEY).begin(root).header == Encryption(key=KEY).begin(root).header
    assert Encryption(key=KEY).begin(root).header != Encryption(key=NONCE * 2).begin(root).header


@pytest.mark.parametrize("secret", [bytes(32), bytes([1]) * 32])
def test_a_file_for_a_recipient_is_opened_and_checked_by_its_key(secret: bytes) -> None:
    recipient, root = bytes([5]) * 32, bytes([9]) * 32
    cipher = Encryption(recipient=public_key(recipient), secret=secret).begin(root)
    opened = open_header(cipher.header, private_key=recipient)
    assert applied(opened, 3, applied(cipher, 3, b"hello")) == b"hello"
    assert opened.checkable and opened.verify(root) and not opened.verify(bytes(32))


@pytest.mark.parametrize("stream", [b"", b"\x01" + bytes(15), b"\x02" + bytes(48), b"\x03" + bytes(60)])
def test_a_header_that_is_cut_or_foreign_is_refused(stream: bytes) -> None:
    with pytest.raises(StorageError):
        open_header(stream, key=KEY)


def test_a_header_without_a_point_is_refused() -> None:
    with pytest.raises(StorageError, match="damaged"):
        open_header(b"\x02" + b"\x02" + b"\xff" * 32 + bytes(16), private_key=KEY)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_refused(key: bytes) -> None:
    with pytest.raises(KeystoreError):
        Encryption(key=key)
