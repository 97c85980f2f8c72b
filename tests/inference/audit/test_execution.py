"""What a verifier finds in a receipt: whose fault it is when there is nothing to execute."""

from __future__ import annotations

import dataclasses
import secrets

import msgspec
import pytest

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError, TransportError
from zerog.inference.answer import Domain, Inquiry, Signatory, sampling
from zerog.inference.audit.execution import Examiner, NotHereYet
from zerog.inference.privacy import public_key
from zerog.inference.receipt import INVERSE_CDF, AuditVote, SamplingParams
from zerog.inference.trace import trace_root

KEY = b"\x01" * 32
QUESTION = Inquiry(b"\x03" * 32, bytes(20), b"Name a colour.", sampling(6))
CONTEXT = 2048


@pytest.fixture(scope="module")
def liar(engine):
    return Signatory(engine, KEY, bytes(20), Domain(31337, b"\x02" * 20))


@pytest.fixture(scope="module")
def honest(engine):
    return engine.generate(QUESTION.request, QUESTION.params)


def signed(liar, shelf, generation, inquiry=QUESTION, **changes):
    """A receipt that binds a generation, and its transcript under its root."""
    answer = liar.sign(inquiry, generation, 1, store=shelf)
    shelf.publish(answer.published)
    return msgspec.structs.replace(answer.receipt, **changes)


def found(shelf, engine, receipt, keys=()):
    return Examiner(shelf, lambda wanted: engine, keys).examine(b"\x09" * 32, receipt, 0)


def test_an_honest_receipt_is_good_with_its_trace_root(liar, shelf, engine, honest):
    receipt = signed(liar, shelf, honest)
    finding = found(shelf, engine, receipt)
    assert finding.good
    assert finding.trace_root == receipt.traceRoot == trace_root(honest.steps)


def test_more_tokens_than_the_context_are_the_providers_fault(liar, shelf, engine, honest):
    steps = (honest.steps * CONTEXT)[:CONTEXT]
    inquiry = dataclasses.replace(QUESTION, params=sampling(CONTEXT))
    receipt = signed(liar, shelf, dataclasses.replace(honest, steps=steps), inquiry)
    finding = found(shelf, engine, receipt)
    assert (finding.verdict, finding.bad_index) == (AuditVote.BAD, AuditVote.NO_BAD_INDEX)
    assert "context" in finding.reason


def test_a_token_outside_the_vocabulary_is_the_bad_leaf(liar, shelf, engine, honest):
    steps = list(honest.steps)
    steps[2] = dataclasses.replace(steps[2], token=2**31)
    finding = found(shelf, engine, signed(liar, shelf, dataclasses.replace(honest, steps=tuple(steps))))
    assert (finding.verdict, finding.bad_index) == (AuditVote.BAD, 2)
    assert "vocabulary" in finding.reason


@pytest.mark.parametrize(
    "changed",
    [
        SamplingParams(maxTokens=0),
        SamplingParams(maxTokens=2**32 - 1),
        SamplingParams(maxTokens=6, sampler=7),
        SamplingParams(maxTokens=6, sampler=INVERSE_CDF),
        SamplingParams(maxTokens=6, sampler=INVERSE_CDF, temperatureMilli=700, topPMilli=0),
        SamplingParams(maxTokens=6, sampler=INVERSE_CDF, temperatureMilli=700, repeatPenaltyMilli=0),
    ],
    ids=["no tokens", "endless", "unknown sampler", "temperature 0", "top-p 0", "penalty 0"],
)
def test_parameters_that_no_engine_takes_are_the_providers_fault(liar, shelf, engine, honest, changed):
    receipt = signed(liar, shelf, honest, dataclasses.replace(QUESTION, params=changed))
    finding = found(shelf, engine, receipt)
    assert finding.verdict == AuditVote.BAD
    assert finding.reason


@pytest.mark.parametrize("request_", [b"\xff\xfe", b"<|im_end|>", b" ", b'{"messages": [{"role": "x"}]}'])
def test_a_request_that_the_model_cannot_read_is_the_providers_fault(liar, shelf, engine, honest, request_):
    receipt = signed(liar, shelf, honest, dataclasses.replace(QUESTION, request=request_))
    finding = found(shelf, engine, receipt)
    assert (finding.verdict, finding.bad_index) == (AuditVote.BAD, AuditVote.NO_BAD_INDEX)


def test_an_empty_trace_is_the_providers_fault(liar, shelf, engine, honest):
    receipt = signed(liar, shelf, dataclasses.replace(honest, steps=()))
    assert found(shelf, engine, receipt).verdict == AuditVote.BAD


@pytest.mark.parametrize("data", [b"", b"no transcript", b"\x00" * 500, b"\x01"], ids=repr)
def test_published_bytes_that_are_no_transcript_are_the_providers_fault(liar, shelf, engine, honest, data):
    root = shelf.publish(data or b"\xee")
    finding = found(shelf, engine, signed(liar, shelf, honest, dataRoot=root))
    assert (finding.verdict, finding.bad_index) == (AuditVote.BAD, AuditVote.NO_BAD_INDEX)
    assert "no transcript" in finding.reason


def test_a_cut_transcript_is_the_providers_fault(liar, shelf, engine, honest):
    whole = liar.sign(QUESTION, honest, 1, store=shelf).published
    root = shelf.publish(whole[:-1])
    assert found(shelf, engine, signed(liar, shelf, honest, dataRoot=root)).verdict == AuditVote.BAD


@pytest.mark.parametrize("member", ["inputHash", "outputHash", "paramsHash", "traceRoot", "modelId"])
def test_the_transcript_of_another_answer_is_the_providers_fault(liar, shelf, engine, honest, member):
    finding = found(shelf, engine, signed(liar, shelf, honest, **{member: keccak256(b"other")}))
    assert finding.verdict == AuditVote.BAD
    assert "another one" in finding.reason


def test_a_receipt_without_a_data_root_is_unavailable(liar, shelf, engine, honest):
    finding = found(shelf, engine, signed(liar, shelf, honest, dataRoot=bytes(32)))
    assert finding.verdict == AuditVote.UNAVAILABLE


def test_a_private_transcript_opens_for_its_verifier_and_is_unavailable_to_others(
    liar, shelf, engine, honest
):
    mine, other = secrets.token_bytes(32), secrets.token_bytes(32)
    answer = liar.sign(QUESTION, honest, 1, store=shelf, recipients=[public_key(mine)])
    shelf.publish(answer.published)
    assert found(shelf, engine, answer.receipt, [other, mine]).good
    assert found(shelf, engine, answer.receipt, [other]).verdict == AuditVote.UNAVAILABLE


def test_a_transcript_that_nobody_has_yet_is_asked_for_again(liar, shelf, engine, honest):
    answer = liar.sign(QUESTION, honest, 1, store=shelf)
    examiner = Examiner(shelf, lambda wanted: engine)
    with pytest.raises(NotHereYet, match="nobody has"):
        examiner.examine(answer.receipt_hash, answer.receipt, 0)
    shelf.publish(answer.published)
    assert examiner.examine(answer.receipt_hash, answer.receipt, 0).good


class _Cut:
    """A store behind a network that fails a few times."""

    def __init__(self, store, failures):
        self._store, self.failures = store, failures

    def fetch(self, root, limit):
        if self.failures:
            self.failures -= 1
            raise TransportError("connection refused")
        return self._store.fetch(root, limit)


def test_trouble_on_the_network_says_nothing_about_the_provider(liar, shelf, engine, honest):
    receipt = signed(liar, shelf, honest)
    examiner = Examiner(_Cut(shelf, 2), lambda wanted: engine)
    for _ in range(2):
        with pytest.raises(NotHereYet, match="no storage node answers"):
            examiner.examine(b"\x09" * 32, receipt, 0)
    assert examiner.examine(b"\x09" * 32, receipt, 0).good


def test_a_machine_without_the_engine_says_nothing_about_the_provider(liar, shelf, honest):
    def none(receipt):
        raise InferenceError("this machine has not the model")

    receipt = signed(liar, shelf, honest)
    with pytest.raises(InferenceError, match="has not the model"):
        Examiner(shelf, none).examine(b"\x09" * 32, receipt, 0)


def test_verifiers_of_one_process_share_one_prefill(liar, shelf, engine, honest):
    receipt = signed(liar, shelf, honest)
    examiner = Examiner(shelf, lambda wanted: engine)
    assert len({examiner.examine(b"\x09" * 32, receipt, 0) for _ in range(3)}) == 1
    assert examiner.executions == 1
