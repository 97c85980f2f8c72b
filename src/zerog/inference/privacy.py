"""Sealed transcripts: only the requester and the verifiers can read them.

The receipt of a private answer has the same commitments as any other; only the bytes under ``dataRoot``
are an envelope. A fresh content key encrypts the transcript (AES-256-GCM); for every recipient that key is
wrapped by ECIES on secp256k1, the curve of their accounts. Who the recipients are stays unsaid: whoever
holds a key tries the slots.

::

    version 0x81 ‖ ephemeral public key (33) ‖ u32 slots ‖ slots × 48 ‖ u32 length ‖ sealed transcript
    wrapping key = HKDF-SHA256(ECDH x-coordinate, salt = ephemeral key, info = label ‖ recipient's key)
    slot         = AES-256-GCM(wrapping key, nonce 0, content key, aad = version ‖ ephemeral key)
    sealed       = AES-256-GCM(content key, nonce 0, transcript, aad = everything before the length)

Both keys serve one message only, so the nonce may be constant. The tag over the transcript covers the
slots: an envelope from which a recipient was cut opens for nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zerog.errors import InferenceError
from zerog.inference.binary import Reader, Writer
from zerog.inference.transcript import MAX_CANONICAL

VERSION = 0x81
"""First byte of an envelope; a transcript in the clear begins with its own, smaller version."""
MAX_RECIPIENTS = 256
MAX_ENVELOPE = MAX_CANONICAL + (16 << 10)
"""More than the longest envelope has, in bytes."""
PUBLIC_KEY_SIZE = 33
_SLOT = 48
_TAG = 16
_NONCE = bytes(12)
_LABEL = b"zerog/inference/envelope/v1"


def seal(data: bytes, recipients: Sequence[bytes]) -> bytes:
    """An envelope that every owner of a recipient key opens.

    Parameters
    ----------
    data : at most `MAX_CANONICAL` bytes.
    recipients : compressed secp256k1 public keys, 33 bytes each; repeated ones count once.

    Raises
    ------
    InferenceError : no or too many recipients, a key that is no point, or too much data.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    keys = list(dict.fromkeys(bytes(key) for key in recipients))
    if not 1 <= len(keys) <= MAX_RECIPIENTS:
        raise InferenceError(f"an envelope has 1 to {MAX_RECIPIENTS} recipients, not {len(keys)}")
    if len(data) > MAX_CANONICAL:
        raise InferenceError(f"{len(data)} bytes are too many for an envelope (limit {MAX_CANONICAL})")
    ephemeral = _fresh_key()
    head = bytes([VERSION]) + _encoded(ephemeral)
    content_key = AESGCM.generate_key(256)
    slots = [
        AESGCM(_wrapping_key(ephemeral, _point(key), head[1:], key)).encrypt(_NONCE, content_key, head)
        for key in keys
    ]
    before = Writer().fixed(head).u32(len(slots)).fixed(b"".join(slots)).done()
    return Writer().fixed(before).field(AESGCM(content_key).encrypt(_NONCE, data, before)).done()


def open_sealed(envelope: bytes, key: bytes) -> bytes:
    """The content of an envelope for the owner of ``key`` (a 32-byte private key).

    Raises
    ------
    InferenceError : malformed, altered, or not addressed to this key.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    private = _private(key)
    head, slots, before, sealed = _parts(envelope)
    wrapping = AESGCM(_wrapping_key(private, _point(head[1:]), head[1:], _encoded(private)))
    for slot in slots:
        try:
            content_key = wrapping.decrypt(_NONCE, slot, head)
        except InvalidTag:
            continue
        try:
            return AESGCM(content_key).decrypt(_NONCE, sealed, before)
        except InvalidTag:
            raise InferenceError("the envelope was altered") from None
    raise InferenceError("the envelope is not addressed to this key, or was altered")


def is_sealed(data: bytes) -> bool:
    """Whether published bytes are an envelope and no transcript in the clear."""
    return data[:1] == bytes([VERSION])


def public_key(key: bytes) -> bytes:
    """The compressed public key, 33 bytes, of a private key."""
    return _encoded(_private(key))


def require_public_key(key: bytes) -> None:
    """Raises `InferenceError` unless ``key`` is a compressed point of secp256k1."""
    _point(key)


def _parts(envelope: bytes) -> tuple[bytes, list[bytes], bytes, bytes]:
    reader = Reader(envelope, "the envelope")
    if (version := reader.u8("version")) != VERSION:
        raise InferenceError(f"the envelope has version {version}, known is {VERSION}")
    ephemeral = reader.fixed("ephemeral key", PUBLIC_KEY_SIZE)
    count = reader.count("slots", MAX_RECIPIENTS, _SLOT)
    slots = [reader.fixed("slot", _SLOT) for _ in range(count)]
    before = envelope[: len(envelope) - reader.left]
    sealed = reader.field("sealed transcript", MAX_CANONICAL + _TAG)
    reader.end()
    return bytes([VERSION]) + ephemeral, slots, before, sealed


def _wrapping_key(private: Any, public: Any, salt: bytes, recipient: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDH
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    shared = private.exchange(ECDH(), public)
    return HKDF(SHA256(), length=32, salt=salt, info=_LABEL + recipient).derive(shared)


def _fresh_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256K1())


def _private(key: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        if len(key) == 32:
            return ec.derive_private_key(int.from_bytes(key), ec.SECP256K1())
    except ValueError:
        pass
    raise InferenceError("the private key is no secp256k1 key")


def _encoded(private: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return bytes(private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint))


def _point(encoded: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        if len(encoded) == PUBLIC_KEY_SIZE:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), encoded)
    except ValueError:
        pass
    raise InferenceError(f"0x{encoded[:PUBLIC_KEY_SIZE].hex()} is no compressed secp256k1 public key")
