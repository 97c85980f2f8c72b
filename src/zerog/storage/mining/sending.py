"""Sending transactions from an account that the node holds."""

from __future__ import annotations

import time
from typing import Any

from zerog.errors import TransactionFailed, WaitTimeout
from zerog.storage.mining.contract import Rpc

RECEIPT_LIMIT = 60.0
"""Seconds to wait for a receipt."""
POLL = 0.1


class NodeAccount:
    """An account of the node; transactions go through ``eth_sendTransaction``."""

    def __init__(self, rpc: Rpc, address: str) -> None:
        self._rpc = rpc
        self.address = address

    def send(self, to: str, data: bytes, value: int = 0) -> dict[str, Any]:
        """The receipt; raises `RpcError`, `TransactionFailed` or `WaitTimeout`."""
        call = {"from": self.address, "to": to, "data": "0x" + data.hex(), "value": hex(value)}
        transaction = self._rpc.request("eth_sendTransaction", [call])
        deadline = time.monotonic() + RECEIPT_LIMIT
        while True:
            receipt: dict[str, Any] | None = self._rpc.request("eth_getTransactionReceipt", [transaction])
            if receipt is not None:
                break
            if time.monotonic() > deadline:
                raise WaitTimeout(f"transaction {transaction} is not in a block after {RECEIPT_LIMIT:g} s")
            time.sleep(POLL)
        if receipt["status"] != "0x1":
            raise TransactionFailed(f"transaction {transaction} failed", receipt)
        return receipt
