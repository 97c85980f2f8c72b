"""The event loop that runs the methods and routes written in Python.

The native server answers the hot namespaces itself and hands every other call, and every request for
a route, to `HandlerLoop`, which runs its coroutine in a thread of its own and passes the answer back. A method that blocks
delays only its own kind, never a native one.

The loop's module is heavy (50 ms), so its thread loads it while the server already answers; calls
that come earlier wait for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from zerog.chain.methods import CALL, Call, RouteHandler
from zerog.errors import RpcError, ZerogError

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from zerog._native import HttpRequest, Reply

log = logging.getLogger("zerog.rpc")

T = TypeVar("T")
Handler = Callable[[Any], Awaitable[Any]]
"""A method: decoded ``params`` to result."""

MAX_IN_FLIGHT = 10_000
MAX_EXCHANGES = 1_024
"""HTTP exchanges of one route that may be under way; a handler with a tighter bound keeps it itself."""
SERVER_BUSY = -32005
_INTERNAL_ERROR = -32603
_SERVER_ERROR = -32000


class HandlerLoop:
    """Runs handlers by name; see the module's docstring."""

    def __init__(
        self, handlers: Mapping[str, Handler], routes: Mapping[str, RouteHandler] | None = None
    ) -> None:
        self._handlers = dict(handlers)
        self._routes = dict(routes or {})
        self._exchanges = dict.fromkeys(self._routes, 0)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._free = threading.Semaphore(MAX_IN_FLIGHT)
        self._thread = threading.Thread(target=self._run, name="zerog-handlers", daemon=True)

    @property
    def names(self) -> list[str]:
        """Names of all methods."""
        return sorted(self._handlers)

    @property
    def routes(self) -> list[str]:
        """Path prefixes of all routes."""
        return sorted(self._routes)

    def start(self) -> None:
        """Starts the thread; returns at once."""
        self._thread.start()

    def add(self, handlers: Mapping[str, Handler]) -> None:
        """Adds methods; a name that is taken is an error of the program."""
        taken = self._handlers.keys() & handlers.keys()
        if taken:
            raise ValueError(f"two services claim {sorted(taken)[0]}")
        self._handlers.update(handlers)

    def add_routes(self, routes: Mapping[str, RouteHandler]) -> None:
        """Adds routes; a prefix that is taken is an error of the program."""
        taken = self._routes.keys() & routes.keys()
        if taken:
            raise ValueError(f"two services claim the route {sorted(taken)[0]}")
        self._exchanges.update(dict.fromkeys(routes, 0))
        self._routes.update(routes)

    def dispatch(self, method: str, params: bytes, reply: Reply) -> None:
        """Called by the native server on its own threads; answers through ``reply``."""
        if not self._free.acquire(blocking=False):
            reply.reject(SERVER_BUSY, f"more than {MAX_IN_FLIGHT} calls are waiting", None)
            return
        try:
            loop = self._wait_ready()
            loop.call_soon_threadsafe(self._spawn, method, params, reply)
        except (RuntimeError, ZerogError):
            self._free.release()
            reply.reject(_SERVER_ERROR, "the node is shutting down", None)

    def http(self, request: HttpRequest) -> None:
        """Called by the native server on its own threads with a request for one of `routes`."""
        try:
            self._wait_ready().call_soon_threadsafe(self._spawn_exchange, request)
        except (RuntimeError, ZerogError):
            body = b'{"error":{"code":-32000,"message":"the node is shutting down"}}'
            request.respond(503, {"content-type": "application/json"}, body)

    async def call(self, method: str, params: Any) -> Any:
        """Runs a method on this loop; raises what it raises."""
        handler = self._handlers.get(method)
        if handler is None:
            raise RpcError(-32601, f"the method {method} does not exist/is not available")
        return await handler(params)

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Runs a coroutine on the loop from another thread and waits for its result."""
        return self.submit(work).result(timeout)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Hands a coroutine to the loop from another thread."""
        import asyncio

        return asyncio.run_coroutine_threadsafe(work, self._wait_ready())

    def stop(self, timeout: float = 2.0) -> None:
        """Cancels what runs and ends the thread."""
        if not self._thread.is_alive():
            return
        loop = self._wait_ready()
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(timeout)

    def _wait_ready(self) -> asyncio.AbstractEventLoop:
        if not self._ready.wait(10) or self._loop is None:
            raise ZerogError("the event loop did not start")
        return self._loop

    def _run(self) -> None:
        import asyncio

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = loop
        self._ready.set()
        try:
            loop.run_forever()
        finally:
            pending = asyncio.all_tasks(loop)
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def _spawn(self, method: str, params: bytes, reply: Reply) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self._answer(method, params, reply))
        # The loop keeps only weak references to tasks.
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free.release()

    def _spawn_exchange(self, request: HttpRequest) -> None:
        assert self._loop is not None
        route = request.route
        handler = self._routes.get(route)
        if handler is None:
            body = b'{"error":{"code":-32601,"message":"nothing answers here"}}'
            request.respond(404, {"content-type": "application/json"}, body)
            return
        if self._exchanges[route] >= MAX_EXCHANGES:
            body = b'{"error":{"code":-32005,"message":"too many requests are under way; try again later"}}'
            request.respond(503, {"content-type": "application/json", "retry-after": "1"}, body)
            return
        self._exchanges[route] += 1
        task = self._loop.create_task(self._exchange(handler, request))
        self._tasks.add(task)

        def finished(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._exchanges[route] -= 1

        task.add_done_callback(finished)

    async def _exchange(self, handler: RouteHandler, request: HttpRequest) -> None:
        from zerog.node.exchange import Exchange

        exchange = Exchange(request)
        CALL.set(Call(exchange.headers.get("user-agent"), exchange.peer))
        try:
            await handler(exchange)
            if not exchange.answered:
                log.error("%s %s was not answered by its handler", exchange.method, request.route)
        except Exception as error:
            if not isinstance(error, ZerogError):
                log.exception("%s %s failed", exchange.method, request.route)
            elif exchange.answered:
                log.warning("%s %s broke off: %s", exchange.method, request.route, error)
            if not exchange.answered:
                await exchange.fail(error)
        finally:
            # Ends what is open; an answer that is complete is not touched.
            exchange.abort()

    async def _answer(self, method: str, params: bytes, reply: Reply) -> None:
        CALL.set(Call(reply.agent, reply.peer, reply.push))
        try:
            result = await self.call(method, msgspec.json.decode(params) if params else [])
            answer = msgspec.json.encode(result)
        except RpcError as error:
            data = None if error.data is None else msgspec.json.encode(error.data)
            reply.reject(error.code, error.message, data)
        except ZerogError as error:
            reply.reject(_SERVER_ERROR, str(error), None)
        except msgspec.DecodeError as error:
            reply.reject(-32602, f"invalid params: {error}", None)
        except Exception as error:
            log.exception("%s failed", method)
            reply.reject(_INTERNAL_ERROR, f"internal error: {type(error).__name__}", None)
        except BaseException:
            reply.reject(_SERVER_ERROR, "the node is shutting down", None)
            raise
        else:
            reply.resolve(answer)
