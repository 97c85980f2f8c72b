"""Segments as bytes: the body of zerog's binary transfer routes.

JSON-RPC carries a segment as base64 inside JSON; between zerog programs the same segment travels as it is.
Integers are big-endian::

    "ZGS1"  root(32)  u64 file size  u32 count
    then per segment:  u64 index  u8 path length p  u8 lemma length l  p bytes (0 or 1)  l * 32 bytes
                       u32 data length  data

A decoder checks every length against the bytes that are there before it takes them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from zerog.errors import SegmentRefused
from zerog.storage.layout import SEGMENT
from zerog.storage.values import FileProof, Segment

MAGIC = b"ZGS1"
MAX_SEGMENTS = 64
"""Segments of one frame, at most."""
MAX_FRAME = MAX_SEGMENTS * (SEGMENT + 8 + 2 + 64 * 33 + 4) + 48
"""Bytes of the largest frame."""
CONTENT_TYPE = "application/vnd.zerog.segments"

_HEAD = struct.Struct(">4s32sQI")
_ITEM = struct.Struct(">QBB")
_LENGTH = struct.Struct(">I")


def encode(root: bytes, file_size: int, segments: Sequence[Segment]) -> list[bytes | memoryview]:
    """The frame in pieces (the data of the segments is not copied)."""
    pieces: list[bytes | memoryview] = [_HEAD.pack(MAGIC, root, file_size, len(segments))]
    for segment in segments:
        path, lemma = segment.proof.path, segment.proof.lemma
        pieces.append(
            _ITEM.pack(segment.index, len(path), len(lemma))
            + bytes(path)
            + b"".join(lemma)
            + _LENGTH.pack(len(segment.data))
        )
        pieces.append(segment.data)
    return pieces


def decode(frame: bytes | memoryview) -> Iterator[Segment]:
    """The segments of a frame, their data as views of it; raises `SegmentRefused` for a malformed one."""
    view = memoryview(frame)
    if len(view) > MAX_FRAME:
        raise SegmentRefused("frame", f"longer than {MAX_FRAME} bytes")
    if len(view) < _HEAD.size:
        raise SegmentRefused("frame", "truncated")
    magic, root, size, count = _HEAD.unpack_from(view)
    if magic != MAGIC:
        raise SegmentRefused("frame", "not a segment frame")
    if count > MAX_SEGMENTS:
        raise SegmentRefused("frame", f"more than {MAX_SEGMENTS} segments")
    offset = _HEAD.size
    for _ in range(count):
        segment, offset = _segment(view, offset, root, size)
        yield segment
    if offset != len(view):
        raise SegmentRefused("frame", "trailing bytes")


def _segment(view: memoryview, offset: int, root: bytes, size: int) -> tuple[Segment, int]:
    if len(view) - offset < _ITEM.size:
        raise SegmentRefused("frame", "truncated")
    index, path_length, lemma_length = _ITEM.unpack_from(view, offset)
    offset += _ITEM.size
    if path_length > 64 or lemma_length > 66:
        raise SegmentRefused("proof", "invalid proof")
    if len(view) - offset < path_length + 32 * lemma_length + _LENGTH.size:
        raise SegmentRefused("frame", "truncated")
    path = bytes(view[offset : offset + path_length])
    if path.strip(b"\x00\x01"):
        raise SegmentRefused("proof", "invalid proof")
    offset += path_length
    hashes = bytes(view[offset : offset + 32 * lemma_length])
    offset += len(hashes)
    (length,) = _LENGTH.unpack_from(view, offset)
    offset += _LENGTH.size
    if length > SEGMENT:
        raise SegmentRefused("data", "invalid data length")
    if len(view) - offset < length:
        raise SegmentRefused("frame", "truncated")
    lemma = tuple(hashes[at : at + 32] for at in range(0, len(hashes), 32))
    proof = FileProof(lemma, tuple(map(bool, path)))
    data = view[offset : offset + length]
    return Segment(root, index, data, proof, size), offset + length
