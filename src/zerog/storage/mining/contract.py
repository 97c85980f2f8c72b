"""The few calls of the mining contracts that a miner makes. Every answer is checked for its length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from zerog.chain.keys import keccak256
from zerog.errors import RpcError, StorageError
from zerog.storage.mining.answer import Answer, Epoch, WorkerContext

WORKER_CALLER = "0x000000000000000000000000000000000000000a"
"""``computeWorkerContext`` answers only calls that pretend to come from here."""


class Rpc(Protocol):
    """A chain's JSON-RPC."""

    def request(self, method: str, params: Sequence[Any]) -> Any:
        """The result; raises `RpcError` or `TransportError`."""
        ...


class Sender(Protocol):
    """An account that can send transactions."""

    @property
    def address(self) -> str:
        """0x-address."""
        ...

    def send(self, to: str, data: bytes, value: int = 0) -> dict[str, Any]:
        """The receipt, once the transaction is in a block; raises `ZerogError` when it fails."""
        ...


def selector(signature: str) -> bytes:
    """First four bytes of the signature's hash."""
    return keccak256(signature.encode("ascii"))[:4]


_ANSWER = (
    "(bytes32,bytes32,bytes32,(uint256,uint256,uint64,uint64),uint256,uint256,bytes32,bytes32[128],bytes32[])"
)
SUBMIT = selector(f"submit({_ANSWER})")
NEW_MINER_ID = keccak256(b"NewMinerId(bytes32,address)")
DISTRIBUTE_REWARD = keccak256(b"DistributeReward(uint256,address,bytes32,uint256)")


@dataclass(frozen=True, slots=True)
class Head:
    """A block: its number and its 0x-hash."""

    number: int
    hash: str


class MiningContracts:
    """``PoraMine``, its flow and its reward contract, at 0x-addresses."""

    def __init__(self, rpc: Rpc, mine: str, flow: str, reward: str) -> None:
        self._rpc = rpc
        self.mine, self.flow, self.reward = mine, flow, reward

    def version(self) -> int:
        """``poraVersion``."""
        return self._number(self.mine, "poraVersion()")

    def worker_context(self, miner_id: bytes) -> WorkerContext:
        """What to mine now. Blocks that the epoch logic still has to catch up with are included by the contract."""
        data = self._call(
            self.mine, selector("computeWorkerContext(bytes32)") + miner_id, sender=WORKER_CALLER
        )
        return WorkerContext.decode(data)

    def window(self, context: WorkerContext, miner_id: bytes) -> tuple[int, int]:
        """First and last block whose transactions may carry an answer."""
        subtasks = self._number(self.mine, "nSubtasks()")
        interval = self._number(self.mine, "subtaskInterval()")
        blocks = self._number(self.mine, "targetMineBlocks()")
        mine = int.from_bytes(keccak256(context.digest + miner_id)) % max(1, subtasks)
        start = context.mine_start + mine * interval
        return start + 1, start + blocks

    def epoch_of(self, sector: int) -> Epoch | None:
        """The closed epoch that added a sector; ``None`` while it is open."""
        try:
            data = self._call(self.flow, selector("queryContextAtPosition(uint128)") + sector.to_bytes(32))
        except RpcError:
            return None
        if len(data) != 96:
            raise StorageError(f"queryContextAtPosition answered {len(data)} bytes instead of 96")
        return Epoch(int.from_bytes(data[:32]), int.from_bytes(data[32:64]), data[64:])

    def beneficiary(self, miner_id: bytes) -> str | None:
        """The account that a miner id pays; ``None`` for an unknown id."""
        data = self._call(self.mine, selector("beneficiaries(bytes32)") + miner_id)
        return "0x" + data[12:32].hex() if any(data) else None

    def blocks_per_epoch(self) -> int:
        """Blocks of an epoch."""
        return self._number(self.flow, "blocksPerEpoch()")

    def head(self) -> Head:
        """The newest block."""
        block = self._rpc.request("eth_getBlockByNumber", ["latest", False])
        return Head(int(block["number"], 16), str(block["hash"]))

    def follows(self, newer: Head, older: Head) -> bool:
        """Whether the chain of ``newer`` still has the block ``older``."""
        if newer.number <= older.number:
            return newer == older
        block = self._rpc.request("eth_getBlockByNumber", [hex(older.number), False])
        return block is not None and block["hash"] == older.hash

    def holds(self, transaction: str) -> bool:
        """Whether a transaction is in a block."""
        return self._rpc.request("eth_getTransactionReceipt", [transaction]) is not None

    def owed(self, beneficiary: str) -> int:
        """Wei that wait to be withdrawn."""
        word = bytes.fromhex(beneficiary[2:]).rjust(32, b"\0")
        return int.from_bytes(self._call(self.reward, selector("payments(address)") + word))

    def request_miner_id(self, sender: Sender, beneficiary: str, seed: int) -> bytes:
        """Registers a new miner id that pays ``beneficiary``."""
        word = bytes.fromhex(beneficiary[2:]).rjust(32, b"\0")
        call = selector("requestMinerId(address,uint64)") + word + seed.to_bytes(32)
        for log in sender.send(self.mine, call)["logs"]:
            if log["topics"][0] == "0x" + NEW_MINER_ID.hex():
                return bytes.fromhex(log["topics"][1][2:])
        raise StorageError("the mine contract gave no miner id")

    def submit(self, sender: Sender, answer: Answer) -> tuple[str, int]:
        """Hands an answer in: hash of its transaction, and the reward in wei."""
        receipt = sender.send(self.mine, SUBMIT + answer.encoded())
        paid = sum(
            int(log["data"], 16)
            for log in receipt["logs"]
            if log["topics"][0] == "0x" + DISTRIBUTE_REWARD.hex()
        )
        return str(receipt["transactionHash"]), paid

    def withdraw(self, sender: Sender, beneficiary: str) -> str:
        """Pays out what waits for ``beneficiary``; hash of the transaction."""
        word = bytes.fromhex(beneficiary[2:]).rjust(32, b"\0")
        receipt = sender.send(self.reward, selector("withdrawPayments(address)") + word)
        return str(receipt["transactionHash"])

    @classmethod
    def of_mine(cls, rpc: Rpc, mine: str) -> MiningContracts:
        """The set that a mine contract belongs to; raises `StorageError` when there is none."""
        bare = cls(rpc, mine, mine, mine)
        flow, reward = (
            "0x" + bare._call(mine, selector(signature))[12:].hex() for signature in ("flow()", "reward()")
        )
        return cls(rpc, mine, flow, reward)

    def _number(self, to: str, signature: str) -> int:
        return int.from_bytes(self._call(to, selector(signature)))

    def _call(self, to: str, data: bytes, sender: str | None = None) -> bytes:
        call = {"to": to, "data": "0x" + data.hex()} | ({} if sender is None else {"from": sender})
        answer = self._rpc.request("eth_call", [call, "latest"])
        if answer == "0x":
            raise StorageError(f"there is no mining contract at {to}")
        return bytes.fromhex(answer[2:])
