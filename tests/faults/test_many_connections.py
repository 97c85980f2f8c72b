"""Ten thousand connections that say nothing do not disturb a client that works."""

from __future__ import annotations

import errno
import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from zerog import Client
from zerog.client.storage import Storage

resource = pytest.importorskip("resource", reason="needs limits of file descriptors")

IDLE = 10_000
# What the test, and the node that inherits its limits, need beside the connections.
SPARE = 500
PATIENCE = 60.0


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for the connections in this process; a node raises its own limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = IDLE + SPARE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} file descriptors, has {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def node() -> Iterator[Any]:
    """The banner of a running node with a further port."""
    command = [
        sys.executable,
        "-m",
        "zerog",
        "up",
        "--port",
        "0",
        "--storage-port",
        "0",
        "--ephemeral",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield json.loads(line)
        finally:
            process.kill()


class Worker:
    """A client that works: native calls, a bridged one, and a transaction with its receipt."""

    def __init__(self, url: str, sender: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
        self._sender = sender

    def call(self, method: str, *params: Any) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        self._connection.request("POST", "/", body)
        answer = json.loads(self._connection.getresponse().read())
        assert "result" in answer, answer
        return answer["result"]

    def work(self) -> None:
        for _ in range(20):
            assert self.call("eth_chainId") == "0x7a69"
            assert self.call("anvil_nodeInfo")["environment"]["chainId"] == 31337
        sent = self.call("eth_sendTransaction", {"from": self._sender, "to": self._sender, "value": "0x1"})
        assert self.call("eth_getTransactionReceipt", sent)["status"] == "0x1"

    def close(self) -> None:
        self._connection.close()


def upload(chain: str, storage: str, sender: str, state: Path) -> None:
    """A file goes to the storage port and comes back."""
    content = os.urandom(2_000_000)
    network = Storage(storage, client=Client(chain, account=sender), nodes=[storage], state=state)
    assert network.read(network.put(content).root) == content


def idle_connections(url: str) -> list[socket.socket]:
    """`IDLE` open connections, none of which has been closed by the server."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    address = (parts.hostname, parts.port)
    found: list[socket.socket] = []
    for _ in range(IDLE):
        connection = socket.create_connection(address, PATIENCE)
        connection.setblocking(False)
        found.append(connection)
    return found


def is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EWOULDBLOCK)


@pytest.mark.parametrize("port", ["main", "further"])
def test_ten_thousand_idle_connections_disturb_no_client_on_any_port(
    many_files: None, port: str, tmp_path: Path
) -> None:
    with node() as banner:
        ports = {"main": banner["url"], "further": banner["urls"]["storage"]}
        workers = [Worker(url, banner["accounts"][0]["address"]) for url in ports.values()]
        workers[0].work()
        idle = idle_connections(ports[port])
        try:
            for worker in workers:
                worker.work()
            upload(ports["main"], ports["further"], banner["accounts"][0]["address"], tmp_path)
            assert all(is_open(connection) for connection in idle)
            # The last of them is served, too.
            idle[-1].settimeout(PATIENCE)
            idle[-1].sendall(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            assert idle[-1].recv(12) == b"HTTP/1.1 200"
        finally:
            for connection in idle:
                connection.close()
        for worker in workers:
            worker.work()
            worker.close()
