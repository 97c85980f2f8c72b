"""The data directory: whose it is, who uses it, what a wrong one is told."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from zerog.chain.genesis import GenesisSettings, devnet_genesis
from zerog.errors import CorruptDataDir, DataDirError, DataDirLocked, ForeignDataDir, WrongChain
from zerog.node import datadir
from zerog.node.datadir import DataDir, StoredAccounts

GENESIS = devnet_genesis(GenesisSettings(7, "osaka", 1, 30_000_000, 1, (), 0))


def made(path: Path, accounts: StoredAccounts | None = None) -> Path:
    with DataDir.open(path) as directory:
        directory.create("devnet", GENESIS, accounts)
    return path


def test_a_new_directory_remembers_its_chain(tmp_path: Path) -> None:
    path = made(tmp_path / "a" / "b")
    with DataDir.open(path) as directory:
        identity = directory.identity()
        assert identity is not None and (identity.profile, identity.chain_id) == ("devnet", 7)
        assert directory.genesis() == GENESIS


def test_a_directory_in_use_names_the_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from zerog.node.datadir import DataDir\n"
            "d = DataDir.open(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()",
            str(tmp_path / "d"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(DataDirLocked, match=f"in use by process {holder.pid}"):
            DataDir.open(tmp_path / "d")
        assert holder.stdin is not None
        holder.stdin.close()
    DataDir.open(tmp_path / "d").close()


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ForeignDataDir, match=r"it holds 'thesis\.tex' and no zerog\.json"):
        DataDir.open(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("x")
    with pytest.raises(DataDirError, match="is a file, not a directory"):
        DataDir.open(file)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "d")
    (path / "zerog.json").write_text('{"format":9,"profile":"devnet","chainId":7}')
    with DataDir.open(path) as directory, pytest.raises(ForeignDataDir, match="has format 9"):
        directory.identity()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("zerog.json", "{"),
        ("zerog.json", '{"format":1}'),
        ("genesis.json", "{"),
        ("genesis.json", '{"config":{"chainId":8},"alloc":{}}'),
    ],
)
def test_a_damaged_directory_says_what_is_damaged(tmp_path: Path, file: str, content: str) -> None:
    path = made(tmp_path / "d")
    (path / file).write_text(content)
    with DataDir.open(path) as directory, pytest.raises(CorruptDataDir, match=file):
        directory.genesis()


def test_a_lost_genesis_is_damage(tmp_path: Path) -> None:
    path = made(tmp_path / "d")
    (path / "genesis.json").unlink()
    with DataDir.open(path) as directory, pytest.raises(CorruptDataDir, match="No such file"):
        directory.genesis()


def test_another_chain_or_profile_is_refused(tmp_path: Path) -> None:
    with DataDir.open(made(tmp_path / "d")) as directory:
        directory.require("devnet", None)
        directory.require("devnet", 7)
        with pytest.raises(WrongChain, match="holds chain 7, not 8"):
            directory.require("devnet", 8)
        with pytest.raises(WrongChain, match="holds a devnet chain, not galileo"):
            directory.require("galileo", None)


def test_accounts_are_kept_where_only_the_owner_reads_them(tmp_path: Path) -> None:
    accounts = StoredAccounts("a b c", "m/", 3)
    path = made(tmp_path / "d", accounts)
    assert stat.S_IMODE((path / "accounts.json").stat().st_mode) == 0o600
    with DataDir.open(path) as directory:
        assert directory.accounts() == accounts


def test_existing_wants_a_chain(tmp_path: Path) -> None:
    with pytest.raises(DataDirError, match="there is no data directory"), datadir.existing(tmp_path / "no"):
        pass
    with pytest.raises(DataDirError, match="holds no chain"), datadir.existing(tmp_path):
        pass


def test_the_home_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZEROG_HOME", str(tmp_path))
    assert datadir.default_path("devnet") == tmp_path / "devnet"
    monkeypatch.delenv("ZEROG_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "x"))
    assert datadir.default_path("galileo") == tmp_path / "x" / "zerog" / "galileo"


def test_a_directory_that_cannot_be_made_is_named() -> None:
    with pytest.raises(DataDirError, match="cannot use the data directory /proc/zerog"):
        DataDir.open(Path("/proc/zerog"))
