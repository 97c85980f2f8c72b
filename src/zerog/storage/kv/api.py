"""The ``kv_*`` methods and ``admin_addStream``, as 0G's KV node answers them.

Keys travel as base64 text (hexadecimal with one client, see `zerog.storage.api.compatibility`), values as base64.
Methods of zerog's own: ``kv_getChanges``, ``kv_getAccessControl``, ``kv_subscribe``, ``kv_unsubscribe``, and the
members ``waiting`` and ``nextSeq`` in ``kv_getReplayProgress``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Annotated, Any, Protocol

from zerog.chain.methods import Flag, MethodTable, Uint64
from zerog.errors import RpcError, StorageError, ZerogError
from zerog.storage.api import compatibility
from zerog.storage.api.wire import decode_root
from zerog.storage.kv import access
from zerog.storage.kv.replay import FlowReader, Replay
from zerog.storage.kv.store import NEWEST, KvStore, Pair, identity
from zerog.storage.kv.stream import MAX_KEY
from zerog.storage.kv.watch import Push, Watches

MAX_QUERY = 262_144
"""Bytes of a value that one call answers."""
MAX_WHOLE_VALUE = 64 << 20
"""The same for clients that must get a value at once."""
MAX_CHANGES = 1000


class Caller(Protocol):
    """Who called a method (`zerog.chain.methods.Call`)."""

    @property
    def agent(self) -> str | None:
        """The User-Agent header."""
        ...

    @property
    def push(self) -> Push | None:
        """The way to send notifications, over WebSocket."""
        ...


def _account(value: Any) -> bytes:
    if isinstance(value, str):
        digits = value[2:] if value[:2] in ("0x", "0X") else value
        if len(digits) == 40:
            try:
                return binascii.unhexlify(digits)
            except (binascii.Error, ValueError):
                pass
    raise ValueError("an address, 20 bytes as hexadecimal")


StreamId = Annotated[bytes, decode_root]
AccountId = Annotated[bytes, _account]


class KvApi:
    """What the methods work with. ``chain_id`` is asked when a signature is checked; contents are read in ``pool``,
    because that may wait for other nodes, which must not use up the threads that fetching needs."""

    def __init__(
        self,
        flow: FlowReader,
        replay: Replay,
        watches: Watches,
        *,
        chain_id: Callable[[], int],
        caller: Callable[[], Caller],
        pool: Executor,
    ) -> None:
        self.flow = flow
        self.replay = replay
        self.watches = watches
        self.chain_id = chain_id
        self.caller = caller
        self._pool = pool

    @property
    def store(self) -> KvStore:
        """The state."""
        return self.replay.store

    def key(self, value: Any, name: str = "key", *, empty: bool = False) -> bytes:
        """A key as this caller writes it."""
        as_hex = compatibility.writes_keys_as_hex(self.caller().agent)
        form = "0x-hexadecimal" if as_hex else "base64 text"
        if not isinstance(value, str) or len(value) > 2 * MAX_KEY + 2:
            raise compatibility.invalid_params(name, f"a key is written as {form}")
        try:
            if as_hex:
                key = bytes.fromhex(value.removeprefix("0x"))
            else:
                key = base64.b64decode(value, validate=True)
        except ValueError:
            raise compatibility.invalid_params(name, f"a key is written as {form}") from None
        if not key and not empty:
            raise compatibility.invalid_params(name, "key is empty")
        return key

    def key_text(self, key: bytes) -> str:
        """A key as this caller reads it."""
        if compatibility.writes_keys_as_hex(self.caller().agent):
            return "0x" + key.hex()
        return base64.b64encode(key).decode()

    async def value(self, pair: Pair, start: int, length: int) -> dict[str, Any]:
        """``{version, data, size}``: ``length`` bytes of the value from ``start`` on."""
        data = b""
        if length and pair.length:
            if start > pair.length:
                raise compatibility.invalid_params("start_index", "start index is greater than value length")
            stop = min(pair.length, start + length)
            data = await asyncio.get_running_loop().run_in_executor(self._pool, self._read, pair, start, stop)
        return {"version": pair.version, "data": base64.b64encode(data).decode(), "size": pair.length}

    async def pair(self, pair: Pair | None, start: int, length: int) -> dict[str, Any] | None:
        """The same with the key; ``None`` for none."""
        if pair is None:
            return None
        return {**await self.value(pair, start, length), "key": self.key_text(pair.key)}

    def _read(self, pair: Pair, start: int, end: int) -> bytes:
        """Bytes of a value, from the very submission that was applied: a reorganisation may have given its number
        to another one that is not applied yet."""
        submission = self.flow.submission(pair.version)
        if submission is None or self.store.identities(pair.version, 1) != [
            (pair.version, identity(submission))
        ]:
            raise RpcError(-32603, "Internal error", "key data is missing")
        try:
            data = self.replay.content(submission).read(pair.start + start, pair.start + end)
        except (StorageError, ValueError):
            raise RpcError(-32603, "Internal error", "key data is missing") from None
        if self.flow.submission(pair.version) != submission:
            raise RpcError(-32603, "Internal error", "key data is missing")
        return data


METHODS = MethodTable[KvApi]()


def _checked(length: int) -> int:
    if length > MAX_QUERY:
        raise compatibility.invalid_params("len", "query length too large")
    return length


def _before(version: int | None) -> int:
    return NEWEST if version is None else version


@METHODS.handler("kv_getStatus")
async def get_status(kv: KvApi) -> bool:
    return True


@METHODS.handler("kv_getValue")
async def get_value(
    kv: KvApi, stream_id: StreamId, key: Any, start_index: Uint64, len: Uint64, version: Uint64 | None = None
) -> dict[str, Any]:
    length = _checked(len)
    pair = kv.store.get(stream_id, kv.key(key), _before(version))
    if pair is None:
        return {"version": 0, "data": "", "size": 0}
    if compatibility.wants_whole_value(kv.caller().agent, length):
        length = min(pair.length, MAX_WHOLE_VALUE)
    return await kv.value(pair, start_index, length)


async def _neighbour(
    kv: KvApi,
    stream: bytes,
    key: bytes | None,
    start: int,
    length: int,
    version: int | None,
    forward: bool,
    inclusive: bool = False,
) -> dict[str, Any] | None:
    def find() -> Pair | None:
        return kv.store.neighbour(stream, key, _before(version), forward=forward, inclusive=inclusive)

    return await kv.pair(await asyncio.to_thread(find), start, _checked(length))


@METHODS.handler("kv_getNext")
async def get_next(
    kv: KvApi,
    stream_id: StreamId,
    key: Any,
    start_index: Uint64,
    len: Uint64,
    inclusive: Flag,
    version: Uint64 | None = None,
) -> dict[str, Any] | None:
    _checked(len)
    return await _neighbour(kv, stream_id, kv.key(key), start_index, len, version, True, inclusive)


@METHODS.handler("kv_getPrev")
async def get_prev(
    kv: KvApi,
    stream_id: StreamId,
    key: Any,
    start_index: Uint64,
    len: Uint64,
    inclusive: Flag,
    version: Uint64 | None = None,
) -> dict[str, Any] | None:
    _checked(len)
    return await _neighbour(kv, stream_id, kv.key(key), start_index, len, version, False, inclusive)


@METHODS.handler("kv_getFirst")
async def get_first(
    kv: KvApi, stream_id: StreamId, start_index: Uint64, len: Uint64, version: Uint64 | None = None
) -> dict[str, Any] | None:
    return await _neighbour(kv, stream_id, None, start_index, _checked(len), version, True)


@METHODS.handler("kv_getLast")
async def get_last(
    kv: KvApi, stream_id: StreamId, start_index: Uint64, len: Uint64, version: Uint64 | None = None
) -> dict[str, Any] | None:
    return await _neighbour(kv, stream_id, None, start_index, _checked(len), version, False)


@METHODS.handler("kv_getTransactionResult")
async def get_transaction_result(kv: KvApi, tx_seq: Uint64) -> str | None:
    return kv.store.result(tx_seq)


@METHODS.handler("kv_getHoldingStreamIds")
async def get_holding_stream_ids(kv: KvApi) -> list[str]:
    monitor = kv.replay.monitor
    streams = kv.store.written_streams() if monitor.everything else monitor.streams()
    return ["0x" + stream.hex() for stream in streams]


@METHODS.handler("kv_getReplayProgress")
async def get_replay_progress(kv: KvApi) -> dict[str, Any]:
    waiting, known = kv.replay.waiting, kv.flow.next_seq()
    return {
        "appliedSeq": kv.store.progress(),
        "firstTxSeq": 0 if known else None,
        "nextSeq": known,
        "waiting": None
        if waiting is None
        else {
            "txSeq": waiting.seq,
            "root": "0x" + waiting.root.hex(),
            "seconds": round(time.monotonic() - waiting.since, 1),
            "reason": waiting.reason,
        },
    }


# Access control.


@METHODS.handler("kv_hasWritePermission")
async def has_write_permission(
    kv: KvApi, account: AccountId, stream_id: StreamId, key: Any, version: Uint64 | None = None
) -> bool:
    return access.has_write_permission(kv.store, account, stream_id, kv.key(key), _before(version))


@METHODS.handler("kv_isAdmin", *(a for a, name in compatibility.ALIASES.items() if name == "kv_isAdmin"))
async def is_admin(kv: KvApi, account: AccountId, stream_id: StreamId, version: Uint64 | None = None) -> bool:
    return access.is_admin(kv.store, account, stream_id, _before(version))


@METHODS.handler("kv_isSpecialKey")
async def is_special_key(kv: KvApi, stream_id: StreamId, key: Any, version: Uint64 | None = None) -> bool:
    return access.is_special_key(kv.store, stream_id, kv.key(key), _before(version))


@METHODS.handler("kv_isWriterOfKey")
async def is_writer_of_key(
    kv: KvApi, account: AccountId, stream_id: StreamId, key: Any, version: Uint64 | None = None
) -> bool:
    return access.is_writer_of_key(kv.store, account, stream_id, kv.key(key), _before(version))


@METHODS.handler("kv_isWriterOfStream")
async def is_writer_of_stream(
    kv: KvApi, account: AccountId, stream_id: StreamId, version: Uint64 | None = None
) -> bool:
    return access.is_writer_of_stream(kv.store, account, stream_id, _before(version))


@METHODS.handler("kv_getAccessControl")
async def get_access_control(
    kv: KvApi, stream_id: StreamId, version: Uint64 | None = None
) -> list[dict[str, Any]]:
    """The controls in force, ``[{operation, key?, account?}]``."""
    return [
        {
            "operation": control.operation.name,
            **({"key": kv.key_text(control.key)} if control.operation.has_key else {}),
            **(
                {}
                if control.operation.family == access.SPECIAL_KEY
                else {"account": "0x" + control.account.hex()}
            ),
        }
        for control in kv.store.controls(stream_id, _before(version))
    ]


# Streams.


def registration(stream: bytes, wallet: bytes, chain_id: int) -> dict[str, Any]:
    """The EIP-712 typed data that a wallet signs to have a stream monitored."""
    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
            ],
            "RegisterStream": [
                {"name": "purpose", "type": "string"},
                {"name": "wallet", "type": "address"},
                {"name": "streamId", "type": "bytes32"},
            ],
        },
        "primaryType": "RegisterStream",
        "domain": {"name": "0G Storage Scan", "version": "1", "chainId": chain_id},
        "message": {
            "purpose": "register-stream",
            "wallet": "0x" + wallet.hex(),
            "streamId": "0x" + stream.hex(),
        },
    }


@METHODS.handler("admin_addStream")
async def add_stream(kv: KvApi, stream_id: StreamId, wallet: AccountId, signature: Any) -> bool:
    from zerog.chain import keys

    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise compatibility.invalid_params("signature", "not valid hex") from None
    try:
        digest = keys.typed_data_digest(registration(stream_id, wallet, kv.chain_id()))
        # Wallets write the recovery id as 0 and 1, too.
        if len(raw) == 65 and raw[64] < 2:
            raw = raw[:64] + bytes([raw[64] + 27])
        signer = keys.recover(digest, raw)
    except ZerogError as error:
        raise compatibility.invalid_params("signature", f"recovery failed: {error.message}") from None
    if bytes.fromhex(signer[2:]) != wallet:
        raise compatibility.invalid_params("signature", "recovered signer does not match claimed wallet")
    await asyncio.to_thread(kv.replay.add_stream, stream_id)
    return True


# Watching.


@METHODS.handler("kv_getChanges")
async def get_changes(
    kv: KvApi,
    stream_id: StreamId,
    first_version: Uint64,
    limit: Uint64,
    prefix: Any = None,
    after_key: Any = None,
) -> list[dict[str, Any]]:
    """Committed writes ``[{version, key, size}]``, oldest first, from ``firstVersion`` on (in that version: behind
    ``afterKey``). Size 0 is a deletion."""
    pairs = await asyncio.to_thread(
        kv.store.changes,
        stream_id,
        b"" if prefix is None else kv.key(prefix, "prefix", empty=True),
        min(first_version, NEWEST),
        min(limit, MAX_CHANGES),
        b"" if after_key is None else kv.key(after_key, "after_key", empty=True),
    )
    return [{"version": p.version, "key": kv.key_text(p.key), "size": p.length} for p in pairs]


@METHODS.handler("kv_subscribe")
async def subscribe(
    kv: KvApi, stream_id: StreamId, prefix: Any = None, from_version: Uint64 | None = None
) -> str:
    """Notifications of committed writes of a stream, from a version on or from now on; the subscription's id."""
    caller = kv.caller()
    if caller.push is None:
        raise RpcError(-32601, "notifications not supported", "kv_subscribe needs a WebSocket connection")
    start = kv.store.progress() if from_version is None else min(from_version, NEWEST)
    wanted = b"" if prefix is None else kv.key(prefix, "prefix", empty=True)
    as_hex = compatibility.writes_keys_as_hex(caller.agent)
    return kv.watches.add(caller.push, stream_id, wanted, start, as_hex)


@METHODS.handler("kv_unsubscribe")
async def unsubscribe(kv: KvApi, subscription: Any) -> bool:
    """Ends a subscription; false for one that is unknown."""
    return isinstance(subscription, str) and kv.watches.remove(subscription)
