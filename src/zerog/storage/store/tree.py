"""The Merkle tree of the flow, from the hashes that are final.

Known are: the nodes of every submission; every closed subtree of whole loads above them; and inside the nodes
what proofs have taught, that is segment roots and their siblings. A hash is asked for *at a length*: sectors
from that length on are empty, so that roots and proofs of earlier flows come out of the same table.

Subtrees of whole loads are numbered in order (as in an in-order walk): leaf ``p`` is ``2p+1``, a node stands
between its children. Neighbours in the flow are thereby neighbours in the table.
"""

from __future__ import annotations

from collections.abc import Sequence

from zerog._native import keccak256
from zerog.errors import CorruptDataDir
from zerog.storage import layout
from zerog.storage.layout import SEGMENT_HEIGHT, SEGMENT_SECTORS
from zerog.storage.store.index import REBUILD, Index
from zerog.storage.values import Submission, SubmissionNode


def _empty_roots() -> list[bytes]:
    roots = [keccak256(bytes(layout.SECTOR))]
    while len(roots) <= layout.MAX_HEIGHT:
        roots.append(keccak256(roots[-1] * 2))
    return roots


EMPTY = _empty_roots()
"""Root of ``2**height`` empty sectors, by height."""

FIRST_LEAF = bytes(32)
"""Leaf of sector 0: not the hash of anything, so that no data can stand there."""

Node = tuple[int, int, bytes]
"""First sector, height, hash."""


def number(height: int, position: int) -> int:
    """In-order number of a subtree of whole loads (``height`` from 10 on)."""
    return (2 * position + 1) << (height - SEGMENT_HEIGHT)


def crossing(load: int) -> list[int]:
    """Numbers below ``2*load`` of the subtrees that hold ``load`` and something before it."""
    found = []
    for level in range(1, layout.MAX_HEIGHT - SEGMENT_HEIGHT + 1):
        own = (2 * (load >> level) + 1) << level
        if own < 2 * load:
            found.append(own)
    return found


def placed_nodes(submission: Submission) -> list[Node]:
    """The nodes of a submission with their first sectors."""
    found, at = [], submission.start
    for node in submission.nodes:
        found.append((at, node.height, node.root))
        at += 1 << node.height
    return found


def fold(nodes: Sequence[SubmissionNode]) -> bytes:
    """Root of a file, or of its tail, from submission nodes."""
    root = nodes[-1].root
    for node in reversed(nodes[:-1]):
        root = keccak256(node.root + root)
    return root


class Peaks:
    """The growing edge of the flow: the perfect subtrees that make up its sectors, largest first."""

    def __init__(self, nodes: list[Node] | None = None) -> None:
        self.nodes: list[Node] = [(0, 0, FIRST_LEAF)] if nodes is None else nodes

    @property
    def length(self) -> int:
        """Sectors of the flow."""
        first, height, _ = self.nodes[-1]
        return first + (1 << height)

    def copy(self) -> Peaks:
        """An independent copy."""
        return Peaks(list(self.nodes))

    def append(self, nodes: Sequence[SubmissionNode]) -> tuple[int, list[tuple[int, bytes]]]:
        """Adds a submission: its first sector, and the closed subtrees of whole loads (number, hash)."""
        start, _ = layout.place(self.length, [node.height for node in nodes])
        closed: list[tuple[int, bytes]] = []
        while self.length < start:
            free = start - self.length
            height = min((self.length & -self.length).bit_length(), free.bit_length()) - 1
            self._push(height, EMPTY[height], closed)
        for node in nodes:
            self._push(node.height, node.root, closed)
        return start, closed

    def _push(self, height: int, value: bytes, closed: list[tuple[int, bytes]]) -> None:
        first = self.length
        while True:
            if height >= SEGMENT_HEIGHT:
                closed.append((number(height, first >> height), value))
            if not self.nodes or self.nodes[-1][1] != height:
                break
            first, _, left = self.nodes.pop()
            value = keccak256(left + value)
            height += 1
        self.nodes.append((first, height, value))

    def root(self) -> bytes:
        """Root of the flow."""
        _, height, value = self.nodes[-1]
        for _, above, left in reversed(self.nodes[:-1]):
            while height < above:
                value = keccak256(value + EMPTY[height])
                height += 1
            value = keccak256(left + value)
            height += 1
        return value


class FlowTree:
    """Hashes of subtrees of the flow, and of ranges of segments of a file."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def peaks(self, length: int) -> Peaks:
        """The edge of the flow at a length at which a submission ended."""
        nodes, first = [], 0
        for height in reversed(range(length.bit_length())):
            if length >> height & 1:
                value = self.hash(height, first >> height, length)
                if value is None:
                    raise CorruptDataDir(
                        f"the storage index lacks the subtree at sector {first}", hint=REBUILD
                    )
                nodes.append((first, height, value))
                first += 1 << height
        return Peaks(nodes)

    def hash(self, height: int, position: int, length: int) -> bytes | None:
        """Hash of a subtree of the flow at a length; ``None`` inside a node whose data is not known."""
        first = position << height
        if first >= length:
            return EMPTY[height]
        if height < SEGMENT_HEIGHT:
            return hash_within(self.load_nodes(first // SEGMENT_SECTORS, length), first, height)
        end = first + (1 << height)
        if end <= length:
            known = self._index.tree_hash(number(height, position))
            if known is not None:
                return known
        before = self._index.at_or_before(first)
        if before is not None and before.start < length:
            for at, size, _ in placed_nodes(before):
                if at <= first < at + (1 << size) and size > height:
                    return self.padding(height, position, size)
        if height == SEGMENT_HEIGHT:
            return hash_within(self.load_nodes(first // SEGMENT_SECTORS, length), first, height)
        occupied = first == 0 or (
            before is not None and before.start < length and before.start + before.sectors > first
        )
        if not occupied and not self._index.starting(first, min(end, length), 1):
            return EMPTY[height]
        left = self.hash(height - 1, 2 * position, length)
        right = self.hash(height - 1, 2 * position + 1, length)
        return None if left is None or right is None else keccak256(left + right)

    def padding(self, height: int, position: int, top: int) -> bytes | None:
        """The empty root when a subtree above it, up to height ``top``, is known to be empty."""
        for above in range(height + 1, top + 1):
            if self._index.tree_hash(number(above, position >> (above - height))) == EMPTY[above]:
                return EMPTY[height]
        return None

    def load_nodes(self, load: int, length: int) -> list[Node]:
        """Submission nodes that touch a load, in order (the raw leaf of sector 0 included)."""
        first, end = load * SEGMENT_SECTORS, (load + 1) * SEGMENT_SECTORS
        found: list[Node] = [] if load else [(0, 0, FIRST_LEAF)]
        for submission in self.load_submissions(load, length):
            found += [n for n in placed_nodes(submission) if n[0] < end and n[0] + (1 << n[1]) > first]
        return found

    def load_submissions(self, load: int, length: int) -> list[Submission]:
        """Submissions that touch a load of a flow of ``length`` sectors."""
        first, end = load * SEGMENT_SECTORS, min((load + 1) * SEGMENT_SECTORS, length)
        if end <= first:
            return []
        before = self._index.at_or_before(first)
        found = [] if before is None or before.start + before.sectors <= first else [before]
        return found + self._index.starting(first + 1, end, SEGMENT_SECTORS)

    def segment_root(self, submission: Submission, segment: int) -> bytes | None:
        """Root of a segment of the padded file; ``None`` when nobody has proved it yet."""
        total = layout.padded_chunks(submission.size)
        if total <= SEGMENT_SECTORS:
            return submission.root
        if layout.padded_segment_chunks(submission.size, segment) < SEGMENT_SECTORS:
            return fold([node for node in submission.nodes if node.height < SEGMENT_HEIGHT])
        return self._index.tree_hash(number(SEGMENT_HEIGHT, submission.start // SEGMENT_SECTORS + segment))

    def range_root(self, submission: Submission, first: int, end: int) -> bytes | None:
        """Root over segments ``[first, end)`` that are a subtree of the file's tree."""
        count = end - first
        if count == 1:
            return self.segment_root(submission, first)
        whole = layout.padded_chunks(submission.size) // SEGMENT_SECTORS
        if count & (count - 1) or end > whole:
            # Only the right edge of a file is not perfect, and it consists of whole submission nodes.
            at = submission.start + first * SEGMENT_SECTORS
            placed = placed_nodes(submission)
            return fold([n for n, p in zip(submission.nodes, placed, strict=True) if p[0] >= at])
        height = SEGMENT_HEIGHT + count.bit_length() - 1
        position = submission.start // SEGMENT_SECTORS + first >> (height - SEGMENT_HEIGHT)
        return self._index.tree_hash(number(height, position))


def hash_within(nodes: list[Node], first: int, height: int) -> bytes | None:
    """Hash of a subtree inside a load from the nodes there; ``None`` inside a node."""
    end = first + (1 << height)
    inside = [node for node in nodes if node[0] < end and node[0] + (1 << node[1]) > first]
    if not inside:
        return EMPTY[height]
    if inside[0][1] >= height:
        return inside[0][2] if inside[0][1] == height else None
    half = 1 << (height - 1)
    left, right = hash_within(inside, first, height - 1), hash_within(inside, first + half, height - 1)
    return None if left is None or right is None else keccak256(left + right)


def siblings(total: int, index: int) -> list[tuple[int, int, bool]]:
    """Ranges of the siblings of segment ``index`` among ``total``, bottom first; true: the segment is left."""
    found, at, left = [], 0, total
    while left > 1:
        half = 1 << ((left - 1).bit_length() - 1)
        if index < at + half:
            found.append((at + half, at + left, True))
            left = half
        else:
            found.append((at, at + half, False))
            at, left = at + half, left - half
    return found[::-1]
