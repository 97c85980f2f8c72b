"""Segments as bytes over HTTP, between zerog programs: no base64, no JSON around the data.

========================================================  ==========================================
``POST /zerog/segments[?txSeq=N]``, body a frame          ``{"accepted": n, "finalized": bool}``
``GET /zerog/segments?txSeq=N|root=0x…&start=i&end=j``    a frame with those of the segments that are
                                                          here; ``end`` exclusive, at most 64
========================================================  ==========================================

A refusal has an HTTP status from 400 on and ``{"error": {code, message, data}}`` as JSON-RPC would answer.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import msgspec

from zerog.chain.methods import Buffer, HttpExchange, decode_uint64
from zerog.errors import RpcError, StorageError, StorageFull
from zerog.storage import frame
from zerog.storage.api import wire
from zerog.storage.api.node import StorageNode, as_rpc_error
from zerog.storage.values import Segment, Submission


class _Refused(Exception):
    def __init__(self, status: int, error: RpcError) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


async def segments(node: StorageNode, exchange: HttpExchange) -> None:
    """Answers one request for `/zerog/segments`."""
    try:
        if exchange.method == "POST":
            await _take(node, exchange)
        elif exchange.method == "GET":
            await _give(node, exchange)
        else:
            raise _Refused(405, RpcError(-32600, f"{exchange.method:.20} is not GET or POST"))
    except _Refused as refused:
        await refuse(exchange, refused.status, refused.error)
    except StorageFull as error:
        await refuse(exchange, 507, as_rpc_error(error))
    except StorageError as error:
        await refuse(exchange, 400, as_rpc_error(error))
    except RpcError as error:
        await refuse(exchange, 503 if error.message.startswith("too many data writing") else 400, error)


async def refuse(exchange: HttpExchange, status: int, error: RpcError) -> None:
    """Answers with an error."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    await exchange.respond(status, msgspec.json.encode({"error": body}), content_type="application/json")


async def _take(node: StorageNode, exchange: HttpExchange) -> None:
    query = _query(exchange.query)
    seq = _number(query, "txSeq") if "txSeq" in query else None
    segments = list(frame.decode(exchange.body))
    finalized = await node.upload(segments, seq)
    answer = msgspec.json.encode({"accepted": len(segments), "finalized": finalized})
    await exchange.respond(200, answer, content_type="application/json")


async def _give(node: StorageNode, exchange: HttpExchange) -> None:
    query = _query(exchange.query)
    submission = await _submission(node, query)
    if submission is None:
        raise _Refused(404, RpcError(-32000, "file not found"))
    start, end = _number(query, "start"), _number(query, "end")
    end = min(end, submission.segments)
    if start >= end or end - start > frame.MAX_SEGMENTS:
        raise _Refused(
            400, RpcError(-32602, f"start and end name 1 to {frame.MAX_SEGMENTS} segments of the file")
        )
    held = await node.read(_read, node, submission, start, end)
    pieces: list[Buffer] = list(frame.encode(submission.root, submission.size, held))
    await node.peers.outgoing(sum(map(len, pieces)))
    await exchange.respond(200, pieces, content_type=frame.CONTENT_TYPE)


def _read(node: StorageNode, submission: Submission, start: int, end: int) -> list[Segment]:
    found = (node.read_segment(submission, index) for index in range(start, end))
    return [segment for segment in found if segment is not None]


async def _submission(node: StorageNode, query: dict[str, str]) -> Submission | None:
    if "txSeq" in query:
        return await node.by_seq(_number(query, "txSeq"))
    try:
        root = wire.decode_root(query.get("root"))
    except ValueError:
        raise _Refused(400, RpcError(-32602, "txSeq or root (32 bytes as hexadecimal) is needed")) from None
    return await node.find(root, True)


def _query(text: str) -> dict[str, str]:
    try:
        return {name: values[-1] for name, values in parse_qs(text, max_num_fields=16).items()}
    except ValueError:
        raise _Refused(400, RpcError(-32602, "too many fields in the query")) from None


def _number(query: dict[str, str], name: str) -> int:
    try:
        return decode_uint64(query.get(name))
    except ValueError as error:
        raise _Refused(400, RpcError(-32602, f"{name}: expected {error}")) from None
