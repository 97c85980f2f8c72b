"""Three whole nodes on one devnet: servers, chain followers, stores; one dies while the others copy."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.storage.peers.network import data

from zerog import Devnet
from zerog.client.storage import Storage
from zerog.client.transport import HttpTransport
from zerog.contracts import PREDEPLOYS
from zerog.node.alone import ServerAlone
from zerog.node.config import RpcSettings
from zerog.storage.front import FrontService
from zerog.storage.layout import SEGMENT
from zerog.storage.peers.service import PeerService, PeerSettings
from zerog.storage.service import StorageOptions, StorageService

FLOW = PREDEPLOYS["StorageFlow"]


def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


def call(url: str, method: str, *params: Any) -> Any:
    return HttpTransport(url, 10).request(method, list(params))


def storage_node(
    chain: str,
    peers: Sequence[str],
    shard: str = "0/1",
    rpc: RpcSettings | None = None,
    limit: int | None = None,
) -> ServerAlone:
    """A storage node beside a chain elsewhere, with indexer and gateway."""
    settings = PeerSettings(tuple(peers), settle=0.0, refresh=0.3, discover=False, download=limit)
    storage = StorageService(
        lambda: HttpTransport(chain, 10),
        FLOW,
        None,
        StorageOptions(shard=shard),
        peers=lambda store: PeerService(store, settings, lambda: (31337, FLOW)),
    )
    server: list[ServerAlone] = []
    front = FrontService(storage, lambda: server[0].url if server else None)
    server.append(ServerAlone([storage, front], rpc or RpcSettings(port=0)).start())
    return server[0]


def finalized(node: ServerAlone, seq: int) -> bool:
    info = call(node.url, "zgs_getFileInfoByTxSeq", seq)
    return info is not None and info["finalized"] is True


def body(url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers=headers or {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status, answer.read()


def test_a_file_spreads_to_nodes_that_die_and_come_and_is_read_from_the_gateway(tmp_path: Path) -> None:
    content = data(24 * SEGMENT + 12_345)
    with Devnet(services=["storage", "indexer"]) as net:
        client = Storage(net.url, client=net.client, state=tmp_path)
        stored = client.put(content)
        root = "0x" + stored.root.removeprefix("0x")
        with storage_node(net.url, [net.url]) as second:
            until(lambda: finalized(second, 0))
            # The third copies slowly from both; the second dies in the middle of it.
            with storage_node(net.url, [second.url, net.url], limit=3 << 20) as third:
                until(
                    lambda: (call(third.url, "zgs_getFileInfoByTxSeq", 0) or {}).get("uploadedSegNum", 0) > 3
                )
                second.stop()
                assert not finalized(third, 0)
                until(lambda: finalized(third, 0))
                locations = call(third.url, "indexer_getFileLocations", root)
                assert [node["url"] for node in locations] == [third.url]
                assert call(third.url, "admin_getSyncStatus", 0) == "Completed"
                status, whole = body(f"{third.url}/file?root={root}&name=x")
                assert (status, whole) == (200, content)
                start = SEGMENT - 5
                status, part = body(f"{third.url}/file?root={root}", {"Range": f"bytes={start}-{start + 9}"})
                assert (status, part) == (206, content[start : start + 10])
                head = urllib.request.Request(f"{third.url}/file?root={root}", method="HEAD")
                with urllib.request.urlopen(head, timeout=20) as answer:
                    assert answer.headers["Content-Length"] == str(len(content))
                    assert answer.headers["ETag"] == f'"{root}"'


def test_four_shards_finalise_and_a_gateway_of_one_serves_the_whole_file(tmp_path: Path) -> None:
    content = data(9 * SEGMENT + 7)
    with Devnet(services=["storage", "indexer"]) as net:
        stored = Storage(net.url, client=net.client, state=tmp_path).put(content)
        nodes = [storage_node(net.url, [net.url], f"{shard}/4") for shard in range(4)]
        try:
            until(lambda: all(finalized(node, 0) for node in nodes))
            root = "0x" + stored.root.removeprefix("0x")
            assert body(f"{nodes[1].url}/file?root={root}") == (200, content)
            # Alone it covers a quarter: nobody is sent to it for the whole.
            assert call(nodes[1].url, "indexer_getShardedNodes")["trusted"][0]["config"] == {
                "shardId": 1,
                "numShard": 4,
            }
        finally:
            for node in nodes:
                node.stop()


def test_an_unknown_file_is_said_so_in_the_gateways_words() -> None:
    with Devnet(services=["storage", "indexer"]) as net:
        status, answer = body(f"{net.url}/file?root=0x{'11' * 32}")
        assert status == 200
        assert json.loads(answer) == {"code": 101, "message": "File not found", "data": None}
        try:
            body(f"{net.url}/file/%2e%2e/%2e%2e/etc/passwd")
        except urllib.error.HTTPError as error:
            assert error.code in (400, 404)
        else:
            status, answer = body(f"{net.url}/file/%2e%2e/%2e%2e/etc/passwd")
            assert json.loads(answer)["code"] == 1
