"""`Kv`: streams of keys and values, written as files of the storage network.

::

    kv = Client().kv
    book = kv.stream("0x…f2bd")
    book.set("k1", b"v1-value")                      # one upload; waits until the node has committed it
    book.get("k1")                                   # b"v1-value"
    book.update("count", lambda old: b"%d" % (int(old or 0) + 1))
    with book.transaction() as change:               # all or nothing, on what was read
        change.set("b", change.get("a") or b"")
        change.delete("a")
    for event in book.watch(prefix="k"):             # committed changes, as they come
        print(event.key, event.value)

Versions are sequence numbers of the flow. A transaction reads one version of the stream and is committed only if
no key that it read or wrote has changed since; otherwise `StreamWriteRefused` says ``VersionConfliction``.

`Stream.watch` listens over WebSocket where the package ``websockets`` is installed and the node is reached by
HTTP; otherwise it asks ``kv_getChanges`` again and again. Both go on from the last version after a failure.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from zerog.errors import RpcError, StorageError, StreamWriteRefused, TransportError
from zerog.storage.kv.stream import ANY_VERSION, Control, Operation, Read, StreamData, Write, tags_of

if TYPE_CHECKING:
    from zerog.client.client import Client
    from zerog.storage.transfer.encryption import Encryption

Key = str | bytes
Upload = Callable[[bytes, bytes], int]
"""``(content, tags)`` to the sequence number of a new submission, once its data is stored."""
PIECE = 262_144
"""Bytes of a value per request."""
PAGE = 500
VERSION_CONFLICT = "VersionConfliction"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value and the version that wrote it."""

    key: bytes
    value: bytes
    version: int


@dataclass(frozen=True, slots=True)
class Change:
    """A committed write. ``value`` is ``None`` for a deletion.

    ``reverted`` instead of a key: versions from that one on were taken back; what holds now follows.
    """

    version: int
    key: bytes = b""
    value: bytes | None = None
    reverted: bool = False


def stream_id(value: str | bytes | int) -> bytes:
    """A stream id, 32 bytes: from bytes, hexadecimal or a number; raises `ValueError`."""
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    raw = bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else value
    if len(raw) != 32:
        raise ValueError(f"a stream id has 32 bytes; this has {len(raw)}")
    return raw


def _bytes(key: Key) -> bytes:
    return key.encode() if isinstance(key, str) else bytes(key)


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _account(value: Any) -> bytes:
    raw = bytes.fromhex(str(getattr(value, "address", value)).removeprefix("0x"))
    if len(raw) != 20:
        raise ValueError(f"an address has 20 bytes; this has {len(raw)}")
    return raw


class Kv:
    """The KV layer of a node; ``upload`` stores a file, by default through ``client.storage``.

    ``encryption`` is what writes are encrypted with: a node that has a key (``kv.key_file``) takes no others, and
    one without it none of these.
    """

    def __init__(
        self,
        client: Client,
        *,
        upload: Upload | None = None,
        timeout: float = 60.0,
        encryption: Encryption | None = None,
    ) -> None:
        """``timeout`` in seconds for a write to be committed."""
        self.client = client
        self.timeout = timeout
        self.encryption = encryption
        self._upload = upload

    def stream(self, identifier: str | bytes | int) -> Stream:
        """A stream; it exists from its first write on."""
        return Stream(self, stream_id(identifier))

    def streams(self) -> list[str]:
        """Ids of the streams that the node holds."""
        return list(self.client.request("kv_getHoldingStreamIds"))

    def progress(self) -> dict[str, Any]:
        """``appliedSeq``: the next submission to be applied; ``waiting``: what replay waits for."""
        answer: dict[str, Any] = self.client.request("kv_getReplayProgress")
        return answer

    def result(self, seq: int) -> str | None:
        """What became of a transaction; ``None`` when it was not replayed, or is none of a KV stream."""
        answer: str | None = self.client.request("kv_getTransactionResult", seq)
        return answer

    def write(self, data: StreamData) -> int:
        """Uploads a transaction and waits until it is committed; its version.

        Raises `StreamWriteRefused`, or `StorageError` when the node does not replay it in time.
        """
        seq = self._uploaded(data.encode(), tags_of(data.streams()))
        deadline, pause = time.monotonic() + self.timeout, 0.01
        while (result := self.result(seq)) is None:
            if time.monotonic() > deadline:
                waiting = self.progress().get("waiting")
                raise StorageError(
                    f"KV transaction {seq} was not replayed within {self.timeout:g} s",
                    hint=f"the node waits for submission {waiting['txSeq']}: {waiting['reason']}"
                    if waiting
                    else None,
                )
            time.sleep(pause)
            pause = min(0.25, pause * 1.5)
        if result != "Commit":
            raise StreamWriteRefused(seq, result)
        return seq

    def _uploaded(self, content: bytes, tags: bytes) -> int:
        if self._upload is not None:
            return self._upload(content, tags)
        # The same bytes again are another transaction, which must not be left out.
        storage: Any = self.client.storage
        stored = storage.put(content, tags=tags, again=True, fragment=1 << 46, encryption=self.encryption)
        return int(stored.seqs[0])


class Stream:
    """A stream of a node."""

    def __init__(self, kv: Kv, identifier: bytes) -> None:
        self._kv = kv
        self.id = identifier
        self._hex = "0x" + identifier.hex()

    def __repr__(self) -> str:
        return f"<Stream {self._hex}>"

    def _ask(self, method: str, *params: Any) -> Any:
        return self._kv.client.request(method, self._hex, *params)

    # Reading.

    def entry(self, key: Key, *, version: int | None = None) -> Entry | None:
        """The key as it was at ``version`` (now by default); ``None`` when it is not there."""
        raw = _bytes(key)
        pieces: list[bytes] = []
        start = 0
        while True:
            answer = self._ask("kv_getValue", _text(raw), start, PIECE, version)
            if not answer["size"]:
                return None
            # All pieces must come from one version, even if somebody writes meanwhile.
            version = answer["version"]
            pieces.append(base64.b64decode(answer["data"]))
            start += len(pieces[-1])
            if start >= answer["size"]:
                return Entry(raw, b"".join(pieces), answer["version"])
            if not pieces[-1]:
                raise StorageError(f"the node gave {start} of {answer['size']} bytes of key {raw!r}")

    def get(self, key: Key, default: bytes | None = None, *, version: int | None = None) -> bytes | None:
        """The value of a key; ``default`` when it is not there."""
        found = self.entry(key, version=version)
        return default if found is None else found.value

    def keys(self, prefix: Key = b"", *, version: int | None = None) -> Iterator[bytes]:
        """Keys in ascending order, as they are at one version."""
        wanted = _bytes(prefix)
        at = self._newest() if version is None else version
        found = (
            self._ask("kv_getNext", _text(wanted), 0, 0, True, at)
            if wanted
            else self._ask("kv_getFirst", 0, 0, at)
        )
        while found is not None:
            key = base64.b64decode(found["key"])
            if not key.startswith(wanted):
                return
            yield key
            found = self._ask("kv_getNext", found["key"], 0, 0, False, at)

    def items(self, prefix: Key = b"", *, version: int | None = None) -> Iterator[Entry]:
        """Keys with their values in ascending order, as they are at one version."""
        at = self._newest() if version is None else version
        for key in self.keys(prefix, version=at):
            found = self.entry(key, version=at)
            if found is not None:
                yield found

    def _newest(self) -> int:
        """The last version that the node has applied."""
        return max(0, int(self._kv.progress()["appliedSeq"]) - 1)

    # Writing.

    def set(self, key: Key, value: bytes | str, *, if_version: int = ANY_VERSION) -> int:
        """Sets a key; the version written. With ``if_version`` only if the key is not newer than that."""
        return self.set_many({key: value}, if_version=if_version)

    def set_many(self, values: Mapping[Any, bytes | str], *, if_version: int = ANY_VERSION) -> int:
        """Sets many keys in one transaction; an empty value deletes."""
        writes = [Write(self.id, _bytes(key), _bytes(value)) for key, value in values.items()]
        return self._kv.write(StreamData(if_version, writes=writes))

    def delete(self, *keys: Key) -> int:
        """Deletes keys in one transaction; the version written."""
        return self.set_many(dict.fromkeys(keys, b""))

    def transaction(self) -> Transaction:
        """Reads and writes that happen together or not at all; use it in a ``with`` statement."""
        return Transaction(self)

    def update(self, key: Key, change: Callable[[bytes | None], bytes], *, attempts: int = 10) -> int:
        """Replaces a value by ``change(old value)``; tries again when somebody else was faster."""
        for attempt in range(attempts):
            transaction = self.transaction()
            transaction.set(key, change(transaction.get(key)))
            try:
                return transaction.commit()
            except StreamWriteRefused as refused:
                if refused.result != VERSION_CONFLICT or attempt == attempts - 1:
                    raise
        raise ValueError("attempts must be at least 1")

    # Access control.

    def control(self, *controls: tuple[Operation, Key, Any]) -> int:
        """Gives controls in one transaction: ``(operation, key or b"", account or None)``."""
        encoded = [
            Control(operation, self.id, _bytes(key), bytes(20) if account is None else _account(account))
            for operation, key, account in controls
        ]
        return self._kv.write(StreamData(controls=encoded))

    def grant_writer(self, account: Any, key: Key | None = None) -> int:
        """Lets an account write the normal keys, or one special key."""
        if key is None:
            return self.control((Operation.GRANT_WRITER_ROLE, b"", account))
        return self.control((Operation.GRANT_SPECIAL_WRITER_ROLE, key, account))

    def revoke_writer(self, account: Any, key: Key | None = None) -> int:
        """Takes that back."""
        if key is None:
            return self.control((Operation.REVOKE_WRITER_ROLE, b"", account))
        return self.control((Operation.REVOKE_SPECIAL_WRITER_ROLE, key, account))

    def grant_admin(self, account: Any) -> int:
        """Makes an account an administrator; only itself can give that up."""
        return self.control((Operation.GRANT_ADMIN_ROLE, b"", account))

    def renounce_admin(self) -> int:
        """Gives up the administration."""
        return self.control((Operation.RENOUNCE_ADMIN_ROLE, b"", None))

    def renounce_writer(self, key: Key | None = None) -> int:
        """Gives up writing the normal keys, or one special key."""
        if key is None:
            return self.control((Operation.RENOUNCE_WRITER_ROLE, b"", None))
        return self.control((Operation.RENOUNCE_SPECIAL_WRITER_ROLE, key, None))

    def set_special(self, key: Key, special: bool = True) -> int:
        """Keeps a key to its special writers, or opens it to all writers again."""
        operation = Operation.SET_KEY_TO_SPECIAL if special else Operation.SET_KEY_TO_NORMAL
        return self.control((operation, key, None))

    def roles(self) -> list[dict[str, Any]]:
        """The controls in force: ``{operation, key?, account?}``, keys as bytes."""
        return [
            {**row, "key": base64.b64decode(row["key"])} if "key" in row else row
            for row in self._ask("kv_getAccessControl")
        ]

    def can_write(self, account: Any, key: Key) -> bool:
        """Whether an account may write a key."""
        address = "0x" + _account(account).hex()
        return bool(self._kv.client.request("kv_hasWritePermission", address, self._hex, _text(_bytes(key))))

    def is_admin(self, account: Any) -> bool:
        """Whether an account administrates the stream."""
        return bool(self._kv.client.request("kv_isAdmin", "0x" + _account(account).hex(), self._hex))

    # Watching.

    def watch(
        self,
        prefix: Key = b"",
        *,
        from_version: int | None = None,
        timeout: float | None = None,
        poll: float = 0.25,
    ) -> Iterator[Change]:
        """Committed changes, from a version on (by default: from now on), as they come.

        Ends after ``timeout`` seconds without a change. ``poll`` in seconds, where there is no WebSocket.
        """
        source = _source(self, _bytes(prefix), from_version, poll)
        quiet = time.monotonic()
        try:
            while timeout is None or time.monotonic() - quiet < timeout:
                for change in source.next(poll):
                    yield change
                    quiet = time.monotonic()
        finally:
            source.close()

    async def awatch(
        self, prefix: Key = b"", *, from_version: int | None = None, poll: float = 0.25
    ) -> AsyncIterator[Change]:
        """The same for ``async for``; ends when it is cancelled."""
        import asyncio

        source = await asyncio.to_thread(_source, self, _bytes(prefix), from_version, poll)
        try:
            while True:
                for change in await asyncio.to_thread(source.next, poll):
                    yield change
        finally:
            source.close()

    def _change(self, raw: dict[str, Any]) -> Change | None:
        """What a notification means; ``None`` when the write was taken back meanwhile, which is told next."""
        key = base64.b64decode(raw["key"])
        if not raw["size"]:
            return Change(raw["version"], key)
        try:
            found = self.entry(key, version=raw["version"])
        except RpcError:
            # Its data went with a reorganisation; any other trouble is there still.
            found = self.entry(key, version=raw["version"])
        if found is None or found.version != raw["version"]:
            return None
        return Change(found.version, key, found.value)


class Transaction:
    """Reads and writes on one version of a stream (see `Stream.transaction`)."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reads: dict[bytes, bytes | None] = {}
        self._writes: dict[bytes, bytes] = {}
        self.version = stream._newest()
        self.committed: int | None = None

    def get(self, key: Key) -> bytes | None:
        """The value of a key, with what this transaction has set; ``None`` when it is not there."""
        raw = _bytes(key)
        if raw in self._writes:
            return self._writes[raw] or None
        if raw not in self._reads:
            self._reads[raw] = self._stream.get(raw, version=self.version)
        return self._reads[raw]

    def set(self, key: Key, value: bytes | str) -> None:
        """Sets a key."""
        self._writes[_bytes(key)] = _bytes(value)

    def delete(self, key: Key) -> None:
        """Deletes a key."""
        self._writes[_bytes(key)] = b""

    def commit(self) -> int:
        """Writes; the version written. Raises `StreamWriteRefused` when a key has changed since it was read."""
        identifier = self._stream.id
        reads = [Read(identifier, key) for key in self._reads if key not in self._writes]
        writes = [Write(identifier, key, value) for key, value in self._writes.items()]
        self.committed = self._stream._kv.write(StreamData(self.version, reads, writes))
        return self.committed

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and self._writes:
            self.commit()


class _Source(Protocol):
    def next(self, wait: float) -> list[Change]: ...

    def close(self) -> None: ...


def _source(stream: Stream, prefix: bytes, version: int | None, poll: float) -> _Source:
    start = int(stream._kv.progress()["appliedSeq"]) if version is None else version
    url = getattr(stream._kv.client.transport, "url", None)
    if isinstance(url, str) and url.startswith("http") and importlib.util.find_spec("websockets"):
        return _Socket(stream, prefix, start, url.replace("http", "ws", 1))
    return _Polling(stream, prefix, start)


class _Polling:
    """Asks for changes; a change that was taken back between two questions is seen by its new version only."""

    def __init__(self, stream: Stream, prefix: bytes, version: int) -> None:
        self._stream, self._prefix, self._version, self._after = stream, prefix, version, b""

    def next(self, wait: float) -> list[Change]:
        applied = int(self._stream._kv.progress()["appliedSeq"])
        changes: list[Change] = []
        if applied < self._version:
            # The chain was reorganised below what has been told.
            self._version, self._after = applied, b""
            changes.append(Change(applied, reverted=True))
        page = self._stream._ask(
            "kv_getChanges", self._version, PAGE, _text(self._prefix), _text(self._after)
        )
        for raw in page:
            change = self._stream._change(raw)
            if change is not None:
                changes.append(change)
            self._version, self._after = raw["version"], base64.b64decode(raw["key"])
        if not page:
            if self._after and applied > self._version:
                self._version, self._after = self._version + 1, b""
            time.sleep(wait)
        return changes

    def close(self) -> None:
        return None


class _Socket:
    """Listens to notifications; connects again from the last version when the connection is lost."""

    def __init__(self, stream: Stream, prefix: bytes, version: int, url: str) -> None:
        self._stream, self._prefix, self._url = stream, prefix, url
        self._version, self._told = version, set[bytes]()
        self._socket: Any = None
        self._open = ExitStack()
        self._connect()

    def _connect(self) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        request = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "kv_subscribe",
            "params": ["0x" + self._stream.id.hex(), _text(self._prefix), self._version],
        }
        try:
            self._socket = self._open.enter_context(connect(self._url, max_size=1 << 26, compression=None))
            self._socket.send(json.dumps(request))
            answer = json.loads(self._socket.recv(timeout=30))
        except (OSError, WebSocketException, ValueError) as error:
            raise TransportError(f"{self._url} cannot be watched: {error}") from None
        if "error" in answer:
            raise RpcError(answer["error"]["code"], answer["error"]["message"], answer["error"].get("data"))

    def next(self, wait: float) -> list[Change]:
        from websockets.exceptions import ConnectionClosed

        if self._socket is None:
            try:
                self._connect()
            except TransportError:
                self.close()
                time.sleep(wait)
                return []
        try:
            raw = json.loads(self._socket.recv(timeout=wait))["params"]["result"]
        except TimeoutError:
            return []
        except (ConnectionClosed, OSError):
            self.close()
            return []
        if "reverted" in raw:
            self._version, self._told = raw["reverted"], set()
            return [Change(raw["reverted"], reverted=True)]
        change = self._stream._change(raw)
        if change is None:
            return []
        if change.version != self._version:
            self._version, self._told = change.version, set()
        elif change.key in self._told:
            return []
        self._told.add(change.key)
        return [change]

    def close(self) -> None:
        with suppress(Exception):
            self._open.close()
        self._socket = None
