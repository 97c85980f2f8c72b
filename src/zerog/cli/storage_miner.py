"""``zerog storage miner``: what the miner of a node does and has earned, over its ``miner_*`` methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from zerog.cli.output import common_options, report
from zerog.cli.storage import DEFAULT_URL
from zerog.errors import RpcError, StorageError

METHOD_NOT_FOUND = -32601
_WAIT = 120.0
"""Seconds: a withdrawal waits for its block."""


def _node(command: Any) -> Any:
    """Where the miner is."""
    return click.option("--url", default=DEFAULT_URL, show_default=True, help="Node whose miner it is.")(
        command
    )


def _ask(url: str, method: str) -> Any:
    from zerog.client import Client

    try:
        return Client(url, timeout=_WAIT).request(method)
    except RpcError as error:
        if error.code != METHOD_NOT_FOUND:
            raise
        raise StorageError(
            f"no miner answers at {url}",
            hint="a devnet mines unless [miner] enabled = false, a storage node with --mine; "
            "only its own machine may ask",
        ) from None


@click.group()
def miner() -> None:
    """See and control the miner of a node; it earns by proving the stored data."""


@miner.command()
@_node
@common_options
def status(url: str) -> None:
    """Show what the miner does now, what it holds and what it earned."""
    found: dict[str, Any] = _ask(url, "miner_status")
    report(_described(found), found)


def _described(found: dict[str, Any]) -> str:
    """The status for a person."""
    if "sealedBytes" not in found:
        return f"{found['state']}"
    lines = [
        f"{found['state']}" if found["mining"] else f"stopped; it was: {found['state']}",
        f"miner id     {found['minerId'] or 'none yet'}",
        f"pays         {found['beneficiary']}",
        f"sealed       {found['sealedBytes']} bytes, {found['segmentsToSeal']} segments to go",
        f"tries        {found['tries']}",
        f"answers      {found['answers']}, earned {_ether(found['earned'])}",
    ]
    if found["owed"] is not None:
        lines.append(f"to withdraw  {_ether(found['owed'])}")
    for answer in found["newest"][:3]:
        lines.append(
            f"  epoch {answer['epoch']}  sector {answer['position']}  {_ether(answer['reward'])}  "
            f"{answer['transactionHash']}"
        )
    return "\n".join(lines)


def _ether(wei: str) -> str:
    """An exact amount."""
    whole, rest = divmod(int(wei), 10**18)
    return f"{whole}.{rest:018d}".rstrip("0").rstrip(".")


@miner.command()
@_node
@common_options
def withdraw(url: str) -> None:
    """Pay out what the reward contract owes the miner's account."""
    owed = _ask(url, "miner_status").get("owed")
    if owed is not None and int(owed) == 0:
        report("nothing to withdraw", {"transaction": None, "amount": "0"})
        return
    transaction = _ask(url, "miner_withdraw")
    amount = "what was owed" if owed is None else _ether(owed)
    report(f"paid out {amount} in {transaction}", {"transaction": transaction, "amount": owed})


def _switch(name: str, method: str, text: str, said: str) -> Callable[..., None]:
    @miner.command(name, help=text)
    @_node
    @common_options
    def switch(url: str) -> None:
        _ask(url, method)
        report(said, {"mining": name == "start"})

    command: Callable[..., None] = switch
    return command


start = _switch("start", "miner_start", "Mine again after `stop`.", "mining")
stop = _switch("stop", "miner_stop", "Stop mining until `start`; the sealed data stays.", "stopped")
