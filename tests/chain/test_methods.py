"""Parameters of methods written in Python: what is accepted, and what the refusal says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerog.chain import methods
from zerog.chain.devnet_api import METHODS
from zerog.chain.methods import Address, MethodTable, Quantity
from zerog.errors import InvalidParams

TABLE: MethodTable[list[Any]] = MethodTable()


@TABLE.handler("test_pay", "test_alias")
async def pay(calls: list[Any], to_address: Address, amount: Quantity, note: str | None = None) -> str:
    calls.append((to_address, amount, note))
    return "done"


def call(name: str, params: Any) -> list[Any]:
    method = TABLE.get(name)
    assert method is not None
    calls: list[Any] = []
    assert asyncio.run(method(calls, params)) == "done"
    return calls


ADDRESS = "0x" + "Ab" * 20


@pytest.mark.parametrize("name", ["test_pay", "test_alias"])
def test_an_alias_is_the_same_method(name: str) -> None:
    assert call(name, [ADDRESS, "0x10"]) == [(ADDRESS.lower(), 16, None)]


@pytest.mark.parametrize("amount", [16, "16", "0x10", "0X10", 16.0])
def test_a_quantity_may_be_a_number_decimal_or_hexadecimal(amount: Any) -> None:
    assert call("test_pay", [ADDRESS, amount]) == [(ADDRESS.lower(), 16, None)]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([], "missing value for required argument 0 (toAddress)"),
        ([ADDRESS], "missing value for required argument 1 (amount)"),
        ([ADDRESS, None], "missing value for required argument 1 (amount)"),
        ([ADDRESS, 1, "x", 2], "too many arguments, want at most 3"),
        (7, "params must be an array or an object"),
        ({"to": ADDRESS}, "unknown argument 'to', want toAddress, amount, note"),
        (
            ["0x12", 1],
            "invalid argument 0 (toAddress): expected an address, 20 bytes as 0x-hexadecimal, got '0x12'",
        ),
        (
            [ADDRESS, "ten"],
            "invalid argument 1 (amount): expected a number from 0 to 2^256-1, decimal or 0x-hexadecimal, "
            "got 'ten'",
        ),
    ],
)
def test_a_wrong_parameter_is_named(params: Any, message: str) -> None:
    with pytest.raises(InvalidParams) as caught:
        call("test_pay", params)
    assert caught.value.message == message
    assert caught.value.code == -32602


@pytest.mark.parametrize(
    "value", [-1, 2**256, "0x" + "f" * 65, "-1", "1e5", True, 1.5, [], {}, "٣", "1_0", "0x_1"]
)
def test_what_is_no_quantity_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="a number from 0"):
        methods.decode_quantity(value)


def test_a_long_value_is_shortened_in_the_refusal() -> None:
    with pytest.raises(InvalidParams) as caught:
        call("test_pay", ["x" * 100_000, 1])
    assert len(caught.value.message) < 200


@given(st.integers(0, 2**256 - 1))
def test_every_quantity_is_read_in_every_form(value: int) -> None:
    assert {methods.decode_quantity(form) for form in (value, str(value), hex(value))} == {value}


@given(st.binary(max_size=32))
def test_a_word_is_padded_to_32_bytes(raw: bytes) -> None:
    word = methods.decode_word("0x" + raw.hex())
    assert bytes.fromhex(word[2:]) == raw.rjust(32, b"\0")


@given(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers()), st.binary()
    )
)
def test_a_decoder_gives_a_value_or_says_what_it_wants(value: Any) -> None:
    for decode in (
        methods.decode_address,
        methods.decode_hash,
        methods.decode_word,
        methods.decode_data,
        methods.decode_quantity,
        methods.decode_uint64,
        methods.decode_seconds,
        methods.decode_signed_seconds,
        methods.decode_bool,
        methods.decode_object,
    ):
        try:
            decode(value)
        except ValueError as error:
            assert str(error)


def test_two_handlers_may_not_claim_one_name() -> None:
    with pytest.raises(ValueError, match="two handlers claim test_pay"):
        TABLE.handler("test_pay")(pay)


def test_every_control_of_the_specification_has_its_names() -> None:
    names = set(METHODS.names())
    for name in SPECIFIED.split():
        assert name in names, name


SPECIFIED = """
anvil_impersonateAccount hardhat_impersonateAccount anvil_stopImpersonatingAccount
hardhat_stopImpersonatingAccount anvil_autoImpersonateAccount anvil_getAutomine hardhat_getAutomine
anvil_setAutomine evm_setAutomine anvil_mine hardhat_mine anvil_mine_detailed evm_mine_detailed evm_mine
anvil_setIntervalMining evm_setIntervalMining anvil_getIntervalMining anvil_dropTransaction
hardhat_dropTransaction anvil_dropAllTransactions anvil_removePoolTransactions anvil_reset hardhat_reset
anvil_setBalance hardhat_setBalance tenderly_setBalance anvil_addBalance anvil_dealERC20
anvil_setERC20Balance anvil_setERC20Allowance anvil_setCode hardhat_setCode anvil_setNonce hardhat_setNonce
evm_setAccountNonce anvil_setStorageAt hardhat_setStorageAt anvil_setCoinbase hardhat_setCoinbase
anvil_setNextBlockPrevRandao hardhat_setPrevRandao anvil_setChainId anvil_setLoggingEnabled
hardhat_setLoggingEnabled anvil_setMinGasPrice hardhat_setMinGasPrice anvil_setNextBlockBaseFeePerGas
hardhat_setNextBlockBaseFeePerGas anvil_setTime evm_setTime anvil_increaseTime evm_increaseTime
anvil_setNextBlockTimestamp evm_setNextBlockTimestamp anvil_setBlockTimestampInterval
anvil_removeBlockTimestampInterval anvil_setBlockGasLimit evm_setBlockGasLimit anvil_snapshot evm_snapshot
anvil_revert evm_revert anvil_dumpState hardhat_dumpState anvil_loadState hardhat_loadState anvil_nodeInfo
anvil_metadata hardhat_metadata anvil_reorg anvil_rollback anvil_getGenesisTime eth_sendUnsignedTransaction
"""
