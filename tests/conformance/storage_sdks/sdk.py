"""Drives the unmodified Python storage SDK: reads ``{"url", "jobs": […]}`` from stdin, writes one JSON line per job.

Jobs of one "lane" run in order, the lanes side by side. Run with PYTHONPATH at the folder that holds the SDK: it
installs top-level modules such as ``core``, so it never shares an interpreter with the tests.
"""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

results = sys.stdout
sys.stdout = sys.stderr  # the SDK prints

from core.file import ZgFile  # noqa: E402
from core.indexer import Indexer  # noqa: E402
from core.kv import Batcher, KvClient  # noqa: E402
from core.storage_node import StorageNode  # noqa: E402
from eth_account import Account  # noqa: E402

request = json.load(sys.stdin)
URL: str = request["url"]
writing = threading.Lock()


def check(outcome: Any) -> Any:
    """The SDK answers ``(result, error)``, or an error or None."""
    if isinstance(outcome, tuple) and len(outcome) == 2:
        result, error = outcome
        if error is not None:
            raise error
        return result
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def root(job: dict[str, Any]) -> Any:
    file = ZgFile.from_file_path(job["file"])
    try:
        return check(file.merkle_tree()).root_hash()
    finally:
        file.close()


def upload(job: dict[str, Any]) -> Any:
    account = Account.from_key(job["key"])
    options = {
        "tags": b"\x00",
        "finalityRequired": True,
        "taskSize": 10,
        "expectedReplica": 1,
        "skipTx": False,
        "fee": 0,
        "account": account,
    } | job.get("options", {})
    file = ZgFile.from_file_path(job["file"])
    try:
        return check(Indexer(URL).upload(file, URL, account, options))
    finally:
        file.close()


def download(job: dict[str, Any]) -> Any:
    check(Indexer(URL).download(job["root"], job["file"], job.get("proof", True)))
    return job["file"]


def kv_write(job: dict[str, Any]) -> Any:
    from contracts.flow import FlowContract
    from web3 import Web3

    account = Account.from_key(job["key"])
    nodes = [StorageNode(node["url"]) for node in Indexer(URL).get_sharded_nodes()["trusted"]]
    flow = FlowContract(Web3(Web3.HTTPProvider(URL)), nodes[0].get_status()["networkIdentity"]["flowAddress"])
    batcher = Batcher(job["version"], nodes, flow, URL)
    for stream, name, value in job["writes"]:
        batcher.set(stream, bytes.fromhex(name[2:]), bytes.fromhex(value[2:]))
    return check(batcher.exec({"account": account, "tags": b"", "finalityRequired": True, "fee": 0}))


def kv_read(job: dict[str, Any]) -> Any:
    value = KvClient(URL).get_value(job["stream"], bytes.fromhex(job["name"][2:]), job.get("version"))
    return value if isinstance(value, dict) or value is None else vars(value)


def kv_call(job: dict[str, Any]) -> Any:
    arguments = [
        bytes.fromhex(value[8:]) if isinstance(value, str) and value.startswith("bytes:0x") else value
        for value in job["args"]
    ]
    return getattr(KvClient(URL), job["method"])(*arguments)


OPERATIONS = {
    "root": root,
    "upload": upload,
    "download": download,
    "kvWrite": kv_write,
    "kvRead": kv_read,
    "kvCall": kv_call,
}


def run(index: int, job: dict[str, Any]) -> None:
    line: dict[str, Any] = {"job": index, "ok": True}
    try:
        line["result"] = OPERATIONS[job["op"]](job)
    except Exception as error:
        line |= {"ok": False, "error": f"{type(error).__name__}: {error}"}
    with writing:
        print(
            json.dumps(line, default=lambda value: value.hex() if isinstance(value, bytes) else str(value)),
            file=results,
            flush=True,
        )


lanes: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
for index, job in enumerate(request["jobs"]):
    lanes.setdefault(job.get("lane", index), []).append((index, job))


def run_lane(jobs: list[tuple[int, dict[str, Any]]]) -> None:
    for index, job in jobs:
        run(index, job)


with ThreadPoolExecutor(max_workers=max(1, len(lanes))) as pool:
    list(pool.map(run_lane, lanes.values()))
