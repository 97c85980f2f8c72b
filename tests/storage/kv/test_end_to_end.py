"""The KV layer as a user meets it: a whole devnet, the SDK, the command line, and a contract call by hand."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.storage.api.conftest import FLOW, File

from zerog import Client, Devnet
from zerog.cli import run
from zerog.client.kv import Change, Kv, Stream
from zerog.client.transport import HttpTransport
from zerog.errors import StreamWriteRefused
from zerog.storage.kv.stream import StreamData, Write, tags_of

_NUMBERS = itertools.count(1)
DEADLINE = 20.0


@pytest.fixture(scope="module")
def net() -> Iterator[Devnet]:
    with Devnet(services=["storage", "kv", "indexer"]) as running:
        yield running


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROG_HOME", str(tmp_path / "home"))


@pytest.fixture
def number() -> int:
    """A stream id that nobody has used."""
    return next(_NUMBERS)


def stream_of(net: Devnet, number: int, account: int = 0) -> Stream:
    return Client(net.url, account=net.accounts[account]).kv.stream(number)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def test_what_is_set_is_read_updated_and_listed(net: Devnet, number: int) -> None:
    stream = stream_of(net, number)
    first = stream.set("count", b"1")
    assert stream.update("count", lambda old: b"%d" % (int(old or 0) + 1)) > first
    assert (stream.get("count"), stream.get("count", version=first)) == (b"2", b"1")
    stream.set_many({"a": b"x", b"\x00\xff": b"y"})
    assert [entry.key for entry in stream.items()] == [b"\x00\xff", b"a", b"count"]
    stream.delete("a")
    assert stream.get("a") is None
    assert "0x" + stream.id.hex() in Client(net.url).kv.streams()


def test_a_value_of_megabytes_comes_back_byte_for_byte(net: Devnet, number: int) -> None:
    stream, value = stream_of(net, number), bytes(range(256)) * 9_000 + b"end"
    stream.set_many({"large": value, "small": b"s"})
    assert stream.get("large") == value
    assert stream.get("small") == b"s"


@pytest.mark.parametrize("pushed", [True, False])
def test_a_watch_hears_of_writes_while_they_are_made(
    net: Devnet, number: int, pushed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pushed:
        pytest.importorskip("websockets")
    else:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    stream = stream_of(net, number)
    stream.set("other", b"-")
    heard: list[Change] = []
    listening = threading.Event()

    def listen() -> None:
        changes = stream_of(net, number).watch("k", from_version=0, timeout=DEADLINE, poll=0.02)
        listening.set()
        heard.extend(itertools.islice(changes, 3))
        changes.close()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert listening.wait(DEADLINE)
    first = stream.set("k1", b"v1")
    second = stream.set_many({"k2": b"v2", "x": b"not watched"})
    third = stream.delete("k1")
    listener.join(DEADLINE)
    assert heard == [Change(first, b"k1", b"v1"), Change(second, b"k2", b"v2"), Change(third, b"k1", None)]


def test_a_reverted_chain_takes_its_writes_back(net: Devnet, number: int) -> None:
    stream = stream_of(net, number)
    kept = stream.set("k", b"kept")
    client = Client(net.url)
    snapshot = client.request("evm_snapshot")
    undone = stream.set("k", b"undone")
    assert stream.get("k") == b"undone"
    client.request("evm_revert", snapshot)
    # The very next answer: a call waits for what the chain has taken back.
    assert (stream.get("k"), stream.entry("k").version) == (b"kept", kept)  # type: ignore[union-attr]
    assert client.kv.result(undone) is None
    assert stream.set("k", b"other") == undone
    assert stream.get("k", version=undone) == b"other"


def test_a_watch_says_what_was_taken_back(net: Devnet, number: int) -> None:
    stream = stream_of(net, number)
    stream.set("k", b"kept")
    client = Client(net.url)
    snapshot = client.request("evm_snapshot")
    undone = stream.set("k", b"undone")
    changes = stream.watch(from_version=undone, timeout=DEADLINE, poll=0.02)
    assert next(changes) == Change(undone, b"k", b"undone")
    client.request("evm_revert", snapshot)
    assert next(changes) == Change(undone, reverted=True)
    assert stream.set("k", b"other") == undone
    assert next(changes) == Change(undone, b"k", b"other")
    changes.close()


def test_a_refused_writer_changes_nothing_until_it_is_granted(net: Devnet, number: int) -> None:
    owner, other = stream_of(net, number), stream_of(net, number, 1)
    owner.set("k", b"owner")
    with pytest.raises(StreamWriteRefused, match="SenderNoWritePermission"):
        other.set("k", b"other")
    assert owner.get("k") == b"owner"
    owner.grant_writer(net.accounts[1])
    other.set("k", b"other")
    assert owner.get("k") == b"other"
    owner.revoke_writer(net.accounts[1])
    with pytest.raises(StreamWriteRefused):
        other.set("k", b"again")


def test_a_foreign_submitter_in_a_contract_call_gains_nothing(net: Devnet, number: int) -> None:
    owner, thief = net.accounts[0], net.accounts[2]
    stream = stream_of(net, number)
    stream.set("k", b"owner")
    data = StreamData(writes=[Write(stream.id, b"k", b"stolen")])
    file = File.of(data.encode())
    call = file.submission(owner.address, tags_of([stream.id]))
    client, seq = Client(net.url), int(Client(net.url).kv.progress()["nextSeq"])
    receipt = client.send(to=FLOW, value=file.fee, input=call, account=thief)
    submitted = [log for log in receipt.logs if log.address.lower() == FLOW.lower()]
    assert submitted[0].topics[1][-20:].hex() == owner.address.lower()[2:], "the event names the owner"
    client.request("zgs_uploadSegmentByTxSeq", file.json(0), seq)
    until(lambda: client.kv.result(seq) is not None)
    assert client.kv.result(seq) == "SenderNoWritePermission"
    assert stream.get("k") == b"owner"


def _zerog(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[Any]]:
    code = run(["kv", *map(str, arguments), "--json"])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_command_line_writes_reads_and_watches(
    net: Devnet, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--url", net.url)
    name = f"{number:x}"
    code, (written,) = _zerog(capsys, "set", name, "a", "1", "b", "2", *at)
    assert code == 0 and written["keys"] == ["a", "b"]
    version = written["version"]
    assert _zerog(capsys, "get", name, "a", *at) == (0, [{"key": "a", "value": "1", "version": version}])
    assert _zerog(capsys, "get", name, "none", *at) == (1, [None])
    assert [row["key"] for row in _zerog(capsys, "ls", name, *at)[1]] == ["a", "b"]
    other = net.accounts[1].address
    assert _zerog(capsys, "set", name, "a", "theirs", "--from", other, *at)[0] == 1
    assert _zerog(capsys, "grant", name, other, *at)[0] == 0
    assert _zerog(capsys, "set", name, "a", "theirs", "--from", other, *at)[0] == 0
    roles = _zerog(capsys, "roles", name, *at)[1]
    assert {row["operation"] for row in roles} == {"GRANT_ADMIN_ROLE", "GRANT_WRITER_ROLE"}
    deleted = _zerog(capsys, "delete", name, "b", *at)[1][0]["version"]
    code, seen = _zerog(capsys, "watch", name, "--from-version", version, "--timeout", 0.3, *at)
    assert code == 0
    assert [(row["key"], row["value"]) for row in seen] == [
        ("a", "1"),
        ("b", "2"),
        ("a", "theirs"),
        ("b", None),
    ]
    assert seen[-1]["version"] == deleted
    code, (status,) = _zerog(capsys, "status", *at)
    assert code == 0 and status["waiting"] is None and status["appliedSeq"] == status["nextSeq"]
    assert _zerog(capsys, "special", name, "s", *at)[0] == 0
    assert _zerog(capsys, "set", name, "s", "x", "--from", other, *at)[0] == 1
    assert _zerog(capsys, "revoke", name, other, *at)[0] == 0


def test_writers_at_once_lose_no_update(net: Devnet, number: int) -> None:
    owner = stream_of(net, number)
    owner.set("count", b"0")
    owner.grant_writer(net.accounts[1])
    failures: list[BaseException] = []

    def count(account: int) -> None:
        try:
            stream = stream_of(net, number, account)
            for _ in range(5):
                stream.update("count", lambda old: b"%d" % (int(old or 0) + 1), attempts=100)
        except BaseException as failure:
            failures.append(failure)

    writers = [threading.Thread(target=count, args=(account,)) for account in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert not failures and owner.get("count") == b"10"


def test_every_method_of_the_table_answers_over_http(net: Devnet) -> None:
    from zerog.storage.kv.api import METHODS
    from zerog.storage.kv.service import METHODS as NAMES

    assert sorted(NAMES) == sorted(METHODS.names())
    assert HttpTransport(net.url, 10).request("kv_getStatus", []) is True


def test_another_upload_path_gets_the_same_content(net: Devnet, number: int) -> None:
    client = Client(net.url, account=net.accounts[0])
    contents: list[bytes] = []

    def upload(content: bytes, tags: bytes) -> int:
        contents.append(content)
        return int(client.storage.put(content, tags=tags, again=True).seqs[0])

    stream = Kv(client, upload=upload).stream(number)
    version = stream.set("k", b"v")
    assert client.request("zgs_getFileInfoByTxSeq", version)["tx"]["size"] == len(contents[0])
