"""The SDK against a real chain: sending, contracts, events, errors."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from zerog import Account, Client, Contract, Devnet
from zerog.client.transport import HttpTransport
from zerog.errors import (
    AbiError,
    ContractReverted,
    InvalidParams,
    RpcError,
    TransactionError,
    TransactionFailed,
    TransportError,
    TransportTimeout,
    WaitTimeout,
)

ARTIFACTS = Path(__file__).parents[1] / "contracts" / "artifacts"
SUPPLY = 10**24


def artifact(name: str) -> Any:
    return json.loads((ARTIFACTS / f"{name}.json").read_text())


@pytest.fixture(params=["in process", "http"])
def client(request: pytest.FixtureRequest, zerog_devnet: Devnet) -> Client:
    if request.param == "in process":
        return zerog_devnet.client
    return Client(zerog_devnet.url, account=zerog_devnet.accounts[0])


@pytest.fixture
def token(client: Client) -> Contract:
    made = artifact("SdkToken")
    return client.deploy(made["abi"], made["bytecode"], SUPPLY)


def test_a_transfer_arrives(client: Client, zerog_devnet: Devnet) -> None:
    alice, bob = zerog_devnet.accounts[:2]
    before = client.balance(bob)
    receipt = client.send(account=alice, to=bob, value=10**18)
    assert receipt.success
    assert client.balance(bob) == before + 10**18
    assert client.block(receipt.block_number).transactions == (receipt.hash,)


@pytest.mark.parametrize(
    "fields",
    [
        {"gas_price": 2 * 10**9},
        {"gas_price": 2 * 10**9, "access_list": []},
        {"max_fee_per_gas": 3 * 10**9, "max_priority_fee_per_gas": 1},
    ],
)
def test_every_kind_of_fee_can_be_chosen(
    client: Client, zerog_devnet: Devnet, fields: dict[str, Any]
) -> None:
    receipt = client.send(to=zerog_devnet.accounts[1], value=1, **fields)
    sent = client.transaction(receipt.hash)
    assert sent is not None
    kind = 2 if "max_fee_per_gas" in fields else int("access_list" in fields)
    assert int(sent["type"], 16) == kind


def test_an_unlocked_account_signs_at_the_node(client: Client, zerog_devnet: Devnet) -> None:
    sender = zerog_devnet.accounts[3].address
    assert sender.lower() in [address.lower() for address in client.node_accounts]
    receipt = client.send(account=sender, to="0x" + "44" * 20, value=3)
    assert receipt.sender.lower() == sender.lower()


def test_an_impersonated_account_sends_without_a_key(client: Client, zerog_devnet: Devnet) -> None:
    whale = "0x" + "aa" * 20
    zerog_devnet.set_balance(whale, 10**18)
    with zerog_devnet.impersonate(whale) as sender:
        receipt = client.send(account=sender, to="0x" + "45" * 20, value=9)
    assert receipt.sender.lower() == whale
    with pytest.raises(RpcError):
        client.send(account=whale, to="0x" + "45" * 20, value=9)


def test_a_deployed_contract_has_methods_and_a_repr(token: Contract, zerog_devnet: Devnet) -> None:
    alice, bob = zerog_devnet.accounts[:2]
    assert token.balanceOf(alice) == SUPPLY
    receipt = token.transfer(bob, 5)
    assert token.balanceOf(bob) == 5
    (event,) = token.decode(receipt)
    assert (event.name, event.to, event.amount) == ("Transfer", bob.address, 5)
    assert "transfer(address to, uint256 amount) -> bool" in repr(token)
    assert "balanceOf" in dir(token)


def test_past_events_are_filtered_by_indexed_arguments(token: Contract, zerog_devnet: Devnet) -> None:
    bob, carol = zerog_devnet.accounts[1:3]
    token.transfer(bob, 1)
    token.transfer(carol, 2)
    assert [event.amount for event in token.events.Transfer()] == [1, 2]
    assert [event.amount for event in token.events.Transfer(to=carol)] == [2]
    assert [event.amount for event in token.events.Transfer(to=[bob, carol])] == [1, 2]


def test_structs_and_overloads_work_by_their_arguments(token: Contract, zerog_devnet: Devnet) -> None:
    alice = zerog_devnet.accounts[0]
    token.add({"x": 1, "owner": alice})
    token.add(2, alice)
    token.functions["add(uint256,address)"](3, alice)
    points = token.points()
    assert [(point.x, point.owner) for point in points] == [(n, alice.address) for n in (1, 2, 3)]


def test_several_return_values_have_names(token: Contract) -> None:
    pair = token.pair()
    assert (pair.count, pair.text) == (2, "two") or tuple(pair) == (2, "two")
    assert pair.text == "two"


def test_a_custom_error_is_decoded_with_its_values(token: Contract, zerog_devnet: Devnet) -> None:
    bob = zerog_devnet.accounts[1]
    with pytest.raises(ContractReverted) as caught:
        token.transfer(zerog_devnet.accounts[0], 7, account=bob)
    assert caught.value.reason == "Short(wanted=7, held=0)"
    with pytest.raises(ContractReverted, match="too late") as caught:
        token.fail("too late")
    assert caught.value.reason == "too late"
    with pytest.raises(ContractReverted, match="arithmetic overflow"):
        token.overflow(1)


def test_a_failed_transaction_carries_receipt_and_reason(token: Contract, zerog_devnet: Devnet) -> None:
    bob = zerog_devnet.accounts[1]
    with pytest.raises(TransactionFailed) as caught:
        token.transfer(zerog_devnet.accounts[0], 7, account=bob, gas=200_000)
    assert not caught.value.receipt.success


def test_a_call_can_look_at_the_past(token: Contract, client: Client, zerog_devnet: Devnet) -> None:
    bob = zerog_devnet.accounts[1]
    before = client.block_number
    token.transfer(bob, 5)
    assert token.balanceOf(bob, block=before) == 0


def test_a_wrong_argument_is_refused_before_anything_is_sent(token: Contract, client: Client) -> None:
    before = client.block_number
    with pytest.raises(AbiError, match="amount"):
        token.transfer("0x" + "11" * 20, "five")
    with pytest.raises(AbiError, match="cannot take 1 arguments"):
        token.transfer("0x" + "11" * 20)
    assert client.block_number == before


def test_a_call_to_nothing_says_so(client: Client) -> None:
    nobody = client.contract("0x" + "99" * 20, artifact("SdkToken")["abi"])
    with pytest.raises(AbiError, match="there is no contract at 0x9999"):
        nobody.balanceOf("0x" + "11" * 20)


def test_a_batch_answers_in_order_and_keeps_failures_apart(client: Client, zerog_devnet: Devnet) -> None:
    results = client.batch(
        [("eth_chainId", []), ("eth_getBalance", ["0x12", "latest"]), ("eth_blockNumber", [])]
    )
    assert results[0] == hex(zerog_devnet.chain_id)
    assert isinstance(results[1], InvalidParams)
    assert int(results[2], 16) == client.block_number


def test_an_unknown_method_is_an_rpc_error(client: Client) -> None:
    with pytest.raises(RpcError) as caught:
        client.request("eth_fortune")
    assert caught.value.code == -32601


def test_a_sender_is_needed_and_fields_are_known(zerog_devnet: Devnet) -> None:
    client = Client(zerog_devnet.url)
    with pytest.raises(TransactionError, match="no account to send from"):
        client.send(to="0x" + "11" * 20)
    with pytest.raises(TransactionError, match="unknown field 'gass'"):
        client.send(to="0x" + "11" * 20, account=zerog_devnet.accounts[0], gass=1)


def test_waiting_has_a_limit(zerog_devnet: Devnet) -> None:
    with pytest.raises(WaitTimeout, match=r"is in no block after 0\.05 s"):
        zerog_devnet.client.wait("0x" + "12" * 32, timeout=0.05)


def test_one_client_serves_many_threads(zerog_devnet: Devnet) -> None:
    client = Client(zerog_devnet.url)
    failures: list[BaseException] = []

    def work(account: Account) -> None:
        try:
            for _ in range(10):
                client.send(account=account, to="0x" + "66" * 20, value=1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(a,)) for a in zerog_devnet.accounts[:4]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert client.balance("0x" + "66" * 20) == 40


def test_a_connection_that_the_node_closed_is_opened_again(zerog_devnet: Devnet) -> None:
    transport = HttpTransport(zerog_devnet.url)
    first = transport.request("eth_chainId", [])
    transport._local.connection.sock.shutdown(socket.SHUT_RDWR)
    assert transport.request("eth_chainId", []) == first


def test_a_node_that_is_not_there_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(TransportError, match=r"no node answers at .*start one with `zerog up`"):
        Client(f"http://127.0.0.1:{port}").block_number  # noqa: B018


def test_a_silent_server_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.1)
        with pytest.raises(TransportTimeout):
            client.request("eth_chainId")


@pytest.mark.parametrize("answer", [b"hello", b"{", b'[{"id":1}]', b'"x"'])
def test_an_answer_that_is_no_json_rpc_is_told(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(TransportError, match="did not answer JSON-RPC"):
            Client(f"http://127.0.0.1:{server.getsockname()[1]}").request("eth_chainId")
        thread.join(10)


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8545", "http://"])
def test_an_address_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(TransportError, match="is not an http"):
        Client(url)
