"""``zerog storage``: files on the storage network, proven on the way in and out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerog.cli.output import common_options, print_json, report, wants_json
from zerog.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from zerog.client import Client
    from zerog.client.storage import Progress, Storage

DEFAULT_URL = "http://127.0.0.1:8545"
_PATH = click.Path(path_type=Path)
_MAX_KEY_BYTES = 4096
_ATTACHED = {
    "node": ("zerog.cli.storage_node", "Run a storage node beside any EVM chain."),
    "deploy": ("zerog.cli.storage_deploy", "Put the storage contracts on any EVM chain."),
    "miner": ("zerog.cli.storage_miner", "See and control the miner of a node, withdraw its rewards."),
}


class _Group(click.Group):
    """Knows commands of other modules, which are loaded when they are named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_ATTACHED]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ATTACHED:
            return super().get_command(ctx, cmd_name)
        import importlib

        try:
            command: click.Command = getattr(importlib.import_module(_ATTACHED[cmd_name][0]), cmd_name)
        except ModuleNotFoundError:
            return None
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, command.get_short_help_str(80)) for name, command in self.commands.items()]
        rows += [(name, text) for name, (_, text) in _ATTACHED.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _network(command: Any) -> Any:
    """Options that say where the network is."""
    for option in (
        click.option(
            "--timeout",
            type=click.FloatRange(1),
            default=60.0,
            show_default=True,
            help="Seconds for each wait.",
        ),
        click.option(
            "--node",
            "nodes",
            multiple=True,
            help="Storage node; instead of those of the indexer. May repeat.",
        ),
        click.option("--rpc", help="Chain, when it is not at --url."),
        click.option("--url", default=DEFAULT_URL, show_default=True, help="Storage node or indexer."),
    ):
        command = option(command)
    return command


def _keys(command: Any) -> Any:
    """Options that decrypt."""
    for option in (
        click.option(
            "--private-key", type=_PATH, help="File with the private key that opens a file sent --to you."
        ),
        click.option("--key", type=_PATH, help="File with the 32-byte key that opens an encrypted file."),
    ):
        command = option(command)
    return command


def _storage(
    url: str, rpc: str | None, nodes: tuple[str, ...], timeout: float, account: Any = None, **options: Any
) -> Storage:
    from zerog.client import Client
    from zerog.client.storage import Storage

    client = Client(rpc or url, timeout=timeout)
    return Storage(url, client=client, nodes=nodes, timeout=timeout, account=account, **options)


@click.group(cls=_Group)
def storage() -> None:
    """Store files, get them back with proofs, run a node.

    `zerog storage put FILE` prints a root; `zerog storage get ROOT -o FILE` brings it back. On a devnet
    the first funded account pays.
    """


@storage.command()
@click.argument("path", type=_PATH)
@click.option(
    "--encrypt", type=_PATH, help="Encrypt with the 32-byte key in this file (made when it is missing)."
)
@click.option("--to", "recipient", help="Encrypt for this public key (hexadecimal).")
@click.option("--tags", default="0x", help="Bytes stored beside the submission (hexadecimal).")
@click.option("--replicas", type=click.IntRange(1), default=1, show_default=True, help="Nodes per shard.")
@click.option("--check/--no-check", default=True, show_default=True, help="Read it back with proofs.")
@click.option("--from", "sender", help="Account of the node that pays [the first one of a devnet].")
@click.option(
    "--key-file", type=_PATH, help="Key of the paying account: a key file, or 64 hexadecimal digits."
)
@click.option("--password-file", type=_PATH, help="Password of the key file.")
@_network
@common_options
def put(
    path: Path,
    encrypt: Path | None,
    recipient: str | None,
    tags: str,
    replicas: int,
    check: bool,
    sender: str | None,
    key_file: Path | None,
    password_file: Path | None,
    url: str,
    rpc: str | None,
    nodes: tuple[str, ...],
    timeout: float,
) -> None:
    """Store a file or a directory. Nothing is paid twice: run it again after any failure."""
    if encrypt is not None and recipient is not None:
        raise click.UsageError("--encrypt and --to exclude each other")
    if sender is not None and key_file is not None:
        raise click.UsageError("--from and --key-file exclude each other")
    network = _storage(url, rpc, nodes, timeout, replicas=replicas)
    network.client.account = payer(network.client, sender, key_file, password_file)
    options: dict[str, Any] = {}
    if encrypt is not None:
        options["encryption"] = network.encryption_for(key=_cipher_key(encrypt))
    elif recipient is not None:
        options["encryption"] = network.encryption_for(recipient=_hex(recipient, "--to"))
    if not path.is_dir():
        options["tags"] = _hex(tags, "--tags")
    try:
        with _progress() as progress:
            store = network.put_directory if path.is_dir() else network.put
            stored = store(path, progress=progress, **options)
            checked = network.verify(stored.roots, progress=progress) if check else None
    except KeyboardInterrupt:
        click.echo("zerog: stopped; the same command goes on and does not pay twice", err=True)
        raise
    from decimal import Decimal

    paid = (
        f"paid {Decimal(stored.cost) / 10**18:f} tokens in {stored.transaction}"
        if stored.cost
        else "it was there, nothing paid"
    )
    lines = [*(f"root   {root}" for root in stored.roots), f"stored {stored.size} bytes, {paid}"]
    if checked is not None:
        lines.append(f"read back {checked} bytes, every proof holds")
    value = {
        "name": stored.name,
        "roots": list(stored.roots),
        "size": stored.size,
        "seqs": list(stored.seqs),
        "transactions": list(stored.transactions),
        "cost": str(stored.cost),
        "checked": checked is not None,
    }
    report("\n".join(lines), value)


@storage.command()
@click.argument("roots", metavar="ROOT…", nargs=-1, required=True)
@click.option("-o", "--out", type=_PATH, required=True, help="File (or directory, for a stored directory).")
@click.option("--manifest", is_flag=True, help="Do not unfold a stored directory: write its manifest.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@_keys
@_network
@common_options
def get(
    roots: tuple[str, ...],
    out: Path,
    manifest: bool,
    force: bool,
    key: Path | None,
    private_key: Path | None,
    url: str,
    rpc: str | None,
    nodes: tuple[str, ...],
    timeout: float,
) -> None:
    """Get a file (its fragments in order) or a directory; every segment's proof is checked."""
    network = _storage(url, rpc, nodes, timeout)
    opened = _opening(key, private_key)
    if out.is_file() and not force:
        raise StorageError(f"{out} exists", hint="--force replaces it")
    unfold = not manifest and len(roots) == 1 and _is_directory(network, roots[0], opened)
    try:
        with _progress() as progress:
            if unfold:
                network.get_directory(roots[0], out, progress=progress, **opened)
            else:
                network.get(list(roots), out, progress=progress, **opened)
    except KeyboardInterrupt:
        click.echo("zerog: stopped; the same command goes on where it was", err=True)
        raise
    what = "directory" if unfold else "file"
    size = None if unfold else out.stat().st_size
    text = f"{out}   every proof holds" if size is None else f"{out}   {size} bytes, every proof holds"
    if opened and not unfold and not _checkable(network, roots[0], opened):
        click.echo(
            "zerog: this file was encrypted by another program, whose format cannot tell a wrong key from a right one",
            err=True,
        )
    report(text, {"file": str(out), "kind": what, "size": size, "roots": list(roots)})


@storage.command()
@click.argument("root")
@_keys
@_network
@common_options
def cat(
    root: str,
    key: Path | None,
    private_key: Path | None,
    url: str,
    rpc: str | None,
    nodes: tuple[str, ...],
    timeout: float,
) -> None:
    """Write a file to standard output, once it is proven whole."""
    data = _storage(url, rpc, nodes, timeout).read(root, **_opening(key, private_key))
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


@storage.command()
@click.argument("roots", metavar="ROOT…", nargs=-1, required=True)
@_network
@common_options
def verify(roots: tuple[str, ...], url: str, rpc: str | None, nodes: tuple[str, ...], timeout: float) -> None:
    """Read a file from the network and check every proof, without keeping it."""
    with _progress() as progress:
        size = _storage(url, rpc, nodes, timeout).verify(list(roots), progress=progress)
    report(
        f"{size} bytes are there and every proof holds", {"roots": list(roots), "size": size, "valid": True}
    )


@storage.command()
@click.argument("root")
@_network
@common_options
def info(root: str, url: str, rpc: str | None, nodes: tuple[str, ...], timeout: float) -> None:
    """Show what the nodes say about a file."""
    found = _storage(url, rpc, nodes, timeout).info(root)
    state = "complete" if found.finalized else "not complete"
    text = f"{found.root}\n{found.size} bytes, submission {found.seq}, {state}, on {', '.join(found.nodes) or 'no node'}"
    report(
        text,
        {
            "root": found.root,
            "size": found.size,
            "seq": found.seq,
            "finalized": found.finalized,
            "nodes": list(found.nodes),
        },
    )


@storage.command()
@click.argument("root", required=False)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Newest submissions to show.",
)
@_keys
@_network
@common_options
def ls(
    root: str | None,
    limit: int,
    key: Path | None,
    private_key: Path | None,
    url: str,
    rpc: str | None,
    nodes: tuple[str, ...],
    timeout: float,
) -> None:
    """List a stored directory, or the newest submissions of the network."""
    network = _storage(url, rpc, nodes, timeout)
    if root is None:
        _list_submissions(network, limit)
        return
    top = network.read_directory(root, **_opening(key, private_key))
    rows = [
        {
            "path": path,
            "type": entry.kind.value,
            "size": entry.size,
            "link": entry.link or None,
            "roots": ["0x" + one.hex() for one in entry.roots],
        }
        for path, entry in top.walk()
    ]
    if wants_json():
        print_json(rows)
        return
    for row in rows:
        suffix = f" -> {row['link']}" if row["link"] else "/" if row["type"] == "directory" else ""
        click.echo(f"{row['size']:>14}  {row['path']}{suffix}")


@storage.command()
@_network
@common_options
def status(url: str, rpc: str | None, nodes: tuple[str, ...], timeout: float) -> None:
    """Show the nodes of the network: shard, progress, and whether they follow the chain."""
    network = _storage(url, rpc, nodes, timeout)
    rows: list[dict[str, Any]] = []
    head = network.client.block_number
    for node in network.nodes():
        state = network._node(node.url).status(fresh=True)
        rows.append(
            {
                "url": node.url,
                "shard": str(node.shard),
                "chainId": state.chain_id,
                "flow": state.flow,
                "syncedBlock": state.sync_height,
                "chainBlock": head,
                "submissions": state.next_seq,
                "binary": state.route is not None,
                "lastScrub": state.last_scrub,
                "damaged": state.damaged,
                "damage": list(state.damage),
            }
        )
    if wants_json():
        print_json(rows)
        return
    for row in rows:
        click.echo(
            f"{row['url']}  shard {row['shard']}  block {row['syncedBlock']} of {row['chainBlock']}  "
            f"{row['submissions']} submissions  flow {row['flow']}"
        )
        click.echo(f"  {_scrubbed(row['lastScrub'], row['damaged'])}")
        for place in row["damage"]:
            click.echo(f"  damaged: {place}")


def _scrubbed(last: float | None, damaged: int) -> str:
    """When everything stored was last checked, and what was found."""
    import time

    when = "not yet" if last is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last))
    return f"everything stored last checked: {when}; {damaged or 'no'} damaged segments"


def _list_submissions(network: Storage, limit: int) -> None:
    node = network._node(network.nodes()[0].url)
    last = node.status(fresh=True).next_seq
    rows = []
    for seq in range(max(0, last - limit), last):
        file = node.file_by_seq(seq)
        if file is not None:
            rows.append(
                {"seq": seq, "root": "0x" + file.root.hex(), "size": file.size, "finalized": file.finalized}
            )
    if wants_json():
        print_json(rows)
        return
    for row in rows:
        mark = "" if row["finalized"] else "  not complete"
        click.echo(f"{row['seq']:>8}  {row['root']}  {row['size']:>14}{mark}")


# Keys.


def payer(client: Client, sender: str | None, key_file: Path | None, password_file: Path | None) -> Any:
    """The account of the options ``--from``, ``--key-file``, ``--password-file``, else the node's first one."""
    from zerog.client import Account

    if key_file is not None:
        text = _read(key_file).decode("utf-8", "replace").strip()
        if not text.startswith("{"):
            return Account(text)
        if password_file is not None:
            return Account.from_key_file(key_file, _read(password_file).decode().rstrip("\r\n"))
        return Account.from_key_file(key_file, click.prompt("Password", hide_input=True, err=True))
    if sender is not None:
        return sender
    held = client.node_accounts
    if not held:
        raise ConfigError("the node holds no account that could pay", hint="give --key-file")
    return held[0]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_KEY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _MAX_KEY_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_KEY_BYTES} bytes and no key")
    return data


def secret(path: Path) -> bytes:
    """32 bytes from a file: raw, or as hexadecimal text."""
    data = _read(path)
    if len(data) == 32:
        return data
    try:
        key = bytes.fromhex(data.decode().strip().removeprefix("0x"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConfigError(f"{path} holds no 32-byte key (raw or hexadecimal)")
    return key


def _cipher_key(path: Path) -> bytes:
    import os
    import secrets

    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        click.echo(f"zerog: made a new key in {path}; without it the file cannot be read", err=True)
    return secret(path)


def _opening(key: Path | None, private_key: Path | None) -> dict[str, Any]:
    if key is not None and private_key is not None:
        raise click.UsageError("--key and --private-key exclude each other")
    if key is not None:
        return {"key": secret(key)}
    return {} if private_key is None else {"private_key": secret(private_key)}


def _hex(text: str, option: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise click.UsageError(f"{option} takes hexadecimal digits") from None


def _beginning(network: Storage, root: str, opened: dict[str, Any]) -> tuple[bytes, Any]:
    """The first bytes of a file, decrypted, and the cipher."""
    first = network.peek(root)
    if not opened:
        return first[:64], None
    from zerog.storage.transfer.encryption import open_header

    cipher = open_header(first[:50], **opened)
    hidden = first[len(cipher.header) :][:64]
    plain = bytearray(len(hidden))
    cipher.apply(0, hidden, plain)
    return bytes(plain), cipher


def _is_directory(network: Storage, root: str, opened: dict[str, Any]) -> bool:
    from zerog.storage.directory import is_manifest

    return is_manifest(_beginning(network, root, opened)[0])


def _checkable(network: Storage, root: str, opened: dict[str, Any]) -> bool:
    cipher = _beginning(network, root, opened)[1]
    return cipher is None or bool(cipher.checkable)


# Progress.


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A progress callback that draws bars, when a person looks."""
    if wants_json() or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield show
