"""The state of the KV layer: one SQLite file.

========= =========================================== ==========================================================
table     key                                         value
========= =========================================== ==========================================================
applied   seq                                         identity of the submission, result (null: not a KV
                                                      transaction of a monitored stream)
value     stream, key, version                        where the value is: offset and length in the content of
                                                      submission number ``version``
control   stream, family, key, account, version       operation
missing   seq                                         content that did not come in time
monitored stream                                      streams added while running
meta      name                                        number: format, and whether all streams are monitored
========= =========================================== ==========================================================

Values stay in the flow, where every read is checked against their root; this file only says where they are.
A transaction is applied as a whole, its progress included, or not at all. Versions are sequence numbers.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zerog.errors import StorageError, StorageFull
from zerog.storage.kv.stream import Control, LocatedWrite, Operation
from zerog.storage.values import Submission

FORMAT = 1
NEWEST = (1 << 63) - 1
"""As version of a query: whatever there is."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS applied (seq INTEGER PRIMARY KEY, identity BLOB NOT NULL, result TEXT);
CREATE TABLE IF NOT EXISTS value (
    stream BLOB NOT NULL, key BLOB NOT NULL, version INTEGER NOT NULL,
    start INTEGER NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (stream, key, version)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS value_by_version ON value (stream, version);
CREATE INDEX IF NOT EXISTS value_of_version ON value (version);
CREATE TABLE IF NOT EXISTS control (
    stream BLOB NOT NULL, family INTEGER NOT NULL, key BLOB NOT NULL, account BLOB NOT NULL,
    version INTEGER NOT NULL, operation INTEGER NOT NULL,
    PRIMARY KEY (stream, family, key, account, version)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS control_of_version ON control (version);
CREATE INDEX IF NOT EXISTS control_by_account ON control (stream, family, account);
CREATE TABLE IF NOT EXISTS missing (seq INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS monitored (stream BLOB PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """A key as it is at some version; ``length`` 0 means deleted. ``start`` is in the content of ``version``."""

    key: bytes
    version: int
    start: int
    length: int


def identity(submission: Submission) -> bytes:
    """What tells a submission from another one that took its number (32 bytes)."""
    digest = hashlib.sha256(submission.transaction + submission.root + submission.sender)
    digest.update(submission.size.to_bytes(8, "big") + submission.start.to_bytes(8, "big"))
    digest.update(submission.tags)
    return digest.digest()


def _limit(version: int) -> int:
    return min(version, NEWEST)


@contextmanager
def _storage_errors(path: Path | str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise StorageFull(f"no room for the KV index {path}") from error
        raise StorageError(f"the KV index {path} cannot be used: {error}") from error
    except sqlite3.ProgrammingError as error:
        raise StorageError(f"the KV index {path} is closed") from error
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"the KV index {path} is damaged: {error}",
            hint="stop the node and delete this file; it is rebuilt from the flow",
        ) from error


class KvStore:
    """See the module's docstring. Any thread may read; one thread at a time applies."""

    def __init__(self, path: Path | None, *, durable: bool = False) -> None:
        """Opens or creates; ``None`` keeps it in memory. ``durable`` flushes to the disk with every transaction."""
        self._path = "in memory" if path is None else path
        self._lock = threading.RLock()
        with _storage_errors(self._path):
            self._db = sqlite3.connect(
                ":memory:" if path is None else path,
                check_same_thread=False,
                isolation_level=None,
                cached_statements=256,
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._db.executescript(_SCHEMA)
            found = self._number("format")
            if found is None:
                self._set_number("format", FORMAT)
            elif found != FORMAT:
                raise StorageError(f"the KV index {path} has format {found}; this version reads {FORMAT}")

    def close(self) -> None:
        """Gives the file back."""
        with self._lock:
            self._db.close()

    # Applying.

    def apply(
        self,
        submission: Submission,
        result: str | None,
        writes: Iterable[LocatedWrite] = (),
        controls: Iterable[Control] = (),
        *,
        missing: bool = False,
    ) -> None:
        """Records the next submission; ``missing`` marks that its content did not come.

        Raises `StorageError` when it is not the next one; nothing is changed then.
        """
        seq = submission.seq
        with self._transaction():
            if seq != self.progress():
                raise StorageError(f"submission {seq} cannot follow {self.progress() - 1}")
            self._db.execute("INSERT INTO applied VALUES (?, ?, ?)", (seq, identity(submission), result))
            self._db.executemany(
                "INSERT INTO value VALUES (?, ?, ?, ?, ?)",
                ((write.stream, write.key, seq, write.offset, write.length) for write in writes),
            )
            self._db.executemany(
                "INSERT INTO control VALUES (?, ?, ?, ?, ?, ?)",
                ((c.stream, c.operation.family, c.key, c.account, seq, int(c.operation)) for c in controls),
            )
            if missing:
                self._db.execute("INSERT OR IGNORE INTO missing VALUES (?)", (seq,))

    def revert(self, seq: int, *, forget_missing: bool = True) -> None:
        """Removes everything of submission ``seq`` and later ones.

        ``forget_missing`` is false when they are only applied again: what was missing is then not awaited anew.
        """
        with self._transaction():
            for table, column in (("value", "version"), ("control", "version"), ("applied", "seq")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} >= ?", (seq,))
            if forget_missing:
                self._db.execute("DELETE FROM missing WHERE seq >= ?", (seq,))

    def found(self, seq: int) -> None:
        """The content of a submission has come after all: applies it, and what follows, anew."""
        with self._transaction():
            self._db.execute("DELETE FROM missing WHERE seq = ?", (seq,))
            self.revert(seq, forget_missing=False)

    def monitor(self, stream: bytes) -> bool:
        """Adds a stream for good; false when it was there."""
        with self._transaction():
            return self._db.execute("INSERT OR IGNORE INTO monitored VALUES (?)", (stream,)).rowcount == 1

    def set_all_monitored(self, everything: bool) -> bool:
        """Notes whether all streams are monitored; the answer is what was noted before."""
        with self._transaction():
            before = self._number("all")
            self._set_number("all", int(everything))
        return bool(before)

    # Progress and results.

    def progress(self) -> int:
        """The next sequence number to apply."""
        (last,) = self._one("SELECT MAX(seq) FROM applied")
        return 0 if last is None else int(last) + 1

    def result(self, seq: int) -> str | None:
        """What became of a transaction; ``None`` when it is unknown or none of a monitored stream."""
        row = self._row("SELECT result FROM applied WHERE seq = ?", (min(seq, NEWEST),))
        return None if row is None else row[0]

    def identities(self, first: int, limit: int) -> list[tuple[int, bytes]]:
        """Numbers and identities of what was applied, from ``first`` on."""
        return self._rows(
            "SELECT seq, identity FROM applied WHERE seq >= ? ORDER BY seq LIMIT ?", (first, limit)
        )

    def missing(self) -> list[int]:
        """Applied submissions whose content did not come in time, ascending."""
        return [seq for (seq,) in self._rows("SELECT seq FROM missing ORDER BY seq LIMIT 1000")]

    def is_missing(self, seq: int) -> bool:
        """Whether the content of a submission was given up."""
        return self._row("SELECT 1 FROM missing WHERE seq = ?", (seq,)) is not None

    def monitored(self) -> list[bytes]:
        """Streams that were added while running, ascending."""
        return [stream for (stream,) in self._rows("SELECT stream FROM monitored ORDER BY stream")]

    def written_streams(self) -> list[bytes]:
        """Streams that hold anything, ascending."""
        found: list[bytes] = []
        while True:
            # Steps from stream to stream on the index; DISTINCT would read every row.
            (stream,) = self._one(
                "SELECT MIN(stream) FROM control WHERE stream > ?", (found[-1] if found else b"",)
            )
            if stream is None:
                return found
            found.append(stream)

    # Values. ``before`` is the newest version that counts.

    def get(self, stream: bytes, key: bytes, before: int = NEWEST) -> Pair | None:
        """The key as it was at ``before``; ``None`` when it was never written."""
        row = self._row(
            "SELECT key, version, start, length FROM value WHERE stream = ? AND key = ? AND version <= ?"
            " ORDER BY version DESC LIMIT 1",
            (stream, key, _limit(before)),
        )
        return None if row is None else Pair(*row)

    def neighbour(
        self, stream: bytes, key: bytes | None, before: int, *, forward: bool, inclusive: bool = False
    ) -> Pair | None:
        """The nearest key that is not deleted, from ``key`` on (``None``: from the end of the stream)."""
        compare, inner = (">", "MIN") if forward else ("<", "MAX")
        while True:
            bound = "" if key is None else f" AND key {compare}{'=' if inclusive else ''} ?"
            parameters = (stream,) if key is None else (stream, key)
            (near,) = self._one(f"SELECT {inner}(key) FROM value WHERE stream = ?{bound}", parameters)
            if near is None:
                return None
            pair = self.get(stream, near, before)
            if pair is not None and pair.length:
                return pair
            # Deleted, or not written yet at that version: go on behind it.
            key, inclusive = near, False

    def changes(self, stream: bytes, prefix: bytes, first: int, limit: int, after: bytes = b"") -> list[Pair]:
        """Writes of a stream in the order of versions, then keys: from version ``first`` on, behind key ``after``
        in that version."""
        end = _prefix_end(prefix)
        bound = "" if end is None else " AND key < ?"
        parameters: list[object] = [stream, first, first, after, prefix]
        if end is not None:
            parameters.append(end)
        return [
            Pair(*row)
            for row in self._rows(
                "SELECT key, version, start, length FROM value"
                f" WHERE stream = ? AND version >= ? AND (version > ? OR key > ?) AND key >= ?{bound}"
                " ORDER BY version, key LIMIT ?",
                (*parameters, limit),
            )
        ]

    # Access control (`AccessRecords`).

    def is_new(self, stream: bytes, before: int) -> bool:
        """Whether nothing is recorded for the stream."""
        return (
            self._row(
                "SELECT 1 FROM control WHERE stream = ? AND version <= ? LIMIT 1", (stream, _limit(before))
            )
            is None
        )

    def last_operation(
        self, stream: bytes, family: int, key: bytes, account: bytes, before: int
    ) -> Operation | None:
        """The newest operation of a family."""
        row = self._row(
            "SELECT operation FROM control WHERE stream = ? AND family = ? AND key = ? AND account = ?"
            " AND version <= ? ORDER BY version DESC LIMIT 1",
            (stream, family, key, account, _limit(before)),
        )
        return None if row is None else Operation(row[0])

    def writes_special_key(self, stream: bytes, account: bytes, before: int) -> bool:
        """Whether the account is a special writer of any key of the stream."""
        return (
            self._row(
                "SELECT 1 FROM (SELECT operation, MAX(version) FROM control"
                " WHERE stream = ? AND family = 48 AND account = ? AND version <= ? GROUP BY key)"
                " WHERE operation = 48 LIMIT 1",
                (stream, account, _limit(before)),
            )
            is not None
        )

    def controls(self, stream: bytes, before: int = NEWEST) -> list[Control]:
        """The controls in force: the newest of each family, key and account."""
        rows = self._rows(
            "SELECT operation, key, account, MAX(version) FROM control WHERE stream = ? AND version <= ?"
            " GROUP BY family, key, account ORDER BY family, key, account",
            (stream, _limit(before)),
        )
        return [Control(Operation(operation), stream, key, account) for operation, key, account, _ in rows]

    # SQLite.

    def _number(self, name: str) -> int | None:
        row = self._row("SELECT number FROM meta WHERE name = ?", (name,))
        return None if row is None else int(row[0])

    def _set_number(self, name: str, number: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, number))

    def _rows(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple]:  # type: ignore[type-arg]
        with self._lock, _storage_errors(self._path):
            return self._db.execute(statement, parameters).fetchall()

    def _row(self, statement: str, parameters: Sequence[object] = ()) -> tuple | None:  # type: ignore[type-arg]
        rows = self._rows(statement, parameters)
        return rows[0] if rows else None

    def _one(self, statement: str, parameters: Sequence[object] = ()) -> tuple:  # type: ignore[type-arg]
        return self._rows(statement, parameters)[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing; inside another one, part of that."""
        with self._lock, _storage_errors(self._path):
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _prefix_end(prefix: bytes) -> bytes | None:
    """The first key behind all keys with ``prefix``; ``None`` when there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
