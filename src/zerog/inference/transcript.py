"""The transcript: everything that somebody needs to repeat one inference, in one canonical encoding.

A `Transcript` says what was asked, with which model, engine and parameters, and what came out, token by
token. It does not know its receipt: ``receipt.dataRoot`` is the storage root of exactly these bytes, so
a verifier who has nothing but the receipt fetches them from storage and repeats the computation::

    data = transcript.canonical_bytes()
    assert decode_canonical(data) == transcript

A `SignedTranscript` is the transcript with its receipt and signatures: what a user keeps in a file
(`zerog.inference.transcript_file`). Byte layout: docs/inference.md.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import Any

from zerog.errors import InferenceError
from zerog.inference.binary import Reader, Writer
from zerog.inference.encoding import Domain, parse_hex
from zerog.inference.engines import FinishReason
from zerog.inference.models import ModelIdentity
from zerog.inference.receipt import InferenceReceipt, SamplingParams, stop_hash
from zerog.inference.trace import PAIRS, TraceStep

VERSION = 1
MAX_REQUEST = 1 << 20
MAX_OUTPUT = 1 << 20
MAX_STEPS = 4096
MAX_STOP_STRINGS = 64
MAX_STOP_SIZE = 1024
MAX_ENGINE = 1024
MAX_NAME = 256
MAX_TEMPLATE = 1 << 16
MAX_QUANTISATION = 64
MAX_CANONICAL = 3 << 20
"""More than the longest transcript has, in bytes: what a reader needs to fetch at most."""

_FINISH = {FinishReason.END_TOKEN: 1, FinishReason.STOP_STRING: 2, FinishReason.LENGTH: 3}
_FINISH_OF = {code: reason for reason, code in _FINISH.items()}
_PARAMS = struct.Struct(">IIIIIQB")
_STEP = struct.Struct(">I32s" + "Ii" * PAIRS)
_PAIR = 64


@dataclass(frozen=True, slots=True)
class Transcript:
    """One inference, independent of its receipt. Nothing in it has been checked beyond its form.

    Attributes
    ----------
    request, output : the bytes that the receipt commits to.
    params, stop_strings : how tokens were chosen and where to stop.
    finish : why the generation ended.
    prompt_tokens : number of tokens that the model read for the request.
    engine : description whose keccak256 is the engine id.
    model : identity of the model; its ``uri`` is no part of the transcript and empty here.
    steps : one entry per generated token.
    """

    request: bytes
    params: SamplingParams
    stop_strings: tuple[str, ...]
    output: bytes
    finish: FinishReason
    prompt_tokens: int
    engine: str
    model: ModelIdentity
    steps: tuple[TraceStep, ...]

    @property
    def digests(self) -> bytes:
        """The 0G pair: sha256 of the request, sha256 of the output."""
        return hashlib.sha256(self.request).digest() + hashlib.sha256(self.output).digest()

    def canonical_bytes(self) -> bytes:
        """The only encoding of this transcript.

        Raises
        ------
        InferenceError : a member exceeds its limit or contradicts another; such a transcript has none.
        """
        data = _encode(self)
        # What readers would refuse must never get a root.
        if decode_canonical(data) != self:
            raise InferenceError("the transcript has members that its encoding does not carry")
        return data


@dataclass(frozen=True, slots=True)
class SignedTranscript:
    """A transcript with its receipt. Nothing in it has been checked beyond its form.

    ``envelope`` holds the sealed bytes under ``receipt.dataRoot`` of a private answer.
    """

    domain: Domain
    receipt: InferenceReceipt
    receipt_hash: bytes
    signature: bytes
    signer: bytes
    transcript: Transcript
    text_signature: dict[str, Any] | None
    envelope: bytes | None = None


def anonymous(model: ModelIdentity) -> ModelIdentity:
    """A model's identity as transcripts carry it: without its place of origin."""
    return replace(model, uri="")


def decode_canonical(data: bytes) -> Transcript:
    """The transcript of canonical bytes.

    Raises
    ------
    InferenceError : another version, a member over its limit, bytes missing or left over, a number out
        of range, or digests of other bytes.
    """
    reader = Reader(data, "the transcript")
    if (version := reader.u8("version")) != VERSION:
        raise InferenceError(f"the transcript has version {version}, known is {VERSION}")
    engine = reader.ascii("engine", MAX_ENGINE)
    model = ModelIdentity(
        name=reader.text("model name", MAX_NAME),
        weights_root="0x" + reader.fixed("weights root", 32).hex(),
        tokenizer_hash="0x" + reader.fixed("tokenizer hash", 32).hex(),
        chat_template=reader.text("chat template", MAX_TEMPLATE),
        quantisation=reader.ascii("quantisation", MAX_QUANTISATION),
        uri="",
    )
    tokens, temperature, top_p, top_k, penalty, seed, sampler = reader.unpack("parameters", _PARAMS)
    count = reader.count("stop strings", MAX_STOP_STRINGS, 4)
    stops = tuple(reader.text(f"stop string {index}", MAX_STOP_SIZE) for index in range(count))
    request = reader.field("request", MAX_REQUEST)
    output = reader.field("output", MAX_OUTPUT)
    finish = _FINISH_OF.get(code := reader.u8("finish"))
    if finish is None:
        raise InferenceError(f"the transcript ends for the unknown reason {code}")
    prompt_tokens = reader.u32("prompt tokens")
    digests = reader.fixed("digests", _PAIR)
    steps = tuple(_step(reader) for _ in range(reader.count("trace steps", MAX_STEPS, _STEP.size)))
    reader.end()
    stops_hash = stop_hash(list(stops))
    params = SamplingParams(tokens, temperature, top_p, top_k, penalty, seed, stops_hash, sampler)
    transcript = Transcript(request, params, stops, output, finish, prompt_tokens, engine, model, steps)
    if transcript.digests != digests:
        raise InferenceError("the transcript's digests are of another request or output")
    return transcript


def _encode(transcript: Transcript) -> bytes:
    model, params = transcript.model, transcript.params
    writer = Writer().u8(VERSION)
    try:
        writer.field(transcript.engine.encode("ascii"))
        writer.field(model.name.encode())
        writer.fixed(parse_hex(model.weights_root, 32, "model.weightsRoot"))
        writer.fixed(parse_hex(model.tokenizer_hash, 32, "model.tokenizerHash"))
        writer.field(model.chat_template.encode()).field(model.quantisation.encode("ascii"))
        stops = [text.encode() for text in transcript.stop_strings]
        writer.fixed(
            _PARAMS.pack(
                params.maxTokens,
                params.temperatureMilli,
                params.topPMilli,
                params.topK,
                params.repeatPenaltyMilli,
                params.seed,
                params.sampler,
            )
        )
        steps = [
            _STEP.pack(step.token, step.row_hash, *(number for pair in step.pairs for number in pair))
            for step in transcript.steps
        ]
    except (UnicodeEncodeError, struct.error) as error:
        raise InferenceError(f"the transcript cannot be encoded: {error}") from None
    writer.u32(len(stops))
    for stop in stops:
        writer.field(stop)
    writer.field(transcript.request).field(transcript.output)
    writer.u8(_FINISH[transcript.finish]).u32(transcript.prompt_tokens).fixed(transcript.digests)
    return writer.u32(len(steps)).fixed(b"".join(steps)).done()


def _step(reader: Reader) -> TraceStep:
    token, row, *numbers = reader.unpack("trace step", _STEP)
    pairs = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return TraceStep(token, row, pairs)
