"""`zerog storage miner` against the miner of a devnet."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from zerog.cli import run
from zerog.client import Client, Devnet
from zerog.client.storage import Storage

LIMIT = 60.0
"""Seconds in which a miner of a devnet earns."""


@pytest.fixture
def net() -> Iterator[Devnet]:
    with Devnet(services=["storage", "miner"]) as running:
        yield running


@pytest.fixture
def ask(net: Devnet, capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(*command: str) -> Any:
        assert run(["storage", "miner", *command, "--url", net.url, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return ask


def test_a_reward_is_earned_shown_and_withdrawn(
    net: Devnet, ask: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(
        Storage(net.url, client=Client(net.url, account=net.accounts[1]), state=tmp_path)
    ) as storage:
        storage.put(os.urandom(600_000))
    deadline = time.monotonic() + LIMIT
    while not (found := ask("status")).get("answers"):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert int(found["owed"]) == int(found["earned"]) > 0
    assert run(["storage", "miner", "status", "--url", net.url]) == 0
    assert found["minerId"] in capsys.readouterr().out
    before = net.client.balance(found["beneficiary"])
    made = ask("withdraw")
    receipt = net.client.wait(made["transaction"])
    fee = receipt.gas_used * receipt.effective_gas_price
    assert net.client.balance(found["beneficiary"]) == before + int(made["amount"]) - fee
    assert ask("withdraw") == {"transaction": None, "amount": "0"}


def test_a_stopped_miner_says_so_and_starts_again(
    net: Devnet, ask: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("stop") == {"mining": False}
    deadline = time.monotonic() + LIMIT
    while ask("status").get("mining") is not False:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run(["storage", "miner", "status", "--url", net.url])
    assert capsys.readouterr().out.startswith("stopped")
    assert ask("start") == {"mining": True}
    assert ask("status")["mining"] is True


def test_a_node_without_a_miner_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with Devnet(services=["storage"]) as net:
        assert run(["storage", "miner", "status", "--url", net.url]) == 1
    assert capsys.readouterr().err.startswith("zerog: no miner answers at http")
