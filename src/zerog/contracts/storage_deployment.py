"""Deploys the storage contracts on any EVM chain, through whatever sends transactions.

The chain needs the Cancun hard fork; history of block hashes (EIP-2935) and the PoRA precompile are
used where they exist. Every contract is initialised right after it is created. Should somebody else
initialise one first, the transaction fails and the deployment with it: nothing half-owned is returned.

::

    addresses = deploy_storage(sender, keccak256=keccak256)
"""

from __future__ import annotations

from dataclasses import dataclass

from zerog.contracts.deployment import Deployment, Sender
from zerog.contracts.storage import Keccak
from zerog.contracts.storage_genesis import (
    BASE_REWARD,
    BLOCKS_PER_EPOCH,
    MAX_SHARDS,
    PRICE_PER_SECTOR,
    RELEASE_SECONDS,
    SECTORS_PER_CHUNK,
    TARGET_SUBMISSIONS,
)


@dataclass(frozen=True, slots=True)
class StorageParameters:
    """What a deployment can choose; lengths in blocks, sectors, seconds and wei as named.

    ``strict`` leaves overpaid fees in the flow as upstream does; otherwise they are given back.
    ``sectors_per_chunk`` is the pricing chunk: a chunk starts paying when it is full.
    """

    blocks_per_epoch: int = 3750
    deploy_delay: int = 0
    price_per_sector: int = PRICE_PER_SECTOR
    strict: bool = False
    release_seconds: int = RELEASE_SECONDS
    sectors_per_chunk: int = 1 << 25
    base_reward: int = 0
    base_reward_fund: int = 0
    difficulty: int = 1_000_000
    target_mine_blocks: int = 750
    target_submissions: int = 100
    max_shards: int = 256
    subtasks: int = 4
    subtask_interval: int = 800
    mine_settings: int = 0


EASY = StorageParameters(
    blocks_per_epoch=BLOCKS_PER_EPOCH,
    sectors_per_chunk=SECTORS_PER_CHUNK,
    base_reward=BASE_REWARD,
    base_reward_fund=100 * BASE_REWARD,
    difficulty=1,
    target_mine_blocks=BLOCKS_PER_EPOCH,
    target_submissions=TARGET_SUBMISSIONS,
    max_shards=MAX_SHARDS,
    subtasks=1,
    subtask_interval=1,
)
"""A set for trying things out, as a devnet has it."""


@dataclass(frozen=True, slots=True)
class StorageAddresses:
    """0x-addresses of a deployed set."""

    flow: str
    market: str
    reward: str
    mine: str


def deploy_storage(
    sender: Sender, parameters: StorageParameters | None = None, *, keccak256: Keccak
) -> StorageAddresses:
    """Deploys and initialises flow, market, reward and mine.

    Raises
    ------
    ZerogError : a transaction failed; what the sender raises passes through.
    """
    given = parameters or StorageParameters()
    deployment = Deployment(sender, keccak256)
    flow = deployment.create("FixedPriceFlow" if given.strict else "RefundingFlow", given.deploy_delay)
    market = deployment.create("FixedPrice")
    reward = deployment.create("ChunkLinearReward", given.release_seconds, given.sectors_per_chunk)
    mine = deployment.create("PoraMine", given.mine_settings)
    deployment.call(flow, "initialize(address,uint256)", market, given.blocks_per_epoch)
    deployment.call(market, "initialize(uint256,address,address)", given.price_per_sector, flow, reward)
    deployment.call(reward, "initialize(address,address,address)", market, mine, sender.address)
    deployment.call(
        mine,
        "initialize(address,address,(uint256,uint256,uint256,uint64,uint256,uint256))",
        flow,
        reward,
        given.difficulty,
        given.target_mine_blocks,
        given.target_submissions,
        given.max_shards,
        given.subtasks,
        given.subtask_interval,
    )
    if given.base_reward:
        deployment.call(reward, "setBaseReward(uint256)", given.base_reward)
    if given.base_reward_fund:
        deployment.call(reward, "donate()", value=given.base_reward_fund)
    return StorageAddresses(flow=flow, market=market, reward=reward, mine=mine)
