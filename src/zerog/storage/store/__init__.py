"""The store of a node: the flow of submissions, and the segments that this node keeps.

Two phases. ``append`` takes submissions from the chain: from then on the flow tree has their roots.
``put_segment`` takes data: checked against the root, written to the flow's address space, then indexed. Data
without an index row is not there; an index row without data cannot be, whatever moment the process dies.

::

    store = FlowStore.open(Path("storage"), ShardConfig.parse("0/1"))
    store.append([submission], BlockMark(number, block_hash))
    final = store.put_segments(submission.seq, segments)
    store.read_chunks(submission.seq, 0, 1024)
"""

from zerog.storage.store.flow_store import FlowStore
from zerog.storage.store.reports import (
    Appended,
    Damaged,
    Finalized,
    Place,
    Reverted,
    ScrubReport,
    Statistics,
    StoreEvent,
)

__all__ = [
    "Appended",
    "Damaged",
    "Finalized",
    "FlowStore",
    "Place",
    "Reverted",
    "ScrubReport",
    "Statistics",
    "StoreEvent",
]
