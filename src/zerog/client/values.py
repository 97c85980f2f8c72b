"""What a node answers, as values: numbers are numbers, bytes are bytes.

Every class keeps the node's JSON in ``raw``, for fields that it does not name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


def quantity(value: Any, default: int = 0) -> int:
    """A JSON-RPC quantity as a number."""
    return default if value is None else int(value, 16)


def data(value: Any) -> bytes:
    """JSON-RPC data as bytes."""
    return b"" if value is None else bytes.fromhex(value[2:])


def _short(text: str | None) -> str:
    return "–" if text is None else f"{text[:10]}…"


@dataclass(frozen=True, slots=True)
class Log:
    """An event as the chain stores it."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int | None
    transaction_hash: str | None
    index: int | None
    removed: bool
    raw: Json = field(repr=False)

    @classmethod
    def of(cls, raw: Json) -> Log:
        """From a node's answer."""
        return cls(
            address=raw["address"],
            topics=tuple(data(topic) for topic in raw["topics"]),
            data=data(raw["data"]),
            block_number=quantity(raw["blockNumber"]) if raw.get("blockNumber") else None,
            transaction_hash=raw.get("transactionHash"),
            index=quantity(raw["logIndex"]) if raw.get("logIndex") else None,
            removed=bool(raw.get("removed")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a transaction. Gas in units, prices in wei."""

    hash: str
    block_number: int
    block_hash: str
    index: int
    sender: str
    to: str | None
    contract_address: str | None
    success: bool
    gas_used: int
    effective_gas_price: int
    logs: tuple[Log, ...]
    raw: Json = field(repr=False)

    @classmethod
    def of(cls, raw: Json) -> Receipt:
        """From a node's answer."""
        return cls(
            hash=raw["transactionHash"],
            block_number=quantity(raw["blockNumber"]),
            block_hash=raw["blockHash"],
            index=quantity(raw["transactionIndex"]),
            sender=raw["from"],
            to=raw.get("to"),
            contract_address=raw.get("contractAddress"),
            # Before Byzantium there was no status; what is in a block counts as done.
            success=quantity(raw.get("status"), 1) == 1,
            gas_used=quantity(raw["gasUsed"]),
            effective_gas_price=quantity(raw.get("effectiveGasPrice")),
            logs=tuple(Log.of(log) for log in raw["logs"]),
            raw=raw,
        )

    def __repr__(self) -> str:
        outcome = "success" if self.success else "FAILED"
        created = f" created {self.contract_address}" if self.contract_address else f" to {_short(self.to)}"
        return (
            f"<Receipt {_short(self.hash)} {outcome} block {self.block_number}"
            f"{created} gas {self.gas_used:,} logs {len(self.logs)}>"
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A block; ``transactions`` are hashes, or objects when they were asked for."""

    number: int
    hash: str
    parent_hash: str
    state_root: str
    timestamp: int
    gas_limit: int
    gas_used: int
    base_fee: int | None
    miner: str
    transactions: tuple[Any, ...]
    raw: Json = field(repr=False)

    @classmethod
    def of(cls, raw: Json) -> Block:
        """From a node's answer."""
        base_fee = raw.get("baseFeePerGas")
        return cls(
            number=quantity(raw["number"]),
            hash=raw["hash"],
            parent_hash=raw["parentHash"],
            state_root=raw["stateRoot"],
            timestamp=quantity(raw["timestamp"]),
            gas_limit=quantity(raw["gasLimit"]),
            gas_used=quantity(raw["gasUsed"]),
            base_fee=None if base_fee is None else quantity(base_fee),
            miner=raw["miner"],
            transactions=tuple(raw["transactions"]),
            raw=raw,
        )

    def __repr__(self) -> str:
        return (
            f"<Block {self.number} {_short(self.hash)} time {self.timestamp} "
            f"transactions {len(self.transactions)} gas {self.gas_used:,}>"
        )
