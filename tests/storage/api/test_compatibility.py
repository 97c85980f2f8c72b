"""One test per quirk of the official clients; each says where the reason can be read.

The clients: npm ``@0gfoundation/0g-ts-sdk`` 1.2.8, npm ``@0glabs/0g-ts-sdk`` 0.3.3, PyPI ``0g-storage-sdk`` 0.4.0.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
from tests.storage.api.conftest import File, pattern, submit

from zerog import Devnet
from zerog.storage.api import compatibility

PYTHON, OLD_SCRIPT = "0g-py-sdk", "axios/1.7.9"
RUST, GO, NOBODY = "0g-storage-client-rust", "Go-http-client/1.1", None


def call(net: Devnet, agent: str | None, method: str, *params: Any) -> dict[str, Any]:
    """The whole JSON-RPC answer to a client that calls itself ``agent``."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    headers = {"Content-Type": "application/json", "User-Agent": agent or ""}
    with urllib.request.urlopen(urllib.request.Request(net.url, body, headers), timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.mark.parametrize("agent", [PYTHON, f"{PYTHON}/0.4.0", OLD_SCRIPT])
@pytest.mark.parametrize("by_seq", [True, False])
def test_an_upload_answers_0_to_clients_that_take_null_for_a_failure(
    net: Devnet, agent: str, by_seq: bool
) -> None:
    """Traces ``trace-py-0.4.0-null-result.jsonl`` and ``trace-py-0.4.0.jsonl`` of the storage vectors: after null the
    Python SDK sends everything again, three times; so does the JavaScript SDK 0.3.3, and then gives up
    ("Node … returned null for upload segments")."""
    file = File.of(pattern(600_000))
    submit(net, file)
    first = (
        call(net, agent, "zgs_uploadSegmentByTxSeq", file.json(0), 0)
        if by_seq
        else call(net, agent, "zgs_uploadSegment", file.json(0))
    )
    assert first["result"] == 0
    rest = [file.json(1), file.json(2)]
    last = (
        call(net, agent, "zgs_uploadSegmentsByTxSeq", rest, 0)
        if by_seq
        else call(net, agent, "zgs_uploadSegments", rest)
    )
    assert last["result"] == 0


@pytest.mark.parametrize("agent", [NOBODY, RUST, GO, "node", "my-axios"])
def test_an_upload_answers_null_to_everybody_else(net: Devnet, agent: str | None) -> None:
    """The storage clients' specification, "Result of uploads": 0G's node answers unit; the Rust client decodes ``()``
    from it and fails on 0."""
    file = File.of(pattern(340))
    submit(net, file)
    answer = call(net, agent, "zgs_uploadSegmentByTxSeq", file.json(0), 0)
    assert "result" in answer and answer["result"] is None


def test_only_uploads_are_answered_differently() -> None:
    """A null of another method means "unknown", and stays."""
    for agent in (PYTHON, OLD_SCRIPT):
        assert compatibility.result(agent, "zgs_getFileInfo", None) is None
        assert compatibility.result(agent, "zgs_checkFileFinalized", None) is None
        assert compatibility.result(agent, "zgs_uploadSegment", 7) == 7


def test_finalized_stands_in_the_message_and_in_the_data(net: Devnet) -> None:
    """The storage clients' specification, "Error strings clients match": the Python SDK looks for the words in
    ``error.message``, the JavaScript SDK in ``error.data``, Go and Rust for "message; data: …"."""
    file = File.of(pattern(340))
    submit(net, file)
    call(net, NOBODY, "zgs_uploadSegment", file.json(0))
    for agent in (NOBODY, PYTHON, OLD_SCRIPT):
        error = call(net, agent, "zgs_uploadSegment", file.json(0))["error"]
        assert error["code"] == -32602
        assert error["data"] == "already uploaded and finalized"
        assert error["message"].endswith("; data: already uploaded and finalized")


def test_other_refusals_have_their_words_in_the_data_only() -> None:
    """As 0G's node writes them (same table): "Invalid params: field", and the reason as data."""
    error = compatibility.invalid_params("proof", "validation failed")
    assert (error.code, error.message, error.data) == (-32602, "Invalid params: proof", "validation failed")


def test_is_admin_may_have_a_capital_i() -> None:
    """The JavaScript and Python SDKs call ``kv_IsAdmin``; the node's own name is ``kv_isAdmin``."""
    assert compatibility.ALIASES["kv_IsAdmin"] == "kv_isAdmin"


def test_both_names_of_is_admin_answer() -> None:
    stream, key = "0x" + "11" * 32, "0x" + "22" * 20
    with Devnet(services=["storage", "kv"]) as net:
        answers = [net.client.request(name, key, stream, None) for name in ("kv_isAdmin", "kv_IsAdmin")]
    assert answers[0] == answers[1] and answers[0] is not True


@pytest.mark.parametrize(
    ("agent", "as_hex"), [(PYTHON, True), (OLD_SCRIPT, False), (GO, False), (NOBODY, False)]
)
def test_keys_travel_as_hexadecimal_with_the_python_sdk(agent: str | None, as_hex: bool) -> None:
    """The Python SDK sends and reads 0x-text (``trace-py-0.4.0.jsonl``), the others base64
    (``trace-ts-1.2.8-kv-large-value.jsonl``: "Ymln")."""
    assert compatibility.writes_keys_as_hex(agent) is as_hex


@pytest.mark.parametrize(
    ("agent", "length", "whole"),
    [
        (OLD_SCRIPT, 262_144, True),
        (OLD_SCRIPT, 262_143, False),
        (GO, 262_144, False),
        (NOBODY, 262_144, False),
    ],
)
def test_a_large_value_is_answered_whole_to_the_javascript_sdk(
    agent: str | None, length: int, whole: bool
) -> None:
    """``trace-ts-1.2.8-kv-large-value.jsonl``: after 262,144 bytes it asks from 349,528 on, the length of their
    base64 text, and would miss the bytes between."""
    assert compatibility.wants_whole_value(agent, length) is whole
