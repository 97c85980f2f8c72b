"""Transactions that survive the death of the process without being sent twice.

Each purpose (this commit, that reveal) has at most one live transaction. It is signed, written into the
journal, and only then sent; whoever starts again finds it there and asks the chain what became of it:
in a block, waiting, lost (the same bytes are sent again) or overtaken by another of the same nonce (only
then a new one is signed).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerog.chain.keys import keccak256
from zerog.errors import ContractReverted, RpcError
from zerog.inference.audit.journal import Journal, Parcel

if TYPE_CHECKING:
    from zerog.client import Account, Client

log = logging.getLogger("zerog.audit")

GAS_MARGIN = 600_000
"""Gas beyond the estimate: whoever reveals last also settles, and nobody knows beforehand who that is."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a transaction does; ``what`` names it for people."""

    to: str
    data: bytes
    what: str
    value: int = 0


class JournalledSender:
    """Sends from accounts whose keys are here. Never waits for a block."""

    def __init__(
        self,
        client: Client,
        journal: Journal,
        explain: Callable[[ContractReverted], ContractReverted] = lambda error: error,
    ) -> None:
        """``explain`` gives a revert its reason, custom errors included."""
        self._client = client
        self._journal = journal
        self._explain = explain
        self._turn = threading.Lock()

    def send(self, purpose: str, account: Account, call: Call) -> dict[str, Any] | None:
        """The transaction's receipt when it is in a block, ``None`` while it waits for one.

        Raises
        ------
        ContractReverted : the contract would refuse it now; nothing was sent.
        RpcError : the node refuses it.
        """
        with self._turn:
            known = self._journal.parcel(purpose)
            if known is not None:
                receipt = self._receipt(known.hash)
                if receipt is not None and receipt["status"] == "0x1":
                    return receipt
                if receipt is None and self._still_valid(known):
                    return self._deliver(known)
            parcel = self._sign(account, call)
            self._journal.keep_parcel(purpose, parcel)
            return self._deliver(parcel)

    def pending(self, purpose: str) -> bool:
        """Whether a purpose has a transaction that waits for a block."""
        known = self._journal.parcel(purpose)
        return known is not None and self._receipt(known.hash) is None and self._is_known(known)

    def would(self, account: Account, call: Call) -> None:
        """Raises `ContractReverted` when the contract would refuse the call now."""
        self._estimate(account, call)

    def _estimate(self, account: Account, call: Call) -> int:
        try:
            return self._client.estimate_gas(call.to, call.data, account=account, value=call.value)
        except ContractReverted as error:
            raise self._explain(error) from None

    def _deliver(self, parcel: Parcel) -> dict[str, Any] | None:
        if not self._is_known(parcel):
            self._client.send_raw(parcel.raw)
        return self._receipt(parcel.hash)

    def _sign(self, account: Account, call: Call) -> Parcel:
        client = self._client
        request = {
            "from": account.address,
            "to": call.to,
            "input": "0x" + call.data.hex(),
            "value": hex(call.value),
        }
        gas = self._estimate(account, call)
        head = client.block()
        nonce = int(client.request("eth_getTransactionCount", account.address, "pending"), 16)
        transaction: dict[str, Any] = {
            **request,
            "chainId": hex(client.chain_id),
            "nonce": hex(nonce),
            "gas": hex(min(gas + gas // 4 + GAS_MARGIN, head.gas_limit)),
            **_fees(client, head.base_fee),
        }
        raw = account.sign_transaction(transaction)
        return Parcel(raw, "0x" + keccak256(raw).hex(), account.address, nonce)

    def _receipt(self, transaction: str) -> dict[str, Any] | None:
        receipt: dict[str, Any] | None = self._client.request("eth_getTransactionReceipt", transaction)
        return receipt

    def _is_known(self, parcel: Parcel) -> bool:
        return self._client.transaction(parcel.hash) is not None

    def _still_valid(self, parcel: Parcel) -> bool:
        return parcel.nonce >= self._client.nonce(parcel.sender)


def _fees(client: Client, base_fee: int | None) -> dict[str, Any]:
    if base_fee is None:
        return {"gasPrice": client.request("eth_gasPrice"), "type": "0x0"}
    tip = int(client.request("eth_maxPriorityFeePerGas"), 16)
    limit = 2 * base_fee + tip
    return {"maxPriorityFeePerGas": hex(tip), "maxFeePerGas": hex(limit), "type": "0x2", "accessList": []}


def refusal(error: RpcError) -> str:
    """Name of the error with which a contract refused, without its values; else the node's words."""
    if isinstance(error, ContractReverted) and error.reason:
        return error.reason.partition("(")[0]
    return error.message
