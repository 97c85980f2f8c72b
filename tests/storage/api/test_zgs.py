"""The ``zgs_*`` methods on a real devnet: results, null or error, and the words of the errors."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from tests.storage.api.conftest import FLOW, File, pattern, submit, wait_until_final

from zerog import Devnet
from zerog.errors import RpcError

UNKNOWN = "0x" + "ab" * 32


def refusal(net: Devnet, method: str, *params: Any) -> tuple[int, str, Any]:
    with pytest.raises(RpcError) as caught:
        net.client.request(method, *params)
    return caught.value.code, caught.value.message, caught.value.data


def download(net: Devnet, seq: int, file: File) -> bytes:
    chunks = -(-len(file.data) // 256)
    parts = [
        net.client.request("zgs_downloadSegmentByTxSeq", seq, at, min(at + 1024, chunks))
        for at in range(0, chunks, 1024)
    ]
    return b"".join(map(base64.b64decode, parts))[: len(file.data)]


@pytest.mark.parametrize("size", [1, 255, 256, 257, 4096, 262_143, 262_144, 262_145, 600_000, 1_048_579])
def test_a_file_comes_back_as_it_went(net: Devnet, size: int) -> None:
    file = File.of(pattern(size))
    submit(net, file)
    seq = net.client.request("zgs_getFileInfo", file.root, True)["tx"]["seq"]
    segments = [file.json(index) for index in range(file.count)]
    assert net.client.request("zgs_uploadSegmentsByTxSeq", segments, seq) is None
    assert net.client.request("zgs_getFileInfoByTxSeq", seq)["finalized"] is True
    assert download(net, seq, file) == file.data


def test_a_submission_of_the_old_generation_is_stored_too(net: Devnet) -> None:
    file = File.of(pattern(340))
    submit(net, file, old=True)
    net.client.request("zgs_uploadSegment", file.json(0))
    assert net.client.request("zgs_checkFileFinalized", file.root) is True


def test_the_status_names_the_chain_and_the_flow(net: Devnet) -> None:
    status = net.client.request("zgs_getStatus")
    head = net.client.request("eth_getBlockByNumber", "latest", False)
    assert status["networkIdentity"] == {
        "chainId": 31337,
        "flowAddress": FLOW.lower(),
        "p2pProtocolVersion": {"major": 0, "minor": 4, "build": 0},
    }
    assert status["logSyncHeight"] == int(head["number"], 16)
    assert status["logSyncBlock"] == head["hash"]
    assert status["nextTxSeq"] == 0 and status["connectedPeers"] == 0
    assert status["zerog"]["segments"] == "/zerog/segments"


def test_an_unfinalized_file_is_known_as_soon_as_its_block_is_mined(net: Devnet) -> None:
    file = File.of(pattern(600_000))
    submit(net, file)
    for available in (True, False):
        info = net.client.request("zgs_getFileInfo", file.root, available)
        assert (info["finalized"], info["isCached"], info["uploadedSegNum"], info["pruned"]) == (
            False,
            False,
            0,
            False,
        )
        assert info["tx"] == {
            "streamIds": [],
            "data": [],
            "dataMerkleRoot": file.root,
            "merkleNodes": [[height + 1, "0x" + root.hex()] for root, height in file.tree.nodes],
            "startEntryIndex": 2048,
            "size": 600_000,
            "seq": 0,
        }
        assert info["zerog"] == {"shard": "0/1", "segments": 3, "held": 0, "missing": 3}


def test_segments_that_are_here_are_counted(net: Devnet) -> None:
    file = File.of(pattern(600_000))
    submit(net, file)
    net.client.request("zgs_uploadSegmentByTxSeq", file.json(2), 0)
    info = net.client.request("zgs_getFileInfoByTxSeq", 0)
    assert info["uploadedSegNum"] == 1 and info["zerog"]["held"] == 1 and not info["finalized"]
    assert net.client.request("zgs_downloadSegmentByTxSeq", 0, 0, 1024) is None
    assert net.client.request("zgs_downloadSegmentWithProofByTxSeq", 0, 2) == file.json(2)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("zgs_getFileInfo", [UNKNOWN, True]),
        ("zgs_getFileInfo", [UNKNOWN, False]),
        ("zgs_getFileInfoByTxSeq", [7]),
        ("zgs_checkFileFinalized", [7]),
        ("zgs_checkFileFinalized", [UNKNOWN]),
        ("zgs_downloadSegment", [UNKNOWN, 0, 1]),
        ("zgs_downloadSegmentByTxSeq", [7, 0, 1]),
        ("zgs_downloadSegmentWithProof", [UNKNOWN, 0]),
        ("zgs_downloadSegmentWithProofByTxSeq", [7, 0]),
        ("zgs_getFileInfoByTxSeq", [2**64 - 1]),
    ],
)
def test_what_is_unknown_is_null(net: Devnet, method: str, params: list[Any]) -> None:
    assert net.client.request(method, *params) is None


@pytest.mark.parametrize("form", [lambda r: r[2:], lambda r: r.upper().replace("0X", "0x")])
def test_a_root_may_come_without_0x_and_in_any_case(net: Devnet, form: Any) -> None:
    file = File.of(pattern(340))
    submit(net, file)
    assert net.client.request("zgs_getFileInfo", form(file.root), True)["tx"]["seq"] == 0


@pytest.mark.parametrize("seq", [0, "0", "0x0", "0x00"])
def test_a_number_may_be_decimal_or_hexadecimal_text(net: Devnet, seq: Any) -> None:
    file = File.of(pattern(340))
    submit(net, file)
    segment = file.json(0) | {"fileSize": hex(340), "index": "0", "root": file.root[2:]}
    net.client.request("zgs_uploadSegmentByTxSeq", segment, seq)
    assert net.client.request("zgs_checkFileFinalized", seq) is True


def test_a_finalized_file_is_refused_in_the_words_that_all_clients_match(net: Devnet) -> None:
    file = File.of(pattern(340))
    submit(net, file)
    net.client.request("zgs_uploadSegmentsByTxSeq", [file.json(0)], 0)
    expected = (
        -32602,
        "Invalid params: root; data: already uploaded and finalized",
        "already uploaded and finalized",
    )
    assert refusal(net, "zgs_uploadSegmentsByTxSeq", [file.json(0)], 0) == expected
    assert refusal(net, "zgs_uploadSegment", file.json(0)) == expected


def test_a_repeated_segment_is_accepted(net: Devnet) -> None:
    file = File.of(pattern(600_000))
    submit(net, file)
    for _ in range(2):
        assert net.client.request("zgs_uploadSegmentsByTxSeq", [file.json(1), file.json(1)], 0) is None
    segments = [file.json(0), file.json(1), file.json(2), file.json(2)]
    assert net.client.request("zgs_uploadSegments", segments) is None
    assert net.client.request("zgs_checkFileFinalized", 0) is True


def test_no_segments_are_no_error(net: Devnet) -> None:
    assert net.client.request("zgs_uploadSegments", []) is None
    assert net.client.request("zgs_uploadSegmentsByTxSeq", [], 3) is None


def test_segments_before_a_refused_one_stay(net: Devnet) -> None:
    file = File.of(pattern(600_000))
    submit(net, file)
    wrong = file.json(1) | {"index": 2}
    assert refusal(net, "zgs_uploadSegmentsByTxSeq", [file.json(0), wrong, file.json(2)], 0)[0] == -32602
    assert net.client.request("zgs_getFileInfoByTxSeq", 0)["uploadedSegNum"] == 1


def test_a_segment_before_its_transaction_waits_and_finalizes_the_file(net: Devnet) -> None:
    file = File.of(pattern(600_000))
    assert net.client.request("zgs_uploadSegments", [file.json(index) for index in range(3)]) is None
    assert net.client.request("zgs_getFileInfo", file.root, False) is None
    submit(net, file)
    wait_until_final(net, file)
    assert download(net, 0, file) == file.data


def test_a_large_file_does_not_wait_for_its_transaction(net: Devnet) -> None:
    file = File.of(pattern((10 << 20) + 1))
    detail = "caching of large file when tx is unavailable is not supported"
    assert refusal(net, "zgs_uploadSegment", file.json(0)) == (-32602, "Invalid params: file_size", detail)


def _with_proof(file: File, **changes: Any) -> dict[str, Any]:
    segment = file.json(1)
    return segment | {"proof": segment["proof"] | changes}


HOSTILE: list[tuple[str, Any, tuple[int, str, Any]]] = [
    ("empty data", lambda f: f.json(1) | {"data": ""}, (-32000, "data is empty", None)),
    (
        "not whole chunks",
        lambda f: f.json(1) | {"data": base64.b64encode(b"x" * 255).decode()},
        (-32000, "invalid data length", None),
    ),
    (
        "too short",
        lambda f: f.json(1) | {"data": base64.b64encode(b"x" * 256).decode()},
        (-32602, "Invalid params: data", "invalid data length"),
    ),
    (
        "too long",
        lambda f: f.json(1) | {"data": "A" * 400_000},
        (-32602, "Invalid params: data", "invalid data length"),
    ),
    ("index", lambda f: f.json(1) | {"index": 3}, (-32602, "Invalid params: index", "index out of bound")),
    (
        "huge index",
        lambda f: f.json(1) | {"index": 2**64 - 1},
        (-32602, "Invalid params: index", "index out of bound"),
    ),
    (
        "file size",
        lambda f: f.json(1) | {"fileSize": 600_001},
        (-32602, "Invalid params: file_size", "segment file size not matched with tx file size"),
    ),
    (
        "another root",
        lambda f: f.json(1) | {"root": UNKNOWN},
        (-32603, "Internal error", "data root and tx seq not match"),
    ),
    (
        "wrong bytes",
        lambda f: f.json(1) | {"data": base64.b64encode(bytes(262_144)).decode()},
        (-32602, "Invalid params: proof", "validation failed"),
    ),
]


@pytest.mark.parametrize(("what", "change", "expected"), HOSTILE, ids=[what for what, *_ in HOSTILE])
def test_a_hostile_segment_is_refused_in_the_words_of_0gs_node(
    net: Devnet, what: str, change: Any, expected: tuple[int, str, Any]
) -> None:
    file = File.of(pattern(600_000))
    submit(net, file)
    assert refusal(net, "zgs_uploadSegmentsByTxSeq", [change(file)], 0) == expected
    assert net.client.request("zgs_getFileInfoByTxSeq", 0)["uploadedSegNum"] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"lemma": [], "path": []},
        {"lemma": ["0x" + "00" * 32] * 67},
        {"path": [True] * 65},
        {"path": [False, True, True]},
    ],
)
def test_a_hostile_proof_is_refused(net: Devnet, change: dict[str, Any]) -> None:
    file = File.of(pattern(600_000))
    submit(net, file)
    code, message, _ = refusal(net, "zgs_uploadSegmentsByTxSeq", [_with_proof(file, **change)], 0)
    assert (code, message) == (-32602, "Invalid params: proof")


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        [],
        {},
        "text",
        {"root": UNKNOWN},
        {"root": 5, "data": 1, "index": [], "proof": 1, "fileSize": {}},
    ],
)
def test_nonsense_instead_of_a_segment_is_a_wrong_parameter(net: Devnet, value: Any) -> None:
    assert refusal(net, "zgs_uploadSegment", value)[0] == -32602


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (5, 5, (-32602, "Invalid params: end_index", "invalid chunk index")),
        (6, 5, (-32602, "Invalid params: end_index", "invalid chunk index")),
        (0, 1025, (-32602, "Invalid params: end_index", "exceeds maximum chunks 1024")),
    ],
)
def test_a_wrong_range_is_refused(net: Devnet, start: int, end: int, expected: Any) -> None:
    file = File.of(pattern(600_000))
    submit(net, file)
    assert refusal(net, "zgs_downloadSegmentByTxSeq", 0, start, end) == expected


def test_a_range_beyond_the_file_is_a_plain_error(net: Devnet) -> None:
    file = File.of(pattern(600_000))
    submit(net, file)
    code, message, data = refusal(net, "zgs_downloadSegment", file.root, 2048, 2345)
    assert (code, data) == (-32000, None)
    assert message.startswith("end entry index exceeds tx size: ")


def test_the_flow_context_is_the_contracts(net: Devnet) -> None:
    for seq, size in enumerate([340, 600_000, 5000]):
        submit(net, File.of(pattern(size)))
        root, length = net.client.request("zgs_getFlowContext")
        call = {"to": FLOW, "data": f"0x6d7ad0fc{seq:064x}"}
        assert root == net.client.request("eth_call", call, "latest")
        tree = net.client.request("eth_call", {"to": FLOW, "data": "0xfd54b228"}, "latest")
        assert length == int(tree[2:66], 16)


def test_parameters_may_come_by_name(net: Devnet) -> None:
    file = File.of(pattern(340))
    submit(net, file)
    named = {"data_root": file.root, "need_available": True}
    assert net.node.request("zgs_getFileInfo", named)["tx"]["seq"] == 0  # type: ignore[arg-type]


def test_a_reverted_submission_is_forgotten_at_once_and_its_data_comes_back(net: Devnet) -> None:
    file = File.of(pattern(600_000))
    mark = net.snapshot()
    submit(net, file)
    net.client.request("zgs_uploadSegmentsByTxSeq", [file.json(index) for index in range(3)], 0)
    net.revert(mark)
    assert net.client.request("zgs_getFileInfo", file.root, False) is None
    assert net.client.request("zgs_getStatus")["nextTxSeq"] == 0
    submit(net, file)
    wait_until_final(net, file)
    assert download(net, 0, file) == file.data
