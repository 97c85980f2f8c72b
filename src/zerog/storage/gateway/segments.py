"""``POST /file/segment``: one segment with its proof, passed on to the nodes that keep it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from zerog.errors import RpcError, TransportError
from zerog.storage.gateway import requests
from zerog.storage.gateway.answers import FileNotFound, InternalError, InvalidParameter
from zerog.storage.gateway.source import GatewayStore
from zerog.storage.layout import SEGMENT_SECTORS
from zerog.storage.peers.client import NodeClient, transfer_bounds
from zerog.storage.values import Submission

MAX_BODY = 1 << 20
"""Bytes of a request: a segment in base64 is 349,528 characters."""
MAX_REPLICAS = 64
DONE = "Succeeded to upload segment"
_DUPLICATES = ("already uploaded and finalized", "has already been uploaded")


class _Proof(msgspec.Struct):
    lemma: list[str]
    path: list[bool]


class _Request(msgspec.Struct, rename="camel"):
    data: str
    index: int
    proof: _Proof
    root: str | None = None
    tx_seq: int | None = None
    expected_replica: int = 1


class SegmentDoor:
    """Takes segments; the nodes check their proofs."""

    def __init__(
        self,
        store: GatewayStore,
        local: Callable[[str, list[Any]], Awaitable[Any]],
        trusted: Sequence[NodeClient],
    ) -> None:
        self._store = store
        self._local = local
        self._trusted = trusted

    async def put(self, body: bytes) -> str:
        """Hands a segment to as many nodes as the request expects; raises a `Refusal`."""
        request = _parse(body)
        submission = self._submission(request)
        if not 0 <= request.index < submission.segments:
            raise InvalidParameter(f"the file has no segment {request.index}")
        segment = {
            "root": "0x" + submission.root.hex(),
            "data": request.data,
            "index": request.index,
            "proof": {"lemma": request.proof.lemma, "path": request.proof.path},
            "fileSize": submission.size,
        }
        wanted = max(1, request.expected_replica)
        holders = await self._holders(submission.start // SEGMENT_SECTORS + request.index)
        if len(holders) < wanted:
            raise InternalError(f"{len(holders)} nodes keep this segment, {wanted} are expected")
        for send in holders[:wanted]:
            await _deliver(send, segment, submission.seq)
        return DONE

    def _submission(self, request: _Request) -> Submission:
        root = None if request.root is None else requests.parse_root(request.root)
        if request.tx_seq is None and root is None:
            raise InvalidParameter("Either 'root' or 'txSeq' must be provided")
        seq = request.tx_seq if root is None or request.tx_seq is not None else self._store.find(root, True)
        submission = None if seq is None or not 0 <= seq < 1 << 63 else self._store.submission(seq)
        if submission is None:
            raise FileNotFound
        if root is not None and root != submission.root:
            raise InvalidParameter("root and txSeq name different files")
        return submission

    async def _holders(self, flow_segment: int) -> list[Callable[[str, list[Any]], Awaitable[Any]]]:
        """How to call the nodes that keep a segment of the flow; this one first."""

        async def keeps(node: NodeClient) -> bool:
            try:
                return (await node.shard()).owns(flow_segment)
            except (TransportError, RpcError):
                return False

        keeping = await asyncio.gather(*map(keeps, self._trusted))
        own = [self._local] if self._store.shard.owns(flow_segment) else []
        return own + [_remote(node) for node, keep in zip(self._trusted, keeping, strict=True) if keep]


def _remote(node: NodeClient) -> Callable[[str, list[Any]], Awaitable[Any]]:
    async def call(method: str, params: list[Any]) -> Any:
        return await node.call(method, params, transfer_bounds(1))

    return call


async def _deliver(
    send: Callable[[str, list[Any]], Awaitable[Any]], segment: dict[str, Any], seq: int
) -> None:
    try:
        await send("zgs_uploadSegmentByTxSeq", [segment, seq])
    except RpcError as error:
        text = f"{error.message} {error.data or ''}"
        if any(words in text for words in _DUPLICATES):
            return
        if error.code == -32602:
            raise InvalidParameter(
                f"{error.message}: {error.data}" if error.data else error.message
            ) from None
        raise InternalError(error.message) from None


def _parse(body: bytes) -> _Request:
    if len(body) > MAX_BODY:
        raise InvalidParameter(f"a request has at most {MAX_BODY} bytes")
    try:
        request = msgspec.json.decode(body, type=_Request)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"the request is malformed: {error}") from None
    if not request.data:
        raise InvalidParameter("Segment data is empty")
    if len(request.proof.lemma) > 66 or len(request.proof.path) > 64:
        raise InvalidParameter("the proof is too long")
    if not 0 <= request.expected_replica <= MAX_REPLICAS:
        raise InvalidParameter(f"from 1 to {MAX_REPLICAS} replicas are expected")
    return request
