"""Answers that are vectors: their canonical bytes, their trace, and how they are checked.

A request holds one or more inputs: UTF-8 text is one input, a JSON object has them in ``input`` as
OpenAI's embeddings API does. Each input gives one vector of float32, and one leaf of the trace: the token
is the input's index, the row its vector, the eight pairs (dimension, value in units of 1/65536) its
largest components. The output is ``u32be count || u32be dimensions || count x dimensions float32 LE``::

    vectors = decode_vectors(answer.output)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError
from zerog.inference.engines import Engine, FinishReason
from zerog.inference.logits import ranked, require_finite
from zerog.inference.prompt import MAX_REQUEST_SIZE
from zerog.inference.receipt import SamplingParams
from zerog.inference.trace import PAIRS, QUANTUM, TraceStep
from zerog.inference.verification import NO_LEAF, Fault

if TYPE_CHECKING:
    from zerog.inference.transcript import Transcript

Vector: TypeAlias = NDArray[np.float32]
"""Shape (dimensions,)."""
Input: TypeAlias = str | tuple[float, ...]
"""A text, or the numbers that a model without a tokenizer reads."""

MAX_INPUTS = 256
MAX_VALUES = 4096
"""Numbers of one input."""
NO_DIMENSION = 0xFFFF_FFFF
"""Fills up the pairs of a vector of fewer than eight dimensions."""
_HEAD = struct.Struct(">II")
_MOST = 1 << 31


def neutral_params(inputs: int) -> SamplingParams:
    """Parameters of a request for vectors: one leaf an input, nothing to sample."""
    return SamplingParams(maxTokens=inputs)


def inputs_of(request: bytes) -> list[Input]:
    """The inputs of a request.

    Raises
    ------
    InferenceError : too large, not UTF-8, no input or more than `MAX_INPUTS`, or one that is empty, of
        another kind, or not finite.
    """
    if len(request) > MAX_REQUEST_SIZE:
        raise InferenceError(
            f"the request has {len(request)} bytes, more than the limit of {MAX_REQUEST_SIZE}"
        )
    try:
        text = request.decode()
    except UnicodeDecodeError as error:
        raise InferenceError(f"the request is not UTF-8 at byte {error.start}") from None
    members = _members(request)
    if "input" not in members:
        return [_checked(0, text)]
    given = members["input"]
    inputs = given if isinstance(given, list) else [given]
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise InferenceError(f"the request has {len(inputs)} inputs, allowed are 1 to {MAX_INPUTS}")
    return [_checked(index, value) for index, value in enumerate(inputs)]


def encode_vectors(vectors: Sequence[Vector]) -> bytes:
    """Canonical bytes of vectors of the same length; see the module's docstring."""
    dimensions = len(vectors[0])
    return _HEAD.pack(len(vectors), dimensions) + b"".join(map(_row, vectors))


def decode_vectors(output: bytes) -> list[Vector]:
    """The vectors of an output.

    Raises
    ------
    InferenceError : the bytes are not canonical.
    """
    if len(output) < _HEAD.size:
        raise InferenceError("the output holds no vectors")
    count, dimensions = _HEAD.unpack_from(output)
    if not count or not dimensions or len(output) != _HEAD.size + 4 * count * dimensions:
        raise InferenceError(f"the output does not hold {count} vectors of {dimensions} dimensions")
    rows = np.frombuffer(output, "<f4", offset=_HEAD.size).reshape(count, dimensions)
    return [np.array(row, dtype=np.float32) for row in rows]


def vector_step(index: int, vector: Vector) -> TraceStep:
    """The leaf of input ``index``.

    Raises
    ------
    InferenceError : a component is not finite, or too large to be told in units of 1/65536.
    """
    require_finite(vector)
    top = ranked(vector, PAIRS)
    quanta = np.rint(vector[top].astype(np.float64) * QUANTUM)
    if np.abs(quanta).max() >= _MOST:
        raise InferenceError(f"a component of vector {index} is too large to be committed to")
    pairs = [(int(i), int(q)) for i, q in zip(top, quanta, strict=True)]
    pairs += [(NO_DIMENSION, 0)] * (PAIRS - len(pairs))
    return TraceStep(index, keccak256(_row(vector)), tuple(pairs))


def check_vector_params(params: SamplingParams, inputs: int) -> None:
    """Raises `InferenceError` when parameters ask for sampling, or for fewer leaves than there are inputs."""
    if params != neutral_params(params.maxTokens):
        raise InferenceError("vectors are not sampled: all parameters but maxTokens must be neutral")
    if params.maxTokens < inputs:
        raise InferenceError(
            f"{inputs} inputs need maxTokens of at least {inputs}, given is {params.maxTokens}"
        )


def vector_fault(transcript: Transcript, engine: Engine, first: int = 0) -> Fault | None:
    """Computes the vectors again; the first difference from leaf ``first`` on, or in what has no leaf.

    The caller has made sure that engine and model are those of the transcript.

    Raises
    ------
    InferenceError : the engine failed; nothing follows about the transcript.
    """
    steps = transcript.steps
    try:
        count = len(inputs_of(transcript.request))
        check_vector_params(transcript.params, count)
    except InferenceError as error:
        return Fault(NO_LEAF, f"no engine answers this request: {error.message}")
    if len(steps) != count:
        return Fault(min(len(steps), count), f"{count} inputs have {len(steps)} leaves")
    rows = list(engine.replay(transcript.request, range(count)))
    for index in range(min(first, count), count):
        again = vector_step(index, rows[index])
        if steps[index].token != index:
            return Fault(index, f"leaf {index} is of input {steps[index].token}")
        if again.row_hash != steps[index].row_hash:
            return Fault(index, f"vector {index} differs: the answer is not from this model and engine")
        if again.pairs != steps[index].pairs:
            return Fault(index, f"vector {index} is right, its eight largest components are not")
    if transcript.output != encode_vectors(rows):
        return Fault(NO_LEAF, "the output holds other vectors than the trace")
    if transcript.finish is not FinishReason.END_TOKEN or transcript.stop_strings:
        return Fault(NO_LEAF, "vectors have no other end than the last one")
    return None


def _members(request: bytes) -> dict[str, Any]:
    if not request.lstrip().startswith(b"{"):
        return {}
    try:
        value = msgspec.json.decode(request)
    except (ValueError, msgspec.DecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _checked(index: int, value: object) -> Input:
    if isinstance(value, str):
        if not value.strip():
            raise InferenceError(f"input {index} is empty")
        return value
    if isinstance(value, list) and 1 <= len(value) <= MAX_VALUES and all(map(_is_number, value)):
        return tuple(float(number) for number in value)
    raise InferenceError(f"input {index} is neither a text nor a list of 1 to {MAX_VALUES} numbers")


def _is_number(value: object) -> bool:
    # Larger numbers have no float32; JSON has no infinity and no NaN.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2.0**127


def _row(vector: Vector) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def same(one: Iterable[Vector], other: Iterable[Vector]) -> bool:
    """Whether vectors agree bit for bit."""
    return list(map(_row, one)) == list(map(_row, other))
