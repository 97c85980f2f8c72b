"""`Client`: everything one does with a node, over HTTP or in process."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

# Loaded with the class, as a rule in the main thread: when the thread that loaded it ends, its allocator (mimalloc 3)
# breaks, and the next new thread that allocates in it crashes the process.
import zerog._native  # noqa: F401
from zerog.client.accounts import Account
from zerog.client.transport import Call, HttpTransport, Transport
from zerog.client.values import Block, Log, Receipt, data, quantity
from zerog.errors import ContractReverted, RpcError, TransactionError, TransactionFailed, WaitTimeout

if TYPE_CHECKING:
    from zerog.client.contract import Contract
    from zerog.client.kv import Kv
    from zerog.client.storage import Storage

DEFAULT_URL = "http://127.0.0.1:8545"
BlockId = int | str
"""A block number, a hash, or ``latest``, ``pending``, ``safe``, ``finalized``, ``earliest``."""
Target = Any
"""Something with an address: text, an `Account`, a `Contract`."""


def address_of(target: Target) -> str:
    """The address of a target."""
    return str(getattr(target, "address", target))


def _block_id(block: BlockId) -> str:
    return hex(block) if isinstance(block, int) else block


class Client:
    """A node, reached by ``url`` or through another `Transport`.

    ::

        client = Client()                                  # http://127.0.0.1:8545
        receipt = client.send(account=alice, to=bob, value=10**18)
        client.balance(bob)

    Amounts are in wei. Methods raise `RpcError` when the node refuses, `TransportError` when it
    does not answer.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        transport: Transport | None = None,
        timeout: float = 60.0,
        account: Account | str | None = None,
        storage_url: str | None = None,
    ) -> None:
        """``timeout`` in seconds per request; ``account`` sends when none is named.

        ``storage_url`` is where the storage network is reached, when not at the same address.
        """
        self.storage_url = storage_url
        self.transport = transport or HttpTransport(url, timeout)
        self.account = account

    def request(self, method: str, *params: Any) -> Any:
        """Any JSON-RPC method."""
        return self.transport.request(method, params)

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Many calls in one request; a call that failed gives its `RpcError` as a value."""
        return self.transport.batch(calls)

    # Reading.

    @cached_property
    def storage(self) -> Storage:
        """Files on the storage network of this node."""
        from zerog.client.storage import Storage

        url = self.storage_url or getattr(self.transport, "url", None)
        if url is None:
            raise RpcError(-32000, "a client in process knows no storage node", hint="pass storage_url=")
        return Storage(url, client=self)

    @cached_property
    def kv(self) -> Kv:
        """Streams of keys and values on the storage network of this node."""
        from zerog.client.kv import Kv

        return Kv(self)

    @cached_property
    def chain_id(self) -> int:
        """The chain id; asked once."""
        return quantity(self.request("eth_chainId"))

    @property
    def version(self) -> str:
        """What the node calls itself."""
        return str(self.request("web3_clientVersion"))

    @property
    def block_number(self) -> int:
        """Number of the newest block."""
        return quantity(self.request("eth_blockNumber"))

    @property
    def node_accounts(self) -> list[str]:
        """Addresses whose keys the node holds."""
        return list(self.request("eth_accounts"))

    def balance(self, target: Target, block: BlockId = "latest") -> int:
        """Balance, wei."""
        return quantity(self.request("eth_getBalance", address_of(target), _block_id(block)))

    def nonce(self, target: Target, block: BlockId = "latest") -> int:
        """Number of transactions that an account has sent."""
        return quantity(self.request("eth_getTransactionCount", address_of(target), _block_id(block)))

    def code(self, target: Target, block: BlockId = "latest") -> bytes:
        """Code of a contract."""
        return data(self.request("eth_getCode", address_of(target), _block_id(block)))

    def storage_at(self, target: Target, slot: int, block: BlockId = "latest") -> int:
        """Value of a storage slot."""
        return quantity(
            self.request("eth_getStorageAt", address_of(target), f"0x{slot:064x}", _block_id(block))
        )

    def block(self, block: BlockId = "latest", *, full: bool = False) -> Block:
        """A block; ``full`` for whole transactions."""
        by_hash = isinstance(block, str) and len(block) == 66
        method = "eth_getBlockByHash" if by_hash else "eth_getBlockByNumber"
        raw = self.request(method, _block_id(block), full)
        if raw is None:
            raise RpcError(-32000, f"there is no block {block}")
        return Block.of(raw)

    def transaction(self, transaction: str) -> dict[str, Any] | None:
        """A transaction as the node answers it; ``None`` when it is unknown."""
        raw: dict[str, Any] | None = self.request("eth_getTransactionByHash", transaction)
        return raw

    def receipt(self, transaction: str) -> Receipt | None:
        """A receipt; ``None`` while the transaction is in no block."""
        raw = self.request("eth_getTransactionReceipt", transaction)
        return None if raw is None else Receipt.of(raw)

    def logs(
        self,
        *,
        address: Target | Sequence[Target] | None = None,
        topics: Sequence[Any] = (),
        from_block: BlockId = "earliest",
        to_block: BlockId = "latest",
    ) -> list[Log]:
        """Events of a range of blocks."""
        query: dict[str, Any] = {
            "fromBlock": _block_id(from_block),
            "toBlock": _block_id(to_block),
            "topics": list(topics),
        }
        if address is not None:
            several = isinstance(address, list | tuple)
            query["address"] = [address_of(a) for a in address] if several else address_of(address)
        return [Log.of(raw) for raw in self.request("eth_getLogs", query)]

    # Calling and sending.

    def call(
        self,
        to: Target | None,
        input: bytes = b"",
        *,
        account: Account | str | None = None,
        value: int = 0,
        gas: int | None = None,
        block: BlockId = "latest",
        overrides: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Runs a call without sending it; raises `ContractReverted` with the decoded reason."""
        request = self._call_object(to, input, account, value, gas)
        params: list[Any] = [request, _block_id(block)]
        if overrides is not None:
            params.append(overrides)
        return data(self._explained("eth_call", params))

    def estimate_gas(
        self, to: Target | None, input: bytes = b"", *, account: Account | str | None = None, value: int = 0
    ) -> int:
        """Gas that a transaction needs; raises `ContractReverted`."""
        return quantity(
            self._explained("eth_estimateGas", [self._call_object(to, input, account, value, None)])
        )

    def send(
        self,
        *,
        to: Target | None = None,
        input: bytes = b"",
        value: int = 0,
        account: Account | str | None = None,
        timeout: float = 60.0,
        **fields: Any,
    ) -> Receipt:
        """Sends a transaction and waits until it is in a block.

        ``account`` signs here (`Account`) or at the node (an address). ``fields`` are those of a
        JSON-RPC transaction by their Python names: ``gas``, ``nonce``, ``max_fee_per_gas``,
        ``max_priority_fee_per_gas``, ``gas_price``, ``access_list``. Raises `TransactionFailed`
        when it reverts, `WaitTimeout` after ``timeout`` seconds.
        """
        return self.wait(
            self.submit(to=to, input=input, value=value, account=account, **fields), timeout=timeout
        )

    def submit(
        self,
        *,
        to: Target | None = None,
        input: bytes = b"",
        value: int = 0,
        account: Account | str | None = None,
        **fields: Any,
    ) -> str:
        """Sends a transaction and does not wait; its hash."""
        sender = account if account is not None else self.account
        if sender is None:
            raise TransactionError("no account to send from", hint="pass account=, or Client(account=…)")
        transaction = self._call_object(to, input, sender, value, None)
        for name, content in fields.items():
            if name not in _FIELDS:
                raise TransactionError(f"unknown field {name!r}", hint=f"known are {', '.join(_FIELDS)}")
            transaction[_FIELDS[name]] = hex(content) if isinstance(content, int) else content
        if isinstance(sender, Account):
            return self.send_raw(sender.sign_transaction(self._completed(transaction)))
        return str(self._explained("eth_sendTransaction", [transaction]))

    def send_raw(self, raw: bytes) -> str:
        """Sends a signed transaction; its hash."""
        return str(self._explained("eth_sendRawTransaction", ["0x" + raw.hex()]))

    def wait(self, transaction: str, *, timeout: float = 60.0, check: bool = True) -> Receipt:
        """Waits until a transaction is in a block.

        Raises `WaitTimeout` after ``timeout`` seconds and, with ``check``, `TransactionFailed`
        when its status is 0.
        """
        deadline = time.monotonic() + timeout
        pause = 0.002
        while (receipt := self.receipt(transaction)) is None:
            if time.monotonic() + pause > deadline:
                raise WaitTimeout(f"transaction {transaction} is in no block after {timeout:g} s")
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)
        if check and not receipt.success:
            raise TransactionFailed(self._failure(receipt), receipt)
        return receipt

    def _failure(self, receipt: Receipt) -> str:
        """Why a transaction failed, found by running it again on the state before its block."""
        text = f"transaction {receipt.hash} failed in block {receipt.block_number}"
        sent = self.transaction(receipt.hash)
        if sent is None:
            return text
        again = {key: sent[key] for key in ("from", "to", "value", "gas", "input") if sent.get(key)}
        try:
            self._explained("eth_call", [again, hex(receipt.block_number - 1)])
        except RpcError as error:
            return f"{text}: {getattr(error, 'reason', None) or error.message}"
        return text

    def _call_object(
        self, to: Target | None, input: bytes, account: Account | str | None, value: int, gas: int | None
    ) -> dict[str, Any]:
        sender = account if account is not None else self.account
        fields: dict[str, Any] = {"value": hex(value), "input": "0x" + bytes(input).hex()}
        if to is not None:
            fields["to"] = address_of(to)
        if sender is not None:
            fields["from"] = address_of(sender)
        if gas is not None:
            fields["gas"] = hex(gas)
        return fields

    def _completed(self, transaction: dict[str, Any]) -> dict[str, Any]:
        """Adds what a signature needs and the caller left out: nonce, gas, fees, chain id."""
        sender = transaction["from"]
        complete = {"chainId": hex(self.chain_id), **transaction}
        if "nonce" not in complete:
            complete["nonce"] = self.request("eth_getTransactionCount", sender, "pending")
        if "gas" not in complete:
            complete["gas"] = self._explained("eth_estimateGas", [transaction])
        if "gasPrice" in complete:
            complete["type"] = "0x1" if "accessList" in complete else "0x0"
            return complete
        if "maxFeePerGas" not in complete or "maxPriorityFeePerGas" not in complete:
            base_fee = self.block().base_fee
            if base_fee is None:
                complete["gasPrice"] = self.request("eth_gasPrice")
                complete["type"] = "0x0"
                return complete
            tip = quantity(
                complete.setdefault("maxPriorityFeePerGas", self.request("eth_maxPriorityFeePerGas"))
            )
            complete.setdefault("maxFeePerGas", hex(2 * base_fee + tip))
        complete["type"] = "0x2"
        complete.setdefault("accessList", [])
        return complete

    def _explained(self, method: str, params: list[Any]) -> Any:
        """A request whose revert carries its reason."""
        try:
            return self.transport.request(method, params)
        except ContractReverted as error:
            raise explained(error) from None

    # Contracts.

    def contract(
        self, address: Target, abi: Sequence[Mapping[str, Any]], *, account: Account | str | None = None
    ) -> Contract:
        """A contract as a Python object; ``account`` sends when none is named."""
        from zerog.client.contract import Contract

        return Contract(self, address_of(address), abi, account=account)

    def deploy(
        self,
        abi: Sequence[Mapping[str, Any]],
        bytecode: str | bytes,
        *arguments: Any,
        account: Account | str | None = None,
        value: int = 0,
        **fields: Any,
    ) -> Contract:
        """Creates a contract and waits for it; a refusal is explained with the errors of ``abi``."""
        from zerog.client.abi import Abi, encode
        from zerog.client.contract import Contract
        from zerog.errors import AbiError, ContractReverted

        code = bytes.fromhex(bytecode.removeprefix("0x")) if isinstance(bytecode, str) else bytes(bytecode)
        known = Abi(abi)
        inputs = known.constructor.inputs
        if len(inputs) != len(arguments):
            raise AbiError(f"the constructor takes {len(inputs)} arguments, not {len(arguments)}")
        try:
            receipt = self.send(
                input=code + encode(inputs, arguments), account=account, value=value, **fields
            )
        except ContractReverted as error:
            raw = data(error.data) if isinstance(error.data, str) else b""
            raise explained(error, known.revert_reason(raw) if raw else None) from None
        assert receipt.contract_address is not None
        return Contract(self, receipt.contract_address, abi, account=account, receipt=receipt)

    def close(self) -> None:
        """Gives connections back."""
        self.transport.close()

    def __repr__(self) -> str:
        return f"<Client {getattr(self.transport, 'url', 'in process')}>"


_FIELDS = {
    "gas": "gas",
    "nonce": "nonce",
    "gas_price": "gasPrice",
    "max_fee_per_gas": "maxFeePerGas",
    "max_priority_fee_per_gas": "maxPriorityFeePerGas",
    "access_list": "accessList",
}


def explained(error: ContractReverted, reason: str | None = None) -> ContractReverted:
    """The same error with the reason that its data carry."""
    if reason is None and isinstance(error.data, str) and len(error.data) > 2:
        from zerog.client.abi import revert_reason

        reason = revert_reason(data(error.data))
    message = error.message if reason is None or reason in error.message else f"execution reverted: {reason}"
    return ContractReverted(error.code, message, error.data, reason=reason)
