"""Client-side encryption, compatible with the official SDKs: a header, then AES-256-CTR of the file.

::

    version 1   01 ‖ nonce(16)                          the reader has the 32-byte key
    version 2   02 ‖ ephemeral public key(33) ‖ nonce(16)   the reader has a secp256k1 key:
                AES key = HKDF-SHA256(ECDH x-coordinate, no salt, "0g-storage-client/ecies/v1/aes-256")

The counter starts at the nonce (128-bit, big-endian) plus the 16-byte block of the plaintext. The whole file is
encrypted before it is split: one header, in the first fragment.

The format has no authentication code, so a wrong key gives nonsense. Files that zerog writes carry a check in the
nonce, which other programs read as any nonce: ``HMAC-SHA256(key, domain ‖ root of the plaintext)[:12] ‖ "zrg1"``.
`verify` recognises it: a wrong key or an altered plaintext is found, and the same file with the same key
encrypts to the same bytes, so that it is never paid twice. (An observer sees that two files with one key are
equal.) A file of another program has no such check; `checkable` tells.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from zerog.errors import KeystoreError, StorageError

V1_HEADER = 17
V2_HEADER = 50
MARK = b"zrg1"
"""Last bytes of a nonce that carries a check."""
_INFO = b"0g-storage-client/ecies/v1/aes-256"
_DOMAIN = b"zerog storage encryption v1"
_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True, slots=True)
class Encryption:
    """How to encrypt: with ``key`` (32 bytes), or for the owner of ``recipient`` (a secp256k1 public key).

    ``secret`` (32 bytes, kept by the sender) makes the ephemeral key of a repeated upload the same again.
    """

    key: bytes | None = None
    recipient: bytes | None = None
    secret: bytes | None = None

    def __post_init__(self) -> None:
        if (self.key is None) == (self.recipient is None):
            raise KeystoreError("encryption takes either a key or a recipient's public key")
        if self.key is not None and len(self.key) != 32:
            raise KeystoreError(f"an encryption key has 32 bytes, not {len(self.key)}")
        if self.recipient is not None:
            if self.secret is None or len(self.secret) != 32:
                raise KeystoreError("encryption for a recipient needs the sender's 32-byte secret")
            _point(self.recipient)

    @property
    def header_size(self) -> int:
        """Bytes that the encrypted file is longer."""
        return V1_HEADER if self.key is not None else V2_HEADER

    def begin(self, plaintext_root: bytes) -> Cipher:
        """The cipher for a file with that root."""
        if self.key is not None:
            return encrypt_with(self.key, check_nonce(self.key, plaintext_root))
        assert self.recipient is not None and self.secret is not None
        seed = hmac.digest(self.secret, _DOMAIN + self.recipient + plaintext_root, "sha256")
        ephemeral = (1 + int.from_bytes(seed, "big") % (_ORDER - 1)).to_bytes(32, "big")
        public = public_key(ephemeral)
        key = _shared(ephemeral, self.recipient)
        return Cipher(key, b"\x02" + public + check_nonce(key, plaintext_root))

    def __repr__(self) -> str:
        return f"<Encryption {'with a key' if self.key is not None else 'for a recipient'}>"


class Cipher:
    """AES-256-CTR at any offset of one file."""

    def __init__(self, key: bytes, header: bytes) -> None:
        self._key = key
        self.header = header

    def apply(self, offset: int, data: Any, into: Any) -> None:
        """En- or decrypts ``data``, which stands at ``offset`` of the plaintext; ``into`` may be the same."""
        from cryptography.hazmat.primitives.ciphers import Cipher as Aes
        from cryptography.hazmat.primitives.ciphers.algorithms import AES
        from cryptography.hazmat.primitives.ciphers.modes import CTR

        nonce = int.from_bytes(self.header[-16:], "big")
        counter = ((nonce + offset // 16) % (1 << 128)).to_bytes(16, "big")
        stream = Aes(AES(self._key), CTR(counter)).encryptor()
        if offset % 16:
            stream.update(bytes(offset % 16))
        stream.update_into(data, into)

    @property
    def checkable(self) -> bool:
        """Whether the nonce carries zerog's check."""
        return self.header.endswith(MARK)

    def verify(self, plaintext_root: bytes) -> bool:
        """Whether the check of the nonce fits a decrypted file with that root."""
        return hmac.compare_digest(self.header[-16:], check_nonce(self._key, plaintext_root))


def encrypt_with(key: bytes, nonce: bytes) -> Cipher:
    """Version 1 with a given nonce."""
    return Cipher(key, b"\x01" + nonce)


def check_nonce(key: bytes, plaintext_root: bytes) -> bytes:
    """The nonce that zerog uses; see the module's docstring."""
    return hmac.digest(key, _DOMAIN + plaintext_root, "sha256")[:12] + MARK


def header_length(first: int) -> int:
    """Bytes of the header that begins with byte ``first``; raises `StorageError` for a foreign byte."""
    try:
        return {1: V1_HEADER, 2: V2_HEADER}[first]
    except KeyError:
        raise StorageError(
            f"the file is not encrypted in a known way: it begins with 0x{first:02x}, not 01 or 02",
            hint="get it without a key",
        ) from None


def open_header(stream: bytes, *, key: bytes | None = None, private_key: bytes | None = None) -> Cipher:
    """The cipher of an encrypted file that begins with ``stream`` (50 bytes are enough).

    Raises
    ------
    StorageError : the header is foreign or cut, or needs the other kind of key.
    """
    if not stream:
        raise StorageError("an encrypted file has a header; this is empty")
    length = header_length(stream[0])
    if len(stream) < length:
        raise StorageError(f"the file has {len(stream)} bytes, less than its encryption header of {length}")
    header = bytes(stream[:length])
    if length == V1_HEADER:
        if key is None:
            raise StorageError("the file is encrypted with a symmetric key; a private key does not open it")
        if len(key) != 32:
            raise KeystoreError(f"an encryption key has 32 bytes, not {len(key)}")
        return Cipher(key, header)
    if private_key is None:
        raise StorageError("the file is encrypted for a key pair; a symmetric key does not open it")
    try:
        return Cipher(_shared(private_key, header[1:34]), header)
    except KeystoreError:
        raise StorageError("the encryption header holds no public key: the file is damaged") from None


def public_key(private_key: bytes) -> bytes:
    """The compressed public key (33 bytes) of a secp256k1 private key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = _private(private_key).public_key()
    return bytes(public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint))


def _private(key: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    number = int.from_bytes(key, "big")
    if len(key) != 32 or not 0 < number < _ORDER:
        raise KeystoreError("the private key is no secp256k1 key")
    return ec.derive_private_key(number, ec.SECP256K1())


def _point(encoded: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), encoded)
    except ValueError:
        raise KeystoreError("the recipient's public key is no point of secp256k1") from None


def _shared(private_key: bytes, public: bytes) -> bytes:
    """The AES key of version 2."""
    from cryptography.hazmat.primitives.asymmetric import ec

    shared = _private(private_key).exchange(ec.ECDH(), _point(public))
    # HKDF for one block of output: extract with an empty salt, expand once.
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), shared, "sha256")
    return hmac.digest(extracted, _INFO + b"\x01", "sha256")
