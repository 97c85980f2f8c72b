"""Storage beside the official TypeScript SDK, the same work in turn (A B A B …): medians and ratios.

    python benchmarks/storage.py                                     # all cells, benchmarks/results/storage.md
    python benchmarks/storage.py --cells transfer --runs 3 --out ''  # one cell, on the terminal only

* ``root``: the Merkle root of a file of ``--mib``, read before the clock starts.
* ``transfer``: a file of ``--pair`` MiB put and got by both clients at the same node over loopback. A put is all of
  it: hashing, the paying transaction, segments with proofs, until the node calls the file final; a get proves every
  segment and compares as a file. Every run has a file of its own.
* ``alone``: the same with a file of ``--alone`` MiB and our client only.
* ``memory``: a file of ``--memory`` MiB, and the most that node and client had resident meanwhile (``VmHWM``).
* ``first``: the first put of a process at a fresh node, 8 MiB; what the idle node has resident, and how long it takes
  from the start of its process to its first JSON-RPC answer.

The node is a `zerog up --ephemeral` with everything that it starts. Each client is one process that is kept. A run
that starts under a 1-minute load above 1.3 is noisy; the load of each is printed. What is got is compared with what was
put, byte by byte, outside the clock.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import platform
import resource
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from peers import Node, free_port

HERE = Path(__file__).resolve().parent
SDK_FOLDER = HERE.parent / "tests" / "conformance" / "storage_sdks"
SDK = "@0gfoundation/0g-ts-sdk"
MIB = 1 << 20
CELLS = ("root", "transfer", "alone", "memory", "first")
QUIET = 1.3


# --- those that work ----------------------------------------------------------------------------------------


class Peer:
    """A client process: one job in, one answer out, timed by itself."""

    def __init__(self, name: str, line: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __call__(self, op: str, **job: str) -> tuple[float, str]:
        """Seconds and the root."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": op, **job}).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline() or b'{"error": "it ended"}')
        if "error" in answer:
            raise SystemExit(f"{self.name}: {op}: {answer['error']}")
        return float(answer["seconds"]), str(answer["root"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def ours() -> Peer:
    return Peer("zerog", [sys.executable, str(Path(__file__).resolve()), "serve"])


def official() -> Peer:
    if not (SDK_FOLDER / "node_modules" / SDK).exists():
        raise SystemExit(f"{SDK} is not installed: run `make setup-test`")
    return Peer(SDK, ["node", str(HERE / "storage_sdk.mjs"), str(SDK_FOLDER), SDK])


def serve() -> None:
    """Our client as a `Peer`."""
    from zerog import _native
    from zerog.client.accounts import Account
    from zerog.client.client import Client
    from zerog.client.storage import Storage

    storages: dict[str, Storage] = {}
    with tempfile.TemporaryDirectory() as state:
        for line in sys.stdin:
            job = json.loads(line)
            begin = time.perf_counter()
            if job["op"] == "root":
                root = "0x" + _native.FileTree.from_file(job["file"]).root.hex()
            else:
                url = job["url"]
                if url not in storages:
                    client = Client(url, account=Account(job["key"]))
                    storages[url] = Storage(url, client=client, timeout=600, state=Path(state))
                if job["op"] == "put":
                    root = storages[url].put(Path(job["file"])).root
                else:
                    root = job["root"]
                    storages[url].get(root, job["file"])
            print(json.dumps({"seconds": time.perf_counter() - begin, "root": root}), flush=True)


@contextmanager
def node(port: int = 0) -> Iterator[tuple[Node, str]]:
    """A fresh node with all its services, and the key of a funded account; stopped afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bench-storage-"))
    line = [sys.executable, "-m", "zerog", "up", "--ephemeral", "--json", "--port", str(port or free_port())]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, cwd=folder, start_new_session=True)
    try:
        assert process.stdout is not None
        banner = json.loads(process.stdout.readline())
        yield Node(process, banner["url"], "zerog"), banner["accounts"][1]["privateKey"]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def first_answer(port: int, begin: float, limit: float = 30) -> float:
    """Seconds from ``begin`` until a JSON-RPC question is answered."""
    asked = Node(None, f"http://127.0.0.1:{port}", "zerog")  # type: ignore[arg-type]
    deadline = time.monotonic() + limit
    while True:
        try:
            asked.rpc("eth_chainId")
            return time.perf_counter() - begin
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"no answer within {limit:g} s") from None
            time.sleep(0.001)


def resident(pid: int) -> tuple[float, float]:
    """MiB resident: now, and at most since `reset_peak`."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]


def reset_peak(pid: int) -> None:
    """Forgets the peak so far."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def make(path: Path, mib: int) -> Path:
    """A file of random bytes, no two MiB alike, in the page cache."""
    block = bytearray(os.urandom(MIB))
    with path.open("wb") as file:
        for number in range(mib):
            block[:16] = os.urandom(8) + number.to_bytes(8, "big")
            file.write(block)
    return path


# --- what is measured ---------------------------------------------------------------------------------------


@dataclass
class Table:
    """Figures of a cell by client and work, in the order of the runs."""

    mib: int
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    loads: list[float] = field(default_factory=list)

    def add(self, peer: str, work: str, seconds: float) -> None:
        self.seconds.setdefault((peer, work), []).append(seconds)

    def speed(self, peer: str, work: str) -> float:
        """Median, 10^6 bytes per second."""
        return self.mib * MIB / 1e6 / statistics.median(self.seconds[peer, work])

    def rows(self) -> list[str]:
        works = list(dict.fromkeys(work for _, work in self.seconds))
        lines = []
        for work in works:
            row = [f"{work}, {self.mib} MiB", f"{self.speed('zerog', work):,.0f}"]
            if (SDK, work) in self.seconds:
                theirs = self.speed(SDK, work)
                row += [f"{theirs:,.1f}", f"**{self.speed('zerog', work) / theirs:,.1f}**"]
            else:
                row += ["–", "–"]
            slowest, fastest = max(self.seconds["zerog", work]), min(self.seconds["zerog", work])
            spread = " – ".join(f"{self.mib * MIB / 1e6 / one:,.0f}" for one in (slowest, fastest))
            row += [f"{spread} of {len(self.seconds['zerog', work])}", self.load()]
            lines.append("| " + " | ".join(row) + " |")
        return lines

    def load(self) -> str:
        return f"{min(self.loads):.1f} – {max(self.loads):.1f}"


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.rows: list[str] = []
        self.notes: list[str] = []
        self.noisy = False

    def _start(self, table: Table) -> None:
        load = os.getloadavg()[0]
        table.loads.append(load)
        self.noisy |= load > QUIET

    def _done(self, table: Table) -> None:
        self.rows += table.rows()
        print("\n".join(table.rows()), flush=True)

    def root(self) -> None:
        table = Table(self.options.mib)
        path = make(self.folder / "root", table.mib)
        peers = (ours(), official())
        for _ in range(self.options.root_runs):
            self._start(table)
            roots = set()
            for peer in peers:
                seconds, root = peer("root", file=str(path))
                table.add(peer.name, "root", seconds)
                roots.add(root)
            if len(roots) != 1:
                raise SystemExit(f"the roots differ: {roots}")
        for peer in peers:
            peer.close()
        path.unlink()
        self._done(table)

    def transfer(self) -> None:
        table = Table(self.options.pair)
        with node() as (server, key):
            peers = (ours(), official())
            # Not counted: both have connections, loaded code and a warm node afterwards.
            for number in range(-1, self.options.runs):
                if number >= 0:
                    self._start(table)
                for peer in peers:
                    put, get = self._round(peer, server, key, table.mib if number >= 0 else 1)
                    if number >= 0:
                        table.add(peer.name, "upload", put)
                        table.add(peer.name, "download", get)
            for peer in peers:
                peer.close()
        self._done(table)

    def alone(self) -> None:
        table = Table(self.options.alone)
        with node() as (server, key):
            peer = ours()
            self._round(peer, server, key, 1)
            for _ in range(self.options.runs):
                self._start(table)
                put, get = self._round(peer, server, key, table.mib)
                table.add(peer.name, "upload", put)
                table.add(peer.name, "download", get)
            peer.close()
        self._done(table)

    def memory(self) -> None:
        table = Table(self.options.memory)
        with node() as (server, key):
            peer = ours()
            self._round(peer, server, key, 1)
            pids = {"node": server.process.pid, "client": peer.pid}
            for pid in pids.values():
                reset_peak(pid)
            self._start(table)
            put, get = self._round(peer, server, key, table.mib)
            table.add(peer.name, "upload", put)
            table.add(peer.name, "download", get)
            peaks = ", ".join(f"{name} {resident(pid)[1]:.0f} MiB" for name, pid in pids.items())
            peer.close()
        self.notes.append(f"Resident at most during the {table.mib} MiB: {peaks}.")
        self._done(table)

    def first(self) -> None:
        table = Table(8)
        idle, starts = list[float](), list[float]()
        for _ in range(self.options.runs):
            self._start(table)
            port = free_port()
            begin = time.perf_counter()
            with ThreadPoolExecutor(1) as beside:
                answered = beside.submit(first_answer, port, begin)
                stack = ExitStack()
                server, key = stack.enter_context(node(port))
                starts.append(answered.result())
            with stack:
                deadline = time.monotonic() + 30
                while not server.rpc("zgs_getStatus")["networkIdentity"] and time.monotonic() < deadline:
                    pass
                time.sleep(1)  # What the node loads in the background is loaded.
                idle.append(server.usage().rss / MIB)
                peer = ours()
                put, get = self._round(peer, server, key, table.mib)
                table.add(peer.name, "first upload", put)
                table.add(peer.name, "first download", get)
                peer.close()
        self.notes.append(
            f"The idle node with all its services has {statistics.median(idle):.0f} MiB resident and gives its first "
            f"JSON-RPC answer {1000 * statistics.median(starts):.0f} ms after the start of its process "
            f"({1000 * min(starts):.0f} – {1000 * max(starts):.0f} of {len(starts)})."
        )
        self._done(table)

    def _round(self, peer: Peer, server: Node, key: str, mib: int) -> tuple[float, float]:
        """Seconds of a put and of the get of a fresh file."""
        path, copy = make(self.folder / "file", mib), self.folder / "copy"
        put, root = peer("put", url=server.url, file=str(path), key=key)
        get, _ = peer("get", url=server.url, root=root, file=str(copy), key=key)
        if not filecmp.cmp(path, copy, shallow=False):
            raise SystemExit(f"{peer.name}: what was got is not what was put")
        path.unlink()
        copy.unlink()
        return put, get

    def report(self) -> str:
        command = "python benchmarks/storage.py " + shlex.join(sys.argv[1:])
        lines = [
            "# Storage beside the official TypeScript SDK",
            "",
            f"`{command.strip()}`",
            "",
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
            f"{SDK} {_version()}. 10⁶ bytes per second, medians; what each line means stands at the top of "
            "`benchmarks/storage.py`. *Load* is the 1-minute load when a run started"
            + (": **noisy**, other work shared the machine." if self.noisy else "."),
            "",
            "| work | zerog: MB/s | TypeScript SDK: MB/s | zerog is faster by | zerog: slowest – fastest of runs | load |",
            "|---|---|---|---|---|---|",
            *self.rows,
            "",
            *self.notes,
        ]
        return "\n".join(lines).rstrip() + "\n"


def _version() -> str:
    return str(json.loads((SDK_FOLDER / "node_modules" / SDK / "package.json").read_text())["version"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--mib", type=int, default=1024, help="file of `root`")
    parser.add_argument("--pair", type=int, default=64, help="file of `transfer`")
    parser.add_argument("--alone", type=int, default=512, help="file of `alone`")
    parser.add_argument("--memory", type=int, default=4096, help="file of `memory`")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--root-runs", type=int, default=3)
    parser.add_argument("--out", default=str(HERE / "results"), help="folder for storage.md; empty: none")
    options = parser.parse_args()
    cells = options.cells.split(",")
    if unknown := set(cells) - set(CELLS):
        raise SystemExit(f"no such cells: {', '.join(sorted(unknown))}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    with tempfile.TemporaryDirectory(prefix="bench-storage-") as folder:
        bench = Bench(options, Path(folder))
        for cell in cells:
            print(f"{cell} …", file=sys.stderr, flush=True)
            getattr(bench, cell)()
    print(bench.report())
    if options.out:
        Path(options.out, "storage.md").write_text(bench.report())


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        main()
