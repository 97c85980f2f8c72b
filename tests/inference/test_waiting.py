"""Waiting for an answer that will never be good: said at once, and the fee comes back."""

from __future__ import annotations

import pytest

from zerog.client import Devnet
from zerog.contracts.genesis import REQUEST_TIMEOUT
from zerog.errors import InferenceError
from zerog.inference.answer import sampling
from zerog.inference.audit.cheating import CheatPlay
from zerog.inference.onchain import ask_gate, gate_of
from zerog.inference.provider import request_of
from zerog.inference.publication import StorageTranscripts
from zerog.inference.waiting import Wait
from zerog.inference.weights import SMOLLM2, fetch


def test_a_condemned_answer_ends_the_wait_with_the_fee_back(engine):
    said: list[str] = []
    with Devnet(services=["storage", "verifier"]) as net:
        store = StorageTranscripts(net.client.storage)
        play = CheatPlay(net.client, "tamper", engine, fetch(SMOLLM2), store, max_tokens=8)
        scenes = play.play()
        while not play.outcome.receipt_hash:
            next(scenes)
        receipt_hash = bytes.fromhex(play.outcome.receipt_hash[2:])
        gate = gate_of(net.client)
        asked = gate.events.InferenceRequested()[-1]
        before = net.client.balance(asked.requester)
        wait = Wait(net.client, play._requester, request_of(asked), said.append)
        with pytest.raises(InferenceError, match=r"not what the model says; the fee of .* came back in 0x"):
            wait.tier(receipt_hash, 2)
        assert net.client.balance(asked.requester) > before
        assert gate.requestOf(asked.requestId).state == 6
    assert said[0].startswith("waiting for tier AUDITED")


def test_a_request_that_nobody_answers_gives_the_fee_back_after_its_deadline(zerog_devnet):
    client, user = zerog_devnet.client, zerog_devnet.accounts[2]
    request = ask_gate(client, user, b"Name a colour.", sampling(4), 10**15)
    zerog_devnet.increase_time(REQUEST_TIMEOUT + 1)
    zerog_devnet.mine()
    with pytest.raises(InferenceError, match=r"before the deadline; the fee of 0\.001 tokens came back"):
        Wait(client, user, request).answer()


def test_a_wait_ends_after_its_time(zerog_devnet):
    client, user = zerog_devnet.client, zerog_devnet.accounts[2]
    request = ask_gate(client, user, b"Name a colour.", sampling(4), 0)
    with pytest.raises(InferenceError, match="the answer to the request did not happen within 0 s"):
        Wait(client, user, request, timeout=0).answer()
