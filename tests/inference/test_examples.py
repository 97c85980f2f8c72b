"""The example programs run as they are printed."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def _main(name: str):
    return runpy.run_path(str(EXAMPLES / name))["main"]


def test_asking_and_verifying(capsys):
    _main("ask_and_verify.py")("Name a colour.")
    out = capsys.readouterr().out
    assert "ok  logit rows and tokens" in out
    assert "BAD" not in out


@pytest.mark.parametrize(
    ("proposal", "answer", "left"),
    [
        ("Plant trees in the city park with volunteers.", "approve", "9.0"),
        ("Steal users' passwords.", "reject", "10.0"),
    ],
)
def test_a_contract_asks_the_model(capsys, proposal, answer, left):
    _main("contract_asks_model.py")(proposal)
    out = capsys.readouterr().out
    assert f"the model says: {answer}" in out
    assert f"the treasury now holds: {left} tokens" in out
