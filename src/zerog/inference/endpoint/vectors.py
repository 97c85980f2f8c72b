"""The embeddings route: OpenAI's form, in numbers or in base64, with a receipt over the vectors."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from zerog.errors import InferenceError
from zerog.inference.embedding import decode_vectors, inputs_of, neutral_params
from zerog.inference.endpoint.errors import invalid, unsupported
from zerog.inference.endpoint.questions import Kind, Question, decode, model_of
from zerog.inference.endpoint.replies import Reply, proof_of

if TYPE_CHECKING:
    from zerog.inference.endpoint.replies import Outcome

_KNOWN = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
_FORMATS = ("float", "base64")


@dataclass(frozen=True, slots=True)
class VectorQuestion:
    """A request for vectors; ``dimensions`` is how many it wants, ``None`` when it leaves that open."""

    question: Question
    as_base64: bool
    dimensions: int | None


def parse_vectors(body: bytes) -> VectorQuestion:
    """Reads a body.

    Raises
    ------
    ApiError : too large, no JSON object, or a member that is missing, unknown or of the wrong form.
    """
    members = decode(body)
    if unknown := next((name for name in members if name not in _KNOWN), None):
        raise invalid(
            f"Unrecognized request argument supplied: {unknown[:100]}", unknown[:100], "unknown_parameter"
        )
    model = model_of(members)
    if members.get("input") is None:
        raise invalid("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    form = members.get("encoding_format") or "float"
    if form not in _FORMATS:
        raise invalid("encoding_format must be 'float' or 'base64'", "encoding_format", "invalid_value")
    dimensions = members.get("dimensions")
    if dimensions is not None and (isinstance(dimensions, bool) or not isinstance(dimensions, int)):
        raise invalid("dimensions must be an integer", "dimensions", "invalid_type")
    try:
        inputs = inputs_of(body)
    except InferenceError as error:
        raise invalid(error.message, "input", "invalid_value") from None
    params = neutral_params(len(inputs))
    question = Question(Kind.EMBEDDING, body, model, params, len(inputs), (), False, False, None)
    return VectorQuestion(question, form == "base64", dimensions)


def check_dimensions(asked: VectorQuestion, outcome: Outcome) -> None:
    """Raises `ApiError` when the model's vectors have another length than was asked for."""
    found = len(decode_vectors(outcome.answer.output)[0])
    if asked.dimensions not in (None, found):
        raise unsupported(f"dimensions other than {found}")


def vectors_body(reply: Reply, outcome: Outcome, as_base64: bool) -> bytes:
    """The body of the answer. A client restores the receipt's output from the vectors: see `embedding`."""
    receipt = outcome.answer.receipt
    vectors = decode_vectors(outcome.answer.output)
    data: list[dict[str, Any]] = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
            if as_base64
            else vector.tolist(),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": receipt.promptTokens, "total_tokens": receipt.promptTokens}
    proof = proof_of(reply.id, outcome)
    return msgspec.json.encode(
        {"object": "list", "data": data, "model": reply.model, "usage": usage, "zerog": proof}
    )
