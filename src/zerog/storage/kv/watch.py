"""Subscriptions: who hears of which committed writes.

A notification has the form of Ethereum's::

    {"jsonrpc": "2.0", "method": "kv_subscription", "params": {"subscription": "0x…",
        "result": {"stream": "0x…", "version": 7, "key": "azE=", "size": 8}}}

``size`` 0 is a deletion. ``{"stream", "reverted": n}`` says that versions from n on were taken back (the chain was
reorganised, or a late content was put in its place); what holds now follows. A client that lost its connection
subscribes again from the version after the last one that it has handled.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from zerog.errors import RpcError, StorageError
from zerog.storage.kv.store import KvStore, Pair

log = logging.getLogger("zerog.kv")

MAX_SUBSCRIPTIONS = 10_000
PAGE = 256
"""Changes that are read at once."""


class Push(Protocol):
    """Sends notifications over one connection (`zerog.chain.methods.Push`)."""

    def send(self, notification_json: bytes) -> bool:
        """Queues one; false when the connection has ended."""
        ...


@dataclass(slots=True)
class _Watch:
    push: Push
    stream: bytes
    prefix: bytes
    version: int
    """The next version to tell."""
    after: bytes
    """Keys of that version up to this one were told."""
    as_hex: bool
    reverted: int | None = None


class Watches:
    """The subscriptions of a node. ``changed`` is called on any thread, the rest on the event loop."""

    def __init__(self, store: KvStore) -> None:
        self._store = store
        self._watches: dict[str, _Watch] = {}
        self._lock = threading.Lock()
        self._wake: Callable[[], None] = lambda: None

    def add(self, push: Push, stream: bytes, prefix: bytes, version: int, as_hex: bool) -> str:
        """Notifies ``push`` of writes from ``version`` on; the subscription's id."""
        identifier = "0x" + secrets.token_hex(16)
        with self._lock:
            if len(self._watches) >= MAX_SUBSCRIPTIONS:
                raise RpcError(-32005, f"there are {MAX_SUBSCRIPTIONS} subscriptions; no more are taken")
            self._watches[identifier] = _Watch(push, stream, prefix, version, b"", as_hex)
        self._wake()
        return identifier

    def remove(self, identifier: str) -> bool:
        """Ends a subscription; false when it is unknown."""
        with self._lock:
            return self._watches.pop(identifier, None) is not None

    def __len__(self) -> int:
        return len(self._watches)

    def changed(self, reverted: int | None) -> None:
        """Something was applied, or everything from ``reverted`` on taken back."""
        if reverted is not None:
            with self._lock:
                for watch in self._watches.values():
                    known = watch.reverted
                    watch.reverted = reverted if known is None else min(known, reverted)
        self._wake()

    async def run(self) -> None:
        """Sends until cancelled."""
        loop, signal = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(signal.set)
            except RuntimeError:
                # The loop has ended; so has everybody who could be told.
                log.debug("a change came after the event loop had ended")

        self._wake = wake
        signal.set()
        try:
            while True:
                await signal.wait()
                signal.clear()
                await asyncio.to_thread(self.send)
        finally:
            self._wake = lambda: None

    def send(self) -> None:
        """Sends to everybody what is new."""
        with self._lock:
            watches = list(self._watches.items())
        for identifier, watch in watches:
            try:
                alive = self._send(identifier, watch)
            except StorageError as error:
                log.error("subscription %s: %s", identifier, error)
                alive = False
            if not alive:
                self.remove(identifier)

    def _send(self, identifier: str, watch: _Watch) -> bool:
        while True:
            with self._lock:
                reverted, watch.reverted = watch.reverted, None
            if reverted is not None and (watch.version, watch.after) > (reverted, b""):
                watch.version, watch.after = reverted, b""
                notice = {"stream": "0x" + watch.stream.hex(), "reverted": reverted}
                if not watch.push.send(_notification(identifier, notice)):
                    return False
            page = self._store.changes(watch.stream, watch.prefix, watch.version, PAGE, watch.after)
            for pair in page:
                if not watch.push.send(_notification(identifier, self._change(watch, pair))):
                    return False
                watch.version, watch.after = pair.version, pair.key
            if len(page) < PAGE and watch.reverted is None:
                return identifier in self._watches

    @staticmethod
    def _change(watch: _Watch, pair: Pair) -> dict[str, Any]:
        key = "0x" + pair.key.hex() if watch.as_hex else base64.b64encode(pair.key).decode()
        return {
            "stream": "0x" + watch.stream.hex(),
            "version": pair.version,
            "key": key,
            "size": pair.length,
        }


def _notification(identifier: str, result: dict[str, Any]) -> bytes:
    return msgspec.json.encode(
        {
            "jsonrpc": "2.0",
            "method": "kv_subscription",
            "params": {"subscription": identifier, "result": result},
        }
    )
