"""What is signed about an inference, bit for bit as the contracts check it.

Source: specification of Proof-of-Inference, sections 1 to 3. All functions are pure; hashes and
addresses are ``bytes``::

    receipt = InferenceReceipt(...)
    digest = receipt.digest(domain_separator(31337, registry))
    signature = sign(key, digest)
    assert recover_signer(digest, signature) == address
"""

from __future__ import annotations

from typing import ClassVar

from zerog.chain.keys import keccak256, recover, sign_digest
from zerog.errors import InferenceError, ZerogError
from zerog.inference.encoding import TypedStruct

SIGNATURE_SIZE = 65
TIER_SIGNED = 0
CLAIMABLE_TIERS = frozenset({0, 3, 4, 5})
"""Tiers a provider may claim at signing; OPTIMISTIC and AUDITED are states of the registry."""

GREEDY = 0
INVERSE_CDF = 1


class InferenceReceipt(TypedStruct, frozen=True):
    """One inference: who asked, who answered, with what, and commitments to input, output and trace."""

    requestId: bytes
    requester: bytes
    provider: bytes
    modelId: bytes
    engineId: bytes
    inputHash: bytes
    outputHash: bytes
    paramsHash: bytes
    traceRoot: bytes
    dataRoot: bytes
    promptTokens: int
    outputTokens: int
    issuedAt: int
    deadline: int
    tier: int
    evidenceHash: bytes

    @classmethod
    def type_string(cls) -> str:
        return (
            "InferenceReceipt(bytes32 requestId,address requester,address provider,bytes32 modelId,"
            "bytes32 engineId,bytes32 inputHash,bytes32 outputHash,bytes32 paramsHash,bytes32 traceRoot,"
            "bytes32 dataRoot,uint32 promptTokens,uint32 outputTokens,uint64 issuedAt,uint64 deadline,"
            "uint8 tier,bytes32 evidenceHash)"
        )


class SamplingParams(TypedStruct, frozen=True):
    """How tokens are chosen, in integers: thousandths for temperature, top-p and repetition penalty."""

    maxTokens: int
    temperatureMilli: int = 0
    topPMilli: int = 1000
    topK: int = 0
    repeatPenaltyMilli: int = 1000
    seed: int = 0
    stopHash: bytes = bytes(32)
    sampler: int = GREEDY

    @classmethod
    def type_string(cls) -> str:
        return (
            "SamplingParams(uint32 maxTokens,uint32 temperatureMilli,uint32 topPMilli,uint32 topK,"
            "uint32 repeatPenaltyMilli,uint64 seed,bytes32 stopHash,uint8 sampler)"
        )


class InferenceRequest(TypedStruct, frozen=True):
    """What a user signs when asking off chain, so that nobody on the way can change the prompt."""

    requestId: bytes
    requester: bytes
    modelId: bytes
    inputHash: bytes
    paramsHash: bytes
    minTier: int
    maxFee: int
    deadline: int

    @classmethod
    def type_string(cls) -> str:
        return (
            "InferenceRequest(bytes32 requestId,address requester,bytes32 modelId,bytes32 inputHash,"
            "bytes32 paramsHash,uint8 minTier,uint256 maxFee,uint64 deadline)"
        )


class AuditVote(TypedStruct, frozen=True):
    """What a verifier signs after re-executing a receipt: verdict 1 good, 2 bad, 3 unavailable."""

    GOOD: ClassVar[int] = 1
    BAD: ClassVar[int] = 2
    UNAVAILABLE: ClassVar[int] = 3
    NO_BAD_INDEX: ClassVar[int] = 0xFFFF_FFFF

    receiptHash: bytes
    verifier: bytes
    verdict: int
    badIndex: int
    traceRoot: bytes

    @classmethod
    def type_string(cls) -> str:
        return (
            "AuditVote(bytes32 receiptHash,address verifier,uint8 verdict,uint32 badIndex,bytes32 traceRoot)"
        )


def engine_id(description: str) -> bytes:
    """Identity of an engine: keccak256 of its ASCII description."""
    return keccak256(description.encode("ascii"))


def model_id(
    weights_root: bytes, tokenizer_hash: bytes, chat_template_hash: bytes, quantisation: str
) -> bytes:
    """Identity of a model; ``quantisation`` is its ASCII name, for example ``Q4_1``."""
    return keccak256(
        weights_root + tokenizer_hash + chat_template_hash + keccak256(quantisation.encode("ascii"))
    )


def request_id(chain_id: int, gate: bytes, requester: bytes, nonce: int) -> bytes:
    """Identity of the ``nonce``-th request of ``requester`` at a gate."""
    return keccak256(
        chain_id.to_bytes(32) + gate.rjust(32, b"\0") + requester.rjust(32, b"\0") + nonce.to_bytes(32)
    )


def stop_hash(strings: list[str]) -> bytes:
    """Commitment to the stop strings in their order; zero without any."""
    if not strings:
        return bytes(32)
    from eth_abi.abi import encode

    return keccak256(encode(["string[]"], [strings]))


def sign(key: bytes, digest: bytes) -> bytes:
    """65 bytes ``r || s || v``, low s, v 27 or 28."""
    return sign_digest(key, digest)


def recover_signer(digest: bytes, signature: bytes) -> bytes:
    """Address that signed ``digest``.

    Raises
    ------
    InferenceError : not 65 bytes, v other than 27 or 28, high s (the twin of a valid signature), or
        no key recovers.
    """
    if len(signature) != SIGNATURE_SIZE:
        raise InferenceError(f"the signature has {len(signature)} bytes instead of {SIGNATURE_SIZE}")
    try:
        return bytes.fromhex(recover(digest, signature)[2:])
    except ZerogError as error:
        raise InferenceError(f"the signature is malformed: {error}") from None
