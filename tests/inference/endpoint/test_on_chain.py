"""An answer that was given over HTTP and whose receipt is then brought on chain."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from zerog.client import Devnet
from zerog.errors import ContractReverted, InferenceError
from zerog.inference.answers import AnswerBook, Stage
from zerog.inference.onchain import registry_of
from zerog.inference.transcript import SignedTranscript
from zerog.inference.transcript_file import decode_transcript

PATIENCE = 120.0
AUDITED = 2


@pytest.fixture(scope="module")
def net() -> Iterator[Devnet]:
    with Devnet(services=["storage", "inference", "endpoint", "verifier"]) as running:
        yield running


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.05)
    return value


def ask(net: Devnet, headers: dict[str, str] | None = None) -> SignedTranscript:
    """The signed transcript of an answer to a chat."""
    body = {"messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 6}
    body["model"] = "SmolLM2-135M-Instruct"
    request = urllib.request.Request(
        f"{net.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"} | (headers or {}),
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answered:
        name = json.load(answered)["id"]
    with urllib.request.urlopen(f"{net.url}/v1/receipts/{name}", timeout=PATIENCE) as kept:
        return decode_transcript(kept.read())


def is_stored(net: Devnet, root: bytes) -> bool:
    info = net.client.request("zgs_getFileInfo", "0x" + root.hex(), True)
    return info is not None and bool(info["finalized"])


def staked(net: Devnet) -> bool:
    """The first answer made the provider register; its registration comes in a block of its own."""
    return bool(registry_of(net.client).isEligible(net.accounts[-1]))


def test_a_recorded_receipt_is_published_and_audited(net):
    signed = ask(net)
    root = signed.receipt.dataRoot
    assert root != bytes(32)
    assert not is_stored(net, root)
    until(lambda: staked(net), "the registration of the provider")
    registry = registry_of(net.client, net.accounts[1])
    registry.record(signed.receipt.to_tuple(), signed.signature)
    until(lambda: is_stored(net, root), "the publication of the transcript")
    until(lambda: registry.levelOf(signed.receipt_hash)[1] == AUDITED, "the audit")


def test_the_requester_named_in_a_header_can_use_the_answer_up(net):
    user = net.accounts[2]
    signed = ask(net, {"x-zerog-requester": user.address})
    registry = registry_of(net.client, net.accounts[1])
    until(lambda: staked(net), "the registration of the provider")
    with pytest.raises(ContractReverted, match="NotRequester"):
        registry.consume(signed.receipt.to_tuple(), signed.signature, 0)
    registry_of(net.client, user).consume(signed.receipt.to_tuple(), signed.signature, 0)
    until(lambda: is_stored(net, signed.receipt.dataRoot), "the publication of the transcript")


def test_an_offered_answer_is_written_down_once_and_its_text_is_not_handed_out(net, tmp_path):
    signed = ask(net)
    book = AnswerBook(tmp_path / "answers.sqlite")
    book.offer(signed)
    with pytest.raises(InferenceError, match="was answered before"):
        book.offer(signed)
    book.close()
    again = AnswerBook(tmp_path / "answers.sqlite")
    assert again.document(signed.receipt_hash) is None
    assert again.signed(signed.receipt_hash) == signed
    assert again.at(Stage.OFFERED) == [signed.receipt.requestId]
    again.close()
