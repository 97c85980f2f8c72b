"""The miner of a standalone storage node: on any chain, paid to any account."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerog.errors import ConfigError

if TYPE_CHECKING:
    from zerog.client import Account, Client
    from zerog.storage.mining.miner import Miner
    from zerog.storage.mining.sending import PatientSender
    from zerog.storage.mining.service import MiningService
    from zerog.storage.service import StorageService
    from zerog.storage.store import FlowStore


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """What the command line says. ``payer`` sends the transactions and is paid unless ``beneficiary`` is."""

    mine: str
    flow: str
    payer: Account | str
    beneficiary: str | None
    threads: int
    answers_per_epoch: int
    make_blocks: bool


def mining_service(
    storage: StorageService, client: Client, options: MiningOptions, data_dir: Path | None, anywhere: bool
) -> MiningService:
    """The service; raises `ZerogError` when the mine contract is absent or belongs to another flow."""
    from zerog.storage.mining.contract import MiningContracts
    from zerog.storage.mining.service import beside

    found = MiningContracts.of_mine(client.transport, options.mine)
    if found.flow.lower() != options.flow.lower():
        raise ConfigError(f"the mine contract {options.mine} mines the flow {found.flow}, not {options.flow}")
    directory = None if data_dir is None else data_dir / "mining"
    return beside(
        storage, lambda store, stop: _miner(store, stop, client, options, directory), anywhere=anywhere
    )


def _miner(
    store: FlowStore, stop: threading.Event, client: Client, options: MiningOptions, directory: Path | None
) -> Miner:
    from zerog.storage.mining.contract import MiningContracts
    from zerog.storage.mining.miner import Miner, MinerOptions
    from zerog.storage.mining.sealed import SealedStore

    place = Path(tempfile.mkdtemp(prefix="zerog-miner-")) if directory is None else directory
    return Miner(
        store,
        SealedStore(place, temporary=directory is None),
        MiningContracts.of_mine(client.transport, options.mine),
        _sender(client, options.payer, stop),
        options=MinerOptions(options.answers_per_epoch, options.threads),
        advance=(lambda: _advance(client)) if options.make_blocks else None,
        beneficiary=options.beneficiary,
    )


def _advance(client: Client) -> Any:
    return client.request("evm_mine")


def _sender(client: Client, payer: Account | str, stop: threading.Event) -> PatientSender:
    """Signs here with a key, or lets the chain's node sign."""
    from zerog.client.client import address_of
    from zerog.storage.mining.sending import Call, PatientSender

    def submit(call: Call) -> str:
        data, value = bytes.fromhex(call["data"][2:]), int(call["value"], 16)
        return client.submit(to=call["to"], input=data, value=value, account=payer)

    return PatientSender(client.transport, address_of(payer), submit, stop)
