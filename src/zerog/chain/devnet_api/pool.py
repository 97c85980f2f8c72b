"""Transactions that wait, and transactions without a signature."""

from __future__ import annotations

from zerog.chain.devnet_api.control import METHODS, DevnetControl
from zerog.chain.methods import Address, Hash, Object, decode_address
from zerog.errors import InvalidParams


@METHODS.handler("anvil_dropTransaction", "hardhat_dropTransaction", "evm_dropTransaction")
async def drop_transaction(net: DevnetControl, transaction: Hash) -> str | None:
    """Takes a transaction out of the pool; its hash, or null when it is not there."""
    found = await net.turn(lambda: net.engine.drop_transaction(transaction))
    return transaction if found else None


@METHODS.handler("anvil_dropAllTransactions", "hardhat_dropAllTransactions")
async def drop_all_transactions(net: DevnetControl) -> None:
    """Empties the pool."""
    await net.turn(net.engine.drop_all_transactions)


@METHODS.handler("anvil_removePoolTransactions", "hardhat_removePoolTransactions")
async def remove_pool_transactions(net: DevnetControl, address: Address) -> None:
    """Takes all transactions of a sender out of the pool."""
    await net.turn(lambda: net.engine.drop_sender(address))


@METHODS.handler("eth_sendUnsignedTransaction")
async def send_unsigned_transaction(net: DevnetControl, transaction: Object) -> str:
    """Sends as ``from`` without its key; the hash."""
    try:
        sender = decode_address(transaction.get("from"))
    except ValueError as error:
        raise InvalidParams(f"invalid argument 0 (transaction.from): expected {error}") from None

    def impersonate() -> bool:
        now = {address.lower() for address in net.engine.controls().impersonated}
        if sender in now:
            return False
        net.engine.update_controls(impersonated=sorted({*now, sender}))
        return True

    def stop() -> None:
        now = {address.lower() for address in net.engine.controls().impersonated}
        net.engine.update_controls(impersonated=sorted(now - {sender}))

    added = await net.turn(impersonate)
    try:
        answer: str = await net.rpc("eth_sendTransaction", transaction)
        return answer
    finally:
        if added:
            await net.turn(stop)
