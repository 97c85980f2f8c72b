"""``zerog up``: starts a node and keeps it until a signal."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from zerog.cli.output import common_options, print_json, wants_debug, wants_json
from zerog.errors import ConfigError

if TYPE_CHECKING:
    from zerog.chain.engine import FinalizedBlock, Head
    from zerog.node.config import Config
    from zerog.node.devnet import Node, Ready

_SERVICE_NAMES = {"storage": "Storage", "indexer": "Indexer", "kv": "Key-value"}
_PATH = click.Path(dir_okay=False, path_type=Path)


def _options(command: Any) -> Any:
    """anvil's customary flags under their customary names, and those of zerog."""
    options = [
        # What and where.
        click.option("--profile", help="devnet (default), galileo or aristotle."),
        click.option("--config", "config_file", type=_PATH, help="TOML file with any option."),
        click.option("--data-dir", help="Where the chain lives [~/.local/share/zerog/<profile>]."),
        click.option("--ephemeral", is_flag=True, help="A throw-away chain: nothing is kept."),
        click.option("--chain-only", is_flag=True, help="No service beside the chain."),
        # Accounts.
        click.option("-a", "--accounts", type=int, help="Number of dev accounts [10]."),
        click.option("--balance", type=int, help="Tokens of each dev account [10000]."),
        click.option("-m", "--mnemonic", help="BIP-39 phrase of the dev accounts."),
        click.option(
            "--mnemonic-random",
            type=click.Choice(["12", "15", "18", "21", "24"]),
            is_flag=False,
            flag_value="12",
            help="A fresh phrase of that many words [12].",
        ),
        click.option("--derivation-path", help="BIP-32 path of the dev accounts [m/44'/60'/0'/0/]."),
        click.option("--auto-impersonate", is_flag=True, help="Send from any address without its key."),
        # Server.
        click.option("-p", "--port", type=int, help="Port of HTTP and WebSocket [8545]; 0 takes a free one."),
        click.option("--storage-port", type=int, help="Further port for storage clients [5678 if free]."),
        click.option("--indexer-port", type=int, help="Further port for indexer clients [12345 if free]."),
        click.option("--kv-port", type=int, help="Further port for key-value clients [6789 if free]."),
        click.option("--host", help="Address to listen on [127.0.0.1]."),
        click.option("--allow-origin", help="Origin for CORS [*]."),
        # Mining.
        click.option("-b", "--block-time", type=float, help="Seconds between blocks, instead of automine."),
        click.option("--no-mining", "--no-mine", is_flag=True, help="Blocks on request only."),
        click.option("--mixed-mining", is_flag=True, help="Automine, and a block every --block-time."),
        click.option("--order", type=click.Choice(["fees", "fifo"]), help="Order of transactions [fees]."),
        # Rules.
        click.option("--chain-id", type=int, help="Chain id [31337]."),
        click.option("--hardfork", help="Newest active hard fork [osaka]."),
        click.option("--gas-limit", "--block-gas-limit", type=int, help="Gas limit of a block [30000000]."),
        click.option("--disable-block-gas-limit", is_flag=True, help="Blocks take any amount of gas."),
        click.option("--base-fee", "--block-base-fee-per-gas", type=int, help="First base fee, wei."),
        click.option("--gas-price", type=int, help="Smallest tip that is accepted, wei [0]."),
        click.option("--code-size-limit", type=int, help="Largest contract code, bytes [24576]."),
        click.option("--timestamp", type=int, help="Time of the genesis block, UNIX seconds [now]."),
        click.option("--init", "genesis", type=_PATH, help="Genesis file in geth's format."),
        # State.
        click.option("--load-state", type=_PATH, help="Start with the state in this file."),
        click.option("--dump-state", type=_PATH, help="Write the state to this file at the end."),
        click.option("--state", type=_PATH, help="Both: load if it exists, and write at the end."),
        click.option("--history-blocks", type=int, help="Blocks whose state is kept [all]."),
        click.option("--sync", type=click.Choice(["safe", "full"]), help="Disk flush per block [safe]."),
        # Output.
        click.option("-q", "--quiet", "--silent", is_flag=True, help="Print nothing."),
        click.option("-v", "--verbose", is_flag=True, help="A line per block."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_options
@common_options
def up(**flags: Any) -> None:
    """Start a devnet (or another chain) and keep it until Ctrl-C.

    The chain is kept in --data-dir and continues at the next start; --ephemeral keeps nothing.
    """
    from zerog.node.devnet import Node, log_level
    from zerog.node.stack import compose

    config = _config(flags)
    _set_up_logging(log_level(config))
    on_block = _print_block if not flags["quiet"] else None
    node = Node(
        config,
        services=compose,
        on_block=on_block,
        log_blocks=flags["verbose"],
        fresh_mnemonic=flags["mnemonic_random"] is not None,
    )
    _stop_on_signals(node)
    _allow_open_files()
    with node:
        node.start()
        _load_state(node, flags)
        _announce(node, flags["quiet"])
        node.wait()
        _dump_state(node, flags)


def _config(flags: dict[str, Any]) -> Config:
    from zerog.node import config as settings
    from zerog.node.datadir import default_config

    path = flags["config_file"] or default_config()
    return settings.load(path, _overrides(flags))


def _overrides(flags: dict[str, Any]) -> dict[str, Any]:
    """Flags by the option that each sets; ``None`` leaves the option alone."""

    def when(name: str) -> bool | None:
        return True if flags[name] else None

    genesis, data_dir = flags["genesis"], flags["data_dir"]
    if flags["ephemeral"] and data_dir is not None:
        raise ConfigError("--ephemeral and --data-dir exclude each other", hint="give one of them")
    origin = flags["allow_origin"]
    mode = _mode(flags)
    return {
        "profile": flags["profile"],
        "node.data_dir": data_dir,
        "node.ephemeral": when("ephemeral"),
        "node.chain_only": when("chain_only"),
        "node.history_blocks": flags["history_blocks"],
        "node.sync": flags["sync"],
        "accounts.count": flags["accounts"],
        "accounts.balance": flags["balance"],
        "accounts.mnemonic": _mnemonic(flags),
        "accounts.derivation_path": flags["derivation_path"],
        "accounts.auto_impersonate": when("auto_impersonate"),
        "rpc.port": flags["port"],
        "storage.port": flags["storage_port"],
        "indexer.port": flags["indexer_port"],
        "kv.port": flags["kv_port"],
        "rpc.host": flags["host"],
        "rpc.cors": [origin] if origin else None,
        "mining.mode": mode,
        "mining.block_time": flags["block_time"],
        "pool.order": flags["order"],
        "pool.gas_price": flags["gas_price"],
        "chain.chain_id": flags["chain_id"],
        "chain.hardfork": flags["hardfork"],
        "chain.gas_limit": flags["gas_limit"],
        "chain.disable_block_gas_limit": when("disable_block_gas_limit"),
        "chain.base_fee": flags["base_fee"],
        "chain.code_size_limit": flags["code_size_limit"],
        "chain.timestamp": flags["timestamp"],
        "chain.genesis": None if genesis is None else str(genesis),
    }


def _mode(flags: dict[str, Any]) -> str | None:
    block_time, mixed, none = flags["block_time"], flags["mixed_mining"], flags["no_mining"]
    if none and (mixed or block_time is not None):
        raise ConfigError("--no-mining excludes --block-time and --mixed-mining", hint="give one of them")
    if none:
        return "manual"
    if mixed:
        return "mixed"
    return None if block_time is None else "interval"


def _mnemonic(flags: dict[str, Any]) -> str | None:
    words = flags["mnemonic_random"]
    phrase: str | None = flags["mnemonic"]
    if words is None:
        return phrase
    if phrase is not None:
        raise ConfigError("--mnemonic and --mnemonic-random exclude each other", hint="give one of them")
    from zerog.chain.keys import random_mnemonic

    return random_mnemonic(int(words))


def _set_up_logging(level: int) -> None:
    import logging

    if wants_debug():
        level = logging.DEBUG
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def _allow_open_files() -> None:
    """A connection costs a file descriptor; the customary soft limit of 1,024 is soon used up."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _stop_on_signals(node: Node) -> None:
    """The first signal stops cleanly; a second one ends the process at once."""
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        node.request_stop()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handle)


def _load_state(node: Node, flags: dict[str, Any]) -> None:
    path: Path | None = flags["load_state"]
    both: Path | None = flags["state"]
    if path is None and both is not None and both.exists():
        path = both
    if path is not None:
        node.load_state(path)


def _dump_state(node: Node, flags: dict[str, Any]) -> None:
    path: Path | None = flags["dump_state"] or flags["state"]
    if path is not None:
        node.dump_state(path)


def _announce(node: Node, quiet: bool) -> None:
    ready = node.ready()
    if wants_json():
        print_json(ready)
    elif not quiet:
        print(banner(ready), flush=True)


def _print_block(block: FinalizedBlock, head: Head) -> None:
    noun = "transaction" if block.transactions == 1 else "transactions"
    print(
        f"block {head.number}  {head.hash}  {block.transactions} {noun}  {block.gas_used:,} gas",
        file=sys.stderr,
        flush=True,
    )


def banner(ready: Ready) -> str:
    """Everything that a person pastes elsewhere: addresses, keys, URLs."""
    kind = "" if ready.profile == "devnet" else f" {ready.profile}"
    lines = [f"zerog {ready.version}{kind}: chain {ready.chain_id}, rules of {ready.hardfork}", ""]
    if ready.accounts:
        lines += [f"Accounts ({int(ready.balance):,} tokens each)"]
        lines += [f"({index}) {account['address']}" for index, account in enumerate(ready.accounts)]
        if all("privateKey" in account for account in ready.accounts):
            lines += ["", "Private keys"]
            lines += [f"({index}) {account['privateKey']}" for index, account in enumerate(ready.accounts)]
        lines += ["", "Wallet"]
        if ready.mnemonic is not None:
            lines += [f"Mnemonic         {ready.mnemonic}"]
        lines += [f"Derivation path  {ready.derivation_path}", ""]
    if ready.contracts:
        width = max(len(name) for name in ready.contracts)
        lines += [
            "Contracts",
            *(f"{name:<{width}}  {address}" for name, address in ready.contracts.items()),
            "",
        ]
    mining = ready.mining if ready.block_time is None else f"{ready.mining}, every {ready.block_time:g} s"
    where = "nothing is kept (--ephemeral)" if ready.data_dir is None else ready.data_dir
    facts = {
        "Head": f"block {ready.block_number}  {ready.block_hash}",
        "Mining": mining,
        "Gas": f"limit {ready.gas_limit:,}, base fee {ready.base_fee:,} wei",
        "Data": where,
        "HTTP": ready.url,
        "WebSocket": ready.ws,
        **{_SERVICE_NAMES.get(service, service): url for service, url in ready.urls.items()},
    }
    if "indexer" in ready.services:
        facts["Gateway"] = f"{ready.urls['indexer']}/file?root=0x…"
    if ready.shard is not None:
        facts["Shard"] = ready.shard
    if ready.services:
        facts["Services"] = ", ".join(ready.services)
    lines += [f"{name:<10} {value}" for name, value in facts.items()]
    return "\n".join(lines)
