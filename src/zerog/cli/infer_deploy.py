"""``zerog infer deploy``: the contracts of Proof-of-Inference on any EVM chain."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from zerog.cli.output import common_options, report

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--url", required=True, help="Chain to deploy on.")
@click.option("--from", "sender", help="Account of the node that deploys [its first one].")
@click.option(
    "--key-file", type=_PATH, help="Key of the deploying account: a key file, or 64 hexadecimal digits."
)
@click.option("--password-file", type=_PATH, help="Password of the key file.")
@click.option("--easy", is_flag=True, help="A devnet's numbers: every receipt is audited, short windows.")
@common_options
def deploy(
    url: str, sender: str | None, key_file: Path | None, password_file: Path | None, easy: bool
) -> None:
    """Put registry, gate and audits on an EVM chain; the account becomes their administrator."""
    from zerog.chain.keys import keccak256
    from zerog.cli.sender import ClientSender
    from zerog.cli.storage import payer
    from zerog.client import Client
    from zerog.contracts.inference_deployment import EASY, InferenceParameters, deploy_inference

    client = Client(url)
    account = payer(client, sender, key_file, password_file)
    parameters = EASY if easy else InferenceParameters()
    made = deploy_inference(ClientSender(client, account), parameters, keccak256=keccak256)
    report("\n".join(f"{name:<10} {address}" for name, address in asdict(made).items()), asdict(made))
