"""The journal: what was promised stands, on disk and across draws."""

from __future__ import annotations

import sqlite3

import pytest

from zerog.client import Account
from zerog.errors import InferenceError
from zerog.inference.audit.journal import Journal, Parcel, Seat
from zerog.inference.audit.vote import Finding, cast
from zerog.inference.receipt import AuditVote

RECEIPT = b"\x07" * 32
ALICE = Account(b"\x01" * 32)
ADDRESS = bytes.fromhex(ALICE.address[2:])
SEAT = Seat(b"\x01" * 32, RECEIPT, 0, b"\x02" * 32, ADDRESS)
GOOD, BAD = Finding(AuditVote.GOOD), Finding(AuditVote.BAD, 3)


def ballot(finding=GOOD):
    return cast(finding, RECEIPT, ALICE.key, b"\x05" * 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "journal.sqlite"


def test_a_ballot_is_there_after_a_restart(path):
    first = Journal(path)
    kept = first.decide(SEAT, ballot(), "fine")
    # No close: the process was killed.
    assert Journal(path).ballot(SEAT) == kept


def test_a_second_decision_for_a_seat_gives_the_first(path):
    journal = Journal(path)
    kept = journal.decide(SEAT, ballot(), "")
    assert journal.decide(SEAT, ballot(BAD), "") == kept
    assert journal.ballot(SEAT) == kept


@pytest.mark.parametrize(
    "other",
    [
        Seat(b"\x09" * 32, RECEIPT, 0, b"\x02" * 32, ADDRESS),
        Seat(b"\x01" * 32, RECEIPT, 1, b"\x02" * 32, ADDRESS),
        Seat(b"\x01" * 32, RECEIPT, 0, b"\x03" * 32, ADDRESS),
    ],
    ids=["chain", "round", "draw"],
)
def test_another_chain_round_or_draw_is_another_decision(path, other):
    journal = Journal(path)
    journal.decide(SEAT, ballot(), "")
    assert journal.ballot(other) is None


def test_the_vote_behind_a_commitment_is_found_whatever_the_draw(path):
    journal = Journal(path)
    kept = journal.decide(SEAT, ballot(), "")
    again = Seat(SEAT.contract, RECEIPT, 0, b"\x03" * 32, ADDRESS)
    journal.decide(again, ballot(BAD), "")
    assert journal.committed_to(again, kept.commitment) == kept
    assert journal.committed_to(again, b"\x00" * 32) is None


def test_a_ballot_of_another_seat_is_refused(path):
    journal = Journal(path)
    with pytest.raises(InferenceError, match="another seat"):
        journal.decide(Seat(b"\x01" * 32, b"\x08" * 32, 0, b"", ADDRESS), ballot(), "")


def test_transactions_are_kept_by_purpose_and_replaced(path):
    journal = Journal(path)
    assert journal.parcel("commit") is None
    journal.keep_parcel("commit", Parcel(b"raw", "0x01", ALICE.address, 4))
    journal.keep_parcel("commit", Parcel(b"newer", "0x02", ALICE.address, 5))
    assert Journal(path).parcel("commit") == Parcel(b"newer", "0x02", ALICE.address, 5)


def test_canaries_wait_until_they_are_revealed(path):
    journal = Journal(path)
    journal.keep_canary(b"c", RECEIPT, b"salt")
    assert Journal(path).canaries(b"c") == {RECEIPT: b"salt"}
    journal.canary_revealed(b"c", RECEIPT)
    assert Journal(path).canaries(b"c") == {}


def test_the_newest_votes_are_listed_with_their_reasons(path):
    journal = Journal(path)
    kept = journal.decide(SEAT, ballot(BAD), "row 3 differs")
    earlier = Seat(SEAT.contract, RECEIPT, 0, b"\x01" * 32, ADDRESS)
    newer = journal.decide(earlier, ballot(), "fine")
    assert journal.newest(1) == [(earlier, newer.vote, "fine")]
    assert journal.newest(5)[1] == (SEAT, kept.vote, "row 3 differs")


def test_a_journal_in_memory_serves_a_throw_away_chain():
    journal = Journal(None)
    kept = journal.decide(SEAT, ballot(), "")
    assert journal.ballot(SEAT) == kept
    journal.close()


def test_a_journal_of_a_newer_version_is_refused(path):
    Journal(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(InferenceError, match="version 99"):
        Journal(path)


def test_a_file_that_is_no_journal_is_refused(path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(InferenceError, match="cannot be used"):
        Journal(path)
