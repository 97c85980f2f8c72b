"""Contents that the own node does not keep, and contents that are encrypted."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.storage.peers.test_whole_nodes import storage_node

from zerog import Client, Devnet
from zerog.client.kv import Kv, Stream
from zerog.client.storage import Storage
from zerog.errors import ConfigError, DataDamaged, RpcError, StreamWriteRefused
from zerog.node.alone import ServerAlone
from zerog.node.config import RpcSettings
from zerog.storage.kv.elsewhere import ASK_AGAIN, KEPT, SharedContent
from zerog.storage.kv.nodekey import FileKey
from zerog.storage.layout import SEGMENT
from zerog.storage.transfer.encryption import Encryption
from zerog.storage.values import Submission

from .flow import MemoryFlow

KEY = bytes(range(1, 33))


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def sharded(tmp_path: Path) -> Iterator[tuple[Devnet, ServerAlone, Stream]]:
    """A devnet that keeps shard 0 of 2, a node with shard 1, and a stream that is written to both."""
    chain, other = _free_port(), _free_port()
    options = {
        "storage.shard": "0/2",
        "storage.peers": (f"http://127.0.0.1:{other}",),
        "kv.give_up_after": 20.0,
    }
    with Devnet(services=["storage", "kv", "indexer"], port=chain, options=options) as net:
        second = storage_node(net.url, [net.url], "1/2", RpcSettings(port=other))
        try:
            client = Client(net.url, account=net.accounts[0])
            storage = Storage(net.url, client=client, nodes=[net.url, second.url], state=tmp_path)

            def upload(content: bytes, tags: bytes) -> int:
                return int(storage.put(content, tags=tags, again=True).seqs[0])

            yield net, second, Kv(client, upload=upload).stream(1)
        finally:
            second.stop()


def test_a_node_with_one_shard_reads_values_that_another_one_keeps(
    sharded: tuple[Devnet, ServerAlone, Stream],
) -> None:
    net, _, stream = sharded
    large = bytes(range(251)) * (5 * SEGMENT // 251)
    stream.set("large", large)
    # Small transactions lie in one segment each; more than one of them is on the other shard.
    versions = [stream.set(f"k{number}", b"%d" % number * 1000) for number in range(6)]
    client = Client(net.url)
    held = {client.request("zgs_getFileInfoByTxSeq", version)["uploadedSegNum"] for version in versions} | {
        client.request("zgs_getFileInfoByTxSeq", 0)["uploadedSegNum"]
    }
    assert max(held) < 6, "the own node must not have everything"
    assert stream.get("large") == large
    for number in range(6):
        assert stream.get(f"k{number}") == b"%d" % number * 1000


def test_a_value_whose_only_node_has_gone_is_an_error_and_never_a_wrong_value(
    sharded: tuple[Devnet, ServerAlone, Stream],
) -> None:
    net, second, stream = sharded
    large = bytes(range(251)) * ((KEPT + 8) * SEGMENT * 2 // 251)
    stream.set("large", large)
    second.stop()
    with pytest.raises(RpcError) as caught:
        stream.get("large")
    assert (caught.value.code, caught.value.data) == (-32603, "key data is missing")
    assert Client(net.url).kv.progress()["waiting"] is None


class _Others:
    """Other nodes: what they have, and how often they were asked."""

    def __init__(self, flow: MemoryFlow, has: Callable[[int], bool]) -> None:
        self.flow, self.has, self.asked = flow, has, 0

    def fetch(self, submission: Submission, index: int) -> bytes | None:
        self.asked += 1
        if not self.has(index):
            return None
        return self.flow.contents[submission.seq][index * SEGMENT : (index + 1) * SEGMENT]


def test_what_was_fetched_is_kept_and_nobody_is_asked_at_once_again(flow: MemoryFlow) -> None:
    flow.submit(b"a" * SEGMENT + b"b" * SEGMENT)
    others, clock = _Others(flow, lambda index: index == 0), [0.0]
    content = SharedContent(lambda seq, a, b: None, flow.submission, others.fetch, lambda: clock[0])
    assert content.read_chunks(0, 1, 3) == b"a" * 512
    assert content.read_chunks(0, 0, 1) == b"a" * 256
    assert others.asked == 1
    assert content.read_chunks(0, 1024, 1025) is None
    assert content.read_chunks(0, 1024, 1025) is None
    assert others.asked == 2
    clock[0] = ASK_AGAIN + 0.1
    assert content.read_chunks(0, 1024, 1025) is None
    assert others.asked == 3
    content.stop()
    clock[0] *= 3
    assert content.read_chunks(0, 1024, 1025) is None
    assert others.asked == 3


def test_a_file_that_took_the_number_of_another_one_is_fetched_anew(flow: MemoryFlow) -> None:
    flow.submit(b"old" * 200)
    content = SharedContent(lambda seq, a, b: None, flow.submission, _Others(flow, lambda index: True).fetch)
    assert bytes(content.read_chunks(0, 0, 1) or b"").startswith(b"oldold")
    flow.cut(0)
    flow.submit(b"new" * 200, salt=1)
    assert bytes(content.read_chunks(0, 0, 1) or b"").startswith(b"newnew")


def test_a_damaged_segment_is_fetched_and_without_others_the_damage_is_told(flow: MemoryFlow) -> None:
    flow.submit(b"x" * 600)

    def damaged(seq: int, first: int, end: int) -> bytes | None:
        raise DataDamaged("a segment is damaged")

    fetching = SharedContent(damaged, flow.submission, _Others(flow, lambda index: True).fetch)
    assert fetching.read_chunks(0, 0, 1) == b"x" * 256
    with pytest.raises(DataDamaged):
        SharedContent(damaged, flow.submission, None).read_chunks(0, 0, 1)


def test_a_node_with_a_key_reads_both_versions_of_encryption_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    options = {"kv.key_file": str(tmp_path / "key")}
    with Devnet(services=["storage", "kv", "indexer"], options=options) as net:
        client = Client(net.url, account=net.accounts[0])
        client.storage._state = tmp_path
        value = bytes(range(256)) * 2_000
        with_key = Kv(client, encryption=Encryption(key=KEY)).stream(1)
        version = with_key.set_many({"large": value, "k": b"secret value"})
        for_owner = client.storage.encryption_for(recipient=FileKey(KEY).public_key)
        Kv(client, encryption=for_owner).stream(1).set("owner", b"for the key pair")
        assert with_key.get("large") == value
        assert with_key.get("k") == b"secret value"
        assert with_key.get("owner") == b"for the key pair"
        root = client.request("zgs_getFileInfoByTxSeq", version)["tx"]["dataMerkleRoot"]
        assert b"secret value" not in client.storage.read(root)
        with pytest.raises(StreamWriteRefused, match="DataParseError"):
            client.kv.stream(1).set("plain", b"x")
        with pytest.raises(StreamWriteRefused, match="DataParseError"):
            Kv(client, encryption=Encryption(key=bytes(32))).stream(1).set("other key", b"x")
        assert [entry.key for entry in with_key.items()] == [b"k", b"large", b"owner"]


@pytest.mark.parametrize("content", [b"", b"abc", b"z" * 64, b"0" * 66])
def test_a_file_without_a_key_stops_the_node_at_once(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match=r"kv\.key_file"):
        Devnet(services=["storage", "kv"], options={"kv.key_file": str(tmp_path / "key")}).start()
    with pytest.raises(ConfigError, match="cannot read"):
        FileKey.load(tmp_path / "none")
    (tmp_path / "key").write_bytes(KEY)
    assert FileKey.load(tmp_path / "key").open(b"\x01" + bytes(16)) is not None
