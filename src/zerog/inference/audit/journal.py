"""What a verifier has promised, on disk before anybody hears of it.

A verifier that dies between commit and reveal must reveal the very vote that it committed to, and one
that dies before the commit must not commit to another. So ballot and signed transactions are rows of a
SQLite file that is synced before the first byte leaves the machine. A row belongs to one draw (the hash
of its block): the same round drawn again on another branch of the chain is another row.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zerog.errors import InferenceError
from zerog.inference.audit.vote import Ballot
from zerog.inference.receipt import AuditVote

VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS ballot (
    contract BLOB NOT NULL, receipt BLOB NOT NULL, round INTEGER NOT NULL, draw BLOB NOT NULL,
    verifier BLOB NOT NULL, verdict INTEGER NOT NULL, bad_index INTEGER NOT NULL, trace_root BLOB NOT NULL,
    digest BLOB NOT NULL, signature BLOB NOT NULL, salt BLOB NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (contract, receipt, round, draw, verifier)
);
CREATE TABLE IF NOT EXISTS parcel (
    purpose TEXT PRIMARY KEY, raw BLOB NOT NULL, hash TEXT NOT NULL, sender TEXT NOT NULL, nonce INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS canary (
    contract BLOB NOT NULL, receipt BLOB NOT NULL, salt BLOB NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (contract, receipt)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Seat:
    """One verifier's place in one draw. ``contract``: chain id and audit contract, hashed together."""

    contract: bytes
    receipt_hash: bytes
    round: int
    draw: bytes
    verifier: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """A signed transaction that may have been sent."""

    raw: bytes
    hash: str
    sender: str
    nonce: int


class Journal:
    """The file; any thread may use it. ``None`` keeps it in memory, for a throw-away chain."""

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        where = ":memory:" if path is None else str(path)
        try:
            self._database = sqlite3.connect(where, check_same_thread=False, isolation_level=None)
            # A ballot that a power cut takes back would be voted differently: every commit waits for the disk.
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._require_version(where)
            self._database.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise InferenceError(f"the verifier's journal {where} cannot be used: {error}") from error

    def _require_version(self, where: str) -> None:
        (found,) = self._database.execute("PRAGMA user_version").fetchone()
        if found not in (0, VERSION):
            raise InferenceError(f"the journal {where} has version {found}, known is {VERSION}")
        self._database.execute(f"PRAGMA user_version = {VERSION}")

    # Ballots.

    def ballot(self, seat: Seat) -> Ballot | None:
        """What was decided for a seat."""
        with self._reading() as database:
            row = database.execute(
                "SELECT verdict, bad_index, trace_root, digest, signature, salt FROM ballot WHERE contract = ?"
                " AND receipt = ? AND round = ? AND draw = ? AND verifier = ?",
                _key(seat),
            ).fetchone()
        return None if row is None else _ballot(seat, row)

    def committed_to(self, seat: Seat, commitment: bytes) -> Ballot | None:
        """The ballot behind a commitment of this verifier in this round, from whichever draw."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT verdict, bad_index, trace_root, digest, signature, salt FROM ballot WHERE contract = ?"
                " AND receipt = ? AND round = ? AND verifier = ?",
                (seat.contract, seat.receipt_hash, seat.round, seat.verifier),
            ).fetchall()
        ballots = (_ballot(seat, row) for row in rows)
        return next((ballot for ballot in ballots if ballot.commitment == commitment), None)

    def decide(self, seat: Seat, ballot: Ballot, reason: str) -> Ballot:
        """Writes a ballot down; when the seat has one already, that one stands and is returned."""
        vote = ballot.vote
        if vote.receiptHash != seat.receipt_hash or vote.verifier != seat.verifier:
            raise InferenceError("the ballot belongs to another seat")
        with self._lock:
            known = self.ballot(seat)
            if known is not None:
                return known
            self._database.execute(
                "INSERT INTO ballot VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*_key(seat), vote.verdict, vote.badIndex, vote.traceRoot, ballot.digest, ballot.signature,
                 ballot.salt, reason),
            )  # fmt: skip
        return ballot

    def newest(self, count: int) -> list[tuple[Seat, AuditVote, str]]:
        """The last ballots with their reasons, newest first."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT contract, receipt, round, draw, verifier, verdict, bad_index, trace_root, reason"
                " FROM ballot ORDER BY rowid DESC LIMIT ?",
                (count,),
            ).fetchall()
        return [(Seat(*row[:5]), AuditVote(row[1], row[4], row[5], row[6], row[7]), row[8]) for row in rows]

    # Transactions.

    def parcel(self, purpose: str) -> Parcel | None:
        """The transaction signed last for a purpose."""
        with self._reading() as database:
            row = database.execute(
                "SELECT raw, hash, sender, nonce FROM parcel WHERE purpose = ?", (purpose,)
            ).fetchone()
        return None if row is None else Parcel(*row)

    def keep_parcel(self, purpose: str, parcel: Parcel) -> None:
        """Writes a signed transaction down, before it is sent."""
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO parcel VALUES (?, ?, ?, ?, ?)",
                (purpose, parcel.raw, parcel.hash, parcel.sender, parcel.nonce),
            )

    # Canaries.

    def keep_canary(self, contract: bytes, receipt_hash: bytes, salt: bytes) -> None:
        """Writes down how a canary will be revealed, before it is committed to."""
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO canary VALUES (?, ?, ?, 'laid')", (contract, receipt_hash, salt)
            )

    def canaries(self, contract: bytes) -> dict[bytes, bytes]:
        """Salt by receipt hash of canaries that are not revealed yet."""
        with self._reading() as database:
            rows = database.execute(
                "SELECT receipt, salt FROM canary WHERE contract = ? AND state = 'laid'", (contract,)
            ).fetchall()
        return dict(rows)

    def canary_revealed(self, contract: bytes, receipt_hash: bytes) -> None:
        """Notes that a canary has done its work."""
        with self._lock:
            self._database.execute(
                "UPDATE canary SET state = 'revealed' WHERE contract = ? AND receipt = ?",
                (contract, receipt_hash),
            )

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._database


def _key(seat: Seat) -> tuple[bytes, bytes, int, bytes, bytes]:
    return seat.contract, seat.receipt_hash, seat.round, seat.draw, seat.verifier


def _ballot(seat: Seat, row: tuple[int, int, bytes, bytes, bytes, bytes]) -> Ballot:
    verdict, bad_index, trace_root, digest, signature, salt = row
    vote = AuditVote(seat.receipt_hash, seat.verifier, verdict, bad_index, trace_root)
    return Ballot(vote, signature, salt, digest)
