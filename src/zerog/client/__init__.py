"""The Python SDK: talk to a node, run one in a test.

::

    from zerog import Client, Devnet

    client = Client("http://127.0.0.1:8545")
    token = client.contract("0x…", abi, account=alice)
    token.transfer(bob, 5)               # sends, waits, returns a Receipt
    token.balanceOf(bob)                 # calls

    with Devnet() as net:                # a chain inside this process
        net.client.send(account=net.accounts[0], to=net.accounts[1], value=10**18)
"""

from __future__ import annotations

from zerog.client.accounts import Account
from zerog.client.client import Client
from zerog.client.contract import Contract, Event
from zerog.client.devnet import Devnet
from zerog.client.transport import HttpTransport, Transport
from zerog.client.values import Block, Log, Receipt

__all__ = [
    "Account",
    "Block",
    "Client",
    "Contract",
    "Devnet",
    "Event",
    "HttpTransport",
    "Log",
    "Receipt",
    "Transport",
]
