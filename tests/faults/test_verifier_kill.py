"""`kill -9` of verifiers at every step of an audit: one commit and one reveal per round, never another vote.

A devnet with a third verifier that commits and never reveals, so that windows have to pass, rounds are
settled by hand and a second one is drawn. The process with the other two dies at a step, is started again and
dies at the next; the short version kills once at each of some steps, `make soak` at every step of both
rounds, of honest and of bad receipts, under both ways of mining (``ZEROG_AUDIT_KILLS`` rounds at random).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from zerog.client import Account, Devnet
from zerog.inference.answer import Domain, Inquiry, Signatory, sampling
from zerog.inference.audit.chain import AuditPhase
from zerog.inference.audit.cheating import Liar
from zerog.inference.audit.cheats import cheat
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.audit.history import history
from zerog.inference.audit.journal import Journal
from zerog.inference.audit.vote import VERDICTS
from zerog.inference.engines.llama_cpp import LlamaCppEngine
from zerog.inference.publication import StorageTranscripts
from zerog.inference.receipt import engine_id
from zerog.inference.weights import SMOLLM2, fetch

PROCESS = Path(__file__).with_name("mortal_verifier.py")
PATIENCE = 240.0
SOME = (
    "executing",
    "decided",
    "signed commit",
    "after commit",
    "before reveal",
    "after reveal",
    "before settle",
)
ALL = (
    "signed register", "after register", "before draw", "signed draw", "after draw", "executing", "decided",
    "before commit", "signed commit", "after commit", "before reveal", "signed reveal", "after reveal",
    "before settle", "signed settle", "after settle",
)  # fmt: skip


class Court:
    """A devnet with a provider and three verifiers, one of which never reveals."""

    def __init__(self, net: Devnet, engine: LlamaCppEngine) -> None:
        self.net, self.client, self._engine = net, net.client, engine
        self.contracts = AuditContracts(net.client)
        self.voters, self._withholder, self._provider = net.accounts[4:6], net.accounts[6], net.accounts[1]
        verifiers = self.contracts.verifiers
        pool = engine_id(engine.description)
        verifiers.registerVerifier([pool], b"", value=verifiers.minStake(), account=self._withholder)
        self._enter(self._provider)
        self._serial = 0

    def _enter(self, provider: Account) -> None:
        registry = self.contracts.registry
        registry.registerProvider(
            provider, [engine_id(self._engine.description)], b"", b"",
            value=registry.minStake(), account=provider,
        )  # fmt: skip

    def record(self, trick: str | None) -> bytes:
        """Puts a receipt on chain, honest or not, with its transcript in storage; its hash."""
        self._serial += 1
        registry, provider = self.contracts.registry, self._provider
        if registry.stakeOf(provider) < registry.minStake():
            self._enter(provider)
        address = bytes.fromhex(provider.address[2:])
        domain = Domain(self.client.chain_id, bytes.fromhex(registry.address[2:]))
        inquiry = Inquiry(self._serial.to_bytes(32), b"\x05" * 20, b"Name a colour.", sampling(6))
        store = StorageTranscripts(self.client.storage)
        kind = Signatory if trick is None else Liar
        engine = self._engine if trick is None else cheat(trick, self._engine, fetch(SMOLLM2))
        answer = kind(engine, provider.key, address, domain).answer(
            inquiry, self.client.block().timestamp, store=store
        )
        store.publish(answer.published)
        registry.record(answer.receipt.to_tuple(), answer.signature, account=provider)
        return answer.receipt_hash

    def run(self, journal: Path, step: str = "none", count: int = 1) -> int:
        """Lets the verifiers run until they die or are done; the exit code."""
        done = subprocess.run(
            [sys.executable, PROCESS, self.net.url, journal, ",".join(v.key.hex() for v in self.voters),
             self._withholder.key.hex(), step, str(count)],
            timeout=PATIENCE, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode


@pytest.fixture(scope="module")
def engine():
    loaded = LlamaCppEngine(fetch(SMOLLM2))
    yield loaded
    loaded.close()


@pytest.fixture
def court(engine):
    with Devnet(services=["storage"]) as net:
        yield Court(net, engine)


def judge_and_kill(court, journal, steps, trick):
    """One audit, during which the verifiers die at each of the steps; how often they did."""
    receipt_hash, promised, deaths = court.record(trick), {}, 0
    for step, count in [*steps, ("none", 1)]:
        code = court.run(journal, step, count)
        deaths += code != 0
        for seat, vote, _ in kept(journal, receipt_hash):
            key = seat.round, seat.verifier
            assert promised.setdefault(key, vote) == vote, f"another vote after death at {step}"
        if court.contracts.audit(receipt_hash).phase.settled:
            break
    check(court, receipt_hash, promised, AuditPhase.GOOD if trick is None else AuditPhase.BAD)
    return deaths


def kept(journal, receipt_hash):
    if not journal.exists():
        return []
    opened = Journal(journal)
    try:
        return [found for found in opened.newest(1000) if found[0].receipt_hash == receipt_hash]
    finally:
        opened.close()


def check(court, receipt_hash, promised, outcome):
    """Each of the two has committed and revealed exactly once in each round, as it had promised."""
    assert court.contracts.audit(receipt_hash).phase is outcome
    told, own = Counter(), {bytes.fromhex(voter.address[2:]) for voter in court.voters}
    current = -1
    for entry in history(court.contracts, receipt_hash):
        if entry.event == "AuditDrawn":
            current = entry.facts["round"]
        if entry.event not in ("AuditCommitted", "AuditRevealed"):
            continue
        verifier = bytes.fromhex(entry.facts["verifier"][2:])
        if verifier not in own:
            continue
        told[current, verifier, entry.event] += 1
        if entry.event == "AuditRevealed":
            assert entry.facts["verdict"] == VERDICTS[promised[current, verifier].verdict]
    assert current >= 1
    expected = {
        (number, voter, event): 1
        for number in range(current + 1)
        for voter in own
        for event in ("AuditCommitted", "AuditRevealed")
    }
    assert told == expected


def test_verifiers_that_are_killed_at_a_step_vote_once_and_as_promised(court, tmp_path):
    steps = [(step, 1) for step in SOME]
    assert judge_and_kill(court, tmp_path / "journal", steps, None) == len(steps)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("trick", [None, "logit"], ids=["honest", "bad"])
@pytest.mark.parametrize("automine", [True, False], ids=["automine", "manual"])
def test_verifiers_that_are_killed_at_every_step_of_every_round_vote_once(court, tmp_path, trick, automine):
    rng, kills = random.Random(7), 0
    for number in range(int(os.environ.get("ZEROG_AUDIT_KILLS", "5"))):
        court.client.request("evm_setAutomine", True)
        steps = [(step, 1) for step in ALL if number == 0 or "register" not in step]
        if number:
            steps = [(rng.choice(steps)[0], rng.randint(1, 3)) for _ in range(12)]
        kills += judge_with(court, tmp_path / "journal", steps, trick, automine)
        print(f"{number + 1} audits, {kills} kills", flush=True)
    assert kills >= len(ALL) - 2


def judge_with(court, journal, steps, trick, automine):
    record = court.record

    def recorded(what):
        receipt_hash = record(what)
        court.client.request("evm_setAutomine", automine)
        return receipt_hash

    court.record = recorded
    try:
        return judge_and_kill(court, journal, steps, trick)
    finally:
        court.record = record
