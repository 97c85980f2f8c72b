"""``zerog storage deploy``: the storage contracts on any EVM chain."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from zerog.cli.output import common_options, report

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--rpc", required=True, help="Chain to deploy on.")
@click.option("--from", "sender", help="Account of the node that deploys [its first one].")
@click.option(
    "--key-file", type=_PATH, help="Key of the deploying account: a key file, or 64 hexadecimal digits."
)
@click.option("--password-file", type=_PATH, help="Password of the key file.")
@click.option("--blocks-per-epoch", type=click.IntRange(1), help="Length of an epoch.")
@click.option(
    "--easy",
    is_flag=True,
    help="Mining as on a devnet: short epochs, every hash wins, 10 coins fund a base reward.",
)
@common_options
def deploy(
    rpc: str,
    sender: str | None,
    key_file: Path | None,
    password_file: Path | None,
    blocks_per_epoch: int | None,
    easy: bool,
) -> None:
    """Put flow, market, reward and mine on an EVM chain; the account becomes their administrator."""
    from zerog.chain.keys import keccak256
    from zerog.cli.sender import ClientSender
    from zerog.cli.storage import payer
    from zerog.client import Client
    from zerog.contracts.storage_deployment import EASY, StorageParameters, deploy_storage

    client = Client(rpc)
    account = payer(client, sender, key_file, password_file)
    chosen: dict[str, Any] = {} if blocks_per_epoch is None else {"blocks_per_epoch": blocks_per_epoch}
    if easy and blocks_per_epoch is not None:
        # The window of answers reaches from one epoch to the next.
        chosen["target_mine_blocks"] = blocks_per_epoch
    parameters = replace(EASY if easy else StorageParameters(), **chosen)
    made = deploy_storage(ClientSender(client, account), parameters, keccak256=keccak256)
    report("\n".join(f"{name:<7} {address}" for name, address in asdict(made).items()), asdict(made))
