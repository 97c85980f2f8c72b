"""`zerog accounts`: key files, and where secrets go and do not go."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerog.chain import keys
from zerog.cli import run
from zerog.client import Account
from zerog.errors import KeystoreError

KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    return path


@pytest.fixture
def accounts(
    tmp_path: Path, password: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `zerog accounts …` on a key directory of its own."""

    def ask(command: str, *arguments: object, with_password: bool = True) -> tuple[int, str, str]:
        options = ["--key-dir", str(tmp_path / "keys"), "--json"]
        if with_password:
            options += ["--password-file", str(password)]
        code = run(["accounts", command, *map(str, arguments), *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return ask


@pytest.fixture
def imported(accounts: Callable[..., Any], tmp_path: Path) -> Path:
    (tmp_path / "key").write_text(KEY)
    code, out, err = accounts("import", tmp_path / "key")
    assert code == 0, err
    return Path(json.loads(out)["file"])


def test_a_key_file_is_private(imported: Path) -> None:
    assert stat.S_IMODE(imported.stat().st_mode) == 0o600
    assert stat.S_IMODE(imported.parent.stat().st_mode) == 0o700
    assert KEY[2:] not in imported.read_text()


def test_a_new_key_is_listed_and_opens_with_its_password(accounts: Callable[..., Any]) -> None:
    code, out, err = accounts("new")
    assert code == 0, err
    made = json.loads(out)
    listed = json.loads(accounts("list", with_password=False)[1])
    assert listed == [made]
    exported = json.loads(accounts("export", made["address"])[1])
    assert Account(exported["privateKey"]).address == made["address"]


def test_an_exported_key_is_the_imported_one(
    accounts: Callable[..., Any], imported: Path, tmp_path: Path
) -> None:
    out_file = tmp_path / "out"
    code, out, _ = accounts("export", ADDRESS.lower(), "--out", out_file)
    assert code == 0
    assert out_file.read_text().strip() == KEY
    assert stat.S_IMODE(out_file.stat().st_mode) == 0o600
    assert KEY not in out


def test_a_key_file_of_another_tool_is_imported(
    accounts: Callable[..., Any], imported: Path, tmp_path: Path, password: Path
) -> None:
    moved = tmp_path / "theirs.json"
    imported.rename(moved)
    code, out, err = accounts("import", moved, "--file-password", password)
    assert code == 0, err
    assert json.loads(out)["address"] == ADDRESS


def test_a_wrong_password_is_told_and_nothing_else(
    accounts: Callable[..., Any], imported: Path, password: Path
) -> None:
    password.write_text("hunter2")
    code, out, err = accounts("export", ADDRESS)
    assert (code, out) == (1, "")
    assert "password" in json.loads(err)["error"]["message"].lower()
    assert "hunter2" not in err


def test_an_address_is_imported_once(accounts: Callable[..., Any], imported: Path, tmp_path: Path) -> None:
    code, _, err = accounts("import", tmp_path / "key")
    assert code == 1
    assert "already holds a key file" in err


@pytest.mark.parametrize(
    "text", ["", "0x12", "zz" * 32, "00" * 32, "ff" * 32, "{}", '{"crypto":{},"version":2}']
)
def test_what_is_no_key_is_refused_without_an_echo(
    accounts: Callable[..., Any], tmp_path: Path, password: Path, text: str
) -> None:
    (tmp_path / "key").write_text(text)
    code, out, err = accounts("import", tmp_path / "key", "--file-password", password)
    assert (code, out) == (1, "")
    if len(text) > 10 and "{" not in text:
        assert text not in err
    assert list((tmp_path / "keys").glob("*")) == []


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version":3}', "\ufffe"])
def test_a_damaged_key_file_is_named(accounts: Callable[..., Any], imported: Path, damage: str) -> None:
    imported.write_text(damage)
    with pytest.raises(KeystoreError, match=imported.name):
        keys.decrypt(imported, b"x")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [("{", "is not a key file"), ('{"version":1,"crypto":{}}', "'version' is 1, expected 3")],
)
def test_a_damaged_key_file_is_told_where_it_is_missed(
    accounts: Callable[..., Any], imported: Path, damage: str, reason: str
) -> None:
    imported.write_text(damage)
    code, out, err = accounts("list", with_password=False)
    assert (code, json.loads(out)) == (0, [])
    assert reason in json.loads(err)["warning"]["message"]
    code, _, err = accounts("export", ADDRESS)
    assert code == 1
    message = json.loads(err)["error"]["message"]
    assert reason in message
    assert str(imported) in message


def test_an_empty_password_is_refused(accounts: Callable[..., Any], password: Path) -> None:
    password.write_text("\n")
    code, _, err = accounts("new")
    assert code == 1
    assert f"{password} is empty" in err


def test_without_a_terminal_the_option_for_a_password_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zerog", "accounts", "new", "--key-dir", str(tmp_path)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "zerog: there is no terminal to ask for: password; use --password-file\n"


def test_a_changed_ciphertext_is_detected(imported: Path) -> None:
    content = json.loads(imported.read_text())
    crypto = content.get("crypto") or content["Crypto"]
    first = int(crypto["ciphertext"][:2], 16) ^ 1
    crypto["ciphertext"] = f"{first:02x}" + crypto["ciphertext"][2:]
    imported.write_text(json.dumps(content))
    with pytest.raises(KeystoreError):
        keys.decrypt(imported, b"correct horse")


def test_a_signed_message_recovers_to_its_signer(accounts: Callable[..., Any], imported: Path) -> None:
    code, out, err = accounts("sign", ADDRESS, "--message", "hello")
    assert code == 0, err
    signed = json.loads(out)
    assert keys.recover(keys.message_digest(b"hello"), bytes.fromhex(signed["signature"][2:])) == ADDRESS
    assert run(["accounts", "recover", "--message", "hello", signed["signature"]]) == 0


def test_a_signed_transaction_is_raw_and_has_its_hash(
    accounts: Callable[..., Any], imported: Path, tmp_path: Path
) -> None:
    transaction = {
        "type": "0x2",
        "chainId": "0x7a69",
        "nonce": "0x0",
        "to": "0x" + "22" * 20,
        "value": "0x1",
        "gas": "0x5208",
        "maxFeePerGas": "0x77359400",
        "maxPriorityFeePerGas": "0x0",
        "input": "0x",
        "accessList": [],
    }
    (tmp_path / "tx.json").write_text(json.dumps(transaction))
    code, out, err = accounts("sign", ADDRESS, "--transaction", tmp_path / "tx.json")
    assert code == 0, err
    signed = json.loads(out)
    assert signed["raw"].startswith("0x02f8")
    assert signed["hash"] == "0x" + keys.keccak256(bytes.fromhex(signed["raw"][2:])).hex()


def test_signing_wants_exactly_one_thing(accounts: Callable[..., Any], imported: Path) -> None:
    assert accounts("sign", ADDRESS)[0] == 2
    assert accounts("sign", ADDRESS, "--message", "a", "--typed-data", "b")[0] == 2


def test_an_unknown_address_is_named(accounts: Callable[..., Any]) -> None:
    code, _, err = accounts("export", "0x" + "99" * 20)
    assert code == 1
    assert "no key file for 0x9999" in err


def test_keys_are_in_no_repr() -> None:
    account = Account(KEY)
    assert KEY[2:10] not in repr(account) + str(account)
    assert KEY[2:10] not in repr(keys.derive("test " * 11 + "junk", "m/44'/60'/0'/0/", 1))
