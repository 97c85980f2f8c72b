"""A node as a whole: profiles, files of a genesis, restarts in every mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zerog.chain.genesis import GenesisSettings, devnet_genesis, encode
from zerog.chain.profiles import HARDFORKS
from zerog.errors import ConfigError, GenesisError
from zerog.node.config import load
from zerog.node.devnet import Node


def node(**overrides: Any) -> Node:
    settings = {"rpc.port": 0, "node.ephemeral": "node.data_dir" not in overrides, **overrides}
    return Node(load(None, settings))


@pytest.mark.parametrize(
    ("profile", "chain_id"), [("devnet", 31337), ("galileo", 16602), ("aristotle", 16661)]
)
def test_a_profile_decides_the_chain(profile: str, chain_id: int) -> None:
    with node(profile=profile).start() as running:
        assert int(running.request("eth_chainId", []), 16) == chain_id
        assert running.ready().chain_id == chain_id


@pytest.mark.parametrize("fork", HARDFORKS)
def test_every_hard_fork_mines_a_transfer(fork: str) -> None:
    with node(**{"chain.hardfork": fork}).start() as running:
        sender, taker = (account.address for account in running.accounts[:2])
        sent = {"from": sender, "to": taker, "value": "0x1", "gas": "0x5208"}
        hash_ = running.request("eth_sendTransaction", [sent])
        receipt = running.request("eth_getTransactionReceipt", [hash_])
        assert receipt["blockNumber"] == "0x1"
        assert running.hardfork == fork
        assert running.engine.verify_state().equal


def test_a_genesis_file_decides_the_chain(tmp_path: Path) -> None:
    made = devnet_genesis(GenesisSettings(55, "cancun", 9, 20_000_000, 7, ("0x" + "31" * 20,), 5))
    file = tmp_path / "g.json"
    file.write_bytes(encode(made))
    with node(**{"chain.genesis": str(file)}).start() as running:
        assert running.chain_id == 55
        assert running.request("eth_getBalance", ["0x" + "31" * 20, "latest"]) == "0x5"


def test_a_directory_keeps_its_own_genesis(tmp_path: Path) -> None:
    files = []
    for chain_id in (1, 2):
        files.append(tmp_path / f"{chain_id}.json")
        made = devnet_genesis(GenesisSettings(chain_id, "cancun", 9, 20_000_000, 7, (), 5))
        files[-1].write_bytes(encode(made))
    where = str(tmp_path / "d")
    node(**{"chain.genesis": str(files[0]), "node.data_dir": where}).start().stop()
    node(**{"chain.genesis": str(files[0]), "node.data_dir": where}).start().stop()
    with pytest.raises(ConfigError, match="was made from another genesis"):
        node(**{"chain.genesis": str(files[1]), "node.data_dir": where}).start()


def test_a_genesis_that_cannot_start_leaves_no_chain_behind(tmp_path: Path) -> None:
    file = tmp_path / "g.json"
    file.write_text('{"config":{"chainId":5},"alloc":{"zz":{}},"gasLimit":"0x1","difficulty":"0x0"}')
    with pytest.raises(GenesisError, match="alloc"):
        node(**{"chain.genesis": str(file), "node.data_dir": str(tmp_path / "d")}).start()
    assert not (tmp_path / "d" / "zerog.json").exists()
    node(**{"node.data_dir": str(tmp_path / "d")}).start().stop()


def test_a_stopped_node_refuses_and_stops_twice() -> None:
    running = node().start()
    running.stop()
    running.stop()
    with pytest.raises(Exception, match=r"closed|shutting down"):
        running.request("eth_chainId", [])


def test_pending_transactions_survive_a_restart(tmp_path: Path) -> None:
    where: dict[str, Any] = {"node.data_dir": str(tmp_path / "d"), "mining.mode": "manual"}
    with node(**where).start() as running:
        sender = running.accounts[0].address
        sent = {"from": sender, "to": "0x" + "11" * 20, "value": "0x1"}
        hash_ = running.request("eth_sendTransaction", [sent])
    with node(**where).start() as running:
        assert running.request("eth_getTransactionByHash", [hash_]) is not None
        running.sequencer.mine()
        assert running.request("eth_getTransactionReceipt", [hash_])["status"] == "0x1"


def test_snapshots_survive_a_restart(tmp_path: Path) -> None:
    where: dict[str, Any] = {"node.data_dir": str(tmp_path / "d")}
    with node(**where).start() as running:
        running.request("anvil_mine", [2])
        mark = running.request("evm_snapshot", [])
        running.request("anvil_mine", [2])
    with node(**where).start() as running:
        assert running.request("evm_revert", [mark]) is True
        assert running.request("eth_blockNumber", []) == "0x2"
