"""Genesis state of the storage predeploys: flow, market, reward, mine and the history of roots.

The set is what `zerog.contracts.storage_deployment` would deploy, already initialised: a file costs
something, an accepted answer pays from the first minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zerog.contracts.artifacts import Artifact, artifact
from zerog.contracts.storage import Keccak, Slots, array_slots, mapping_slot

STORAGE_FLOW = "0x0000000000000000000000000000000000007100"
STORAGE_MARKET = "0x0000000000000000000000000000000000007101"
STORAGE_REWARD = "0x0000000000000000000000000000000000007102"
PORA_MINE = "0x0000000000000000000000000000000000007103"

STORAGE_PREDEPLOYS: dict[str, str] = {
    "StorageFlow": STORAGE_FLOW,
    "StorageMarket": STORAGE_MARKET,
    "StorageReward": STORAGE_REWARD,
    "PoraMine": PORA_MINE,
}
"""What the banner calls each contract, and its address."""

BLOCKS_PER_EPOCH = 32
"""Blocks of an epoch. An epoch's mining window reaches to the next epoch, so that one is always open."""
ROOT_WINDOW = 1000
"""Epochs whose roots the history keeps."""
PRICE_PER_SECTOR = 232_830_643
"""Price of a sector in wei: that of the default deployment."""
RELEASE_SECONDS = 3 * 31 * 86_400
"""Time in which the fees of a pricing chunk are released: three months of 31 days."""
SECTORS_PER_CHUNK = 1024
"""Pricing chunk in sectors; 256 KiB of data start paying."""
BASE_REWARD = 10**17
"""Base reward of an accepted answer, in wei."""
BASE_REWARD_FUND = 10_000 * 10**18
"""What base rewards are paid from, in wei."""
TARGET_SUBMISSIONS = 32
"""Answers that an epoch should have; it takes at most twice as many, then difficulty rises."""
MAX_SHARDS = 32
ADJUST_RATIO = 20
"""How slowly difficulty follows."""

EMPTY_HASH = 0xC5D2460186F7233C927E7DB2DCC703C0E500B653CA82273B7BFAD8045D85A470
# ERC-7201 slot of OpenZeppelin's Initializable: version 1 closes ``initialize``.
_INITIALIZABLE = 0xF0C57E16840DF040F15088DC2F81FE391C3923BEC73E23A9662EFC9C229C6A00
_ADMIN_ROLE = 0


def storage_alloc(*, administrator: str, keccak256: Keccak) -> dict[str, dict[str, Any]]:
    """Accounts of the storage predeploys in geth's ``alloc`` format, by 0x-address.

    Parameters
    ----------
    administrator : 0x-address that administers the set.
    keccak256 : the hash function.
    """
    admin = int(administrator, 16)
    history = root_history_address(keccak256)
    return {
        STORAGE_FLOW: _account(artifact("RefundingFlow"), _flow(keccak256, admin, history), nonce=2),
        history: _account(
            artifact("DigestHistory"),
            {},
            immutables={"capacity": ROOT_WINDOW, "owner": int(STORAGE_FLOW, 16)},
        ),
        STORAGE_MARKET: _account(artifact("FixedPrice"), _market(keccak256, admin)),
        STORAGE_REWARD: _account(
            artifact("ChunkLinearReward"),
            _reward(keccak256, admin),
            balance=BASE_REWARD_FUND,
            immutables={"releaseSeconds": RELEASE_SECONDS, "sectorsPerChunk": SECTORS_PER_CHUNK},
        ),
        PORA_MINE: _account(artifact("PoraMine"), _mine(keccak256, admin)),
    }


def root_history_address(keccak256: Keccak) -> str:
    """0x-address of the history of roots: that of the first contract which the flow creates."""
    creator = bytes.fromhex(STORAGE_FLOW[2:])
    # RLP of [address, 1], the rule of CREATE.
    return "0x" + keccak256(b"\xd6\x94" + creator + b"\x01")[12:].hex()


def _flow(keccak256: Keccak, admin: int, history: str) -> Slots:
    contract = artifact("RefundingFlow")
    return (
        {_INITIALIZABLE: 1}
        | _roles(keccak256, contract, admin, "PAUSER_ROLE")
        | _variables(
            contract,
            {
                "_length": 1,
                "_blocksPerEpoch": BLOCKS_PER_EPOCH,
                "_market": int(STORAGE_MARKET, 16),
                "_rootHistory": int(history, 16),
                "_contextLength": 1,
                "_contextBlock": EMPTY_HASH,
                "_contextDigest": EMPTY_HASH,
            },
        )
    )


def _market(keccak256: Keccak, admin: int) -> Slots:
    contract = artifact("FixedPrice")
    values = {
        "pricePerSector": PRICE_PER_SECTOR,
        "flow": int(STORAGE_FLOW, 16),
        "reward": int(STORAGE_REWARD, 16),
    }
    return (
        {_INITIALIZABLE: 1}
        | _roles(keccak256, contract, admin, "PARAMS_ADMIN_ROLE")
        | _variables(contract, values)
    )


def _reward(keccak256: Keccak, admin: int) -> Slots:
    contract = artifact("ChunkLinearReward")
    values = {
        "market": int(STORAGE_MARKET, 16),
        "mine": int(PORA_MINE, 16),
        "totalBaseReward": BASE_REWARD_FUND,
        "baseReward": BASE_REWARD,
        "treasury": admin,
        "foundationAdmin": admin,
    }
    return {_INITIALIZABLE: 1} | _roles(keccak256, contract, admin) | _variables(contract, values)


def _mine(keccak256: Keccak, admin: int) -> Slots:
    contract = artifact("PoraMine")
    values = {
        "flow": int(STORAGE_FLOW, 16),
        "reward": int(STORAGE_REWARD, 16),
        "maxShards": MAX_SHARDS,
        "_sectorsPerChunk": SECTORS_PER_CHUNK,
        "_targetSubmissions": TARGET_SUBMISSIONS,
        "_targetSubmissionsNext": TARGET_SUBMISSIONS,
        "_nSubtasks": 1,
        "_nSubtasksNext": 1,
        "_subtaskInterval": 1,
        "_subtaskIntervalNext": 1,
        "_targetMineBlocks": BLOCKS_PER_EPOCH,
        "_adjustRatio": ADJUST_RATIO,
        # Difficulty 1: every hash of a whole-flow answer is good enough.
        "poraTarget": 2**256 - 1,
    }
    return (
        {_INITIALIZABLE: 1}
        | _roles(keccak256, contract, admin, "PARAMS_ADMIN_ROLE")
        | _variables(contract, values)
    )


def _variables(contract: Artifact, values: Mapping[str, int]) -> Slots:
    """Words of state variables, those that share a word together."""
    slots: Slots = {}
    for name, value in values.items():
        slot, offset = contract.place(name)
        slots[slot] = slots.get(slot, 0) | value << (8 * offset)
    return slots


def _roles(keccak256: Keccak, contract: Artifact, member: int, *roles: str) -> Slots:
    """AccessControlEnumerable: the member has the administrator's role and those named."""
    slots: Slots = {}
    for role in (_ADMIN_ROLE, *(int.from_bytes(keccak256(name.encode("ascii"))) for name in roles)):
        slots[mapping_slot(keccak256, mapping_slot(keccak256, contract.slot("_roles"), role), member)] = 1
        # EnumerableSet: values, then one-based positions.
        members = mapping_slot(keccak256, contract.slot("_roleMembers"), role)
        slots |= array_slots(keccak256, members, [member])
        slots[mapping_slot(keccak256, members + 1, member)] = 1
    return slots


def _account(
    contract: Artifact,
    slots: Slots,
    *,
    nonce: int = 1,
    balance: int = 0,
    immutables: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    return {
        "nonce": hex(nonce),
        "balance": hex(balance),
        "code": contract.runtime(immutables or {}),
        "storage": {f"0x{slot:064x}": f"0x{value:064x}" for slot, value in slots.items() if value},
    }
