"""Paying once, on a real chain with the real contracts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerog import Client, Devnet
from zerog._native import FileTree
from zerog.client.storage import _ClientPayer
from zerog.contracts import PREDEPLOYS
from zerog.storage.transfer.payment import Cashier, Item, Journal

Till = Callable[[], Cashier]


def item(content: bytes, tags: bytes = b"") -> Item:
    tree = FileTree.from_bytes(content)
    return Item(tree.root, len(content), tuple(tree.nodes), tags)


@pytest.fixture(params=["signed here", "signed by the node"])
def account(request: pytest.FixtureRequest, zerog_devnet: Devnet) -> Any:
    first = zerog_devnet.accounts[3]
    return first if request.param == "signed here" else first.address


@pytest.fixture
def client(zerog_devnet: Devnet) -> Client:
    return zerog_devnet.client


@pytest.fixture
def till(client: Client, account: Any, tmp_path: Path) -> Till:
    flow = PREDEPLOYS["StorageFlow"]
    return lambda: Cashier(
        client.request, _ClientPayer(client, account), flow, "scope", Journal(tmp_path), 10.0
    )


def test_the_contract_takes_what_is_encoded_here(client: Client, account: Any, till: Till) -> None:
    files = [item(bytes([n]) * (300 * n), bytes([n]) * n) for n in range(1, 5)]
    before = client.nonce(account)
    places = till().submit(files)
    assert client.nonce(account) == before + 1
    assert [place.size for place in places] == [one.size for one in files]
    assert [place.seq for place in places] == list(range(places[0].seq, places[0].seq + 4))
    assert all(
        place.cost == till().price() * one.sectors > 0 for place, one in zip(places, files, strict=True)
    )


def test_a_submission_on_chain_is_found_without_a_journal(client: Client, account: Any, till: Till) -> None:
    file = item(b"found again")
    (first,) = till().submit([file])
    till().settle(file)
    nonce = client.nonce(account)
    (second,) = till().submit([file])
    assert (second.seq, second.cost, client.nonce(account)) == (first.seq, 0, nonce)


def test_other_tags_are_another_submission(till: Till) -> None:
    seqs = [till().submit([item(b"tagged", tags)])[0].seq for tags in (b"a", b"b")]
    assert seqs[1] == seqs[0] + 1


def test_a_payment_that_never_left_is_sent_and_not_made_anew(
    client: Client, account: Any, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, nonce = item(b"stopped before sending"), client.nonce(account)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_ClientPayer, "broadcast", stopped)
        till().submit([file])
    assert client.nonce(account) == nonce
    with monkeypatch.context() as patch:
        patch.setattr(_ClientPayer, "prepare", stopped)
        till().submit([file], again=True)
    assert client.nonce(account) == nonce + 1


def test_a_payment_whose_answer_was_lost_is_found(
    client: Client, account: Any, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, nonce = item(b"stopped after sending"), client.nonce(account)
    send = _ClientPayer.broadcast

    def lost(self: _ClientPayer, prepared: Any) -> None:
        send(self, prepared)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_ClientPayer, "broadcast", lost)
        till().submit([file], again=True)
    till().submit([file], again=True)
    assert client.nonce(account) == nonce + 1


def test_a_payment_whose_nonce_went_to_another_transaction_is_made_anew(
    client: Client, account: Any, till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = item(b"overtaken")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(_ClientPayer, "broadcast", stopped)
        till().submit([file])
    client.send(account=account, to=account, value=1)
    nonce = client.nonce(account)
    (place,) = till().submit([file])
    assert place.cost > 0 and client.nonce(account) == nonce + 1


def test_a_reverted_chain_is_paid_again(zerog_devnet: Devnet, till: Till) -> None:
    file = item(b"reverted")
    mark = zerog_devnet.snapshot()
    (first,) = till().submit([file])
    zerog_devnet.revert(mark)
    (second,) = till().submit([file])
    assert second.seq == first.seq
