"""Audits on a devnet with everything real: contracts, storage, model, verifiers."""

from __future__ import annotations

import pytest

from zerog.client import Devnet
from zerog.contracts import PREDEPLOYS
from zerog.inference.answer import sampling
from zerog.inference.audit.cheating import CheatPlay
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.provider import request_of, wait_for
from zerog.inference.publication import StorageTranscripts
from zerog.inference.weights import SMOLLM2, fetch

pytestmark = pytest.mark.skipif(
    "InferenceAudit" not in PREDEPLOYS, reason="the audit contract is not part of the genesis"
)
AUDITED, DELIVERED = 2, 3


@pytest.fixture(scope="module")
def net():
    with Devnet(services=["inference", "storage", "verifier"]) as devnet:
        yield devnet


def test_an_honest_answer_becomes_audited_and_is_delivered(net, engine):
    contracts, user = AuditContracts(net.client), net.accounts[2]
    gate = contracts.gate
    fee = max(int(gate.parameters().auditFee), 1000)
    sent = gate.requestInference(
        engine.model_id, b"Name a colour.", sampling(8).to_tuple(), AUDITED, 0, value=fee, account=user
    )
    request = next(request_of(event) for event in gate.decode(sent) if event.name == "InferenceRequested")
    wait_for(lambda: gate.requestOf(request.inquiry.request_id).state == DELIVERED, 120, "the audit")
    assert gate.requestOf(request.inquiry.request_id).tier == AUDITED
    for verifier in net.accounts[4:7]:
        assert contracts.verifiers.stakeOf(verifier) == contracts.verifiers.minStake()


@pytest.mark.parametrize("trick", ["tamper", "prefill"])
def test_a_cheat_loses_its_stake_and_the_requester_gets_the_fee_back(net, engine, trick):
    store = StorageTranscripts(net.client.storage)
    play = CheatPlay(net.client, trick, engine, fetch(SMOLLM2), store, max_tokens=12)
    for _ in play.play():
        pass
    assert play.outcome.caught
    assert play.outcome.to_objectors + play.outcome.burnt == play.outcome.slashed
