"""The provider's book of answers: durable, one answer per request, bounded."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from zerog.errors import InferenceError
from zerog.inference import answers
from zerog.inference.answers import AnswerBook, Stage


def _for(transcript, number: int):
    receipt = msgspec.structs.replace(transcript.receipt, requestId=number.to_bytes(32))
    return dataclasses.replace(
        transcript, receipt=receipt, receipt_hash=receipt.digest(transcript.domain.separator)
    )


def test_an_answer_is_found_again_after_a_restart(tmp_path, transcript):
    path = tmp_path / "inference" / "answers.sqlite"
    book = AnswerBook(path)
    book.sign(transcript)
    # No close: a process that is killed does not close either.
    again = AnswerBook(path).to_request(transcript.receipt.requestId)
    assert again == answers.Entry(transcript, Stage.SIGNED)


def test_stages_are_kept_and_counted(transcript):
    book = AnswerBook()
    for number in range(3):
        book.sign(_for(transcript, number))
    book.move((1).to_bytes(32), Stage.PARKED)
    book.move((2).to_bytes(32), Stage.DONE)
    assert book.counts() == {"signed": 1, "parked": 1, "done": 1, "offered": 0}
    assert book.at(Stage.PARKED) == [(1).to_bytes(32)]


def test_a_private_transcript_is_not_handed_out(transcript):
    book = AnswerBook()
    book.sign(transcript, private=True)
    assert book.document(transcript.receipt_hash) is None
    assert book.signed(transcript.receipt_hash) == transcript


def test_old_finished_answers_go_first_and_unfinished_ones_stay(transcript, monkeypatch):
    monkeypatch.setattr(answers, "KEPT_ANSWERS", 2)
    book = AnswerBook()
    book.sign(_for(transcript, 0))
    for number in range(1, 5):
        book.sign(_for(transcript, number))
        book.move(number.to_bytes(32), Stage.DONE)
    assert book.at(Stage.DONE) == [(3).to_bytes(32), (4).to_bytes(32)]
    assert book.at(Stage.SIGNED) == [(0).to_bytes(32)]


def test_a_book_of_another_version_is_refused(tmp_path):
    import sqlite3

    path = tmp_path / "answers.sqlite"
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA user_version=9")
    with pytest.raises(InferenceError, match="has version 9, known is 1"):
        AnswerBook(path)


def test_a_file_that_is_no_book_is_refused(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(InferenceError, match="cannot open the book"):
        AnswerBook(path)
