"""Hostile input over HTTP: precise errors, bounded memory, and the next client is served as before."""

from __future__ import annotations

import http.client
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.storage.api.conftest import FLOW, File, pattern, submit, wait_until_final

from zerog import Devnet
from zerog.errors import RpcError

MAX_BODY = 100 << 20
PATIENCE = 60.0


def connect(net: Devnet) -> http.client.HTTPConnection:
    parts = urlsplit(net.url)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)


def served(net: Devnet) -> None:
    """A whole upload works."""
    file = File.of(pattern(300_000))
    submit(net, file)
    net.client.request("zgs_uploadSegments", [file.json(0), file.json(1)])
    wait_until_final(net, file)


def resident() -> int:
    """Bytes of memory that this process (and the node in it) has now."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("needs /proc to look at memory")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("path", ["/", "/zerog/segments?txSeq=0"])
def test_a_body_one_byte_too_long_is_refused_by_its_announcement(net: Devnet, path: str) -> None:
    connection = connect(net)
    try:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(MAX_BODY + 1))
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413
        answer.read()
    finally:
        connection.close()
    served(net)


@pytest.mark.parametrize("path", ["/", "/zerog/segments?txSeq=0"])
def test_a_body_of_unknown_length_is_cut_at_the_limit(net: Devnet, path: str) -> None:
    before, connection, piece = resident(), connect(net), b" " * (1 << 20)
    try:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        status: int | None = None
        try:
            for _ in range(160):
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        except (BrokenPipeError, ConnectionResetError):
            pass  # It has answered and does not read on.
        else:
            pytest.fail("160 MiB were taken")
        try:
            status = connection.getresponse().status
        except (ConnectionError, http.client.HTTPException):
            status = None
        assert status in (413, None)
    finally:
        connection.close()
    assert resident() - before < 260 << 20
    served(net)


def test_a_submission_with_tags_of_a_megabyte_is_followed_or_refused_by_the_chain(net: Devnet) -> None:
    """Whatever the chain accepts, the node follows; a submission that it refuses leaves no trace."""
    account, file = net.accounts[0], File.of(pattern(340))
    count = net.client.request("zgs_getStatus")["nextTxSeq"]
    data = file.submission(account.address, tags=bytes(1 << 20))
    try:
        net.client.send(to=FLOW, value=file.fee, input=data, account=account)
        accepted = 1
    except RpcError as error:
        assert error.message
        accepted = 0
    assert net.client.request("zgs_getStatus")["nextTxSeq"] == count + accepted
    if accepted:
        net.client.request("zgs_uploadSegment", file.json(0))
        assert net.client.request("zgs_getFileInfo", file.root, True)["finalized"] is True
    served(net)


def test_the_largest_tags_that_fit_into_a_transaction_are_followed(net: Devnet) -> None:
    account, file = net.accounts[0], File.of(pattern(340))
    data = file.submission(account.address, tags=b"\1" * 100_000)
    net.client.send(to=FLOW, value=file.fee, input=data, account=account)
    net.client.request("zgs_uploadSegment", file.json(0))
    assert net.client.request("zgs_getFileInfo", file.root, True)["finalized"] is True


def _refused(net: Devnet, method: str, *params: Any) -> tuple[int, str, Any]:
    with pytest.raises(RpcError) as caught:
        net.client.request(method, *params)
    return caught.value.code, caught.value.message, caught.value.data


@pytest.mark.parametrize("bit", [0, 262_144 * 8 - 1, 1_000_003])
def test_a_changed_bit_is_refused_in_the_form_that_clients_parse(net: Devnet, bit: int) -> None:
    import base64

    file = File.of(pattern(600_000))
    submit(net, file)
    segment = file.json(0)
    data = bytearray(base64.b64decode(segment["data"]))
    data[bit // 8] ^= 1 << bit % 8
    wrong = segment | {"data": base64.b64encode(data).decode()}
    expected = (-32602, "Invalid params: proof", "validation failed")
    assert _refused(net, "zgs_uploadSegmentsByTxSeq", [wrong], 0) == expected
    assert _refused(net, "zgs_uploadSegment", wrong) == expected
    assert net.client.request("zgs_getFileInfoByTxSeq", 0)["uploadedSegNum"] == 0


@pytest.mark.parametrize("index", [1, 2])
def test_a_segment_under_the_index_of_another_is_refused(net: Devnet, index: int) -> None:
    file = File.of(pattern(3 * 262_144))
    submit(net, file)
    wrong = file.json(0) | {"index": index}
    expected = (-32602, "Invalid params: proof", "validation failed")
    assert _refused(net, "zgs_uploadSegmentsByTxSeq", [wrong], 0) == expected
    assert net.client.request("zgs_getFileInfoByTxSeq", 0)["uploadedSegNum"] == 0


def test_padding_that_is_not_zero_is_refused(net: Devnet) -> None:
    """The root commits to zeros behind the end of a file; other bytes there are another file."""
    import base64

    file = File.of(pattern(300))
    submit(net, file)
    data = bytearray(file.chunk_bytes(0))
    data[-1] = 1
    wrong = file.json(0) | {"data": base64.b64encode(data).decode()}
    assert _refused(net, "zgs_uploadSegment", wrong)[:2] == (-32602, "Invalid params: proof")


def test_deep_and_broken_json_is_refused(net: Devnet) -> None:
    for body in (b"[" * 100_000, b'{"jsonrpc":', b"\xff\xfe", b'{"a":' * 50_000, b"null", b"7"):
        connection = connect(net)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status in (200, 400), text[:100]
            assert json.loads(text)["error"]["code"] in (-32700, -32600)
        finally:
            connection.close()
    served(net)
