"""``zerog audit``: a verifier's life on the command line, from its stake to its exit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import msgspec
import pytest

from zerog.cli import run
from zerog.client import Devnet
from zerog.inference.answer import Domain, Inquiry, Signatory, sampling
from zerog.inference.audit.chain import AuditPhase
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.engine_host import embedded
from zerog.inference.publication import StorageTranscripts
from zerog.inference.receipt import engine_id

PATIENCE = 120.0
PACE = 0.3
"""Seconds between blocks that the test makes: a real chain has its own pace."""


@pytest.fixture(autouse=True)
def private_home(monkeypatch, tmp_path):
    """Keys and journals go to a directory of the test's own."""
    monkeypatch.setenv("ZEROG_HOME", str(tmp_path / "home"))


@pytest.fixture
def audit(capsys):
    """Runs ``zerog audit`` with --json; exit code and the decoded last line."""

    def run_json(*arguments):
        code = run(["audit", *map(str, arguments), "--json"])
        captured = capsys.readouterr()
        lines = (captured.out or captured.err).strip().splitlines()
        return code, msgspec.json.decode(lines[-1])

    return run_json


@pytest.fixture
def net():
    with Devnet(services=["storage"]) as net:
        yield net


@pytest.fixture
def keys(net, tmp_path):
    """Key files of accounts 4 and 9, a verifier and an outsider."""
    files = []
    for number in (4, 9):
        files.append(tmp_path / f"{number}.key")
        files[-1].write_text(net.accounts[number].key.hex())
    return files


def recorded(net):
    """An honest receipt on chain; its hash."""
    contracts, provider = AuditContracts(net.client), net.accounts[1]
    engine = embedded()
    try:
        contracts.registry.registerProvider(
            provider, [engine_id(engine.description)], b"", b"",
            value=contracts.registry.minStake(), account=provider,
        )  # fmt: skip
        domain = Domain(net.client.chain_id, bytes.fromhex(contracts.registry.address[2:]))
        signatory = Signatory(engine, provider.key, bytes.fromhex(provider.address[2:]), domain)
        store = StorageTranscripts(net.client.storage)
        inquiry = Inquiry(b"\x01" * 32, b"\x05" * 20, b"Name a colour.", sampling(4))
        answer = signatory.answer(inquiry, net.client.block().timestamp, store=store)
        store.publish(answer.published)
    finally:
        engine.close()
    contracts.registry.record(answer.receipt.to_tuple(), answer.signature, account=provider)
    return answer.receipt_hash


def settled(net, receipt_hash):
    """Makes blocks while a draw is awaited, until the audit is over; where it ended."""
    contracts, deadline = AuditContracts(net.client), time.monotonic() + PATIENCE
    while not (phase := contracts.audit(receipt_hash).phase).settled:
        assert time.monotonic() < deadline, phase
        if phase in (AuditPhase.NONE, AuditPhase.ESCALATED):
            net.mine()
        time.sleep(PACE)
    return phase


def test_a_verifier_stakes_votes_answers_a_challenge_and_leaves(net, keys, audit):
    own, outsider = keys
    receipt_hash, contracts = recorded(net), AuditContracts(net.client)
    receipt, account = "0x" + receipt_hash.hex(), net.accounts[4]
    command = [sys.executable, "-m", "zerog", "audit", "run", "--url", net.url, "--key-file", own, "--json"]
    verifier = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert settled(net, receipt_hash) is AuditPhase.GOOD
        assert contracts.verifiers.stakeOf(account) == contracts.verifiers.minStake()

        # Somebody who is wrong disputes it, and loses the bond.
        bond, before = contracts.terms().bond, net.client.balance(net.accounts[9])
        code, told = audit("challenge", receipt, "--leaf", 1, "--url", net.url, "--key-file", outsider)
        assert (code, told["bond"], told["leaf"]) == (0, str(bond), 1)
        assert settled(net, receipt_hash) is AuditPhase.GOOD
        assert net.client.balance(net.accounts[9]) <= before - bond
        assert contracts.credit(net.accounts[9].address) == 0
    finally:
        verifier.send_signal(signal.SIGINT)
        out, err = verifier.communicate(timeout=60)
    assert verifier.returncode == 0, err
    kinds = [msgspec.json.decode(line)["kind"] for line in out.splitlines()]
    assert kinds[0] == "started"
    assert {"registered", "drawn", "voted", "settled"} <= set(kinds)

    code, told = audit("status", receipt, "--url", net.url)
    assert (code, told["state"]) == (0, "good")
    events = [entry["event"] for entry in told["history"]]
    assert events.count("AuditDrawn") == events.count("AuditSettled") == 2
    assert "Challenged" in events

    code, told = audit("exit", "--url", net.url, "--key-file", own)
    assert (code, told["amount"]) == (0, str(contracts.verifiers.minStake()))
    code, _ = audit("exit", "--finish", "--url", net.url, "--key-file", own)
    assert code != 0
    net.increase_time(60 * 24 * 3600)
    net.mine()
    before = net.client.balance(account)
    code, _ = audit("exit", "--finish", "--url", net.url, "--key-file", own)
    assert code == 0
    assert net.client.balance(account) > before


def test_nothing_is_withdrawn_where_nothing_is_owed(net, keys, audit):
    code, told = audit("withdraw", "--url", net.url, "--key-file", keys[1])
    assert (code, told) == (0, {"transaction": None, "amount": "0"})


def test_a_receipt_that_is_not_on_chain_cannot_be_challenged(net, keys, audit):
    code, told = audit("challenge", "0x" + "07" * 32, "--url", net.url, "--key-file", keys[1])
    assert code == 1
    assert "error" in told or "message" in told


def test_the_verifiers_of_a_devnet_wait_for_a_receipt(audit):
    with Devnet(services=["storage", "verifier"]) as net:
        code, told = audit("status", "--url", net.url)
    assert (code, told["state"], told["failure"]) == (0, "waiting for a receipt", None)
    assert told["verifiers"] == [account.address for account in net.accounts[4:7]]


def test_a_node_without_verifiers_says_so(net, audit):
    code, _ = audit("status", "--url", net.url)
    assert code == 1


@pytest.mark.parametrize("text", ["0x12", "zz", "0x" + "00" * 33])
def test_a_malformed_receipt_hash_is_refused(net, audit, text):
    code, told = audit("status", text, "--url", net.url)
    assert code == 1
    assert "receipt hash" in str(told)


def test_a_canary_is_laid_revealed_in_time_and_costs_an_honest_devnet_nothing(capsys, tmp_path):
    with Devnet(services=["storage", "verifier"]) as net:
        contracts, layer = AuditContracts(net.client), net.accounts[8]
        key = tmp_path / "8.key"
        key.write_text(layer.key.hex())
        code = run(["audit", "canary", "--url", net.url, "--key-file", str(key), "--json"])
        lines = list(map(msgspec.json.decode, capsys.readouterr().out.splitlines()))
        assert code == 0
        assert lines[0]["kind"] == "canary"
        receipt_hash = bytes.fromhex(lines[0]["receiptHash"][2:])
        assert contracts.audit(receipt_hash).phase is AuditPhase.BAD
        assert contracts.registry.stakeOf(layer) == contracts.registry.minStake()
        for verifier in net.accounts[4:7]:
            assert contracts.verifiers.stakeOf(verifier) == contracts.verifiers.minStake()
