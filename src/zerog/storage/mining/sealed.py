"""Sealed copies of stored segments: one sparse file in flow address space, and which pieces of it are there.

A piece counts only after its bytes are written (data first, then the row), and the index names the miner id and
the epochs that they were sealed with: what does not fit any more is sealed again. What is not sealed yet is the difference
to the store, so no queue can be lost.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zerog.errors import StorageError, StorageFull
from zerog.storage.layout import SEAL, SEGMENT, SEGMENT_SECTORS
from zerog.storage.mining.answer import Epoch

ALL_PIECES = (1 << 64) - 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
-- load -> sealed pieces as 64-bit mask, written by the sealer
CREATE TABLE IF NOT EXISTS sealed (load INTEGER PRIMARY KEY, mask BLOB NOT NULL);
-- closed epochs that something was sealed for (sectors, digest), written by the sealer: a reorganisation changes them
CREATE TABLE IF NOT EXISTS epochs (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, digest BLOB NOT NULL);
-- accepted answers, written by the miner
CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, position INTEGER NOT NULL, flow_length INTEGER NOT NULL,
    transaction_hash TEXT NOT NULL, reward TEXT NOT NULL);
"""


class SealedStore:
    """See the module's docstring. Thread-safe; one process per directory (the node's lock holds it)."""

    def __init__(self, directory: Path, *, temporary: bool = False) -> None:
        """``temporary``: the directory goes when the store is closed."""
        self._temporary = directory if temporary else None
        directory.mkdir(parents=True, exist_ok=True)
        self._file = os.open(directory / "sealed.data", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self.changes = 0
        self._index = sqlite3.connect(
            directory / "mining.sqlite", check_same_thread=False, isolation_level=None
        )
        self._index.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)

    @property
    def descriptor(self) -> int:
        """File descriptor of the sealed data: load i at i * 262,144."""
        return self._file

    def miner_id(self) -> bytes | None:
        """The id that the data is sealed for."""
        row = self._index.execute("SELECT value FROM meta WHERE name = 'miner id'").fetchone()
        return None if row is None else bytes(row[0])

    def start_over(self, miner_id: bytes) -> None:
        """Forgets everything sealed; from now on for another id."""
        with self._transaction():
            self._index.execute("DELETE FROM sealed")
            self._index.execute("DELETE FROM epochs")
            self._index.execute("INSERT OR REPLACE INTO meta VALUES ('miner id', ?)", (miner_id,))
        os.ftruncate(self._file, 0)

    def mask(self, load: int) -> int:
        """Sealed pieces of a load."""
        row = self._index.execute("SELECT mask FROM sealed WHERE load = ?", (load,)).fetchone()
        return 0 if row is None else int.from_bytes(row[0])

    def masks(self, first: int, count: int) -> bytearray:
        """One little-endian 64-bit mask per load."""
        found = bytearray(8 * count)
        rows = self._index.execute(
            "SELECT load, mask FROM sealed WHERE load >= ? AND load < ?", (first, first + count)
        )
        for load, mask in rows:
            at = 8 * (load - first)
            found[at : at + 8] = bytes(mask)[::-1]
        return found

    def put(self, load: int, pieces: list[tuple[int, bytes]]) -> None:
        """Adds sealed data: neighbouring pieces (number of the first, n * 4,096 bytes) each; raises `StorageFull`."""
        if not pieces:
            return
        added = 0
        try:
            for first, data in pieces:
                count = len(data) // SEAL
                if len(data) % SEAL or not 0 <= first <= first + count <= 64:
                    raise ValueError("sealed pieces have 4096 bytes each and numbers below 64")
                written = os.pwrite(self._file, data, load * SEGMENT + first * SEAL)
                if written != len(data):
                    raise StorageFull("no room for sealed data")
                added |= (1 << count) - 1 << first
            with self._transaction():
                mask = self.mask(load) | added
                self._index.execute("INSERT OR REPLACE INTO sealed VALUES (?, ?)", (load, mask.to_bytes(8)))
        except (OSError, sqlite3.OperationalError) as error:
            raise StorageFull(f"sealed data cannot be written: {error}") from error

    def piece(self, load: int, piece: int) -> bytes:
        """One sealed piece."""
        data = os.pread(self._file, SEAL, load * SEGMENT + piece * SEAL)
        if len(data) != SEAL:
            raise StorageError(f"the sealed data ends inside load {load}")
        return data

    def drop(self, load: int, piece: int) -> None:
        """Forgets a piece whose bytes turned out wrong."""
        with self._transaction():
            mask = self.mask(load) & ~(1 << piece)
            self._index.execute("INSERT OR REPLACE INTO sealed VALUES (?, ?)", (load, mask.to_bytes(8)))

    def drop_from(self, load: int) -> None:
        """Forgets this load and all behind it: the flow was reverted."""
        with self._transaction():
            self._index.execute("DELETE FROM sealed WHERE load >= ?", (load,))

    def note_epoch(self, epoch: Epoch) -> None:
        """Something is about to be sealed for this epoch; raises `StorageFull`."""
        row = (epoch.start, epoch.end, epoch.digest)
        try:
            with self._transaction():
                self._index.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?)", row)
        except sqlite3.OperationalError as error:
            raise StorageFull(f"sealed data cannot be written: {error}") from error

    def newest_epoch(self) -> Epoch | None:
        """The last epoch that something was sealed for."""
        row = self._index.execute(
            "SELECT first, last, digest FROM epochs ORDER BY first DESC LIMIT 1"
        ).fetchone()
        return None if row is None else Epoch(row[0], row[1], bytes(row[2]))

    def drop_epoch(self, epoch: Epoch) -> None:
        """This epoch and those behind it are not the chain's any more: forgets what was sealed for them."""
        with self._transaction():
            self._index.execute("DELETE FROM sealed WHERE load >= ?", (epoch.start // SEGMENT_SECTORS,))
            self._index.execute("DELETE FROM epochs WHERE first >= ?", (epoch.start,))

    def pieces(self) -> int:
        """How many pieces are sealed."""
        return sum(
            int.from_bytes(mask).bit_count() for (mask,) in self._index.execute("SELECT mask FROM sealed")
        )

    def record(self, epoch: int, position: int, flow_length: int, transaction: str, reward: int) -> None:
        """Keeps an accepted answer."""
        with self._transaction():
            self._index.execute(
                "INSERT INTO answers (epoch, position, flow_length, transaction_hash, reward) VALUES (?,?,?,?,?)",
                (epoch, position, flow_length, transaction, str(reward)),
            )

    def answers(self, limit: int = 10) -> list[dict[str, object]]:
        """The newest accepted answers first; positions in sectors, rewards in wei as text."""
        rows = self._index.execute(
            "SELECT epoch, position, flow_length, transaction_hash, reward FROM answers ORDER BY number DESC LIMIT ?",
            (limit,),
        )
        names = ("epoch", "position", "flowLength", "transactionHash", "reward")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def earned(self) -> tuple[int, int]:
        """How many answers were accepted, and what they earned in wei."""
        rows = self._index.execute("SELECT reward FROM answers").fetchall()
        return len(rows), sum(int(reward) for (reward,) in rows)

    def drop_answer(self, transaction: str) -> None:
        """Its transaction is not on the chain any more."""
        with self._transaction():
            self._index.execute("DELETE FROM answers WHERE transaction_hash = ?", (transaction,))

    def forget_answers(self) -> None:
        """The chain they were on is gone."""
        with self._transaction():
            self._index.execute("DELETE FROM answers")

    def close(self) -> None:
        """Gives files back."""
        self._index.close()
        os.close(self._file)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._index.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._index.execute("ROLLBACK")
                raise
            self._index.execute("COMMIT")
            self.changes += 1
