"""The binary segment frame: golden bytes, every truncation, hostile lengths."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.reference import merkle

from zerog.errors import SegmentRefused
from zerog.storage import frame
from zerog.storage.layout import SEGMENT
from zerog.storage.values import FileProof, Segment

ROOT = bytes(range(32))
SMALL = Segment(
    ROOT, 2, b"\xaa" * 256, FileProof((b"\x11" * 32, b"\x22" * 32, b"\x33" * 32), (True,)), 600_000
)
GOLDEN = (
    b"ZGS1" + ROOT + bytes.fromhex("00000000000927c0") + bytes.fromhex("00000001")
    + bytes.fromhex("0000000000000002") + b"\x01\x03" + b"\x01"
    + b"\x11" * 32 + b"\x22" * 32 + b"\x33" * 32
    + bytes.fromhex("00000100") + b"\xaa" * 256
)  # fmt: skip

HASHES = st.binary(min_size=32, max_size=32)
SEGMENTS = st.builds(
    Segment,
    st.just(ROOT),
    st.integers(0, (1 << 64) - 1),
    st.binary(max_size=1024),
    st.builds(
        FileProof,
        st.lists(HASHES, max_size=66).map(tuple),
        st.lists(st.booleans(), max_size=64).map(tuple),
    ),
    st.just(600_000),
)


def joined(segments: list[Segment]) -> bytes:
    return b"".join(frame.encode(ROOT, 600_000, segments))


def test_a_frame_has_its_golden_bytes() -> None:
    assert joined([SMALL]) == GOLDEN
    assert list(frame.decode(GOLDEN)) == [SMALL]


@given(st.lists(SEGMENTS, max_size=5))
def test_what_is_encoded_decodes_to_the_same(segments: list[Segment]) -> None:
    assert list(frame.decode(joined(segments))) == segments


def test_every_truncation_is_refused() -> None:
    whole = joined([SMALL, SMALL])
    for end in range(len(whole)):
        with pytest.raises(SegmentRefused):
            list(frame.decode(whole[:end]))


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(SegmentRefused, match="trailing bytes"):
        list(frame.decode(GOLDEN + b"\0"))


@pytest.mark.parametrize(
    ("offset", "value", "field"),
    [
        (0, b"ZGS2", "frame"),
        (44, struct.pack(">I", 0xFFFFFFFF), "frame"),
        (44, struct.pack(">I", 65), "frame"),
        (44, struct.pack(">I", 2), "frame"),
        (44, struct.pack(">I", 0), "frame"),
        (56, b"\x41", "proof"),
        (56, b"\xff", "proof"),
        (57, b"\x43", "proof"),
        (57, b"\xff", "proof"),
        (57, b"\x42", "frame"),
        (58, b"\x02", "proof"),
        (155, struct.pack(">I", 0xFFFFFFFF), "data"),
        (155, struct.pack(">I", SEGMENT + 1), "data"),
        (155, struct.pack(">I", SEGMENT), "frame"),
    ],
)
def test_hostile_lengths_are_refused_before_anything_is_taken(offset: int, value: bytes, field: str) -> None:
    bad = GOLDEN[:offset] + value + GOLDEN[offset + len(value) :]
    with pytest.raises(SegmentRefused) as refusal:
        list(frame.decode(bad))
    assert refusal.value.field == field


def test_a_frame_above_the_limit_is_refused_unread() -> None:
    with pytest.raises(SegmentRefused, match="longer than"):
        list(frame.decode(memoryview(bytearray(frame.MAX_FRAME + 1))))


@given(st.binary(max_size=600))
def test_noise_is_refused_or_decodes_never_fails_otherwise(noise: bytes) -> None:
    for body in (noise, GOLDEN[:48] + noise, GOLDEN[:159] + noise):
        try:
            list(frame.decode(body))
        except SegmentRefused:
            continue


def test_segments_with_real_proofs_survive_the_frame() -> None:
    segments = merkle.segments_of(merkle.prng(300_000))
    body = b"".join(frame.encode(segments[0].root, 300_000, segments))
    for sent, got in zip(segments, frame.decode(body), strict=True):
        assert got == sent
        assert merkle.verify_segment(got.root, 300_000, got.index, got.data, got.proof.lemma, got.proof.path)
