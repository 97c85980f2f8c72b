"""``zerog config``: what is in force, and a file to start from."""

from __future__ import annotations

from pathlib import Path

import click

from zerog.cli.output import common_options, report, wants_json
from zerog.errors import ConfigError

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def config() -> None:
    """Show or write the configuration (TOML; flags of `zerog up` override it)."""


@config.command()
@click.option("--config", "config_file", type=_FILE, help="File to read [<data home>/config.toml].")
@common_options
def show(config_file: Path | None) -> None:
    """Print every option with the value in force."""
    from zerog.node import config as settings
    from zerog.node.datadir import default_config

    loaded = settings.load(config_file or default_config())
    if wants_json():
        report("", loaded)
    else:
        click.echo(settings.to_toml(loaded), nl=False)


@config.command()
@click.argument("file", type=_FILE, required=False)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@common_options
def init(file: Path | None, force: bool) -> None:
    """Write a file with every option explained [FILE: <data home>/config.toml]."""
    from zerog.node import config as settings
    from zerog.node.datadir import CONFIG, home

    path = file or home() / CONFIG
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already", hint="give another name, or --force")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(settings.to_toml(settings.Config(), commented=True), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    report(f"written to {path}", {"file": str(path)})
