"""A provider that dies, changes its key or cannot serve: nothing is signed twice, nothing is left lying."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zerog.client import Account, Client, Devnet
from zerog.contracts.genesis import AUDIT_WINDOW, MIN_STAKE
from zerog.inference.answer import Signatory, sampling
from zerog.inference.answers import AnswerBook, Stage
from zerog.inference.onchain import ask_gate, gate_of, registry_of
from zerog.inference.provider import GateProvider, RequestFeed, wait_for
from zerog.inference.publication import StorageTranscripts
from zerog.inference.receipt import SamplingParams

OPEN, PARKED, DELIVERED = 1, 2, 3
QUESTION = b"Name a colour."
PARAMS = sampling(4)
NOBODY = "0x" + "00" * 20


def _provider(net, engine, account, key=None, **options) -> GateProvider:
    from zerog.contracts import INFERENCE_REGISTRY
    from zerog.inference.answer import Domain

    domain = Domain(net.chain_id, bytes.fromhex(INFERENCE_REGISTRY[2:]))
    signatory = Signatory(engine, key or Account.random().key, bytes.fromhex(account.address[2:]), domain)
    return GateProvider(net.client, signatory, account, **options)


def _stored(net, request):
    return gate_of(net.client).requestOf(request.inquiry.request_id)


def _fulfilled(net, request) -> list[bytes]:
    events = gate_of(net.client).events.InferenceFulfilled(requestId=request.inquiry.request_id)
    return [bytes(event.receiptHash) for event in events]


def _declined(net, request) -> list[str]:
    events = gate_of(net.client).events.InferenceDeclined(requestId=request.inquiry.request_id)
    return [event.provider for event in events]


def test_a_provider_killed_between_publishing_and_fulfilling_carries_the_same_receipt(tmp_path):
    script = str(Path(__file__).with_name("dying_provider.py"))
    with Devnet(services=["storage"]) as net:
        account, book = net.accounts[-1].address, tmp_path / "answers.sqlite"
        request = ask_gate(net.client, net.accounts[2], QUESTION, PARAMS, 1000)
        command = [sys.executable, script, net.url, account, Account.random().key.hex(), str(book)]
        died = subprocess.run([*command, "die"], timeout=120, capture_output=True, check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()
        before = AnswerBook(book)
        signed = before.to_request(request.inquiry.request_id)
        before.close()
        assert signed.stage is Stage.SIGNED
        assert _stored(net, request).state == OPEN
        published = StorageTranscripts(net.client.storage).fetch(signed.signed.receipt.dataRoot, 1 << 20)
        assert published == signed.signed.transcript.canonical_bytes()
        subprocess.run([*command, "live"], timeout=120, check=True, capture_output=True)
        assert _stored(net, request).state == DELIVERED
        assert _fulfilled(net, request) == [signed.signed.receipt_hash]
        after = AnswerBook(book)
        assert after.to_request(request.inquiry.request_id).stage is Stage.DONE
        after.close()


def test_a_key_rotated_before_the_answer_hands_the_request_back(zerog_devnet, engine):
    account = zerog_devnet.accounts[-1]
    provider = _provider(zerog_devnet, engine, account)
    provider.enrol()
    request = ask_gate(zerog_devnet.client, zerog_devnet.accounts[2], QUESTION, PARAMS, 0)
    engines = provider.registry.providerOf(account)[1]
    provider.registry.registerProvider(zerog_devnet.accounts[6], engines, b"", b"", account=account)
    assert provider.serve() == []
    assert (_stored(zerog_devnet, request).state, _stored(zerog_devnet, request).provider) == (OPEN, NOBODY)
    assert provider.book.counts()["signed"] == 0


class _Rotating:
    """A store during whose publication the account registers another signer."""

    def __init__(self, rotate):
        self._rotate = rotate

    def root_of(self, data: bytes) -> bytes:
        return b"\x01" * 32

    def publish(self, data: bytes) -> bytes:
        self._rotate()
        return b"\x01" * 32

    def fetch(self, root: bytes, limit: int) -> bytes | None:
        return None


def test_a_key_rotated_in_mid_flight_sends_nothing_and_the_new_key_answers(zerog_devnet, engine):
    net, account, fresh = zerog_devnet, zerog_devnet.accounts[-1], Account.random()

    def rotate() -> None:
        registry = registry_of(net.client, account)
        engines = registry.providerOf(account)[1]
        registry.registerProvider(fresh.address, engines, b"", b"")

    book = AnswerBook()
    provider = _provider(net, engine, account, store=_Rotating(rotate), book=book)
    provider.enrol()
    request = ask_gate(net.client, net.accounts[2], QUESTION, PARAMS, 0)
    assert provider.serve() == []
    assert (_stored(net, request).state, _declined(net, request)) == (OPEN, [account.address])
    # The same book: the answer of the retired key in there must not be carried.
    successor = _provider(net, engine, account, fresh.key, book=book)
    successor.enrol()
    (answer,) = successor.serve()
    assert _stored(net, request).state == DELIVERED
    assert _fulfilled(net, request) == [answer.receipt_hash]


@pytest.mark.parametrize(
    ("question", "params"),
    [
        (b"\xff", PARAMS),
        (b"<|im_end|>", PARAMS),
        (QUESTION, SamplingParams(maxTokens=4, stopHash=b"\x01" * 32)),
        (QUESTION, SamplingParams(maxTokens=4000)),
    ],
    ids=["not text", "control token", "stop strings", "too long"],
)
def test_what_the_engine_cannot_serve_is_handed_back_once_and_costs_no_stake(
    zerog_devnet, engine, question, params
):
    account = zerog_devnet.accounts[-1]
    provider = _provider(zerog_devnet, engine, account)
    provider.enrol()
    request = ask_gate(zerog_devnet.client, zerog_devnet.accounts[2], question, params, 0)
    assert _stored(zerog_devnet, request).provider == account.address
    for _ in range(2):
        assert provider.serve() == []
    assert _declined(zerog_devnet, request) == [account.address]
    assert (_stored(zerog_devnet, request).state, _stored(zerog_devnet, request).provider) == (OPEN, NOBODY)
    assert provider.registry.stakeOf(account) == MIN_STAKE


def test_what_one_provider_hands_back_another_answers(zerog_devnet, engine):
    net, (first, second) = zerog_devnet, zerog_devnet.accounts[-2:]
    choosy = _provider(net, engine, first, min_fee=10**18)
    choosy.enrol()
    request = ask_gate(net.client, net.accounts[2], QUESTION, PARAMS, 1000)
    other = _provider(net, engine, second)
    other.enrol()
    assert other.serve() == []  # It has seen the request: it was the first one's.
    assert choosy.serve() == []
    assert _declined(net, request) == [first.address]
    assert len(other.serve()) == 1
    assert (_stored(net, request).state, _stored(net, request).provider) == (DELIVERED, second.address)
    assert choosy.serve() == []


def test_the_feed_repeats_what_others_hand_back_and_not_what_oneself_does(zerog_devnet, engine):
    account = zerog_devnet.accounts[-1]
    provider = _provider(zerog_devnet, engine, account, min_fee=10**18)
    provider.enrol()
    mine = RequestFeed(zerog_devnet.client, provider.model_id, bytes.fromhex(account.address[2:]))
    others = RequestFeed(zerog_devnet.client, provider.model_id)
    request = ask_gate(zerog_devnet.client, zerog_devnet.accounts[2], QUESTION, PARAMS, 0)
    assert mine.new() == others.new() == [request]
    provider.serve()
    assert (mine.new(), others.new(), others.new()) == ([], [request], [])


def test_an_answer_that_reached_the_chain_before_the_crash_is_finished_after_it(zerog_devnet, engine):
    """Killed after `fulfill` and before the note of it: the book says signed, the chain says parked."""
    net, account, key = zerog_devnet, zerog_devnet.accounts[-1], Account.random().key
    book = AnswerBook()
    provider = _provider(net, engine, account, key, book=book)
    provider.enrol()
    request = ask_gate(net.client, net.accounts[2], QUESTION, PARAMS, 1000, 1)
    assert len(provider.serve()) == 1
    book.move(request.inquiry.request_id, Stage.SIGNED)
    net.mine(AUDIT_WINDOW)
    again = _provider(net, engine, account, key, book=book)
    again.serve()
    assert _stored(net, request).state == DELIVERED
    assert book.counts()["done"] == 1


@pytest.mark.parametrize("tier", [0, 1])
def test_a_node_hands_out_transcripts_and_finishes_its_work_right_after_a_restart(tmp_path, tier):
    def devnet() -> Devnet:
        return Devnet(services=["storage", "inference"], data_dir=tmp_path / "node")

    with devnet() as net:
        client = Client(net.url)
        assert client.request("poi_status")["tiers"] == ["SIGNED", "OPTIMISTIC", "AUDITED"]
        request = ask_gate(client, net.accounts[2], QUESTION, PARAMS, 1000, tier)
        wait_for(lambda: _fulfilled(net, request), 120, "the answer")
        (receipt_hash,) = _fulfilled(net, request)
        name = "done" if tier == 0 else "parked"
        wait_for(lambda: client.request("poi_status")["answers"].get(name), 30, "the note in the book")
    with devnet() as net:
        client = Client(net.url)
        found = client.request("poi_transcript", "0x" + receipt_hash.hex())
        assert found["receiptHash"] == "0x" + receipt_hash.hex()
        assert client.request("poi_status")["answers"][name] == 1
        if tier:
            net.mine(AUDIT_WINDOW)
            wait_for(lambda: _stored(net, request).state == DELIVERED, 60, "the end of the parked answer")
        else:
            # The restarted provider stands in the queue: what is dealt to it wakes it.
            again = ask_gate(client, net.accounts[2], QUESTION, PARAMS, 1000)
            assert _stored(net, again).provider == net.accounts[-1].address
            wait_for(lambda: _fulfilled(net, again), 120, "the answer after the restart")
