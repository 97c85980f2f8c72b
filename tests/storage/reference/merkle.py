"""Merkle rules of files in plain Python: the oracle beside the native kernels.

Written from the rules (specification of the 0G storage node), on single keccak calls; slow on purpose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from zerog._native import keccak256
from zerog.storage import layout
from zerog.storage.values import FileProof, Segment, SubmissionNode

EMPTY: list[bytes] = [keccak256(bytes(layout.SECTOR))]
while len(EMPTY) < 64:
    EMPTY.append(keccak256(EMPTY[-1] * 2))


def prng(size: int) -> bytes:
    """The first ``size`` bytes of SHA-256(u64be(0)) || SHA-256(u64be(1)) || …, as in the vectors."""
    blocks = (hashlib.sha256(i.to_bytes(8, "big")).digest() for i in range(-(-size // 32)))
    return b"".join(blocks)[:size]


def mod251(size: int) -> bytes:
    """Byte i is i modulo 251, as in the vectors."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def tree(hashes: Sequence[bytes]) -> bytes:
    """Carry-up tree: neighbours pair level by level, an odd last node rises unchanged."""
    level = list(hashes)
    while len(level) > 1:
        paired = [keccak256(level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]


def leaves(data: bytes) -> list[bytes]:
    """Hashes of the 256-byte chunks, the last one filled with zeros."""
    return [
        keccak256(data[at : at + layout.SECTOR].ljust(layout.SECTOR, b"\0"))
        for at in range(0, len(data), layout.SECTOR)
    ]


def merkle_root(data: bytes, count: int = 0) -> bytes:
    """Root over the chunks of ``data``, extended to ``count`` leaves with empty ones."""
    hashes = leaves(bytes(data))
    return tree(hashes + [EMPTY[0]] * (count - len(hashes)))


def subtree_roots(data: bytes, count: int) -> bytes:
    """All levels of the perfect tree over ``count`` leaves, bottom first, concatenated."""
    level = leaves(bytes(data)) if len(data) else []
    level += [EMPTY[0]] * (count - len(level))
    out = [b"".join(level)]
    while len(level) > 1:
        level = [keccak256(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
        out.append(b"".join(level))
    return b"".join(out)


def segment_roots(data: bytes) -> list[bytes]:
    """Roots of the segments of the padded file."""
    hashes = leaves(data)
    hashes += [EMPTY[0]] * (layout.padded_chunks(len(data)) - len(hashes))
    step = layout.SEGMENT_SECTORS
    return [tree(hashes[at : at + step]) for at in range(0, len(hashes), step)]


def nodes(data: bytes) -> tuple[SubmissionNode, ...]:
    """Submission nodes of a file."""
    hashes = leaves(data)
    hashes += [EMPTY[0]] * (layout.padded_chunks(len(data)) - len(hashes))
    found, at = [], 0
    for height in layout.node_heights(len(data)):
        found.append(SubmissionNode(tree(hashes[at : at + (1 << height)]), height))
        at += 1 << height
    return tuple(found)


def fold(found: Sequence[SubmissionNode]) -> bytes:
    """File root from its submission nodes."""
    root = found[-1].root
    for node in reversed(found[:-1]):
        root = keccak256(node.root + root)
    return root


def file_root(data: bytes) -> bytes:
    """Root of a file."""
    return tree(segment_roots(data))


def file_proof(roots: Sequence[bytes], index: int) -> FileProof:
    """Proof of segment ``index`` among the segment roots of a padded file."""
    if len(roots) == 1:
        return FileProof((roots[0],), ())
    lemma, path = [roots[index]], []
    level, at = list(roots), index
    while len(level) > 1:
        if at ^ 1 < len(level):
            lemma.append(level[at ^ 1])
            path.append(at % 2 == 0)
        paired = [keccak256(level[i] + level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
        at //= 2
    return FileProof((*lemma, level[0]), tuple(path))


def next_power(count: int) -> int:
    """Smallest power of two that is not below ``count``."""
    return 1 << (count - 1).bit_length()


def position(total: int, path: Sequence[bool]) -> int | None:
    """Leaf that a path leads to in a tree of ``total`` leaves; ``None`` when it leads to none."""
    left, at = total, 0
    for is_left in reversed(path):
        half = next_power(left) >> 1
        if half == 0:
            return None
        if is_left:
            left = half
        else:
            at, left = at + half, left - half
    return at if left == 1 else None


def proof_holds(proof: FileProof, leaf: bytes, root: bytes) -> bool:
    """Whether the hashes of a proof lead from ``leaf`` to ``root``."""
    lemma, path = proof.lemma, proof.path
    if len(lemma) != (1 if not path and len(lemma) == 1 else len(path) + 2):
        return False
    value = leaf
    for sibling, is_left in zip(lemma[1:-1], path, strict=True):
        value = keccak256(value + sibling if is_left else sibling + value)
    return lemma[0] == leaf and value == root == lemma[-1]


class Refused(Exception):
    """A segment that breaks a rule; shaped like the native error."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.kind, self.field, self.message = "segment", field, message


def verify_segment(
    root: bytes, file_size: int, index: int, data: bytes, lemma: Sequence[bytes], path: Sequence[bool]
) -> bytes:
    """All rules of a segment with its proof; its root, or `Refused`."""
    if file_size == 0:
        raise Refused("file_size", "file is empty")
    if not 0 <= index < layout.segments(file_size):
        raise Refused("index", "index out of bound")
    if len(data) != layout.segment_chunks(file_size, index) * layout.SECTOR:
        raise Refused("data", "invalid data length")
    found = merkle_root(data, layout.padded_segment_chunks(file_size, index))
    total = layout.padded_segments(file_size)
    proof = FileProof(tuple(lemma), tuple(path))
    if position(total, path) != index or not proof_holds(proof, found, root):
        raise Refused("proof", "validation failed")
    left, at = total, 0
    spans: list[tuple[int, int]] = []
    for is_left in reversed(path):
        half = next_power(left) >> 1
        spans.append((at + half, at + left) if is_left else (at, at + half))
        at, left = (at, half) if is_left else (at + half, left - half)
    for sibling, (first, end) in zip(lemma[1:-1], reversed(spans), strict=True):
        if first >= layout.segments(file_size):
            chunks = [EMPTY[0]] * sum(layout.padded_segment_chunks(file_size, i) for i in range(first, end))
            if sibling != tree(chunks):
                raise Refused("proof", "invalid proof node value in the padding range")
    return found


def segments_of(data: bytes) -> list[Segment]:
    """The segments of a file with their proofs, as a client sends them."""
    roots = segment_roots(data)
    root = tree(roots)
    found = []
    for index in range(layout.segments(len(data))):
        piece = data[index * layout.SEGMENT : (index + 1) * layout.SEGMENT]
        piece = piece.ljust(layout.segment_chunks(len(data), index) * layout.SECTOR, b"\0")
        found.append(Segment(root, index, piece, file_proof(roots, index), len(data)))
    return found
