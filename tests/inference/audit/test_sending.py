"""Transactions of a verifier: written down before they are sent, and sent once, whatever dies in between."""

from __future__ import annotations

import pytest

from zerog.client import Account, Devnet
from zerog.contracts import INFERENCE_GATE, artifact
from zerog.errors import ContractReverted, TransportError
from zerog.inference.audit.journal import Journal
from zerog.inference.audit.sending import Call, JournalledSender, refusal

TARGET = "0x00000000000000000000000000000000000000aa"
PAY = Call(TARGET, b"", "pay", value=7)


class Lossy:
    """A client whose next sends fail: the process dies, or the network does."""

    def __init__(self, client, after=False):
        self._client = client
        self.after = after
        self.failures = 1

    def __getattr__(self, name):
        return getattr(self._client, name)

    def send_raw(self, raw):
        if self.failures == 0:
            return self._client.send_raw(raw)
        self.failures -= 1
        if self.after:
            self._client.send_raw(raw)
        raise TransportError("killed")


@pytest.fixture
def net():
    with Devnet(mining="manual") as devnet:
        yield devnet


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "journal")


def test_a_transaction_waits_for_its_block_and_is_not_sent_again(net, journal):
    sender, account = JournalledSender(net.client, journal), net.accounts[1]
    assert [sender.send("a", account, PAY) for _ in range(3)] == [None] * 3
    assert sender.pending("a")
    net.mine()
    receipt = sender.send("a", account, PAY)
    assert receipt is not None and receipt["status"] == "0x1"
    assert not sender.pending("a")
    net.mine()
    assert sender.send("a", account, PAY) == receipt
    assert net.client.balance(TARGET) == 7


@pytest.mark.parametrize("after", [False, True], ids=["before it is sent", "after it was sent"])
def test_a_process_that_dies_while_sending_goes_on_with_the_same_transaction(net, journal, after):
    account = net.accounts[1]
    with pytest.raises(TransportError):
        JournalledSender(Lossy(net.client, after), journal).send("a", account, PAY)
    promised = journal.parcel("a")
    sender = JournalledSender(net.client, journal)
    sender.send("a", account, PAY)
    net.mine()
    receipt = sender.send("a", account, PAY)
    assert receipt is not None and receipt["transactionHash"] == promised.hash
    assert net.client.nonce(account) == 1


def test_an_overtaken_transaction_is_signed_anew(net, journal):
    account = net.accounts[1]
    with pytest.raises(TransportError):
        JournalledSender(Lossy(net.client), journal).send("a", account, PAY)
    net.client.submit(account=account, to=account, value=0)
    net.mine()
    sender = JournalledSender(net.client, journal)
    sender.send("a", account, PAY)
    net.mine()
    assert sender.send("a", account, PAY)["status"] == "0x1"
    assert (net.client.nonce(account), net.client.balance(TARGET)) == (2, 7)


def test_a_transaction_that_a_reorganisation_took_out_is_sent_again(net, journal):
    sender, account = JournalledSender(net.client, journal), net.accounts[1]
    with net.anchor():
        sender.send("a", account, PAY)
        net.mine()
        first = sender.send("a", account, PAY)
    assert net.client.balance(TARGET) == 0
    sender.send("a", account, PAY)
    net.mine()
    assert sender.send("a", account, PAY)["transactionHash"] == first["transactionHash"]
    assert net.client.balance(TARGET) == 7


def test_what_the_contract_would_refuse_is_not_sent_and_the_error_is_named(net, journal):
    gate = net.client.contract(INFERENCE_GATE, artifact("InferenceGate").abi)
    sender = JournalledSender(net.client, journal, gate.explained)
    call = Call(INFERENCE_GATE, gate.finalize.encode(bytes(32)), "finalize")
    with pytest.raises(ContractReverted) as refused:
        sender.send("a", net.accounts[1], call)
    assert refusal(refused.value) == "NotParked"
    assert journal.parcel("a") is None
    with pytest.raises(ContractReverted):
        sender.would(net.accounts[1], call)


def test_purposes_do_not_hold_each_other_up(net, journal):
    sender = JournalledSender(net.client, journal)
    for purpose in ("a", "b", "c"):
        sender.send(purpose, net.accounts[1], PAY)
    net.mine()
    assert net.client.balance(TARGET) == 21


def test_an_account_without_funds_sends_nothing(net, journal):
    from zerog.errors import RpcError

    with pytest.raises(RpcError):
        JournalledSender(net.client, journal).send("a", Account.random(), PAY)
    assert journal.parcel("a") is None
