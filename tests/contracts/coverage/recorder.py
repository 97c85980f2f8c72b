"""A pytest plugin: the tests run on the build for coverage, and whatever they execute is traced."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from tests.contracts.coverage.build import Folder
from tests.contracts.coverage.programs import Library

from zerog.client.transport import LocalTransport
from zerog.contracts import artifacts
from zerog.errors import RpcError

STEPS = {"disableStack": True, "disableStorage": True, "enableMemory": False, "enableReturnData": False}
FRAMES = {"tracer": "callTracer"}
CREATES = {"CREATE", "CREATE2"}
SENDING = {"eth_sendRawTransaction", "eth_sendTransaction"}
CODE_LIMIT = 65_536
"""Bytes of code that the devnet allows: without optimiser some contracts are larger than a chain takes."""


class Recorder:
    """Traces what passes through the in-process transport."""

    def __init__(self, folder: Folder, library: Library) -> None:
        self._folder = folder
        self._library = library
        self._pending: list[str] = []
        self.traces = 0

    # The plugin.

    @pytest.fixture(scope="session")
    def zerog_devnet_options(self) -> dict[str, Any]:
        return {"options": {"chain.code_size_limit": CODE_LIMIT}}

    def pytest_configure(self) -> None:
        artifacts._FOLDER = self._folder.artifacts
        artifacts.artifact.cache_clear()
        self._ask = LocalTransport.request
        recorder = self

        def request(transport: LocalTransport, method: str, params: Sequence[Any]) -> Any:
            return recorder.request(transport, method, params)

        LocalTransport.request = request  # type: ignore[method-assign]

    def pytest_unconfigure(self) -> None:
        LocalTransport.request = self._ask  # type: ignore[method-assign]

    def pytest_collection_finish(self) -> None:
        for name, module in list(sys.modules.items()):
            if name.startswith("tests.contracts") and hasattr(module, "MOCKS"):
                module.MOCKS = self._folder.mocks

    # What is traced.

    def request(self, transport: LocalTransport, method: str, params: Sequence[Any]) -> Any:
        """Answers as the node does, and traces calls, refused estimates and transactions."""
        if method == "eth_call":
            self._trace_call(transport, params)
        try:
            answer = self._ask(transport, method, params)
        except RpcError:
            # The client estimates before it sends: a refused transaction is seen here only.
            if method in ("eth_estimateGas", *SENDING) and isinstance(params[0], dict):
                self._trace_call(transport, params)
            raise
        if method in SENDING:
            self._pending.append(answer)
        if self._pending and not method.startswith(("eth_get", "eth_estimate")):
            self._trace_mined(transport)
        return answer

    def _trace_mined(self, transport: LocalTransport) -> None:
        waiting, self._pending = self._pending, []
        for transaction in waiting:
            receipt = self._ask(transport, "eth_getTransactionReceipt", [transaction])
            if receipt is None:
                self._pending.append(transaction)
                continue
            frames = self._ask(transport, "debug_traceTransaction", [transaction, FRAMES])
            steps = self._ask(transport, "debug_traceTransaction", [transaction, STEPS])
            self._record(transport, frames, steps["structLogs"])
        # What a test never mined or reverted is forgotten with its chain.
        del self._pending[:-256]

    def _trace_call(self, transport: LocalTransport, params: Sequence[Any]) -> None:
        call, block, *more = [*params, "latest"] if len(params) == 1 else params
        names = ("stateOverrides", "blockOverrides")
        overrides = dict(zip(names, more, strict=False))
        try:
            frames = self._ask(transport, "debug_traceCall", [call, block, FRAMES | overrides])
            steps = self._ask(transport, "debug_traceCall", [call, block, STEPS | overrides])
        except RpcError:
            return
        self._record(transport, frames, steps["structLogs"])

    def _record(self, transport: LocalTransport, frames: dict[str, Any], steps: list[dict[str, Any]]) -> None:
        """Gives the steps of each frame to its program.

        Steps carry depth and no address. Frames in the order of their calls, those that run no code left out, are the
        order in which the depth rises.
        """
        self.traces += 1
        entered = self._frames(transport, frames)
        open_frames: list[tuple[dict[str, Any] | None, list[int]]] = []
        done: list[tuple[dict[str, Any] | None, list[int]]] = []
        for step in steps:
            depth = step["depth"]
            while len(open_frames) > depth:
                done.append(open_frames.pop())
            if len(open_frames) < depth:
                open_frames.append((next(entered, None), []))
            open_frames[-1][1].append(step["pc"])
        for frame, counters in [*done, *open_frames]:
            if frame is None:
                raise AssertionError("a trace has more depth than calls: the recorder does not understand it")
            program = self._program(transport, frame)
            if program is not None:
                program.run(counters)

    def _frames(self, transport: LocalTransport, frame: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if frame["type"] in CREATES or self._code(transport, frame["to"]):
            yield frame
        for child in frame.get("calls", []):
            yield from self._frames(transport, child)

    def _program(self, transport: LocalTransport, frame: dict[str, Any]) -> Any:
        if frame["type"] in CREATES:
            return self._library.creation(bytes.fromhex(frame["input"][2:]))
        return self._library.runtime(self._code(transport, frame["to"]))

    def _code(self, transport: LocalTransport, address: str) -> bytes:
        return bytes.fromhex(self._ask(transport, "eth_getCode", [address, "latest"])[2:])
