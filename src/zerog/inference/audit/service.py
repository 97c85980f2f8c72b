"""The verifiers of a node: they cost nothing until a receipt comes on chain, then audit from there on.

Everything heavier than a look for events loads in the service's own thread, at the first receipt.
JSON-RPC: ``audit_status()`` says what they do, ``audit_findings(receiptHash)`` what they found and why.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from zerog.errors import InferenceError, InvalidParams, ZerogError

if TYPE_CHECKING:
    from zerog.inference.audit.canary import CanaryLayer
    from zerog.inference.audit.verifier import Auditor, Happening

log = logging.getLogger("zerog.audit")

KEPT_NEWS = 200


class Chain(Protocol):
    """A chain's JSON-RPC, as far as it is needed before the first receipt."""

    def request(self, method: str, params: Sequence[Any]) -> Any:
        """The result; raises `RpcError`."""
        ...


class VerifierService:
    """See the module's docstring.

    Parameters
    ----------
    rpc : the chain.
    watched : 0x-addresses of the contracts whose first event starts the verifiers.
    prepare : builds the auditor, telling news to its argument; called in the service's thread.
    addresses : 0x-addresses of the verifiers, for the status.
    canaries : builds what lays canaries, if anything does; called in the service's thread.
    """

    name = "verifier"

    def __init__(
        self,
        rpc: Callable[[], Chain],
        watched: Sequence[str],
        prepare: Callable[[Callable[[Happening], None]], Auditor],
        addresses: Sequence[str],
        canaries: Callable[[Callable[[Happening], None]], CanaryLayer] | None = None,
    ) -> None:
        self._rpc = rpc
        self._watched = list(watched)
        self._prepare = prepare
        self._addresses = list(addresses)
        self._canaries = canaries
        self._block = threading.Event()
        self._auditor: Auditor | None = None
        self._failure: str | None = None
        self._news: deque[Happening] = deque(maxlen=KEPT_NEWS)

    def methods(self) -> Mapping[str, Callable[[Any], Awaitable[Any]]]:
        """``audit_status()`` and ``audit_findings(receiptHash)``."""
        return {"audit_status": self._status, "audit_findings": self._findings}

    def new_block(self) -> None:
        """A block was made: there may be a receipt in it."""
        self._block.set()

    async def run(self) -> None:
        """Audits until cancelled."""
        import asyncio

        stop = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(self._serve, stop))
        try:
            await asyncio.shield(work)
        finally:
            stop.set()
            self._block.set()
            await asyncio.wait([work])

    def _serve(self, stop: threading.Event) -> None:
        while not self._has_work():
            self._block.wait()
            self._block.clear()
            if stop.is_set():
                return
        try:
            self._auditor = self._prepare(self._news.append)
        except ZerogError as error:
            self._failure = str(error)
            raise
        self._failure = None
        if self._canaries is not None:
            layer = self._canaries(self._news.append)
            threading.Thread(target=layer.run, args=(stop,), name="zerog-canaries", daemon=True).start()
        self._auditor.run(stop)

    def _has_work(self) -> bool:
        """Whether one of the contracts has ever said anything."""
        found: list[Any] = self._rpc().request(
            "eth_getLogs", [{"address": self._watched, "fromBlock": "0x0", "toBlock": "latest"}]
        )
        return bool(found)

    async def _status(self, params: Any) -> Any:
        auditor = self._auditor
        return {
            "state": "waiting for a receipt" if auditor is None else "auditing",
            "failure": self._failure,
            "verifiers": self._addresses,
            "open": [] if auditor is None else ["0x" + found.hex() for found in auditor.open_audits],
            "news": [{"kind": n.kind, "text": n.text, **n.facts} for n in list(self._news)[-20:]],
        }

    async def _findings(self, params: Any) -> Any:
        from zerog.inference.encoding import parse_hex

        if not isinstance(params, list) or len(params) != 1:
            raise InvalidParams("audit_findings takes one parameter, the receipt hash")
        try:
            wanted = "0x" + parse_hex(params[0], 32, "the receipt hash").hex()
        except InferenceError as error:
            raise InvalidParams(error.message) from None
        return [n.facts for n in self._news if n.kind == "voted" and n.facts["receiptHash"] == wanted]
