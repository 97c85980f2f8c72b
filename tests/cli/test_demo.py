"""``zerog demo``: every value of its summary is what a chain answered."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from zerog.cli import run
from zerog.cli.archive import Archive, Kept, MinerPaid
from zerog.cli.story import SERVICES, Outcome, Refusal, Story, load_engine
from zerog.client import Devnet
from zerog.contracts import INFERENCE_REGISTRY, PREDEPLOYS
from zerog.contracts.genesis import MIN_STAKE
from zerog.errors import StorageError
from zerog.inference.audit.cheating import CheatOutcome
from zerog.inference.dossier import Cost, Dossier, Vote
from zerog.inference.onchain import registry_of, tier_of
from zerog.inference.weights import SMOLLM2, fetch

BLIND_REGISTRY = Path(__file__).parents[1] / "contracts" / "artifacts" / "BlindRegistryMock.json"


def test_the_last_line_is_the_promised_object(capsys):
    assert run(["demo", "--json"]) == 0
    summary = msgspec.json.decode(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(summary) == {
        "answer",
        "receiptHash",
        "verifiedOnChain",
        "consumerExecuted",
        "rejected",
        "storage",
        "audited",
        "slashed",
        "audits",
    }
    assert (summary["answer"], summary["verifiedOnChain"], summary["consumerExecuted"]) == (
        "approve",
        True,
        True,
    )
    assert summary["rejected"] == {"tampered": True, "stranger": True, "replay": True, "unsigned": True}
    assert len(summary["receiptHash"]) == 66
    stored = summary["storage"]
    assert [file["name"] for file in stored["files"]] == ["transcript.json", "receipt.json", SMOLLM2.name]
    assert all(file["proven"] for file in stored["files"])
    assert stored["putBytesPerSecond"] > 0
    assert stored["getBytesPerSecond"] > 0
    assert int(stored["reward"]["reward"]) > 0
    assert len(stored["reward"]["transaction"]) == 66
    assert (summary["audited"], summary["slashed"]) == (True, True)
    answer, cheat = summary["audits"]["answer"], summary["audits"]["cheat"]
    assert (answer["tier"], answer["audit"], answer["delivery"]) == ("AUDITED", "good", "delivered")
    assert [vote["verdict"] for vote in answer["verifiers"]] == ["good"] * 3
    assert (cheat["trick"], cheat["audit"]) == ("q4_0", "bad")
    assert int(cheat["slashed"]) == MIN_STAKE == int(cheat["toObjectors"]) + int(cheat["burnt"])
    assert int(cheat["refunded"]) > 0
    assert cheat["receiptHash"] != answer["receiptHash"]


def test_a_person_sees_every_step(capsys):
    assert run(["demo"]) == 0
    out = capsys.readouterr().out
    for text in (
        "approve",
        "reject",
        "PoIBadSignature",
        "PoIReplayed",
        "OutputMismatch",
        "the treasury pays",
        "transcript.json",
        "MB/s",
        "is paid",
        "tier AUDITED, delivered",
        "voted bad",
        "loses 100 tokens",
        "The requester gets the fee back",
        "✓  slashed",
    ):
        assert text in out


@pytest.fixture
def net():
    with Devnet(services=SERVICES) as made:
        yield made


@pytest.fixture
def model(tmp_path):
    """A file instead of the real weights, as far as storage is concerned."""
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(range(1, 256)) * 8_224)
    return path


@pytest.fixture(scope="module")
def engine():
    loaded = load_engine(fetch(SMOLLM2))
    yield loaded
    loaded.close()


def test_the_evidence_is_where_the_story_says(net, engine, model, tmp_path):
    story = Story(net, lambda: engine, model, tmp_path, "tamper")
    for _ in story.play():
        pass
    story.close()
    outcome, storage = story.outcome, net.client.storage
    assert outcome.good
    transcript, receipt, weights = outcome.kept
    read = msgspec.json.decode(storage.read(transcript.root))
    assert read["receiptHash"] == outcome.receipt_hash
    assert msgspec.json.decode(storage.read(receipt.root))["signature"] == read["signature"]
    assert storage.read(weights.root) == model.read_bytes()
    assert transcript.transaction == receipt.transaction
    paid = net.client.receipt(outcome.paid.transaction)
    assert paid.success
    assert paid.to.lower() == PREDEPLOYS["PoraMine"].lower()
    assert outcome.paid.reward >= 10**17
    registry = registry_of(net.client)
    assert tier_of(net.client, outcome.audit.receipt_hash) == 2
    assert registry.receiptOf(bytes.fromhex(outcome.cheat.receipt_hash[2:])).condemned
    # The honest answers of the story were audited, too, and cost their provider nothing.
    assert registry.stakeOf(net.accounts[1]) == MIN_STAKE


def test_a_miner_that_earns_nothing_is_said(tmp_path):
    with Devnet(services=SERVICES, options={"miner.make_blocks": False}) as net:
        archive = Archive(net.client, net.url, net.accounts[4], tmp_path)
        with pytest.raises(StorageError, match=r"the miner earned nothing in 0 s: "):
            archive.reward(deadline=0)
        archive.close()


def test_a_file_that_comes_back_short_is_not_proven(net, model, tmp_path, monkeypatch):
    archive = Archive(net.client, net.url, net.accounts[4], tmp_path)
    monkeypatch.setattr(archive._storage, "verify", lambda roots: model.stat().st_size - 1)
    kept, _ = archive.keep_file(model)
    assert not kept.proven
    archive.close()


def test_a_chain_that_proves_nothing_is_found_out(net, engine, model, tmp_path):
    """With a registry that accepts every receipt the forgeries get through, and the story says so."""
    story = Story(net, lambda: engine, model, tmp_path)
    blind = msgspec.json.decode(BLIND_REGISTRY.read_bytes())["deployedBytecode"]
    for step in story.play():
        if "stakes" in step.title:
            net.set_code(INFERENCE_REGISTRY, bytes.fromhex(blind[2:]))
        if "genuine answer arrives" in step.title or "too late" in step.title:
            break
    story.close()
    assert story.outcome.refusals["tampered"].error == "accepted"
    assert story.outcome.summary()["rejected"] == dict.fromkeys(
        ("tampered", "stranger", "replay", "unsigned"), False
    )
    assert not story.outcome.good


def test_one_false_value_makes_the_outcome_bad():
    fine = Refusal("x", "PoIReplayed()", 1, True)
    names = ("tampered", "stranger", "replay", "unsigned")
    stored = [Kept("x", "0x", 1, 0, "0x", True)]
    paid = MinerPaid(1, 0, 1, "0x", 1, "0x")

    votes = (Vote(0, "0x", "good"),)
    good_audit = Dossier(b"", b"", "0x", "AUDITED", False, "good", "delivered", (), votes, Cost(), ())
    caught = CheatOutcome("q4_0", "0x", "bad", 0, "", 10, 5, 5, 1, 0)

    def outcome(
        verified=True, executed=True, refusals=None, kept=stored, paid=paid, audit=good_audit, cheat=caught
    ):
        refused = dict.fromkeys(names, fine) if refusals is None else refusals
        return Outcome("approve", "0x", verified, executed, refused, kept, None, paid, audit, cheat)

    assert outcome().good
    for name in names:
        missing = {other: fine for other in names if other != name}
        assert not outcome(refusals=missing).good
    assert not outcome(verified=False).good
    assert not outcome(executed=False).good
    assert not outcome(kept=[]).good
    assert not outcome(kept=[*stored, Kept("y", "0x", 1, 1, "0x", False)]).good
    assert not outcome(paid=None).good
    for change in (
        {"tier": "SIGNED"},
        {"audit": "inconclusive"},
        {"delivery": "parked"},
        {"votes": ()},
        {"votes": (*votes, Vote(0, "0x1", "bad"))},
        {"votes": (Vote(0, "0x"),)},
    ):
        assert not outcome(audit=dataclasses.replace(good_audit, **change)).good
    for change in ({"state": "good"}, {"slashed": 0}, {"refunded": 0}, {"stake_left": 1}):
        assert not outcome(cheat=dataclasses.replace(caught, **change)).good
    assert not outcome(audit=None).good
    assert not outcome(cheat=None).good
