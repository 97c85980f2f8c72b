"""Answers in the form of OpenAI's API: whole, and as server-sent events."""

from __future__ import annotations

import base64
import codecs
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from zerog.inference.endpoint.questions import Kind, Question
from zerog.inference.engines import FinishReason
from zerog.inference.receipt import SamplingParams
from zerog.inference.trace import QUANTUM, TraceStep

if TYPE_CHECKING:
    from zerog.inference.answer import Answer
    from zerog.inference.engines import Engine, Generation

NOT_AMONG_THE_LIKELIEST = -9999.0
"""OpenAI's log-probability of a token that is not among those that are told."""
_PREFIXES = {Kind.CHAT: "chatcmpl-", Kind.COMPLETION: "cmpl-", Kind.EMBEDDING: "embd-"}
DONE = b"data: [DONE]\n\n"
_FINISH = {FinishReason.END_TOKEN: "stop", FinishReason.STOP_STRING: "stop", FinishReason.LENGTH: "length"}


def chat_id(kind: Kind) -> str:
    """A fresh id. It opens the signature route, which needs no key: nobody must be able to guess it."""
    return _PREFIXES[kind] + secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A complete generation with the signed receipt over it; ``signer`` is a 0x-address."""

    generation: Generation
    answer: Answer
    signer: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What all parts of one answer have in common; ``created`` in unix seconds."""

    id: str
    question: Question
    created: int
    model: str
    fingerprint: str

    # The whole answer.

    def whole(self, outcome: Outcome, logprobs: dict[str, Any] | None) -> bytes:
        """The body of an answer that is not streamed."""
        text = outcome.generation.output.decode(errors="replace")
        choice: dict[str, Any] = {"index": 0}
        if self.question.kind is Kind.CHAT:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
            kind = "chat.completion"
        else:
            choice["text"] = text
            kind = "text_completion"
        choice |= {"logprobs": logprobs, "finish_reason": finish_reason(outcome)}
        return msgspec.json.encode(
            self._head(kind) | {"choices": [choice], "usage": usage(outcome), "zerog": self.proof(outcome)}
        )

    # Events.

    def opening(self) -> bytes:
        """The first event of a streamed chat; empty for a completion."""
        if self.question.kind is Kind.COMPLETION:
            return b""
        return self._event({"role": "assistant", "content": "", "refusal": None})

    def piece(self, text: str) -> bytes:
        """An event with more text."""
        return self._event({"content": text})

    def closing(self, outcome: Outcome, logprobs: dict[str, Any] | None) -> bytes:
        """The events after the text: why it ended, with the proof; the usage if asked for; the end."""
        extra = {"zerog": self.proof(outcome)}
        events = self._event({}, finish_reason(outcome), logprobs, extra)
        if self.question.include_usage:
            head = self._head(self._chunk_kind)
            events += _sse(head | {"choices": [], "usage": usage(outcome)})
        return events + DONE

    def failure(self, document: Mapping[str, Any]) -> bytes:
        """The event of an error after the answer had begun. No end follows: the answer is not complete."""
        return _sse(document)

    def proof(self, outcome: Outcome) -> dict[str, Any]:
        """The member ``zerog``: the receipt and where to get the rest."""
        proof = proof_of(self.id, outcome)
        output = outcome.answer.output
        try:
            output.decode()
        except UnicodeDecodeError:
            # The token limit fell inside a character: the text above is not what the receipt hashes.
            proof["outputBase64"] = base64.b64encode(output).decode("ascii")
        return proof

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.question.kind is Kind.CHAT else "text_completion"

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }

    def _event(
        self,
        delta: dict[str, Any],
        finish: str | None = None,
        logprobs: dict[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        choice: dict[str, Any] = {"index": 0}
        if self.question.kind is Kind.CHAT:
            choice["delta"] = delta
        else:
            choice["text"] = delta.get("content", "")
        choice |= {"logprobs": logprobs, "finish_reason": finish}
        event = self._head(self._chunk_kind) | {"choices": [choice]}
        if self.question.include_usage:
            event["usage"] = None
        return _sse(event | dict(extra or {}))


def proof_of(name: str, outcome: Outcome) -> dict[str, Any]:
    """The receipt of the answer with the id ``name``, and where to get the rest."""
    answer = outcome.answer
    return {
        "receiptHash": "0x" + answer.receipt_hash.hex(),
        "receipt": answer.receipt.to_message(),
        "signature": "0x" + answer.signature.hex(),
        "signer": outcome.signer,
        "params": answer.inquiry.params.to_message(),
        "urls": {"receipt": f"/v1/receipts/{name}", "signature": f"/v1/signature/{name}"},
    }


def _sse(document: Mapping[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def finish_reason(outcome: Outcome) -> str:
    """``stop`` or ``length``."""
    return _FINISH[outcome.generation.finish]


def usage(outcome: Outcome) -> dict[str, int]:
    """Counts of tokens; the ending token counts, since the trace has it."""
    receipt = outcome.answer.receipt
    prompt, output = receipt.promptTokens, receipt.outputTokens
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


class TextDecoder:
    """Output bytes to text; what is cut inside a character becomes U+FFFD at the end."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: bytes, final: bool = False) -> str:
        """The text that is certain now."""
        return self._decoder.decode(piece, final)


# Log-probabilities.


class TokenTexts:
    """The bytes of tokens as one engine spells them."""

    _ALONE = SamplingParams(maxTokens=1)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[int, bytes] = {}

    def of(self, token: int) -> bytes:
        """Empty for a token that ends the answer."""
        text = self._known.get(token)
        if text is None:
            end = self._engine.ending([token], self._ALONE, ())
            text = self._known[token] = b"" if end is None else end[0]
        return text


def logprobs_of(question: Question, generation: Generation, texts: TokenTexts) -> dict[str, Any] | None:
    """The log-probabilities that a request asks for, from the trace that the receipt commits to.

    ``None`` when it asks for none. The ending token is left out, as in OpenAI's answers.
    """
    if question.logprobs is None:
        return None
    steps = list(generation.steps)
    if steps and generation.finish is FinishReason.END_TOKEN:
        steps.pop()
    if question.kind is Kind.CHAT:
        return {"content": [_chat_entry(step, question.logprobs, texts) for step in steps], "refusal": None}
    return _completion_logprobs(steps, question.logprobs, texts)


def _chat_entry(step: TraceStep, top: int, texts: TokenTexts) -> dict[str, Any]:
    likeliest = [_named(texts.of(token), quantum / QUANTUM) for token, quantum in step.pairs[:top]]
    return _named(texts.of(step.token), _chosen(step)) | {"top_logprobs": likeliest}


def _named(text: bytes, logprob: float) -> dict[str, Any]:
    return {"token": text.decode(errors="replace"), "logprob": logprob, "bytes": list(text)}


def _completion_logprobs(steps: list[TraceStep], top: int, texts: TokenTexts) -> dict[str, Any]:
    tokens = [texts.of(step.token).decode(errors="replace") for step in steps]
    offsets = [0]
    for token in tokens:
        offsets.append(offsets[-1] + len(token))
    return {
        "tokens": tokens,
        "token_logprobs": [_chosen(step) for step in steps],
        "top_logprobs": [
            {texts.of(t).decode(errors="replace"): quantum / QUANTUM for t, quantum in step.pairs[:top]}
            for step in steps
        ],
        "text_offset": offsets[:-1],
    }


def _chosen(step: TraceStep) -> float:
    return next(
        (quantum / QUANTUM for token, quantum in step.pairs if token == step.token), NOT_AMONG_THE_LIKELIEST
    )
