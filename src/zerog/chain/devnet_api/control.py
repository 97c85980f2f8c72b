"""What every control method works on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from zerog.chain.engine import ChainEngine
from zerog.chain.methods import MethodTable
from zerog.chain.sequencer import Sequencer

T = TypeVar("T")


@dataclass(slots=True)
class DevnetControl:
    """A devnet as its control methods see it.

    ``set_logging`` switches the line per block and transaction on or off. ``clock`` gives UNIX
    seconds and must be the sequencer's.
    """

    engine: ChainEngine
    sequencer: Sequencer
    chain_id: int
    hardfork: str
    client_version: str
    transaction_order: str = "fees"
    set_logging: Callable[[bool], None] = lambda on: None
    clock: Callable[[], float] = time.time
    instance_id: str = field(default_factory=lambda: "0x" + secrets.token_hex(32))

    async def turn(self, function: Callable[[], T]) -> T:
        """Runs ``function`` between two blocks."""
        # asyncio is loaded while the first methods are already served: see `zerog.node.loop`.
        import asyncio

        return await asyncio.wrap_future(self.sequencer.submit(function))

    async def rpc(self, method: str, *params: Any) -> Any:
        """Calls a native method off the event loop; raises `RpcError`."""
        return await self.blocking(lambda: self.engine.request(method, list(params)))

    async def blocking(self, function: Callable[[], T]) -> T:
        """Runs ``function`` off the event loop, beside blocks and turns."""
        import asyncio

        return await asyncio.to_thread(function)

    def now(self) -> int:
        """Whole UNIX seconds of the wall clock."""
        return int(self.clock())


METHODS: MethodTable[DevnetControl] = MethodTable()
