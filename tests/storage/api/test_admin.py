"""The operator's methods, their guard, and that every method that is announced exists."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.storage.api.conftest import FLOW, File, pattern, submit

from zerog import Devnet
from zerog.chain.methods import CALL, Call
from zerog.errors import RpcError
from zerog.storage import service
from zerog.storage.api import admin, zgs
from zerog.storage.guard import is_loopback, require_local


def test_the_announced_names_are_those_of_the_tables() -> None:
    assert sorted(service.ZGS) == sorted(zgs.METHODS.names())
    assert sorted(service.ADMIN) == sorted(admin.METHODS.names())


def test_the_methods_of_0gs_node_are_all_there() -> None:
    """The ``admin`` namespace of the storage node's specification."""
    official = {
        "findFile", "shutdown", "startSyncFile", "startSyncChunks", "terminateSync", "getSyncServiceState",
        "getSyncStatus", "getSyncInfo", "getNetworkInfo", "getPeers", "getFileLocation", "getMetrics",
    }  # fmt: skip
    assert {f"admin_{name}" for name in official} <= set(service.ADMIN)


@pytest.mark.parametrize(
    ("peer", "here"),
    [
        ("127.0.0.1:50000", True),
        ("127.8.8.8", True),
        ("[::1]:50000", True),
        ("::1", True),
        ("[::ffff:127.0.0.1]:9", True),
        ("192.168.1.5:50000", False),
        ("[fe80::1]:9", False),
        ("[::ffff:10.0.0.1]:9", False),
        ("127.0.0.1.example.com:1", False),
        ("localhost:1", False),
        ("nonsense", False),
    ],
)
def test_only_this_machine_is_this_machine(peer: str, here: bool) -> None:
    assert is_loopback(peer) is here
    token = CALL.set(Call(peer=peer))
    try:
        require_local(True)
        if here:
            require_local(False)
        else:
            with pytest.raises(RpcError) as caught:
                require_local(False)
            assert caught.value.code == -32601
    finally:
        CALL.reset(token)


def _other_address() -> str | None:
    """An address of this machine that is not loopback, if it has one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            address: str = probe.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


@pytest.mark.parametrize("anywhere", [False, True])
def test_operators_methods_refuse_callers_from_other_addresses(anywhere: bool) -> None:
    from zerog.client.transport import HttpTransport

    address = _other_address()
    if address is None:
        pytest.skip("this machine has no address beside loopback")
    options = {"storage.admin_anywhere": anywhere, "rpc.host": "0.0.0.0"}
    with Devnet(services=["storage", "miner"], options=options) as net:
        port = net.url.rsplit(":", 1)[1].rstrip("/")
        outside = HttpTransport(f"http://{address}:{port}", 10)
        assert outside.request("zgs_getStatus", [])["nextTxSeq"] == 0
        for method in ("admin_getPeers", "admin_startScrub", "miner_stop", "miner_status"):
            if anywhere:
                outside.request(method, [])
            else:
                with pytest.raises(RpcError) as caught:
                    outside.request(method, [])
                assert caught.value.code == -32601, method
        HttpTransport(f"http://127.0.0.1:{port}", 10).request("miner_status", [])


@pytest.fixture
def seq(net: Devnet) -> Iterator[int]:
    submit(net, File.of(pattern(600_000)))
    yield int(net.client.request("zgs_getStatus")["nextTxSeq"]) - 1


@pytest.mark.parametrize(
    ("method", "params", "result"),
    [
        ("admin_findFile", [0], None),
        ("admin_terminateSync", [0], False),
        ("admin_getSyncStatus", [0], "unknown"),
        ("admin_getSyncInfo", [], {}),
        ("admin_getSyncInfo", [0], {}),
        ("admin_getPeers", [], {}),
        ("admin_getFileLocation", [0], None),
        ("admin_getFileLocation", [0, True], None),
    ],
)
def test_a_node_alone_answers_for_itself(
    net: Devnet, seq: int, method: str, params: Any, result: Any
) -> None:
    assert net.client.request(method, *params) == result


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("admin_findFile", [7], (-32603, "Internal error", "tx not found")),
        ("admin_startSyncFile", [7], (-32603, "Internal error", "tx not found")),
        ("admin_startSyncFile", [0], (-32603, "Internal error", "this node has no peers to fetch from")),
        ("admin_startSyncChunks", [0, 3, 3], (-32602, "Invalid params: end_index", "invalid chunk index")),
        ("admin_startSyncChunks", [0, 0, 9999], (-32602, "Invalid params: end_index", "invalid chunk index")),
        ("admin_getFileLocation", [2**64 - 1], (-32603, "Internal error", "tx not found")),
    ],
)
def test_orders_that_make_no_sense_are_refused(
    net: Devnet, seq: int, method: str, params: Any, error: tuple[int, str, Any]
) -> None:
    with pytest.raises(RpcError) as caught:
        net.client.request(method, *params)
    assert (caught.value.code, caught.value.message, caught.value.data) == error


def test_metrics_are_gauges_chosen_by_prefix(net: Devnet, seq: int) -> None:
    every = net.client.request("admin_getMetrics")
    assert every["log_store_next_tx_seq"] == "gauge 1"
    assert all(value.startswith("gauge ") for value in every.values())
    chosen = net.client.request("admin_getMetrics", "log_store")
    assert chosen == {name: value for name, value in every.items() if name.startswith("log_store")} != {}
    head = int(net.client.request("eth_blockNumber"), 16)
    assert every["log_entry_sync_height"] == f"gauge {head}"


def test_shutdown_ends_the_program() -> None:
    from zerog.client.transport import HttpTransport
    from zerog.node.alone import ServerAlone
    from zerog.node.config import RpcSettings

    asked: list[bool] = []
    with Devnet(services=["storage"]) as net:
        alone = service.StorageService(
            lambda: HttpTransport(net.url, 10), FLOW, None, shutdown=lambda: asked.append(True)
        )
        server = ServerAlone([alone], RpcSettings(port=0)).start()
        try:
            assert HttpTransport(server.url, 10).request("admin_shutdown", []) is None
        finally:
            server.stop()
    assert asked == [True]
