"""Stream data from people who mean harm: replay gives a result, keeps the state, and goes on."""

from __future__ import annotations

import tracemalloc

from hypothesis import given, settings
from hypothesis import strategies as st

from zerog.storage.kv.replay import Replay
from zerog.storage.kv.store import KvStore
from zerog.storage.kv.stream import STREAM_DOMAIN, Control, Operation, Read, StreamData, Write

from .flow import ALICE, BOB, OTHER, STREAM, MemoryFlow

TAGS = STREAM_DOMAIN + STREAM + OTHER
SAMPLE = StreamData(
    9,
    [Read(STREAM, b"r")],
    [Write(STREAM, b"k1", b"v1"), Write(OTHER, b"k2", b"")],
    [
        Control(Operation.GRANT_SPECIAL_WRITER_ROLE, STREAM, b"s", BOB),
        Control(Operation.RENOUNCE_WRITER_ROLE, OTHER),
    ],
).encode()
RESULTS = (
    "Commit",
    "VersionConfliction",
    "TagsMismatch",
    "DataParseError: Invalid stream data",
    "DataParseError: Stream read/write/access_control list too long",
)


def _replayed(*contents: bytes) -> list[str | None]:
    """The results of ``contents``, each followed by a good write that must be committed."""
    flow, store = MemoryFlow(), KvStore(None)
    replay = Replay(flow, store, flow.read_chunks)
    try:
        for content in contents:
            flow.submit(content, TAGS, ALICE)
        good = flow.write(StreamData(writes=[Write(bytes(32), b"alive", b"yes")]))
        replay.catch_up()
        assert store.result(good) == "Commit"
        return [store.result(seq) for seq in range(len(contents))]
    finally:
        store.close()


def test_the_sample_itself_is_good():
    assert _replayed(SAMPLE) == ["Commit"]


def test_any_byte_of_a_sample_may_be_wrong():
    for position in range(len(SAMPLE)):
        values = {0, 1, 0x7F, 0x80, 0xFF, SAMPLE[position] ^ 1, (SAMPLE[position] + 1) % 256}
        changed = [SAMPLE[:position] + bytes([value]) + SAMPLE[position + 1 :] for value in values]
        for result in _replayed(*changed):
            assert result in RESULTS or result.startswith(
                ("WritePermissionDenied: stream: 0x", "AccessControlPermissionDenied: operation: ")
            ), (position, result)


def test_a_sample_may_end_anywhere():
    padded = SAMPLE + bytes(-len(SAMPLE) % 256)
    for result in _replayed(*(padded[:end] for end in range(1, len(padded)))):
        assert result in RESULTS


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=700).map(lambda tail: bytes(8) + tail)
    | st.tuples(st.integers(0, len(SAMPLE)), st.binary(max_size=9), st.integers(0, 40))
    .map(lambda t: SAMPLE[: t[0]] + t[1] + SAMPLE[t[0] + t[2] :])
    .filter(bool)
)
def test_nonsense_gets_a_result(content):
    (result,) = _replayed(content)
    assert result is not None


def test_memory_stays_bounded_over_a_large_file_with_huge_claims():
    value = bytes(8 << 20)
    content = StreamData(writes=[Write(STREAM, b"k", value)]).encode()
    tracemalloc.start()
    try:
        flow, store = MemoryFlow(), KvStore(None)
        for position in (15, 55, 58):  # the count of writes, and bytes of the length of the value
            flow.submit(content[:position] + b"\xff" + content[position + 1 :], TAGS)
        flow.submit(content, TAGS)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        Replay(flow, store, flow.read_chunks).catch_up()
        assert tracemalloc.get_traced_memory()[1] - before < 4 << 20
        assert store.result(3) == "Commit"
        assert all(store.result(seq).startswith("DataParseError") for seq in range(3))
    finally:
        tracemalloc.stop()
        store.close()
