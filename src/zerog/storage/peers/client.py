"""Another storage node as this one calls it: typed, bounded, distrustful.

Segments travel over zerog's binary route where the node has it, else over ``zgs_downloadSegmentWithProofByTxSeq``,
which every node of 0G answers. What comes back is checked for form here (`Misbehaviour`); proofs are
checked where the segments are stored.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from zerog.errors import RpcError, SegmentRefused, TransportError
from zerog.storage import frame, layout
from zerog.storage.peers.http import AnswerTooLong, Bounds, HttpClient
from zerog.storage.peers.limits import TokenBucket
from zerog.storage.values import FileProof, Segment, ShardConfig, Submission

SMALL = Bounds(1 << 20, 5.0, 5.0)
"""A call whose answer is a few values."""
SLOWEST = 128 << 10
"""Bytes per second below which a transfer is given up."""
FIRST_BYTE = 10.0
"""Seconds that a node may think before it sends."""


class Misbehaviour(TransportError):
    """A node sent what no honest one sends; the message says what."""


class FileReport(msgspec.Struct, frozen=True, rename="camel"):
    """What a node says about a file (``zgs_getFileInfo``), as far as peers use it."""

    finalized: bool
    pruned: bool = False
    uploaded_seg_num: int = 0


class _Network(msgspec.Struct, frozen=True, rename="camel"):
    chain_id: int
    flow_address: str


class _Extension(msgspec.Struct, frozen=True, rename="camel"):
    segments: str | None = None
    max_segments: int = 1
    id: str | None = None
    shard: str | None = None
    version: str | None = None


class _Status(msgspec.Struct, frozen=True, rename="camel"):
    network_identity: _Network
    next_tx_seq: int = 0
    zerog: _Extension | None = None


class _Shard(msgspec.Struct, frozen=True, rename="camel"):
    shard_id: int
    num_shard: int


class _Proof(msgspec.Struct, frozen=True):
    lemma: list[str]
    path: list[bool]


class _Segment(msgspec.Struct, frozen=True, rename="camel"):
    root: str
    data: str
    index: int
    proof: _Proof
    file_size: int


class _Peer(msgspec.Struct, frozen=True, rename="camel"):
    listening_addresses: list[str] = []


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node's status: its network, how far it is, and zerog's binary route when it has one.

    ``seconds`` is how long the answer took.
    """

    chain_id: int
    flow: str
    next_seq: int
    identity: str | None
    version: str | None
    frames: int
    seconds: float


class NodeClient:
    """See the module's docstring. ``limit`` is the bandwidth for segments that are fetched."""

    def __init__(self, url: str, limit: TokenBucket | None = None) -> None:
        self._http = HttpClient(url)
        self._limit = limit
        self.url = self._http.url
        self._frames: int | None = None
        """Segments per binary request; 0: the node has no such route; None: not asked yet."""

    def close(self) -> None:
        """Closes the kept connections."""
        self._http.close()

    async def call(self, method: str, params: Sequence[Any] = (), bounds: Bounds = SMALL) -> Any:
        """The result of a JSON-RPC method; raises `RpcError`, `TransportError`."""
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        return _result(self._json(await self._post(body, bounds)), self.url)

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]], bounds: Bounds = SMALL) -> list[Any]:
        """One result per call, ``None`` for one that failed or was not answered."""
        body = msgspec.json.encode(
            [
                {"jsonrpc": "2.0", "id": index, "method": method, "params": list(params)}
                for index, (method, params) in enumerate(calls)
            ]
        )
        answer = self._json(await self._post(body, bounds))
        if not isinstance(answer, list):
            raise TransportError(f"{self.url} does not answer batches")
        results: list[Any] = [None] * len(calls)
        for item in answer[: len(calls)]:
            at = item.get("id") if isinstance(item, dict) else None
            if isinstance(at, int) and 0 <= at < len(calls):
                results[at] = item.get("result")
        return results

    async def status(self) -> NodeStatus:
        """How the node describes itself."""
        begun = monotonic()
        status = self._convert(await self.call("zgs_getStatus"), _Status)
        seconds = monotonic() - begun
        extension = status.zerog or _Extension()
        self._frames = max(0, min(extension.max_segments, frame.MAX_SEGMENTS)) if extension.segments else 0
        network = status.network_identity
        return NodeStatus(
            network.chain_id,
            network.flow_address.lower(),
            status.next_tx_seq,
            extension.id,
            extension.version,
            self._frames,
            seconds,
        )

    async def shard(self) -> ShardConfig:
        """Which segments the node keeps."""
        answer = self._convert(await self.call("zgs_getShardConfig"), _Shard)
        try:
            return ShardConfig(answer.shard_id, answer.num_shard)
        except ValueError as error:
            raise Misbehaviour(f"{self.url}: {error}") from None

    async def report(self, seq: int) -> FileReport | None:
        """What the node says about a submission; ``None`` when it does not know it."""
        result = await self.call("zgs_getFileInfoByTxSeq", [seq])
        return None if result is None else self._convert(result, FileReport)

    async def report_root(self, root: bytes) -> FileReport | None:
        """What the node says about the file with that root."""
        result = await self.call("zgs_getFileInfo", ["0x" + root.hex(), True])
        return None if result is None else self._convert(result, FileReport)

    async def reports(self, seqs: Sequence[int]) -> dict[int, FileReport]:
        """What the node says about many submissions; unknown ones are left out."""
        calls: list[tuple[str, Sequence[Any]]] = [("zgs_getFileInfoByTxSeq", [seq]) for seq in seqs]
        results = await self.batch(calls)
        return {
            seq: self._convert(result, FileReport)
            for seq, result in zip(seqs, results, strict=True)
            if result is not None
        }

    async def neighbours(self) -> list[str]:
        """Addresses of the nodes that this one knows; empty when it does not tell."""
        try:
            known = self._convert(await self.call("admin_getPeers"), dict[str, _Peer])
        except (RpcError, Misbehaviour):
            return []
        return [address for peer in list(known.values())[:64] for address in peer.listening_addresses[:2]]

    async def segments(self, submission: Submission, indices: Sequence[int]) -> list[Segment]:
        """Those of the wanted segments that the node has: form checked, proofs not.

        ``indices`` ascend and span at most 64. Raises `Misbehaviour` for anything beyond what was asked.
        """
        if self._frames is None:
            await self.status()
        if self._limit is None:
            return await self._segments(submission, indices)
        # Taken before the request: waiting for the own limit is no silence of the peer.
        reserved = len(indices) * layout.SEGMENT
        await self._limit.take(reserved)
        used = 0
        try:
            found = await self._segments(submission, indices)
            used = sum(len(segment.data) for segment in found)
            return found
        finally:
            self._limit.give_back(reserved - used)

    async def _segments(self, submission: Submission, indices: Sequence[int]) -> list[Segment]:
        if self._frames:
            found = await self._framed(submission, indices)
        else:
            found = [item for index in indices if (item := await self._single(submission, index)) is not None]
        return self._wanted(found, submission, indices)

    async def _framed(self, submission: Submission, indices: Sequence[int]) -> list[Segment]:
        start, end = indices[0], indices[-1] + 1
        path = f"/zerog/segments?txSeq={submission.seq}&start={start}&end={end}"
        answer = await self._http.exchange("GET", path, bounds=transfer_bounds(end - start))
        if answer.status in (404, 405) or (answer.status == 200 and not answer.body):
            return []
        if answer.status != 200:
            raise TransportError(f"{self.url} answered HTTP status {answer.status}")
        try:
            return list(frame.decode(memoryview(answer.body)))
        except SegmentRefused as error:
            raise Misbehaviour(f"{self.url} sent a frame that is none ({error})") from None

    async def _single(self, submission: Submission, index: int) -> Segment | None:
        result = await self.call(
            "zgs_downloadSegmentWithProofByTxSeq", [submission.seq, index], transfer_bounds(1)
        )
        if result is None:
            return None
        sent = self._convert(result, _Segment)
        try:
            data = base64.b64decode(sent.data, validate=True)
            if len(sent.proof.lemma) > 66 or len(sent.proof.path) > 64:
                raise ValueError("a proof that is too long")
            lemma = tuple(map(_hash, sent.proof.lemma))
            root = _hash(sent.root)
        except (binascii.Error, ValueError) as error:
            raise Misbehaviour(f"{self.url} sent a malformed segment ({error})") from None
        return Segment(root, sent.index, data, FileProof(lemma, tuple(sent.proof.path)), sent.file_size)

    def _wanted(
        self, found: Sequence[Segment], submission: Submission, indices: Sequence[int]
    ) -> list[Segment]:
        asked, seen = range(indices[0], indices[-1] + 1), set()
        for segment in found:
            if segment.root != submission.root or segment.file_size != submission.size:
                raise Misbehaviour(f"{self.url} sent segments of another file")
            if segment.index not in asked or segment.index in seen:
                raise Misbehaviour(f"{self.url} sent segment {segment.index}, which was not asked for")
            seen.add(segment.index)
        wanted = set(indices)
        return [segment for segment in found if segment.index in wanted]

    async def _post(self, body: bytes, bounds: Bounds) -> bytearray:
        answer = await self._http.exchange("POST", "/" if self._bare else "", body, bounds=bounds)
        if answer.status != 200 and not answer.body.lstrip().startswith((b"{", b"[")):
            raise TransportError(f"{self.url} answered HTTP status {answer.status}")
        return answer.body

    @property
    def _bare(self) -> bool:
        return self.url.count("/") == 2

    def _json(self, raw: bytearray) -> Any:
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            raise TransportError(f"{self.url} did not answer JSON") from None

    def _convert(self, value: Any, kind: Any) -> Any:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise Misbehaviour(f"{self.url} answered in a wrong form ({error})") from None


def transfer_bounds(count: int) -> Bounds:
    """What fetching ``count`` segments may cost, in either form."""
    most = count * (layout.SEGMENT * 4 // 3 + 16384) + 4096
    return Bounds(most, FIRST_BYTE + most / SLOWEST, FIRST_BYTE)


def _result(answer: Any, url: str) -> Any:
    if not isinstance(answer, dict):
        raise TransportError(f"{url} did not answer JSON-RPC")
    error = answer.get("error")
    if error is None:
        return answer.get("result")
    if not isinstance(error, dict):
        raise TransportError(f"{url} did not answer JSON-RPC")
    code = error.get("code")
    raise RpcError(
        code if isinstance(code, int) else 0, str(error.get("message", ""))[:1000], error.get("data")
    )


def _hash(text: str) -> bytes:
    value = bytes.fromhex(text.removeprefix("0x"))
    if len(value) != 32:
        raise ValueError("a hash that has not 32 bytes")
    return value


__all__ = ["AnswerTooLong", "FileReport", "Misbehaviour", "NodeClient", "NodeStatus", "transfer_bounds"]
