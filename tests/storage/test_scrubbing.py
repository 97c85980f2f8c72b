"""The scrub in the background: what rots on disk is found without a reader, repaired from a peer, or reported."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.storage.api.conftest import FLOW, File, pattern, submit, wait_until_final
from tests.storage.store.building import BLOCK, Chain
from tests.storage.store.building import File as StoredFile

from zerog import Devnet
from zerog.cli import run
from zerog.client.transport import HttpTransport
from zerog.errors import RpcError
from zerog.node.alone import ServerAlone
from zerog.node.config import RpcSettings
from zerog.storage.front import FrontService
from zerog.storage.peers.service import PeerService, PeerSettings
from zerog.storage.scrubbing import Scrubber
from zerog.storage.service import StorageOptions, StorageService
from zerog.storage.store import FlowStore
from zerog.storage.values import ShardConfig

SEGMENT = 262_144
DATA = "00000000.sectors"


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


def flip(file: Path, byte: int, bit: int = 0) -> None:
    with file.open("r+b") as opened:
        opened.seek(byte)
        value = opened.read(1)[0]
        opened.seek(byte)
        opened.write(bytes([value ^ 1 << bit]))


@pytest.fixture(scope="module")
def chain() -> Iterator[Devnet]:
    with Devnet(services=["storage", "indexer"]) as net:
        yield net


def node_beside(
    chain: Devnet, path: Path, *, peers: tuple[str, ...] = (), rate: int = 1 << 30
) -> ServerAlone:
    settings = PeerSettings(peers, settle=0.0, refresh=0.3, discover=False)
    storage = StorageService(
        lambda: HttpTransport(chain.url, 10),
        FLOW,
        path,
        StorageOptions(scrub_rate=rate, scrub_interval=0.05),
        peers=(lambda store: PeerService(store, settings, lambda: (31337, FLOW))) if peers else None,
    )
    server: list[ServerAlone] = []
    front = FrontService(storage, lambda: server[0].url if server else None)
    server.append(ServerAlone([storage, front], RpcSettings(port=0)).start())
    return server[0]


def ask(node: ServerAlone, method: str, *params: Any) -> Any:
    return HttpTransport(node.url, 10).request(method, list(params))


def stored(chain: Devnet, size: int) -> tuple[File, int]:
    """A file that the chain's own node has, and its place in the flow."""
    file = File.of(pattern(size))
    submit(chain, file)
    seq = chain.client.request("zgs_getFileInfo", file.root, True)["tx"]["seq"]
    chain.client.request("zgs_uploadSegmentsByTxSeq", [file.json(index) for index in range(file.count)], seq)
    wait_until_final(chain, file)
    return file, seq


def test_a_flipped_bit_is_found_by_the_scrub_and_repaired_from_a_peer(chain: Devnet, tmp_path: Path) -> None:
    file, seq = stored(chain, 5 * SEGMENT + 1000)
    node = node_beside(chain, tmp_path, peers=(chain.url,))
    try:
        until(lambda: (ask(node, "zgs_getFileInfoByTxSeq", seq) or {}).get("finalized") is True)
        start = ask(node, "zgs_getFileInfoByTxSeq", seq)["tx"]["startEntryIndex"] * 256
        content = tmp_path / "flow" / DATA

        def kept() -> bytes:
            with content.open("rb") as opened:
                opened.seek(start)
                return opened.read(len(file.data))

        assert kept() == file.data
        for byte in (0, 3 * SEGMENT + 17, len(file.data) - 1):
            flip(content, start + byte)
            until(lambda: kept() == file.data)
        until(lambda: ask(node, "zgs_getFileInfoByTxSeq", seq)["finalized"] is True)
        assert ask(node, "admin_getScrub")["damaged"] == 0
    finally:
        node.stop()


def test_without_peers_damage_is_reported_with_file_and_position(
    chain: Devnet, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    file, seq = stored(chain, 3 * SEGMENT)
    node = node_beside(chain, tmp_path)
    try:
        ask(node, "zgs_uploadSegmentsByTxSeq", [file.json(index) for index in range(3)], seq)
        sector = ask(node, "zgs_getFileInfoByTxSeq", seq)["tx"]["startEntryIndex"] + 1024
        with caplog.at_level(logging.ERROR, "zerog.storage"):
            flip(tmp_path / "flow" / DATA, sector * 256 + 9, 7)
            until(lambda: ask(node, "admin_getScrub")["damaged"] == 1)
        place = {
            "txSeq": seq,
            "root": file.root,
            "segment": 1,
            "sector": sector,
            "file": DATA,
            "offset": sector * 256,
            "length": SEGMENT,
        }
        assert ask(node, "zgs_getStatus")["zerog"]["scrub"]["damage"] == [place]
        assert ask(node, "admin_getMetrics", "scrub_damaged") == {"scrub_damaged_segments": "gauge 1"}
        logged = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
        assert any(f"{SEGMENT} bytes at byte {sector * 256} of {DATA}" in text for text in logged)
        assert run(["storage", "status", "--url", node.url, "--rpc", chain.url, "--json"]) == 0
        row = json.loads(capsys.readouterr().out)[0]
        assert row["damaged"] == 1 and f"at byte {sector * 256} of {DATA}" in row["damage"][0]
        assert run(["storage", "status", "--url", node.url, "--rpc", chain.url]) == 0
        assert f"damaged: submission {seq} ({file.root}) segment 1" in capsys.readouterr().out
        # It is honest about the file, and takes the segment again.
        info = ask(node, "zgs_getFileInfoByTxSeq", seq)
        assert info["finalized"] is False and info["zerog"]["missing"] == 1
        ask(node, "zgs_uploadSegmentByTxSeq", file.json(1), seq)
        assert ask(node, "zgs_checkFileFinalized", seq) is True
        assert ask(node, "admin_getScrub")["damage"] == []
    finally:
        node.stop()


def test_a_scrub_that_is_switched_off_says_so(chain: Devnet, tmp_path: Path) -> None:
    node = node_beside(chain, tmp_path, rate=0)
    try:
        with pytest.raises(RpcError, match="Internal error"):
            ask(node, "admin_startScrub")
        assert ask(node, "admin_getScrub")["running"] is False
    finally:
        node.stop()


def _store(segments: int) -> FlowStore:
    chain, file = Chain(), StoredFile.of(pattern(segments * SEGMENT))
    chain.submit(file)
    store = FlowStore.open(None, ShardConfig())
    store.append(chain.submissions, BLOCK)
    store.put_segments(0, file.segments)
    return store


def test_a_round_is_remembered_and_the_next_waits_for_its_time() -> None:
    with _store(3) as store:
        scrubber = Scrubber(store, 1 << 30, 1e6)
        scrubber.start()
        try:
            scrubber.start_round()
            until(lambda: store.last_scrub is not None)
            assert store.scrubbed == 3
            first = store.last_scrub
            scrubber.start_round()
            until(lambda: store.last_scrub != first)
            assert store.scrubbed == 6
        finally:
            scrubber.close()


def test_a_slow_scrub_ends_at_once_when_the_node_ends() -> None:
    with _store(4) as store:
        scrubber = Scrubber(store, 1, 1.0)
        scrubber.start()
        scrubber.start_round()
        until(lambda: store.scrubbed == 1)
        scrubber.close()
        assert store.scrubbed == 1 and store.last_scrub is None
