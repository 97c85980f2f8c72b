"""Checks a transcript without trusting whoever wrote it, and without a node.

`check_transcript` recomputes every hash and the signature. `check_execution` runs the model again:
one prefill over prompt and answer gives every logit row, from which every token, the end of the
answer and its text must follow. What no computation here can tell is whether the signer had stake:
that is the chain's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zerog.chain.keys import keccak256
from zerog.contracts.genesis import model_id
from zerog.errors import InferenceError
from zerog.inference.engines import Engine
from zerog.inference.receipt import CLAIMABLE_TIERS, engine_id, recover_signer, stop_hash
from zerog.inference.text_signature import check_text
from zerog.inference.trace import trace_root
from zerog.inference.transcript import Transcript


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked; ``detail`` says what was found when it is wrong."""

    name: str
    passed: bool
    detail: str = ""


def check_transcript(transcript: Transcript, signer: bytes | None = None) -> list[Check]:
    """Recomputes all commitments. ``signer``: the address that must have signed, if known."""
    receipt = transcript.receipt
    expected = transcript.signer if signer is None else signer
    return [
        _equal("receipt hash", transcript.receipt_hash, receipt.digest(transcript.domain.separator)),
        _attempt("signature", lambda: _signed_by(transcript, expected)),
        _equal("input hash", receipt.inputHash, keccak256(transcript.request)),
        _equal("output hash", receipt.outputHash, keccak256(transcript.output)),
        _equal("parameters", receipt.paramsHash, transcript.params.struct_hash()),
        _equal("stop strings", transcript.params.stopHash, stop_hash(list(transcript.stop_strings))),
        _equal("model id", receipt.modelId, model_id(transcript.model, keccak256)),
        _equal("engine id", receipt.engineId, engine_id(transcript.engine)),
        _equal("trace root", receipt.traceRoot, trace_root(transcript.steps)),
        _equal("output tokens", receipt.outputTokens, len(transcript.steps)),
        Check(
            "tier",
            receipt.tier in CLAIMABLE_TIERS,
            "" if receipt.tier in CLAIMABLE_TIERS else f"nobody can claim {receipt.tier}",
        ),
        *_text_signature(transcript, expected),
    ]


def check_execution(transcript: Transcript, engine: Engine) -> list[Check]:
    """Runs the model again and compares every row and every token."""
    receipt = transcript.receipt
    same = _equal("engine of the re-run", receipt.engineId, engine_id(engine.description))
    model = _equal("model of the re-run", receipt.modelId, engine.model_id)
    if not (same.passed and model.passed):
        return [same, model]
    try:
        prompt = engine.prompt_tokens(transcript.request)
    except InferenceError as error:
        return [same, model, Check("prompt tokens", False, error.message)]
    return [
        same,
        model,
        _equal("prompt tokens", receipt.promptTokens, len(prompt)),
        _attempt("logit rows and tokens", lambda: _rerun(transcript, engine, prompt)),
        _attempt("end of the answer", lambda: _ending(transcript, engine)),
    ]


def _rerun(transcript: Transcript, engine: Engine, prompt: list[int]) -> None:
    from zerog.inference.logits import trace_step
    from zerog.inference.sampling import check_params, choose

    check_params(transcript.params)
    tokens = [step.token for step in transcript.steps]
    if not tokens:
        raise InferenceError("the trace is empty")
    rows = engine.replay(transcript.request, tokens)
    for index, (step, row) in enumerate(zip(transcript.steps, rows, strict=True)):
        again = trace_step(step.token, row)
        if again.row_hash != step.row_hash:
            raise InferenceError(f"row {index} differs: the answer is not from this model and engine")
        if again.pairs != step.pairs:
            raise InferenceError(f"row {index} is right, its eight log-probabilities are not")
        chosen = choose(row, transcript.params, index, [*prompt, *tokens[:index]])
        if chosen != step.token:
            raise InferenceError(f"token {index} is {step.token}, the sampler chooses {chosen}")


def _ending(transcript: Transcript, engine: Engine) -> None:
    tokens = [step.token for step in transcript.steps]
    for count in range(1, len(tokens) + 1):
        end = engine.ending(tokens[:count], transcript.params, transcript.stop_strings)
        if end is None:
            continue
        if count < len(tokens):
            raise InferenceError(f"the answer ends at token {count - 1}, the trace goes on")
        if end[0] != transcript.output:
            raise InferenceError("the tokens spell another text than the output")
        return
    raise InferenceError("the trace stops before the answer ends")


def _signed_by(transcript: Transcript, expected: bytes) -> None:
    digest = transcript.receipt.digest(transcript.domain.separator)
    signer = recover_signer(digest, transcript.signature)
    if signer != expected:
        raise InferenceError(f"signed by 0x{signer.hex()}, not by 0x{expected.hex()}")


def _text_signature(transcript: Transcript, expected: bytes) -> Iterator[Check]:
    entry = transcript.text_signature
    if entry is None:
        return

    def check() -> None:
        signer = check_text(entry, transcript.request, transcript.output)
        if signer != expected:
            raise InferenceError(f"signed by 0x{signer.hex()}, not by 0x{expected.hex()}")

    yield _attempt("0G text signature", check)


def _equal(name: str, claimed: bytes | int, computed: bytes | int) -> Check:
    if claimed == computed:
        return Check(name, True)
    return Check(name, False, f"claimed {_shown(claimed)}, computed {_shown(computed)}")


def _attempt(name: str, action: Callable[[], None]) -> Check:
    try:
        action()
    except InferenceError as error:
        return Check(name, False, error.message)
    return Check(name, True)


def _shown(value: bytes | int) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
