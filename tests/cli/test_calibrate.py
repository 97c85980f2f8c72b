"""``zerog audit calibrate`` with tiny sizes: every setting runs, and the file is what a verifier reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from zerog.cli import cli
from zerog.inference.calibration import SETTINGS, calibrate
from zerog.inference.tolerance import DEFAULT_THRESHOLDS, read_thresholds

PROMPTS = ["Hi.", "Name a colour.", "Count to three.", "Say yes.", "What is rain?", "Name a city."]


def test_it_measures_every_setting_on_the_prompts_held_back(tmp_path):
    prompts, out = tmp_path / "prompts.txt", tmp_path / "limits.json"
    prompts.write_text("\n".join(PROMPTS) + "\n\n")
    arguments = ["audit", "calibrate", "--prompts", str(prompts), "--tokens", "4", "-o", str(out), "--json"]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["calibrationPrompts"], found["heldBackPrompts"]) == (2, 4)
    assert len(found["rows"]) == len(SETTINGS) + 1
    by_name = {row["setting"]: row for row in found["rows"]}
    assert by_name["same class"]["distance"] == [0, 0, 0]
    assert by_name["Q2_K"]["distance"][1] > by_name["Q8_0"]["distance"][1] > 0
    assert all(row["answers"] == 4 and not row["accused"] for row in found["rows"] if row["honest"])
    assert read_thresholds(out) == DEFAULT_THRESHOLDS
    assert json.loads(out.read_text()) == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["limits.json", "prompts.txt"]


def test_too_few_prompts_are_refused(tmp_path):
    from zerog.errors import InferenceError

    with pytest.raises(InferenceError, match="5 prompts are too few: at least 6"):
        calibrate(None, Path("unused"), tmp_path, PROMPTS[:5])  # type: ignore[arg-type]
