"""`zerog chain`, `zerog config` and `zerog evm` on files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerog.chain import genesis
from zerog.chain.genesis import GenesisSettings, devnet_genesis
from zerog.cli import run
from zerog.client import Devnet

Answer = Callable[..., Any]


@pytest.fixture
def answer(capsys: pytest.CaptureFixture[str]) -> Answer:
    """Runs a command that must succeed; its JSON."""

    def ask(*arguments: object) -> Any:
        code = run([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)

    return ask


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail; what it says."""

    def ask(*arguments: object) -> str:
        assert run([*map(str, arguments)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err.strip()

    return ask


@pytest.fixture
def genesis_file(tmp_path: Path) -> Path:
    made = devnet_genesis(GenesisSettings(7, "osaka", 1, 30_000_000, 10**9, ("0x" + "11" * 20,), 10**18))
    path = tmp_path / "genesis.json"
    path.write_bytes(genesis.encode(made))
    return path


def test_a_chain_is_made_from_a_genesis_and_described(
    answer: Answer, genesis_file: Path, tmp_path: Path
) -> None:
    made = answer("chain", "init", "--genesis", genesis_file, "--data-dir", tmp_path / "d")
    told = answer("chain", "info", "--data-dir", tmp_path / "d")
    assert (made["chainId"], made["hardfork"], made["head"]["number"]) == (7, "osaka", 0)
    assert told["genesisHash"] == made["head"]["hash"]
    assert answer("chain", "verify", "--data-dir", tmp_path / "d")["equal"] is True


def test_a_second_init_is_refused(
    answer: Answer, refusal: Callable[..., str], genesis_file: Path, tmp_path: Path
) -> None:
    answer("chain", "init", "--genesis", genesis_file, "--data-dir", tmp_path / "d")
    text = refusal("chain", "init", "--genesis", genesis_file, "--data-dir", tmp_path / "d")
    assert "already holds a chain" in text


def test_blocks_go_from_one_chain_to_another(answer: Answer, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with Devnet(data_dir=first) as net:
        for _ in range(3):
            net.client.send(account=net.accounts[0], to="0x" + "22" * 20, value=5)
        net.mine(2)
        head = net.client.block()
    exported = answer("chain", "export", tmp_path / "blocks.rlp", "--data-dir", first)
    assert exported["exported"] == 5
    answer("chain", "init", "--genesis", first / "genesis.json", "--data-dir", second)
    imported = answer("chain", "import", tmp_path / "blocks.rlp", "--data-dir", second)
    assert (imported["imported"], imported["hash"], imported["stateRoot"]) == (5, head.hash, head.state_root)
    assert answer("chain", "verify", "--data-dir", second)["equal"] is True


def test_a_damaged_block_file_changes_nothing(
    answer: Answer, refusal: Callable[..., str], genesis_file: Path, tmp_path: Path
) -> None:
    made = answer("chain", "init", "--genesis", genesis_file, "--data-dir", tmp_path / "d")
    (tmp_path / "bad.rlp").write_bytes(b"\xf9\x02\x00garbage")
    assert "zerog: " in refusal("chain", "import", tmp_path / "bad.rlp", "--data-dir", tmp_path / "d")
    assert answer("chain", "info", "--data-dir", tmp_path / "d")["head"] == made["head"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["chain", "info", "--data-dir", "nowhere"], "there is no data directory"),
        (["chain", "import", "nope.rlp", "--data-dir", "nowhere"], "there is no file nope.rlp"),
        (["chain", "init", "--genesis", "nope.json", "--data-dir", "d"], "cannot read the genesis nope.json"),
        (["evm", "statetest", "nope"], "there is no file or folder nope"),
        (["config", "show", "--config", "nope.toml"], "cannot read the configuration nope.toml"),
    ],
)
def test_what_is_missing_is_named(
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refusal(*arguments)
    assert not (tmp_path / "d").exists() or not (tmp_path / "d" / "zerog.json").exists()


def test_a_range_beyond_the_head_is_refused(
    answer: Answer, refusal: Callable[..., str], genesis_file: Path, tmp_path: Path
) -> None:
    answer("chain", "init", "--genesis", genesis_file, "--data-dir", tmp_path / "d")
    text = refusal("chain", "export", tmp_path / "b.rlp", "--last", "9", "--data-dir", tmp_path / "d")
    assert "blocks 1 to 9 are not within 0 to 0" in text


def test_a_written_configuration_is_found_and_shown(
    answer: Answer, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZEROG_HOME", str(tmp_path))
    file = Path(answer("config", "init")["file"])
    file.write_text(file.read_text().replace("# port = 8545", "port = 9999"))
    assert answer("config", "show")["rpc"]["port"] == 9999
    assert "exists already" in refusal("config", "init")


def test_a_file_that_is_no_fixture_is_a_failing_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text('{"case": 5}')
    assert run(["evm", "statetest", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert rows and not rows[0]["pass"] and rows[0]["error"]
    assert "0 passed, 1 failed" in captured.err


def test_an_export_never_replaces_what_is_no_regular_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert run(["chain", "export", str(pipe), "--data-dir", str(tmp_path / "none"), "--json"]) == 1
    assert "is not a regular file" in json.loads(capsys.readouterr().err)["error"]["message"]
    assert pipe.is_fifo()


def test_wrong_usage_is_an_object_when_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chain", "export", "--nope", "--json"]) == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["type"] == "UsageError"
    assert "--nope" in error["message"]


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_an_emptied_chain_is_refused_and_nothing_is_written(
    damage: str, refusal: Callable[..., str], answer: Answer, genesis_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    answer("chain", "init", "--genesis", str(genesis_file), "--data-dir", str(folder))
    database = next((folder / "chain").rglob("mdbx.dat"))
    if damage == "truncated":
        os.truncate(database, 5000)
    else:
        shutil.rmtree(folder / "chain")
    assert "damaged" in refusal("chain", "info", "--data-dir", str(folder))
    assert "damaged" in refusal("chain", "verify", "--data-dir", str(folder))
    assert (folder / "chain").exists() == (damage == "truncated")
