"""Who asks, and the bounded memory of what was answered."""

from __future__ import annotations

import base64
import json

import pytest
from tests.inference.conftest import DOMAIN, NOW

from zerog.chain.keys import keccak256
from zerog.client import Account
from zerog.inference.encoding import ZERO_ADDRESS
from zerog.inference.endpoint.errors import ApiError
from zerog.inference.endpoint.questions import Kind, parse
from zerog.inference.endpoint.receipts import LIFETIME, Kept, Memory, asker_of
from zerog.inference.receipt import InferenceRequest, sign

MODEL_ID = bytes(31) + b"\x05"
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}'
QUESTION = parse(BODY, Kind.CHAT)


@pytest.fixture(scope="module")
def requester() -> Account:
    return Account.random()


def signed(requester: Account, signer: Account | None = None, **changes: object) -> str:
    fields = {
        "requestId": bytes(31) + b"\x09",
        "requester": bytes.fromhex(requester.address[2:]),
        "modelId": MODEL_ID,
        "inputHash": keccak256(BODY),
        "paramsHash": QUESTION.params.struct_hash(),
        "minTier": 0,
        "maxFee": 0,
        "deadline": NOW + 60,
    } | changes
    request = InferenceRequest(**fields)
    signature = sign((signer or requester).key, request.digest(DOMAIN.separator))
    return json.dumps({"request": request.to_message(), "signature": "0x" + signature.hex()})


def inquiry(headers: dict[str, str]):
    return asker_of(headers, DOMAIN, NOW).inquiry(QUESTION, QUESTION.params, MODEL_ID, DOMAIN)


def refusal(headers: dict[str, str]) -> str:
    with pytest.raises(ApiError) as caught:
        inquiry(headers)
    assert (caught.value.status, caught.value.code) == (400, "invalid_signed_request")
    return caught.value.message


def test_an_answer_for_nobody_can_be_used_up_by_nobody():
    asked = inquiry({})
    assert asked.requester == ZERO_ADDRESS
    assert asked.request == BODY
    assert inquiry({}).request_id != asked.request_id


def test_the_requester_may_be_named(requester):
    assert inquiry({"x-zerog-requester": requester.address}).requester.hex() == requester.address[2:].lower()
    assert "20" in refusal({"x-zerog-requester": "0x12"})


def test_a_signed_request_fixes_the_request_id(requester):
    text = signed(requester)
    for value in (text, base64.b64encode(text.encode()).decode()):
        assert inquiry({"x-zerog-request": value}).request_id == bytes(31) + b"\x09"


def test_the_receipt_ends_with_the_signed_request_or_after_an_hour(requester):
    asker = asker_of({"x-zerog-request": signed(requester)}, DOMAIN, NOW)
    assert asker.deadline(NOW) == NOW + 60
    assert asker_of({}, DOMAIN, NOW).deadline(NOW) == NOW + LIFETIME


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputHash": bytes(32)}, "inputHash"),
        ({"modelId": bytes(32)}, "modelId"),
        ({"paramsHash": bytes(32)}, "paramsHash"),
        ({"minTier": 2}, "minTier = 2"),
        ({"deadline": NOW}, "has passed"),
    ],
)
def test_a_request_that_was_signed_for_something_else_is_refused(requester, changes, message):
    assert message in refusal({"x-zerog-request": signed(requester, **changes)})


def test_a_request_signed_by_another_account_is_refused(requester):
    assert "not by its requester" in refusal({"x-zerog-request": signed(requester, Account.random())})


def test_header_and_signed_request_must_name_the_same_account(requester):
    headers = {"x-zerog-request": signed(requester), "x-zerog-requester": Account.random().address}
    assert "another account" in refusal(headers)


@pytest.mark.parametrize(
    "value", ["", "{", "?", "[]", "{}", '{"request": 1}', '{"request": {}}', "e30=", "x" * 5000]
)
def test_a_malformed_signed_request_is_refused(value):
    refusal({"x-zerog-request": value})


def test_the_oldest_answers_are_forgotten(signatory):
    asked = inquiry({})
    answer = signatory.sign(asked, signatory.engine.generate(asked.request, asked.params), NOW)
    memory = Memory(most=2)
    for name in ("a", "b", "c"):
        memory.keep(Kept(name, answer, {}, lambda: b""))
    assert len(memory) == 2
    assert memory.find("a") is None
    assert memory.find("c") is not None
    assert memory.of_receipt(answer.receipt_hash) is memory.find("c")
    small = Memory(most_bytes=1)
    for name in ("a", "b"):
        small.keep(Kept(name, answer, {}, lambda: b""))
    assert small.find("a") is None
    assert small.find("b") is not None
