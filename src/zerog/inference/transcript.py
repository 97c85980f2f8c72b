"""The transcript: everything that somebody needs to check one inference without asking anyone.

It is the file that ``zerog infer --out`` writes and ``zerog infer verify`` reads: JSON, format
``zerog-inference-transcript/1``, described in docs/inference.md. Hashes are 0x-hexadecimal, request
and output are text when they are UTF-8 and base64 otherwise.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from zerog.chain.keys import address_of
from zerog.contracts import MODELS, GenesisModel
from zerog.errors import InferenceError
from zerog.inference.answer import Answer, Domain
from zerog.inference.encoding import from_message, parse_hex
from zerog.inference.receipt import InferenceReceipt, SamplingParams
from zerog.inference.text_signature import sign_text
from zerog.inference.trace import PAIRS, TraceStep

FORMAT = "zerog-inference-transcript/1"
MAX_FILE_SIZE = 16 << 20
MAX_STEPS = 4096
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
    text_signature: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Transcript:
    """A decoded transcript. Nothing in it has been checked beyond its form."""

    domain: Domain
    receipt: InferenceReceipt
    receipt_hash: bytes
    signature: bytes
    signer: bytes
    request: bytes
    output: bytes
    params: SamplingParams
    stop_strings: tuple[str, ...]
    engine: str
    model: GenesisModel
    steps: tuple[TraceStep, ...]
    text_signature: dict[str, Any] | None


def transcript_of(answer: Answer, domain: Domain, engine: str, key: bytes) -> Transcript:
    """The transcript of an answer, with the 0G text signature of the same key beside it."""
    return Transcript(
        domain=domain,
        receipt=answer.receipt,
        receipt_hash=answer.receipt_hash,
        signature=answer.signature,
        signer=bytes.fromhex(address_of(key)[2:]),
        request=answer.inquiry.request,
        output=answer.output,
        params=answer.inquiry.params,
        stop_strings=answer.inquiry.stop_strings,
        engine=engine,
        model=MODELS[0],
        steps=answer.generation.steps,
        text_signature=sign_text(key, answer.inquiry.request, answer.output),
    )


def encode_transcript(transcript: Transcript) -> bytes:
    """The transcript as indented JSON."""
    document = _Document(
        format=FORMAT,
        domain=_DomainFields(transcript.domain.chain_id, "0x" + transcript.domain.registry.hex()),
        receipt=transcript.receipt.to_message(),
        receipt_hash="0x" + transcript.receipt_hash.hex(),
        signature="0x" + transcript.signature.hex(),
        signer="0x" + transcript.signer.hex(),
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
        text_signature=transcript.text_signature,
    )
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def decode_transcript(data: bytes) -> Transcript:
    """A transcript from JSON.

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
    if document.format != FORMAT:
        raise InferenceError(f"the transcript has the format {document.format!r}, known is {FORMAT!r}")
    if not 0 < document.domain.chain_id < 2**256:
        raise InferenceError(f"domain.chainId = {document.domain.chain_id} is out of range")
    if len(document.trace) > MAX_STEPS:
        raise InferenceError(f"the trace has {len(document.trace)} steps, more than the limit of {MAX_STEPS}")
    return Transcript(
        domain=Domain(document.domain.chain_id, parse_hex(document.domain.registry, 20, "domain.registry")),
        receipt=from_message(InferenceReceipt, document.receipt),
        receipt_hash=parse_hex(document.receipt_hash, 32, "receiptHash"),
        signature=parse_hex(document.signature, None, "signature"),
        signer=parse_hex(document.signer, 20, "signer"),
        request=_unpack(document.request, "request"),
        output=_unpack(document.output, "output"),
        params=from_message(SamplingParams, document.params),
        stop_strings=tuple(document.stop_strings),
        engine=_ascii(document.engine, "engine"),
        model=_model(document.model),
        steps=tuple(_step(index, step) for index, step in enumerate(document.trace)),
        text_signature=document.text_signature,
    )


def read_transcript(path: Path) -> Transcript:
    """The transcript in a file; raises `InferenceError` naming the path."""
    try:
        with path.open("rb") as source:
            data = source.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise InferenceError(f"cannot read {path}: {error.strerror}") from None
    return decode_transcript(data)


def write_transcript(path: Path, transcript: Transcript) -> None:
    """Writes a transcript; raises `InferenceError` naming the path."""
    try:
        path.write_bytes(encode_transcript(transcript))
    except OSError as error:
        raise InferenceError(f"cannot write {path}: {error.strerror}") from None


def _pack(data: bytes) -> _Bytes:
    try:
        return _Bytes("utf-8", data.decode())
    except UnicodeDecodeError:
        # An answer that its token limit cut inside a character.
        return _Bytes("base64", base64.b64encode(data).decode("ascii"))


def _unpack(field: _Bytes, name: str) -> bytes:
    if field.encoding == "utf-8":
        return field.data.encode()
    try:
        return base64.b64decode(field.data, validate=True)
    except ValueError:
        raise InferenceError(f"{name}.data is not base64") from None


def _model(fields: _ModelFields) -> GenesisModel:
    parse_hex(fields.weights_root, 32, "model.weightsRoot")
    parse_hex(fields.tokenizer_hash, 32, "model.tokenizerHash")
    return GenesisModel(
        name=fields.name,
        weights_root=fields.weights_root,
        tokenizer_hash=fields.tokenizer_hash,
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
