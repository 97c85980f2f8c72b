"""`zerog up` as a user starts it: banner, signals, errors, and what it loads."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zerog.client import Client

ZEROG = [sys.executable, "-m", "zerog"]
DEADLINE = 30.0


@contextmanager
def started(*flags: str, text_banner: bool = False) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A running node and its banner (JSON, or the text up to its last line)."""
    json_flag = [] if text_banner else ["--json"]
    process = subprocess.Popen(
        [*ZEROG, "up", "--port", "0", *json_flag, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        if text_banner:
            lines: list[str] = []
            while not lines or not lines[-1].startswith("WebSocket"):
                line = process.stdout.readline()
                assert line, process.stderr.read()
                lines.append(line.rstrip("\n"))
            yield process, "\n".join(lines)
        else:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE)


def failed(*arguments: str) -> str:
    """What a command that must fail says on stderr."""
    done = subprocess.run([*ZEROG, *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == ""
    return done.stderr.strip()


def test_the_banner_has_what_a_person_pastes() -> None:
    with started("--ephemeral", text_banner=True) as (_, banner):
        assert "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266" in banner
        assert "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80" in banner
        assert "test test test" in banner
        assert "chain 31337" in banner
        assert "0x0000000000000000000000000000000000007002" in banner
        url = next(line.split()[1] for line in banner.splitlines() if line.startswith("HTTP"))
        assert Client(url).chain_id == 31337


def test_the_banner_names_storage() -> None:
    with started("--ephemeral") as (_, banner):
        url = banner["url"]
        assert banner["urls"] == {"storage": url, "indexer": url, "kv": url}
        assert banner["services"] == [
            "storage",
            "inference",
            "endpoint",
            "kv",
            "indexer",
            "miner",
            "verifier",
        ]
        assert banner["shard"] == "0/1"
        status = Client(url).request("zgs_getStatus")
        assert status["networkIdentity"]["flowAddress"].lower() == banner["contracts"]["StorageFlow"].lower()


def test_the_banner_shows_a_person_where_files_are() -> None:
    with started("--ephemeral", "--storage-port", "0", text_banner=True) as (process, banner):
        lines = {}
        assert process.stdout is not None
        while "Services" not in lines:
            name, _, value = process.stdout.readline().partition(" ")
            lines[name] = value.strip()
        url = next(line.split()[1] for line in banner.splitlines() if line.startswith("HTTP"))
        assert lines["Storage"] != url
        assert (lines["Indexer"], lines["Key-value"]) == (url, url)
        assert lines["Gateway"] == f"{url}/file?root=0x…"
        assert Client(lines["Storage"]).request("zgs_getShardConfig") == {"shardId": 0, "numShard": 1}


def test_a_chain_alone_names_no_storage() -> None:
    with started("--ephemeral", "--chain-only") as (_, banner):
        assert (banner["urls"], banner["services"], banner["shard"]) == ({}, [], None)


def test_the_json_banner_is_one_object() -> None:
    with started("--ephemeral") as (_, banner):
        assert banner["chainId"] == 31337
        assert len(banner["accounts"]) == 10
        assert banner["dataDir"] is None
        assert banner["contracts"]["InferenceGate"] == "0x0000000000000000000000000000000000007002"
        assert Client(banner["url"]).balance(banner["accounts"][0]["address"]) == 10_000 * 10**18


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    with started("--data-dir", str(tmp_path / "d")) as (process, _):
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0
        assert process.stderr is not None and process.stderr.read() == ""


def test_the_chain_continues_after_a_restart(tmp_path: Path) -> None:
    folder = str(tmp_path / "d")
    with started("--data-dir", folder) as (process, banner):
        Client(banner["url"]).request("anvil_mine", "0x3")
        process.terminate()
        assert process.wait(DEADLINE) == 0
    with started("--data-dir", folder) as (_, again):
        assert again["blockNumber"] == 3
        assert again["genesisHash"] == banner["genesisHash"]


def test_a_fresh_phrase_survives_a_restart(tmp_path: Path) -> None:
    folder = str(tmp_path / "d")
    with started("--data-dir", folder, "--mnemonic-random") as (process, banner):
        assert len(banner["mnemonic"].split()) == 12
        process.terminate()
        process.wait(DEADLINE)
    with started("--data-dir", folder) as (_, again):
        assert again["accounts"] == banner["accounts"]


def test_the_keys_of_a_phrase_that_the_user_brought_are_not_shown(tmp_path: Path) -> None:
    phrase = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    with started("--data-dir", str(tmp_path / "d"), "--mnemonic", phrase) as (_, banner):
        assert banner["mnemonic"] is None
        assert list(banner["accounts"][0]) == ["address"]
    for file in (tmp_path / "d").rglob("*"):
        if file.is_file():
            assert b"legal winner" not in file.read_bytes()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--block-time", "0.5"], ("interval", 0.5)),
        (["--block-time", "2", "--mixed-mining"], ("mixed", 2)),
        (["--no-mining"], ("manual", None)),
        ([], ("automine", None)),
    ],
)
def test_flags_choose_the_mining_mode(flags: list[str], expected: tuple[str, float | None]) -> None:
    with started("--ephemeral", *flags) as (_, banner):
        assert (banner["mining"], banner["blockTime"]) == expected


def test_flags_shape_the_chain() -> None:
    flags = ["--chain-id", "99", "--accounts", "2", "--balance", "7", "--hardfork", "cancun"]
    flags += ["--gas-limit", "12345678", "--base-fee", "5", "--timestamp", "1000"]
    with started("--ephemeral", *flags) as (_, banner):
        client = Client(banner["url"])
        block = client.block(0)
        assert (client.chain_id, banner["hardfork"], len(banner["accounts"])) == (99, "cancun", 2)
        assert client.balance(banner["accounts"][1]["address"]) == 7 * 10**18
        assert (block.gas_limit, block.base_fee, block.timestamp) == (12345678, 5, 1000)


def test_state_is_written_at_the_end_and_read_at_the_start(tmp_path: Path) -> None:
    state = tmp_path / "state.json.gz"
    with started("--ephemeral", "--state", str(state)) as (process, banner):
        Client(banner["url"]).request("anvil_setBalance", "0x" + "77" * 20, "0x5")
        process.terminate()
        assert process.wait(DEADLINE) == 0
    with started("--ephemeral", "--state", str(state)) as (_, banner):
        assert Client(banner["url"]).balance("0x" + "77" * 20) == 5


def test_a_verbose_node_prints_a_line_per_block() -> None:
    with started("--ephemeral", "--verbose") as (process, banner):
        Client(banner["url"]).request("evm_mine")
        assert process.stderr is not None
        assert process.stderr.readline().startswith("block 1  0x")


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = failed("up", "--ephemeral", "--port", str(port))
    assert text.startswith(f"zerog: cannot listen on 127.0.0.1:{port}: ")
    assert text.endswith("choose another port with --port, or stop the program that uses it")
    assert "\n" not in text


def test_a_directory_in_use_is_one_sentence(tmp_path: Path) -> None:
    with started("--data-dir", str(tmp_path / "d")) as (process, _):
        text = failed("up", "--data-dir", str(tmp_path / "d"), "--port", "0")
    assert f"is in use by process {process.pid}" in text
    assert "\n" not in text


def test_a_foreign_directory_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    text = failed("up", "--data-dir", str(tmp_path), "--port", "0")
    assert "is not a zerog data directory" in text
    assert "\n" not in text


def test_another_chain_id_is_one_sentence(tmp_path: Path) -> None:
    with started("--data-dir", str(tmp_path / "d")):
        pass
    text = failed("up", "--data-dir", str(tmp_path / "d"), "--chain-id", "5", "--port", "0")
    assert "holds chain 31337, not 5" in text
    assert "\n" not in text


def test_another_hard_fork_is_one_sentence(tmp_path: Path) -> None:
    with started("--data-dir", str(tmp_path / "d")):
        pass
    text = failed("up", "--data-dir", str(tmp_path / "d"), "--hardfork", "london", "--port", "0")
    assert "has the rules of osaka, not london" in text


def test_a_damaged_database_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    with started("--data-dir", str(folder)) as (process, _):
        process.terminate()
        process.wait(DEADLINE)
    for file in (folder / "chain").rglob("*"):
        if file.is_file() and file.stat().st_size > 4096:
            with file.open("r+b") as data:
                data.write(b"\xff" * 8192)
    text = failed("up", "--data-dir", str(folder), "--port", "0")
    assert str(folder) in text
    assert "\n" not in text


def test_a_bad_genesis_names_the_field(tmp_path: Path) -> None:
    file = tmp_path / "g.json"
    file.write_text(
        '{"config":{"chainId":5},"alloc":{"0x12":{"balance":"0x1"}},"gasLimit":"0x1000000","difficulty":"0x0"}'
    )
    text = failed("up", "--ephemeral", "--init", str(file), "--port", "0")
    assert "0x12" in text or "alloc" in text
    assert "\n" not in text


def test_errors_are_json_when_asked_for() -> None:
    text = failed("up", "--ephemeral", "--port", "70000", "--json")
    assert json.loads(text)["error"]["type"] == "ConfigError"


def test_a_traceback_appears_only_with_debug() -> None:
    assert "Traceback" not in failed("up", "--ephemeral", "--hardfork", "nope")
    assert "Traceback" in failed("up", "--ephemeral", "--hardfork", "nope", "--debug")


def test_excluding_flags_are_refused() -> None:
    assert "--no-mining excludes" in failed("up", "--no-mining", "--block-time", "1")
    assert "exclude each other" in failed("up", "--mnemonic", "a", "--mnemonic-random")
    assert "--ephemeral and --data-dir exclude" in failed("up", "--ephemeral", "--data-dir", "x")


def test_the_way_to_the_first_answer_loads_nothing_heavy() -> None:
    program = (
        "import sys, zerog.cli.up as up\n"
        "def announce(node, quiet):\n"
        "    modules = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "    print(' '.join(modules), flush=True); node.request_stop()\n"
        "up._announce = announce\n"
        "from zerog.cli import run\n"
        "sys.exit(run(['up', '--ephemeral', '--chain-only', '--port', '0']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    loaded = set(done.stdout.split())
    foreign = {
        name
        for name in loaded - set(sys.stdlib_module_names)
        # What an installation's own start-up files load is not ours.
        if not name.startswith(
            ("__editable__", "_distutils", "distutils", "zerog", "sitecustomize", "_virtualenv")
        )
    }
    assert foreign <= {"click", "msgspec", "typing_extensions", "__main__"}, foreign
    assert not loaded & {"rich", "web3", "eth_account", "eth_abi", "aiohttp", "pydantic", "numpy", "pytest"}
