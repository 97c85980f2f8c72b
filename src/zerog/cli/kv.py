"""``zerog kv``: streams of keys and values with access control."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerog.cli.output import common_options, print_json, report, wants_json

if TYPE_CHECKING:
    from zerog.client.kv import Entry, Stream

DEFAULT_URL = "http://127.0.0.1:8545"
_PATH = click.Path(path_type=Path)


def _stream_id(value: str) -> bytes:
    """32 bytes of hexadecimal, or fewer digits of a number."""
    digits = value.removeprefix("0x")
    if not 1 <= len(digits) <= 64 or not set(digits) <= set("0123456789abcdefABCDEF"):
        raise click.BadParameter(f"{value!r} is not a stream id (up to 64 hexadecimal digits)")
    return bytes.fromhex(digits.rjust(64, "0"))


_STREAM = click.argument("stream", type=_stream_id)


def _node(command: Any) -> Any:
    return click.option("--url", default=DEFAULT_URL, show_default=True, help="Node.")(command)


def _sender(command: Any) -> Any:
    for option in (
        click.option("--password-file", type=_PATH, help="Password of the key file."),
        click.option("--key-file", type=_PATH, help="Key of the account that writes and pays."),
        click.option("--from", "sender", help="Account of the node [the first one of a devnet]."),
        click.option("--rpc", help="Chain, when it is not at --url."),
        click.option(
            "--encrypt", type=_PATH, help="Encrypt with the 32-byte key in this file (kv.key_file)."
        ),
    ):
        command = option(command)
    return command


def _reading(url: str, stream: bytes) -> Stream:
    from zerog.client import Client

    return Client(url).kv.stream(stream)


def _writing(stream: bytes, url: str, rpc: str | None, encrypt: Path | None, **account: Any) -> Stream:
    from zerog.cli.storage import payer, secret
    from zerog.client import Client
    from zerog.client.kv import Kv
    from zerog.client.storage import Storage
    from zerog.storage.transfer.encryption import Encryption

    chain = Client(rpc or url)
    storage = Storage(url, client=chain, account=payer(chain, **account))
    encryption = None if encrypt is None else Encryption(key=secret(encrypt))

    def upload(content: bytes, tags: bytes) -> int:
        stored = storage.put(content, tags=tags, again=True, fragment=1 << 46, encryption=encryption)
        return stored.seqs[0]

    return Kv(Client(url), upload=upload).stream(stream)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "0x" + value.hex()


def _row(entry: Entry) -> dict[str, Any]:
    return {"key": _text(entry.key), "value": _text(entry.value), "version": entry.version}


@click.group()
def kv() -> None:
    """Streams of keys and values, with access control.

    `zerog kv set STREAM KEY VALUE` writes, `zerog kv get STREAM KEY` reads. STREAM is any number in
    hexadecimal, for example f2bd; whoever writes it first administrates it.
    """


@kv.command("set")
@_STREAM
@click.argument("pairs", nargs=-1, required=True, metavar="KEY VALUE [KEY VALUE]…")
@click.option("--if-version", type=click.IntRange(0), help="Only if no key is newer than this version.")
@_sender
@_node
@common_options
def set_values(stream: bytes, pairs: tuple[str, ...], if_version: int | None, **options: Any) -> None:
    """Set keys in one transaction."""
    from zerog.storage.kv.stream import ANY_VERSION

    if len(pairs) % 2:
        raise click.UsageError("give a VALUE for every KEY")
    values = dict(zip(pairs[::2], pairs[1::2], strict=True))
    target = _writing(stream, **options)
    version = target.set_many(values, if_version=ANY_VERSION if if_version is None else if_version)
    report(f"version {version}", {"version": version, "keys": list(values)})


@kv.command()
@_STREAM
@click.argument("keys", nargs=-1, required=True)
@_sender
@_node
@common_options
def delete(stream: bytes, keys: tuple[str, ...], **options: Any) -> None:
    """Delete keys in one transaction."""
    version = _writing(stream, **options).delete(*keys)
    report(f"version {version}", {"version": version, "keys": list(keys)})


@kv.command()
@_STREAM
@click.argument("key")
@click.option("--version", type=click.IntRange(0), help="As it was at this version.")
@_node
@common_options
def get(stream: bytes, key: str, version: int | None, url: str) -> None:
    """Print a value as it is; exit code 1 when there is none."""
    found = _reading(url, stream).entry(key, version=version)
    if found is None:
        if wants_json():
            print_json(None)
        else:
            click.echo(f"zerog: key {key!r} is not there", err=True)
        raise click.exceptions.Exit(1)
    if wants_json():
        print_json(_row(found))
        return
    sys.stdout.buffer.write(found.value)
    if sys.stdout.isatty():
        click.echo()
    sys.stdout.flush()


@kv.command("ls")
@_STREAM
@click.argument("prefix", default="")
@click.option("--version", type=click.IntRange(0), help="As they were at this version.")
@_node
@common_options
def list_keys(stream: bytes, prefix: str, version: int | None, url: str) -> None:
    """List keys and values, in order."""
    for entry in _reading(url, stream).items(prefix, version=version):
        report(f"{_text(entry.key)}\t{_text(entry.value)}", _row(entry))


@kv.command()
@_STREAM
@click.argument("prefix", default="")
@click.option("--from-version", type=click.IntRange(0), help="Begin with this version [now].")
@click.option("--timeout", type=click.FloatRange(0), help="End after so many seconds without a change.")
@_node
@common_options
def watch(stream: bytes, prefix: str, from_version: int | None, timeout: float | None, url: str) -> None:
    """Print changes as they are committed, until interrupted."""
    for change in _reading(url, stream).watch(prefix, from_version=from_version, timeout=timeout):
        if change.reverted:
            report(f"reverted from version {change.version}", {"reverted": change.version})
            continue
        key = _text(change.key)
        value = None if change.value is None else _text(change.value)
        shown = f"{key} deleted" if value is None else f"{key}\t{value}"
        report(f"{change.version}\t{shown}", {"version": change.version, "key": key, "value": value})


@kv.command()
@_STREAM
@click.argument("account")
@click.option("--key", help="Only this special key.")
@click.option("--admin", is_flag=True, help="Make it an administrator.")
@_sender
@_node
@common_options
def grant(stream: bytes, account: str, key: str | None, admin: bool, **options: Any) -> None:
    """Let ACCOUNT write the stream, one special key, or administrate it."""
    if admin and key is not None:
        raise click.UsageError("--admin and --key exclude each other")
    target = _writing(stream, **options)
    version = target.grant_admin(account) if admin else target.grant_writer(account, key)
    report(f"version {version}", {"version": version})


@kv.command()
@_STREAM
@click.argument("account")
@click.option("--key", help="Only this special key.")
@_sender
@_node
@common_options
def revoke(stream: bytes, account: str, key: str | None, **options: Any) -> None:
    """Take the right to write back."""
    version = _writing(stream, **options).revoke_writer(account, key)
    report(f"version {version}", {"version": version})


@kv.command()
@_STREAM
@click.argument("key")
@click.option("--normal", is_flag=True, help="Open it to all writers again.")
@_sender
@_node
@common_options
def special(stream: bytes, key: str, normal: bool, **options: Any) -> None:
    """Keep KEY to its special writers."""
    version = _writing(stream, **options).set_special(key, not normal)
    report(f"version {version}", {"version": version})


@kv.command()
@_STREAM
@_node
@common_options
def roles(stream: bytes, url: str) -> None:
    """List the access control of a stream."""
    for row in _reading(url, stream).roles():
        shown = {**row, **({"key": _text(row["key"])} if "key" in row else {})}
        report("\t".join(map(str, shown.values())), shown)


@kv.command()
@_node
@common_options
def status(url: str) -> None:
    """Show how far the node is, and the streams that it holds."""
    from zerog.client import Client

    client = Client(url)
    progress, streams = client.kv.progress(), client.kv.streams()
    waiting = progress.get("waiting")
    text = f"applied {progress['appliedSeq']} of {progress['nextSeq']}, {len(streams)} streams"
    if waiting:
        text += f"\nwaits for submission {waiting['txSeq']} since {waiting['seconds']} s: {waiting['reason']}"
    report("\n".join([text, *streams]), {**progress, "streams": streams})
