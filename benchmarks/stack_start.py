"""Time from the start of ``zerog up`` to its first answers: the whole stack, and the chain alone, in turn.

::

    python benchmarks/stack_start.py --runs 10
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time

DEADLINE = 30.0


def ask(port: int, method: str) -> dict[str, object]:
    """The answer of a node; raises `OSError` while it does not listen."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": []})
    connection.request("POST", "/", body, {"content-type": "application/json"})
    answer: dict[str, object] = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def until_answered(port: int, method: str, began: float) -> float:
    """Seconds from ``began`` to the first result of ``method``."""
    while time.perf_counter() - began < DEADLINE:
        try:
            if "result" in ask(port, method):
                return time.perf_counter() - began
        except OSError:
            pass
        time.sleep(0.002)
    raise SystemExit(f"{method} has no answer after {DEADLINE:g} s")


def start(flags: list[str], methods: list[str]) -> list[float]:
    """Starts a node, asks the methods in order, ends it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.perf_counter()
    command = [sys.executable, "-m", "zerog", "up", "--ephemeral", "--quiet", "--port", str(port), *flags]
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return [until_answered(port, method, began) for method in methods]
    finally:
        node.terminate()
        node.wait(DEADLINE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    print(f"1-minute load at the start: {os.getloadavg()[0]:.1f}")
    whole, alone = [], []
    for _ in range(runs):
        whole.append(start([], ["eth_chainId", "zgs_getStatus"]))
        alone.append(start(["--chain-only"], ["eth_chainId"]))
    columns = {
        "whole stack, first eth_chainId": [run[0] for run in whole],
        "whole stack, first zgs_getStatus": [run[1] for run in whole],
        "chain alone, first eth_chainId": [run[0] for run in alone],
    }
    for name, times in columns.items():
        low, middle, high = min(times), statistics.median(times), max(times)
        print(f"{name:<33} {middle * 1e3:6.0f} ms   ({low * 1e3:.0f} to {high * 1e3:.0f}, {runs} runs)")


if __name__ == "__main__":
    main()
