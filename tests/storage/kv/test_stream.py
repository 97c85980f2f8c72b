from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerog.storage.kv.stream import (
    ANY_VERSION,
    MAX_ITEMS,
    STREAM_DOMAIN,
    BytesContent,
    Control,
    LocatedWrite,
    Operation,
    Read,
    StreamData,
    StreamDataError,
    StreamReader,
    Write,
    stream_ids,
    tags_of,
)

from .flow import ALICE, BOB, OTHER, STREAM

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "kv.json").read_text())


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


@pytest.mark.parametrize("case", VECTORS["streamData"], ids=lambda case: case["description"])
def test_golden_stream_data_has_the_bytes_of_the_official_sdks(case):
    write = Write(_bytes(case["streamId"]), _bytes(case["key"]), _bytes(case["value"]))
    data = StreamData(version=case["version"], writes=[write])
    assert data.encode() == _bytes(case["encoded"])
    assert len(data.encode()) == case["size"]
    assert tags_of(data.streams()) == _bytes(case["tags"])
    assert _bytes(VECTORS["streamDomain"]) == STREAM_DOMAIN


def _decoded(content: bytes, sender: bytes = ALICE):
    reader = StreamReader(BytesContent(content))
    version, reads, writes = reader.version(), reader.reads(), reader.writes()
    values = [Write(w.stream, w.key, content[w.offset : w.offset + w.length]) for w in writes]
    return StreamData(version, reads, values, list(reader.controls(sender)))


_streams = st.sampled_from([STREAM, OTHER])
_keys = st.binary(min_size=1, max_size=40)
_accounts = st.sampled_from([ALICE, BOB])


@st.composite
def _controls(draw):
    operation = draw(st.sampled_from(Operation))
    account = draw(_accounts) if operation.has_account else (ALICE if operation.renounces else bytes(20))
    return Control(operation, draw(_streams), draw(_keys) if operation.has_key else b"", account)


@given(
    st.builds(
        StreamData,
        st.integers(0, ANY_VERSION),
        st.lists(st.builds(Read, _streams, _keys)),
        st.lists(
            st.builds(Write, _streams, _keys, st.binary(max_size=600)), unique_by=lambda w: (w.stream, w.key)
        ),
        st.lists(_controls()),
    )
)
def test_what_is_written_is_read_back(data):
    assert _decoded(data.encode()) == data


def test_the_last_write_of_a_key_counts():
    data = StreamData(0, [], [Write(STREAM, b"k", b"first"), Write(STREAM, b"k", b"second")])
    assert _decoded(data.encode()).writes == [Write(STREAM, b"k", b"second")]


def test_a_content_that_ends_early_goes_on_with_zeros_to_the_end_of_its_sector():
    content = StreamData(3, [], [Write(STREAM, b"k", b"v")]).encode()
    assert _decoded(content[:-4]) == _decoded(content)


def test_bytes_behind_the_controls_are_ignored():
    content = StreamData(3, [], [Write(STREAM, b"k", b"v")]).encode()
    assert _decoded(content + b"rest" * 200) == _decoded(content)


@pytest.mark.parametrize("tags", [b"", STREAM_DOMAIN[:-1], bytes(64), STREAM_DOMAIN + bytes(31), b"\0"])
def test_other_tags_name_no_stream(tags):
    assert stream_ids(tags) == ()


def test_tags_name_their_streams():
    assert stream_ids(tags_of([OTHER, STREAM])) == (STREAM, OTHER)
    assert stream_ids(STREAM_DOMAIN) == ()


@pytest.mark.parametrize("count", [MAX_ITEMS + 1, 2**32 - 1])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_list_that_is_too_long_is_refused_by_its_count(count, part):
    content = bytes(8) + bytes(4) * part + struct.pack(">I", count)
    with pytest.raises(StreamDataError, match=r"^Stream read/write/access_control list too long$"):
        _decoded(content)


class _Huge:
    """A file of 16 TiB that counts what is read of it."""

    def __init__(self, head: bytes) -> None:
        self.size = 1 << 44
        self.head = head
        self.given = 0

    def read(self, start: int, end: int) -> bytes:
        self.given += end - start
        return self.head[start:end].ljust(end - start, b"\0")


def test_a_huge_value_is_skipped_and_never_read():
    head = bytes(8) + bytes(4) + struct.pack(">I", 1) + STREAM + b"\0\0\x01k" + struct.pack(">Q", 1 << 43)
    content = _Huge(head)
    reader = StreamReader(content)
    reader.version(), reader.reads()
    assert reader.writes() == [LocatedWrite(STREAM, b"k", len(head), 1 << 43)]
    assert list(reader.controls(ALICE)) == []
    assert content.given <= 2 * 262_144


def test_keys_beyond_the_memory_limit_are_a_list_too_long():
    entry = STREAM + b"\xff\xff\xff" + bytes((1 << 24) - 1)
    content = _Huge(bytes(8) + struct.pack(">I", 5) + entry * 5)
    reader = StreamReader(content)
    reader.version()
    with pytest.raises(StreamDataError, match="list too long"):
        reader.reads()


def test_lengths_whose_sum_overflows_are_refused():
    entry = STREAM + b"\0\0\x01k" + struct.pack(">Q", 2**64 - 1)
    content = bytes(12) + struct.pack(">I", 2) + entry * 2
    with pytest.raises(StreamDataError, match=r"^Invalid stream data$"):
        _decoded(content)


def test_an_empty_key_is_refused():
    content = bytes(8) + struct.pack(">I", 1) + STREAM + b"\0\0\0" + bytes(200)
    with pytest.raises(StreamDataError, match=r"^Invalid stream data$"):
        _decoded(content)


@pytest.mark.parametrize(
    "data",
    [
        StreamData(version=2**64),
        StreamData(writes=[Write(STREAM, b"", b"")]),
        StreamData(writes=[Write(STREAM[1:], b"k", b"")]),
        StreamData(controls=[Control(Operation.GRANT_WRITER_ROLE, STREAM, account=b"\1")]),
        StreamData(reads=[Read(STREAM, b"k")] * (MAX_ITEMS + 1)),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(data):
    with pytest.raises(ValueError):
        data.encode()
