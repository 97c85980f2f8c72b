"""Starts the nodes under comparison, each fresh with a data directory of its own, and reads what they cost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = ROOT / "tests" / "conformance" / "clients" / "node_modules"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Cost of a process tree: CPU seconds so far, resident bytes, threads."""

    cpu: float
    rss: int
    threads: int


class Node:
    """A running peer. `rpc` is for set-up and questions outside the clock."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, kind: str) -> None:
        self.process, self.url, self.kind = process, url, kind

    def rpc(self, method: str, *params: Any) -> Any:
        payload = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.url, payload, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            parsed = json.load(answer)
        if "error" in parsed:
            raise RuntimeError(f"{self.kind}: {method}: {parsed['error']}")
        return parsed["result"]

    def usage(self) -> Usage:
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        cpu, rss, threads, left = 0.0, 0, 0, [self.process.pid]
        while left:
            pid = left.pop()
            left += children.get(pid, [])
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                rss += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
            except OSError:
                continue
            cpu += (int(fields[11]) + int(fields[12])) / TICKS
            threads += int(fields[17])
        return Usage(cpu, rss, threads)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(kind: str, port: int, folder: Path, mode: str) -> list[str]:
    """The command line of a peer. `mode`: "automine", "second" (1 s blocks) or "manual"."""
    gas = ["--gas-limit", "3000000000"] if mode != "automine" else []
    if kind in ("zerog", "zerog-ephemeral"):
        mining = {"automine": [], "second": ["--block-time", "1"], "manual": ["--no-mining"]}[mode]
        where = ["--ephemeral"] if kind == "zerog-ephemeral" else ["--data-dir", str(folder)]
        zerog = Path(sys.executable).parent / "zerog"
        return [str(zerog), "up", "--chain-only", "--quiet", "--port", str(port), *where, *gas, *mining]
    if kind == "anvil":
        mining = {"automine": [], "second": ["--block-time", "1"], "manual": ["--no-mining"]}[mode]
        binary = next(CLIENTS.glob("@foundry-rs/anvil-*/bin/anvil"), None)
        if binary is None:
            raise SystemExit("anvil is not installed: run `make setup-test`")
        return [str(binary), "--silent", "--port", str(port), *gas, *mining]
    if kind == "hardhat":
        config = folder / "hardhat.config.cjs"
        mining_config = {
            "automine": "{auto: true}",
            "second": "{auto: false, interval: 1000}",
            "manual": "{auto: false}",
        }
        config.write_text(
            "module.exports = { solidity: '0.8.30', networks: { hardhat: { chainId: 31337, blockGasLimit: 3000000000, "
            f"mining: {mining_config[mode]} }} }} }};"
        )
        (folder / "package.json").write_text("{}")
        if not (folder / "node_modules").exists():
            (folder / "node_modules").symlink_to(CLIENTS)
        cli = folder / "node_modules" / "hardhat" / "internal" / "cli" / "cli.js"
        return ["node", str(cli), "--config", str(config), "node", "--port", str(port)]
    raise SystemExit(f"unknown peer {kind!r}: zerog, zerog-ephemeral, anvil or hardhat")


@contextmanager
def spawn(kind: str, mode: str, extra: Sequence[str] = ()) -> Iterator[Node]:
    """A fresh peer that has answered its first request; stopped and cleaned up afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{kind}-"))
    port = free_port()
    environment = {**os.environ, "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true"}
    process = subprocess.Popen(
        [*command(kind, port, folder, mode), *extra],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )
    node = Node(process, f"http://127.0.0.1:{port}", kind)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                node.rpc("eth_chainId")
                break
            except (urllib.error.URLError, ConnectionError, OSError):
                if process.poll() is not None:
                    raise SystemExit(f"{kind} ended with {process.returncode} at its start") from None
                if time.monotonic() > deadline:
                    raise SystemExit(f"{kind} did not answer within 60 s") from None
                time.sleep(0.005)
        yield node
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def startup(kind: str, with_folder: bool = True) -> dict[str, float]:
    """Seconds from exec to the first JSON-RPC answer, and resident MiB half a second later."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{kind}-"))
    port = free_port()
    name = kind if with_folder or kind != "zerog" else "zerog-ephemeral"
    line = command(name, port, folder, "automine")
    payload = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
    head = (
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    begin = time.perf_counter()
    process = subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, start_new_session=True
    )
    try:
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
                    s.sendall(head % len(payload) + payload)
                    if s.recv(4096):
                        break
            except OSError:
                if process.poll() is not None or time.perf_counter() - begin > 60:
                    raise SystemExit(f"{kind} did not start") from None
                time.sleep(0.001)
        seconds = time.perf_counter() - begin
        time.sleep(0.5)
        usage = Node(process, "", kind).usage()
        return {"seconds": seconds, "rss_mib": usage.rss / 2**20, "threads": usage.threads}
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
