"""Receipts that nobody was drawn for: a verifier that watches looks at them, and challenges the bad ones."""

from __future__ import annotations

import time

import pytest

from zerog.client import Devnet
from zerog.inference.answer import Domain, Inquiry, Signatory, sampling
from zerog.inference.audit.chain import AuditPhase
from zerog.inference.audit.cheating import Liar
from zerog.inference.audit.cheats import cheat
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.audit.history import history
from zerog.inference.audit.setup import auditor
from zerog.inference.audit.verifier import Need, Policy
from zerog.inference.publication import StorageTranscripts
from zerog.inference.receipt import engine_id
from zerog.inference.weights import SMOLLM2, fetch

PATIENCE = 120.0


@pytest.fixture
def net():
    with Devnet(services=["storage"]) as net:
        audits = AuditContracts(net.client).audits
        seldom = list(audits.parameters())
        assert seldom[0] == 1_000_000
        # Nothing is drawn by lot any more.
        audits.setParameters((0, *seldom[1:]), account=net.accounts[0])
        yield net


def recorded(net, engine, honest):
    """A receipt on chain that nobody will be drawn for; its hash."""
    contracts, provider = AuditContracts(net.client), net.accounts[1]
    contracts.registry.registerProvider(
        provider, [engine_id(engine.description)], b"", b"",
        value=contracts.registry.minStake(), account=provider,
    )  # fmt: skip
    domain = Domain(net.client.chain_id, bytes.fromhex(contracts.registry.address[2:]))
    address = bytes.fromhex(provider.address[2:])
    inquiry = Inquiry(b"\x01" * 32, b"\x05" * 20, b"Name a colour.", sampling(6))
    store = StorageTranscripts(net.client.storage)
    kind = Signatory if honest else Liar
    answering = engine if honest else cheat("tamper", engine, fetch(SMOLLM2))
    answer = kind(answering, provider.key, address, domain).answer(
        inquiry, net.client.block().timestamp, store=store
    )
    store.publish(answer.published)
    contracts.registry.record(answer.receipt.to_tuple(), answer.signature, account=provider)
    return answer.receipt_hash


def watch(net, engine, share, done):
    """Three verifiers that watch a share, until ``done``; what they told."""
    told = []
    verifier = auditor(
        net.client, net.accounts[4:7], lambda: engine, None,
        policy=Policy(watch_ppm=share), advance=net.mine, tell=told.append,
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            need = verifier.tick()
            if done(verifier):
                return told
            assert time.monotonic() < deadline, [happening.text for happening in told]
            if need is Need.BLOCK:
                net.mine()
            time.sleep(0.01)
    finally:
        verifier.close()


def test_a_bad_receipt_that_nobody_was_drawn_for_is_challenged_and_slashed(net, engine):
    receipt_hash, contracts = recorded(net, engine, honest=False), AuditContracts(net.client)
    told = watch(net, engine, 1_000_000, lambda _: contracts.audit(receipt_hash).phase.settled)
    assert contracts.audit(receipt_hash).phase is AuditPhase.BAD
    assert [h.facts["verdict"] for h in told if h.kind == "watched"] == [2]
    events = [entry.event for entry in history(contracts, receipt_hash)]
    assert events.index("Challenged") < events.index("AuditDrawn") < events.index("ProviderSlashed")
    challenger = net.accounts[4]
    assert contracts.credit(challenger.address) > contracts.terms().bond
    assert contracts.registry.stakeOf(net.accounts[1]) == 0


def test_an_honest_receipt_that_nobody_was_drawn_for_is_left_alone(net, engine):
    receipt_hash, contracts = recorded(net, engine, honest=True), AuditContracts(net.client)
    told = watch(net, engine, 1_000_000, lambda verifier: _over(verifier, contracts, receipt_hash))
    assert [h.facts["verdict"] for h in told if h.kind == "watched"] == [1]
    assert contracts.audit(receipt_hash).phase is AuditPhase.NONE


def test_a_verifier_that_does_not_watch_executes_nothing(net, engine):
    receipt_hash, contracts = recorded(net, engine, honest=False), AuditContracts(net.client)
    told = watch(net, engine, 0, lambda verifier: _over(verifier, contracts, receipt_hash))
    assert [h for h in told if h.kind == "watched"] == []
    assert contracts.audit(receipt_hash).phase is AuditPhase.NONE


def _over(verifier, contracts, receipt_hash):
    """Whether the verifier has looked at the receipt and put it aside."""
    return contracts.recorded_block(receipt_hash) is not None and receipt_hash not in verifier.open_audits
