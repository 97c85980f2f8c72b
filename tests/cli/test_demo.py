"""``zerog demo``: every value of its summary is what a chain answered."""

from __future__ import annotations

import msgspec
import pytest

from zerog.chain.keys import keccak256
from zerog.cli import run
from zerog.cli.story import Outcome, Refusal, Story, load_engine
from zerog.client import Devnet
from zerog.contracts import INFERENCE_REGISTRY, artifact
from zerog.inference.weights import SMOLLM2, fetch


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
    for text in ("approve", "reject", "PoIBadSignature", "PoIReplayed", "OutputMismatch", "the treasury pays"):
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


def test_a_registry_that_accepts_everything_is_found_out(net, engine):
    """The signature check is cut out of the registry: then the forged answers get through."""
    story = Story(net, lambda: engine)
    code = artifact("InferenceRegistry").deployed_bytecode
    selector = keccak256(b"PoIBadSignature()")[:4].hex()
    at = code.index(f"7f{selector}")
    # The jump over the revert is conditional; before it the condition becomes always true.
    jump = code.rindex("57", 0, at)
    assert jump % 2 == 0
    steps = story.play()
    for step in steps:
        if "stakes" in step.title:
            break
    patched = _always_jump(code, at)
    net.set_code(INFERENCE_REGISTRY, bytes.fromhex(patched[2:]))
    for _ in steps:
        pass
    summary = story.outcome.summary()
    assert summary["rejected"]["stranger"] is False
    assert summary["rejected"]["unsigned"] is False
    assert not story.outcome.good


def _always_jump(code: str, at: int) -> str:
    raise NotImplementedError


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
