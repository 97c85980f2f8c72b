"""A signed answer: the engine's generation, the receipt over it, and its signature."""

from __future__ import annotations

from dataclasses import dataclass, field

from zerog.chain.keys import address_of, keccak256
from zerog.inference.encoding import ZERO_HASH, domain_separator
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
from zerog.inference.trace import trace_root

DEFAULT_LIFETIME = 600
"""Seconds for which a receipt can be used."""


@dataclass(frozen=True, slots=True)
class Domain:
    """Where receipts count: a chain and the inference registry on it (20 bytes)."""

    chain_id: int
    registry: bytes

    @property
    def separator(self) -> bytes:
        """The EIP-712 domain separator."""
        return domain_separator(self.chain_id, self.registry)


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
    """A generation with the signed receipt over it."""

    inquiry: Inquiry
    generation: Generation
    receipt: InferenceReceipt
    receipt_hash: bytes
    signature: bytes

    @property
    def output(self) -> bytes:
        """The bytes that the receipt commits to."""
        return self.generation.output


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

    def answer(self, inquiry: Inquiry, now: int, deadline: int | None = None) -> Answer:
        """Answers and signs. ``now`` and ``deadline`` are unix seconds.

        Raises
        ------
        InferenceError : the engine refuses; nothing is signed then.
        """
        generation = self.engine.generate(inquiry.request, inquiry.params, inquiry.stop_strings)
        return self.sign(inquiry, generation, now, deadline)

    def sign(self, inquiry: Inquiry, generation: Generation, now: int, deadline: int | None = None) -> Answer:
        """Signs what the engine generated for an inquiry, to its end; times as in `answer`."""
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
            dataRoot=ZERO_HASH,
            promptTokens=generation.prompt_tokens,
            outputTokens=len(generation.steps),
            issuedAt=now,
            deadline=now + DEFAULT_LIFETIME if deadline is None else deadline,
            tier=TIER_SIGNED,
            evidenceHash=ZERO_HASH,
        )
        digest = receipt.digest(self.domain.separator)
        return Answer(inquiry, generation, receipt, digest, sign(self.key, digest))


def sampling(max_tokens: int, stop_strings: tuple[str, ...] = ()) -> SamplingParams:
    """Greedy parameters."""
    return SamplingParams(maxTokens=max_tokens, stopHash=stop_hash(list(stop_strings)))
