"""Genesis files: what a devnet's contains, and what a wrong one is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zerog.chain import genesis
from zerog.chain.genesis import GenesisSettings, chain_config, devnet_genesis, newest_fork, parse_genesis
from zerog.chain.keys import keccak256
from zerog.chain.predeploys import system_predeploys
from zerog.chain.profiles import HARDFORKS, GasRules, hardfork, profile
from zerog.errors import ConfigError, GenesisError

CODE_HASHES = {
    "Create2Deployer": "2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989",
    "Multicall3": "d5c15df687b16f2ff992fc8d767b4216323184a2bbc6ee2f9c398c318e770891",
    "HistoryStorage": "6e49e66782037c0555897870e29fa5e552daf4719552131a0abce779daec0a5d",
    "BeaconRoots": "f57acd40259872606d76197ef052f3d35588dadf919ee1f0e3cb9b62d3f4b02c",
    "WithdrawalRequests": "0345a365d2f4c5975b9f1599abe0a2ee76b7a3a731bc68781bd04c84e4858f50",
    "ConsolidationRequests": "af54b3a24a530e342bfc2f9f135e77c58588ba05f9fadd81e41b45e1ac403c2c",
}


def settings(**changes: Any) -> GenesisSettings:
    values: dict[str, Any] = {
        "chain_id": 31337,
        "hardfork": "osaka",
        "timestamp": 1,
        "gas_limit": 30_000_000,
        "base_fee": 10**9,
        "accounts": ("0x" + "11" * 20,),
        "balance": 5,
    }
    return GenesisSettings(**{**values, **changes})


def test_system_contracts_have_the_code_of_public_chains() -> None:
    found = {c.name: keccak256(bytes.fromhex(c.code[2:])).hex() for c in system_predeploys("osaka")}
    assert found == CODE_HASHES


def test_a_devnet_starts_with_funded_accounts_and_system_contracts() -> None:
    made = devnet_genesis(settings())
    assert made["alloc"]["0x" + "11" * 20] == {"balance": "0x5"}
    assert len(made["alloc"]) == 1 + len(CODE_HASHES)
    assert made["config"]["blobSchedule"]["osaka"]["max"] == 9


@pytest.mark.parametrize("fork", HARDFORKS)
def test_the_config_of_a_fork_reads_back_as_that_fork(fork: str) -> None:
    made = devnet_genesis(settings(hardfork=fork))
    assert newest_fork(made) == fork


def test_a_fork_later_than_genesis_is_not_active_yet() -> None:
    made = devnet_genesis(settings(hardfork="cancun"))
    made["config"]["pragueTime"] = 100
    assert newest_fork(made) == "cancun"


def test_the_fields_of_a_fork_appear_with_it() -> None:
    assert "baseFeePerGas" not in devnet_genesis(settings(hardfork="berlin"))
    assert "excessBlobGas" not in devnet_genesis(settings(hardfork="shanghai"))
    assert devnet_genesis(settings(hardfork="cancun"))["excessBlobGas"] == "0x0"


def test_gas_rules_of_a_profile_are_part_of_the_config() -> None:
    assert chain_config(1, "prague", GasRules(80, 7))["zerog"] == {
        "minGasUsedPercent": 80,
        "minGasUsedTime": 7,
    }
    assert "zerog" not in chain_config(1, "prague", GasRules())


def test_two_accounts_at_one_address_are_refused() -> None:
    with pytest.raises(GenesisError, match="two accounts claim"):
        devnet_genesis(settings(), {"0x" + "11" * 20: {"balance": "0x0"}})


def test_equal_settings_give_equal_bytes() -> None:
    assert genesis.encode(devnet_genesis(settings())) == genesis.encode(devnet_genesis(settings()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "g.json is not JSON"),
        ("[]", "is list, not a JSON object"),
        ("{}", "field 'config' is missing"),
        ('{"config":{"chainId":1}}', "field 'alloc' is missing"),
        ('{"config":[],"alloc":{}}', "field 'config' is not a JSON object"),
        ('{"config":{},"alloc":{}}', "config.chainId must be a number"),
        ('{"config":{"chainId":"x"},"alloc":{}}', "config.chainId must be a number"),
        ('{"config":{"chainId":0},"alloc":{}}', "config.chainId must be a number"),
        ('{"config":{"chainId":true},"alloc":{}}', "config.chainId must be a number"),
    ],
)
def test_a_wrong_genesis_is_told_which_field(content: str, message: str) -> None:
    with pytest.raises(GenesisError) as caught:
        parse_genesis(content.encode(), "g.json")
    assert message in str(caught.value)


def test_a_missing_genesis_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GenesisError, match=r"cannot read the genesis .*nope\.json: No such file"):
        genesis.read_genesis(tmp_path / "nope.json")


def test_a_wrapped_genesis_is_unwrapped() -> None:
    inner = {"config": {"chainId": "0x7"}, "alloc": {}}
    assert genesis.chain_id(parse_genesis(json.dumps({"genesis": inner}).encode(), "g")) == 7


@pytest.mark.parametrize(
    ("given", "canonical"),
    [("Osaka", "osaka"), ("merge", "paris"), ("spurious-dragon", "spuriousdragon"), ("latest", "osaka")],
)
def test_a_hard_fork_goes_by_several_names(given: str, canonical: str) -> None:
    assert hardfork(given) == canonical


def test_unknown_forks_and_profiles_are_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match="choose one of frontier"):
        hardfork("amsterdamned")
    with pytest.raises(ConfigError, match="choose one of devnet, galileo, aristotle"):
        profile("mainnet")
