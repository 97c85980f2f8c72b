"""The ports beside the chain's: where clients of storage, indexer and key-value node look by custom.

All of them answer exactly like ``rpc.port``, so a client that is pointed at the "wrong" one works.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zerog.errors import PortInUse
from zerog.node.config import Config, RpcSettings

log = logging.getLogger("zerog.node")

CUSTOMARY = {"storage": 5678, "indexer": 12345, "kv": 6789}
"""Service → the port at which its official clients expect it."""


@dataclass(frozen=True, slots=True)
class ExtraPort:
    """A further port under the name of the service that is looked for there."""

    service: str
    port: int
    optional: bool
    """True when nobody asked for it: taken by another program, it is left out."""


def extra_ports(config: Config) -> list[ExtraPort]:
    """The further ports of a node.

    Those that the configuration names are wanted. The customary ones are tried beside the customary
    port of the chain alone: two nodes on one machine do not fight for them.
    """
    customary = config.rpc.port == RpcSettings().port and not config.node.chain_only
    ports = []
    for service, usual in CUSTOMARY.items():
        chosen: int | None = getattr(config, service).port
        if chosen is not None:
            ports.append(ExtraPort(service, chosen, optional=False))
        elif customary:
            ports.append(ExtraPort(service, usual, optional=True))
    return ports


def listen(ports: Sequence[ExtraPort], host: str) -> list[dict[str, Any]]:
    """The ``listen`` of the native server's configuration."""
    return [{"host": host, "port": port.port, "optional": port.optional} for port in ports]


def urls(ports: Sequence[ExtraPort], listening: Sequence[int | None], url: str) -> dict[str, str]:
    """Service → URL of the ports that are served; a warning for each that is not.

    ``listening`` is what the server got; ``url`` is that of its first port.
    """
    base = url.rpartition(":")[0]
    found = {}
    for wanted, port in zip(ports, listening, strict=True):
        if port is None:
            log.warning("port %d is taken: %s answers at %s only", wanted.port, wanted.service, url)
        else:
            found[wanted.service] = f"{base}:{port}"
    return found


def explain(error: PortInUse, rpc: RpcSettings, ports: Sequence[ExtraPort]) -> PortInUse:
    """The error with the option that chooses the taken port."""
    for wanted in ports:
        if not wanted.optional and f"port {wanted.port} " in error.message:
            return PortInUse(
                f"cannot listen on {rpc.host}:{wanted.port}: {error.message}",
                hint=f"choose another port with --{wanted.service}-port, or stop the program that uses it",
            )
    return PortInUse(
        f"cannot listen on {rpc.host}:{rpc.port}: {error.message}",
        hint="choose another port with --port, or stop the program that uses it",
    )
