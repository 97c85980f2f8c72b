"""Checking a transcript without trusting its author: every lie is caught by the check that should."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from zerog.chain.keys import keccak256
from zerog.client import Account
from zerog.inference.answer import Domain
from zerog.inference.receipt import InferenceReceipt, sign
from zerog.inference.text_signature import sign_text
from zerog.inference.trace import trace_root
from zerog.inference.verification import check_execution, check_transcript


def _failed(checks) -> list[str]:
    return [check.name for check in checks if not check.passed]


def _with(transcript, **changes):
    """A changed copy; members of the inner transcript are changed there."""
    inner = {name: changes.pop(name) for name in list(changes) if hasattr(transcript.transcript, name)}
    content = dataclasses.replace(transcript.transcript, **inner)
    return dataclasses.replace(transcript, transcript=content, **changes)


def _resigned(transcript, signatory, receipt_changes=None, **changes):
    """A lie told consistently: the dishonest provider signs what it claims."""
    changed = _with(transcript, **changes)
    content = changed.transcript
    fields = {
        "inputHash": keccak256(content.request),
        "outputHash": keccak256(content.output),
        "paramsHash": content.params.struct_hash(),
        "traceRoot": trace_root(content.steps),
        "promptTokens": content.prompt_tokens,
        "outputTokens": len(content.steps),
    }
    receipt: InferenceReceipt = msgspec.structs.replace(changed.receipt, **(fields | (receipt_changes or {})))
    digest = receipt.digest(changed.domain.separator)
    return _with(
        changed,
        receipt=receipt,
        receipt_hash=digest,
        signature=sign(signatory.key, digest),
        text_signature=sign_text(signatory.key, content.request, content.output),
    )


def test_an_honest_transcript_passes(transcript, engine):
    checks = check_transcript(transcript) + check_execution(transcript, engine)
    assert _failed(checks) == []
    assert len(checks) == 17


@pytest.mark.parametrize(
    ("change", "caught_by"),
    [
        ({"receipt_hash": bytes(32)}, ["receipt hash"]),
        ({"signature": bytes(65)}, ["signature"]),
        ({"request": b"Another question"}, ["input hash", "0G text signature"]),
        ({"output": b"Another answer"}, ["output hash", "0G text signature"]),
        ({"engine": "another engine"}, ["engine id"]),
        ({"steps": ()}, ["trace root", "output tokens"]),
        ({"stop_strings": ("x",)}, ["stop strings"]),
        ({"signer": bytes(20)}, ["signature", "0G text signature"]),
        ({"domain": Domain(1, bytes(20))}, ["receipt hash", "signature"]),
    ],
)
def test_a_changed_part_is_caught(transcript, change, caught_by):
    assert _failed(check_transcript(_with(transcript, **change))) == caught_by


def test_changed_parameters_and_model_are_caught(transcript):
    params = msgspec.structs.replace(transcript.transcript.params, maxTokens=13)
    assert _failed(check_transcript(_with(transcript, params=params))) == ["parameters"]
    model = dataclasses.replace(transcript.transcript.model, quantisation="Q8_0")
    assert _failed(check_transcript(_with(transcript, model=model))) == ["model id"]


def test_a_signature_of_somebody_else_is_caught(transcript):
    other = Account.random()
    forged = _with(transcript, signature=sign(other.key, transcript.receipt_hash))
    assert _failed(check_transcript(forged)) == ["signature"]
    expected = bytes.fromhex(other.address[2:])
    assert _failed(check_transcript(transcript, expected)) == ["signature", "0G text signature"]


def test_a_tier_that_nobody_can_claim_is_caught(transcript, signatory):
    lie = _resigned(transcript, signatory, {"tier": 2})
    assert _failed(check_transcript(lie)) == ["tier"]


def test_a_transcript_without_text_signature_passes(transcript):
    assert _failed(check_transcript(_with(transcript, text_signature=None))) == []


# A dishonest provider signs consistently; only running the model again finds it.


def _lie(transcript, signatory, **changes):
    lie = _resigned(transcript, signatory, **changes)
    assert _failed(check_transcript(lie)) == []
    return lie


def test_an_answer_of_another_computation_is_caught(transcript, signatory, engine):
    steps = list(transcript.transcript.steps)
    steps[2] = dataclasses.replace(steps[2], row_hash=keccak256(b"another model"))
    lie = _lie(transcript, signatory, steps=tuple(steps))
    assert _failed(check_execution(lie, engine)) == ["logit rows and tokens"]


def test_a_token_that_the_sampler_would_not_choose_is_caught(transcript, signatory, engine):
    """A valid trace over tokens that another model chose: every row is genuine, the choice is not."""
    from zerog.inference.logits import trace_step

    tokens = [step.token for step in transcript.transcript.steps]
    tokens[1] = transcript.transcript.steps[1].pairs[1][0]
    rows = engine.replay(transcript.transcript.request, tokens)
    steps = tuple(trace_step(token, row) for token, row in zip(tokens, rows, strict=True))
    checks = check_execution(_lie(transcript, signatory, steps=steps), engine)
    assert "logit rows and tokens" in _failed(checks)
    assert any(f"token 1 is {tokens[1]}, the sampler chooses" in check.detail for check in checks)


def test_wrong_log_probabilities_are_caught(transcript, signatory, engine):
    steps = list(transcript.transcript.steps)
    pairs = ((steps[0].pairs[0][0], steps[0].pairs[0][1] + 1), *steps[0].pairs[1:])
    steps[0] = dataclasses.replace(steps[0], pairs=pairs)
    lie = _lie(transcript, signatory, steps=tuple(steps))
    assert _failed(check_execution(lie, engine)) == ["logit rows and tokens"]


def test_an_early_stop_is_caught(transcript, signatory, engine):
    short = engine.ending(
        [s.token for s in transcript.transcript.steps[:2]],
        msgspec.structs.replace(transcript.transcript.params, maxTokens=2),
        (),
    )
    lie = _lie(transcript, signatory, steps=transcript.transcript.steps[:2], output=short[0])
    assert _failed(check_execution(lie, engine)) == ["end of the answer"]


def test_another_text_than_the_tokens_spell_is_caught(transcript, signatory, engine):
    lie = _lie(transcript, signatory, output=b"Something else")
    assert _failed(check_execution(lie, engine)) == ["end of the answer"]


def test_a_false_prompt_length_is_caught(transcript, signatory, engine):
    lie = _resigned(transcript, signatory, {"promptTokens": 1})
    assert _failed(check_execution(lie, engine)) == ["prompt tokens"]


def test_an_empty_trace_is_caught(transcript, signatory, engine):
    lie = _lie(transcript, signatory, steps=())
    assert _failed(check_execution(lie, engine)) == ["logit rows and tokens", "end of the answer"]


def test_tokens_outside_the_vocabulary_are_caught(transcript, signatory, engine):
    steps = (
        dataclasses.replace(transcript.transcript.steps[0], token=2**32 - 1),
        *transcript.transcript.steps[1:],
    )
    lie = _lie(transcript, signatory, steps=steps)
    assert "logit rows and tokens" in _failed(check_execution(lie, engine))


def test_another_engine_or_model_is_not_compared(transcript, signatory, engine):
    other = _resigned(transcript, signatory, {"engineId": bytes(32)})
    assert _failed(check_execution(other, engine)) == ["engine of the re-run"]
    other = _resigned(transcript, signatory, {"modelId": bytes(32)})
    assert _failed(check_execution(other, engine)) == ["model of the re-run"]


def test_a_request_that_the_model_cannot_read_is_caught(transcript, signatory, engine):
    lie = _lie(transcript, signatory, request=b"\xff")
    assert _failed(check_execution(lie, engine)) == ["prompt tokens"]
