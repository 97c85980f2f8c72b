"""The gateway: what it sends, what it refuses, what never gets out of a name."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.store.building import BLOCK, Chain, File

from zerog.errors import RpcError
from zerog.storage import directory
from zerog.storage.directory import Entry, Kind
from zerog.storage.gateway import GatewayService, GatewaySettings
from zerog.storage.gateway.requests import Unsatisfiable, disposition, parse_ranges
from zerog.storage.layout import SEGMENT
from zerog.storage.peers import Alone
from zerog.storage.store import FlowStore
from zerog.storage.values import ShardConfig, Submission

T = TypeVar("T")
SMALL = File.of(bytes(range(256)) * 40 + b"end")
LARGE = File.of(b"".join(i.to_bytes(4, "big") for i in range((3 * SEGMENT + 1000) // 4)))
PENDING = File.of(b"pending" * 100)
TREE = Entry(
    "/",
    Kind.DIRECTORY,
    entries=(
        Entry("a.bin", Kind.FILE, (SMALL.root,), len(SMALL.data)),
        Entry(
            "both ä.bin",
            Kind.FILE,
            (LARGE.root, SMALL.root),
            len(LARGE.data) + len(SMALL.data),
        ),
        Entry("empty", Kind.FILE),
        Entry("lies.bin", Kind.FILE, (SMALL.root,), 5),
        Entry("link", Kind.LINK, link="sub/x"),
        Entry("sub", Kind.DIRECTORY, entries=(Entry("x", Kind.FILE, (SMALL.root,), len(SMALL.data)),)),
    ),
)
MANIFEST = File.of(directory.encode(TREE))
FILES = [SMALL, LARGE, PENDING, MANIFEST]


class Exchange:
    """A request and what was answered."""

    def __init__(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method, self.body, self.peer, self.gone = method, body, None, False
        self.path, _, self.query = target.partition("?")
        self.headers = dict(headers)
        self.status = 0
        self.sent: dict[str, str] = {}
        self.data = b""
        self.length: int | None = None
        self.finished = False

    async def respond(
        self, status: int, body: Any = b"", *, headers: Any = None, content_type: str | None = "x"
    ) -> None:
        self.status, self.data, self.sent, self.finished = status, bytes(body), dict(headers or {}), True

    async def respond_json(self, status: int, value: Any) -> None:
        await self.respond(status, json.dumps(value).encode())

    async def stream(self, status: int, headers: Any = None, length: int | None = None) -> Exchange:
        self.status, self.sent, self.length = status, dict(headers or {}), length
        return self

    async def write(self, data: Any) -> bool:
        self.data += data
        return True

    async def finish(self) -> None:
        self.finished = True

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class OtherNode(Alone):
    """A peer with segments of files."""

    def __init__(self, *files: File, until: int = 1 << 30) -> None:
        self.files = {file.root: file for file in files}
        self.until = until

    async def fetch_segment(self, submission: Submission, index: int) -> bytes | None:
        file = self.files.get(submission.root)
        return None if file is None or index >= self.until else bytes(file.segments[index].data)


def open_store(shard: str = "0/1", filled: tuple[File, ...] = (SMALL, LARGE, MANIFEST)) -> FlowStore:
    chain, store = Chain(), FlowStore.open(None, ShardConfig.parse(shard))
    for file in FILES:
        chain.submit(file)
    store.append(chain.submissions, BLOCK)
    for seq, file in enumerate(FILES):
        if file in filled:
            for first, end in store.missing(seq):
                store.put_segments(seq, file.segments[first:end])
    return store


@pytest.fixture(scope="module")
def store() -> Iterator[FlowStore]:
    with open_store() as opened:
        yield opened


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(work, 60))


async def local(method: str, params: list[Any]) -> Any:
    if method == "zgs_getFileInfoByTxSeq":
        return {"tx": {"seq": params[0]}, "finalized": True, "uploadedSegNum": 1} if params[0] < 4 else None
    if method == "zgs_getFileInfo":
        return {"tx": {"seq": 0}, "finalized": True} if params[0] == "0x" + SMALL.root.hex() else None
    if method == "zgs_getStatus":
        return {"connectedPeers": 0, "logSyncHeight": 7, "nextTxSeq": 4}
    raise RpcError(-32602, "Invalid params: proof", "validation failed")


def get(
    store: FlowStore,
    target: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    *,
    peers: Alone | None = None,
    body: bytes = b"",
    call: Any = local,
    **settings: Any,
) -> Exchange:
    async def scenario() -> Exchange:
        gateway = GatewayService(store, peers or Alone(), call, (), GatewaySettings(**settings))
        exchange = Exchange(method, target, headers or {}, body)
        await gateway.answer(exchange)
        assert exchange.finished
        return exchange

    return run(scenario())


def by_root(file: File) -> str:
    return "/file?root=0x" + file.root.hex()


# Whole files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", [SMALL, LARGE])
def test_a_file_is_sent_by_root_and_by_number_as_it_was(store: FlowStore, file: File) -> None:
    for target in (by_root(file), f"/file?txSeq={FILES.index(file)}", f"/file?root={file.root.hex()}"):
        answer = get(store, target)
        assert (answer.status, answer.length) == (200, len(file.data))
        assert answer.data == file.data
        assert answer.sent["ETag"] == f'"0x{file.root.hex()}"'
        assert answer.sent["Accept-Ranges"] == "bytes"
        assert answer.sent["X-Content-Type-Options"] == "nosniff"
        assert answer.sent["Content-Disposition"] == f'attachment; filename="0x{file.root.hex()}"'


def test_head_tells_the_length_and_sends_nothing(store: FlowStore) -> None:
    answer = get(store, by_root(LARGE), "HEAD")
    assert (answer.status, answer.length, answer.data) == (200, len(LARGE.data), b"")


def test_a_version_that_the_client_has_is_not_sent_again(store: FlowStore) -> None:
    answer = get(store, by_root(LARGE), headers={"if-none-match": f'W/"x", "0x{LARGE.root.hex()}"'})
    assert (answer.status, answer.data) == (304, b"")


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("/file", 1),
        ("/file?root=0x12", 1),
        ("/file?root=" + "zz" * 32, 1),
        ("/file?txSeq=-1", 1),
        ("/file?txSeq=99999999999999999999", 1),
        ("/file?txSeq=1&root=0x" + "00" * 32, 1),
        ("/file?txSeq=77", 101),
        ("/file?root=0x" + "00" * 32, 101),
        ("/file?txSeq=2", 103),
        ("/file/info/77", 101),
        ("/file/info/nonsense", 1),
        ("/files/info", 1),
        ("/files/info?" + "&".join(["cid=1"] * 101), 1),
        ("/file?root=%ff", 1),
        ("/file?" + "a=1&" * 5000, 1),
    ],
)
def test_business_errors_have_their_code_and_status_200(store: FlowStore, target: str, code: int) -> None:
    answer = get(store, target)
    assert answer.status == 200
    assert answer.json["code"] == code
    assert set(answer.json) == {"code", "message", "data"}


def test_a_pruned_file_says_so_unless_a_peer_has_it() -> None:
    with open_store() as store:
        store.prune(0)
        assert get(store, by_root(SMALL)).json["code"] == 102
        assert get(store, by_root(SMALL), peers=OtherNode(SMALL)).data == SMALL.data


def test_a_file_above_the_limit_is_refused_with_both_sizes(store: FlowStore) -> None:
    answer = get(store, by_root(LARGE), max_file=1000)
    assert answer.json == {
        "code": 105,
        "message": "File size too large",
        "data": {"actual": len(LARGE.data), "max": 1000},
    }


def test_what_another_shard_keeps_comes_from_a_peer() -> None:
    with open_store("1/2") as store:
        assert get(store, by_root(LARGE), peers=OtherNode(LARGE)).data == LARGE.data
        assert get(store, by_root(LARGE)).json["code"] == 103


def test_a_file_that_ends_in_the_middle_is_never_finished() -> None:
    async def scenario(store: FlowStore) -> Exchange:
        exchange = Exchange("GET", by_root(LARGE), {}, b"")
        with pytest.raises(ConnectionError):
            await GatewayService(store, OtherNode(LARGE, until=2), local).answer(exchange)
        return exchange

    with open_store(filled=()) as store:
        answer = run(scenario(store))
    assert answer.length == len(LARGE.data)
    assert answer.data == LARGE.data[: 2 * SEGMENT]
    assert not answer.finished


# Ranges ---------------------------------------------------------------------------------------------------------

SIZE = len(LARGE.data)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        (f"bytes={SEGMENT - 1}-{SEGMENT}", SEGMENT - 1, SEGMENT + 1),
        (f"bytes={SEGMENT}-", SEGMENT, SIZE),
        ("bytes=-1", SIZE - 1, SIZE),
        (f"bytes=-{10**9}", 0, SIZE),
        (f"bytes=10-{10**17}", 10, SIZE),
        ("bytes= 3-4 , ", 3, 5),
    ],
)
def test_a_range_is_sent_alone(store: FlowStore, header: str, start: int, end: int) -> None:
    answer = get(store, by_root(LARGE), headers={"range": header})
    assert answer.status == 206
    assert answer.sent["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.length == end - start
    assert answer.data == LARGE.data[start:end]


def test_several_ranges_come_as_parts(store: FlowStore) -> None:
    answer = get(store, by_root(LARGE), headers={"range": f"bytes=0-3,{SEGMENT}-{SEGMENT + 9},-2"})
    boundary = answer.sent["Content-Type"].partition("boundary=")[2]
    assert answer.status == 206
    assert answer.length == len(answer.data)
    parts = answer.data.split(f"--{boundary}".encode())
    assert parts[0] == b""
    assert parts[-1] == b"--\r\n"
    bodies = [part.partition(b"\r\n\r\n")[2][:-2] for part in parts[1:-1]]
    assert bodies == [LARGE.data[:4], LARGE.data[SEGMENT : SEGMENT + 10], LARGE.data[-2:]]
    assert f"Content-Range: bytes {SIZE - 2}-{SIZE - 1}/{SIZE}".encode() in parts[3]


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 5}", "bytes=-0"])
def test_a_range_outside_the_file_is_416(store: FlowStore, header: str) -> None:
    answer = get(store, by_root(LARGE), headers={"range": header})
    assert (answer.status, answer.sent["Content-Range"]) == (416, f"bytes */{SIZE}")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=x-y",
        "bytes=5-3",
        "items=0-1",
        "bytes=-",
        "bytes=0-1-2",
        "bytes=" + "0-1," * 99,
        "bytes=0-,0-",
    ],
)
def test_a_range_that_makes_no_sense_or_multiplies_the_cost_gets_the_whole_file(
    store: FlowStore, header: str
) -> None:
    answer = get(store, by_root(SMALL), headers={"range": header})
    assert (answer.status, answer.data) == (200, SMALL.data)


def test_a_range_of_another_version_gets_the_whole_file(store: FlowStore) -> None:
    headers = {"range": "bytes=0-1", "if-range": '"other"'}
    assert get(store, by_root(SMALL), headers=headers).status == 200
    assert get(store, by_root(SMALL), headers=headers | {"if-range": f'"0x{SMALL.root.hex()}"'}).status == 206


@given(st.text(max_size=40), st.integers(1, 1 << 46))
def test_any_range_header_gives_ranges_inside_the_file(text: str, size: int) -> None:
    try:
        ranges = parse_ranges({"range": "bytes=" + text}, size, "e")
    except Unsatisfiable:
        return
    assert all(0 <= start < end <= size for start, end in ranges or [])


# Directories ----------------------------------------------------------------------------------------------------

CID = "3"


def test_a_directory_is_listed_and_its_files_are_sent(store: FlowStore) -> None:
    for target in (f"/file/{CID}", f"/file/{CID}/", f"/file/0x{MANIFEST.root.hex()}/"):
        listing = get(store, target).json["data"]
        assert {"name": "a.bin", "type": "file", "size": len(SMALL.data)} in listing
        assert {"name": "sub", "type": "directory"} in listing
    assert get(store, f"/file/{CID}/sub/").json["data"] == [
        {"name": "x", "type": "file", "size": len(SMALL.data)}
    ]
    answer = get(store, f"/file/{CID}/sub//x")
    assert answer.data == SMALL.data
    assert answer.sent["Content-Disposition"] == 'attachment; filename="x"'
    assert get(store, f"/file/{CID}/empty").length == 0


def test_a_file_of_fragments_is_sent_as_one_and_in_ranges(store: FlowStore) -> None:
    target, whole = f"/file/{CID}/both%20%C3%A4.bin", LARGE.data + SMALL.data
    answer = get(store, target)
    assert answer.data == whole
    assert answer.sent["Content-Disposition"] == (
        "attachment; filename=\"both _.bin\"; filename*=UTF-8''both%20%C3%A4.bin"
    )
    start = len(LARGE.data) - 5
    assert (
        get(store, target, headers={"range": f"bytes={start}-{start + 9}"}).data == whole[start : start + 10]
    )


def test_a_link_is_described_and_never_followed(store: FlowStore) -> None:
    assert get(store, f"/file/{CID}/link").json["data"] == {
        "name": "link",
        "type": "symbolic",
        "link": "sub/x",
    }
    assert get(store, f"/file/{CID}/link/x").json["code"] == 104


@pytest.mark.parametrize(
    "path",
    [
        "../a.bin",
        "sub/../a.bin",
        "%2e%2e/a.bin",
        "%2E%2e%2fa.bin",
        "sub%2fx",
        "sub%5cx",
        "a.bin%00",
        "%00",
        "a.bin%0d%0aX-Evil:%201",
        "%",
        "%zz",
        "%ff",
        ".",
        "a/" * 200,
        "a" * 9000,
    ],
)
def test_tricks_with_paths_are_refused(store: FlowStore, path: str) -> None:
    answer = get(store, f"/file/{CID}/{path}")
    assert (answer.status, answer.json["code"]) == (200, 1)


@pytest.mark.parametrize("path", ["nowhere", "/etc/passwd", "a.bin/x", "%252e%252e/a.bin", "A.BIN"])
def test_a_path_that_is_not_there_is_104(store: FlowStore, path: str) -> None:
    assert get(store, f"/file/{CID}/{path}").json["code"] == 104


def test_a_file_that_is_no_directory_and_one_that_lies_about_its_size_are_106(store: FlowStore) -> None:
    assert get(store, "/file/0/x").json["code"] == 106
    assert get(store, f"/file/{CID}/lies.bin").json["code"] == 106
    assert get(store, f"/file/{CID}/x", max_manifest=10).json["code"] == 105


# Names, information, segments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("a b.txt", 'attachment; filename="a b.txt"'),
        (
            'a"\r\nSet-Cookie: x',
            "attachment; filename=\"a___Set-Cookie_ x\"; filename*=UTF-8''a%22__Set-Cookie%3A%20x",
        ),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ("..", 'attachment; filename="file"'),
        ("", 'attachment; filename="file"'),
    ],
)
def test_a_name_cannot_leave_its_header(name: str, header: str) -> None:
    assert disposition(name) == header


@given(st.text())
def test_every_name_gives_one_line_of_ascii(name: str) -> None:
    header = disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert len(header) < 4000


def test_injection_through_the_query_stays_in_the_name(store: FlowStore) -> None:
    answer = get(store, by_root(SMALL) + "&name=x%0d%0aSet-Cookie:%20a=b%22;%20q")
    assert all(value.isprintable() for value in answer.sent.values())
    assert "Set-Cookie" not in answer.sent


def test_information_about_files_and_the_node(store: FlowStore) -> None:
    assert get(store, "/file/info/1").json["data"]["tx"] == {"seq": 1}
    listed = get(store, "/files/info?cid=1&cid=99&cid=bad").json["data"]
    assert listed[0]["finalized"] is True
    assert listed[1] is None
    assert "root" in listed[2]
    assert get(store, "/node/status").json == {
        "code": 0,
        "message": "Success",
        "data": {"connectedPeers": 0, "logSyncHeight": 7, "nextTxSeq": 4},
    }


def segment_body(**changes: Any) -> bytes:
    proof = PENDING.segments[0].proof
    body = {
        "root": "0x" + PENDING.root.hex(),
        "data": base64.b64encode(PENDING.segments[0].data).decode(),
        "index": 0,
        "proof": {"lemma": ["0x" + item.hex() for item in proof.lemma], "path": list(proof.path)},
    }
    return json.dumps(body | changes).encode()


def test_a_segment_is_handed_to_the_node_with_the_size_that_the_chain_knows(store: FlowStore) -> None:
    calls = []

    async def take(method: str, params: list[Any]) -> Any:
        calls.append((method, params[0]["fileSize"], params[1]))

    answer = get(store, "/file/segment", "POST", body=segment_body(), call=take)
    assert answer.json == {"code": 0, "message": "Success", "data": "Succeeded to upload segment"}
    assert calls == [("zgs_uploadSegmentByTxSeq", len(PENDING.data), 2)]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 200, 1),
        (b"[" * 100_000, 200, 1),
        (b"x" * (2 << 20), 200, 1),
        (segment_body(data=""), 200, 1),
        (segment_body(index=7), 200, 1),
        (segment_body(proof={"lemma": ["0x00"] * 1000, "path": []}), 200, 1),
        (segment_body(), 200, 1),
        (segment_body(root="0x" + "11" * 32), 200, 101),
        (segment_body(expectedReplica=2), 600, 2),
    ],
)
def test_segments_that_do_not_fit_are_refused(store: FlowStore, body: bytes, status: int, code: int) -> None:
    answer = get(store, "/file/segment", "POST", body=body)
    assert (answer.status, answer.json["code"]) == (status, code)


def test_other_routes_and_methods_are_not_answered(store: FlowStore) -> None:
    assert get(store, "/filesystem").status == 404
    assert get(store, "/file/segment/x").status == 404
    assert get(store, by_root(SMALL), "DELETE").status == 405
