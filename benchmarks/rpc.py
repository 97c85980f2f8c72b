"""JSON-RPC benchmark: the same work for zerog and its peers, in turn, medians and ratios.

    python benchmarks/rpc.py run transfer --peer anvil
    python benchmarks/rpc.py compare --peers zerog,anvil --runs 5 --out benchmarks/results

Each run prints one JSON object; `compare` alternates the peers (A B A B …) and writes a table with the command
that made it. A run in which `mined < sent` is a failure, not a figure. A run that starts under a 1-minute load
above 1.3 is marked `noisy`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import load
import peers
from peers import Node
from zerog import _native

GWEI = 10**9
DEV_KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
CONTRACTS = json.loads((Path(__file__).parent / "contracts" / "artifacts.json").read_text())
SENDERS = 200
Result = dict[str, Any]


# --- the chain from outside ---------------------------------------------------------------------------------


class Wallets:
    """Senders derived from a seed, funded, with their nonces."""

    def __init__(self, node: Node, count: int = SENDERS, seed: str = "zerog-bench") -> None:
        self.keys = [_native.keccak256(f"{seed}-{i}".encode()) for i in range(count)]
        self.addresses = [_native.address_of(key) for key in self.keys]
        self.chain_id = int(node.rpc("eth_chainId"), 16)
        base_fee = int(node.rpc("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        self.max_fee = 20 * base_fee + GWEI
        method = "hardhat_setBalance" if node.kind == "hardhat" else "anvil_setBalance"
        for address in self.addresses:
            node.rpc(method, address, hex(10**21))
        self.nonces = [0] * count

    def sign(self, sender: int, *, to: str, value: int = 0, data: str = "0x", gas: int = 21_000) -> str:
        transaction = {
            "type": "0x2",
            "chainId": hex(self.chain_id),
            "nonce": hex(self.nonces[sender]),
            "to": to,
            "value": hex(value),
            "input": data,
            "gas": hex(gas),
            "maxFeePerGas": hex(self.max_fee),
            "maxPriorityFeePerGas": hex(GWEI),
            "accessList": [],
        }
        self.nonces[sender] += 1
        return "0x" + _native.sign_transaction(self.keys[sender], json.dumps(transaction)).hex()


def word(value: int | str) -> str:
    return (value.removeprefix("0x") if isinstance(value, str) else f"{value:x}").rjust(64, "0")


def selector(signature: str) -> str:
    return "0x" + _native.keccak256(signature.encode())[:4].hex()


def fresh(number: int) -> str:
    return "0x" + _native.keccak256(b"recipient" + number.to_bytes(8, "big"))[:20].hex()


def deploy(node: Node, name: str) -> str:
    """Deploys a benchmark contract from the first development account and returns its address."""
    sender = _native.address_of(DEV_KEY)
    hash_ = node.rpc("eth_sendTransaction", {"from": sender, "data": CONTRACTS[name], "gas": hex(3_000_000)})
    return str(receipt_of(node, hash_)["contractAddress"])


def receipt_of(node: Node, hash_: str, limit: float = 30) -> dict[str, Any]:
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        receipt = node.rpc("eth_getTransactionReceipt", hash_)
        if receipt:
            return dict(receipt)
        mine_if_manual(node)
        time.sleep(0.002)
    raise SystemExit(f"{node.kind}: no receipt of {hash_} within {limit} s")


def mine_if_manual(node: Node) -> None:
    if getattr(node, "manual", False):
        node.rpc("evm_mine")


def workload(node: Node, kind: str, count: int) -> list[list[str]]:
    """Signed transactions by sender, in nonce order."""
    wallets = Wallets(node)
    if kind == "transfer":
        make = lambda sender, i: wallets.sign(sender, to=fresh(i), value=1)  # noqa: E731
    elif kind == "erc20":
        token = deploy(node, "BenchToken")
        mint_all(node, token, wallets.addresses)
        call = selector("transfer(address,uint256)")
        make = lambda s, i: wallets.sign(s, to=token, data=call + word(fresh(i)) + word(1), gas=80_000)  # noqa: E731
    elif kind == "hotswap":
        pool = deploy(node, "BenchPool")
        call = selector("swap(uint256,bool)")
        make = lambda s, i: wallets.sign(s, to=pool, data=call + word(10**15 + i) + word(i % 2), gas=110_000)  # noqa: E731
    else:
        raise SystemExit(f"unknown workload {kind!r}")
    by_sender: list[list[str]] = [[] for _ in range(SENDERS)]
    for i in range(count):
        by_sender[i % SENDERS].append(make(i % SENDERS, i))
    return by_sender


def mint_all(node: Node, token: str, holders: list[str]) -> None:
    data = selector("mintMany(address[],uint256)") + word(64) + word(10**18) + word(len(holders))
    data += "".join(word(holder) for holder in holders)
    sender = _native.address_of(DEV_KEY)
    hash_ = node.rpc(
        "eth_sendTransaction", {"from": sender, "to": token, "data": data, "gas": hex(12_000_000)}
    )
    if receipt_of(node, hash_)["status"] != "0x1":
        raise SystemExit(f"{node.kind}: minting failed")


def queues(node: Node, by_sender: list[list[str]], connections: int, batch: int) -> list[list[bytes]]:
    """Connection c serves senders c, c+n, …: round robin over them, nonce order kept."""
    host = node.url.removeprefix("http://")
    out: list[list[bytes]] = []
    for c in range(connections):
        mine = by_sender[c::connections]
        line = [raw for turn in zip_longest(mine) for raw in turn]
        requests = [load.body("eth_sendRawTransaction", [raw], i + 1) for i, raw in enumerate(line)]
        if batch == 1:
            out.append([load.post(host, json.dumps(r).encode()) for r in requests])
        else:
            chunks = [requests[i : i + batch] for i in range(0, len(requests), batch)]
            out.append([load.post(host, json.dumps(chunk).encode()) for chunk in chunks])
    return out


def zip_longest(rows: list[list[str]]) -> list[list[str]]:
    depth = max((len(row) for row in rows), default=0)
    return [[row[i] for row in rows if i < len(row)] for i in range(depth)]


def count_mined(node: Node, first: int, last: int) -> tuple[int, int, int, float]:
    """(transactions, biggest block, gas, timestamp of the last block with one) of a range of blocks."""
    total = biggest = gas = 0
    for number in range(first, last + 1):
        block = node.rpc("eth_getBlockByNumber", hex(number), False)
        size = len(block["transactions"])
        total, biggest, gas = total + size, max(biggest, size), gas + int(block["gasUsed"], 16)
    return total, biggest, gas, 0.0


# --- scenarios ----------------------------------------------------------------------------------------------


def ingest(kind: str, peer: str, count: int, batch: int) -> Result:
    """Ingest, then mining at 1 s blocks: from the first send to the block that holds the last transaction."""
    with peers.spawn(peer, "second") as node:
        by_sender = workload(node, kind, count)
        work = queues(node, by_sender, 16, batch)
        start_block = int(node.rpc("eth_blockNumber"), 16)
        before = node.usage()
        begin = time.perf_counter()
        outcome = load.run(node.url, work, items_per_request=batch)
        errors = outcome.errors()
        mined, seen, finish = 0, start_block, begin
        while mined < count and time.perf_counter() - begin < 120:
            head = int(node.rpc("eth_blockNumber"), 16)
            while seen < head:
                seen += 1
                number = int(node.rpc("eth_getBlockTransactionCountByNumber", hex(seen)), 16)
                if number:
                    mined, finish = mined + number, time.perf_counter()
            time.sleep(0.005)
        after = node.usage()
        _, biggest, gas, _ = count_mined(node, start_block + 1, seen)
        sample = [json.loads(a) for a in outcome.answers[:: max(1, len(outcome.answers) // 50)]]
        hashes = [one["result"] for item in sample for one in (item if isinstance(item, list) else [item])][
            :50
        ]
        failed = [h for h in hashes if receipt_of(node, h)["status"] != "0x1"]
        seconds = finish - begin
        return {
            "sent": count, "mined": mined, "errors": len(errors), "failed_in_sample": len(failed),
            "ingest_per_s": count / outcome.seconds, "mined_tps": mined / seconds,
            "p50_ms": outcome.percentile(0.5), "p90_ms": outcome.percentile(0.9), "p99_ms": outcome.percentile(0.99),
            "send_seconds": outcome.seconds, "blocks": seen - start_block, "biggest_block": biggest,
            "mgas_per_s": gas / seconds / 1e6, "cpu_s": after.cpu - before.cpu,
            "cpu_us_per_item": 1e6 * (after.cpu - before.cpu) / count,
            "rss_before_mib": before.rss / 2**20, "rss_after_mib": after.rss / 2**20, "threads": after.threads,
            "ok": mined == count and not errors and not failed,
        }  # fmt: skip


def mine(kind: str, peer: str, count: int) -> Result:
    """Fill the pool with automine off, then time `evm_mine` until it is empty: microseconds per transaction."""
    count = 2_000 if peer == "hardhat" else count
    with peers.spawn(peer, "manual") as node:
        node.manual = True  # type: ignore[attr-defined]
        by_sender = workload(node, kind, count)
        outcome = load.run(node.url, queues(node, by_sender, 16, 100), items_per_request=100)
        first = int(node.rpc("eth_blockNumber"), 16)
        before, begin, mined, blocks = node.usage(), time.perf_counter(), 0, 0
        while mined < count and blocks < 50:
            node.rpc("evm_mine")
            blocks += 1
            mined += int(node.rpc("eth_getBlockTransactionCountByNumber", hex(first + blocks)), 16)
        seconds, after = time.perf_counter() - begin, node.usage()
        errors = outcome.errors()
        return {
            "sent": count, "mined": mined, "blocks": blocks, "us_per_tx": 1e6 * seconds / max(mined, 1),
            "tps": mined / seconds, "cpu_us_per_item": 1e6 * (after.cpu - before.cpu) / max(mined, 1),
            "rss_after_mib": after.rss / 2**20, "errors": len(errors), "ok": mined == count and not errors,
        }  # fmt: skip


def automine_burst(peer: str, count: int) -> Result:
    """A burst of transfers in automine; waits up to 30 s after the last answer for every one to be mined."""
    with peers.spawn(peer, "automine") as node:
        by_sender = workload(node, "transfer", count)
        work = queues(node, by_sender, 16, 1)
        start = int(node.rpc("eth_blockNumber"), 16)
        before, begin = node.usage(), time.perf_counter()
        outcome = load.run(node.url, work)
        mined, seen, finish = 0, start, begin
        while mined < count and time.perf_counter() - begin - outcome.seconds < 30:
            head = int(node.rpc("eth_blockNumber"), 16)
            while seen < head:
                seen += 1
                mined += int(node.rpc("eth_getBlockTransactionCountByNumber", hex(seen)), 16)
                finish = max(time.perf_counter(), finish) if mined >= count else finish
            if mined < count:
                time.sleep(0.01)
        # Counting thousands of blocks takes longer than mining the last ones: the answers' clock is the floor.
        seconds = outcome.seconds if seen == head and mined >= count else time.perf_counter() - begin
        after, errors = node.usage(), len(outcome.errors())
        return {
            "sent": count, "mined": mined, "seconds": seconds, "tps": mined / seconds,
            "blocks": seen - start, "cpu_s": after.cpu - before.cpu, "rss_after_mib": after.rss / 2**20,
            "errors": errors, "ok": mined == count and not errors,
        }  # fmt: skip


def automine_sequence(peer: str, count: int) -> Result:
    """One transfer at a time to a new recipient, polling the receipt: mean milliseconds per 200."""
    with peers.spawn(peer, "automine") as node:
        wallets = Wallets(node, 1)
        raws = [wallets.sign(0, to=fresh(i), value=1) for i in range(count)]
        client = load_one(node)
        times = []
        for raw in raws:
            begin = time.perf_counter()
            hash_ = client("eth_sendRawTransaction", raw)
            while not client("eth_getTransactionReceipt", hash_):
                pass
            times.append(1e3 * (time.perf_counter() - begin))
        means = [statistics.fmean(times[i : i + 200]) for i in range(0, count, 200)]
        return {
            "sent": count, "first_200_ms": means[0], "last_200_ms": means[-1], "means_ms": means,
            "median_ms": statistics.median(times), "rss_after_mib": node.usage().rss / 2**20, "ok": True,
        }  # fmt: skip


def load_one(node: Node) -> Callable[..., Any]:
    """A keep-alive JSON-RPC caller on one raw socket."""
    import http.client

    host = node.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.connect()

    def call(method: str, *params: Any) -> Any:
        connection.request(
            "POST", "/", json.dumps(load.body(method, params)), {"content-type": "application/json"}
        )
        parsed = json.loads(connection.getresponse().read())
        if "error" in parsed:
            raise SystemExit(f"{node.kind}: {method}: {parsed['error']}")
        return parsed["result"]

    return call


def state_size(peer: str, sizes: list[int]) -> Result:
    """Time and memory of an empty block with that many accounts in the state."""
    rows = {}
    with peers.spawn(peer, "manual") as node:
        present = 0
        host = node.url.removeprefix("http://")
        method = "hardhat_setBalance" if peer == "hardhat" else "anvil_setBalance"
        for size in sizes:
            batch = [load.body(method, [fresh(i), "0x1"], i + 1) for i in range(present, size)]
            chunks = [
                load.post(host, json.dumps(batch[i : i + 500]).encode()) for i in range(0, len(batch), 500)
            ]
            if chunks:
                load.run(node.url, [chunks])
            present = max(present, size)
            for _ in range(3):
                node.rpc("evm_mine")
            client, before, begin = load_one(node), node.usage(), time.perf_counter()
            for _ in range(20):
                client("evm_mine")
            seconds, after = time.perf_counter() - begin, node.usage()
            rows[str(size)] = {
                "ms": 1e3 * seconds / 20,
                "mib_per_block": (after.rss - before.rss) / 2**20 / 20,
            }
    return {"accounts": rows, "ok": True}


READS = ("eth_blockNumber", "eth_getBalance", "eth_call", "eth_getLogs_1", "eth_getLogs_100",
         "eth_getTransactionReceipt", "eth_getBlockByNumber", "eth_estimateGas")  # fmt: skip


def read(peer: str, seconds: float, shapes: list[tuple[int, int]]) -> Result:
    """After 500 ERC-20 transfers: items per second and server CPU per item for each method and shape."""
    with peers.spawn(peer, "manual") as node:
        node.manual = True  # type: ignore[attr-defined]
        by_sender = workload(node, "erc20", 500)
        token = node.rpc("eth_getBlockByNumber", "latest", True)["transactions"][0]["to"]
        flat = [raw for turn in zip_longest(by_sender) for raw in turn]
        hashes: list[str] = []
        for i in range(0, 500, 5):  # 100 blocks of 5 on every peer, so that the answers hold the same logs
            hashes += [node.rpc("eth_sendRawTransaction", raw) for raw in flat[i : i + 5]]
            node.rpc("evm_mine")
        head = int(node.rpc("eth_blockNumber"), 16)
        holder = Wallets.__new__(Wallets)
        holder.addresses = [
            _native.address_of(_native.keccak256(f"zerog-bench-{i}".encode())) for i in range(SENDERS)
        ]
        balance = [
            {"to": token, "data": selector("balanceOf(address)") + word(holder.addresses[0])},
            "latest",
        ]
        transfer = selector("transfer(address,uint256)") + word(fresh(10**6)) + word(1)
        receipt = receipt_of(node, hashes[-1])
        mid = hex(int(receipt["blockNumber"], 16))
        params: dict[str, list[Any]] = {
            "eth_blockNumber": [],
            "eth_getBalance": [holder.addresses[0], "latest"],
            "eth_call": balance,
            "eth_getLogs_1": [{"fromBlock": mid, "toBlock": mid, "address": token}],
            "eth_getLogs_100": [{"fromBlock": hex(head - 99), "toBlock": hex(head), "address": token}],
            "eth_getTransactionReceipt": [hashes[-1]],
            "eth_getBlockByNumber": [mid, True],
            "eth_estimateGas": [{"from": holder.addresses[0], "to": token, "data": transfer}],
        }
        host, cells = node.url.removeprefix("http://"), {}
        for name in READS:
            method = name.removesuffix("_100").removesuffix("_1")
            for connections, batch in shapes:
                one = load.body(method, params[name])
                payload = (
                    one if batch == 1 else [load.body(method, params[name], i + 1) for i in range(batch)]
                )
                request = load.post(host, json.dumps(payload).encode())
                load.run(
                    node.url, [[request]] * connections, seconds=0.2, items_per_request=batch, keep_every=1000
                )
                before = node.usage()
                outcome = load.run(
                    node.url,
                    [[request]] * connections,
                    seconds=seconds,
                    items_per_request=batch,
                    keep_every=200,
                )
                after = node.usage()
                errors = outcome.errors()
                cells[f"{name} c{connections} b{batch}"] = {
                    "items_per_s": outcome.items / outcome.seconds,
                    "p50_ms": outcome.percentile(0.5), "p99_ms": outcome.percentile(0.99),
                    "cpu_us_per_item": 1e6 * (after.cpu - before.cpu) / max(outcome.items, 1),
                    "bytes_per_item": outcome.received / max(outcome.items, 1), "errors": len(errors),
                }  # fmt: skip
        return {"cells": cells, "ok": all(not c["errors"] for c in cells.values())}


def start(peer: str, runs: int = 5) -> Result:
    """exec → first answer, resident memory half a second later: medians of `runs`."""
    rows = [peers.startup(peer) for _ in range(runs)]
    return {
        "first_rpc_ms": 1e3 * statistics.median(r["seconds"] for r in rows),
        "rss_mib": statistics.median(r["rss_mib"] for r in rows),
        "threads": rows[0]["threads"], "ok": True,
    }  # fmt: skip


def selftest(_peer: str) -> Result:
    """The client's own ceiling: requests per second against a trivial responder, and signatures per second."""

    result = b'{"jsonrpc":"2.0","id":1,"result":"0x0"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(result), result)

    class Trivial(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingTCPServer(("127.0.0.1", 0), Trivial)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    request = load.post("x", json.dumps(load.body("eth_blockNumber", [])).encode())
    outcome = load.run(url, [[request]] * 16, seconds=2, keep_every=10**9)
    server.shutdown()
    begin = time.perf_counter()
    for i in range(2000):
        _native.sign_digest(DEV_KEY, i.to_bytes(32, "big"))
    return {
        "python_responder_per_s": outcome.items / outcome.seconds,
        "signatures_per_s": 2000 / (time.perf_counter() - begin),
        "ok": True,
    }


SCENARIOS: dict[str, Callable[[str, argparse.Namespace], Result]] = {
    **{
        k: (lambda peer, a, k=k: ingest(k, peer, a.count or 20_000, 1))
        for k in ("transfer", "erc20", "hotswap")
    },
    "transfer_batch": lambda peer, a: ingest("transfer", peer, a.count or 20_000, 100),
    **{
        f"mine_{k}": (lambda peer, a, k=k: mine(k, peer, a.count or 10_000))
        for k in ("transfer", "erc20", "hotswap")
    },
    "automine_burst_3000": lambda peer, a: automine_burst(peer, 3_000),
    "automine_burst_5000": lambda peer, a: automine_burst(peer, 5_000),
    "automine_sequence": lambda peer, a: automine_sequence(peer, a.count or 1_400),
    "state_size": lambda peer, a: state_size(peer, [0, 1_000, 10_000, 50_000]),
    "read": lambda peer, a: read(peer, a.seconds, [(1, 1), (16, 1), (64, 1), (16, 100)]),
    "startup": lambda peer, a: start(peer),
    "selftest": lambda peer, a: selftest(peer),
}
# The figure of a scenario that is compared: name in the result → "more" or "less" is better.
FIGURES: dict[str, list[tuple[str, str]]] = {
    **{k: [("mined_tps", "more"), ("ingest_per_s", "more"), ("cpu_us_per_item", "less")]
       for k in ("transfer", "erc20", "hotswap", "transfer_batch")},
    **{f"mine_{k}": [("us_per_tx", "less")] for k in ("transfer", "erc20", "hotswap")},
    "automine_burst_3000": [("mined", "more"), ("tps", "more")],
    "automine_burst_5000": [("mined", "more"), ("tps", "more")],
    "automine_sequence": [("first_200_ms", "less"), ("last_200_ms", "less"), ("median_ms", "less")],
    "startup": [("first_rpc_ms", "less"), ("rss_mib", "less")],
    "selftest": [],
}  # fmt: skip


def run_once(scenario: str, peer: str, arguments: argparse.Namespace) -> Result:
    load_before = os.getloadavg()[0]
    result = SCENARIOS[scenario](peer, arguments)
    return {
        "scenario": scenario,
        "peer": peer,
        "load_before": load_before,
        "noisy": load_before > 1.3,
        **result,
    }


def figures_of(result: Result) -> dict[str, tuple[float, str]]:
    scenario = result["scenario"]
    if scenario == "read":
        return {name: (cell["items_per_s"], "more") for name, cell in result["cells"].items()}
    if scenario == "state_size":
        return {
            f"{size} accounts, {what}": (row[what], "less")
            for size, row in result["accounts"].items()
            for what in ("ms", "mib_per_block")
        }
    return {name: (float(result[name]), better) for name, better in FIGURES[scenario]}


def table(results: list[Result], names: list[str]) -> str:
    """Medians per peer and the ratio of the first peer to each other one (above 1: the first is better)."""
    lines = [
        "| scenario | figure | " + " | ".join(names) + " | ratio | ok |",
        "|" + "---|" * (len(names) + 4),
    ]
    scenarios = list(dict.fromkeys(r["scenario"] for r in results))
    for scenario in scenarios:
        rows = [r for r in results if r["scenario"] == scenario]
        for figure in figures_of(rows[0]):
            medians, better = [], figures_of(rows[0])[figure][1]
            for name in names:
                values = [figures_of(r)[figure][0] for r in rows if r["peer"] == name]
                medians.append(statistics.median(values) if values else float("nan"))
            ratios = []
            for other in medians[1:]:
                good, bad = (medians[0], other) if better == "more" else (other, medians[0])
                ratios.append(f"{good / bad:.2f}x" if bad and bad > 0 else "–")
            oks = "/".join(f"{sum(r['ok'] for r in rows if r['peer'] == n)}" for n in names)
            noisy = " noisy" if any(r["noisy"] for r in rows) else ""
            shown = " | ".join(f"{m:,.2f}" if m < 1000 else f"{m:,.0f}" for m in medians)
            lines.append(
                f"| {scenario} | {figure} ({better}) | {shown} | {' '.join(ratios)} | {oks}{noisy} |"
            )
    return "\n".join(lines)


def machine() -> str:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "?",
    )
    return f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.release()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="one scenario, one peer, once")
    one.add_argument("scenario", choices=SCENARIOS)
    one.add_argument("--peer", default="zerog")
    many = commands.add_parser("compare", help="scenarios in turn over peers")
    many.add_argument("--peers", default="zerog,anvil")
    many.add_argument(
        "--scenarios", default=",".join(s for s in SCENARIOS if s != "selftest" and "burst" not in s)
    )
    many.add_argument("--runs", type=int, default=5)
    many.add_argument("--out", type=Path, help="folder for the table and the raw results")
    many.add_argument("--name", default="", help="suffix of the result files")
    for p in (one, many):
        p.add_argument("--count", type=int, default=0, help="transactions of a write scenario")
        p.add_argument("--seconds", type=float, default=2.0, help="length of a read cell")
    arguments = parser.parse_args()
    if arguments.command == "run":
        result = run_once(arguments.scenario, arguments.peer, arguments)
        print(json.dumps(result))
        sys.exit(0 if result["ok"] else 1)
    names = arguments.peers.split(",")
    results: list[Result] = []
    for scenario in arguments.scenarios.split(","):
        for turn in range(arguments.runs):
            for name in names:
                print(f"{scenario}: {name}, run {turn + 1} of {arguments.runs}", file=sys.stderr)
                results.append(run_once(scenario, name, arguments))
    text = table(results, names)
    print(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        stem = "-".join(["rpc", *names, *([arguments.name] if arguments.name else [])])
        line = shlex.join(["python", "benchmarks/rpc.py", *sys.argv[1:]])
        (arguments.out / f"{stem}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in results))
        (arguments.out / f"{stem}.md").write_text(
            f"# JSON-RPC: {' against '.join(names)}\n\n`{line}`\n\n{machine()}. Medians of {arguments.runs} alternating runs; "
            f"ratio above 1: {names[0]} is better. ok: runs in which every transaction was mined and every answer "
            f"parsed. noisy: a run began under a 1-minute load above 1.3.\n\n{text}\n"
        )
    sys.exit(0 if all(r["ok"] for r in results if r["peer"] == names[0]) else 1)


if __name__ == "__main__":
    main()
