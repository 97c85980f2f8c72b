"""What the official clients were seen to ask is answered, with every field that they were seen to get.

The traces lie beside the checkout (``shared/vectors/storage``, see its README); values in them are only plausible,
so methods, parameters and shapes are compared, not values.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.storage.api.conftest import File, submit

from zerog import Devnet


def _folder() -> Path | None:
    """The vectors' directory, beside the checkout or one of its parents."""
    named = os.environ.get("ZEROG_SHARED")
    bases = [Path(named)] if named else [parent / "shared" for parent in Path(__file__).resolve().parents]
    return next(
        (base / "vectors" / "storage" for base in bases if (base / "vectors" / "storage").is_dir()), None
    )


FOLDER = _folder()
TRACES = [] if FOLDER is None else sorted(FOLDER.glob("trace-*.jsonl"))
HELLO = File.of(b"hello 0g storage " * 20)
METHOD_NOT_FOUND, INVALID_PARAMS = -32601, -32602
CHANGING = ("eth_sendRawTransaction",)
"""Requests that make no sense on another chain: only that the method exists is looked at."""


@pytest.fixture(scope="module")
def node() -> Iterator[Devnet]:
    """All services, the traces' small file three times, and a file of their larger one's size."""
    with Devnet(services=["storage", "kv", "indexer"]) as net:
        for file in (HELLO, HELLO, File.of(b"\7" * 600_000), HELLO):
            submit(net, file)
            if not net.client.request("zgs_checkFileFinalized", file.root):
                net.client.request("zgs_uploadSegments", [file.json(index) for index in range(file.count)])
        yield net


def ask(net: Devnet, agent: str, method: str, params: Any) -> dict[str, Any]:
    call: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
    if params is not None:
        call["params"] = params
    headers = {"Content-Type": "application/json", "User-Agent": agent}
    request = urllib.request.Request(net.url, json.dumps(call).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def lacking(seen: Any, mine: Any, where: str) -> list[str]:
    """What a client was seen to get and would not get here; ``None`` on either side says nothing."""
    if seen is None or mine is None:
        return []
    if isinstance(seen, dict):
        if not isinstance(mine, dict):
            return [f"{where}: an object, not {mine!r:.60}"]
        gone = [f"{where}.{key} is missing" for key in seen if key not in mine]
        return gone + [
            text for key in seen if key in mine for text in lacking(seen[key], mine[key], f"{where}.{key}")
        ]
    if isinstance(seen, list):
        if not isinstance(mine, list):
            return [f"{where}: a list, not {mine!r:.60}"]
        return [text for a, b in zip(seen, mine, strict=False) for text in lacking(a, b, f"{where}[]")]
    return [] if type(seen) is type(mine) else [f"{where}: like {seen!r:.60}, not {mine!r:.60}"]


def _requests(trace: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in trace.read_text().splitlines()]
    return [line for line in lines if "method" in line]


@pytest.mark.skipif(not TRACES, reason="the traces of the official clients are not beside the checkout")
def test_the_small_file_is_that_of_the_traces() -> None:
    assert HELLO.root == "0x22d3f288aed271c62e43787ddc3a18c213dd048eb846a8a56b64e5c43d39fdb5"


@pytest.mark.skipif(not TRACES, reason="the traces of the official clients are not beside the checkout")
@pytest.mark.parametrize("trace", TRACES, ids=[trace.stem for trace in TRACES])
def test_everything_that_a_client_was_seen_to_ask_is_answered(node: Devnet, trace: Path) -> None:
    agent = "0g-py-sdk" if "-py-" in trace.name else "axios/1.7" if "0.3.3" in trace.name else "node"
    problems, compared = [], 0
    for line in _requests(trace):
        method, params = line["method"], line.get("params")
        if "…" in json.dumps(params, ensure_ascii=False) or method in CHANGING:
            # Cut in the trace: the method must exist, its parameters are unknown.
            if ask(node, agent, method, [])["error"]["code"] == METHOD_NOT_FOUND:
                problems.append(f"{method} does not exist")
            continue
        answer = ask(node, agent, method, params)
        code = answer.get("error", {}).get("code")
        if code == METHOD_NOT_FOUND or (code == INVALID_PARAMS and "error" not in line):
            problems.append(f"{method} {params}: {answer['error']}")
        elif "result" in line and "result" in answer:
            compared += 1
            problems += lacking(line["result"], answer["result"], method)
    assert problems == []
    assert compared
