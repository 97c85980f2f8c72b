"""The JSON forms of a storage node: what clients send, decoded without trust; what they read."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Annotated, Any

from zerog.chain.methods import Uint64, decode_uint64
from zerog.errors import RpcError, SegmentRefused
from zerog.storage.layout import SECTOR, SEGMENT
from zerog.storage.values import FileProof, FlowProof, Segment, ShardConfig, Submission

MAX_BASE64 = (SEGMENT + 2) // 3 * 4
"""Characters of the largest segment."""
MAX_LEMMA = 66
MAX_PATH = 64

__all__ = ["Root", "SegmentValue", "SegmentValues", "SeqOrRoot", "Uint64"]


def decode_root(value: Any) -> bytes:
    """32 bytes of hexadecimal, with or without 0x."""
    if isinstance(value, str):
        digits = value[2:] if value[:2] in ("0x", "0X") else value
        if len(digits) == 64:
            try:
                return binascii.unhexlify(digits)
            except (binascii.Error, ValueError):
                pass
    raise ValueError("a hash, 32 bytes as hexadecimal")


def decode_seq_or_root(value: Any) -> int | bytes:
    """A transaction sequence number, or a root."""
    if isinstance(value, str) and len(value) >= 64:
        return decode_root(value)
    try:
        return decode_uint64(value)
    except ValueError:
        raise ValueError("a transaction sequence number or a root") from None


def decode_segment(value: Any) -> Segment:
    """``{root, data, index, proof: {lemma, path}, fileSize}``."""
    if not isinstance(value, dict):
        raise ValueError("a segment with its proof")
    root = _field(value, "root", decode_root)
    index = _field(value, "index", decode_uint64)
    size = _field(value, "fileSize", decode_uint64)
    proof = _field(value, "proof", decode_file_proof)
    data = _field(value, "data", decode_base64)
    return Segment(root, index, data, proof, size)


def decode_segments(value: Any) -> list[Segment]:
    """A list of segments."""
    if not isinstance(value, list):
        raise ValueError("a list of segments")
    return [decode_segment(item) for item in value]


def decode_file_proof(value: Any) -> FileProof:
    """``{lemma: [hash], path: [bool]}``, of bounded lengths."""
    if not isinstance(value, dict):
        raise ValueError("a proof with lemma and path")
    lemma, path = value.get("lemma"), value.get("path")
    if not isinstance(lemma, list) or not isinstance(path, list):
        raise ValueError("a proof with lemma and path")
    if len(lemma) > MAX_LEMMA or len(path) > MAX_PATH:
        # In the words of 0G's node: the lengths do not fit.
        raise SegmentRefused("proof", "invalid proof")
    if not all(isinstance(left, bool) for left in path):
        raise ValueError("a proof whose path is true or false")
    return FileProof(tuple(decode_root(item) for item in lemma), tuple(path))


def decode_base64(value: Any) -> bytes:
    """At most a segment, in padded standard base64; the length is checked before decoding."""
    if not isinstance(value, str):
        raise ValueError("base64 text")
    if len(value) > MAX_BASE64:
        raise SegmentRefused("data", "invalid data length")
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError):
        raise ValueError("padded standard base64") from None


def _field(value: Mapping[str, Any], name: str, decode: Any) -> Any:
    if name not in value:
        raise ValueError(f"a segment with the field {name}")
    try:
        return decode(value[name])
    except ValueError as error:
        raise ValueError(f"{error} as the segment's {name}") from None


Root = Annotated[bytes, decode_root]
SeqOrRoot = Annotated[Any, decode_seq_or_root]
SegmentValue = Annotated[Segment, decode_segment]
SegmentValues = Annotated[list[Segment], decode_segments]


def hex_of(data: bytes) -> str:
    """0x-hexadecimal."""
    return "0x" + data.hex()


def base64_of(data: bytes | memoryview) -> str:
    """Padded standard base64."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def proof_json(proof: FileProof | FlowProof) -> dict[str, Any]:
    """``{lemma, path}``."""
    return {"lemma": [hex_of(item) for item in proof.lemma], "path": list(proof.path)}


def segment_json(submission: Submission, index: int, data: bytes, proof: FileProof) -> dict[str, Any]:
    """SegmentWithProof."""
    return {
        "root": hex_of(submission.root),
        "data": base64_of(data),
        "index": index,
        "proof": proof_json(proof),
        "fileSize": submission.size,
    }


def transaction_json(submission: Submission) -> dict[str, Any]:
    """Transaction. Its nodes carry the depth of their tree: one more than the height."""
    return {
        "streamIds": [],
        "data": [],
        "dataMerkleRoot": hex_of(submission.root),
        "merkleNodes": [[node.height + 1, hex_of(node.root)] for node in submission.nodes],
        "startEntryIndex": submission.start,
        "size": submission.size,
        "seq": submission.seq,
    }


def shard_json(shard: ShardConfig) -> dict[str, int]:
    """ShardConfig."""
    return {"shardId": shard.id, "numShard": shard.shards}


def require_whole_chunks(segment: Segment) -> None:
    """The first check of 0G's node, with its plain errors; raises `RpcError`."""
    if not len(segment.data):
        raise RpcError(-32000, "data is empty")
    if len(segment.data) % SECTOR:
        raise RpcError(-32000, "invalid data length")
