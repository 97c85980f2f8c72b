"""What the node says about itself."""

from __future__ import annotations

from typing import Any

from zerog.chain.devnet_api.control import METHODS, DevnetControl
from zerog.chain.methods import Flag


@METHODS.handler("anvil_nodeInfo", "hardhat_nodeInfo")
async def node_info(net: DevnetControl) -> dict[str, Any]:
    """Head, hard fork and fee environment, in anvil's form."""
    head = net.engine.head()
    block = await net.rpc("eth_getBlockByNumber", "latest", False)
    return {
        "currentBlockNumber": hex(head.number),
        "currentBlockTimestamp": head.timestamp,
        "currentBlockHash": head.hash,
        "hardFork": net.hardfork,
        "transactionOrder": net.transaction_order,
        "environment": {
            "baseFee": block.get("baseFeePerGas"),
            "chainId": net.chain_id,
            "gasLimit": block["gasLimit"],
            "gasPrice": await net.rpc("eth_gasPrice"),
        },
        "forkConfig": {"forkUrl": None, "forkBlockNumber": None, "forkRetryBackoff": None},
        "network": "zerog",
    }


@METHODS.handler("anvil_metadata", "hardhat_metadata")
async def metadata(net: DevnetControl) -> dict[str, Any]:
    """Version, chain and head, in hardhat's form."""
    head = net.engine.head()
    return {
        "clientVersion": net.client_version,
        "chainId": net.chain_id,
        "instanceId": net.instance_id,
        "latestBlockNumber": head.number,
        "latestBlockHash": head.hash,
        "forkedNetwork": None,
        "snapshots": {},
    }


@METHODS.handler("anvil_setLoggingEnabled", "hardhat_setLoggingEnabled")
async def set_logging_enabled(net: DevnetControl, enabled: Flag) -> None:
    """A line per block and transaction on the node's terminal, or none."""
    net.set_logging(enabled)


@METHODS.handler("anvil_getGenesisTime", "hardhat_getGenesisTime")
async def genesis_time(net: DevnetControl) -> int:
    """Timestamp of the genesis block, UNIX seconds."""
    block = await net.rpc("eth_getBlockByNumber", "0x0", False)
    return int(block["timestamp"], 16)
