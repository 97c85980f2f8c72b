"""Methods for the operator: they answer to connections from this machine only, unless the configuration says
otherwise."""

from __future__ import annotations

import ipaddress

from zerog.chain.methods import CALL
from zerog.errors import RpcError

METHOD_NOT_FOUND = -32601


def require_local(anywhere: bool) -> None:
    """Raises `RpcError` unless the call comes from this machine (or ``anywhere`` is allowed)."""
    peer = CALL.get().peer
    if anywhere or not peer or is_loopback(peer):
        return
    raise RpcError(METHOD_NOT_FOUND, "this method answers on this machine only")


def is_loopback(peer: str) -> bool:
    """Whether an address, with or without its port, is of this machine."""
    host = peer
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
