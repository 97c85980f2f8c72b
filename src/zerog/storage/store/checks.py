"""What comes in is checked: submissions, segments, and that the directory is nobody else's."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from zerog import _native
from zerog.errors import DataDirError, DataDirLocked, SegmentRefused, StorageError
from zerog.storage import layout
from zerog.storage.store import shards
from zerog.storage.store.tree import fold
from zerog.storage.values import Segment, Submission


def verified(segment: Segment) -> bytes:
    """Root of a segment that passes all rules; raises `SegmentRefused`."""
    try:
        return _native.verify_segment(
            segment.root,
            segment.file_size,
            segment.index,
            segment.data,
            segment.proof.lemma,
            segment.proof.path,
        )
    except Exception as error:
        if getattr(error, "kind", None) != "segment":
            raise
        field, detail = getattr(error, "field", "proof"), getattr(error, "message", str(error))
        raise SegmentRefused(str(field), str(detail)) from error


def check_submission(submission: Submission) -> None:
    """A submission as the contract accepts it. Sizes that cannot be kept only move the flow."""
    heights = [node.height for node in submission.nodes]
    if fold(submission.nodes) != submission.root:
        raise StorageError(f"the nodes of submission {submission.seq} do not lead to its root")
    if shards.storable(submission) and layout.node_heights(submission.size) != heights:
        raise StorageError(f"the nodes of submission {submission.seq} do not fit its {submission.size} bytes")


def lock_directory(path: Path) -> int:
    """Descriptor of the lock of a directory, which is made; raises `DataDirLocked`, `DataDirError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise DataDirError(f"{path} cannot be used: {error}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise DataDirLocked(f"another process uses {path}") from error
    return file
