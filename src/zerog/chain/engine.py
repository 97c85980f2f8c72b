"""The engine of a chain as everything above it sees it.

`BlockEngine` is the interface through which blocks are made. It has the shape of ABCI 2.0, so the
embedded sequencer and, later, CometBFT drive the same four calls::

    attributes = engine.next_attributes(now)
    payload = engine.propose(attributes)             # PrepareProposal
    reason = engine.process_proposal(payload)        # ProcessProposal: None accepts
    block = engine.finalize_block(payload)           # FinalizeBlock: executed, not visible
    head = engine.commit()                           # Commit: one database transaction

`ChainEngine` is its implementation over the native engine, with typed values and the exceptions of
`zerog.errors`. Every method may be called from any thread; those that take longer than 20 µs
release the GIL. Blocks are made by one thread at a time (see `zerog.chain.sequencer`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from zerog.errors import native_errors

if TYPE_CHECKING:
    from zerog import _native

Work = Literal["ready", "timeout", "closed"]
Attributes = dict[str, Any]
"""What the proposer chooses about a block: the JSON object of the native engine, decoded."""


class Head(msgspec.Struct, frozen=True, rename="camel"):
    """The newest committed block. ``version`` counts blocks and devnet edits."""

    number: int
    hash: str
    state_root: str
    timestamp: int
    version: int = 0


class FinalizedBlock(msgspec.Struct, frozen=True, rename="camel"):
    """A block that is executed and not yet committed."""

    number: int
    hash: str
    state_root: str
    gas_used: int
    transactions: int
    app_hash: str
    validator_updates: list[Any] = []


class StateCheck(msgspec.Struct, frozen=True, rename="camel"):
    """The state root of the head, and the same root rebuilt from the flat state."""

    state_root: str
    rebuilt: str
    equal: bool


class Controls(msgspec.Struct, frozen=True, rename="camel"):
    """Knobs of a devnet that shape the next block. Times in seconds, fees in wei."""

    time_offset: int = 0
    next_timestamp: int | None = None
    timestamp_interval: int | None = None
    next_base_fee: int | None = None
    next_prevrandao: str | None = None
    coinbase: str = "0x" + "00" * 20
    gas_limit: int = 30_000_000
    auto_impersonate: bool = False
    impersonated: list[str] = []


class BlockEngine(Protocol):
    """Makes blocks: the ABCI 2.0 life cycle, and the wait for something to put into one."""

    def wait_work(self, timeout_ms: int) -> Work: ...

    def wake(self) -> None: ...

    def next_attributes(self, now: int) -> Attributes: ...

    def propose(self, attributes: Attributes) -> bytes: ...

    def process_proposal(self, payload: bytes) -> str | None: ...

    def finalize_block(self, payload: bytes) -> FinalizedBlock: ...

    def commit(self) -> Head: ...


_head = msgspec.json.Decoder(Head)
_block = msgspec.json.Decoder(FinalizedBlock)
_controls = msgspec.json.Decoder(Controls)
_check = msgspec.json.Decoder(StateCheck)
_any = msgspec.json.Decoder()
# Python names of the controls → those of the native engine.
_CONTROL_KEYS = dict(zip(Controls.__struct_fields__, Controls.__struct_encode_fields__, strict=True))


class ChainEngine:
    """The native engine with typed values; see the module's docstring for the life of a block."""

    def __init__(self, native: _native.Engine) -> None:
        self.native = native

    @classmethod
    def open(cls, config: Mapping[str, Any]) -> ChainEngine:
        """Opens or creates a chain.

        Raises `DataDirError` and its kin for the directory, `GenesisError` for the genesis.
        """
        from zerog import _native

        with native_errors():
            return cls(_native.Engine.open(msgspec.json.encode(config).decode()))

    # Making blocks.

    def wait_work(self, timeout_ms: int) -> Work:
        """Sleeps until the pool has an executable transaction, `wake`, the time is up, or `close`."""
        return self.native.wait_work(timeout_ms)  # type: ignore[return-value]

    def wake(self) -> None:
        """Ends a `wait_work` of another thread."""
        self.native.wake()

    def next_attributes(self, now: int) -> Attributes:
        """Attributes of the next block under the controls; ``now`` in UNIX seconds."""
        with native_errors():
            attributes: Attributes = _any.decode(self.native.next_attributes(now))
            return attributes

    def propose(self, attributes: Attributes) -> bytes:
        """Builds and executes the next block from the pool; the payload describes it fully."""
        with native_errors():
            return self.native.propose(msgspec.json.encode(attributes).decode())

    def process_proposal(self, payload: bytes) -> str | None:
        """``None`` when every claim of the payload holds, else the reason for its refusal."""
        with native_errors():
            return self.native.process_proposal(payload)

    def finalize_block(self, payload: bytes) -> FinalizedBlock:
        """Executes the payload (or reuses its execution); nothing is visible yet."""
        with native_errors():
            return _block.decode(self.native.finalize_block(payload))

    def commit(self) -> Head:
        """Makes the finalized block durable and visible, in one database transaction."""
        with native_errors():
            return _head.decode(self.native.commit())

    # Reading.

    def head(self) -> Head:
        """The newest committed block."""
        return _head.decode(self.native.head())

    def request(self, method: str, params: list[Any] | dict[str, Any] | None = None) -> Any:
        """Answers a native JSON-RPC method in process; raises `RpcError` as a client would see it."""
        with native_errors():
            text = self.native.request(method, msgspec.json.encode([] if params is None else params).decode())
        return _any.decode(text)

    def verify_state(self) -> StateCheck:
        """Rebuilds the state root of the head from the flat state. O(state)."""
        with native_errors():
            return _check.decode(self.native.verify_state())

    # Devnet edits. Each is one new version of the state.

    def set_automine(self, on: bool) -> None:
        """Whether senders of transactions are answered only after their block."""
        self.native.set_automine(on)

    def controls(self) -> Controls:
        """The present controls."""
        return _controls.decode(self.native.controls(None))

    def update_controls(self, **fields: Any) -> Controls:
        """Changes the named controls (`Controls` fields; ``None`` clears an option)."""
        update = {_CONTROL_KEYS[name]: value for name, value in fields.items()}
        with native_errors():
            return _controls.decode(self.native.controls(msgspec.json.encode(update).decode()))

    def edit(self, delta: Mapping[str, Mapping[str, Any]]) -> None:
        """Merges account changes into the state: address → balance, nonce, code, storage."""
        with native_errors():
            self.native.edit(msgspec.json.encode(delta).decode())

    def snapshot(self) -> int:
        """Marks the present version; see `revert`."""
        with native_errors():
            return self.native.snapshot()

    def revert(self, snapshot: int) -> bool:
        """Back to a snapshot, which is consumed with all later ones; False for an unknown id."""
        with native_errors():
            return self.native.revert(snapshot)

    def rollback(self, number: int, *, reinject: bool) -> None:
        """Back to block ``number``; ``reinject`` puts the transactions of dropped blocks into the pool."""
        with native_errors():
            self.native.rollback(number, reinject)

    def reset(self) -> None:
        """Back to the genesis block as it was made, without edits, snapshots and pending transactions."""
        with native_errors():
            self.native.reset()

    def drop_transaction(self, transaction: str) -> bool:
        """Takes one transaction out of the pool; False when it is not there."""
        with native_errors():
            return self.native.drop_transaction(transaction)

    def drop_all_transactions(self) -> None:
        """Empties the pool."""
        with native_errors():
            self.native.drop_all_transactions()

    def drop_sender(self, address: str) -> int:
        """Takes all transactions of one sender out of the pool; how many there were."""
        with native_errors():
            return self.native.drop_sender(address)

    # Whole chains. Files are streamed.

    def import_blocks(self, path: Path, progress: Callable[[int], None] | None = None) -> int:
        """Executes and commits the RLP blocks of a file; how many. ``progress`` gets block numbers."""
        with native_errors():
            return self.native.import_blocks(str(path), progress)

    def export_blocks(self, path: Path, first: int, last: int) -> int:
        """Writes blocks ``first`` to ``last`` as RLP, one after another; how many."""
        with native_errors():
            return self.native.export_blocks(str(path), first, last)

    def dump_state(self, path: Path) -> None:
        """Writes the whole state of the head to a file."""
        with native_errors():
            self.native.dump_state(str(path))

    def load_state(self, path: Path) -> None:
        """Merges a file of `dump_state` into the state."""
        with native_errors():
            self.native.load_state(str(path))

    def serve(
        self,
        config: Mapping[str, Any],
        dispatch: Callable[[str, bytes, _native.Reply], None],
        methods: list[str],
        http: Callable[[_native.HttpRequest], None] | None = None,
    ) -> _native.Server:
        """Starts the server; ``methods`` are answered through ``dispatch``, the path prefixes in
        ``config["routes"]`` through ``http``. Both return soon."""
        with native_errors():
            return self.native.serve(msgspec.json.encode(config).decode(), dispatch, methods, http)

    def close(self) -> None:
        """Flushes and closes; calls that wait return ``"closed"``."""
        self.native.close()


def serve_alone(
    config: Mapping[str, Any],
    dispatch: Callable[[str, bytes, _native.Reply], None],
    methods: list[str],
    http: Callable[[_native.HttpRequest], None] | None = None,
) -> _native.Server:
    """The server of `ChainEngine.serve` without a chain: only ``methods`` and routes answer."""
    from zerog import _native

    with native_errors():
        return _native.serve_alone(msgspec.json.encode(config).decode(), dispatch, methods, http)
