"""Submitting files to the flow contract, and paying for each only once.

Before anything is paid, three places are asked in turn: the nodes (by the caller), the journal of this user, and
the ``Submit`` events of the own account on chain. The journal is written before a transaction leaves: its nonce
and, when it was signed here, the signed transaction itself. An attempt after a crash, a timeout or Ctrl-C sends
that same transaction again or waits for it; the nonce makes it impossible that both are executed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import msgspec

from zerog.chain.keys import keccak256
from zerog.errors import RpcError, StorageError, TransactionError, WaitTimeout
from zerog.storage.layout import MAX_FILE_SIZE

SUBMIT_TOPIC = "0x167ce04d2aa1981994d3a31695da0d785373335b1078cec239a1a3a2c7675555"
_SUBMIT = bytes.fromhex("bc8c11f8")
_BATCH_SUBMIT = bytes.fromhex("49aa3395")
_MARKET = "0x80f55605"
_PRICE = "0x61ec5082"
_PAGE = 900
_RECENT_PAGES = 12
BATCH = 50
"""Files of one transaction, at most: about 10 million gas."""
Request = Callable[..., Any]
"""``request(method, *params)`` of the chain."""


class Payer(Protocol):
    """An account that sends transactions."""

    @property
    def address(self) -> str: ...

    def prepare(self, to: str, data: bytes, value: int) -> Prepared:
        """A complete transaction with its nonce, signed when the key is here; not sent."""
        ...

    def broadcast(self, prepared: Prepared) -> str:
        """Sends it; its hash. Raises `RpcError`."""
        ...


class Prepared(msgspec.Struct, frozen=True):
    """A transaction that is about to be sent: ``raw`` and ``hash`` are empty when the node signs."""

    sender: str
    nonce: int
    to: str
    data: str
    value: str
    raw: str = ""
    hash: str = ""
    gas: str = ""


class Entry(msgspec.Struct):
    """What the journal knows about one file's submission."""

    identity: str
    transaction: Prepared
    block: int
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """A file to be submitted: the tree's root and nodes, its size in bytes, free tags."""

    root: bytes
    size: int
    nodes: tuple[tuple[bytes, int], ...]
    tags: bytes = b""

    @property
    def sectors(self) -> int:
        """Sectors that are charged."""
        return sum(1 << height for _, height in self.nodes)

    @property
    def identity(self) -> bytes:
        """The indexed identity of the ``Submit`` event."""
        return keccak256(b"".join(root for root, _ in self.nodes))


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submission on chain. ``cost`` in wei is the file's part of the fee, 0 when nothing was paid now."""

    seq: int
    start: int
    size: int
    transaction: str
    block: int
    cost: int = 0


# ABI.


def _word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _submission(item: Item, submitter: bytes) -> bytes:
    """``((uint256 length, bytes tags, (bytes32,uint256)[] nodes), address)``."""
    tags = _word(len(item.tags)) + item.tags + bytes(-len(item.tags) % 32)
    nodes = _word(len(item.nodes)) + b"".join(root + _word(height) for root, height in item.nodes)
    data = _word(item.size) + _word(96) + _word(96 + len(tags)) + tags + nodes
    return _word(64) + bytes(12) + submitter + data


def call_data(items: Sequence[Item], submitter: str) -> bytes:
    """Input of ``submit`` for one file, of ``batchSubmit`` for several."""
    account = bytes.fromhex(submitter.removeprefix("0x"))
    encoded = [_submission(item, account) for item in items]
    if len(encoded) == 1:
        return _SUBMIT + _word(32) + encoded[0]
    heads, at = b"", 32 * len(encoded)
    for one in encoded:
        heads, at = heads + _word(at), at + len(one)
    return _BATCH_SUBMIT + _word(32) + _word(len(encoded)) + heads + b"".join(encoded)


def submitted_of(log: Any) -> tuple[bytes, bytes, Submitted]:
    """Identity, tags and place of a ``Submit`` event; raises `StorageError`."""
    try:
        identity, raw = bytes.fromhex(log["topics"][2][2:]), bytes.fromhex(log["data"][2:])
        words = [int.from_bytes(raw[at : at + 32], "big") for at in range(0, 128, 32)]
        seq, start, _, at = words
        size = int.from_bytes(raw[at : at + 32], "big")
        tags_at = at + int.from_bytes(raw[at + 32 : at + 64], "big")
        length = int.from_bytes(raw[tags_at : tags_at + 32], "big")
        tags = raw[tags_at + 32 : tags_at + 32 + length]
        if not 1 <= size <= MAX_FILE_SIZE or len(tags) != length:
            raise ValueError
        return (
            identity,
            tags,
            Submitted(seq, start, size, str(log["transactionHash"]), int(log["blockNumber"], 16)),
        )
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        raise StorageError("the chain answered a Submit event that is malformed") from None


# The journal.


class Journal:
    """Transactions that this user sent or was about to send: a small file for each submission.

    The files are written durably before a transaction leaves and removed once the file is final.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"cannot keep the payment journal in {directory}: {error.strerror}") from None

    def path(self, scope: str, item: Item) -> Path:
        """The file of a submission; ``scope`` names chain, contract and account."""
        key = f"{scope}/{item.identity.hex()}/{item.size}/{item.tags.hex()}"
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.json"

    def read(self, path: Path) -> Entry | None:
        """An entry; ``None`` when there is none. A damaged one is an error: it may stand for money."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=Entry)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise StorageError(
                f"the payment journal {path} cannot be read: {error}",
                hint="remove the file if that upload was not paid for",
            ) from None

    def write(self, path: Path, entry: Entry) -> None:
        """Replaces an entry, durably."""
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(entry))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise StorageError(f"cannot write the payment journal {path}: {error.strerror}") from None

    def forget(self, path: Path) -> None:
        """Removes an entry."""
        with suppress(OSError):
            path.unlink(missing_ok=True)

    @contextmanager
    def lock(self, scope: str, timeout: float) -> Iterator[None]:
        """One payment of an account at a time, also between processes."""
        name = hashlib.sha256(scope.encode()).hexdigest()[:40]
        handle = os.open(self._directory / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + timeout
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise StorageError(
                            f"another upload of this account has been paying for {timeout:g} s"
                        ) from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(handle)


# Paying.


class Cashier:
    """Submits files to one flow contract from one account."""

    def __init__(
        self, request: Request, payer: Payer, flow: str, scope: str, journal: Journal, timeout: float
    ) -> None:
        """``timeout`` in seconds for a transaction to get into a block."""
        self._request, self._payer, self._flow = request, payer, flow
        self._scope = f"{scope}/{flow.lower()}/{payer.address.lower()}"
        self._journal, self._timeout = journal, timeout

    def price(self) -> int:
        """Wei per sector."""
        market = self._call(self._flow, _MARKET)
        if not int.from_bytes(market[-20:], "big"):
            return 0
        return int.from_bytes(self._call("0x" + market[-20:].hex(), _PRICE), "big")

    def _call(self, to: str, data: str) -> bytes:
        raw = bytes.fromhex(str(self._request("eth_call", {"to": to, "data": data}, "latest"))[2:])
        if len(raw) != 32:
            raise StorageError(f"{to} is no storage contract of this chain")
        return raw

    def submit(self, items: Sequence[Item], *, again: bool = False) -> list[Submitted]:
        """The submissions of these files, in order; only those that are on chain nowhere are paid for.

        ``again`` submits anew although earlier events of this account are on chain (a KV write may repeat);
        an attempt that the journal knows is finished first all the same.
        """
        found: dict[Item, Submitted] = {}
        with self._journal.lock(self._scope, self._timeout):
            for item in items:
                if item not in found:
                    place = self._known(item, again)
                    if place is not None:
                        found[item] = place
            open_items = list(dict.fromkeys(item for item in items if item not in found))
            for at in range(0, len(open_items), BATCH):
                found.update(self._pay(open_items[at : at + BATCH]))
        return [found[item] for item in items]

    def settle(self, item: Item) -> None:
        """The file is final: the journal may forget it."""
        self._journal.forget(self._journal.path(self._scope, item))

    def _known(self, item: Item, again: bool) -> Submitted | None:
        path = self._journal.path(self._scope, item)
        entry = self._journal.read(path)
        if entry is not None:
            place = self._resumed(item, entry, path)
            if place is not None:
                return place
            self._journal.forget(path)
        return None if again else self._event(item, 0)

    def _resumed(self, item: Item, entry: Entry, path: Path) -> Submitted | None:
        """What became of a transaction that an earlier attempt prepared; ``None``: it can never count."""
        sent = entry.hash or entry.transaction.hash
        receipt = self._request("eth_getTransactionReceipt", sent) if sent else None
        if receipt is None:
            nonce = int(self._request("eth_getTransactionCount", entry.transaction.sender, "latest"), 16)
            if nonce > entry.transaction.nonce:
                # Its nonce is used: by itself, or by another transaction.
                return self._event(item, entry.block)
            sent = self._send(entry.transaction, sent)
            entry.hash = sent
            self._journal.write(path, entry)
            receipt = self._wait(sent)
        return self._places([item], receipt, 0).get(item)

    def _send(self, prepared: Prepared, known: str) -> str:
        try:
            return self._payer.broadcast(prepared)
        except RpcError as error:
            # The pool has it already: then its hash is known here, or the node's own answer had it.
            words = error.message.lower()
            if known and ("already known" in words or "underpriced" in words or "nonce too low" in words):
                return known
            raise

    def _pay(self, items: Sequence[Item]) -> dict[Item, Submitted]:
        price = self.price()
        value = price * sum(item.sectors for item in items)
        block = int(self._request("eth_blockNumber"), 16)
        prepared = self._payer.prepare(self._flow, call_data(items, self._payer.address), value)
        paths = [self._journal.path(self._scope, item) for item in items]
        for item, path in zip(items, paths, strict=True):
            self._journal.write(path, Entry("0x" + item.identity.hex(), prepared, block, prepared.hash))
        try:
            sent = self._payer.broadcast(prepared)
        except RpcError:
            places = self._after_refusal(items, prepared, block, price)
            if places is not None:
                return places
            raise
        if sent != prepared.hash:
            for item, path in zip(items, paths, strict=True):
                self._journal.write(path, Entry("0x" + item.identity.hex(), prepared, block, sent))
        places = self._places(items, self._wait(sent), price)
        if len(places) != len(items):
            raise StorageError(f"transaction {sent} has not the Submit events of its files")
        return places

    def _after_refusal(
        self, items: Sequence[Item], prepared: Prepared, block: int, price: int
    ) -> dict[Item, Submitted] | None:
        """A refused transaction may be on chain all the same: its first answer got lost and it was sent again."""
        if prepared.hash and self._request("eth_getTransactionByHash", prepared.hash) is not None:
            return self._places(items, self._wait(prepared.hash), price)
        used, pending = (
            int(self._request("eth_getTransactionCount", prepared.sender, tag), 16)
            for tag in ("latest", "pending")
        )
        if used > prepared.nonce:
            found = {item: place for item in items if (place := self._event(item, block)) is not None}
            if len(found) == len(items):
                return {item: replace(place, cost=price * item.sectors) for item, place in found.items()}
        if used > prepared.nonce or pending <= prepared.nonce:
            # It is in no pool and in no block, and never will be.
            for item in items:
                self.settle(item)
        return None

    def _wait(self, transaction: str) -> Any:
        deadline, pause = time.monotonic() + self._timeout, 0.005
        while (receipt := self._request("eth_getTransactionReceipt", transaction)) is None:
            if time.monotonic() > deadline:
                raise WaitTimeout(
                    f"the payment {transaction} is in no block after {self._timeout:g} s; "
                    "the same command waits for it again and does not pay twice"
                )
            time.sleep(pause)
            pause = min(0.5, pause * 1.5)
        return receipt

    def _places(self, items: Sequence[Item], receipt: Any, price: int) -> dict[Item, Submitted]:
        """The submissions of a receipt by file."""
        if int(receipt.get("status") or "0x1", 16) != 1:
            for item in items:
                self.settle(item)
            raise TransactionError(
                f"the payment {receipt['transactionHash']} failed on chain; no fee was taken"
            )
        places: dict[Item, Submitted] = {}
        for log in receipt["logs"]:
            if log["address"].lower() != self._flow.lower() or log["topics"][0] != SUBMIT_TOPIC:
                continue
            identity, tags, place = submitted_of(log)
            for item in items:
                if (item.identity, item.size, item.tags) == (
                    identity,
                    place.size,
                    tags,
                ) and item not in places:
                    places[item] = Submitted(
                        place.seq,
                        place.start,
                        place.size,
                        place.transaction,
                        place.block,
                        price * item.sectors,
                    )
                    break
        return places

    def _event(self, item: Item, first_block: int) -> Submitted | None:
        """An own submission of the file that the chain has."""
        sender = "0x" + "00" * 12 + self._payer.address.removeprefix("0x").lower()
        query = {"address": self._flow, "topics": [SUBMIT_TOPIC, sender, "0x" + item.identity.hex()]}
        for log in self._logs(query, first_block):
            _, tags, place = submitted_of(log)
            if tags == item.tags and place.size == item.size and not log.get("removed"):
                return place
        return None

    def _logs(self, query: dict[str, Any], first: int) -> list[Any]:
        """Events from a block on; where the node refuses long ranges, those of the last 10,800 blocks."""
        try:
            return list(self._request("eth_getLogs", {**query, "fromBlock": hex(first), "toBlock": "latest"}))
        except RpcError:
            head = int(self._request("eth_blockNumber"), 16)
            found: list[Any] = []
            for page in range(_RECENT_PAGES):
                last = head - page * _PAGE
                if last < first:
                    break
                span = {"fromBlock": hex(max(first, last - _PAGE + 1)), "toBlock": hex(last)}
                found += self._request("eth_getLogs", {**query, **span})
            return found
