"""A chain with a Flow contract that behaves as a test wants: lags, refuses, repeats, forgets, reorganises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import encode
from tests.storage.reference.flow import ReferenceFlow
from tests.storage.store.building import File

from zerog.chain.keys import keccak256
from zerog.errors import RpcError
from zerog.storage.flow.contract import SUBMIT_TOPIC, identity

ADDRESS = "0x" + "71" * 20
SENDER = bytes(12) + b"\x5e" * 20
ORIGIN = "0x" + "0f" * 20
_SUBMISSION = "(uint256,bytes,(bytes32,uint256)[])"


@dataclass
class Block:
    """A block with the files that its transactions submit."""

    number: int
    hash: bytes
    files: list[File] = field(default_factory=list)


class ScriptedChain:
    """JSON-RPC of a chain (`ChainRpc`).

    ``max_range``: blocks of one ``eth_getLogs``, at most. ``logs``: changes what ``eth_getLogs`` answers.
    ``latest``: hides newer blocks when set. ``before``: called before every request.
    """

    def __init__(self, version: str = "Geth/v1.16") -> None:
        self.version = version
        self.blocks: list[Block] = []
        self.max_range: int | None = None
        self.latest: int | None = None
        self.logs: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda logs: logs
        self.before: Callable[[str, Sequence[Any]], None] = lambda method, params: None
        self.calls: list[tuple[str, Sequence[Any]]] = []
        self.root_lies: dict[int, bytes] = {}
        self._branch = 0
        self.mine()

    # What the test does.

    def mine(self, *files: File) -> Block:
        """A block with a submission of each file."""
        number = len(self.blocks)
        block = Block(number, keccak256(f"{self._branch}/{number}".encode()), list(files))
        self.blocks.append(block)
        return block

    def go_back(self, number: int) -> None:
        """Forgets the blocks from ``number`` on; what is mined then has other hashes."""
        del self.blocks[number:]
        self._branch += 1

    def files(self, last: int | None = None) -> list[File]:
        """What was submitted up to block ``last``."""
        return [file for block in self.blocks[: None if last is None else last + 1] for file in block.files]

    def root(self, seq: int | None = None) -> bytes:
        """Root of the flow after a submission (the newest)."""
        flow = ReferenceFlow()
        files = self.files()
        for file in files if seq is None else files[: seq + 1]:
            flow.append(file.nodes)
        return flow.root()

    # What the node asks.

    def request(self, method: str, params: Sequence[Any]) -> Any:
        self.calls.append((method, params))
        self.before(method, params)
        answer: Callable[..., Any] = getattr(self, f"_{method}")
        return answer(*params)

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        results: list[Any] = []
        for method, params in calls:
            try:
                results.append(self.request(method, params))
            except RpcError as error:
                results.append(error)
        return results

    def _web3_clientVersion(self) -> str:
        return self.version

    def _eth_chainId(self) -> str:
        return "0x1"

    def _eth_getCode(self, address: str, block: str) -> str:
        return "0x00"

    def _seen(self, tag: str) -> int:
        newest = len(self.blocks) - 1 if self.latest is None else min(self.latest, len(self.blocks) - 1)
        if tag == "latest":
            return newest
        if not tag.startswith("0x"):
            raise RpcError(-32602, f"{tag} block not found")
        return int(tag, 16) if int(tag, 16) <= newest else -1

    def _eth_getBlockByNumber(self, tag: str, full: bool) -> Any:
        number = self._seen(tag)
        if number < 0:
            return None
        block = self.blocks[number]
        return {"number": hex(block.number), "hash": "0x" + block.hash.hex()}

    def _eth_call(self, call: dict[str, str], tag: str) -> str:
        selector, arguments = call["data"][2:10], bytes.fromhex(call["data"][10:])
        number = self._seen(tag)
        if selector == "231b0268":
            return "0x" + bytes(32).hex()
        if selector == "77e19824":
            return "0x" + len(self.files(number)).to_bytes(32, "big").hex()
        assert selector == "6d7ad0fc", selector
        seq = int.from_bytes(arguments, "big")
        return "0x" + self.root_lies.get(seq, self.root(seq)).hex()

    def _eth_getTransactionByHash(self, hash_: str) -> Any:
        return {"from": ORIGIN}

    def _eth_getLogs(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        first, last = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        if self.max_range is not None and last - first >= self.max_range:
            raise RpcError(-32005, f"query exceeds max block range {self.max_range}")
        assert (query["address"], query["topics"]) == (ADDRESS, [SUBMIT_TOPIC])
        return self.logs([log for log in self._all_logs() if first <= int(log["blockNumber"], 16) <= last])

    def _all_logs(self) -> list[dict[str, Any]]:
        flow, logs, seq = ReferenceFlow(), [], 0
        for block in self.blocks[: self._seen("latest") + 1]:
            for index, file in enumerate(block.files):
                start = flow.append(file.nodes)
                nodes = [(node.root, node.height) for node in file.nodes]
                sectors = sum(1 << node.height for node in file.nodes)
                value = (len(file.data), b"tag", nodes)
                data = encode(["uint256", "uint256", "uint256", _SUBMISSION], [seq, start, sectors, value])
                logs.append(
                    {
                        "address": ADDRESS,
                        "topics": [
                            SUBMIT_TOPIC,
                            "0x" + SENDER.hex(),
                            "0x" + identity(file.nodes).hex(),
                        ],
                        "data": "0x" + data.hex(),
                        "blockNumber": hex(block.number),
                        "blockHash": "0x" + block.hash.hex(),
                        "transactionHash": "0x" + keccak256(block.hash + bytes([index])).hex(),
                        "logIndex": hex(index),
                        "removed": False,
                    }
                )
                seq += 1
        return logs
