"""A storage node and a chain in memory, able to lie in every way that a client must survive."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from zerog._native import FileTree, NativeError, verify_segment
from zerog.chain.keys import keccak256
from zerog.errors import SegmentRefused
from zerog.storage import frame, layout
from zerog.storage.transfer.payment import SUBMIT_TOPIC
from zerog.storage.values import FileProof, Segment, ShardConfig

FLOW = "0x" + "71" * 20
MARKET = "0x" + "72" * 20
SENDER = "0x" + "a1" * 20
PRICE = 7


@dataclass
class Submission:
    seq: int
    root: bytes
    size: int
    start: int
    nodes: list[tuple[bytes, int]]
    tags: bytes


@dataclass
class FakeChain:
    """Takes `submit` and `batchSubmit` as the flow contract does, one block per transaction."""

    submissions: list[Submission] = field(default_factory=list)
    receipts: dict[str, Any] = field(default_factory=dict)
    logs: list[Any] = field(default_factory=list)
    length: int = 1
    nonce: int = 0
    paid: int = 0
    drop_answers: int = 0
    """So many answers to eth_sendTransaction are lost after the transaction is done."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, method: str, params: list[Any]) -> Any:
        match method:
            case "eth_chainId":
                return "0x7a69"
            case "eth_blockNumber":
                return hex(len(self.receipts))
            case "eth_getBlockByNumber":
                zero = "0x" + "00" * 32
                fields = {"number": "0x0", "hash": zero, "parentHash": zero, "stateRoot": zero}
                return {
                    **fields,
                    "timestamp": "0x0",
                    "gasLimit": "0x0",
                    "gasUsed": "0x0",
                    "miner": SENDER,
                    "transactions": [],
                }
            case "eth_call":
                to = params[0]["to"]
                return "0x" + (MARKET[2:].zfill(64) if to == FLOW else f"{PRICE:064x}")
            case "eth_estimateGas":
                return "0x30000"
            case "eth_getTransactionCount":
                return hex(self.nonce)
            case "eth_getTransactionReceipt":
                return self.receipts.get(params[0])
            case "eth_getTransactionByHash":
                return self.receipts.get(params[0])
            case "eth_getLogs":
                topics = params[0]["topics"]
                return [log for log in self.logs if log["topics"][2] == topics[2]]
            case "eth_sendTransaction":
                with self.lock:
                    return self._send(params[0])
        raise KeyError(method)

    def _send(self, transaction: dict[str, Any]) -> str:
        if int(transaction["nonce"], 16) != self.nonce:
            raise ValueError("nonce too low")
        self.nonce += 1
        self.paid += int(transaction["value"], 16)
        sent = "0x" + keccak256(json.dumps(transaction).encode()).hex()
        logs = [self._append(one, sent) for one in _decoded(bytes.fromhex(transaction["input"][2:]))]
        self.receipts[sent] = {"transactionHash": sent, "status": "0x1", "logs": logs}
        if self.drop_answers:
            self.drop_answers -= 1
            raise ConnectionAbortedError
        return sent

    def _append(self, one: tuple[int, bytes, list[tuple[bytes, int]]], sent: str) -> Any:
        size, tags, nodes = one
        start, self.length = layout.place(self.length, [height for _, height in nodes])
        root = nodes[-1][0]
        for node, _ in reversed(nodes[:-1]):
            root = keccak256(node + root)
        seq = len(self.submissions)
        self.submissions.append(Submission(seq, root, size, start, nodes, tags))
        word = lambda number: number.to_bytes(32, "big")  # noqa: E731
        padded = word(len(tags)) + tags + bytes(-len(tags) % 32)
        body = word(size) + word(96) + word(96 + len(padded)) + padded + word(len(nodes))
        body += b"".join(node + word(height) for node, height in nodes)
        data = word(seq) + word(start) + word(sum(1 << h for _, h in nodes)) + word(128) + body
        identity = keccak256(b"".join(node for node, _ in nodes))
        log = {
            "address": FLOW,
            "topics": [SUBMIT_TOPIC, "0x" + SENDER[2:].zfill(64), "0x" + identity.hex()],
            "data": "0x" + data.hex(),
            "transactionHash": sent,
            "blockNumber": hex(len(self.receipts) + 1),
        }
        self.logs.append(log)
        return log


def _decoded(data: bytes) -> list[tuple[int, bytes, list[tuple[bytes, int]]]]:
    """The files of `submit` or `batchSubmit` input."""
    from eth_abi.abi import decode

    submission = "((uint256,bytes,(bytes32,uint256)[]),address)"
    if data[:4].hex() == "bc8c11f8":
        entries = decode([submission], data[4:])
    else:
        assert data[:4].hex() == "49aa3395"
        (entries,) = decode([submission + "[]"], data[4:])
    return [(size, tags, list(nodes)) for (size, tags, nodes), _ in entries]


class FakeNode:
    """Serves `zgs_*`, optionally the binary routes, and the chain, on a free port.

    ``lie`` is one of: "" (honest), "byte" (a wrong byte), "proof", "short" (half of the segments),
    "nothing", "size" (another file size), "endless" (an answer without end), "slow" (never answers),
    "refuse" (takes no upload), "die" (closes after the first segment request).
    """

    def __init__(self, chain: FakeChain, shard: str = "0/1", *, binary: bool = True, lie: str = "") -> None:
        self.chain, self.shard, self.binary, self.lie = chain, ShardConfig.parse(shard), binary, lie
        self.chain_id = 31337
        self.segments: dict[bytes, dict[int, Segment]] = {}
        self.uploads = 0
        self.requests: list[str] = []
        self.released = threading.Event()
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def log_message(self, *_: Any) -> None:
                return None

            def do_POST(self) -> None:
                node._post(self)

            def do_GET(self) -> None:
                node._get(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> FakeNode:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What it holds.

    def own(self, submission: Submission) -> list[int]:
        first = submission.start // 1024
        return [i for i in range(layout.segments(submission.size)) if self.shard.owns(first + i)]

    def finalized(self, submission: Submission) -> bool:
        held = self.segments.get(submission.root, {})
        return all(index in held for index in self.own(submission))

    def put(self, content: bytes) -> None:
        """Takes a file of the chain's last submission without an upload."""
        tree = FileTree.from_bytes(content)
        submission = next(one for one in self.chain.submissions if one.root == tree.root)
        for index in self.own(submission):
            data = content[index * layout.SEGMENT : (index + 1) * layout.SEGMENT]
            data += bytes(layout.segment_chunks(len(content), index) * 256 - len(data))
            lemma, path = tree.proof(index)
            proof = FileProof(tuple(lemma), tuple(path))
            segment = Segment(tree.root, index, data, proof, len(content))
            self.segments.setdefault(tree.root, {})[index] = segment

    # Requests.

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        url = urlsplit(handler.path)
        if url.path == "/zerog/segments" and self.binary:
            seq = int(parse_qs(url.query)["txSeq"][0])
            try:
                final = self._take(seq, list(frame.decode(body)))
                _reply(handler, 200, json.dumps({"accepted": 1, "finalized": final}).encode())
            except SegmentRefused as error:
                refusal = {"code": -32602, "message": f"Invalid params: {error.field}", "data": error.detail}
                _reply(handler, 400, json.dumps({"error": refusal}).encode())
            return
        call = json.loads(body)
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": call["id"]}
        try:
            reply["result"] = self._call(call["method"], call.get("params", []))
        except SegmentRefused as error:
            refusal = {"code": -32602, "message": f"Invalid params: {error.field}", "data": error.detail}
            reply["error"] = refusal
        except KeyError as error:
            reply["error"] = {"code": -32601, "message": f"Method not found: {error}"}
        except ValueError as error:
            reply["error"] = {"code": -32000, "message": str(error)}
        except ConnectionAbortedError:
            handler.close_connection = True
            return
        _reply(handler, 200, json.dumps(reply).encode())

    def _call(self, method: str, params: list[Any]) -> Any:
        self.requests.append(method)
        known = self.chain.submissions
        match method:
            case "zgs_getStatus":
                status: dict[str, Any] = {
                    "connectedPeers": 0,
                    "logSyncHeight": 1,
                    "nextTxSeq": len(known),
                    "networkIdentity": {"chainId": self.chain_id, "flowAddress": FLOW},
                }
                if self.binary:
                    status["zerog"] = {"segments": "/zerog/segments", "maxSegments": 64}
                return status
            case "zgs_getShardConfig":
                return {"shardId": self.shard.id, "numShard": self.shard.shards}
            case "zgs_getFileInfo":
                root = bytes.fromhex(params[0][2:])
                return next((self._info(one) for one in known if one.root == root), None)
            case "zgs_getFileInfoByTxSeq":
                return self._info(known[params[0]]) if params[0] < len(known) else None
            case "zgs_uploadSegmentsByTxSeq":
                from zerog.storage.transfer.nodes import _segment_of

                self._take(params[1], [_segment_of(raw) for raw in params[0]])
                return None
            case "zgs_downloadSegmentWithProofByTxSeq":
                from zerog.storage.transfer.nodes import _segment_json

                for segment in self._serve(known[params[0]], params[1], params[1] + 1):
                    return _segment_json(segment)
                return None
        return self.chain.answer(method, params)

    def _info(self, one: Submission) -> Any:
        size = one.size + (1 if self.lie == "size" else 0)
        return {
            "tx": {
                "streamIds": [],
                "data": [],
                "dataMerkleRoot": "0x" + one.root.hex(),
                "merkleNodes": [[height + 1, "0x" + node.hex()] for node, height in one.nodes],
                "startEntryIndex": one.start,
                "size": size,
                "seq": one.seq,
            },
            "finalized": self.finalized(one),
            "isCached": False,
            "uploadedSegNum": 0,
            "pruned": False,
        }

    def _take(self, seq: int, segments: list[Segment]) -> bool:
        submission = self.chain.submissions[seq]
        if self.lie == "refuse":
            raise SegmentRefused("data", "validation failed")
        if self.finalized(submission):
            raise SegmentRefused("root", "already uploaded and finalized")
        for one in segments:
            try:
                verify_segment(
                    submission.root, submission.size, one.index, one.data, one.proof.lemma, one.proof.path
                )
            except NativeError as error:
                raise SegmentRefused(error.field, error.message) from None
            kept = Segment(one.root, one.index, bytes(one.data), one.proof, one.file_size)
            self.segments.setdefault(submission.root, {})[one.index] = kept
            self.uploads += 1
        return self.finalized(submission)

    def _serve(self, submission: Submission, start: int, end: int) -> list[Segment]:
        held = self.segments.get(submission.root, {})
        chosen = [held[index] for index in range(start, end) if index in held]
        if self.lie == "nothing":
            return []
        if self.lie == "short":
            return [segment for segment in chosen if segment.index % 2 == 0]
        if self.lie in ("byte", "proof", "size"):
            return [self._spoiled(segment) for segment in chosen]
        return chosen

    def _spoiled(self, segment: Segment) -> Segment:
        data, proof = bytearray(segment.data), segment.proof
        size = segment.file_size + (1 if self.lie == "size" else 0)
        if self.lie == "byte":
            data[len(data) // 2] ^= 1
        elif self.lie == "proof":
            proof = FileProof((bytes(32), *proof.lemma[1:]), proof.path)
        return Segment(segment.root, segment.index, bytes(data), proof, size)

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        self.requests.append("GET")
        seq, start, end = (int(query[name][0]) for name in ("txSeq", "start", "end"))
        submission = self.chain.submissions[seq]
        if self.lie == "slow":
            self.released.wait(30)
            handler.close_connection = True
            return
        if self.lie == "die":
            handler.close_connection = True
            threading.Thread(target=self._server.server_close, daemon=True).start()
            return
        if self.lie == "endless":
            _endless(handler)
            return
        segments = self._serve(submission, start, end)
        size = submission.size + (1 if self.lie == "size" else 0)
        _reply(handler, 200, b"".join(frame.encode(submission.root, size, segments)))


def _reply(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _endless(handler: BaseHTTPRequestHandler) -> None:
    """An answer without length that does not end before a minute is over."""
    handler.close_connection = True
    handler.send_response(200)
    handler.end_headers()
    until = time.monotonic() + 60
    try:
        while time.monotonic() < until:
            handler.wfile.write(bytes(1 << 20))
    except OSError:
        return


def decoded_data(raw: Any) -> bytes:
    """The bytes of a segment in JSON."""
    return base64.b64decode(raw["data"])
