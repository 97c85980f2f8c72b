from __future__ import annotations

import asyncio
import itertools

import pytest

from zerog.client import Client
from zerog.client.kv import Change
from zerog.client.kv import Kv as KvClient
from zerog.client.transport import LocalTransport
from zerog.errors import StorageError, StreamWriteRefused
from zerog.storage.kv.service import KvService

from .flow import ALICE, BOB, STREAM, MemoryFlow


class Network:
    """A flow, a KV service on it, and clients that write as somebody."""

    def __init__(self):
        self.flow = MemoryFlow()
        self.service = KvService(self.flow, chain_id=lambda: 31337)
        self.service.open().replay.catch_up()
        self.methods = self.service.methods()

    def call(self, method, params):
        return asyncio.run(self.methods[method](params))

    def stream(self, sender=ALICE, *, here=True, timeout=10.0):
        def upload(content, tags):
            seq = self.flow.submit(content, tags, sender, here=here)
            self.service.open().replay.catch_up()
            return seq

        client = Client(transport=LocalTransport(self.call))
        return KvClient(client, upload=upload, timeout=timeout).stream(STREAM)


@pytest.fixture
def network():
    made = Network()
    yield made
    made.service.close()


def test_what_is_set_is_read(network):
    stream = network.stream()
    assert stream.get("k") is None
    assert stream.set("k", b"v") == 0
    stream.set_many({"a": b"1", b"\xff": "x" * 600_000})
    assert (stream.get("k"), stream.entry("a").version) == (b"v", 1)
    assert stream.get(b"\xff") == b"x" * 600_000
    assert [entry.key for entry in stream.items()] == [b"a", b"k", b"\xff"]
    stream.delete("a")
    assert list(stream.keys()) == [b"k", b"\xff"]
    assert list(stream.keys("k")) == [b"k"]


def test_a_refused_write_says_why(network):
    network.stream().set("k", b"v")
    with pytest.raises(StreamWriteRefused, match="SenderNoWritePermission"):
        network.stream(BOB).set("k", b"mine")


def test_a_write_whose_data_never_comes_says_what_is_awaited(network):
    with pytest.raises(StorageError, match="the node waits for submission 0"):
        network.stream(here=False, timeout=0.05).set("k", b"v")


def test_a_transaction_fails_when_what_it_read_has_changed(network):
    stream = network.stream()
    stream.set_many({"a": b"1", "b": b"2"})
    stream.set("c", b"3")
    transaction = stream.transaction()
    transaction.set("sum", (transaction.get("a") or b"") + (transaction.get("b") or b""))
    stream.set("b", b"9")
    with pytest.raises(StreamWriteRefused, match="VersionConfliction"):
        transaction.commit()
    with stream.transaction() as again:
        again.set("sum", (again.get("a") or b"") + (again.get("b") or b""))
    assert stream.get("sum") == b"19"


def test_an_update_is_tried_again_after_a_conflict(network):
    stream = network.stream()
    stream.set("count", b"0")
    stream.set("other", b"")
    seen = []

    def count(old):
        seen.append(old)
        if len(seen) == 1:
            stream.set("count", b"7")
        return b"%d" % (int(old) + 1)

    stream.update("count", count)
    assert (seen, stream.get("count")) == ([b"0", b"7"], b"8")


def test_roles_are_granted_and_revoked(network):
    alice, bob = network.stream(), network.stream(BOB)
    alice.grant_writer("0x" + BOB.hex())
    bob.set("k", b"mine")
    alice.set_special("s")
    assert not alice.can_write("0x" + BOB.hex(), "s")
    alice.grant_writer("0x" + BOB.hex(), "s")
    bob.set("s", b"mine")
    alice.revoke_writer("0x" + BOB.hex())
    assert not alice.can_write("0x" + BOB.hex(), "k")
    assert alice.is_admin("0x" + ALICE.hex())
    assert {"operation": "SET_KEY_TO_SPECIAL", "key": b"s"} in alice.roles()


def test_a_watch_tells_changes_and_reorganisations_in_order(network):
    stream = network.stream()
    stream.set("a", b"1")
    changes = stream.watch(from_version=0, poll=0.01)
    assert next(changes) == Change(0, b"a", b"1")
    stream.set_many({"b": b"2", "a": b""})
    assert list(itertools.islice(changes, 2)) == [Change(1, b"a", None), Change(1, b"b", b"2")]
    network.flow.cut(0)
    network.service.reverted(0)
    network.service.open().replay.catch_up()
    assert next(changes) == Change(0, reverted=True)
    stream.set("c", b"3")
    assert next(changes) == Change(0, b"c", b"3")
    changes.close()


def test_a_watch_ends_after_a_quiet_time(network):
    stream = network.stream()
    stream.set("a", b"1")
    assert [change.key for change in stream.watch("a", from_version=0, timeout=0.05, poll=0.01)] == [b"a"]
