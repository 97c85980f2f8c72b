"""A flow in memory, as replay sees it."""

from __future__ import annotations

from collections.abc import Sequence

from zerog.storage import layout
from zerog.storage.kv.stream import StreamData, tags_of
from zerog.storage.values import BlockMark, Submission, SubmissionNode

ALICE, BOB, CAROL = b"\xaa" * 20, b"\xbb" * 20, b"\xcc" * 20
STREAM, OTHER = bytes(30) + b"\xf2\xbd", b"\x07" * 32


class MemoryFlow:
    """Submissions with their contents; a content may come later, or be dropped."""

    def __init__(self) -> None:
        self.entries: list[Submission] = []
        self.contents: dict[int, bytes] = {}
        self.reads = 0

    def next_seq(self) -> int:
        return len(self.entries)

    def submission(self, seq: int) -> Submission | None:
        return self.entries[seq] if seq < len(self.entries) else None

    def submissions(self, first: int, limit: int) -> list[Submission]:
        return self.entries[first : first + limit]

    def read_chunks(self, seq: int, start: int, end: int) -> bytes | None:
        self.reads += 1
        content = self.contents.get(seq)
        if content is None:
            return None
        assert end - start <= layout.SEGMENT_SECTORS
        piece = content[start * 256 : end * 256]
        return piece.ljust((end - start) * 256, b"\0")

    def submit(
        self, content: bytes, tags: bytes = b"", sender: bytes = ALICE, *, here: bool = True, salt: int = 0
    ) -> int:
        """Adds a submission; its sequence number."""
        seq = len(self.entries)
        root = (hash((content, salt)) & (2**64 - 1)).to_bytes(32, "big")
        nodes = tuple(SubmissionNode(root, height) for height in layout.node_heights(len(content)))
        mark = BlockMark(seq, bytes(32))
        self.entries.append(
            Submission(
                seq, root, len(content), 1024 * seq, nodes, tags, sender, mark, salt.to_bytes(32, "big")
            )
        )
        if here:
            self.contents[seq] = content
        return seq

    def write(
        self,
        data: StreamData,
        sender: bytes = ALICE,
        *,
        tags: Sequence[bytes] | None = None,
        here: bool = True,
    ) -> int:
        """Submits stream data with its tags (or those of other streams)."""
        return self.submit(
            data.encode(), tags_of(data.streams() if tags is None else tags), sender, here=here
        )

    def cut(self, seq: int) -> None:
        """Forgets everything from ``seq`` on."""
        del self.entries[seq:]
        self.contents = {number: data for number, data in self.contents.items() if number < seq}
