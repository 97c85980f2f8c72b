"""``zerog accounts``: key files of the web3 keystore format.

Secrets come from a prompt or a file and never from an argument, where other users of the machine
would see them.
"""

from __future__ import annotations

import getpass
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from zerog.cli.output import common_options, print_json, report, wants_json
from zerog.errors import KeystoreError

if TYPE_CHECKING:
    from zerog.chain.keys import KeyStore

_FILE = click.Path(dir_okay=False, path_type=Path)
_MAX_SECRET_BYTES = 4096


def _key_dir(command: Any) -> Any:
    return click.option(
        "--key-dir", type=click.Path(path_type=Path), help="Directory of key files [<data home>/keys]."
    )(command)


def _password_file(command: Any) -> Any:
    return click.option("--password-file", type=_FILE, help="Read the password from this file.")(command)


def _store(key_dir: Path | None) -> KeyStore:
    from zerog.chain.keys import KeyStore
    from zerog.node.datadir import KEYS, home

    return KeyStore(key_dir if key_dir is not None else home() / KEYS)


def _secret_file(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_SECRET_BYTES:
            raise KeystoreError(f"{path} is larger than {_MAX_SECRET_BYTES} bytes")
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise KeystoreError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise KeystoreError(f"cannot read {path}: {error.strerror}") from None


def _password(file: Path | None, *, confirm: bool = False) -> bytes:
    """The password from ``file``, else from a prompt; ``confirm`` when it is a new one."""
    if file is None:
        return _ask("Password", "--password-file", confirm=confirm).encode()
    password = _secret_file(file)
    # A key file of another tool may have an empty password; a new one must not.
    if confirm and not password:
        raise KeystoreError(f"the password file {file} is empty", hint="write a password into it")
    return password.encode()


def _ask(what: str, option: str, *, confirm: bool = False) -> str:
    """A secret from the terminal; without one, an error that points to ``option``."""
    with warnings.catch_warnings():
        # Where echo cannot be switched off, getpass only warns and reads the secret from stdin.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            answer: str = click.prompt(what, hide_input=True, confirmation_prompt=confirm, err=True)
        except getpass.GetPassWarning:
            raise KeystoreError(
                f"there is no terminal to ask for: {what.lower()}", hint=f"use {option}"
            ) from None
    return answer


@click.group()
def accounts() -> None:
    """Key files: create, list, import, export, sign."""


@accounts.command()
@_password_file
@_key_dir
@common_options
def new(password_file: Path | None, key_dir: Path | None) -> None:
    """Create a key and encrypt it into a file."""
    from zerog.chain.keys import random_key

    entry = _store(key_dir).add(random_key(), _password(password_file, confirm=True))
    report(f"{entry.address}\n{entry.path}", {"address": entry.address, "file": str(entry.path)})


@accounts.command("list")
@_key_dir
@common_options
def list_accounts(key_dir: Path | None) -> None:
    """List the key files."""
    store = _store(key_dir)
    entries = [{"address": entry.address, "file": str(entry.path)} for entry in store]
    if wants_json():
        report("", entries)
    elif not entries:
        click.echo(f"no key files in {store.directory}", err=True)
    for entry in entries if not wants_json() else ():
        click.echo(f"{entry['address']}  {entry['file']}")
    for path, error in store.damaged():
        if wants_json():
            print_json({"warning": {"message": error.message, "file": str(path)}}, err=True)
        else:
            click.echo(f"zerog: passed over: {error.message}", err=True)


@accounts.command("import")
@click.argument("file", type=_FILE, required=False)
@_password_file
@click.option("--file-password", type=_FILE, help="File with the password of FILE, when it is a key file.")
@_key_dir
@common_options
def import_key(
    file: Path | None, password_file: Path | None, file_password: Path | None, key_dir: Path | None
) -> None:
    """Import a private key: FILE (64 hexadecimal digits, or a key file), else from a prompt."""
    from zerog.chain import keys

    if file is None:
        key = keys.parse_key(_ask("Private key", "FILE"))
    else:
        text = _secret_file(file)
        if text.lstrip().startswith("{"):
            secret = (
                _secret_file(file_password)
                if file_password is not None
                else _ask(f"Password of {file.name}", "--file-password")
            )
            key = keys.decrypt(file, secret.encode())
        else:
            key = keys.parse_key(text)
    entry = _store(key_dir).add(key, _password(password_file, confirm=True))
    report(f"{entry.address}\n{entry.path}", {"address": entry.address, "file": str(entry.path)})


@accounts.command()
@click.argument("address")
@click.option("--out", type=_FILE, help="Write the key to this file (0600) instead of stdout.")
@_password_file
@_key_dir
@common_options
def export(address: str, out: Path | None, password_file: Path | None, key_dir: Path | None) -> None:
    """Decrypt the private key of ADDRESS."""
    from zerog.chain.keys import decrypt

    entry = _store(key_dir).find(address)
    key = "0x" + decrypt(entry.path, _password(password_file)).hex()
    if out is None:
        report(key, {"address": entry.address, "privateKey": key})
        return
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeystoreError(f"cannot write {out}: {error.strerror}", hint="give a new file name") from None
    with os.fdopen(handle, "w") as target:
        target.write(key + "\n")
    report(f"the key of {entry.address} is in {out}", {"address": entry.address, "file": str(out)})


@accounts.command()
@click.argument("address")
@click.option("--message", help="Text to sign as `personal_sign` does (EIP-191).")
@click.option("--typed-data", type=_FILE, help="EIP-712 typed data, a JSON file.")
@click.option("--transaction", type=_FILE, help="A complete transaction object, a JSON file.")
@_password_file
@_key_dir
@common_options
def sign(
    address: str,
    message: str | None,
    typed_data: Path | None,
    transaction: Path | None,
    password_file: Path | None,
    key_dir: Path | None,
) -> None:
    """Sign one thing with the key of ADDRESS: a message, typed data or a transaction."""
    from zerog.chain import keys

    if sum(x is not None for x in (message, typed_data, transaction)) != 1:
        raise click.UsageError("give one of --message, --typed-data, --transaction")
    content = None if message is not None else _json_file(typed_data or transaction)
    entry = _store(key_dir).find(address)
    key = keys.decrypt(entry.path, _password(password_file))
    if transaction is not None:
        raw = keys.sign_transaction(key, content or {})
        report("0x" + raw.hex(), {"raw": "0x" + raw.hex(), "hash": "0x" + keys.keccak256(raw).hex()})
        return
    if message is not None:
        digest = keys.message_digest(message.encode())
    else:
        digest = keys.typed_data_digest(content or {})
    signature = "0x" + keys.sign_digest(key, digest).hex()
    report(signature, {"address": entry.address, "digest": "0x" + digest.hex(), "signature": signature})


@accounts.command()
@click.option("--message", required=True, help="The text that was signed.")
@click.argument("signature")
@common_options
def recover(message: str, signature: str) -> None:
    """Print the address that signed a message."""
    from zerog.chain import keys

    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        raise KeystoreError("the signature is not hexadecimal") from None
    if len(raw) != 65:
        raise KeystoreError(f"a signature has 65 bytes; this has {len(raw)}")
    address = keys.recover(keys.message_digest(message.encode()), raw)
    report(address, {"address": address})


def _json_file(path: Path | None) -> dict[str, Any]:
    assert path is not None
    try:
        content = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise KeystoreError(f"cannot read {path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise KeystoreError(f"{path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise KeystoreError(f"{path} holds {type(content).__name__}, not a JSON object")
    return content
