"""How a file becomes sectors, segments and Merkle nodes, and where it lands in the flow.

Pure functions over integers and bytes; the rules are those of the 0G storage contracts and node.

A file of ``size`` bytes is cut into *chunks* of 256 bytes (the flow calls them *sectors*); the last one is
filled with zeros. The chunk count is rounded up to the *padded* count, so that the file is a sum of few
perfect subtrees, the *submission nodes*. 1,024 chunks are a *segment*, the unit of transfer and of proofs.

::

    chunks(600_000), padded_chunks(600_000)      # 2344, 2560
    node_heights(600_000)                        # [11, 9]
    place(1, [11, 9])                            # (2048, 4608): first sector, length of the flow after it
"""

from __future__ import annotations

from collections.abc import Sequence

SECTOR = 256
"""Bytes of a chunk, which is also the unit of the flow."""
SEGMENT_SECTORS = 1024
"""Chunks of a segment (the flow's "load")."""
SEGMENT = SECTOR * SEGMENT_SECTORS
"""Bytes of a full segment."""
SEGMENT_HEIGHT = 10
"""Height of the perfect tree over a full segment."""
SEAL_SECTORS = 16
"""Sectors of a sealed piece."""
SEAL = SECTOR * SEAL_SECTORS
"""Bytes of a sealed piece."""
MAX_HEIGHT = 64
"""Heights of submission nodes stay below this."""
MAX_HEIGHT_SPREAD = 4
"""The first and the last node of a submission differ by less than this in height."""
MAX_FILE_SIZE = 1 << 46
"""Largest file that is accepted, bytes (64 TiB): keeps every computation far from its limits."""


def chunks(size: int) -> int:
    """Chunks that hold ``size`` bytes; ``size`` from 1 on, else `ValueError`."""
    if not 1 <= size <= MAX_FILE_SIZE:
        raise ValueError(f"a file has from 1 to {MAX_FILE_SIZE} bytes, not {size}")
    return -(-size // SECTOR)


def padded_chunks(size: int) -> int:
    """Chunks with the padding that the flow adds (at most one eighth)."""
    count = chunks(size)
    power = 1 << (count - 1).bit_length()
    unit = 1 if power < 16 else power >> 4
    return power if power == count else -(-count // unit) * unit


def segments(size: int) -> int:
    """Segments that carry data of the file: those that are uploaded."""
    return -(-size // SEGMENT) if chunks(size) else 0


def padded_segments(size: int) -> int:
    """Segments of the padded file: leaves of the tree over segment roots. The ones beyond `segments` are zeros."""
    return -(-padded_chunks(size) // SEGMENT_SECTORS)


def segment_chunks(size: int, index: int) -> int:
    """Chunks of segment ``index`` as it travels (without the flow's padding)."""
    return min(SEGMENT_SECTORS, chunks(size) - index * SEGMENT_SECTORS)


def padded_segment_chunks(size: int, index: int) -> int:
    """Chunks of segment ``index`` in the padded file."""
    return min(SEGMENT_SECTORS, padded_chunks(size) - index * SEGMENT_SECTORS)


def node_heights(size: int) -> list[int]:
    """Heights of the submission nodes, strictly decreasing."""
    rest = padded_chunks(size)
    height = (chunks(size) - 1).bit_length()
    heights = []
    while rest:
        if rest >= 1 << height:
            heights.append(height)
            rest -= 1 << height
        height -= 1
    return heights


def align(length: int, height: int) -> int:
    """First position from ``length`` on at which a node of ``height`` may stand."""
    return 0 if length == 0 else (((length - 1) >> height) + 1) << height


def place(length: int, heights: Sequence[int]) -> tuple[int, int]:
    """Where a submission lands in a flow of ``length`` sectors: its first sector, and the length after it.

    A submission of at most one segment never crosses a segment border; a larger one starts on one.
    """
    start = align(length, heights[0])
    size = sum(1 << height for height in heights)
    within = start % SEGMENT_SECTORS
    if within and start // SEGMENT_SECTORS != (start + size - 1) // SEGMENT_SECTORS:
        length = start + SEGMENT_SECTORS - within
    first: int | None = None
    for height in heights:
        position = align(length, height)
        first = position if first is None else first
        length = position + (1 << height)
    assert first is not None
    return first, length


def last_segment_bytes(size: int) -> int:
    """Bytes of the last segment as it travels: whole chunks."""
    return segment_chunks(size, segments(size) - 1) * SECTOR
