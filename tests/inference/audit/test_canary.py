"""Canaries on a devnet: whoever passed one without executing pays, whoever executed does not."""

from __future__ import annotations

import time

import pytest

from zerog.client import Client, Devnet
from zerog.errors import InferenceError
from zerog.inference.audit.canary import DEFAULT_PPM, CanaryLayer, share_of
from zerog.inference.audit.chain import AuditPhase
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.audit.execution import Examiner
from zerog.inference.audit.history import history
from zerog.inference.audit.journal import Journal
from zerog.inference.audit.sending import JournalledSender
from zerog.inference.audit.verifier import Auditor, Need, Standing
from zerog.inference.audit.vote import Finding
from zerog.inference.publication import StorageTranscripts
from zerog.inference.receipt import AuditVote, engine_id
from zerog.inference.weights import SMOLLM2, fetch

PATIENCE = 120.0


class LazyExaminer(Examiner):
    """Calls everything good unseen, until it is woken."""

    awake = False

    def known(self, receipt_hash, from_leaf):
        return None

    def examine(self, receipt_hash, receipt, from_leaf):
        if self.awake:
            return self._examine(receipt, from_leaf)
        return Finding(AuditVote.GOOD, trace_root=receipt.traceRoot, reason="it will be fine")


class Scene:
    """A devnet, three verifiers that may be lazy, and somebody who lays canaries."""

    def __init__(self, net, engine, lazy):
        self.net, self.contracts = net, AuditContracts(net.client)
        self.accounts, self.provider = net.accounts[4:7], net.accounts[8]
        store = StorageTranscripts(net.client.storage)
        kinds = [LazyExaminer if number < lazy else Examiner for number in range(3)]
        self.examiners = [kind(store, lambda receipt: engine) for kind in kinds]
        standing = Standing((engine_id(engine.description),), int(self.contracts.verifiers.minStake()))
        self.verifiers = [
            Auditor(self.contracts, JournalledSender(net.client, journal, self.contracts.explain), journal,
                    examiner, [account], standing=standing)
            for account, examiner in zip(self.accounts, self.examiners, strict=True)
            for journal in [Journal(None)]
        ]  # fmt: skip
        for account in self.accounts:
            self.contracts.verifiers.registerVerifier(
                list(standing.pools), b"", value=standing.stake, account=account
            )
        net.mine(10)
        payer = Client(net.url, account=self.provider, storage_url=net.url)
        self.layer = CanaryLayer(
            AuditContracts(payer), self.provider, Journal(None), StorageTranscripts(payer.storage),
            lambda: engine, fetch(SMOLLM2), share_ppm=1_000_000,
        )  # fmt: skip

    def until(self, condition, reveal=True):
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "the audit did not get there"
            need = Need.NOTHING
            for verifier in self.verifiers:
                need = max(need, verifier.tick())
                if reveal:
                    self.layer.tick()
            if need in (Need.BLOCK, Need.NOTHING):
                self.net.mine()

    def phase(self, receipt_hash):
        return self.contracts.audit(receipt_hash).phase

    def slashed(self, receipt_hash):
        found = [e.facts for e in history(self.contracts, receipt_hash) if e.event == "VerifierSlashed"]
        return {(facts["verifier"].lower(), facts["reason"]) for facts in found}

    def stakes(self):
        return [int(self.contracts.verifiers.stakeOf(account)) for account in self.accounts]


@pytest.fixture
def scene(engine, request):
    with Devnet(services=["storage"]) as net:
        yield Scene(net, engine, request.param)


@pytest.mark.parametrize("scene", [1], indirect=True)
def test_a_lazy_verifier_loses_its_share_and_honest_ones_lose_nothing(scene):
    before, provider_stake = scene.stakes(), None
    laid = scene.layer.lay()
    provider_stake = scene.contracts.registry.stakeOf(scene.provider)
    scene.until(lambda: scene.phase(laid.receipt_hash).settled and not scene.layer.waiting)
    assert scene.phase(laid.receipt_hash) is AuditPhase.BAD
    lazy = scene.accounts[0].address.lower()
    slashed = scene.slashed(laid.receipt_hash)
    assert (lazy, "passed canary") in slashed
    assert {verifier for verifier, _ in slashed} == {lazy}
    after = scene.stakes()
    share = int(scene.contracts.audits.parameters().canaryPpm)
    assert after[0] <= before[0] - before[0] * share // 1_000_000
    assert after[1:] == before[1:]
    assert scene.contracts.registry.stakeOf(scene.provider) == provider_stake


@pytest.mark.parametrize("scene", [3], indirect=True)
def test_a_canary_that_everybody_passed_is_revealed_and_costs_all_of_them(scene):
    before = scene.stakes()
    laid = scene.layer.lay()
    scene.until(lambda: scene.phase(laid.receipt_hash) is AuditPhase.GOOD, reveal=False)
    assert scene.stakes() == before
    for examiner in scene.examiners:
        examiner.awake = True
    scene.layer.tick()
    assert scene.layer.waiting == []
    scene.until(lambda: scene.phase(laid.receipt_hash).settled)
    assert scene.phase(laid.receipt_hash) is AuditPhase.BAD
    share = int(scene.contracts.audits.parameters().canaryPpm)
    assert scene.stakes() == [stake - stake * share // 1_000_000 for stake in before]
    assert scene.contracts.credit(laid.requester) == scene.contracts.terms().bond


@pytest.mark.parametrize("scene", [0], indirect=True)
def test_a_canary_that_everybody_finds_costs_nobody(scene):
    before = scene.stakes()
    laid = scene.layer.lay()
    stake = scene.contracts.registry.stakeOf(scene.provider)
    scene.until(lambda: scene.phase(laid.receipt_hash).settled and not scene.layer.waiting)
    assert scene.phase(laid.receipt_hash) is AuditPhase.BAD
    assert scene.stakes() == before
    assert scene.contracts.registry.stakeOf(scene.provider) == stake


def test_canaries_are_laid_by_default_only_where_stake_is_real():
    assert (share_of(None, devnet=True), share_of(None, devnet=False)) == (0, DEFAULT_PPM)
    assert (share_of(7, devnet=True), share_of(0, devnet=False)) == (7, 0)
    with pytest.raises(InferenceError, match="share"):
        share_of(1_000_001, devnet=False)
