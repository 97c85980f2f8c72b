"""``zerog demo``: every value of its summary is what a chain answered."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from zerog.cli import run
from zerog.cli.story import Outcome, Refusal, Story, load_engine
from zerog.client import Devnet
from zerog.contracts import INFERENCE_REGISTRY
from zerog.inference.weights import SMOLLM2, fetch

BLIND_REGISTRY = Path(__file__).parents[1] / "contracts" / "artifacts" / "BlindRegistryMock.json"


def test_the_last_line_is_the_promised_object(capsys):
    assert run(["demo", "--json"]) == 0
    summary = msgspec.json.decode(capsys.readouterr().out.strip().splitlines()[-1])
    assert set(summary) == {"answer", "receiptHash", "verifiedOnChain", "consumerExecuted", "rejected"}
    assert (summary["answer"], summary["verifiedOnChain"], summary["consumerExecuted"]) == (
        "approve",
        True,
        True,
    )
    assert summary["rejected"] == {"tampered": True, "stranger": True, "replay": True, "unsigned": True}
    assert len(summary["receiptHash"]) == 66


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
    ):
        assert text in out


@pytest.fixture
def net():
    with Devnet() as made:
        yield made


@pytest.fixture(scope="module")
def engine():
    loaded = load_engine(fetch(SMOLLM2))
    yield loaded
    loaded.close()


def test_a_chain_that_proves_nothing_is_found_out(net, engine):
    """With a registry that accepts every receipt the forgeries get through, and the story says so."""
    story = Story(net, lambda: engine)
    blind = msgspec.json.decode(BLIND_REGISTRY.read_bytes())["deployedBytecode"]
    for step in story.play():
        if "stakes" in step.title:
            net.set_code(INFERENCE_REGISTRY, bytes.fromhex(blind[2:]))
    assert story.outcome.refusals["tampered"].error == "accepted"
    assert story.outcome.summary()["rejected"] == dict.fromkeys(
        ("tampered", "stranger", "replay", "unsigned"), False
    )
    assert not story.outcome.good


def test_one_false_value_makes_the_outcome_bad():
    fine = Refusal("x", "PoIReplayed()", 1, True)
    names = ("tampered", "stranger", "replay", "unsigned")
    good = Outcome("approve", "0x", True, True, dict.fromkeys(names, fine))
    assert good.good
    for name in names:
        missing = {other: fine for other in names if other != name}
        assert not Outcome("approve", "0x", True, True, missing).good
    assert not Outcome("approve", "0x", False, True, good.refusals).good
    assert not Outcome("approve", "0x", True, False, good.refusals).good
