"""Nodes for the tests of replication: a real store behind real HTTP, honest or lying on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.storage.scripted import ScriptedNode, running
from tests.storage.store.building import BLOCK, Chain, File

from zerog.storage import frame
from zerog.storage.peers.service import PeerService, PeerSettings
from zerog.storage.store import FlowStore
from zerog.storage.values import FileState, Segment, ShardConfig

NETWORK = (31337, "0x" + "71" * 20)
Distort = Callable[[list[Segment]], list[Segment]]


class StorePeer(ScriptedNode):
    """A node that serves a store as zerog does; ``distort`` changes what it sends.

    ``binary`` false: like 0G's own node, JSON-RPC only. ``hook`` runs before every transfer.
    """

    def __init__(
        self,
        store: FlowStore,
        *,
        distort: Distort | None = None,
        binary: bool = True,
        network: tuple[int, str] = NETWORK,
        identity: str = "other",
        shard: str | None = None,
    ) -> None:
        super().__init__(raw=self._raw if binary else None)
        self.store = store
        self.distort = distort or (lambda segments: segments)
        self.transfers = 0
        self.on_transfer: Callable[[], None] | None = None
        claimed = ShardConfig.parse(shard) if shard else store.shard
        status: dict[str, Any] = {
            "connectedPeers": 0,
            "nextTxSeq": store.next_seq(),
            "networkIdentity": {"chainId": network[0], "flowAddress": network[1]},
        }
        if binary:
            status["zerog"] = {
                "version": "1",
                "segments": "/zerog/segments",
                "maxSegments": 64,
                "id": identity,
            }
        self.results = {
            "zgs_getStatus": status,
            "zgs_getShardConfig": {"shardId": claimed.id, "numShard": claimed.shards},
            "zgs_getFileInfoByTxSeq": self._info,
            "zgs_downloadSegmentWithProofByTxSeq": self._segment,
        }

    def _info(self, seq: int) -> Any:
        if self.store.submission(seq) is None:
            return None
        state = self.store.state(seq)
        return {
            "finalized": state is FileState.FINALIZED,
            "pruned": state is FileState.PRUNED,
            "uploadedSegNum": self.store.uploaded_count(seq),
        }

    def _held(self, seq: int, indices: Sequence[int]) -> list[Segment]:
        submission = self.store.submission(seq)
        assert submission is not None
        found = []
        for index in indices:
            data, proof = self.store.read_segment(seq, index), self.store.segment_proof(seq, index)
            if data is not None and proof is not None:
                found.append(Segment(submission.root, index, data, proof, submission.size))
        return self.distort(found)

    def _segment(self, seq: int, index: int) -> Any:
        import base64

        found = self._held(seq, [index])
        if not found:
            return None
        proof = found[0].proof
        return {
            "root": "0x" + found[0].root.hex(),
            "data": base64.b64encode(found[0].data).decode(),
            "index": found[0].index,
            "proof": {"lemma": ["0x" + item.hex() for item in proof.lemma], "path": list(proof.path)},
            "fileSize": found[0].file_size,
        }

    async def _raw(self, writer: asyncio.StreamWriter, verb: str, path: str) -> bool:
        if verb != "GET" or not path.startswith("/zerog/segments"):
            return False
        self.transfers += 1
        if self.on_transfer is not None:
            self.on_transfer()
        query = parse_qs(urlsplit(path).query)
        seq, start, end = (int(query[name][0]) for name in ("txSeq", "start", "end"))
        segments = self._held(seq, range(start, end))
        submission = self.store.submission(seq)
        assert submission is not None
        body = b"".join(frame.encode(submission.root, submission.size, segments))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        return True


def serving(peer: StorePeer) -> AbstractAsyncContextManager[ScriptedNode]:
    """The peer listens while the block runs."""
    return running(peer)


def data(size: int, seed: int = 1) -> bytes:
    """Bytes without a period that segments share."""
    import random

    return random.Random(seed).randbytes(size)


def store_with(chain: Chain, files: Sequence[File], shard: str = "0/1", *, filled: bool = True) -> FlowStore:
    """A store that followed ``chain``, with the data of its shard when ``filled``."""
    store = FlowStore.open(None, ShardConfig.parse(shard))
    store.append(chain.submissions, BLOCK)
    if filled:
        for submission, file in zip(chain.submissions, files, strict=True):
            for first, end in store.missing(submission.seq):
                store.put_segments(submission.seq, file.segments[first:end])
    return store


def service_for(store: FlowStore, urls: Sequence[str], **settings: Any) -> PeerService:
    """Peers of a node, impatient."""
    options = {"settle": 0.0, "refresh": 0.2, "discover": False} | settings
    return PeerService(store, PeerSettings(tuple(urls), **options), lambda: NETWORK)


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Waits for a condition; raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the stores change on other threads)
            await asyncio.sleep(0.01)
