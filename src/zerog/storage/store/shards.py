"""Which segments of a file belong to a shard. A file's segment ``i`` is segment ``base + i`` of the flow."""

from __future__ import annotations

from zerog.storage import layout
from zerog.storage.layout import SEGMENT_SECTORS
from zerog.storage.store.index import PART
from zerog.storage.values import ShardConfig, Submission


def storable(submission: Submission) -> bool:
    """Whether data of the file can be kept at all: the contract takes sizes that no disk holds."""
    return 1 <= submission.size <= layout.MAX_FILE_SIZE


def base(submission: Submission) -> int:
    """Flow segment of the first segment."""
    return submission.start // SEGMENT_SECTORS


def own_count(submission: Submission, shard: ShardConfig) -> int:
    """Segments of the file that the shard keeps."""
    first = (shard.id - base(submission)) % shard.shards
    count = layout.segments(submission.size)
    return 0 if first >= count else (count - first - 1) // shard.shards + 1


def own_bits(submission: Submission, shard: ShardConfig, part: int) -> int:
    """Bits of a part of the file that the shard keeps."""
    count = min(PART, layout.segments(submission.size) - part * PART)
    first = (shard.id - base(submission) - part * PART) % shard.shards
    if first >= count:
        return 0
    own = (count - first - 1) // shard.shards + 1
    if own == 1:
        return 1 << first
    # A one at every shards-th place: a geometric series.
    return ((1 << shard.shards * own) - 1) // ((1 << shard.shards) - 1) << first


def ranges(bits: int, offset: int) -> list[tuple[int, int]]:
    """Runs of set bits, ``offset`` added; ends exclusive."""
    found = []
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        run = (~bits & (bits + 1)).bit_length() - 1
        found.append((offset + skip, offset + skip + run))
        bits >>= run
        offset += skip + run
    return found


def joined(pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in order, with those that touch made one."""
    found: list[tuple[int, int]] = []
    for first, end in pieces:
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], end)
        else:
            found.append((first, end))
    return found


def common(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What two lists of ranges, each in order, have in common."""
    found, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        first, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if first < end:
            found.append((first, end))
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return found


def bytes_of(submission: Submission, bits: int, part: int) -> int:
    """Bytes that the segments of a part take on disk."""
    count = bits.bit_count()
    last = layout.segments(submission.size) - 1
    if last // PART == part and bits >> (last % PART) & 1:
        return (count - 1) * layout.SEGMENT + layout.last_segment_bytes(submission.size)
    return count * layout.SEGMENT
