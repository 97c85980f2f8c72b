"""``zerog storage node``: a storage node beside any EVM chain that has a Flow contract."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from zerog.cli.output import common_options, report
from zerog.errors import ConfigError

_PATH = click.Path(path_type=Path)

if TYPE_CHECKING:
    from zerog.node.services import Service
    from zerog.storage.peers import Peers
    from zerog.storage.store import FlowStore


@click.command()
@click.option("--rpc", required=True, help="JSON-RPC URL of the chain.")
@click.option("--flow", required=True, help="0x-address of the Flow contract.")
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Where the data lives.")
@click.option("--ephemeral", is_flag=True, help="Keep nothing when the node ends.")
@click.option("-p", "--port", default=5678, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--shard", default="0/1", show_default=True, help="Which part of the data it keeps, id/count.")
@click.option("--durable", is_flag=True, help="Wait for the disk before a segment counts as stored.")
@click.option("--max-bytes", type=click.IntRange(min=1), help="Data kept at most, bytes.")
@click.option("--confirmations", type=click.IntRange(0, 10_000), help="Blocks on top [0 on devnets, else 1].")
@click.option("--peer", "peers", multiple=True, help="URL of another storage node; repeatable.")
@click.option(
    "--scrub-rate",
    type=click.IntRange(0),
    default=16 << 20,
    show_default=True,
    help="Stored bytes per second checked again in the background; 0: none.",
)
@click.option("--admin-anywhere", is_flag=True, help="admin_* methods answer to other machines, too.")
@click.option("--mine", help="0x-address of the PoraMine contract: mine there with the stored data.")
@click.option("--from", "sender", help="Account of the chain's node that sends answers [its first one].")
@click.option(
    "--key-file", type=_PATH, help="Key of the sending account: a key file, or 64 hexadecimal digits."
)
@click.option("--password-file", type=_PATH, help="Password of the key file.")
@click.option("--beneficiary", help="0x-address that rewards are paid to [the sending account].")
@click.option(
    "--mining-threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="For the search."
)
@click.option(
    "--answers-per-epoch",
    type=click.IntRange(0, 10**6),
    default=1,
    show_default=True,
    help="Answers handed in; 0: all.",
)
@click.option(
    "--make-blocks", is_flag=True, help="On a devnet that makes blocks on demand: while new data waits."
)
@common_options
def node(
    rpc: str,
    flow: str,
    data_dir: Path | None,
    ephemeral: bool,
    port: int,
    host: str,
    shard: str,
    durable: bool,
    max_bytes: int | None,
    confirmations: int | None,
    peers: tuple[str, ...],
    scrub_rate: int,
    admin_anywhere: bool,
    mine: str | None,
    sender: str | None,
    key_file: Path | None,
    password_file: Path | None,
    beneficiary: str | None,
    mining_threads: int,
    answers_per_epoch: int,
    make_blocks: bool,
) -> None:
    """Run a storage node beside any EVM chain, until Ctrl-C."""
    if mine is None and (sender or key_file or beneficiary or make_blocks):
        raise ConfigError("an account without --mine has nothing to do", hint="give --mine, too")
    if ephemeral == (data_dir is not None):
        raise ConfigError("a storage node needs a place for its data", hint="give --data-dir or --ephemeral")
    from zerog.chain.methods import decode_address
    from zerog.client.transport import HttpTransport
    from zerog.node.alone import ServerAlone
    from zerog.node.config import RpcSettings
    from zerog.storage.front import FrontService
    from zerog.storage.peers.service import PeerService, PeerSettings
    from zerog.storage.service import StorageOptions, StorageService
    from zerog.storage.values import ShardConfig

    try:
        flow = decode_address(flow)
        ShardConfig.parse(shard)
        mine = None if mine is None else decode_address(mine)
        beneficiary = None if beneficiary is None else decode_address(beneficiary)
    except ValueError as error:
        raise ConfigError(f"expected {error}" if "expected" not in str(error) else str(error)) from None
    options = StorageOptions(
        shard=shard,
        durable=durable,
        max_bytes=max_bytes,
        confirmations=confirmations,
        scrub_rate=scrub_rate,
        admin_anywhere=admin_anywhere,
    )
    chain = HttpTransport(rpc)

    def meet(store: FlowStore) -> Peers:
        chain_id = int(chain.request("eth_chainId", []), 16)
        return PeerService(store, PeerSettings(urls=peers), lambda: (chain_id, flow))

    service = StorageService(
        lambda: chain,
        flow,
        data_dir,
        options,
        peers=meet if peers else None,
        shutdown=lambda: server.request_stop(),
    )
    service.require_start()
    services: list[Service] = [service, FrontService(service, lambda: server.url)]
    if mine is not None:
        from zerog.cli.storage import payer
        from zerog.cli.storage_mining import MiningOptions, mining_service
        from zerog.client import Client

        client = Client(rpc)
        account = payer(client, sender, key_file, password_file)
        mining = MiningOptions(
            mine, flow, account, beneficiary, mining_threads, answers_per_epoch, make_blocks
        )
        services.append(mining_service(service, client, mining, data_dir, admin_anywhere))
    server = ServerAlone(services, RpcSettings(host=host, port=port))

    def stop(number: int, frame: FrameType | None) -> None:
        server.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    with server.start():
        where = "nothing is kept" if data_dir is None else str(data_dir)
        text = f"storage node {shard} of flow {flow} at {server.url}, data: {where}"
        report(text, {"url": server.url, "port": server.port, "flow": flow, "shard": shard})
        server.wait()
