from __future__ import annotations

import asyncio
import base64
import json
import threading

import pytest

from zerog.chain import keys
from zerog.errors import RpcError
from zerog.storage.kv.api import MAX_QUERY, registration
from zerog.storage.kv.service import KvService
from zerog.storage.kv.stream import Control, Operation, StreamData, Write

from .flow import ALICE, BOB, OTHER, STREAM

S = "0x" + STREAM.hex()


class _Caller:
    def __init__(self, agent=None, push=None):
        self.agent, self.push = agent, push


class Kv:
    """A service and whoever calls it."""

    def __init__(self, flow, **options):
        self.flow = flow
        self.caller = _Caller()
        self.service = KvService(flow, chain_id=lambda: 31337, caller=lambda: self.caller, **options)
        self.service.open().replay.catch_up()
        self.methods = self.service.methods()

    def call(self, method, *params):
        return asyncio.run(self.methods[method](list(params)))

    def set(self, **values):
        seqs = []
        for key, value in values.items():
            data = StreamData(writes=[Write(STREAM, key.encode(), value)])
            seqs.append(self.flow.write(data))
        self.service.open().replay.catch_up()
        return seqs


@pytest.fixture
def kv(flow):
    made = Kv(flow)
    yield made
    made.service.close()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _error(kv, method, *params):
    with pytest.raises(RpcError) as caught:
        kv.call(method, *params)
    return caught.value.code, caught.value.message, caught.value.data


def test_a_missing_key_is_an_empty_value_and_never_null(kv):
    assert kv.call("kv_getValue", S, "azE=", 0, 262144) == {"version": 0, "data": "", "size": 0}


def test_a_value_is_answered_with_its_version(kv):
    kv.set(a=b"1", k1=b"v1-value")
    assert kv.call("kv_getValue", S, "azE=", 0, 262144) == {"version": 1, "data": "djEtdmFsdWU=", "size": 8}
    assert kv.call("kv_getValue", S[2:], "azE=", "0x3", "4") == {
        "version": 1,
        "data": b64(b"valu"),
        "size": 8,
    }
    assert kv.call("kv_getValue", S, "azE=", 0, 0) == {"version": 1, "data": "", "size": 8}
    assert kv.call("kv_getValue", S, "azE=", 0, 10, 0) == {"version": 0, "data": "", "size": 0}


def test_an_older_version_is_answered_on_request(kv):
    kv.set(k1=b"old")
    kv.set(k1=b"new")
    for version in (0, "0x0", "0"):
        assert kv.call("kv_getValue", S, "azE=", 0, 9, version)["data"] == b64(b"old")
    assert kv.call("kv_getValue", S, "azE=", 0, 9, 2**64 - 1)["data"] == b64(b"new")
    assert kv.call("kv_getValue", S, "azE=", 0, 9, None)["data"] == b64(b"new")


def test_a_deleted_key_keeps_its_version(kv):
    kv.set(k1=b"old")
    kv.set(k1=b"")
    assert kv.call("kv_getValue", S, "azE=", 0, 9) == {"version": 1, "data": "", "size": 0}


def test_errors_have_the_words_that_clients_know(kv):
    kv.set(k1=b"value")
    assert _error(kv, "kv_getValue", S, "azE=", 0, MAX_QUERY + 1) == (
        -32602,
        "Invalid params: len",
        "query length too large",
    )
    assert _error(kv, "kv_getValue", S, "", 0, 1) == (-32602, "Invalid params: key", "key is empty")
    assert _error(kv, "kv_getValue", S, "azE=", 6, 1) == (
        -32602,
        "Invalid params: start_index",
        "start index is greater than value length",
    )
    kv.flow.contents.clear()
    assert _error(kv, "kv_getValue", S, "azE=", 0, 1) == (-32603, "Internal error", "key data is missing")


@pytest.mark.parametrize("key", ["0x6b31!", 7, None, {"0": 107, "1": 49}, "azE"])
def test_a_key_in_another_form_is_refused(kv, key):
    code, message, _ = _error(kv, "kv_getValue", S, key, 0, 1)
    assert code == -32602
    assert "key" in message


def test_iterators_pass_over_deleted_keys_and_end(kv):
    kv.set(a=b"1", b=b"2", c=b"3", d=b"4")
    kv.set(b=b"", d=b"")
    assert kv.call("kv_getFirst", S, 0, 0)["key"] == b64(b"a")
    assert kv.call("kv_getLast", S, 0, 9) == {"version": 2, "key": b64(b"c"), "data": b64(b"3"), "size": 1}
    assert kv.call("kv_getNext", S, b64(b"a"), 0, 0, False)["key"] == b64(b"c")
    assert kv.call("kv_getNext", S, b64(b"b"), 0, 0, True)["key"] == b64(b"c")
    assert kv.call("kv_getPrev", S, b64(b"b"), 0, 0, True)["key"] == b64(b"a")
    assert kv.call("kv_getPrev", S, b64(b"c"), 0, 0, True)["key"] == b64(b"c")
    assert kv.call("kv_getNext", S, b64(b"d"), 0, 0, True) is None
    assert kv.call("kv_getNext", S, b64(b"c"), 0, 0, False) is None
    assert kv.call("kv_getNext", S, b64(b"a"), 0, 9, False, 3) == {
        "version": 1,
        "key": b64(b"b"),
        "data": b64(b"2"),
        "size": 1,
    }
    kv.set(a=b"", c=b"")
    assert kv.call("kv_getFirst", S, 0, 0) is None
    assert kv.call("kv_getLast", S, 0, 0) is None


def test_results_are_found_by_text_and_by_number(kv):
    kv.set(a=b"1")
    assert kv.call("kv_getTransactionResult", "0") == "Commit"
    assert kv.call("kv_getTransactionResult", 0) == "Commit"
    assert kv.call("kv_getTransactionResult", 2**64 - 1) is None


def test_roles_are_answered(kv):
    controls = [
        Control(Operation.GRANT_WRITER_ROLE, STREAM, account=BOB),
        Control(Operation.SET_KEY_TO_SPECIAL, STREAM, b"s"),
        Control(Operation.GRANT_SPECIAL_WRITER_ROLE, STREAM, b"s", BOB),
    ]
    kv.flow.write(StreamData(controls=controls))
    kv.service.open().replay.catch_up()
    alice, bob, key = "0x" + ALICE.hex(), "0x" + BOB.hex(), b64(b"s")
    for name in ("kv_isAdmin", "kv_IsAdmin"):
        assert kv.call(name, alice, S) is True
        assert kv.call(name, bob, S) is False
    assert kv.call("kv_isWriterOfStream", bob, S) is True
    assert kv.call("kv_isSpecialKey", S, key) is True
    assert kv.call("kv_isWriterOfKey", bob, S, key) is True
    assert kv.call("kv_hasWritePermission", alice, S, key) is True
    assert kv.call("kv_hasWritePermission", "0x" + "11" * 20, S, key) is False
    assert kv.call("kv_getAccessControl", S)[1:] == [
        {"operation": "SET_KEY_TO_SPECIAL", "key": key},
        {"operation": "GRANT_WRITER_ROLE", "account": bob},
        {"operation": "GRANT_SPECIAL_WRITER_ROLE", "key": key, "account": bob},
    ]


def test_progress_says_what_is_awaited(kv):
    assert kv.call("kv_getReplayProgress") == {
        "appliedSeq": 0,
        "firstTxSeq": None,
        "nextSeq": 0,
        "waiting": None,
    }
    kv.flow.write(StreamData(writes=[Write(STREAM, b"k", b"v")]), here=False)
    kv.service.open().replay.catch_up()
    progress = kv.call("kv_getReplayProgress")
    assert (progress["appliedSeq"], progress["firstTxSeq"], progress["waiting"]["txSeq"]) == (0, 0, 0)


def test_the_python_sdk_sends_and_reads_hexadecimal_keys(kv):
    kv.set(k1=b"value")
    kv.caller = _Caller("0g-py-sdk/0.1")
    assert kv.call("kv_getValue", S, "0x6b31", 0, 9)["size"] == 5
    assert kv.call("kv_getFirst", S, 0, 0)["key"] == "0x6b31"


def test_the_javascript_sdk_gets_a_large_value_at_once(kv):
    kv.set(big=b"x" * 600_001)
    assert len(kv.call("kv_getValue", S, b64(b"big"), 0, MAX_QUERY)["data"]) == 349_528
    kv.caller = _Caller("axios/0.27.2")
    answer = kv.call("kv_getValue", S, b64(b"big"), 0, MAX_QUERY)
    assert base64.b64decode(answer["data"]) == b"x" * 600_001


def test_a_signed_stream_is_followed_and_a_foreign_signature_refused(flow):
    kv = Kv(flow, streams=[STREAM])
    key = bytes(31) + b"\x05"
    wallet = keys.address_of(key)
    typed = registration(OTHER, bytes.fromhex(wallet[2:]), 31337)
    signature = keys.sign_digest(key, keys.typed_data_digest(typed))
    other = "0x" + OTHER.hex()
    assert kv.call("kv_getHoldingStreamIds") == [S]
    assert _error(kv, "admin_addStream", S, wallet, "0x" + signature.hex())[2] == (
        "recovered signer does not match claimed wallet"
    )
    assert _error(kv, "admin_addStream", other, wallet, "0xzz")[2] == "not valid hex"
    assert _error(kv, "admin_addStream", other, wallet, "0x00")[2].startswith("recovery failed: ")
    assert kv.call("kv_getHoldingStreamIds") == [S]
    assert kv.call("admin_addStream", other, wallet, "0x" + signature.hex()) is True
    assert kv.call("kv_getHoldingStreamIds") == [other, S] if other < S else [S, other]
    kv.service.close()


def test_a_node_that_follows_all_streams_holds_those_that_were_written(kv):
    kv.set(a=b"1")
    kv.flow.write(StreamData(writes=[Write(OTHER, b"k", b"v")]))
    kv.service.open().replay.catch_up()
    assert kv.call("kv_getHoldingStreamIds") == [S, "0x" + OTHER.hex()]


class _Push:
    """A connection that keeps what it is sent."""

    def __init__(self):
        self.sent, self.open, self.arrived = [], True, threading.Condition()

    def send(self, notification_json):
        with self.arrived:
            self.sent.append(json.loads(notification_json)["params"]["result"])
            self.arrived.notify_all()
        return self.open


def _changes(push):
    return [(c["version"], base64.b64decode(c["key"]), c["size"]) if "key" in c else c for c in push.sent]


def test_a_watch_hears_of_its_prefix_from_its_version_on(kv):
    kv.set(aa=b"1", ab=b"22", b=b"333")
    push = _Push()
    kv.caller = _Caller(push=push)
    identifier = kv.call("kv_subscribe", S, b64(b"a"), 1)
    kv.service.open().watches.send()
    kv.set(aa=b"", b=b"4", ac=b"5")
    kv.service.open().watches.send()
    assert _changes(push) == [(1, b"ab", 2), (3, b"aa", 0), (5, b"ac", 1)]
    assert kv.call("kv_unsubscribe", identifier) is True
    assert kv.call("kv_unsubscribe", identifier) is False
    kv.set(ad=b"6")
    kv.service.open().watches.send()
    assert len(push.sent) == 3


def test_a_watch_of_an_empty_prefix_hears_of_every_key_of_a_large_transaction(kv):
    writes = [Write(STREAM, f"{number:04}".encode(), b"v") for number in range(1000)]
    push = _Push()
    kv.caller = _Caller(push=push)
    kv.call("kv_subscribe", S)
    kv.flow.write(StreamData(writes=writes))
    kv.service.open().replay.catch_up()
    kv.service.open().watches.send()
    assert [key for _, key, _ in _changes(push)] == [write.key for write in writes]


def test_a_watch_hears_of_a_reorganisation_and_of_what_holds_then(kv):
    push = _Push()
    kv.caller = _Caller(push=push)
    kv.call("kv_subscribe", S, "", 0)
    kv.set(a=b"1", b=b"2")
    kv.service.open().watches.send()
    kv.flow.cut(1)
    kv.flow.write(StreamData(writes=[Write(STREAM, b"c", b"333")]))
    kv.service.reverted(1)
    kv.service.open().replay.catch_up()
    kv.service.open().watches.send()
    assert _changes(push) == [(0, b"a", 1), (1, b"b", 1), {"stream": S, "reverted": 1}, (1, b"c", 3)]


def test_a_connection_that_has_gone_is_forgotten(kv):
    push = _Push()
    push.open = False
    kv.caller = _Caller(push=push)
    kv.call("kv_subscribe", S)
    kv.set(a=b"1")
    kv.service.open().watches.send()
    assert len(kv.service.open().watches) == 0


def test_a_watch_needs_a_connection(kv):
    assert _error(kv, "kv_subscribe", S)[:2] == (-32601, "notifications not supported")


def test_changes_are_listed_page_by_page(kv):
    kv.flow.write(StreamData(writes=[Write(STREAM, key, b"v") for key in (b"a", b"b", b"c")]))
    kv.set(a=b"")
    page = kv.call("kv_getChanges", S, 0, 2)
    assert page == [{"version": 0, "key": b64(b"a"), "size": 1}, {"version": 0, "key": b64(b"b"), "size": 1}]
    rest = kv.call("kv_getChanges", S, 0, 9, None, b64(b"b"))
    assert rest == [{"version": 0, "key": b64(b"c"), "size": 1}, {"version": 1, "key": b64(b"a"), "size": 0}]


def test_the_service_replays_and_notifies_until_it_is_cancelled(kv):
    push = _Push()

    async def scenario():
        running = asyncio.create_task(kv.service.run())
        kv.caller = _Caller(push=push)
        await kv.methods["kv_subscribe"]([S])
        kv.flow.write(StreamData(writes=[Write(STREAM, b"k", b"v")]))
        kv.service.wake()

        def arrived():
            with push.arrived:
                return push.arrived.wait_for(lambda: push.sent, timeout=10)

        assert await asyncio.to_thread(arrived)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(scenario())
    assert _changes(push) == [(0, b"k", 1)]


def test_a_flow_that_opens_late_is_compared_with_what_was_applied(flow, tmp_path):
    first = Kv(flow, directory=tmp_path)
    first.set(a=b"1", b=b"2")
    first.service.close()
    kv = Kv(None, directory=tmp_path)
    assert kv.call("kv_getReplayProgress")["appliedSeq"] == 2
    kv.service.open().replay.catch_up()
    assert kv.call("kv_getReplayProgress")["appliedSeq"] == 2
    flow.cut(1)
    kv.service.attach(flow)
    kv.service.open().replay.catch_up()
    assert kv.call("kv_getReplayProgress")["appliedSeq"] == 1
    assert kv.call("kv_getValue", S, b64(b"a"), 0, 9)["data"] == b64(b"1")
    kv.service.close()
