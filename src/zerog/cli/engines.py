"""``zerog engines``: engines on the registry of a chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zerog.cli.output import common_options, report

DEFAULT_URL = "http://127.0.0.1:8545"
_CLASSES = ("exact", "tolerant", "native")


@click.group()
def engines() -> None:
    """Engines that a chain knows: only their receipts count there."""


def _url(command: Any) -> Any:
    return click.option("--url", default=DEFAULT_URL, show_default=True, help="Node of the chain.")(command)


@engines.command()
@click.argument("description")
@_url
@common_options
def show(description: str, url: str) -> None:
    """Show id and class of the engine with this DESCRIPTION."""
    from zerog.client import Client
    from zerog.inference.admission import class_of
    from zerog.inference.receipt import engine_id

    identity = engine_id(description)
    known = class_of(Client(url), identity)
    word = "unknown" if known is None else known.name.lower()
    report(f"0x{identity.hex()}  {word}", {"engineId": "0x" + identity.hex(), "class": word})


@engines.command()
@click.argument("description")
@click.option("--class", "kind", type=click.Choice(_CLASSES), required=True, help="How its receipts compare.")
@click.option(
    "--key-file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the curator's key, hexadecimal [the node's first account].",
)  # fmt: skip
@_url
@common_options
def register(description: str, kind: str, key_file: Path | None, url: str) -> None:
    """Put the engine with this DESCRIPTION on the registry, as its curator."""
    from zerog.client import Client
    from zerog.errors import InferenceError
    from zerog.inference.admission import admit_engine
    from zerog.inference.audit.setup import read_key
    from zerog.inference.engines import DeterminismClass
    from zerog.inference.receipt import engine_id

    client = Client(url)
    held = client.node_accounts if key_file is None else []
    if key_file is None and not held:
        raise InferenceError("the node holds no account", hint="name the curator's key with --key-file")
    curator = held[0] if key_file is None else read_key(key_file)
    sent = admit_engine(client, curator, description, DeterminismClass[kind.upper()])
    identity = "0x" + engine_id(description).hex()
    text = f"{identity} is known already" if sent is None else f"{identity} registered as {kind} in {sent}"
    report(text, {"engineId": identity, "class": kind, "transaction": sent})
