"""zerog: an AI-native, EVM-compatible, modular Layer-1 blockchain in one package.

``zerog up`` starts a devnet; from Python::

    from zerog import Devnet

    with Devnet() as net:
        alice, bob = net.accounts[:2]
        receipt = net.client.send(account=alice, to=bob.address, value=10**18)
        print(receipt.block_number, net.client.balance(bob.address))

The public nouns are here; everything heavier is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zerog.errors import ZerogError

if TYPE_CHECKING:
    from zerog.client import Account, Client, Contract, Devnet, Receipt

__version__ = "0.1.0"
__all__ = ["Account", "Client", "Contract", "Devnet", "Receipt", "ZerogError", "__version__"]

_CLIENT_NAMES = frozenset({"Account", "Client", "Contract", "Devnet", "Receipt"})


def __getattr__(name: str) -> Any:
    # `zerog up` must not pay for the SDK, so its names load lazily.
    if name in _CLIENT_NAMES:
        from zerog import client

        return getattr(client, name)
    raise AttributeError(f"module 'zerog' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_CLIENT_NAMES})
