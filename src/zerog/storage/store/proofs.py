"""Proofs out of the flow tree."""

from __future__ import annotations

from collections.abc import Callable

from zerog import _native
from zerog._native import keccak256
from zerog.errors import CorruptDataDir, DataUnavailable
from zerog.storage import layout
from zerog.storage.layout import SECTOR, SEGMENT_HEIGHT, SEGMENT_SECTORS
from zerog.storage.store.index import REBUILD
from zerog.storage.store.tree import EMPTY, FIRST_LEAF, FlowTree, number, placed_nodes, siblings
from zerog.storage.values import FileProof, FlowProof, Segment, Submission

ReadSegment = Callable[[Submission, int], bytes | None]
"""Verified bytes of a segment, when it is here."""


def segment_proof(tree: FlowTree, submission: Submission, index: int) -> FileProof:
    """Proof of a segment that is here."""
    own = tree.segment_root(submission, index)
    total = layout.padded_segments(submission.size)
    if total == 1:
        return FileProof((submission.root,), ())
    value, lemma, path = own, [own], []
    for first, end, is_left in siblings(total, index):
        sibling = tree.range_root(submission, first, end)
        if sibling is None or value is None:
            value = None
            break
        value = keccak256(value + sibling if is_left else sibling + value)
        lemma.append(sibling)
        path.append(is_left)
    if value != submission.root:
        raise CorruptDataDir(
            f"the storage index cannot prove segment {index} of submission {submission.seq}", hint=REBUILD
        )
    return FileProof((*(item for item in lemma if item is not None), submission.root), tuple(path))


def learnt(submission: Submission, segment: Segment, root: bytes) -> list[tuple[int, bytes]]:
    """Hashes of subtrees of whole loads that a verified segment and its proof have taught."""
    size = submission.size
    whole = layout.padded_chunks(size) // SEGMENT_SECTORS
    if layout.padded_chunks(size) <= SEGMENT_SECTORS:
        return []
    base = submission.start // SEGMENT_SECTORS
    found = [(number(SEGMENT_HEIGHT, base + segment.index), root)] if segment.index < whole else []
    ranges = siblings(layout.padded_segments(size), segment.index)
    for (first, end, _), value in zip(ranges, segment.proof.lemma[1:-1], strict=True):
        count = end - first
        if end <= whole and count & (count - 1) == 0:
            height = SEGMENT_HEIGHT + count.bit_length() - 1
            found.append((number(height, (base + first) >> (height - SEGMENT_HEIGHT)), value))
    return found


def sector_proof(tree: FlowTree, read: ReadSegment, sector: int, length: int, root: bytes) -> FlowProof:
    """Proof of a sector in the flow of ``length`` sectors, whose root is ``root``."""
    if not 0 <= sector < length:
        raise DataUnavailable(f"sector {sector} is beyond the flow, which has {length}")
    leaf, lower = _inside(tree, read, sector, length)
    lemma, path = [leaf], []
    value = leaf
    for height in range((length - 1).bit_length()):
        position = sector >> height
        sibling = lower[height] if height < len(lower) else tree.hash(height, position ^ 1, length)
        if sibling is None:
            raise DataUnavailable(f"the hashes beside sector {sector} are not here")
        is_left = position & 1 == 0
        value = keccak256(value + sibling if is_left else sibling + value)
        lemma.append(sibling)
        path.append(is_left)
    if value != root:
        raise CorruptDataDir(f"the storage index cannot prove sector {sector} of the flow", hint=REBUILD)
    return FlowProof((*lemma, root), tuple(path))


def _inside(tree: FlowTree, read: ReadSegment, sector: int, length: int) -> tuple[bytes, list[bytes]]:
    """Leaf of a sector, and its siblings as far as they lie inside its submission node and load."""
    if sector == 0:
        return FIRST_LEAF, []
    load = sector // SEGMENT_SECTORS
    for submission in tree.load_submissions(load, length):
        for first, height, _ in placed_nodes(submission):
            if first <= sector < first + (1 << height):
                return _within_node(
                    tree, read, submission, sector, max(first, load * SEGMENT_SECTORS), height
                )
    return EMPTY[0], []


def _within_node(
    tree: FlowTree, read: ReadSegment, submission: Submission, sector: int, base: int, height: int
) -> tuple[bytes, list[bytes]]:
    """``base``: the first sector of the node, or of the load inside a larger one."""
    count = 1 << min(height, SEGMENT_HEIGHT)
    offset = base - submission.start
    index = offset // SEGMENT_SECTORS
    data: bytes | None = b""
    if offset < layout.chunks(submission.size):
        segment = read(submission, index)
        skipped = (offset - index * SEGMENT_SECTORS) * SECTOR
        data = None if segment is None else segment[skipped : skipped + count * SECTOR]
    elif (
        count == SEGMENT_SECTORS and tree.hash(SEGMENT_HEIGHT, base // SEGMENT_SECTORS, base + count) is None
    ):
        data = None
    if data is None:
        raise DataUnavailable(f"sector {sector} of submission {submission.seq} is not here")
    if count == 1:
        return (_native.merkle_root(data, 1) if data else EMPTY[0]), []
    levels = _native.subtree_roots(data, count)
    at, start, width, found = sector - base, 0, count, []
    leaf = levels[32 * at : 32 * at + 32]
    while width > 1:
        place = 32 * (start + (at ^ 1))
        found.append(levels[place : place + 32])
        start, width, at = start + width, width >> 1, at >> 1
    return leaf, found
