"""``zerog chain``: chains on disk, without a running node."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from zerog.cli.output import common_options, report, wants_json
from zerog.errors import ConfigError

_FILE = click.Path(dir_okay=False, path_type=Path)


def _data_dir(command: Any) -> Any:
    command = click.option("--profile", default="devnet", help="Profile whose directory is meant [devnet].")(
        command
    )
    return click.option(
        "--data-dir", type=click.Path(path_type=Path), help="The chain [~/.local/share/zerog/<profile>]."
    )(command)


def _path(data_dir: Path | None, profile: str) -> Path:
    from zerog.node.datadir import default_path

    return data_dir.expanduser().absolute() if data_dir is not None else default_path(profile)


@click.group()
def chain() -> None:
    """Make, import, export and check chains on disk (no node may run on them)."""


@chain.command()
@click.option("--genesis", type=_FILE, required=True, help="Genesis in geth's format.")
@_data_dir
@common_options
def init(genesis: Path, data_dir: Path | None, profile: str) -> None:
    """Make a chain from a genesis file."""
    from zerog.node.storage import create

    path = _path(data_dir, profile)
    info = create(path, profile, genesis)
    report(
        f"chain {info.chain_id} in {path}\ngenesis  {info.head.hash}\nstate    {info.head.state_root}",
        info,
    )


@chain.command("import")
@click.argument("file", type=_FILE)
@_data_dir
@common_options
def import_blocks(file: Path, data_dir: Path | None, profile: str) -> None:
    """Execute and commit the RLP blocks of FILE, one after another.

    Every block is checked fully; the first that breaks a rule ends the import, and those before it
    stay.
    """
    from zerog.node.storage import opened

    if not file.is_file():
        raise ConfigError(f"there is no file {file}")
    path = _path(data_dir, profile)
    with opened(path) as stored, _progress(file) as progress:
        count = stored.engine.import_blocks(file, progress)
        head = stored.engine.head()
    report(
        f"{count} blocks imported; head {head.number} {head.hash}",
        {"imported": count, "number": head.number, "hash": head.hash, "stateRoot": head.state_root},
    )


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], None] | None]:
    """A counter on a terminal; nothing in a pipe and under ``--json``."""
    if wants_json() or not sys.stderr.isatty():
        yield None
        return
    try:
        yield lambda number: click.echo(f"\r{file.name}: block {number}", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


@chain.command("export")
@click.argument("file", type=_FILE)
@click.option("--first", type=int, default=1, help="First block [1].")
@click.option("--last", type=int, help="Last block [the head].")
@_data_dir
@common_options
def export_blocks(file: Path, first: int, last: int | None, data_dir: Path | None, profile: str) -> None:
    """Write blocks to FILE as RLP, one after another."""
    from zerog.node.storage import opened

    if file.exists() and not file.is_file():
        # The finished export takes the place of FILE: that would replace a device or a pipe.
        raise ConfigError(f"{file} is not a regular file", hint="give a file to write to")
    with opened(_path(data_dir, profile)) as stored:
        head = stored.engine.head().number
        end = head if last is None else last
        if not 0 <= first <= end <= head:
            raise ConfigError(f"blocks {first} to {end} are not within 0 to {head}")
        count = stored.engine.export_blocks(file, first, end)
    report(f"{count} blocks written to {file}", {"exported": count, "file": str(file)})


@chain.command()
@_data_dir
@common_options
def info(data_dir: Path | None, profile: str) -> None:
    """What a data directory holds."""
    from zerog.node.storage import describe, opened

    path = _path(data_dir, profile)
    with opened(path) as stored:
        about = describe(stored)
    report(
        f"{path}\n"
        f"profile  {about.profile}, chain {about.chain_id}, rules of {about.hardfork}\n"
        f"genesis  {about.genesis_hash}\n"
        f"head     {about.head.number}  {about.head.hash}\n"
        f"state    {about.head.state_root}\n"
        f"on disk  {about.bytes:,} bytes",
        about,
    )


@chain.command()
@_data_dir
@common_options
def verify(data_dir: Path | None, profile: str) -> None:
    """Rebuild the state root of the head from the flat state and compare."""
    from zerog.errors import CorruptDataDir
    from zerog.node.storage import opened

    path = _path(data_dir, profile)
    with opened(path) as stored:
        check = stored.engine.verify_state()
    if not check.equal:
        raise CorruptDataDir(
            f"the state in {path} has root {check.rebuilt}, but its head says {check.state_root}",
            hint="restore the directory from a copy",
        )
    report(f"the state root {check.state_root} is right", check)
