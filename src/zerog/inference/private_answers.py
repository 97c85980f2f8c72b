"""Answers whose text only the requester and the verifiers can read.

At the gate a question stands in the clear: it is part of a transaction. A private question therefore goes to the
provider directly (``poi_ask``), its answer is published sealed, and only the receipt comes on chain
(`InferenceRegistry.record`), where it can be drawn for an audit like any other. The commitments are the same.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from zerog.contracts import artifact
from zerog.errors import InferenceError, InvalidParams
from zerog.inference.answer import Inquiry, sampling
from zerog.inference.audit.contract import VERIFIER_REGISTRY, AuditContracts
from zerog.inference.encoding import parse_hex
from zerog.inference.privacy import (
    MAX_RECIPIENTS,
    PUBLIC_KEY_SIZE,
    open_sealed,
    public_key,
    require_public_key,
)
from zerog.inference.transcript import SignedTranscript, decode_canonical
from zerog.inference.transcript_file import decode_transcript

if TYPE_CHECKING:
    from zerog.client import Client

VERIFIERS_TIMEOUT = 30.0
"""Seconds in which a committee's worth of verifiers must have registered, on a chain that has just begun."""
_POLL = 0.1


class PrivateQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What ``poi_ask`` takes: ``reader`` is the compressed public key of the requester."""

    request: str
    max_tokens: int
    requester: str
    reader: str


def parse_question(params: Any) -> tuple[Inquiry, bytes]:
    """The inquiry, with a fresh id, and the reader's key, from the parameters of ``poi_ask``.

    Raises
    ------
    InvalidParams : a member is missing, unknown or of the wrong form; the message names it.
    """
    import secrets

    if not isinstance(params, list) or len(params) != 1:
        raise InvalidParams("poi_ask takes one parameter, an object")
    try:
        asked = msgspec.convert(params[0], PrivateQuestion)
        requester = parse_hex(asked.requester, 20, "requester")
        reader = parse_hex(asked.reader, PUBLIC_KEY_SIZE, "reader")
        require_public_key(reader)
        if not 1 <= asked.max_tokens < 2**32:
            raise InferenceError(f"maxTokens = {asked.max_tokens} is out of range")
    except (msgspec.ValidationError, InferenceError) as error:
        raise InvalidParams(getattr(error, "message", str(error))) from None
    request = asked.request.encode()
    return Inquiry(secrets.token_bytes(32), requester, request, sampling(asked.max_tokens)), reader


def verifier_keys(
    client: Client, engine_id: bytes, timeout: float = VERIFIERS_TIMEOUT, verifiers: str = VERIFIER_REGISTRY
) -> list[bytes]:
    """The keys of the registered verifiers that may be drawn for receipts of an engine.

    As many as a committee has are waited for: a devnet's verifiers register when they first see a provider.

    Raises
    ------
    InferenceError : there is none, or there are more than an envelope takes.
    """
    registry = client.contract(verifiers, artifact("VerifierRegistry").abi)
    committee = int(AuditContracts(client).audits.parameters().committee)
    deadline = time.monotonic() + timeout
    while True:
        found = [bytes(registry.verifierOf(one)[0].encryptionKey) for one in registry.verifiersOf(engine_id)]
        keys = [key for key in found if key]
        if len(keys) >= committee or time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    if not keys:
        raise InferenceError(
            "no verifier of this engine reads private answers, so that nobody could audit one",
            hint="ask without --private, or wait for verifiers",
        )
    if len(keys) >= MAX_RECIPIENTS:
        raise InferenceError(f"{len(keys)} verifiers are more than an envelope has room for")
    return keys


def ask_privately(client: Client, question: str, max_tokens: int, key: bytes) -> SignedTranscript:
    """Asks the node's provider and opens the answer with ``key``.

    Raises
    ------
    InferenceError : the node's answer is not what lies sealed under its data root.
    RpcError : the node refuses.
    """
    from zerog.chain.keys import address_of

    asked = PrivateQuestion(question, max_tokens, address_of(key), "0x" + public_key(key).hex())
    document = client.request("poi_ask", msgspec.to_builtins(asked))
    signed = decode_transcript(msgspec.json.encode(document))
    if signed.envelope is None:
        raise InferenceError(
            "the node published the answer in the clear: do not use it for private questions"
        )
    if decode_canonical(open_sealed(signed.envelope, key)) != signed.transcript:
        raise InferenceError("what the node sealed is not the answer that it gave")
    return signed
