"""Storage kernels beside what they are measured against, in turn (A B A B …): medians and ratios.

    python benchmarks/storage_kernels.py --mib 1024 --runs 5

* ``root``: the Merkle root of a file against plain keccak-256 over the same bytes, one stream a core. The file is
  read before the first run, so that both work from the page cache.
* ``pora``: iterations of a proof-of-random-access search (no hits) against the Python oracle of the tests.

Prints one JSON object with all figures. `PEERS` is the place for other implementations of the root.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.storage.reference import pora  # noqa: E402

from zerog import _native  # noqa: E402
from zerog.storage import layout  # noqa: E402

MIB = 1 << 20
PART = 8 * MIB


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def zerog_root(path: Path, cores: int) -> None:
    """The whole tree, streamed."""
    _native.FileTree.from_file(str(path), threads=cores)


def plain_keccak(path: Path, cores: int) -> None:
    """keccak-256 alone over the same bytes: a part at a time on every core."""
    with path.open("rb") as file, ThreadPoolExecutor(cores) as pool:
        size, fd = path.stat().st_size, file.fileno()
        parts = range(0, size, PART)
        list(pool.map(lambda at: _native.keccak256(os.pread(fd, PART, at)), parts))


PEERS: dict[str, Callable[[Path, int], None]] = {"zerog root": zerog_root, "keccak256 alone": plain_keccak}
"""Whole-file work by name; the first is ours."""


def bench_root(path: Path, cores: int, runs: int) -> dict[str, object]:
    """MiB/s of every peer, and how many times as fast ours is."""
    size = path.stat().st_size / MIB
    times: dict[str, list[float]] = {name: [] for name in PEERS}
    for _ in range(runs):
        for name, work in PEERS.items():
            times[name].append(seconds(lambda work=work: work(path, cores)))  # type: ignore[misc]
    speeds = {name: size / statistics.median(taken) for name, taken in times.items()}
    ours, *others = speeds.values()
    ratios = {name: ours / speed for name, speed in zip(list(speeds)[1:], others, strict=True)}
    return {"MiB": size, "cores": cores, "MiB/s": speeds, "zerog is faster by": ratios}


def bench_pora(path: Path, cores: int, runs: int) -> dict[str, object]:
    """Iterations a second; the data is in memory on both sides."""
    loads = 16
    sealed = path.read_bytes()[: loads * layout.SEGMENT]
    task = pora.Task(b"m" * 32, b"s" * 32, 0, len(sealed) // layout.SECTOR)
    nonce, target = os.urandom(32), bytes(32)
    available = b"\xff" * (len(sealed) // layout.SEGMENT * 8)
    many, few = 4000, 40
    times: dict[str, list[float]] = {"zerog, 1 thread": [], f"zerog, {cores} threads": [], "Python": []}
    with path.open("rb") as file:

        def native(threads: int) -> None:
            numbers = (task.start, task.length, task.shard_id, task.shard_mask)
            fixed = (file.fileno(), available, task.miner_id, task.subtask, *numbers)
            _native.pora_search(*fixed, target, nonce, many, threads)

        for _ in range(runs):
            times["zerog, 1 thread"].append(seconds(lambda: native(1)) / many)
            times[f"zerog, {cores} threads"].append(seconds(lambda: native(cores)) / many)
            oracle = seconds(lambda: list(pora.search(task, sealed, target, nonce, few)))
            times["Python"].append(oracle / few)
    speeds = {name: 1 / statistics.median(taken) for name, taken in times.items()}
    return {
        "iterations/s": speeds,
        "zerog, 1 thread, is faster by": speeds["zerog, 1 thread"] / speeds["Python"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=1024, help="size of the file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            for _ in range(options.mib):
                file.write(os.urandom(MIB))
        plain_keccak(path, options.cores)
        result = {
            "machine": f"{platform.machine()}, {os.cpu_count()} processors",
            "load": os.getloadavg()[0],
            "root": bench_root(path, options.cores, options.runs),
            "pora": bench_pora(path, options.cores, options.runs),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
