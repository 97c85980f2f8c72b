"""The mining service of a node: a thread that watches, seals and searches, and the ``miner_*`` methods."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from zerog.errors import InvalidParams, RpcError, StorageError, TransactionError
from zerog.storage.guard import require_local
from zerog.storage.mining.miner import Miner

if TYPE_CHECKING:
    from zerog.storage.api.node import StorageNode
    from zerog.storage.service import StorageService
    from zerog.storage.store import FlowStore

PAUSE = 0.5
"""Seconds between looks at the chain when there is nothing to do."""


class MiningService:
    """See the module's docstring.

    ``prepare`` builds the miner (opens its files, talks to the chain) once the store is open, or gives ``None`` when
    its argument, the end of the service, comes first. It runs in the service's own thread, again after `restart`.
    ``anywhere``: the methods answer to other machines, too.
    """

    name = "miner"

    def __init__(
        self,
        prepare: Callable[[threading.Event], Miner | None],
        pause: float = PAUSE,
        *,
        anywhere: bool = False,
    ) -> None:
        self._prepare = prepare
        self._pause = pause
        self._anywhere = anywhere
        self._miner: Miner | None = None
        self._wanted = threading.Event()
        self._wanted.set()
        self._changed = threading.Event()
        self._position: int | None = None

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """``miner_start``, ``miner_stop``, ``miner_setStartPosition`` as 0G's node; ``miner_status``, ``miner_withdraw``."""
        methods = {
            "miner_start": self._start,
            "miner_stop": self._stop,
            "miner_setStartPosition": self._set_start_position,
            "miner_status": self._status,
            "miner_withdraw": self._withdraw,
        }
        return {name: partial(self._guarded, method) for name, method in methods.items()}

    async def _guarded(self, method: Callable[[Any], Awaitable[Any]], params: Any) -> Any:
        require_local(self._anywhere)
        return await method(params)

    async def run(self) -> None:
        """Mines until cancelled."""
        stop = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(self._serve, stop))
        try:
            await asyncio.shield(work)
        finally:
            # Its files close in its thread.
            stop.set()
            await asyncio.wait([work])

    def restart(self) -> None:
        """The store was opened anew: the miner is built again. Callable from any thread."""
        self._changed.set()

    def _serve(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._changed.clear()
            miner = self._prepare(stop)
            if miner is None:
                return
            self._miner = miner
            if self._position is not None:
                miner.set_start_position(self._position)
            try:
                self._mine(miner, stop)
            finally:
                self._miner = None
                miner.close()

    def _mine(self, miner: Miner, stop: threading.Event) -> None:
        """Works whenever it is wanted, until the end or until the store changes."""
        while not stop.is_set() and not self._changed.is_set():
            if not self._wanted.wait(timeout=self._pause):
                continue
            shift = threading.Event()
            watcher = threading.Thread(target=self._end_shift, args=(stop, shift), daemon=True)
            watcher.start()
            try:
                miner.run(shift, self._pause)
            finally:
                shift.set()
                watcher.join()

    def _end_shift(self, stop: threading.Event, shift: threading.Event) -> None:
        while not shift.is_set() and self._wanted.is_set() and not self._changed.is_set():
            if stop.wait(0.1):
                break
        shift.set()

    async def _start(self, params: Any) -> bool:
        self._wanted.set()
        return True

    async def _stop(self, params: Any) -> bool:
        self._wanted.clear()
        return True

    async def _set_start_position(self, params: Any) -> bool:
        if (
            not isinstance(params, list)
            or len(params) != 1
            or not isinstance(params[0], int)
            or params[0] < 0
        ):
            raise InvalidParams("miner_setStartPosition takes one parameter, a sector")
        self._position = params[0]
        miner = self._miner
        if miner is not None:
            miner.set_start_position(params[0])
        return True

    async def _status(self, params: Any) -> dict[str, Any]:
        miner = self._miner
        if miner is None:
            return {"state": "starting"}
        try:
            state = await asyncio.to_thread(miner.status)
        except sqlite3.Error:
            if miner is self._miner:
                raise
            return {"state": "starting"}  # It was closed meanwhile; the store opens anew.
        return state | {"mining": self._wanted.is_set()}

    async def _withdraw(self, params: Any) -> str:
        miner = self._miner
        if miner is None:
            raise RpcError(-32000, "the miner has not started yet")
        try:
            return await asyncio.to_thread(miner.withdraw)
        except (StorageError, TransactionError) as error:
            raise RpcError(-32000, error.message) from None


def beside(
    storage: StorageService,
    make: Callable[[FlowStore, threading.Event], Miner],
    *,
    anywhere: bool = False,
) -> MiningService:
    """A miner over the data of a storage service; ``make`` builds it whenever the store has opened."""
    opened: list[StorageNode] = []

    def prepare(stop: threading.Event) -> Miner | None:
        while not opened:
            if stop.wait(0.05):
                return None
        store = opened[0].store
        miner = make(store, stop)
        store.listen(miner.hear)
        return miner

    service = MiningService(prepare, anywhere=anywhere)

    def hear(node: StorageNode) -> None:
        opened[:] = [node]
        service.restart()

    storage.on_open(hear)
    return service
