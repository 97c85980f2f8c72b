"""The ``zgs_*`` methods, as 0G's storage node answers them."""

from __future__ import annotations

from typing import Any

from zerog import __version__
from zerog.chain.methods import Flag, MethodTable, Uint64
from zerog.errors import UnknownFile
from zerog.storage import frame, layout
from zerog.storage.api import wire
from zerog.storage.api.node import StorageNode
from zerog.storage.api.wire import Root, SegmentValue, SegmentValues, SeqOrRoot, hex_of
from zerog.storage.values import FileState, Submission

METHODS = MethodTable[StorageNode]()
PROTOCOL_VERSION = {"major": 0, "minor": 4, "build": 0}
SEGMENTS_ROUTE = "/zerog/segments"
PIECES = 64
"""Sealed pieces of 4 KiB in a load."""


@METHODS.handler("zgs_getStatus")
async def get_status(node: StorageNode) -> dict[str, Any]:
    store = node.store
    mark = store.progress()
    return {
        "connectedPeers": node.peers.connected(),
        "logSyncHeight": 0 if mark is None else mark.number,
        "logSyncBlock": hex_of(bytes(32) if mark is None else mark.hash),
        "nextTxSeq": store.next_seq(),
        "networkIdentity": {
            "chainId": node.network.chain_id,
            "flowAddress": node.network.flow,
            "p2pProtocolVersion": PROTOCOL_VERSION,
        },
        "zerog": {
            "version": __version__,
            "id": node.peers.identity,
            "segments": SEGMENTS_ROUTE,
            "shard": str(store.shard),
            "maxSegments": frame.MAX_SEGMENTS,
            "failure": node.sync.failure,
            "scrub": node.scrubber.report(),
        },
    }


# Uploading. Unit is `None`; how it is written depends on the client.


@METHODS.handler("zgs_uploadSegment")
async def upload_segment(node: StorageNode, segment: SegmentValue) -> None:
    await node.upload([segment], None)


@METHODS.handler("zgs_uploadSegmentByTxSeq")
async def upload_segment_by_seq(node: StorageNode, segment: SegmentValue, tx_seq: Uint64) -> None:
    await node.upload([segment], tx_seq)


@METHODS.handler("zgs_uploadSegments")
async def upload_segments(node: StorageNode, segments: SegmentValues) -> None:
    await node.upload(segments, None)


@METHODS.handler("zgs_uploadSegmentsByTxSeq")
async def upload_segments_by_seq(node: StorageNode, segments: SegmentValues, tx_seq: Uint64) -> None:
    await node.upload(segments, tx_seq)


# Downloading: what is unknown or not here is null, not an error.


async def _chunks(node: StorageNode, submission: Submission | None, start: int, end: int) -> str | None:
    data = None if submission is None else await node.chunks(submission, start, end)
    return None if data is None else wire.base64_of(data)


async def _segment(node: StorageNode, submission: Submission | None, index: int) -> dict[str, Any] | None:
    segment = None if submission is None else await node.segment(submission, index)
    if submission is None or segment is None:
        return None
    return wire.segment_json(submission, index, bytes(segment.data), segment.proof)


@METHODS.handler("zgs_downloadSegment")
async def download_segment(
    node: StorageNode, data_root: Root, start_index: Uint64, end_index: Uint64
) -> str | None:
    return await _chunks(node, await node.find(data_root, True), start_index, end_index)


@METHODS.handler("zgs_downloadSegmentByTxSeq")
async def download_segment_by_seq(
    node: StorageNode, tx_seq: Uint64, start_index: Uint64, end_index: Uint64
) -> str | None:
    return await _chunks(node, await node.by_seq(tx_seq), start_index, end_index)


@METHODS.handler("zgs_downloadSegmentWithProof")
async def download_segment_with_proof(
    node: StorageNode, data_root: Root, index: Uint64
) -> dict[str, Any] | None:
    return await _segment(node, await node.find(data_root, True), index)


@METHODS.handler("zgs_downloadSegmentWithProofByTxSeq")
async def download_segment_with_proof_by_seq(
    node: StorageNode, tx_seq: Uint64, index: Uint64
) -> dict[str, Any] | None:
    return await _segment(node, await node.by_seq(tx_seq), index)


# Files.


@METHODS.handler("zgs_getFileInfo")
async def get_file_info(
    node: StorageNode, data_root: Root, need_available: Flag | None = None
) -> dict[str, Any] | None:
    submission = await node.find(data_root, bool(need_available))
    return None if submission is None else node.info(submission)


@METHODS.handler("zgs_getFileInfoByTxSeq")
async def get_file_info_by_seq(node: StorageNode, tx_seq: Uint64) -> dict[str, Any] | None:
    submission = await node.by_seq(tx_seq)
    return None if submission is None else node.info(submission)


@METHODS.handler("zgs_checkFileFinalized")
async def check_file_finalized(node: StorageNode, tx_seq_or_root: SeqOrRoot) -> bool | None:
    if isinstance(tx_seq_or_root, bytes):
        submission = await node.find(tx_seq_or_root, False)
    else:
        submission = await node.by_seq(tx_seq_or_root)
    return None if submission is None else node.store.state(submission.seq) is FileState.FINALIZED


@METHODS.handler("zgs_getShardConfig")
async def get_shard_config(node: StorageNode) -> dict[str, int]:
    return wire.shard_json(node.store.shard)


# The flow.


@METHODS.handler("zgs_getFlowContext")
async def get_flow_context(node: StorageNode) -> list[Any]:
    return [hex_of(node.store.root()), node.store.length()]


@METHODS.handler("zgs_getSectorProof")
async def get_sector_proof(
    node: StorageNode, sector_index: Uint64, flow_root: Root | None = None
) -> dict[str, Any]:
    return wire.proof_json(await node.read(node.store.sector_proof, sector_index, flow_root))


@METHODS.handler("zgs_getHashAtNodeIndex")
async def get_hash_at_node_index(node: StorageNode, index: Uint64) -> str | None:
    root = await node.read(node.store.load_root, index) if index < 1 << 53 else None
    return None if root is None else hex_of(root)


@METHODS.handler("zgs_getDataByNodeIndex")
async def get_data_by_node_index(node: StorageNode, index: Uint64) -> list[list[int]] | None:
    """The known ranges of a load, each a list of byte values."""
    loaded = await node.read(node.store.read_load, index) if index < 1 << 53 else None
    if loaded is None:
        return None
    data, known = loaded
    ranges: list[list[int]] = []
    before = False
    for piece in range(PIECES):
        here = bool(known >> piece & 1)
        if here:
            part = data[piece * layout.SEAL : (piece + 1) * layout.SEAL]
            if before:
                ranges[-1].extend(part)
            else:
                ranges.append(list(part))
        before = here
    return ranges or None


@METHODS.handler("zgs_getMetaDataByNodeIndex")
async def get_meta_data_by_node_index(node: StorageNode, index: Uint64) -> str:
    if index * layout.SEGMENT_SECTORS >= node.store.length():
        raise UnknownFile(f"the flow has no load {index}")
    loaded = await node.read(node.store.read_load, index)
    known = 0 if loaded is None else loaded[1]
    return f"load {index}: {known.bit_count()} of {PIECES} pieces of 4096 bytes are here (mask {known:#018x})"
