"""The public `execution-apis` cases against `zerog up` over HTTP, with the compare rule of their own runner.

Where both answers hold an error with a message, the message is left out; the rest must be equal as JSON. A
case marked `speconly` shows one valid answer among many: its answer only must not be an error.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import FIXTURES, ZEROG, Node

pytestmark = pytest.mark.conformance
TESTS = FIXTURES / "execution-apis" / "tests"
CASES = sorted(TESTS.glob("*/*.io"))
if not CASES:
    pytest.skip(f"the execution-apis fixtures are not at {TESTS}", allow_module_level=True)


@pytest.fixture(scope="module")
def hive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node on the fixtures' own chain: genesis and 54 blocks from Frontier to the newest fork."""
    folder = tmp_path_factory.mktemp("hive") / "data"
    for arguments in (["init", "--genesis", TESTS / "genesis.json"], ["import", TESTS / "chain.rlp"]):
        subprocess.run([ZEROG, "chain", *arguments, "--data-dir", folder], check=True, capture_output=True)
    running = Node("--data-dir", str(folder), "--no-mining")
    yield running
    running.stop()


def ask(url: str, request: str) -> Any:
    call = urllib.request.Request(url, request.encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(call, timeout=60) as answer:
        return json.load(answer)


def without_messages(ours: Any, theirs: Any) -> tuple[Any, Any]:
    """Drops `error.message` wherever both sides have one."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        pair = ({}, {})  # type: tuple[dict[str, Any], dict[str, Any]]
        for key in ours.keys() | theirs.keys():
            if key in ours and key in theirs:
                a, b = without_messages(ours[key], theirs[key])
                if (
                    key == "error"
                    and isinstance(a, dict)
                    and isinstance(b, dict)
                    and "message" in a
                    and "message" in b
                ):
                    a, b = ({k: v for k, v in side.items() if k != "message"} for side in (a, b))
                pair[0][key], pair[1][key] = a, b
            elif key in ours:
                pair[0][key] = ours[key]
            else:
                pair[1][key] = theirs[key]
        return pair
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = [without_messages(a, b) for a, b in zip(ours, theirs, strict=True)]
        return [a for a, _ in pairs], [b for _, b in pairs]
    return ours, theirs


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_answer_equals_the_recorded_one(case: Path, hive: Node) -> None:
    lines = case.read_text().splitlines()
    speconly = any(line.startswith("//") and "speconly:" in line for line in lines)
    exchanges = [
        (a[3:], b[3:]) for a, b in itertools.pairwise(lines) if a.startswith(">> ") and b.startswith("<< ")
    ]
    assert exchanges
    for request, expected in exchanges:
        answer, recorded = ask(hive.url, request), json.loads(expected)
        if speconly and "error" not in answer:
            continue
        ours, theirs = without_messages(answer, recorded)
        assert ours == theirs
