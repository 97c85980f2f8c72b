"""Builds and checks genesis blocks in geth's JSON format.

A chain starts from one JSON object in the format of ``geth init``: ``config`` (chain id, fork
schedule, blob schedule), header fields and ``alloc``. `devnet_genesis` writes one from a few
settings; `read_genesis` loads one from a file. The native engine checks every value once more; the
checks here are those whose message should name a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from zerog.chain.predeploys import system_predeploys
from zerog.chain.profiles import GasRules, active
from zerog.errors import GenesisError

Genesis = dict[str, Any]
"""A genesis in geth's JSON format, as decoded."""

WEI_PER_TOKEN = 10**18
MAX_GENESIS_BYTES = 1 << 30
_ZERO_HASH = "0x" + "00" * 32
_ZERO_ADDRESS = "0x" + "00" * 20
_STOCK_GAS = GasRules()

# Forks by the key that switches them on in geth's chain config, in order of activation.
_BLOCK_FORKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("homestead", ("homesteadBlock",)),
    ("tangerine", ("eip150Block",)),
    ("spuriousdragon", ("eip155Block", "eip158Block")),
    ("byzantium", ("byzantiumBlock",)),
    ("constantinople", ("constantinopleBlock",)),
    ("petersburg", ("petersburgBlock",)),
    ("istanbul", ("istanbulBlock",)),
    ("muirglacier", ("muirGlacierBlock",)),
    ("berlin", ("berlinBlock",)),
    ("london", ("londonBlock",)),
    ("arrowglacier", ("arrowGlacierBlock",)),
    ("grayglacier", ("grayGlacierBlock",)),
    ("paris", ("mergeNetsplitBlock",)),
)
_TIME_FORKS: tuple[tuple[str, str], ...] = (
    ("shanghai", "shanghaiTime"),
    ("cancun", "cancunTime"),
    ("prague", "pragueTime"),
    ("osaka", "osakaTime"),
    ("bpo1", "bpo1Time"),
    ("bpo2", "bpo2Time"),
)
# Target and maximum of blobs per block and the update fraction: EIP-4844, EIP-7691, EIP-7892.
_BLOB_SCHEDULE: tuple[tuple[str, int, int, int], ...] = (
    ("cancun", 3, 6, 3_338_477),
    ("prague", 6, 9, 5_007_716),
    ("osaka", 6, 9, 5_007_716),
    ("bpo1", 10, 15, 8_346_193),
    ("bpo2", 14, 21, 11_684_671),
)


@dataclass(frozen=True, slots=True)
class GenesisSettings:
    """What a devnet's genesis is made of.

    ``timestamp`` in UNIX seconds, ``gas_limit`` in gas, ``base_fee`` and ``balance`` in wei.
    ``accounts`` are 0x-addresses that start with ``balance``. ``code_size_limit`` in bytes
    replaces the limit of EIP-170 when given.
    """

    chain_id: int
    hardfork: str
    timestamp: int
    gas_limit: int
    base_fee: int
    accounts: tuple[str, ...]
    balance: int
    coinbase: str = _ZERO_ADDRESS
    gas_rules: GasRules = _STOCK_GAS
    code_size_limit: int | None = None


def chain_config(
    chain_id: int, fork: str, rules: GasRules | None = None, code_size_limit: int | None = None
) -> dict[str, Any]:
    """geth's ``config`` with ``fork`` and everything before it active from the genesis block."""
    config: dict[str, Any] = {"chainId": chain_id}
    for name, keys in _BLOCK_FORKS:
        if active(fork, name):
            config.update(dict.fromkeys(keys, 0))
    if active(fork, "paris"):
        config["terminalTotalDifficulty"] = 0
        config["terminalTotalDifficultyPassed"] = True
    for name, key in _TIME_FORKS:
        if active(fork, name):
            config[key] = 0
    schedule = {
        name: {"target": target, "max": maximum, "baseFeeUpdateFraction": fraction}
        for name, target, maximum, fraction in _BLOB_SCHEDULE
        if active(fork, name)
    }
    if schedule:
        config["blobSchedule"] = schedule
    extra: dict[str, Any] = {}
    if rules is not None and rules.min_gas_used_percent:
        extra["minGasUsedPercent"] = rules.min_gas_used_percent
        extra["minGasUsedTime"] = rules.min_gas_used_time
    if code_size_limit is not None:
        extra["maxCodeSize"] = code_size_limit
    if extra:
        config["zerog"] = extra
    return config


def devnet_genesis(
    settings: GenesisSettings, predeploys: Mapping[str, Mapping[str, object]] | None = None
) -> Genesis:
    """The genesis of a devnet: funded accounts, system contracts and ``predeploys``.

    ``predeploys`` are more accounts in geth's ``alloc`` format, by 0x-address. Raises
    `GenesisError` when two entries claim one address.
    """
    fork = settings.hardfork
    alloc: dict[str, Mapping[str, object]] = {
        address.lower(): {"balance": hex(settings.balance)} for address in settings.accounts
    }
    contracts = [(contract.address, contract.account()) for contract in system_predeploys(fork)]
    for address, account in (*contracts, *(predeploys or {}).items()):
        if address.lower() in alloc:
            raise GenesisError(f"genesis: alloc: two accounts claim the address {address}")
        alloc[address.lower()] = account
    genesis: Genesis = {
        "config": chain_config(settings.chain_id, fork, settings.gas_rules, settings.code_size_limit),
        "nonce": "0x0",
        "timestamp": hex(settings.timestamp),
        "extraData": "0x",
        "gasLimit": hex(settings.gas_limit),
        "difficulty": "0x0",
        "mixHash": _ZERO_HASH,
        "coinbase": settings.coinbase,
        "alloc": alloc,
    }
    if active(fork, "london"):
        genesis["baseFeePerGas"] = hex(settings.base_fee)
    if active(fork, "cancun"):
        genesis["blobGasUsed"] = "0x0"
        genesis["excessBlobGas"] = "0x0"
    return genesis


def parse_genesis(data: bytes, source: str) -> Genesis:
    """Decodes a genesis; ``source`` (a path) is named in every `GenesisError`."""
    try:
        genesis = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise GenesisError(f"{source} is not JSON: {error}", hint="give a genesis in geth's format") from None
    if not isinstance(genesis, dict):
        raise GenesisError(f"{source}: the genesis is {type(genesis).__name__}, not a JSON object")
    # Nethermind, hive and others wrap the genesis; the field is the same everywhere.
    if "genesis" in genesis and isinstance(genesis["genesis"], dict) and "config" not in genesis:
        genesis = genesis["genesis"]
    for field, kind in (("config", dict), ("alloc", dict)):
        if field not in genesis:
            raise GenesisError(
                f"{source}: field {field!r} is missing", hint="give a genesis in geth's format"
            )
        if not isinstance(genesis[field], kind):
            raise GenesisError(f"{source}: field {field!r} is not a JSON object")
    chain_id(genesis, source)
    return genesis


def read_genesis(path: Path) -> Genesis:
    """Loads a genesis file; raises `GenesisError` naming the path."""
    try:
        size = path.stat().st_size
        if size > MAX_GENESIS_BYTES:
            raise GenesisError(f"{path} has {size} bytes, more than the limit of {MAX_GENESIS_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        raise GenesisError(f"cannot read the genesis {path}: {error.strerror}") from None
    return parse_genesis(data, str(path))


def chain_id(genesis: Mapping[str, Any], source: str = "genesis") -> int:
    """``config.chainId`` of a genesis, given as a number or as hexadecimal."""
    value = _number(genesis["config"].get("chainId"))
    if value is None or isinstance(value, bool) or not 0 < value < 2**64:
        raise GenesisError(f"{source}: config.chainId must be a number between 1 and 2^64-1")
    return value


def newest_fork(genesis: Mapping[str, Any]) -> str:
    """The newest hard fork that is active at the genesis block."""
    config, time = genesis["config"], _number(genesis.get("timestamp", 0))
    fork = "frontier"
    for name, keys in _BLOCK_FORKS[:-1]:
        if all(_number(config.get(key)) == 0 for key in keys):
            fork = name
    if _number(config.get("terminalTotalDifficulty")) == 0:
        fork = "paris"
    for name, key in _TIME_FORKS:
        activation = _number(config.get(key))
        if activation is not None and time is not None and activation <= time:
            fork = name
    return fork


def _number(value: Any) -> int | None:
    """A JSON number or a decimal or hexadecimal string; ``None`` for anything else."""
    if isinstance(value, str):
        try:
            return int(value, 0)
        except ValueError:
            return None
    return value if isinstance(value, int) else None


def encode(genesis: Genesis) -> bytes:
    """Canonical bytes of a genesis: sorted keys, so that equal settings give equal files."""
    return msgspec.json.encode(genesis, order="sorted")
