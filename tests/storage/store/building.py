"""Files, submissions and stores for tests."""

from __future__ import annotations

from dataclasses import dataclass

from tests.storage.reference.flow import ReferenceFlow

from zerog import _native
from zerog.storage import layout
from zerog.storage.store import FlowStore
from zerog.storage.values import BlockMark, FileProof, Segment, Submission, SubmissionNode

BLOCK = BlockMark(7, b"\x07" * 32)


@dataclass(frozen=True)
class File:
    """A file with everything a client computes of it."""

    data: bytes
    root: bytes
    nodes: tuple[SubmissionNode, ...]
    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, data: bytes) -> File:
        """Computes roots and proofs (natively; the kernels have their own tests against the oracle)."""
        tree = _native.FileTree.from_bytes(data)
        size, segments = len(data), []
        for index in range(layout.segments(size)):
            lemma, path = tree.proof(index)
            piece = data[index * layout.SEGMENT : (index + 1) * layout.SEGMENT]
            piece = piece.ljust(layout.segment_chunks(size, index) * layout.SECTOR, b"\0")
            segments.append(Segment(tree.root, index, piece, FileProof(tuple(lemma), tuple(path)), size))
        nodes = tuple(SubmissionNode(root, height) for root, height in tree.nodes)
        return cls(data, tree.root, nodes, tuple(segments))


class Chain:
    """Places files as the contract does; the oracle of positions and roots."""

    def __init__(self) -> None:
        self.flow = ReferenceFlow()
        self.submissions: list[Submission] = []
        self.roots: list[bytes] = []

    def submit(self, file: File) -> Submission:
        """The submission of a file."""
        start = self.flow.append(file.nodes)
        seq = len(self.submissions)
        submission = Submission(
            seq,
            file.root,
            len(file.data),
            start,
            file.nodes,
            b"tags",
            b"\x01" * 20,
            BLOCK,
            seq.to_bytes(32, "big"),
        )
        self.submissions.append(submission)
        self.roots.append(self.flow.root())
        return submission

    def revert(self, count: int) -> None:
        """Keeps the first ``count`` submissions."""
        kept = self.submissions[:count]
        self.flow = ReferenceFlow()
        for submission in kept:
            self.flow.append(submission.nodes)
        self.submissions, self.roots = kept, self.roots[:count]


def read_back(store: FlowStore, seq: int) -> bytes:
    """The whole file, padded to chunks."""
    submission = store.submission(seq)
    assert submission is not None
    pieces = []
    for index in range(submission.segments):
        piece = store.read_segment(seq, index)
        assert piece is not None, f"segment {index} of submission {seq} is not here"
        pieces.append(piece)
    return b"".join(pieces)[: submission.size]
