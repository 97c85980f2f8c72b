"""The public `ethereum/tests` fixtures through `zerog evm …`: every entry must pass."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from .conftest import FIXTURES, ZEROG

pytestmark = pytest.mark.conformance
ARCHIVES = FIXTURES / "ethereum-tests"
# Counts from the fixtures' README: a runner that silently skips entries is caught.
STATE_ENTRIES = 10_891


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not ARCHIVES.is_dir():
        pytest.skip(f"the ethereum/tests fixtures are not at {ARCHIVES}")
    folder = tmp_path_factory.mktemp("ethereum-tests")
    for archive in ("state_tests", "basic"):
        with tarfile.open(ARCHIVES / f"{archive}.tar.xz") as tar:
            tar.extractall(folder, filter="data")
    return folder


def run(kind: str, path: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [ZEROG, "evm", kind, path], capture_output=True, text=True, timeout=1200, check=False
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows, done.stderr
    assert (done.returncode == 0) == all(row["pass"] for row in rows)
    return rows


def assert_all_pass(rows: list[dict[str, Any]]) -> None:
    failed = [row for row in rows if not row["pass"]]
    assert not failed, f"{len(failed)} of {len(rows)} fail, e.g. {failed[:5]}"


def test_every_state_test_entry_passes(unpacked: Path) -> None:
    rows = run("statetest", unpacked / "GeneralStateTests")
    assert_all_pass(rows)
    assert len(rows) == STATE_ENTRIES


@pytest.mark.parametrize(
    ("kind", "folder"),
    [("transactiontest", "TransactionTests"), ("trietest", "TrieTests"), ("rlptest", "RLPTests")],
)
def test_every_basic_case_passes(kind: str, folder: str, unpacked: Path) -> None:
    files = list((unpacked / folder).rglob("*.json"))
    rows = run(kind, unpacked / folder)
    assert_all_pass(rows)
    assert len(rows) >= len(files)
