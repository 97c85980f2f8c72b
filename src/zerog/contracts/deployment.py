"""Creates and calls contracts on any EVM chain, through whatever sends transactions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from zerog.contracts.artifacts import Artifact, artifact
from zerog.contracts.storage import Keccak
from zerog.errors import ZerogError


class Sender(Protocol):
    """Sends transactions of one account."""

    @property
    def address(self) -> str:
        """0x-address of the account; it becomes the administrator."""

    def send(self, to: str | None, data: bytes, value: int = 0) -> Mapping[str, Any]:
        """Sends, waits, returns the receipt as JSON-RPC has it; ``to`` is None to create a contract."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """Sends one transaction after the other and stops at the first that fails."""

    sender: Sender
    keccak256: Keccak

    def create(self, name: str, *arguments: int | str) -> str:
        """Creates a shipped contract with static constructor arguments; its 0x-address."""
        contract: Artifact = artifact(name)
        receipt = self.sender.send(None, bytes.fromhex(contract.bytecode[2:]) + words(*arguments))
        address = receipt.get("contractAddress")
        if not _succeeded(receipt) or not isinstance(address, str):
            raise ZerogError(f"the creation of {name} failed in transaction {receipt.get('transactionHash')}")
        return address

    def call(self, to: str, signature: str, *arguments: int | str, value: int = 0) -> None:
        """Calls a function with static arguments."""
        self.call_encoded(to, signature, words(*arguments), value)

    def call_encoded(self, to: str, signature: str, arguments: bytes, value: int = 0) -> None:
        """Calls a function with arguments that are encoded already."""
        selector = self.keccak256(signature.encode("ascii"))[:4]
        receipt = self.sender.send(to, selector + arguments, value)
        if not _succeeded(receipt):
            name = signature.partition("(")[0]
            raise ZerogError(f"{name} of {to} failed in transaction {receipt.get('transactionHash')}")


def words(*arguments: int | str) -> bytes:
    """ABI encoding of static arguments: one word each, addresses given as 0x-text."""
    return b"".join((int(a, 16) if isinstance(a, str) else a).to_bytes(32) for a in arguments)


def tail(data: bytes) -> bytes:
    """ABI encoding of ``bytes`` or ``string``, without the offset that points to it."""
    return words(len(data)) + data + bytes(-len(data) % 32)


def created_address(keccak256: Keccak, sender: str, nonce: int) -> str:
    """0x-address of the contract that the transaction of ``sender`` with this nonce creates (yellow paper, section 7)."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8)
    item = number if len(number) == 1 and nonce < 0x80 else bytes([0x80 + len(number)]) + number
    body = b"\x94" + bytes.fromhex(sender[2:]) + item
    return f"0x{keccak256(bytes([0xC0 + len(body)]) + body)[12:].hex()}"


def _succeeded(receipt: Mapping[str, Any]) -> bool:
    status = receipt.get("status")
    return (int(status, 16) if isinstance(status, str) else status) == 1
