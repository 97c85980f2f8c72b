"""`zerog storage` against a node in memory."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zerog.cli import run

_PATH = Path(__file__).parents[1] / "storage" / "transfer" / "fake_node.py"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location("storage_fake_node", _PATH)
    assert spec is not None and spec.loader is not None
    fake = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, fake)
    spec.loader.exec_module(fake)
    monkeypatch.setenv("ZEROG_HOME", str(tmp_path / "home"))
    with fake.FakeNode(fake.FakeChain()) as running:
        running.sender = fake.SENDER
        yield running


@pytest.fixture
def ask(node: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(command: str, *arguments: object) -> tuple[int, Any, str]:
        extra = ["--from", node.sender] if command == "put" else []
        code = run(["storage", command, *map(str, arguments), *extra, "--url", node.url, "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out) if captured.out else None, captured.err

    return ask


def test_a_file_goes_in_and_comes_out(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"data" * 100_000)
    code, stored, _ = ask("put", tmp_path / "in")
    assert code == 0 and stored["checked"]
    assert ask("get", stored["roots"][0], "-o", tmp_path / "out")[0] == 0
    assert (tmp_path / "out").read_bytes() == b"data" * 100_000
    assert ask("info", stored["roots"][0])[1]["finalized"] is True
    assert ask("verify", stored["roots"][0])[1]["size"] == 400_000
    assert ask("ls")[1][0]["root"] == stored["roots"][0]
    assert ask("status")[1][0]["shard"] == "0/1"


def test_a_second_put_costs_nothing(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x")
    ask("put", tmp_path / "in")
    assert ask("put", tmp_path / "in")[1]["cost"] == "0"


def test_a_directory_is_unfolded(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "file").write_text("text")
    root = ask("put", tmp_path / "in")[1]["roots"][0]
    assert [row["path"] for row in ask("ls", root)[1]] == ["sub", "sub/file"]
    ask("get", root, "-o", tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "file").read_text() == "text"


def test_a_key_is_made_and_needed(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("secret text")
    key = tmp_path / "key"
    root = ask("put", tmp_path / "in", "--encrypt", key)[1]["roots"][0]
    assert key.stat().st_mode & 0o077 == 0
    assert ask("get", root, "-o", tmp_path / "out", "--key", key)[0] == 0
    assert (tmp_path / "out").read_text() == "secret text"
    (tmp_path / "wrong").write_text("00" * 32)
    code, _, err = ask("get", root, "-o", tmp_path / "none", "--key", tmp_path / "wrong")
    assert code == 1 and "key is wrong" in err and not (tmp_path / "none").exists()


def test_an_existing_file_is_not_replaced_unasked(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x")
    root = ask("put", tmp_path / "in")[1]["roots"][0]
    code, _, err = ask("get", root, "-o", tmp_path / "in")
    assert code == 1 and "exists" in err


@pytest.mark.parametrize("root", ["0x12", "zz", "0x" + "00" * 32])
def test_a_root_that_is_none_is_one_sentence(ask: Any, tmp_path: Path, root: str) -> None:
    code, _, err = ask("get", root, "-o", tmp_path / "out")
    assert code == 1 and json.loads(err)["error"]["message"]


def test_an_empty_file_is_refused(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"")
    code, _, err = ask("put", tmp_path / "in")
    assert code == 1 and "0 bytes" in err
