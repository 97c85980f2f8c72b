"""pytest fixtures: a devnet for the session, and the same devnet clean for every test.

::

    def test_a_transfer_arrives(zerog_devnet):
        alice, bob = zerog_devnet.accounts[:2]
        zerog_devnet.client.send(account=alice, to=bob, value=1)
        assert zerog_devnet.client.balance(bob) == 10_000 * 10**18 + 1

One node serves the session (under half a second to start). What a test does is undone after it:
blocks, state, clock, mining mode, impersonation, pool. Override `zerog_devnet_options` to change
the chain: it returns the keyword arguments of `zerog.Devnet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from zerog.client import Devnet


@pytest.fixture(scope="session")
def zerog_devnet_options() -> dict[str, Any]:
    """Keyword arguments of the session's `zerog.Devnet`."""
    return {}


@pytest.fixture(scope="session")
def zerog_devnet_session(zerog_devnet_options: dict[str, Any]) -> Iterator[Devnet]:
    """The session's devnet, with what earlier tests left in it."""
    from zerog.client import Devnet

    with Devnet(**zerog_devnet_options) as net:
        yield net


@pytest.fixture
def zerog_devnet(zerog_devnet_session: Devnet) -> Iterator[Devnet]:
    """The session's devnet as it was at its start."""
    with zerog_devnet_session.anchor():
        yield zerog_devnet_session
