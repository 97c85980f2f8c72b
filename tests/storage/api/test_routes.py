"""The binary transfer routes over HTTP: what goes in comes out; hostile frames change nothing."""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from tests.storage.api.conftest import File, pattern, submit

from zerog import Devnet
from zerog.storage import frame

SIZE = 5 * 262_144 + 700
HEAD = 48
UNKNOWN = "0x" + "ab" * 32


def exchange(
    net: Devnet, query: str, body: bytes | None = None, method: str | None = None
) -> tuple[int, bytes]:
    request = urllib.request.Request(f"{net.url}/zerog/segments{query}", body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def refusal(answer: tuple[int, bytes]) -> tuple[int, int, str, Any]:
    status, body = answer
    error = json.loads(body)["error"]
    return status, error["code"], error["message"], error.get("data")


def frame_of(file: File, *indices: int) -> bytes:
    segments = [file.segment(index) for index in indices]
    return b"".join(frame.encode(file.tree.root, len(file.data), segments))


@pytest.fixture
def file(net: Devnet) -> File:
    made = File.of(pattern(SIZE))
    submit(net, made)
    return made


def held(net: Devnet, seq: int = 0) -> int:
    return int(net.client.request("zgs_getFileInfoByTxSeq", seq)["zerog"]["held"])


def test_a_file_goes_in_and_comes_out_with_its_proofs(net: Devnet, file: File) -> None:
    status, body = exchange(net, "?txSeq=0", frame_of(file, 0, 1, 2))
    assert (status, json.loads(body)) == (200, {"accepted": 3, "finalized": False})
    status, body = exchange(net, "?txSeq=0", frame_of(file, 3, 4, 5))
    assert (status, json.loads(body)) == (200, {"accepted": 3, "finalized": True})
    for query in (f"?txSeq=0&start=0&end={file.count}", f"?root={file.root}&start=0&end=64"):
        status, body = exchange(net, query)
        assert status == 200
        found = list(frame.decode(body))
        assert [(s.index, bytes(s.data), s.proof) for s in found] == [
            (index, file.chunk_bytes(index), file.segment(index).proof) for index in range(file.count)
        ]


def test_only_segments_that_are_here_come_out(net: Devnet, file: File) -> None:
    exchange(net, "?txSeq=0", frame_of(file, 1, 4))
    status, body = exchange(net, "?txSeq=0&start=0&end=6")
    assert (status, [segment.index for segment in frame.decode(body)]) == (200, [1, 4])


def test_segments_before_their_transaction_wait(net: Devnet) -> None:
    early = File.of(pattern(400_000))
    status, body = exchange(net, "", frame_of(early, 0, 1))
    assert (status, json.loads(body)) == (200, {"accepted": 2, "finalized": False})
    submit(net, early)
    assert net.client.request("zgs_checkFileFinalized", early.root) is True


def test_duplicates_in_a_frame_and_of_a_frame_are_accepted(net: Devnet, file: File) -> None:
    for _ in range(2):
        status, body = exchange(net, "?txSeq=0", frame_of(file, 2, 2, 3))
        assert (status, json.loads(body)) == (200, {"accepted": 3, "finalized": False})
    assert held(net) == 2


def test_a_replayed_frame_of_a_final_file_is_refused_in_the_words_that_clients_match(
    net: Devnet, file: File
) -> None:
    everything = frame_of(file, *range(6))
    assert exchange(net, "?txSeq=0", everything)[0] == 200
    status, code, message, data = refusal(exchange(net, "?txSeq=0", everything))
    assert (status, code, data) == (400, -32602, "already uploaded and finalized")
    assert message == "Invalid params: root; data: already uploaded and finalized"


def _with_count(body: bytes, count: int) -> bytes:
    return body[:44] + struct.pack(">I", count) + body[HEAD:]


def _changed(body: bytes, at: int, to: bytes) -> bytes:
    return body[:at] + to + body[at + len(to) :]


HOSTILE: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("nothing", lambda b: b"", "frame"),
    ("half a head", lambda b: b[:20], "frame"),
    ("head only", lambda b: b[:HEAD], "frame"),
    ("cut in the item", lambda b: b[: HEAD + 9], "frame"),
    ("cut in the proof", lambda b: b[: HEAD + 30], "frame"),
    ("cut in the data", lambda b: b[:-1], "frame"),
    ("more after it", lambda b: b + b"\0", "frame"),
    ("another magic", lambda b: b"ZGS2" + b[4:], "frame"),
    ("too many", lambda b: _with_count(b, 65), "frame"),
    ("four billion", lambda b: _with_count(b, 2**32 - 1), "frame"),
    ("oversize", lambda b: b + bytes(frame.MAX_FRAME), "frame"),
    ("wrong index", lambda b: _changed(b, HEAD, struct.pack(">Q", 3)), "proof"),
    ("index beyond", lambda b: _changed(b, HEAD, struct.pack(">Q", 6)), "index"),
    ("huge index", lambda b: _changed(b, HEAD, struct.pack(">Q", 2**64 - 1)), "index"),
    ("a changed bit", lambda b: _changed(b, len(b) - 1, bytes([b[-1] ^ 1])), "proof"),
    ("another path", lambda b: _changed(b, HEAD + 10, bytes([b[HEAD + 10] ^ 1])), "proof"),
    ("no path", lambda b: _changed(b, HEAD + 10, b"\x02"), "proof"),
    ("a long path", lambda b: _changed(b, HEAD + 8, b"\xff"), "proof"),
    ("another size", lambda b: _changed(b, 36, struct.pack(">Q", SIZE + 1)), "file_size"),
    ("no size", lambda b: _changed(b, 36, bytes(8)), "file_size"),
]


@pytest.mark.parametrize(("what", "change", "field"), HOSTILE, ids=[what for what, *_ in HOSTILE])
def test_a_hostile_frame_is_refused_and_nothing_is_stored(
    net: Devnet, file: File, what: str, change: Callable[[bytes], bytes], field: str
) -> None:
    status, code, message, _ = refusal(exchange(net, "?txSeq=0", change(frame_of(file, 1))))
    assert (status, code, message) == (400, -32602, f"Invalid params: {field}")
    assert held(net) == 0
    assert exchange(net, "?txSeq=0", frame_of(file, 1))[0] == 200


def test_every_truncation_is_refused(net: Devnet) -> None:
    small = File.of(pattern(300))
    submit(net, small)
    whole = frame_of(small, 0)
    for length in range(0, len(whole), 7):
        assert exchange(net, "?txSeq=0", whole[:length])[0] == 400
    assert held(net) == 0


def test_a_frame_for_another_submission_is_refused(net: Devnet, file: File) -> None:
    other = File.of(pattern(700_000))
    submit(net, other)
    expected = (400, -32603, "Internal error", "data root and tx seq not match")
    assert refusal(exchange(net, "?txSeq=1", frame_of(file, 0))) == expected
    assert (held(net, 0), held(net, 1)) == (0, 0)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("?txSeq=9&start=0&end=1", 404),
        (f"?root={UNKNOWN}&start=0&end=1", 404),
        ("?txSeq=18446744073709551615&start=0&end=1", 404),
        ("?txSeq=18446744073709551616&start=0&end=1", 400),
        ("?txSeq=-1&start=0&end=1", 400),
        ("?start=0&end=1", 400),
        ("?root=0x12&start=0&end=1", 400),
        ("?txSeq=0&start=1&end=1", 400),
        ("?txSeq=0&start=6&end=7", 400),
        ("?txSeq=0", 400),
        ("?txSeq=0&start=x&end=1", 400),
        ("?" + "&".join(f"a{n}=1" for n in range(40)), 400),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(net: Devnet, file: File, query: str, status: int) -> None:
    found, code, message, _ = refusal(exchange(net, query))
    assert found == status and code < 0 and message


def test_other_methods_are_refused(net: Devnet) -> None:
    assert refusal(exchange(net, "?txSeq=0", b"", "PUT"))[0] == 405
