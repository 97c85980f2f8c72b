"""A sender of deployments: transactions of one account through a client, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerog.client import Account, Client


class ClientSender:
    """Sends through a client and waits."""

    def __init__(self, client: Client, account: Account | str) -> None:
        from zerog.client.client import address_of

        self._client, self._account = client, account
        self.address = address_of(account)

    @property
    def nonce(self) -> int:
        """Nonce of the account's next transaction."""
        return self._client.nonce(self.address, "pending")

    def send(self, to: str | None, data: bytes, value: int = 0) -> Mapping[str, Any]:
        """See `zerog.contracts.deployment.Sender`."""
        return self._client.send(to=to, input=data, value=value, account=self._account).raw
