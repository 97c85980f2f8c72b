"""The index: what the flow consists of, and which segments are here. SQLite, one file.

Every row carries a *seal*, eight bytes of BLAKE2b over its table, key and values: SQLite notices a broken page
structure but not a flipped bit inside a value. A row whose seal does not fit is `CorruptDataDir`.

There is one writing connection behind a lock, and one reading connection per thread. WAL keeps readers from
waiting. ``synchronous=NORMAL`` survives ``kill -9`` completely and a power cut with the loss of the last
transactions; ``FULL`` (durable stores) loses nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import sqlite3
import struct
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zerog.errors import CorruptDataDir, ForeignDataDir, StorageError, StorageFull
from zerog.storage.store.wal import commit_marks
from zerog.storage.values import BlockMark, Submission, SubmissionNode

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the tables and of the submission record."""
APPLICATION = 0x5A475331
"""SQLite's application id: "ZGS1"."""
PART = 256
"""Segments whose presence one row of ``held`` records."""
PENDING, FINALIZED, PRUNED = range(3)
"""States in the table ``file``."""
REBUILD = "move the directory away and start again: the node rebuilds it from the chain and its peers"

_PROBE = 1 << 16
"""Bytes by which `lacks_room` tries to exceed the index."""
_OFFSET = 1 << 63
"""Sectors are below 2**64, SQLite's integers are signed: stored minus this, which keeps the order."""

TABLES = (
    # name -> value. Written with every block followed (progress), by set_shard, and by the scrub (its cursor).
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID",
    # seq -> the submission, and the flow root after it. Written by append, removed by revert.
    "CREATE TABLE submission (seq INTEGER PRIMARY KEY, start INTEGER NOT NULL, root BLOB NOT NULL,"
    " flow_root BLOB NOT NULL, record BLOB NOT NULL, seal BLOB NOT NULL)",
    "CREATE UNIQUE INDEX submission_start ON submission (start)",
    "CREATE INDEX submission_root ON submission (root)",
    "CREATE INDEX submission_flow_root ON submission (flow_root)",
    # seq -> state (0 pending, 1 finalized, 2 pruned), segments and bytes held. Written by everything.
    "CREATE TABLE file (seq INTEGER PRIMARY KEY, state INTEGER NOT NULL, held INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL, seal BLOB NOT NULL)",
    "CREATE INDEX file_state ON file (state)",
    # (seq, part) -> 256 bits: segments 256*part … that are on disk. Written by put, prune, re-sharding, damage.
    "CREATE TABLE held (seq INTEGER, part INTEGER, bits BLOB NOT NULL, seal BLOB NOT NULL,"
    " PRIMARY KEY (seq, part)) WITHOUT ROWID",
    # in-order number of a subtree of whole loads -> its hash. Written by append (closed subtrees, submission
    # nodes) and put (segment roots, siblings from proofs); removed by revert.
    "CREATE TABLE tree (id INTEGER PRIMARY KEY, hash BLOB NOT NULL, seal BLOB NOT NULL)",
    # (seq, segment) whose bytes were found wrong and have not been replaced. Written by reads and the scrub.
    "CREATE TABLE damaged (seq INTEGER, segment INTEGER, seal BLOB NOT NULL,"
    " PRIMARY KEY (seq, segment)) WITHOUT ROWID",
    # first sector -> sectors that may be given back to the disk. Written by prune and re-sharding, until done.
    "CREATE TABLE hole (first INTEGER PRIMARY KEY, sectors INTEGER NOT NULL, seal BLOB NOT NULL)",
)

_RECORD = struct.Struct(">B16s20sQ32s32sB")
_NODE = struct.Struct(">B32s")


def seal(table: str, *values: int | bytes | str) -> bytes:
    """The checksum of a row."""
    digest = hashlib.blake2b(table.encode(), digest_size=8)
    for value in values:
        if isinstance(value, int):
            digest.update(b"i" + value.to_bytes(9, "big", signed=True))
        else:
            raw = value.encode() if isinstance(value, str) else value
            digest.update(b"b" + len(raw).to_bytes(8, "big") + raw)
    return digest.digest()


def checked(table: str, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """The row without its seal (its last column); raises `CorruptDataDir` when that does not fit."""
    *values, mark = row
    try:
        fits = seal(table, *values) == mark
    except (TypeError, AttributeError, OverflowError):
        fits = False
    if not fits:
        raise CorruptDataDir(
            f"row {values[0]!r} of table {table} in the storage index is damaged", hint=REBUILD
        )
    return tuple(values)


def encode_submission(submission: Submission) -> bytes:
    """The record of a submission: what its columns do not hold."""
    head = _RECORD.pack(
        FORMAT,
        submission.size.to_bytes(16, "big"),
        submission.sender,
        submission.block.number,
        submission.block.hash,
        submission.transaction,
        len(submission.nodes),
    )
    nodes = b"".join(_NODE.pack(node.height, node.root) for node in submission.nodes)
    return head + nodes + submission.tags


def decode_submission(seq: int, start: int, root: bytes, record: bytes) -> Submission:
    """Inverse of `encode_submission`; ``record`` was checked by its seal."""
    _, size, sender, number, block, transaction, count = _RECORD.unpack_from(record)
    end = _RECORD.size + count * _NODE.size
    nodes = tuple(
        SubmissionNode(node, height) for height, node in _NODE.iter_unpack(record[_RECORD.size : end])
    )
    return Submission(
        seq,
        root,
        int.from_bytes(size, "big"),
        start,
        nodes,
        record[end:],
        sender,
        BlockMark(number, block),
        transaction,
    )


class _Connection(sqlite3.Connection):
    """A connection that can be referred to weakly, so that it ends with its thread."""


@contextlib.contextmanager
def index_errors(path: Path) -> Iterator[None]:
    """Raises SQLite's errors as storage errors."""
    try:
        yield
    except UnicodeDecodeError as error:
        # Python's sqlite3 fails so on an error message that quotes a damaged schema.
        raise CorruptDataDir("the schema of the storage index is damaged", hint=REBUILD) from error
    except sqlite3.ProgrammingError as error:
        raise StorageError("the store is closed") from error
    except sqlite3.DatabaseError as error:
        extended = getattr(error, "sqlite_errorcode", 0)
        code = extended & 0xFF
        # SQLite tells a full disk (ENOSPC) from other failures, but not a quota or a limit on the size of files.
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and lacks_room(path)):
            raise StorageFull(
                f"the storage index cannot be written: {error}", hint="make room on the disk"
            ) from error
        if code == sqlite3.SQLITE_IOERR:
            raise StorageError(
                f"the storage index {path} cannot be read or written: {error}"
                f" ({getattr(error, 'sqlite_errorname', 'SQLITE_IOERR')})",
                hint="look at the disk and at the system's log",
            ) from error
        # The statements are fixed: one that does not fit the tables means that the schema is damaged.
        if code in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
            sqlite3.SQLITE_FORMAT,
            sqlite3.SQLITE_ERROR,
            sqlite3.SQLITE_TOOBIG,
            sqlite3.SQLITE_CONSTRAINT,
            sqlite3.SQLITE_CANTOPEN,
        ):
            raise CorruptDataDir(f"the storage index is damaged: {error}", hint=REBUILD) from error
        raise StorageError(f"the storage index failed: {error}") from error


class Index:
    """Connections to the index, and its rows as values. Reads see the last commit."""

    def __init__(self, path: Path, *, durable: bool) -> None:
        self.path = path
        self._local = threading.local()
        self._readers: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._closed = False
        self.lost = False
        """Transactions that were once committed were not found at open."""
        marks = commit_marks(path.with_name(f"{path.name}-wal"))
        with index_errors(self.path):
            self._writer = self._connect()
            try:
                self._prepare(durable)
                self._compare(marks)
            except BaseException:
                self._writer.close()
                raise

    def _connect(self) -> _Connection:
        connection = sqlite3.connect(
            self.path, timeout=60, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        # A flipped bit can turn a blob into text that is none; it must reach the check of the seal.
        connection.text_factory = bytes
        connection.execute("PRAGMA cache_size = -4096")
        return connection

    def _prepare(self, durable: bool) -> None:
        db = self._writer
        ((application,),) = db.execute("PRAGMA application_id").fetchall()
        ((version,),) = db.execute("PRAGMA user_version").fetchall()
        ((tables,),) = db.execute("SELECT count(*) FROM sqlite_master").fetchall()
        if tables and application != APPLICATION:
            raise ForeignDataDir(f"{self.path} is not a storage index of zerog")
        if tables and version != FORMAT:
            raise ForeignDataDir(f"{self.path} has format {version}, this zerog reads {FORMAT}")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        if not tables:
            with self.write():
                for table in TABLES:
                    db.execute(table)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {FORMAT}")

    def _compare(self, marks: int) -> None:
        """Warns when SQLite found less in the log than was committed to it."""
        # A checkpoint tells the number of frames in the log that it takes as valid.
        ((_, frames, _),) = self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        self.lost = marks > max(frames, 0)
        if self.lost:
            log.warning(
                "%s lost its last transactions (a power cut, or a damaged log): the store is as it was before"
                " them, what they recorded is followed and fetched again",
                self.path,
            )

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it is there afterwards, or nothing."""
        with self._lock, index_errors(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of a read."""
        with index_errors(self.path):
            if self._closed:
                raise StorageError("the store is closed")
            connection: _Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
                self._readers.add(connection)
            return connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def still(self) -> Iterator[None]:
        """Nothing is written meanwhile: several reads see one state."""
        with self._lock:
            yield

    def forget_pages(self) -> None:
        """Makes the next read of this thread come from the file, not from pages that were read before."""
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            connection.close()

    def close(self) -> None:
        """Ends every connection; the WAL is written back."""
        with self._lock:
            self._closed = True
            for reader in list(self._readers):
                reader.close()
            self._writer.close()

    # Rows as values ---------------------------------------------------------------------------------------

    def meta(self, name: str) -> bytes | None:
        """A named value."""
        rows = self.rows("SELECT name, value, seal FROM meta WHERE name = ?", name)
        return bytes(checked("meta", rows[0])[1]) if rows else None

    @staticmethod
    def set_meta(db: sqlite3.Connection, name: str, value: bytes | None) -> None:
        """Sets or removes a named value."""
        if value is None:
            db.execute("DELETE FROM meta WHERE name = ?", (name,))
        else:
            db.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (name, value, seal("meta", name, value))
            )

    _SUBMISSION = "SELECT seq, start, root, flow_root, record, seal FROM submission "

    def submissions(self, where: str, *values: Any) -> list[tuple[Submission, bytes]]:
        """Submissions with the flow root after each."""
        found = []
        for row in self.rows(self._SUBMISSION + where, *values):
            seq, start, root, flow_root, record = checked("submission", row)
            found.append((decode_submission(seq, start + _OFFSET, root, record), flow_root))
        return found

    def at_or_before(self, sector: int) -> Submission | None:
        """The last submission that starts at or before a sector."""
        found = self.submissions("WHERE start <= ? ORDER BY start DESC LIMIT 1", sector - _OFFSET)
        return found[0][0] if found else None

    def starting(self, first: int, end: int, limit: int) -> list[Submission]:
        """Submissions that start in ``[first, end)``, in order."""
        where = "WHERE start >= ? AND start <= ? ORDER BY start LIMIT ?"
        return [s for s, _ in self.submissions(where, first - _OFFSET, end - 1 - _OFFSET, limit)]

    @staticmethod
    def add_submission(db: sqlite3.Connection, submission: Submission, flow_root: bytes) -> None:
        """Adds a row to ``submission``."""
        row = (
            submission.seq,
            submission.start - _OFFSET,
            submission.root,
            flow_root,
            encode_submission(submission),
        )
        db.execute("INSERT INTO submission VALUES (?, ?, ?, ?, ?, ?)", (*row, seal("submission", *row)))

    def file(self, seq: int) -> tuple[int, int, int] | None:
        """State, segments held and their bytes."""
        rows = self.rows("SELECT seq, state, held, bytes, seal FROM file WHERE seq = ?", seq)
        if not rows:
            return None
        _, state, held, size = checked("file", rows[0])
        return state, held, size

    @staticmethod
    def set_file(db: sqlite3.Connection, seq: int, state: int, held: int, size: int) -> None:
        """Writes the row of ``file``."""
        mark = seal("file", seq, state, held, size)
        db.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", (seq, state, held, size, mark))

    def bits(self, seq: int, part: int) -> int:
        """Which segments of a part are held, lowest bit first."""
        rows = self.rows("SELECT seq, part, bits, seal FROM held WHERE seq = ? AND part = ?", seq, part)
        return int.from_bytes(checked("held", rows[0])[2], "little") if rows else 0

    def parts(self, seq: int) -> Iterator[tuple[int, int]]:
        """All parts of a file with their bits, in order, a bounded number of rows at a time."""
        part = -1
        while True:
            query = (
                "SELECT seq, part, bits, seal FROM held WHERE seq = ? AND part > ? ORDER BY part LIMIT 256"
            )
            rows = self.rows(query, seq, part)
            if not rows:
                return
            for row in rows:
                _, part, bits = checked("held", row)
                yield part, int.from_bytes(bits, "little")

    @staticmethod
    def set_bits(db: sqlite3.Connection, seq: int, part: int, bits: int) -> None:
        """Writes the row of ``held``; none when no bit is set."""
        if not bits:
            db.execute("DELETE FROM held WHERE seq = ? AND part = ?", (seq, part))
            return
        raw = bits.to_bytes(PART // 8, "little")
        db.execute(
            "INSERT OR REPLACE INTO held VALUES (?, ?, ?, ?)", (seq, part, raw, seal("held", seq, part, raw))
        )

    def tree_hash(self, number: int) -> bytes | None:
        """Hash of a subtree."""
        rows = self.rows("SELECT id, hash, seal FROM tree WHERE id = ?", number)
        return bytes(checked("tree", rows[0])[1]) if rows else None

    @staticmethod
    def add_tree(db: sqlite3.Connection, hashes: list[tuple[int, bytes]]) -> None:
        """Adds hashes of subtrees; those that are there stay (they are final)."""
        rows = [(number, value, seal("tree", number, value)) for number, value in hashes]
        db.executemany("INSERT OR IGNORE INTO tree VALUES (?, ?, ?)", rows)

    @staticmethod
    def add_hole(db: sqlite3.Connection, first: int, sectors: int) -> None:
        """Notes sectors that may be given back once the transaction is there."""
        row = (first - _OFFSET, sectors)
        db.execute("INSERT OR REPLACE INTO hole VALUES (?, ?, ?)", (*row, seal("hole", *row)))

    def holes(self, limit: int) -> list[tuple[int, int]]:
        """Sectors that are to be given back."""
        rows = self.rows("SELECT first, sectors, seal FROM hole LIMIT ?", limit)
        return [(first + _OFFSET, sectors) for first, sectors in (checked("hole", row) for row in rows)]

    @staticmethod
    def remove_hole(db: sqlite3.Connection, first: int) -> None:
        """Forgets sectors that were given back."""
        db.execute("DELETE FROM hole WHERE first = ?", (first - _OFFSET,))

    def damaged(self) -> list[tuple[int, int]]:
        """Segments whose damage was found and not repaired yet."""
        rows = self.rows("SELECT seq, segment, seal FROM damaged ORDER BY seq, segment")
        return [(seq, segment) for seq, segment in (checked("damaged", row) for row in rows)]

    @staticmethod
    def add_damaged(db: sqlite3.Connection, seq: int, segment: int) -> None:
        """Notes damage."""
        db.execute(
            "INSERT OR REPLACE INTO damaged VALUES (?, ?, ?)", (seq, segment, seal("damaged", seq, segment))
        )


def lacks_room(path: Path) -> bool:
    """Whether files beside ``path`` cannot grow beyond its size; found out by trying."""
    probe = path.with_name(f"{path.name}.probe")
    try:
        sizes = [p.stat().st_size for p in (path, path.with_name(f"{path.name}-wal")) if p.exists()]
        file = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            end = max(sizes, default=0) + _PROBE
            for at in (0, end - 1):
                # Sparse: takes two blocks, not the size.
                os.pwrite(file, b"\1", at)
        finally:
            os.close(file)
    except OSError as error:
        return is_full(error)
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    return False


def is_full(error: OSError) -> bool:
    """Whether a write failed for want of room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
