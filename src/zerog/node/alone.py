"""Services without a chain of their own: the server, the handlers' loop and the supervision.

A storage node beside a foreign chain is such a thing::

    with ServerAlone([service], RpcSettings(port=5678)).start() as server:
        print(server.url)
        server.wait()            # until `request_stop`

Only the services' methods and routes answer; `eth_*` and the like are unknown methods.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from zerog.chain.engine import serve_alone
from zerog.errors import PortInUse
from zerog.node.config import RpcSettings
from zerog.node.loop import HandlerLoop
from zerog.node.ports import ExtraPort, explain, listen, urls
from zerog.node.services import Service, Supervisor, limits_of, routes_of
from zerog.node.stopping import Closers, StopRequest

if TYPE_CHECKING:
    from zerog._native import Server

log = logging.getLogger("zerog.node")


class ServerAlone:
    """See the module's docstring.

    Parameters
    ----------
    services : what answers.
    rpc : address, port and bounds of the server.
    further : more ports with the same answers.
    """

    server: Server
    loop: HandlerLoop
    urls: dict[str, str]

    def __init__(
        self,
        services: Sequence[Service],
        rpc: RpcSettings | None = None,
        further: Sequence[ExtraPort] = (),
    ) -> None:
        self._services = services
        self._rpc = rpc or RpcSettings()
        self._further = further
        self._closers = Closers()
        self._stop = StopRequest()

    def start(self) -> ServerAlone:
        """Starts; raises `PortInUse` and its kin, and leaves nothing behind then."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        self.loop = HandlerLoop({})
        for service in self._services:
            self.loop.add(service.methods())
            self.loop.add_routes(routes_of(service))
        settings = msgspec.structs.asdict(self._rpc)
        settings["listen"] = listen(self._further, self._rpc.host)
        settings["routes"] = self.loop.routes
        try:
            self.server = serve_alone(settings, self.loop.dispatch, self.loop.names, self.loop.http)
        except PortInUse as error:
            raise explain(error, self._rpc, self._further) from error
        self._closers.add(self.server.close)
        self.server.set_routes(self.loop.routes, limits_of(self._services))
        self.urls = urls(self._further, self.server.listening, self.server.url)
        self.loop.start()
        self._closers.add(self.loop.stop)
        supervisor = Supervisor(self._services)
        self.loop.run(supervisor.start())
        self._closers.add(lambda: self.loop.run(supervisor.stop(), 5))

    @property
    def url(self) -> str:
        """The HTTP address."""
        return self.server.url

    @property
    def port(self) -> int:
        """The port, also when a free one was taken."""
        return self.server.port

    def request_stop(self) -> None:
        """Ends `wait`; safe in a signal handler."""
        self._stop.set()

    def wait(self) -> None:
        """Waits until `request_stop`."""
        self._stop.wait()

    def stop(self) -> None:
        """Stops everything that was started, in reverse order; a second call does nothing."""
        self._stop.set()
        self._closers.close()

    def __enter__(self) -> ServerAlone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
