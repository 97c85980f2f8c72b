"""`Devnet`: a whole chain inside this process, for tests and notebooks.

::

    with Devnet() as net:
        alice, bob = net.accounts[:2]
        net.client.send(account=alice, to=bob, value=10**18)
        with net.anchor():                   # everything inside is undone
            net.increase_time(3600)
            net.mine()

It is the node that ``zerog up`` starts, with the same rules and the same JSON-RPC server on a free
port (`Devnet.url`), so other clients can join. `Devnet.client` talks to it without HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from zerog.client.accounts import Account
from zerog.client.client import Client, Target, address_of
from zerog.client.transport import LocalTransport
from zerog.errors import ZerogError
from zerog.node import config as settings
from zerog.node.devnet import Node
from zerog.node.stack import compose

# Controls that hold for every later block; those of a single block are gone after a revert.
_CONTROLS_KEPT = ("timestamp_interval", "coinbase", "gas_limit", "auto_impersonate", "impersonated")


class Devnet:
    """A chain that lives as long as its ``with`` block (or until `stop`)."""

    def __init__(
        self,
        *,
        accounts: int = 10,
        balance: int = 10_000,
        mnemonic: str | None = None,
        chain_id: int | None = None,
        hardfork: str | None = None,
        block_time: float | None = None,
        mining: str | None = None,
        timestamp: int | None = None,
        auto_impersonate: bool = False,
        port: int = 0,
        data_dir: str | Path | None = None,
        services: Sequence[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepares a devnet; `start` or ``with`` runs it.

        ``balance`` in tokens, ``block_time`` and ``timestamp`` in seconds. Without ``data_dir``
        nothing is kept. ``services`` names what runs beside the chain, for example ``["storage"]`` (see
        `zerog.node.stack`). ``options`` sets any option of the configuration by its dotted name, for
        example ``{"chain.gas_limit": 60_000_000}``.
        """
        if mining is None and block_time is not None:
            mining = "interval"
        self._config = settings.load(
            None,
            {
                "node.ephemeral": data_dir is None,
                "node.data_dir": None if data_dir is None else str(data_dir),
                "accounts.count": accounts,
                "accounts.balance": balance,
                "accounts.mnemonic": mnemonic,
                "accounts.auto_impersonate": auto_impersonate,
                "chain.chain_id": chain_id,
                "chain.hardfork": hardfork,
                "chain.timestamp": timestamp,
                "mining.mode": mining,
                "mining.block_time": block_time,
                "rpc.port": port,
                **(options or {}),
            },
        )
        self._services = tuple(services)
        self._node: Node | None = None
        self._client: Client | None = None
        self._accounts: list[Account] = []

    # Its life.

    def start(self) -> Devnet:
        """Starts the chain; raises `ZerogError` when that fails."""
        if self._node is not None:
            raise ZerogError("the devnet is running already")
        node = Node(self._config, services=partial(compose, only=self._services)).start()
        self._node = node
        self._accounts = [Account(account.key) for account in node.accounts]
        first = self._accounts[0] if self._accounts else None
        self._client = Client(transport=LocalTransport(node.request), account=first, storage_url=node.url)
        return self

    def stop(self) -> None:
        """Stops the chain; it can be started again (from nothing, without a data directory)."""
        if self._node is not None:
            self._node.stop()
            self._node = None
            self._client = None

    def __enter__(self) -> Devnet:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def node(self) -> Node:
        """The running node."""
        if self._node is None:
            raise ZerogError("the devnet is not running", hint="use `with Devnet() as net:` or call start()")
        return self._node

    @property
    def client(self) -> Client:
        """A client without HTTP; it sends from the first account."""
        if self._client is None:
            raise ZerogError("the devnet is not running", hint="use `with Devnet() as net:` or call start()")
        return self._client

    @property
    def accounts(self) -> list[Account]:
        """The funded accounts."""
        return self._accounts

    @property
    def url(self) -> str:
        """HTTP address for other clients."""
        return self.node.url

    @property
    def ws_url(self) -> str:
        """WebSocket address for other clients."""
        return self.node.ws_url

    @property
    def chain_id(self) -> int:
        """The chain id."""
        return self.node.chain_id

    # Control.

    def mine(self, blocks: int = 1, interval: int | None = None) -> int:
        """Makes blocks, ``interval`` seconds apart; the number of the head."""
        self.client.request("anvil_mine", blocks, interval)
        return self.node.engine.head().number

    def snapshot(self) -> str:
        """Marks chain and state; the id for `revert`."""
        return str(self.client.request("evm_snapshot"))

    def revert(self, snapshot: str) -> None:
        """Back to a snapshot, which is used up; raises `ZerogError` for an unknown one."""
        if not self.client.request("evm_revert", snapshot):
            raise ZerogError(f"there is no snapshot {snapshot}; each can be reverted to once")

    @contextmanager
    def anchor(self) -> Iterator[None]:
        """Undoes on exit whatever happened inside: blocks, state, clock, mining mode, impersonation, pool."""
        node, mark = self.node, self.snapshot()
        mining, controls = node.sequencer.mining, node.engine.controls()
        try:
            yield
        finally:
            node.sequencer.run(node.engine.drop_all_transactions)
            self.revert(mark)
            node.sequencer.set_mining(mining)
            kept = {name: getattr(controls, name) for name in _CONTROLS_KEPT}
            node.sequencer.run(lambda: node.engine.update_controls(**kept))

    def increase_time(self, seconds: int) -> None:
        """Moves the clock; the next block shows it."""
        self.client.request("evm_increaseTime", seconds)

    def set_next_timestamp(self, timestamp: int) -> None:
        """Exact time of the next block, UNIX seconds."""
        self.client.request("evm_setNextBlockTimestamp", timestamp)

    def set_balance(self, target: Target, wei: int) -> None:
        """Sets a balance."""
        self.client.request("anvil_setBalance", address_of(target), hex(wei))

    def set_code(self, target: Target, code: bytes) -> None:
        """Sets the runtime code of an account."""
        self.client.request("anvil_setCode", address_of(target), "0x" + code.hex())

    def set_storage(self, target: Target, slot: int, value: int) -> None:
        """Sets a storage slot."""
        self.client.request("anvil_setStorageAt", address_of(target), f"0x{slot:064x}", f"0x{value:064x}")

    @contextmanager
    def impersonate(self, target: Target) -> Iterator[str]:
        """Sends from ``target`` without its key: pass what it yields as ``account=``."""
        address = address_of(target)
        self.client.request("anvil_impersonateAccount", address)
        try:
            yield address
        finally:
            self.client.request("anvil_stopImpersonatingAccount", address)

    def __repr__(self) -> str:
        if self._node is None:
            return "<Devnet stopped>"
        head = self.node.engine.head()
        return f"<Devnet chain {self.chain_id} block {head.number} {self.url}>"
