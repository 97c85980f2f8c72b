"""Who asks, and the bounded memory of what was answered.

A receipt names the one account that may use the answer up on chain. A client says who that is:

* ``X-Zerog-Request``: a signed `InferenceRequest`, as JSON ``{"request": {…}, "signature": "0x…"}``,
  plain or in base64. It fixes request id, input, parameters and model, so that nobody on the way can
  change what was asked.
* ``X-Zerog-Requester``: an address.
* neither: the zero address. Nobody can use such an answer up; it is evidence only, and costs
  neither side anything.
"""

from __future__ import annotations

import base64
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from zerog.chain.keys import keccak256
from zerog.contracts import INFERENCE_GATE
from zerog.errors import InferenceError
from zerog.inference.answer import Answer, Domain, Inquiry
from zerog.inference.encoding import ZERO_ADDRESS, from_message, parse_hex
from zerog.inference.endpoint.errors import ApiError, invalid
from zerog.inference.endpoint.questions import Question
from zerog.inference.receipt import TIER_SIGNED, InferenceRequest, SamplingParams, recover_signer, request_id

REQUESTER = "x-zerog-requester"
REQUEST = "x-zerog-request"
MAX_HEADER = 4096
LIFETIME = 3600
"""Seconds for which a receipt can be brought on chain."""
KEPT = 1024
KEPT_BYTES = 64 << 20
"""Answers that are remembered: at most so many, and of at most so many bytes."""
_STEP_SIZE = 1024
"""Bytes of memory that one token's trace takes, roughly."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who may use an answer up (20 bytes), and the request that it signed, if it did."""

    requester: bytes
    signed: InferenceRequest | None = None

    def inquiry(self, question: Question, params: SamplingParams, model_id: bytes, domain: Domain) -> Inquiry:
        """What the engine is asked; raises `ApiError` when the signed request asks something else."""
        if self.signed is None:
            gate = bytes.fromhex(INFERENCE_GATE[2:])
            identity = request_id(domain.chain_id, gate, self.requester, secrets.randbits(256))
        else:
            self._compare(self.signed, question, params, model_id)
            identity = self.signed.requestId
        return Inquiry(identity, self.requester, question.body, params, question.stop_strings)

    @staticmethod
    def _compare(
        signed: InferenceRequest, question: Question, params: SamplingParams, model_id: bytes
    ) -> None:
        for name, wanted, found in (
            ("inputHash", signed.inputHash, keccak256(question.body)),
            ("modelId", signed.modelId, model_id),
            ("paramsHash", signed.paramsHash, params.struct_hash()),
        ):
            if wanted != found:
                raise _refused(
                    f"{name} of the signed request is 0x{wanted.hex()}, of this request 0x{found.hex()}"
                )

    def deadline(self, now: int) -> int:
        """Until when the receipt can be used; unix seconds."""
        latest = now + LIFETIME
        return latest if self.signed is None else min(latest, self.signed.deadline)


def asker_of(headers: Mapping[str, str], domain: Domain, now: int) -> Asker:
    """Who asks, as the headers say.

    Raises
    ------
    ApiError : a header is malformed, the signature is another's, or the request is expired or wants a
        tier that a signature alone does not give.
    """
    named = headers.get(REQUESTER)
    text = headers.get(REQUEST)
    requester = ZERO_ADDRESS
    try:
        if named is not None:
            requester = parse_hex(named, 20, "X-Zerog-Requester")
        if text is None:
            return Asker(requester)
        signed, signature = _signed_request(text)
        signer = recover_signer(signed.digest(domain.separator), signature)
    except ApiError:
        raise
    except InferenceError as error:
        raise _refused(error.message) from None
    if signer != signed.requester:
        raise _refused(f"the request is signed by 0x{signer.hex()}, not by its requester")
    if named is not None and requester != signed.requester:
        raise _refused("X-Zerog-Requester names another account than the signed request")
    if signed.minTier > TIER_SIGNED:
        raise _refused(f"minTier = {signed.minTier}: this endpoint answers with tier 0, SIGNED")
    if signed.deadline <= now:
        raise _refused(f"the deadline {signed.deadline} of the signed request has passed")
    return Asker(signed.requester, signed)


def _signed_request(text: str) -> tuple[InferenceRequest, bytes]:
    if len(text) > MAX_HEADER:
        raise _refused(f"X-Zerog-Request has more than {MAX_HEADER} characters")
    try:
        data = text.encode() if text.lstrip().startswith("{") else base64.b64decode(text, validate=True)
        document = msgspec.json.decode(data, type=dict[str, Any])
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise _refused("X-Zerog-Request is no JSON object, plain or in base64") from None
    request = document.get("request")
    if not isinstance(request, dict):
        raise _refused("X-Zerog-Request has no member 'request'")
    return from_message(InferenceRequest, request), parse_hex(document.get("signature"), None, "signature")


def _refused(message: str) -> ApiError:
    return invalid(message, code="invalid_signed_request")


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that is remembered.

    ``id`` is the chat id, ``signature`` the 0G text signature over both HTTP bodies, ``transcript``
    makes the file that ``zerog infer verify`` reads.
    """

    id: str
    answer: Answer
    signature: dict[str, Any]
    transcript: Callable[[], bytes] = field(repr=False)


@dataclass(slots=True)
class Memory:
    """The newest answers, by chat id and by receipt hash."""

    most: int = KEPT
    most_bytes: int = KEPT_BYTES
    _entries: OrderedDict[str, Kept] = field(default_factory=OrderedDict)
    _ids: dict[bytes, str] = field(default_factory=dict)
    _bytes: int = 0

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, kept: Kept) -> None:
        """Remembers an answer; forgets the oldest beyond the bounds."""
        self._entries[kept.id] = kept
        self._ids[kept.answer.receipt_hash] = kept.id
        self._bytes += _size(kept)
        while len(self._entries) > self.most or (self._bytes > self.most_bytes and len(self._entries) > 1):
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _size(oldest)
            if self._ids.get(oldest.answer.receipt_hash) == oldest.id:
                del self._ids[oldest.answer.receipt_hash]

    def find(self, name: str) -> Kept | None:
        """The answer with that chat id."""
        return self._entries.get(name)

    def of_receipt(self, receipt_hash: bytes) -> Kept | None:
        """The answer with that receipt. For the node itself: a receipt's hash is no secret, its prompt is."""
        return self._entries.get(self._ids.get(receipt_hash, ""))


def _size(kept: Kept) -> int:
    inquiry = kept.answer.inquiry
    return len(inquiry.request) + len(kept.answer.output) + _STEP_SIZE * kept.answer.receipt.outputTokens
