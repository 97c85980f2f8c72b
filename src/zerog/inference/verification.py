"""Checks an inference without trusting whoever wrote it down, and without a node.

`check_transcript` recomputes every hash and the signature. `check_execution` and `find_fault` run the
model again: one prefill over prompt and answer gives every logit row, from which every token, the end of
the answer and its text must follow. What no computation here can tell is whether the signer had stake:
that is the chain's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from zerog.chain.keys import keccak256
from zerog.errors import ContextExceeded, InferenceError
from zerog.inference.encoding import ZERO_HASH
from zerog.inference.engines import Engine
from zerog.inference.models import id_of
from zerog.inference.receipt import (
    CLAIMABLE_TIERS,
    AuditVote,
    InferenceReceipt,
    engine_id,
    recover_signer,
    stop_hash,
)
from zerog.inference.text_signature import check_text
from zerog.inference.trace import trace_root
from zerog.inference.transcript import SignedTranscript, Transcript

if TYPE_CHECKING:
    from zerog.inference.logits import Logits

TOLERANT_PREFIX = "openai-compatible/"
"""How the descriptions of engines begin whose servers report log-probabilities."""
UNTRACED = "/logprobs=none"
"""How the descriptions of engines end whose servers report no log-probabilities."""
VECTOR_PREFIX = "onnxruntime/"
"""How the descriptions of engines begin whose answers are vectors (`embedding`)."""
NO_LEAF = AuditVote.NO_BAD_INDEX
"""The index of a fault that lies in no leaf."""
_HASHED_TOGETHER = 32
"""Rows of a replay's batch: they come together."""
Progress = Callable[[int, int], None]
"""``progress(done, total)`` in logit rows."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked; ``detail`` says what was found when it is wrong, ``leaf`` in which leaf."""

    name: str
    passed: bool
    detail: str = ""
    leaf: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an inference: the first bad leaf, or `NO_LEAF`, and why."""

    index: int
    reason: str

    def __str__(self) -> str:
        return self.reason


class CannotCompare(InferenceError):
    """The engine at hand computes something else by design, so that nothing follows from a difference."""


def check_transcript(signed: SignedTranscript, signer: bytes | None = None) -> list[Check]:
    """Recomputes all commitments. ``signer``: the address that must have signed, if known."""
    receipt, transcript = signed.receipt, signed.transcript
    expected = signed.signer if signer is None else signer
    return [
        _equal("receipt hash", signed.receipt_hash, receipt.digest(signed.domain.separator)),
        _attempt("signature", lambda: _signed_by(signed, expected)),
        *(_equal(*row) for row in _commitments(transcript, receipt)),
        *_data_root(signed),
        Check(
            "tier",
            receipt.tier in CLAIMABLE_TIERS,
            "" if receipt.tier in CLAIMABLE_TIERS else f"nobody can claim {receipt.tier}",
        ),
        *_text_signature(signed, expected),
    ]


def check_execution(
    signed: SignedTranscript, engine: Engine, progress: Progress | None = None
) -> list[Check]:
    """Runs the model again and compares every row and every token."""
    receipt, transcript = signed.receipt, signed.transcript
    same = _equal("engine of the re-run", receipt.engineId, engine_id(engine.description))
    model = _equal("model of the re-run", receipt.modelId, engine.model_id)
    if is_tolerant(transcript.engine) and model.passed:
        try:
            return [model, _no_fault("distance of the log-probabilities", find_fault(transcript, engine))]
        except CannotCompare as error:
            return [model, Check("distance of the log-probabilities", False, error.message)]
    if not (same.passed and model.passed):
        return [same, model]
    if is_vector(transcript.engine):
        return [same, model, _no_fault("vectors", find_fault(transcript, engine, receipt=receipt))]
    prompt = _prompt_fault(transcript, engine)
    if prompt is None and receipt.promptTokens != transcript.prompt_tokens:
        prompt = Fault(NO_LEAF, f"claimed {receipt.promptTokens}, computed {transcript.prompt_tokens}")
    if prompt is not None:
        return [same, model, Check("prompt tokens", False, prompt.reason)]
    return [
        same,
        model,
        Check("prompt tokens", True),
        _no_fault("logit rows and tokens", _leaf_fault(transcript, engine, 0, progress)),
        _no_fault("end of the answer", _end_fault(transcript, engine, 0)),
    ]


def binding_fault(transcript: Transcript, receipt: InferenceReceipt) -> Fault | None:
    """The first commitment of a receipt that this transcript does not fulfil; needs no model."""
    rows = [
        *_commitments(transcript, receipt),
        ("prompt tokens", receipt.promptTokens, transcript.prompt_tokens),
    ]
    for name, claimed, computed in rows:
        if claimed != computed:
            return Fault(NO_LEAF, f"{name}: claimed {_shown(claimed)}, computed {_shown(computed)}")
    return None


def find_fault(
    transcript: Transcript,
    engine: Engine,
    from_leaf: int = 0,
    *,
    receipt: InferenceReceipt | None = None,
    progress: Progress | None = None,
) -> Fault | None:
    """Re-executes an inference; ``None`` when it is exactly what the engine computes.

    One prefill over prompt and answer, however long. Compared are, in this order: the commitments of
    ``receipt`` when given, the prompt, every leaf from ``from_leaf`` on (row, eight log-probabilities, the
    sampler's choice, that the answer does not end before), the end, its reason and the text.

    Raises
    ------
    CannotCompare : the engine is of another class or model than the one that answered.
    InferenceError : the engine failed; nothing follows about the transcript.
    """
    if receipt is not None and (fault := binding_fault(transcript, receipt)) is not None:
        return fault
    tolerant = is_tolerant(transcript.engine)
    if not tolerant:
        _require_same_engine(transcript, engine)
    _require_same_model(transcript, engine)
    if (fault := _prompt_fault(transcript, engine)) is not None:
        return fault
    if tolerant:
        from zerog.inference.tolerance import thresholds_of, tolerant_fault

        try:
            return tolerant_fault(transcript, engine, thresholds_of(engine.model_id))
        except ContextExceeded as error:
            return Fault(NO_LEAF, f"no engine can have answered this: {error.message}")
    if is_vector(transcript.engine):
        from zerog.inference.embedding import vector_fault

        return vector_fault(transcript, engine, from_leaf)
    faults = [
        fault
        for fault in (
            _leaf_fault(transcript, engine, from_leaf, progress),
            _end_fault(transcript, engine, from_leaf),
        )
        if fault is not None
    ]
    return min(faults, key=lambda fault: fault.index, default=None)


# Commitments.


def _commitments(
    transcript: Transcript, receipt: InferenceReceipt
) -> list[tuple[str, bytes | int, bytes | int]]:
    """Name, what the receipt claims and what the transcript gives."""
    params = transcript.params
    return [
        ("input hash", receipt.inputHash, keccak256(transcript.request)),
        ("output hash", receipt.outputHash, keccak256(transcript.output)),
        ("parameters", receipt.paramsHash, params.struct_hash()),
        ("stop strings", params.stopHash, stop_hash(list(transcript.stop_strings))),
        ("model id", receipt.modelId, id_of(transcript.model)),
        ("engine id", receipt.engineId, engine_id(transcript.engine)),
        ("trace root", receipt.traceRoot, trace_root(transcript.steps)),
        ("output tokens", receipt.outputTokens, len(transcript.steps)),
    ]


def _data_root(signed: SignedTranscript) -> Iterator[Check]:
    claimed = signed.receipt.dataRoot
    if claimed == ZERO_HASH:
        return
    from zerog.storage.transfer.source import BytesSource

    def check() -> None:
        data = signed.envelope or signed.transcript.canonical_bytes()
        root: bytes = BytesSource(data).tree().root
        if root != claimed:
            raise InferenceError(f"claimed {_shown(claimed)}, computed {_shown(root)}")

    yield _attempt("data root", check)


# Execution.


def is_tolerant(engine: str) -> bool:
    """Whether answers of the engine with this description are compared by distance (`tolerance`)."""
    return engine.startswith(TOLERANT_PREFIX)


def is_vector(engine: str) -> bool:
    """Whether answers of the engine with this description are vectors, one leaf each."""
    return engine.startswith(VECTOR_PREFIX)


def _require_same_engine(transcript: Transcript, engine: Engine) -> None:
    if transcript.engine != engine.description:
        raise CannotCompare(
            f"this machine runs the engine {engine.description!r}; the answer is of {transcript.engine!r}: "
            "they do not agree bit for bit, so nothing can be said about the answer"
        )


def _require_same_model(transcript: Transcript, engine: Engine) -> None:
    wanted = id_of(transcript.model)
    if wanted != engine.model_id:
        raise CannotCompare(
            f"the engine has the model 0x{engine.model_id.hex()}, the answer is of 0x{wanted.hex()}"
        )


def _prompt_fault(transcript: Transcript, engine: Engine) -> Fault | None:
    try:
        prompt = engine.prompt_tokens(transcript.request)
    except InferenceError as error:
        return Fault(NO_LEAF, f"the model cannot read the request: {error.message}")
    if len(prompt) != transcript.prompt_tokens:
        return Fault(NO_LEAF, f"claimed {transcript.prompt_tokens}, computed {len(prompt)}")
    return None


def _leaf_fault(
    transcript: Transcript, engine: Engine, first: int, progress: Progress | None
) -> Fault | None:
    from zerog.inference.sampling import check_params

    try:
        check_params(transcript.params)
    except InferenceError as error:
        return Fault(NO_LEAF, f"no engine answers with these parameters: {error.message}")
    tokens = [step.token for step in transcript.steps]
    if not tokens:
        return Fault(NO_LEAF, "the trace is empty")
    for index, token in enumerate(tokens):
        try:
            engine.ending([token], transcript.params, ())
        except InferenceError as error:
            return Fault(index, error.message)
    prompt = engine.prompt_tokens(transcript.request)
    context = [*prompt, *tokens[:first]]
    try:
        rows = engine.replay(transcript.request, tokens, first)
        for index, (row, row_hash) in enumerate(_hashed(rows), first):
            if (reason := _wrong_leaf(transcript, index, row, row_hash, context)) is not None:
                return Fault(index, reason)
            context.append(tokens[index])
            if progress is not None:
                progress(index + 1 - first, len(tokens) - first)
    except ContextExceeded as error:
        # The transcript's doing, not the engine's: everybody who has the model finds the same.
        return Fault(NO_LEAF, f"no engine can have answered this: {error.message}")
    return None


def _hashed(rows: Iterator[Logits]) -> Iterator[tuple[Logits, bytes]]:
    """Rows with their hashes, which several rows together get much faster."""
    from zerog.inference.logits import row_hashes

    while block := list(islice(rows, _HASHED_TOGETHER)):
        yield from zip(block, row_hashes(block), strict=True)


def _wrong_leaf(
    transcript: Transcript, index: int, row: Logits, row_hash: bytes, context: list[int]
) -> str | None:
    from zerog.inference.logits import likeliest
    from zerog.inference.sampling import choose, may_choose

    step = transcript.steps[index]
    try:
        pairs = likeliest(row)
        if row_hash != step.row_hash:
            return f"row {index} differs: the answer is not from this model and engine"
        if pairs != step.pairs:
            return f"row {index} is right, its eight log-probabilities are not"
        if may_choose(row, transcript.params, index, context, step.token):
            return None
        chosen = choose(row, transcript.params, index, context)
    except InferenceError as error:
        return f"row {index}: {error.message}"
    return f"token {index} is {step.token}, the sampler chooses {chosen}"


def _end_fault(transcript: Transcript, engine: Engine, first: int) -> Fault | None:
    tokens = [step.token for step in transcript.steps]
    for count in range(min(first + 1, len(tokens)), len(tokens) + 1):
        try:
            end = engine.ending(tokens[:count], transcript.params, transcript.stop_strings) if count else None
        except InferenceError as error:
            return Fault(count - 1, error.message)
        if end is None:
            continue
        output, reason = end
        if count < len(tokens):
            return Fault(count, f"the answer ends at token {count - 1}, the trace goes on")
        if output != transcript.output:
            return Fault(NO_LEAF, "the tokens spell another text than the output")
        if reason is not transcript.finish:
            return Fault(NO_LEAF, f"the answer ends by {reason.value}, not by {transcript.finish.value}")
        return None
    last = len(tokens) - 1 if tokens else NO_LEAF
    return Fault(last, "the trace stops before the answer ends")


# Signatures and small things.


def _signed_by(signed: SignedTranscript, expected: bytes) -> None:
    digest = signed.receipt.digest(signed.domain.separator)
    signer = recover_signer(digest, signed.signature)
    if signer != expected:
        raise InferenceError(f"signed by 0x{signer.hex()}, not by 0x{expected.hex()}")


def _text_signature(signed: SignedTranscript, expected: bytes) -> Iterator[Check]:
    entry = signed.text_signature
    if entry is None:
        return

    def check() -> None:
        signer = check_text(entry, signed.transcript.request, signed.transcript.output)
        if signer != expected:
            raise InferenceError(f"signed by 0x{signer.hex()}, not by 0x{expected.hex()}")

    yield _attempt("0G text signature", check)


def _equal(name: str, claimed: bytes | int, computed: bytes | int) -> Check:
    if claimed == computed:
        return Check(name, True)
    return Check(name, False, f"claimed {_shown(claimed)}, computed {_shown(computed)}")


def _no_fault(name: str, fault: Fault | None) -> Check:
    if fault is None:
        return Check(name, True)
    return Check(name, False, fault.reason, None if fault.index == NO_LEAF else fault.index)


def _attempt(name: str, action: Callable[[], None]) -> Check:
    try:
        action()
    except InferenceError as error:
        return Check(name, False, error.message)
    return Check(name, True)


def _shown(value: bytes | int) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
