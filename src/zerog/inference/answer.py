"""A signed answer: the engine's generation, its transcript, the receipt over both, and the signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zerog.chain.keys import address_of, keccak256
from zerog.inference.encoding import ZERO_HASH
from zerog.inference.encoding import Domain as Domain
from zerog.inference.engines import Engine, Generation
from zerog.inference.receipt import (
    TIER_SIGNED,
    InferenceReceipt,
    SamplingParams,
    engine_id,
    sign,
    stop_hash,
)
from zerog.inference.self_test import self_test
from zerog.inference.text_signature import sign_text
from zerog.inference.trace import trace_root
from zerog.inference.transcript import SignedTranscript, Transcript, anonymous

if TYPE_CHECKING:
    from zerog.inference.publication import Roots

DEFAULT_LIFETIME = 600
"""Seconds for which a receipt can be used."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What somebody asks: an id that can be used once, who may use the answer, and the question."""

    request_id: bytes
    requester: bytes
    request: bytes
    params: SamplingParams
    stop_strings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A generation with the signed receipt over it.

    ``published`` are the bytes under ``receipt.dataRoot``: the canonical transcript, or its sealed
    envelope; empty when nothing is published.
    """

    inquiry: Inquiry
    transcript: Transcript
    receipt: InferenceReceipt
    receipt_hash: bytes
    signature: bytes
    published: bytes = b""

    @property
    def output(self) -> bytes:
        """The bytes that the receipt commits to."""
        return self.transcript.output


@dataclass(slots=True)
class Signatory:
    """An engine that passed its self-test, and the key that vouches for it.

    Parameters
    ----------
    engine : engine to answer with.
    key : signing key, 32 bytes.
    provider : 20-byte address of the account whose stake stands behind the answers.
    domain : where the receipts count.

    Raises
    ------
    InferenceError : the engine fails its self-test.
    """

    engine: Engine
    key: bytes = field(repr=False)
    provider: bytes
    domain: Domain

    def __post_init__(self) -> None:
        self_test(self.engine)

    @property
    def signer(self) -> str:
        """0x-address of the signing key."""
        return address_of(self.key)

    def answer(
        self,
        inquiry: Inquiry,
        now: int,
        deadline: int | None = None,
        *,
        store: Roots | None = None,
        recipients: Sequence[bytes] = (),
    ) -> Answer:
        """Answers and signs. ``now`` and ``deadline`` are unix seconds; for the rest see `sign`.

        Raises
        ------
        InferenceError : the engine refuses; nothing is signed then.
        """
        generation = self.engine.generate(inquiry.request, inquiry.params, inquiry.stop_strings)
        return self.sign(inquiry, generation, now, deadline, store=store, recipients=recipients)

    def sign(
        self,
        inquiry: Inquiry,
        generation: Generation,
        now: int,
        deadline: int | None = None,
        *,
        store: Roots | None = None,
        recipients: Sequence[bytes] = (),
    ) -> Answer:
        """Signs what the engine has generated for an inquiry.

        Parameters
        ----------
        store : where the transcript will be published; its root goes into the receipt. The caller
            publishes ``answer.published`` before anybody may rely on the receipt.
        recipients : compressed public keys that may read the transcript; none: everybody.
        """
        transcript = self.transcript(inquiry, generation)
        published = b"" if store is None else _published(transcript, recipients)
        receipt = InferenceReceipt(
            requestId=inquiry.request_id,
            requester=inquiry.requester,
            provider=self.provider,
            modelId=self.engine.model_id,
            engineId=engine_id(self.engine.description),
            inputHash=keccak256(inquiry.request),
            outputHash=keccak256(generation.output),
            paramsHash=inquiry.params.struct_hash(),
            traceRoot=trace_root(generation.steps),
            dataRoot=ZERO_HASH if store is None else store.root_of(published),
            promptTokens=generation.prompt_tokens,
            outputTokens=len(generation.steps),
            issuedAt=now,
            deadline=now + DEFAULT_LIFETIME if deadline is None else deadline,
            tier=TIER_SIGNED,
            evidenceHash=ZERO_HASH,
        )
        digest = receipt.digest(self.domain.separator)
        return Answer(inquiry, transcript, receipt, digest, sign(self.key, digest), published)

    def transcript(self, inquiry: Inquiry, generation: Generation) -> Transcript:
        """The transcript of a generation."""
        return Transcript(
            request=inquiry.request,
            params=inquiry.params,
            stop_strings=inquiry.stop_strings,
            output=generation.output,
            finish=generation.finish,
            prompt_tokens=generation.prompt_tokens,
            engine=self.engine.description,
            model=anonymous(self.engine.model),
            steps=generation.steps,
        )

    def signed_transcript(self, answer: Answer) -> SignedTranscript:
        """What a user keeps of an answer, with the 0G text signature of the same key beside it."""
        return signed_transcript(answer, self.domain, self.key)


def signed_transcript(answer: Answer, domain: Domain, key: bytes) -> SignedTranscript:
    """See `Signatory.signed_transcript`."""
    transcript = answer.transcript
    sealed = bool(answer.published) and answer.published != transcript.canonical_bytes()
    return SignedTranscript(
        domain=domain,
        receipt=answer.receipt,
        receipt_hash=answer.receipt_hash,
        signature=answer.signature,
        signer=bytes.fromhex(address_of(key)[2:]),
        transcript=transcript,
        text_signature=sign_text(key, transcript.request, transcript.output),
        envelope=answer.published if sealed else None,
    )


def sampling(max_tokens: int, stop_strings: tuple[str, ...] = ()) -> SamplingParams:
    """Greedy parameters."""
    return SamplingParams(maxTokens=max_tokens, stopHash=stop_hash(list(stop_strings)))


def _published(transcript: Transcript, recipients: Sequence[bytes]) -> bytes:
    data = transcript.canonical_bytes()
    if not recipients:
        return data
    from zerog.inference.privacy import seal

    return seal(data, recipients)
