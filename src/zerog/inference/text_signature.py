"""The 0G text signature, unchanged, beside the receipt.

Source: 0gfoundation/0g-serving-broker ``signChat``: the text is
``hex(sha256(request)):hex(sha256(response))`` in lower case without 0x, signed as an EIP-191
personal message. It proves that a key saw both byte strings; it says nothing about the model.
"""

from __future__ import annotations

import hashlib
from typing import Any

from zerog.chain.keys import address_of, message_digest
from zerog.errors import InferenceError
from zerog.inference.encoding import parse_hex
from zerog.inference.receipt import recover_signer, sign

ALGORITHM = "ecdsa"


def signed_text(request: bytes, response: bytes) -> str:
    """The text that is signed."""
    return f"{hashlib.sha256(request).hexdigest()}:{hashlib.sha256(response).hexdigest()}"


def personal_digest(text: str) -> bytes:
    """EIP-191 ``personal_sign`` digest of an ASCII text."""
    return message_digest(text.encode("ascii"))


def sign_text(key: bytes, request: bytes, response: bytes) -> dict[str, Any]:
    """The answer of a broker's ``/signature`` route for this exchange."""
    text = signed_text(request, response)
    return {
        "text": text,
        "signature": "0x" + sign(key, personal_digest(text)).hex(),
        "signing_address": address_of(key),
        "signing_algo": ALGORITHM,
    }


def check_text(entry: dict[str, Any], request: bytes, response: bytes) -> bytes:
    """The address that signed this exchange; raises `InferenceError` when the entry does not fit it."""
    text = signed_text(request, response)
    if entry.get("text") != text:
        raise InferenceError("the 0G text signature covers other request or response bytes")
    signer = recover_signer(personal_digest(text), parse_hex(entry.get("signature"), None, "signature"))
    if signer != parse_hex(entry.get("signing_address"), 20, "signing_address"):
        raise InferenceError("the 0G text signature was made by another key than signing_address")
    return signer
