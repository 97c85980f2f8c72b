"""Account state, impersonation, and balances of ERC-20 tokens."""

from __future__ import annotations

import secrets
from typing import Any

from zerog.chain.devnet_api.control import METHODS, DevnetControl
from zerog.chain.methods import Address, Data, Flag, Quantity, Uint64, Word, decode_address
from zerog.errors import InvalidParams, RpcError, ZerogError

_BALANCE_OF = "0x70a08231"  # balanceOf(address)
_ALLOWANCE = "0xdd62ed3e"  # allowance(address,address)
_MAX_UINT256 = 2**256 - 1
# A list longer than this is no token's lookup path.
_MAX_PROBES = 64


@METHODS.handler("anvil_setBalance", "hardhat_setBalance", "evm_setAccountBalance", "evm_setBalance")
async def set_balance(net: DevnetControl, address: Address, balance: Quantity) -> None:
    """Sets a balance, wei."""
    await net.turn(lambda: net.engine.edit({address: {"balance": hex(balance)}}))


def _addresses(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    try:
        return [decode_address(item) for item in values]
    except ValueError as error:
        raise InvalidParams(f"invalid argument 0 (addresses): expected {error}, got {value!r:.80}") from None


@METHODS.handler("tenderly_setBalance")
async def tenderly_set_balance(net: DevnetControl, addresses: Any, balance: Quantity) -> None:
    """Sets the balance of one address or of a list, wei."""
    targets = _addresses(addresses)
    await net.turn(lambda: net.engine.edit({a: {"balance": hex(balance)} for a in targets}))


def _add_balance(net: DevnetControl, address: str, amount: int) -> int:
    """Inside a turn: the new balance."""
    balance = int(net.engine.request("eth_getBalance", [address, "latest"]), 16)
    if balance + amount > _MAX_UINT256:
        raise InvalidParams(f"invalid argument 1 (amount): the balance {balance} + {amount} exceeds 2^256-1")
    net.engine.edit({address: {"balance": hex(balance + amount)}})
    return balance + amount


@METHODS.handler("anvil_addBalance", "hardhat_addBalance")
async def add_balance(net: DevnetControl, address: Address, amount: Quantity) -> None:
    """Adds to a balance, wei."""
    await net.turn(lambda: _add_balance(net, address, amount))


@METHODS.handler("tenderly_addBalance")
async def tenderly_add_balance(net: DevnetControl, addresses: Any, amount: Quantity) -> str:
    """Adds to the balance of one address or of a list; the last new balance."""
    targets = _addresses(addresses)
    balances = await net.turn(lambda: [_add_balance(net, a, amount) for a in targets])
    return hex(balances[-1]) if balances else "0x0"


@METHODS.handler("anvil_setCode", "hardhat_setCode", "evm_setAccountCode", "evm_setCode", "tenderly_setCode")
async def set_code(net: DevnetControl, address: Address, code: Data) -> None:
    """Sets the runtime code of an account; "0x" removes it."""
    await net.turn(lambda: net.engine.edit({address: {"code": code}}))


@METHODS.handler("anvil_setNonce", "hardhat_setNonce", "evm_setAccountNonce", "evm_setNonce")
async def set_nonce(net: DevnetControl, address: Address, nonce: Uint64) -> None:
    """Sets the number of transactions that an account has sent."""
    await net.turn(lambda: net.engine.edit({address: {"nonce": hex(nonce)}}))


@METHODS.handler(
    "anvil_setStorageAt",
    "hardhat_setStorageAt",
    "evm_setAccountStorageAt",
    "evm_setStorageAt",
    "tenderly_setStorageAt",
)
async def set_storage_at(net: DevnetControl, address: Address, slot: Word, value: Word) -> bool:
    """Writes one storage slot; zero deletes it."""
    await net.turn(lambda: net.engine.edit({address: {"storage": {slot: value}}}))
    return True


# Impersonation.


@METHODS.handler("anvil_impersonateAccount", "hardhat_impersonateAccount", "evm_impersonateAccount")
async def impersonate_account(net: DevnetControl, address: Address) -> None:
    """eth_sendTransaction works for ``address`` without its key, contracts included."""

    def turn() -> None:
        now = net.engine.controls().impersonated
        net.engine.update_controls(impersonated=sorted({*(a.lower() for a in now), address}))

    await net.turn(turn)


@METHODS.handler(
    "anvil_stopImpersonatingAccount", "hardhat_stopImpersonatingAccount", "evm_stopImpersonatingAccount"
)
async def stop_impersonating_account(net: DevnetControl, address: Address) -> None:
    """Ends the impersonation of ``address``."""

    def turn() -> None:
        now = net.engine.controls().impersonated
        net.engine.update_controls(impersonated=sorted({a.lower() for a in now} - {address}))

    await net.turn(turn)


@METHODS.handler("anvil_autoImpersonateAccount", "hardhat_autoImpersonateAccount")
async def auto_impersonate_account(net: DevnetControl, enabled: Flag) -> None:
    """Impersonates every account, or none beside those named."""
    await net.turn(lambda: net.engine.update_controls(auto_impersonate=enabled))


# ERC-20. The slot that holds a value is found by asking the token, not by guessing its layout.


@METHODS.handler("anvil_dealERC20", "hardhat_dealERC20", "anvil_setERC20Balance")
async def deal_erc20(net: DevnetControl, address: Address, token: Address, balance: Quantity) -> None:
    """Sets the token balance of ``address``."""
    await _set_token_value(net, token, _BALANCE_OF + _padded(address), "balanceOf", balance)


@METHODS.handler("tenderly_setErc20Balance")
async def tenderly_set_erc20_balance(
    net: DevnetControl, token: Address, wallet: Address, balance: Quantity
) -> None:
    """Sets the token balance of ``wallet``."""
    await _set_token_value(net, token, _BALANCE_OF + _padded(wallet), "balanceOf", balance)


@METHODS.handler("anvil_setERC20Allowance", "hardhat_setERC20Allowance")
async def set_erc20_allowance(
    net: DevnetControl, owner: Address, spender: Address, token: Address, amount: Quantity
) -> None:
    """Sets what ``spender`` may take from ``owner``."""
    data = _ALLOWANCE + _padded(owner) + _padded(spender)
    await _set_token_value(net, token, data, "allowance", amount)


def _padded(address: str) -> str:
    return address[2:].rjust(64, "0")


async def _set_token_value(net: DevnetControl, token: str, data: str, view: str, value: int) -> None:
    account, slot = await _find_slot(net, token, data, view)
    word = f"0x{value:064x}"
    await net.turn(lambda: net.engine.edit({account: {"storage": {slot: word}}}))
    answer = await net.rpc("eth_call", {"to": token, "data": data}, "latest")
    if int(answer, 16) != value:
        raise RpcError(-32000, f"{view} of {token} is {answer} after its slot was set to {word}")


async def _find_slot(net: DevnetControl, token: str, data: str, view: str) -> tuple[str, str]:
    """Account and slot whose value ``view`` returns: the one that carries an override through."""
    call = {"to": token, "data": data}
    try:
        listed = await net.rpc("eth_createAccessList", call, "latest")
    except ZerogError as error:
        raise RpcError(-32000, f"{view} of {token} cannot be called: {error}") from None
    # A value that no token holds by chance, small enough for packed slots.
    probe = secrets.randbits(62) | 1
    slots = [(entry["address"], key) for entry in listed["accessList"] for key in entry["storageKeys"]]
    for account, slot in slots[:_MAX_PROBES]:
        override = {account: {"stateDiff": {slot: f"0x{probe:064x}"}}}
        try:
            answer = await net.rpc("eth_call", call, "latest", override)
        except RpcError:
            continue  # That slot was something else, a proxy's target perhaps.
        if answer != "0x" and int(answer, 16) == probe:
            return account, slot
    raise RpcError(
        -32000, f"no storage slot of {token} was found that {view} returns; is it an ERC-20 token?"
    )
