"""The flow as one perfect tree over all its sectors, in plain Python: the oracle of flow roots and proofs."""

from __future__ import annotations

from collections.abc import Sequence

from tests.storage.reference.merkle import EMPTY

from zerog._native import keccak256
from zerog.storage import layout
from zerog.storage.values import FlowProof, SubmissionNode


class ReferenceFlow:
    """Keeps every placed node; recomputes roots from nothing each time."""

    def __init__(self) -> None:
        self.length = 1
        self.placed: list[tuple[int, int, bytes]] = [(0, 0, bytes(32))]
        """First sector, height, hash; sector 0 is 32 zero bytes, not a hash of data."""

    def append(self, nodes: Sequence[SubmissionNode]) -> int:
        """Places a submission; its first sector."""
        start, length = layout.place(self.length, [node.height for node in nodes])
        at = start
        for node in nodes:
            self.placed.append((at, node.height, node.root))
            at += 1 << node.height
        assert at == length
        self.length = length
        return start

    def root(self, length: int | None = None) -> bytes:
        """Root of the flow when it had ``length`` sectors."""
        length = self.length if length is None else length
        return self.subtree(0, (length - 1).bit_length(), length)

    def subtree(self, first: int, height: int, length: int) -> bytes:
        """Hash of the subtree over ``2**height`` sectors from ``first`` on."""
        end = first + (1 << height)
        inside = [p for p in self.placed if p[0] < min(end, length) and p[0] + (1 << p[1]) > first]
        if not inside:
            return EMPTY[height]
        if inside[0][:2] == (first, height):
            return inside[0][2]
        assert inside[0][1] < height, "the inner hashes of a node need its data"
        half = 1 << (height - 1)
        left = self.subtree(first, height - 1, length)
        return keccak256(left + self.subtree(first + half, height - 1, length))


def flow_proof_holds(proof: FlowProof, sector: int, leaf: bytes, root: bytes, length: int) -> bool:
    """Whether a proof leads from the leaf at ``sector`` to the root of a flow of ``length`` sectors."""
    if len(proof.lemma) != len(proof.path) + 2 or len(proof.path) != (length - 1).bit_length():
        return False
    if sum(1 << level for level, is_left in enumerate(proof.path) if not is_left) != sector:
        return False
    value = leaf
    for sibling, is_left in zip(proof.lemma[1:-1], proof.path, strict=True):
        value = keccak256(value + sibling if is_left else sibling + value)
    return proof.lemma[0] == leaf and value == root == proof.lemma[-1]
