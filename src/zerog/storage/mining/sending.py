"""Sending transactions, patiently: one at a time, and never the same one twice while it waits for a block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from zerog.errors import TransactionFailed, WaitTimeout
from zerog.storage.mining.contract import Rpc

RECEIPT_LIMIT = 60.0
"""Seconds to wait for a receipt."""
POLL = 0.1

Call = dict[str, str]


class PatientSender:
    """An account; ``submit`` hands a call with ``from``, ``to``, ``data`` and ``value`` in and gives the hash.

    A transaction without a receipt is waited for again by the next `send`, before anything else is sent: on a
    chain that stands still nothing piles up. ``stop`` ends a wait.
    """

    def __init__(
        self, rpc: Rpc, address: str, submit: Callable[[Call], str], stop: threading.Event | None = None
    ) -> None:
        self._rpc = rpc
        self._submit = submit
        self._stop = stop or threading.Event()
        self._pending: tuple[Call, str] | None = None
        self._turn = threading.Lock()
        self.address = address

    def send(self, to: str, data: bytes, value: int = 0) -> dict[str, Any]:
        """The receipt; raises `RpcError`, `TransactionFailed` or `WaitTimeout`."""
        call = {"from": self.address, "to": to, "data": "0x" + data.hex(), "value": hex(value)}
        with self._turn:
            return self._send(call)

    def _send(self, call: Call) -> dict[str, Any]:
        if self._pending is not None and not self._forgotten(self._pending[1]):
            waiting, transaction = self._pending
            receipt = self._wait(transaction)
            if waiting == call:
                return self._checked(transaction, receipt)
        transaction = self._submit(call)
        self._pending = call, transaction
        return self._checked(transaction, self._wait(transaction))

    def _forgotten(self, transaction: str) -> bool:
        """Whether the chain does not know a transaction any more."""
        return self._rpc.request("eth_getTransactionByHash", [transaction]) is None

    def _wait(self, transaction: str) -> dict[str, Any]:
        deadline = time.monotonic() + RECEIPT_LIMIT
        while True:
            receipt: dict[str, Any] | None = self._rpc.request("eth_getTransactionReceipt", [transaction])
            if receipt is not None:
                self._pending = None
                return receipt
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"transaction {transaction} waits for a block; there was none in {RECEIPT_LIMIT:g} s"
                )
            if self._stop.wait(POLL):
                raise WaitTimeout(f"transaction {transaction} still waits for a block at the end")

    @staticmethod
    def _checked(transaction: str, receipt: dict[str, Any]) -> dict[str, Any]:
        if receipt["status"] != "0x1":
            raise TransactionFailed(f"transaction {transaction} failed", receipt)
        return receipt


def node_account(rpc: Rpc, address: str, stop: threading.Event | None = None) -> PatientSender:
    """An account whose key the chain's node holds; transactions go through ``eth_sendTransaction``."""
    return PatientSender(rpc, address, lambda call: str(rpc.request("eth_sendTransaction", [call])), stop)
