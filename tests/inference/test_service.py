"""The node's inference service: it costs nothing until somebody asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zerog.chain.keys import random_key
from zerog.client import Client
from zerog.contracts import INFERENCE_REGISTRY
from zerog.errors import InferenceError, InvalidParams
from zerog.inference import weights
from zerog.inference.answer import Domain, sampling
from zerog.inference.engine_host import EngineHost, embedded
from zerog.inference.onchain import ask_gate, devnet_accounts, node_serves, transcript_from_node
from zerog.inference.provider import wait_for
from zerog.inference.service import InferenceService
from zerog.inference.verification import check_transcript
from zerog.node import config as settings
from zerog.node.devnet import Node


@pytest.fixture
def node() -> Iterator[Node]:
    """A node with the service, as `zerog up` composes it."""

    def standing() -> tuple[Domain, bytes]:
        domain = Domain(made.chain_id, bytes.fromhex(INFERENCE_REGISTRY[2:]))
        return domain, bytes.fromhex(made.accounts[-1].address[2:])

    config = settings.load(None, {"node.ephemeral": True, "rpc.port": 0})
    service = InferenceService(
        lambda: (Client(made.url), made.accounts[-1].address), EngineHost(embedded, random_key, standing)
    )
    made = Node(config, services=[service])
    with made:
        made.start()
        yield made


def test_nothing_happens_on_chain_before_the_first_request(node):
    client = Client(node.url)
    assert node_serves(client)
    assert client.request("poi_status")["state"] == "waiting"
    assert client.block_number == 0


def test_the_first_request_wakes_it(node):
    client = Client(node.url)
    requester, provider = devnet_accounts(client)
    request = ask_gate(client, requester, b"Name a colour.", sampling(4), 1000)
    transcript = transcript_from_node(client, request, 120)
    assert all(check.passed for check in check_transcript(transcript))
    assert transcript.transcript.request == b"Name a colour."
    assert "0x" + transcript.receipt.provider.hex() == provider.lower()
    assert client.request("poi_status")["state"] == "serving"


def test_unknown_and_malformed_receipt_hashes_are_told_apart(node):
    client = Client(node.url)
    assert client.request("poi_transcript", "0x" + "00" * 32) is None
    with pytest.raises(InvalidParams, match="has 1 bytes instead of 32"):
        client.request("poi_transcript", "0x00")
    with pytest.raises(InvalidParams, match="takes one parameter"):
        client.request("poi_transcript")


def test_missing_weights_are_reported_to_whoever_asks(node, monkeypatch):
    monkeypatch.setattr(weights, "find", lambda _: None)
    client = Client(node.url)
    ask_gate(client, devnet_accounts(client)[0], b"Name a colour.", sampling(4), 0)
    wait_for(lambda: client.request("poi_status")["failure"], 30, "the failure")
    with pytest.raises(InferenceError, match="not on this machine; run: zerog infer fetch"):
        node_serves(client)
    assert client.block_number == 1
