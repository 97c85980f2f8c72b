"""web3.py, unmodified, against `zerog up`."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import Node

web3 = pytest.importorskip("web3", reason="web3.py is not installed: run `make setup-test`")
from eth_account import Account  # noqa: E402
from web3 import AsyncWeb3, HTTPProvider, Web3, WebSocketProvider  # noqa: E402
from web3.exceptions import ContractCustomError, ContractLogicError  # noqa: E402

pytestmark = pytest.mark.conformance
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PROGRAM = 'import("./checks.mjs").then(({ compile }) => console.log(JSON.stringify(compile())))'


@pytest.fixture(scope="module")
def w3(node: Node) -> Web3:
    return Web3(HTTPProvider(node.url))


@pytest.fixture(scope="module")
def compiled(clients: Path) -> dict[str, Any]:
    out = subprocess.run(
        ["node", "-e", PROGRAM, "x", "y"], cwd=clients, capture_output=True, text=True, check=True
    )
    return json.loads(out.stdout)  # type: ignore[no-any-return]


def send(w3: Web3, **fields: Any) -> Any:
    account = Account.from_key(KEY)
    transaction = {
        "to": OTHER, "value": 1, "gas": 200_000, "chainId": w3.eth.chain_id,
        "nonce": w3.eth.get_transaction_count(account.address), **fields,
    }  # fmt: skip
    blobs = transaction.pop("blobs", None)
    signed = account.sign_transaction(transaction, blobs=blobs)
    return w3.eth.wait_for_transaction_receipt(w3.eth.send_raw_transaction(signed.raw_transaction))


@pytest.fixture(scope="module")
def probe(w3: Web3, compiled: dict[str, Any]) -> Any:
    factory = w3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    receipt = w3.eth.wait_for_transaction_receipt(
        factory.constructor(7).transact({"from": w3.eth.accounts[0]})
    )
    return w3.eth.contract(address=receipt["contractAddress"], abi=compiled["abi"])


def test_contract_is_deployed_and_called(w3: Web3, probe: Any) -> None:
    assert probe.functions.value().call() == 7
    assert probe.functions.context().call()[2] == w3.eth.chain_id


def test_event_is_decoded_from_receipt_and_logs(w3: Web3, probe: Any) -> None:
    receipt = w3.eth.wait_for_transaction_receipt(
        probe.functions.set(8, "web3").transact({"from": w3.eth.accounts[0]})
    )
    (event,) = probe.events.Changed().process_receipt(receipt)
    assert event["args"]["note"] == "web3"
    (log,) = probe.events.Changed().get_logs(from_block=receipt["blockNumber"])
    assert log["blockHash"] == w3.eth.get_block(receipt["blockNumber"])["hash"]


def test_reverts_are_decoded(probe: Any) -> None:
    with pytest.raises(ContractLogicError, match="refused on purpose"):
        probe.functions.refuse().call()
    with pytest.raises(ContractCustomError):
        probe.functions.raise_(1).call() if hasattr(probe.functions, "raise_") else probe.functions["raise"](
            1
        ).call()


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (0, {"gasPrice": 3 * 10**9}),
        (1, {"gasPrice": 3 * 10**9, "accessList": [{"address": OTHER, "storageKeys": ["0x" + "00" * 32]}], "type": 1}),
        (2, {"maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 10**9, "type": 2}),
        (
            3,
            {
                "maxFeePerGas": 3 * 10**9, "maxPriorityFeePerGas": 10**9, "maxFeePerBlobGas": 10**10, "type": 3,
                "blobs": [b"\x00" * 131072],
            },
        ),
    ],
)  # fmt: skip
def test_transaction_type_is_mined(w3: Web3, kind: int, fields: dict[str, Any]) -> None:
    receipt = send(w3, **fields)
    assert receipt["status"] == 1
    assert receipt["type"] == kind
    assert w3.eth.get_transaction(receipt["transactionHash"])["type"] == kind


def test_set_code_transaction_delegates(w3: Web3, probe: Any) -> None:
    authority = Account.create()
    authorization = authority.sign_authorization(
        {"chainId": w3.eth.chain_id, "address": probe.address, "nonce": 0}
    )
    receipt = send(
        w3, to=authority.address, type=4, maxFeePerGas=3 * 10**9, maxPriorityFeePerGas=10**9,
        authorizationList=[authorization],
    )  # fmt: skip
    assert receipt["status"] == 1
    assert w3.eth.get_code(authority.address) == bytes.fromhex("ef0100" + probe.address[2:])


def test_new_heads_and_logs_arrive_over_websocket(node: Node, w3: Web3, probe: Any) -> None:
    async def scenario() -> tuple[int, int]:
        async with AsyncWeb3(WebSocketProvider(node.url.replace("http", "ws", 1))) as live:
            heads = await live.eth.subscribe("newHeads")
            logs = await live.eth.subscribe("logs", {"address": probe.address})
            sent = await live.eth.send_transaction(
                {
                    "from": w3.eth.accounts[0],
                    "to": probe.address,
                    "data": probe.encode_abi("set", [9, "live"]),
                }
            )
            receipt = await live.eth.wait_for_transaction_receipt(sent)
            seen: dict[str, int] = {}
            async for message in live.socket.process_subscriptions():
                if message["subscription"] == heads:
                    seen["head"] = message["result"]["number"]
                elif message["subscription"] == logs:
                    seen["log"] = message["result"]["blockNumber"]
                if len(seen) == 2:
                    break
            assert seen["head"] == receipt["blockNumber"]
            return seen["head"], seen["log"]

    head, log = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert head == log


def test_snapshot_impersonation_and_time(w3: Web3, probe: Any) -> None:
    whale = "0x1234567890123456789012345678901234567890"
    request = w3.provider.make_request
    snapshot = request("evm_snapshot", [])["result"]  # type: ignore[arg-type]
    request("anvil_setBalance", [whale, hex(10**18)])  # type: ignore[arg-type]
    request("anvil_impersonateAccount", [whale])  # type: ignore[arg-type]
    receipt = w3.eth.wait_for_transaction_receipt(
        w3.eth.send_transaction({"from": whale, "to": OTHER, "value": 1})
    )
    assert receipt["from"] == whale
    start = w3.eth.get_block("latest")["timestamp"]
    request("evm_increaseTime", [3600])  # type: ignore[arg-type]
    request("evm_mine", [])  # type: ignore[arg-type]
    assert w3.eth.get_block("latest")["timestamp"] >= start + 3600
    assert request("evm_revert", [snapshot])["result"] is True  # type: ignore[arg-type]
    assert w3.eth.get_balance(whale) == 0
