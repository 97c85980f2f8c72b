"""Every devnet control through JSON-RPC, on a real chain."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from zerog import Client, Contract, Devnet
from zerog.chain.devnet_api import METHODS
from zerog.errors import InvalidParams, RpcError, TransactionError

ARTIFACTS = Path(__file__).parents[1] / "contracts" / "artifacts"
SOMEONE = "0x" + "5e" * 20
ANOTHER = "0x" + "6f" * 20


@pytest.fixture
def net(zerog_devnet: Devnet) -> Devnet:
    return zerog_devnet


@pytest.fixture
def client(net: Devnet) -> Client:
    """Over HTTP, as other tools call."""
    return Client(net.url, account=net.accounts[0])


@pytest.fixture
def manual(client: Client) -> Client:
    """A client of a chain that mines on request."""
    client.request("evm_setAutomine", False)
    return client


def deploy(client: Client, name: str, *arguments: Any) -> Contract:
    made = json.loads((ARTIFACTS / f"{name}.json").read_text())
    return client.deploy(made["abi"], made["bytecode"], *arguments)


# Mining.


@pytest.mark.parametrize("name", ["anvil_mine", "hardhat_mine"])
def test_mine_takes_count_and_interval(client: Client, name: str) -> None:
    head = client.block()
    client.request(name, "0x3", "0x3c")
    times = [client.block(head.number + n).timestamp for n in (1, 2, 3)]
    assert [b - a for a, b in pairwise(times)] == [60, 60]


def test_the_clock_goes_on_after_spaced_blocks(client: Client) -> None:
    client.request("anvil_mine", 3, 1000)
    last = client.block().timestamp
    client.request("evm_mine")
    assert last < client.block().timestamp < last + 60


@pytest.mark.parametrize("options", [None, {}, {"blocks": 1}])
def test_evm_mine_makes_one_block(client: Client, options: Any) -> None:
    before = client.block_number
    assert client.request("evm_mine", *([] if options is None else [options])) == "0x0"
    assert client.block_number == before + 1


def test_evm_mine_takes_a_timestamp_and_a_count(client: Client) -> None:
    start = client.block()
    client.request("evm_mine", {"timestamp": start.timestamp + 500, "blocks": 2})
    assert client.block(start.number + 1).timestamp == start.timestamp + 500
    assert client.block_number == start.number + 2
    client.request("evm_mine", hex(start.timestamp + 9000))
    assert client.block().timestamp == start.timestamp + 9000


def test_mine_detailed_tells_outputs(manual: Client, net: Devnet) -> None:
    manual.request("evm_setAutomine", True)
    token = deploy(manual, "SdkToken", 5)
    manual.request("evm_setAutomine", False)
    manual.submit(to=token, input=token.transfer.encode(SOMEONE, 1), gas=100_000)
    manual.submit(to=token, input=token.transfer.encode(SOMEONE, 99), gas=100_000)
    (block,) = manual.request("anvil_mine_detailed")
    first, second = block["transactions"]
    assert int(first["output"], 16) == 1
    assert second["output"].startswith("0x")


def test_automine_is_switched_and_told(client: Client) -> None:
    assert client.request("anvil_getAutomine") is True
    client.request("evm_setAutomine", False)
    assert client.request("hardhat_getAutomine") is False
    before = client.block_number
    transaction = client.submit(to=SOMEONE, value=1)
    assert client.block_number == before
    client.request("evm_setAutomine", True)
    assert client.wait(transaction, timeout=10).success


def test_an_interval_is_set_and_told(client: Client) -> None:
    client.request("evm_setIntervalMining", 3600)
    assert client.request("anvil_getIntervalMining") == 3600
    assert client.request("anvil_getAutomine") is False
    client.request("evm_setIntervalMining", 0)
    assert client.request("anvil_getIntervalMining") is None
    client.request("evm_setAutomine", True)


def test_a_burst_is_mined_to_the_last(client: Client, net: Devnet) -> None:
    account, start = net.accounts[0], client.nonce(net.accounts[0])
    raws = [
        account.sign_transaction(
            {
                "type": "0x2",
                "chainId": hex(net.chain_id),
                "nonce": hex(start + n),
                "to": SOMEONE,
                "value": "0x1",
                "gas": hex(21000),
                "maxFeePerGas": hex(10**11),
                "maxPriorityFeePerGas": "0x1",
                "input": "0x",
                "accessList": [],
            }
        )
        for n in range(300)
    ]
    results = client.batch([("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws])
    assert all(isinstance(result, str) for result in results)
    for hash_ in results:
        client.wait(hash_, timeout=30)
    assert client.request("txpool_status") == {"pending": "0x0", "queued": "0x0"}
    assert client.balance(SOMEONE) == 300


# The next block.


def test_the_header_of_the_next_block_is_chosen(client: Client) -> None:
    client.request("anvil_setCoinbase", SOMEONE)
    client.request("anvil_setNextBlockBaseFeePerGas", "0x7b")
    client.request("hardhat_setPrevRandao", "0x1234")
    client.request("evm_setBlockGasLimit", hex(40_000_000))
    client.request("evm_mine")
    block = client.block()
    assert block.miner.lower() == SOMEONE
    assert block.base_fee == 123
    assert int(block.raw["mixHash"], 16) == 0x1234
    assert block.gas_limit == 40_000_000


def test_what_cannot_be_set_says_why(client: Client) -> None:
    with pytest.raises(RpcError, match="EIP-1559 is active"):
        client.request("hardhat_setMinGasPrice", "0x1")
    with pytest.raises(RpcError, match="start one with --chain-id 5"):
        client.request("anvil_setChainId", 5)
    with pytest.raises(InvalidParams, match="gasLimit"):
        client.request("evm_setBlockGasLimit", 1)


# The clock.


def test_time_travels_forward(client: Client) -> None:
    before = client.block().timestamp
    client.request("evm_increaseTime", 10_000)
    client.request("evm_mine")
    assert before + 10_000 <= client.block().timestamp < before + 10_060


def test_time_travel_starts_from_blocks_that_run_ahead_of_the_clock(client: Client) -> None:
    client.request("anvil_mine", 300)
    before = client.block().timestamp
    client.request("evm_increaseTime", 100)
    client.request("evm_mine")
    assert client.block().timestamp >= before + 100


def test_the_next_timestamp_is_exact_and_the_clock_goes_on_from_it(client: Client) -> None:
    target = client.block().timestamp + 123_456
    client.request("evm_setNextBlockTimestamp", target)
    client.request("evm_mine")
    assert client.block().timestamp == target
    client.request("evm_mine")
    assert target < client.block().timestamp < target + 60


def test_a_timestamp_in_the_past_is_refused(client: Client) -> None:
    last = client.block().timestamp
    with pytest.raises(InvalidParams, match=f"is lower than that of the last block, {last}"):
        client.request("evm_setNextBlockTimestamp", last - 1)


def test_the_time_can_be_set(client: Client) -> None:
    target = client.block().timestamp + 50_000
    moved = client.request("evm_setTime", target)
    assert abs(moved - 50_000) < 120
    client.request("evm_mine")
    assert target <= client.block().timestamp < target + 60


def test_setting_the_time_back_answers_zero(client: Client) -> None:
    assert client.request("evm_setTime", client.block().timestamp - 50_000) == 0


def test_an_interval_of_timestamps_replaces_the_clock(client: Client) -> None:
    client.request("anvil_setBlockTimestampInterval", 7)
    start = client.block().timestamp
    client.request("anvil_mine", 3)
    assert client.block().timestamp == start + 21
    assert client.request("anvil_removeBlockTimestampInterval") is True
    assert client.request("anvil_removeBlockTimestampInterval") is False


# Accounts.


@pytest.mark.parametrize("name", ["anvil_setBalance", "hardhat_setBalance", "tenderly_setBalance"])
def test_a_balance_is_set(client: Client, name: str) -> None:
    client.request(name, SOMEONE, "0x64")
    assert client.balance(SOMEONE) == 100


def test_a_balance_is_added_to(client: Client) -> None:
    client.request("anvil_setBalance", SOMEONE, "0x64")
    client.request("anvil_addBalance", SOMEONE, "0x1")
    assert client.balance(SOMEONE) == 101
    assert client.request("tenderly_addBalance", [SOMEONE, ANOTHER], "0x5") == "0x5"
    with pytest.raises(InvalidParams, match="exceeds 2"):
        client.request("anvil_addBalance", SOMEONE, hex(2**256 - 1))


def test_code_nonce_and_storage_are_set(client: Client) -> None:
    # PUSH0 SLOAD PUSH0 MSTORE PUSH1 32 PUSH0 RETURN: returns slot 0.
    client.request("anvil_setCode", SOMEONE, "0x5f545f5260205ff3")
    assert client.request("anvil_setStorageAt", SOMEONE, "0x0", "0x2a") is True
    client.request("hardhat_setNonce", SOMEONE, "0x9")
    assert int.from_bytes(client.call(SOMEONE), "big") == 42
    assert client.storage_at(SOMEONE, 0) == 42
    assert client.nonce(SOMEONE) == 9


def test_edits_are_part_of_the_next_state_root(client: Client) -> None:
    client.request("evm_mine")
    before = client.block().state_root
    client.request("anvil_setBalance", SOMEONE, "0x1")
    client.request("evm_mine")
    assert client.block().state_root != before


def test_history_keeps_the_state_before_an_edit(client: Client) -> None:
    client.request("evm_mine")
    old = client.block_number
    client.request("evm_mine")
    client.request("anvil_setBalance", SOMEONE, "0x64")
    assert client.balance(SOMEONE, old) == 0
    assert client.balance(SOMEONE) == 100


def test_an_impersonated_contract_sends(client: Client) -> None:
    client.request("anvil_setCode", SOMEONE, "0x00")
    client.request("anvil_setBalance", SOMEONE, hex(10**18))
    client.request("hardhat_impersonateAccount", SOMEONE)
    assert client.send(account=SOMEONE, to=ANOTHER, value=1).success
    client.request("hardhat_stopImpersonatingAccount", SOMEONE)
    with pytest.raises(RpcError):
        client.send(account=SOMEONE, to=ANOTHER, value=1)


def test_every_account_can_be_impersonated_at_once(client: Client) -> None:
    client.request("anvil_setBalance", SOMEONE, hex(10**18))
    client.request("anvil_autoImpersonateAccount", True)
    assert client.send(account=SOMEONE, to=ANOTHER, value=1).success
    client.request("anvil_autoImpersonateAccount", False)


def test_an_unsigned_transaction_is_sent_once(client: Client) -> None:
    client.request("anvil_setBalance", SOMEONE, hex(10**18))
    hash_ = client.request("eth_sendUnsignedTransaction", {"from": SOMEONE, "to": ANOTHER, "value": "0x1"})
    assert client.wait(hash_, timeout=10).sender.lower() == SOMEONE
    with pytest.raises(RpcError):
        client.send(account=SOMEONE, to=ANOTHER, value=1)


@pytest.mark.parametrize("proxied", [False, True])
def test_token_balances_and_allowances_are_dealt(client: Client, proxied: bool) -> None:
    token = deploy(client, "SdkToken", 5)
    if proxied:
        proxy = deploy(client, "SdkProxy", token.address)
        token = client.contract(proxy.address, token.abi.raw)
    client.request("anvil_dealERC20", SOMEONE, token.address, hex(12345))
    assert token.balanceOf(SOMEONE) == 12345
    client.request("tenderly_setErc20Balance", token.address, SOMEONE, "0x0")
    assert token.balanceOf(SOMEONE) == 0
    client.request("anvil_setERC20Allowance", SOMEONE, ANOTHER, token.address, hex(2**256 - 1))
    assert token.allowance(SOMEONE, ANOTHER) == 2**256 - 1


def test_what_is_no_token_is_told(client: Client) -> None:
    with pytest.raises(RpcError, match=r"is it an ERC-20 token\?|cannot be called"):
        client.request("anvil_dealERC20", SOMEONE, ANOTHER, "0x1")


# The pool.


def test_transactions_are_dropped(manual: Client, net: Devnet) -> None:
    first = manual.submit(to=SOMEONE, value=1, nonce=manual.nonce(net.accounts[0]))
    assert manual.request("anvil_dropTransaction", first) == first
    assert manual.request("anvil_dropTransaction", first) is None
    manual.submit(to=SOMEONE, value=1, account=net.accounts[1])
    manual.submit(to=SOMEONE, value=1, account=net.accounts[2])
    manual.request("anvil_removePoolTransactions", net.accounts[1].address)
    assert manual.request("txpool_status")["pending"] == "0x1"
    manual.request("anvil_dropAllTransactions")
    assert manual.request("txpool_status")["pending"] == "0x0"


# History.


def test_a_snapshot_brings_state_blocks_and_clock_back(client: Client) -> None:
    head, balance = client.block(), client.balance(SOMEONE)
    mark = client.request("evm_snapshot")
    client.request("evm_increaseTime", 100_000)
    client.send(to=SOMEONE, value=5)
    client.request("anvil_setBalance", ANOTHER, "0x7")
    assert client.request("evm_revert", mark) is True
    assert client.block() == head
    assert (client.balance(SOMEONE), client.balance(ANOTHER)) == (balance, 0)
    client.request("evm_mine")
    assert client.block().timestamp < head.timestamp + 10_000


def test_a_snapshot_is_consumed_with_later_ones(client: Client) -> None:
    first = client.request("evm_snapshot")
    second = client.request("evm_snapshot")
    assert client.request("evm_revert", first) is True
    assert client.request("evm_revert", first) is False
    assert client.request("evm_revert", second) is False
    assert client.request("evm_revert", "0xffffffffffffffffffff") is False


def test_a_rollback_drops_blocks_and_their_transactions(client: Client) -> None:
    client.request("anvil_mine", 2)
    target = client.block()
    receipt = client.send(to=SOMEONE, value=5)
    client.request("anvil_mine", 2)
    client.request("anvil_rollback", 3)
    assert client.block() == target
    assert client.receipt(receipt.hash) is None
    assert client.balance(SOMEONE) == 0
    with pytest.raises(InvalidParams, match="cannot exceed the height"):
        client.request("anvil_rollback", 10**6)


def test_a_reorganisation_replaces_blocks(client: Client, net: Devnet) -> None:
    client.request("anvil_mine", 5)
    height = client.block_number
    old = [client.block(height - 1).hash, client.block(height).hash]
    unsigned = {"from": net.accounts[1].address, "to": SOMEONE, "value": "0x5"}
    client.request("anvil_reorg", 2, [[unsigned, 1]])
    assert client.block_number == height
    new = [client.block(height - 1), client.block(height)]
    assert not {block.hash for block in new} & set(old)
    assert [len(block.transactions) for block in new] == [0, 1]
    assert client.balance(SOMEONE) == 5
    assert client.request("anvil_getAutomine") is True
    client.send(to=SOMEONE, value=1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([0], "depth"),
        (["x"], "depth"),
        ([1, [["0x12"]]], r"transactionPairs\[0\]"),
        ([1, [["0x12", 1]]], "block index 1 must be below the depth 1"),
        ([1, [["zz", 0]]], r"transactionPairs\[0\]"),
    ],
)
def test_a_wrong_reorganisation_changes_nothing(client: Client, params: list[Any], message: str) -> None:
    client.request("anvil_mine", 2)
    before = client.block()
    with pytest.raises(InvalidParams, match=message):
        client.request("anvil_reorg", *params)
    assert client.block() == before


def test_a_reset_goes_back_to_the_genesis_block() -> None:
    with Devnet() as net:
        first = net.client.block()
        net.set_balance(SOMEONE, 5)
        net.client.send(account=net.accounts[0], to=ANOTHER, value=1)
        net.client.request("anvil_reset")
        assert net.client.block() == first
        assert net.client.balance(SOMEONE) == net.client.balance(ANOTHER) == 0
        assert net.client.nonce(net.accounts[0]) == 0
        net.client.send(account=net.accounts[0], to=ANOTHER, value=1)


def test_forking_is_refused_and_changes_nothing(client: Client) -> None:
    client.request("evm_mine")
    before = client.block()
    with pytest.raises(RpcError, match="fork mode"):
        client.request("hardhat_reset", {"forking": {"jsonRpcUrl": "http://127.0.0.1:1"}})
    assert client.block() == before


def test_a_dumped_state_is_loaded_into_another_chain(client: Client) -> None:
    client.request("anvil_setCode", SOMEONE, "0x5f545f5260205ff3")
    client.request("anvil_setStorageAt", SOMEONE, "0x0", "0x2a")
    state = client.request("anvil_dumpState")
    assert bytes.fromhex(state[2:])[:2] == b"\x1f\x8b"
    with Devnet() as other:
        assert other.client.request("anvil_loadState", state) is True
        assert int.from_bytes(other.client.call(SOMEONE), "big") == 42


@pytest.mark.parametrize("packed", [False, True])
def test_a_state_of_anvil_is_loaded(client: Client, packed: bool) -> None:
    account = {"nonce": 3, "balance": "0x64", "code": "0x5f545f5260205ff3", "storage": {"0x0": "0x2a"}}
    content = json.dumps({"accounts": {SOMEONE: account}, "best_block_number": "0x5"}).encode()
    raw = gzip.compress(content) if packed else content
    assert client.request("anvil_loadState", "0x" + raw.hex()) is True
    assert (client.balance(SOMEONE), client.nonce(SOMEONE), client.storage_at(SOMEONE, 0)) == (100, 3, 42)


@pytest.mark.parametrize("state", ["0x", "0x1f8b", "0x1234", "0x7b7d", "0x1f8b0800000000000003ab"])
def test_a_damaged_state_changes_nothing(client: Client, state: str) -> None:
    root = client.block().state_root
    with pytest.raises(RpcError):
        client.request("anvil_loadState", state)
    client.request("evm_mine")
    assert client.block().state_root == root or client.block().number > 0


# About.


def test_the_node_describes_itself(client: Client, net: Devnet) -> None:
    info = client.request("anvil_nodeInfo")
    assert info["hardFork"] == "osaka"
    assert info["environment"]["chainId"] == net.chain_id
    assert int(info["currentBlockNumber"], 16) == client.block_number
    about = client.request("hardhat_metadata")
    assert about["latestBlockHash"] == client.block().hash
    assert client.request("anvil_getGenesisTime") == client.block(0).timestamp


def test_controls_answer_only_on_a_devnet() -> None:
    with Devnet(options={"profile": "galileo"}) as net:
        client = Client(net.url)
        for name in METHODS.names():
            with pytest.raises(RpcError) as caught:
                client.request(name)
            assert caught.value.code == -32601


def test_every_control_refuses_rubbish_and_lives(client: Client) -> None:
    before = client.block().number
    for name in METHODS.names():
        rubbish: list[list[Any]] = [[[]] * 9, [{"a": 1}] * 9, ["😀"] * 9, [None] * 9]
        for params in rubbish:
            with pytest.raises((RpcError, TransactionError)):
                client.request(name, *params)
    assert client.block().number == before
