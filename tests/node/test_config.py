"""The configuration: precedence, completeness, and what a mistake is told."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from zerog.errors import ConfigError
from zerog.node.config import Config, load, options, to_toml


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "zerog.toml"
    path.write_text(text)
    return path


def test_defaults_are_those_of_a_devnet() -> None:
    config = load(None)
    assert (config.profile, config.rpc.port, config.accounts.count) == ("devnet", 8545, 10)


def test_a_flag_wins_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "[rpc]\nport = 1\nhost = '0.0.0.0'\n")
    config = load(path, {"rpc.port": 2, "rpc.host": None})
    assert (config.rpc.port, config.rpc.host) == (2, "0.0.0.0")


def test_the_written_file_explains_every_option_and_changes_nothing(tmp_path: Path) -> None:
    text = to_toml(Config(), commented=True)
    assert load(write(tmp_path, text)) == Config()
    for key, description, _ in options():
        assert description, key
        assert f"# {description}\n# {key.rpartition('.')[2]} =" in text


def test_the_shown_file_reads_back_as_it_was(tmp_path: Path) -> None:
    config = load(
        None, {"rpc.cors": ["https://a", 'b"c'], "mining.mode": "interval", "mining.block_time": 0.5}
    )
    assert load(write(tmp_path, to_toml(config))) == config
    assert tomllib.loads(to_toml(config))["mining"]["block_time"] == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "unknown option 'prot'"),
        ("[rpc]\nprot = 1", "unknown option 'rpc.prot'; did you mean rpc.port?"),
        ("[rpc]\nport = 'x'", "rpc.port: expected int, got str (it is 'x')"),
        ("[rpc]\nport = 70000", "rpc.port: expected int <= 65535 (it is 70000)"),
        ("rpc = 3", "rpc: expected object, got int (it is 3)"),
        (
            "[mining]\nmode = 'fast'",
            "mining.mode: expected one of automine, interval, mixed, manual (it is 'fast')",
        ),
        ("[node]\nsync = 'x'", "node.sync: expected one of safe, full (it is 'x')"),
        ("[mining]\nmode = 'mixed'", "mining.mode is 'mixed' but mining.block_time is not set"),
        ("[chain]\ncoinbase = '0x12'", "chain.coinbase: expected str matching regex"),
        ("[rpc", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_names_file_and_option(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"rpc.port": -1}, "option rpc.port: expected int >= 0 (it is -1)"),
        ({"accounts.count": 10**6}, "option accounts.count: expected int <= 10000"),
        ({"mining.block_time": 0}, "option mining.block_time: expected float > 0.0"),
    ],
)
def test_a_mistake_in_a_flag_names_the_option(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, overrides)
    assert message in str(caught.value)


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="zerog config init"):
        load(tmp_path / "nope.toml")


def test_a_mnemonic_is_never_in_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "[accounts]\nmnemonic = 12345\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "12345" not in str(caught.value)
