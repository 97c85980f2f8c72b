"""The ``admin_*`` methods: what the node knows of its peers, and orders to it.

They are for the operator: only connections from this machine may call them, unless the configuration says
otherwise.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zerog.chain.methods import Flag, MethodTable, Uint64
from zerog.errors import RpcError, SegmentRefused
from zerog.storage import layout
from zerog.storage.api.node import StorageNode, internal_error
from zerog.storage.guard import METHOD_NOT_FOUND
from zerog.storage.values import Submission


@dataclass(frozen=True, slots=True)
class Operator:
    """What the operator's methods act on; ``shutdown`` ends the program."""

    node: StorageNode
    shutdown: Callable[[], None] | None = None


METHODS = MethodTable[Operator]()


async def _known(operator: Operator, seq: int) -> Submission:
    submission = await operator.node.by_seq(seq)
    if submission is None:
        raise internal_error("tx not found")
    return submission


@METHODS.handler("admin_findFile")
async def find_file(operator: Operator, tx_seq: Uint64) -> None:
    await _known(operator, tx_seq)
    await operator.node.peers.find_file(tx_seq)


@METHODS.handler("admin_startSyncFile")
async def start_sync_file(operator: Operator, tx_seq: Uint64) -> None:
    await _known(operator, tx_seq)
    await operator.node.peers.start_sync_file(tx_seq)


@METHODS.handler("admin_startSyncChunks")
async def start_sync_chunks(
    operator: Operator, tx_seq: Uint64, start_index: Uint64, end_index: Uint64
) -> None:
    submission = await _known(operator, tx_seq)
    if not start_index < end_index <= layout.chunks(submission.size):
        raise SegmentRefused("end_index", "invalid chunk index")
    await operator.node.peers.start_sync_chunks(tx_seq, start_index, end_index)


@METHODS.handler("admin_terminateSync")
async def terminate_sync(operator: Operator, tx_seq: Uint64) -> bool:
    return await operator.node.peers.terminate_sync(tx_seq)


@METHODS.handler("admin_getSyncServiceState")
async def get_sync_service_state(operator: Operator) -> dict[str, Any]:
    return operator.node.peers.sync_state()


@METHODS.handler("admin_getSyncStatus")
async def get_sync_status(operator: Operator, tx_seq: Uint64) -> str:
    return operator.node.peers.sync_status(tx_seq)


@METHODS.handler("admin_getSyncInfo")
async def get_sync_info(operator: Operator, tx_seq: Uint64 | None = None) -> dict[str, Any]:
    return operator.node.peers.sync_info(tx_seq)


@METHODS.handler("admin_getNetworkInfo")
async def get_network_info(operator: Operator) -> dict[str, Any]:
    return operator.node.peers.network_info()


@METHODS.handler("admin_getPeers")
async def get_peers(operator: Operator) -> dict[str, Any]:
    return operator.node.peers.peers()


@METHODS.handler("admin_getFileLocation")
async def get_file_location(
    operator: Operator, tx_seq: Uint64, all_shards: Flag | None = None
) -> list[dict[str, Any]] | None:
    await _known(operator, tx_seq)
    return await operator.node.peers.file_location(tx_seq, bool(all_shards))


@METHODS.handler("admin_getMetrics")
async def get_metrics(operator: Operator, maybe_prefix: Any = None) -> dict[str, str]:
    node = operator.node
    mark = node.store.progress()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    values: dict[str, int] = {
        "log_entry_sync_height": 0 if mark is None else mark.number,
        "log_entry_sync_head": node.sync.head,
        "log_store_next_tx_seq": node.store.next_seq(),
        "log_store_flow_length": node.store.length(),
        "chunk_pool_bytes": node.pool.size,
        "network_peers_connected": node.peers.connected(),
        "scrub_checked_segments": node.store.scrubbed,
        "scrub_last_complete_time": int(node.store.last_scrub or 0),
        "scrub_damaged_segments": len(node.store.damaged()),
        # Kilobytes on Linux, bytes on macOS.
        "process_peak_memory_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    if isinstance(maybe_prefix, str):
        values = {name: value for name, value in values.items() if name.startswith(maybe_prefix)}
    return {name: f"gauge {value}" for name, value in values.items()}


@METHODS.handler("admin_startScrub")
async def start_scrub(operator: Operator) -> None:
    """Not a method of 0G's node: has a round of the scrub begin now."""
    operator.node.scrubber.start_round()


@METHODS.handler("admin_getScrub")
async def get_scrub(operator: Operator) -> dict[str, Any]:
    """Not a method of 0G's node: how the scrub stands, and where damage is."""
    return operator.node.scrubber.report()


@METHODS.handler("admin_shutdown")
async def shutdown(operator: Operator) -> None:
    if operator.shutdown is None:
        raise RpcError(METHOD_NOT_FOUND, "Not supported")
    operator.shutdown()
