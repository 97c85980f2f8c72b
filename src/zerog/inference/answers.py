"""The provider's book of answers: what it has signed, and how far each answer has come.

An answer is written here, durably, before it leaves the process. After a crash the provider therefore
carries the same receipt again instead of signing a second one for the same request, publishes its
transcript again if that was lost, and knows what still waits for its audit. The book is also where
transcripts are handed out from; it keeps a bounded number of finished ones.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from zerog.errors import InferenceError
from zerog.inference.transcript import SignedTranscript
from zerog.inference.transcript_file import decode_transcript, encode_transcript

KEPT_ANSWERS = 2_000
"""Finished answers that are kept, the newest ones; of those given off chain as many."""
KEPT_BYTES = 512 << 20
"""Bytes of either that are kept."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id BLOB NOT NULL UNIQUE,
    receipt_hash BLOB NOT NULL UNIQUE,
    stage INTEGER NOT NULL,
    private INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT
"""
_VERSION = 1


class Stage(IntEnum):
    """How far an answer has come."""

    SIGNED = 0
    """Written down; perhaps published, perhaps on chain."""
    PARKED = 1
    """On chain; waits for its window or its audit."""
    DONE = 2
    """Nothing is left to do."""
    OFFERED = 3
    """Given to somebody off chain, who may bring the receipt on chain: then its transcript is due."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer in the book."""

    signed: SignedTranscript
    stage: Stage


class AnswerBook:
    """See the module's docstring. Any thread may use it.

    Parameters
    ----------
    path : file of the book; ``None`` keeps it in memory, for chains that are thrown away, too.

    Raises
    ------
    InferenceError : the file cannot be opened or is of another version.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._name = ":memory:" if path is None else str(path)
        try:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._base = sqlite3.connect(self._name, check_same_thread=False, isolation_level=None)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")
            (version,) = self._base.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise InferenceError(f"{self._name} has version {version}, known is {_VERSION}")
            self._base.execute(_SCHEMA)
            self._base.execute(f"PRAGMA user_version={_VERSION}")
        except (OSError, sqlite3.Error) as error:
            raise InferenceError(f"cannot open the book of answers {self._name}: {error}") from None

    def offer(self, signed: SignedTranscript) -> None:
        """Writes an answer down that is given off chain, before it is given; its text is not handed out.

        Raises
        ------
        InferenceError : the request id was answered before, or the book cannot be written.
        """
        receipt = signed.receipt
        if self.to_request(receipt.requestId) is not None:
            raise InferenceError(f"the request 0x{receipt.requestId.hex()} was answered before")
        self._write(
            "INSERT INTO answers (request_id, receipt_hash, stage, private, document) VALUES (?, ?, ?, 1, ?)",
            (receipt.requestId, signed.receipt_hash, Stage.OFFERED, encode_transcript(signed)),
        )
        self._prune(Stage.OFFERED)

    def sign(self, signed: SignedTranscript, *, private: bool = False) -> None:
        """Writes an answer down, before it leaves; replaces an earlier one to the same request id.

        The caller has made sure that the earlier one is void: of a chain that was rewritten, or of a
        signer that has been replaced.
        """
        receipt = signed.receipt
        self._write(
            "INSERT OR REPLACE INTO answers (request_id, receipt_hash, stage, private, document)"
            " VALUES (?, ?, ?, ?, ?)",
            (receipt.requestId, signed.receipt_hash, Stage.SIGNED, private, encode_transcript(signed)),
        )

    def move(self, request_id: bytes, stage: Stage) -> None:
        """Notes how far an answer has come."""
        self._write("UPDATE answers SET stage = ? WHERE request_id = ?", (stage, request_id))
        if stage is Stage.DONE:
            self._prune(stage)

    def to_request(self, request_id: bytes) -> Entry | None:
        """The answer that was signed for a request."""
        rows = self._read("SELECT document, stage FROM answers WHERE request_id = ?", (request_id,))
        return Entry(decode_transcript(rows[0][0]), Stage(rows[0][1])) if rows else None

    def document(self, receipt_hash: bytes) -> bytes | None:
        """The transcript file of a receipt that is not private."""
        rows = self._read(
            "SELECT document FROM answers WHERE receipt_hash = ? AND NOT private", (receipt_hash,)
        )
        return bytes(rows[0][0]) if rows else None

    def signed(self, receipt_hash: bytes) -> SignedTranscript | None:
        """The signed transcript of a receipt."""
        rows = self._read("SELECT document FROM answers WHERE receipt_hash = ?", (receipt_hash,))
        return decode_transcript(rows[0][0]) if rows else None

    def at(self, stage: Stage) -> list[bytes]:
        """Request ids of the answers at a stage, oldest first."""
        rows = self._read("SELECT request_id FROM answers WHERE stage = ? ORDER BY sequence", (stage,))
        return [bytes(row[0]) for row in rows]

    def counts(self) -> dict[str, int]:
        """Number of answers by stage."""
        rows = dict(self._read("SELECT stage, count(*) FROM answers GROUP BY stage", ()))
        return {stage.name.lower(): rows.get(stage, 0) for stage in Stage}

    def close(self) -> None:
        """Gives the file back."""
        with self._lock:
            self._base.close()

    def _prune(self, stage: Stage) -> None:
        self._write(
            "DELETE FROM answers WHERE sequence IN (SELECT sequence FROM (SELECT sequence,"
            " row_number() OVER newest AS place, sum(length(document)) OVER newest AS bytes"
            " FROM answers WHERE stage = ? WINDOW newest AS (ORDER BY sequence DESC))"
            " WHERE place > ? OR bytes > ?)",
            (stage, KEPT_ANSWERS, KEPT_BYTES),
        )

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        with self._lock:
            try:
                self._base.execute(statement, values)
            except sqlite3.Error as error:
                raise InferenceError(f"cannot write the book of answers {self._name}: {error}") from None

    def _read(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                return self._base.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise InferenceError(f"cannot read the book of answers {self._name}: {error}") from None
