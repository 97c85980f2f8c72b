"""Dropping what is not kept any more: pruned files, and segments of another shard."""

from __future__ import annotations

import sqlite3

from zerog.storage import layout
from zerog.storage.layout import SEGMENT_SECTORS
from zerog.storage.store import shards
from zerog.storage.store.index import FINALIZED, PART, PENDING, PRUNED, Index
from zerog.storage.store.sectors import SectorFiles
from zerog.storage.values import ShardConfig, Submission


def prune_file(db: sqlite3.Connection, index: Index, submission: Submission) -> None:
    """Forgets the segments of a file for good; their sectors become holes."""
    seq = submission.seq
    for part, bits in list(index.parts(seq)):
        for first, end in shards.ranges(bits, part * PART):
            _add_hole(db, submission, first, end)
    db.execute("DELETE FROM held WHERE seq = ?", (seq,))
    db.execute("DELETE FROM damaged WHERE seq = ?", (seq,))
    Index.set_file(db, seq, PRUNED, 0, 0)


def reshard_file(
    db: sqlite3.Connection,
    index: Index,
    submission: Submission,
    file: tuple[int, int, int],
    shard: ShardConfig,
) -> bool:
    """Fits one file (its state, segments and bytes held) to a shard; true when it became final by that."""
    seq = submission.seq
    state, held, size = file
    if state == PRUNED:
        return False
    if held:
        held = size = 0
        for part, bits in list(index.parts(seq)):
            kept = bits & shards.own_bits(submission, shard, part)
            for first, end in shards.ranges(bits & ~kept, part * PART):
                _add_hole(db, submission, first, end)
            if kept != bits:
                Index.set_bits(db, seq, part, kept)
            held += kept.bit_count()
            size += shards.bytes_of(submission, kept, part)
    for damaged, segment in index.rows("SELECT seq, segment FROM damaged WHERE seq = ?", seq):
        if not shard.owns(shards.base(submission) + segment):
            db.execute("DELETE FROM damaged WHERE seq = ? AND segment = ?", (damaged, segment))
    final = held == shards.own_count(submission, shard)
    Index.set_file(db, seq, FINALIZED if final else PENDING, held, size)
    return final and state != FINALIZED


def _add_hole(db: sqlite3.Connection, submission: Submission, first: int, end: int) -> None:
    sector = submission.start + first * SEGMENT_SECTORS
    last = min(submission.start + end * SEGMENT_SECTORS, submission.start + layout.chunks(submission.size))
    Index.add_hole(db, sector, last - sector)


def give_back(index: Index, sectors: SectorFiles) -> None:
    """Punches the holes that the index lists; while nothing is written, or at open."""
    while holes := index.holes(1000):
        for first, count in holes:
            sectors.punch(first, count)
        with index.write() as db:
            for first, _ in holes:
                Index.remove_hole(db, first)
