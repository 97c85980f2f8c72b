"""The file that ``zerog infer --out`` writes: a signed transcript as JSON.

Format ``zerog-inference-transcript/2``, described in docs/inference.md. Hashes are 0x-hexadecimal, request
and output are text when they are UTF-8 and base64 otherwise. Files of format /1, which knew neither the
reason of the end nor storage, can still be read.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Literal

import msgspec

from zerog.errors import InferenceError
from zerog.inference.encoding import Domain, from_message, parse_hex
from zerog.inference.engines import FinishReason
from zerog.inference.models import ModelIdentity
from zerog.inference.receipt import InferenceReceipt, SamplingParams
from zerog.inference.trace import PAIRS, TraceStep
from zerog.inference.transcript import MAX_STEPS, SignedTranscript, Transcript

FORMAT = "zerog-inference-transcript/2"
_FORMER = "zerog-inference-transcript/1"
MAX_FILE_SIZE = 16 << 20
_UINT32 = 2**32


class _Bytes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    encoding: Literal["utf-8", "base64"]
    data: str


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: int
    row: str
    top: list[tuple[int, int]]


class _DomainFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    chain_id: int
    registry: str


class _ModelFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    name: str
    weights_root: str
    tokenizer_hash: str
    chat_template: str
    quantisation: str


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    format: str
    domain: _DomainFields
    receipt: dict[str, Any]
    receipt_hash: str
    signature: str
    signer: str
    request: _Bytes
    output: _Bytes
    params: dict[str, Any]
    stop_strings: list[str]
    engine: str
    model: _ModelFields
    trace: list[_Step]
    finish: Literal["end_token", "stop_string", "length"] | None = None
    prompt_tokens: int | None = None
    text_signature: dict[str, Any] | None = None
    envelope: str | None = None


def encode_transcript(signed: SignedTranscript) -> bytes:
    """The signed transcript as indented JSON."""
    transcript = signed.transcript
    document = _Document(
        format=FORMAT,
        domain=_DomainFields(signed.domain.chain_id, "0x" + signed.domain.registry.hex()),
        receipt=signed.receipt.to_message(),
        receipt_hash="0x" + signed.receipt_hash.hex(),
        signature="0x" + signed.signature.hex(),
        signer="0x" + signed.signer.hex(),
        request=_pack(transcript.request),
        output=_pack(transcript.output),
        params=transcript.params.to_message(),
        stop_strings=list(transcript.stop_strings),
        engine=transcript.engine,
        model=_ModelFields(
            transcript.model.name,
            transcript.model.weights_root,
            transcript.model.tokenizer_hash,
            transcript.model.chat_template,
            transcript.model.quantisation,
        ),
        trace=[_Step(s.token, "0x" + s.row_hash.hex(), list(s.pairs)) for s in transcript.steps],
        finish=transcript.finish.value,
        prompt_tokens=transcript.prompt_tokens,
        text_signature=signed.text_signature,
        envelope=None if signed.envelope is None else base64.b64encode(signed.envelope).decode("ascii"),
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode_transcript(data: bytes) -> SignedTranscript:
    """A signed transcript from JSON.

    Raises
    ------
    InferenceError : too large, no JSON, another format, or a member of the wrong form.
    """
    if len(data) > MAX_FILE_SIZE:
        raise InferenceError(f"the transcript has {len(data)} bytes, more than the limit of {MAX_FILE_SIZE}")
    try:
        document = msgspec.json.decode(data, type=_Document)
    except msgspec.ValidationError as error:
        raise InferenceError(f"the transcript is malformed: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InferenceError(f"the transcript is not JSON: {error}") from None
    if document.format not in (FORMAT, _FORMER):
        raise InferenceError(f"the transcript has the format {document.format!r}, known is {FORMAT!r}")
    if not 0 < document.domain.chain_id < 2**256:
        raise InferenceError(f"domain.chainId = {document.domain.chain_id} is out of range")
    if len(document.trace) > MAX_STEPS:
        raise InferenceError(f"the trace has {len(document.trace)} steps, more than the limit of {MAX_STEPS}")
    receipt = from_message(InferenceReceipt, document.receipt)
    return SignedTranscript(
        domain=Domain(document.domain.chain_id, parse_hex(document.domain.registry, 20, "domain.registry")),
        receipt=receipt,
        receipt_hash=parse_hex(document.receipt_hash, 32, "receiptHash"),
        signature=parse_hex(document.signature, None, "signature"),
        signer=parse_hex(document.signer, 20, "signer"),
        transcript=_transcript(document, receipt),
        text_signature=document.text_signature,
        envelope=None if document.envelope is None else _base64(document.envelope, "envelope"),
    )


def read_transcript(path: Path) -> SignedTranscript:
    """The signed transcript in a file; raises `InferenceError` naming the path."""
    try:
        with path.open("rb") as source:
            data = source.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise InferenceError(f"cannot read {path}: {error.strerror}") from None
    return decode_transcript(data)


def write_transcript(path: Path, signed: SignedTranscript) -> None:
    """Writes a signed transcript; raises `InferenceError` naming the path."""
    try:
        path.write_bytes(encode_transcript(signed))
    except OSError as error:
        raise InferenceError(f"cannot write {path}: {error.strerror}") from None


def _transcript(document: _Document, receipt: InferenceReceipt) -> Transcript:
    params = from_message(SamplingParams, document.params)
    steps = tuple(_step(index, step) for index, step in enumerate(document.trace))
    if document.format == _FORMER:
        finish, prompt_tokens = _former_finish(document, params, steps), receipt.promptTokens
    elif document.finish is None or document.prompt_tokens is None:
        raise InferenceError("the transcript is malformed: finish or promptTokens is missing")
    else:
        finish, prompt_tokens = FinishReason(document.finish), document.prompt_tokens
    if not 0 <= prompt_tokens < _UINT32:
        raise InferenceError(f"promptTokens = {prompt_tokens} is out of range")
    return Transcript(
        request=_unpack(document.request, "request"),
        params=params,
        stop_strings=tuple(document.stop_strings),
        output=_unpack(document.output, "output"),
        finish=finish,
        prompt_tokens=prompt_tokens,
        engine=_ascii(document.engine, "engine"),
        model=_model(document.model),
        steps=steps,
    )


def _former_finish(document: _Document, params: SamplingParams, steps: tuple[TraceStep, ...]) -> FinishReason:
    """The likeliest reason; nothing was committed to it in format /1."""
    if len(steps) >= params.maxTokens:
        return FinishReason.LENGTH
    return FinishReason.STOP_STRING if document.stop_strings else FinishReason.END_TOKEN


def _pack(data: bytes) -> _Bytes:
    try:
        return _Bytes("utf-8", data.decode())
    except UnicodeDecodeError:
        # An answer that its token limit cut inside a character.
        return _Bytes("base64", base64.b64encode(data).decode("ascii"))


def _unpack(field: _Bytes, name: str) -> bytes:
    if field.encoding == "utf-8":
        return field.data.encode()
    return _base64(field.data, f"{name}.data")


def _base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise InferenceError(f"{name} is not base64") from None


def _model(fields: _ModelFields) -> ModelIdentity:
    parse_hex(fields.weights_root, 32, "model.weightsRoot")
    parse_hex(fields.tokenizer_hash, 32, "model.tokenizerHash")
    return ModelIdentity(
        name=fields.name,
        weights_root=fields.weights_root.lower(),
        tokenizer_hash=fields.tokenizer_hash.lower(),
        chat_template=fields.chat_template,
        quantisation=_ascii(fields.quantisation, "model.quantisation"),
        uri="",
    )


def _ascii(text: str, name: str) -> str:
    if not text.isascii():
        raise InferenceError(f"{name} is not ASCII")
    return text


def _step(index: int, step: _Step) -> TraceStep:
    if not 0 <= step.token < _UINT32:
        raise InferenceError(f"trace[{index}].token = {step.token} is out of range")
    if len(step.top) != PAIRS:
        raise InferenceError(f"trace[{index}].top has {len(step.top)} pairs instead of {PAIRS}")
    for token, quantum in step.top:
        if not (0 <= token < _UINT32 and -_UINT32 // 2 <= quantum < _UINT32 // 2):
            raise InferenceError(f"trace[{index}].top has a pair out of range")
    return TraceStep(step.token, parse_hex(step.row, 32, f"trace[{index}].row"), tuple(step.top))
