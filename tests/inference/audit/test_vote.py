"""Votes: signed by the verifier, hidden by a commitment that nobody else can open."""

from __future__ import annotations

import msgspec
import pytest
from eth_abi.abi import encode

from zerog.chain.keys import keccak256
from zerog.client import Account
from zerog.errors import InferenceError
from zerog.inference.audit.vote import Finding, cast, check_ballot
from zerog.inference.encoding import from_message, parse_hex
from zerog.inference.receipt import AuditVote, recover_signer

SEPARATOR = b"\x05" * 32
RECEIPT = b"\x07" * 32
ALICE = Account(b"\x01" * 32)
BAD = Finding(AuditVote.BAD, 4, reason="row 4 differs")


def test_a_vote_names_its_verifier_and_is_signed_by_it():
    ballot = cast(BAD, RECEIPT, ALICE.key, SEPARATOR)
    assert ballot.vote == AuditVote(RECEIPT, bytes.fromhex(ALICE.address[2:]), 2, 4, bytes(32))
    assert recover_signer(ballot.digest, ballot.signature) == ballot.vote.verifier
    check_ballot(ballot, SEPARATOR)


def test_the_commitment_is_that_of_the_protocol():
    ballot = cast(BAD, RECEIPT, ALICE.key, SEPARATOR, salt=b"\x09" * 32)
    assert ballot.commitment == keccak256(encode(["bytes32", "bytes32"], [ballot.digest, b"\x09" * 32]))


def test_salts_are_fresh_so_that_equal_votes_look_different():
    ballots = [cast(BAD, RECEIPT, ALICE.key, SEPARATOR) for _ in range(2)]
    assert ballots[0].digest == ballots[1].digest
    assert ballots[0].commitment != ballots[1].commitment


def test_a_salt_is_never_shown():
    assert "salt" not in repr(cast(BAD, RECEIPT, ALICE.key, SEPARATOR))


@pytest.mark.parametrize("field", ["separator", "verifier", "verdict"])
def test_a_ballot_of_another_vote_is_refused(field):
    ballot = cast(BAD, RECEIPT, ALICE.key, SEPARATOR)
    if field == "separator":
        with pytest.raises(InferenceError, match="another chain"):
            check_ballot(ballot, bytes(32))
        return
    value = {"verifier": bytes(20), "verdict": 1}[field]
    vote = msgspec.structs.replace(ballot.vote, **{field: value})
    forged = type(ballot)(vote, ballot.signature, ballot.salt, vote.digest(SEPARATOR))
    with pytest.raises(InferenceError, match="not signed by its verifier"):
        check_ballot(forged, SEPARATOR)


def test_votes_of_the_vectors_are_reproduced(vectors):
    domain = parse_hex(vectors["domain"]["separator"], 32, "separator")
    for known in vectors["audit_votes"]:
        vote = from_message(AuditVote, known["message"])
        assert "0x" + vote.digest(domain).hex() == known["digest"]


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (BAD, "bad from leaf 4 on: row 4 differs"),
        (Finding(AuditVote.BAD, reason="other text"), "bad: other text"),
        (Finding(AuditVote.GOOD), "good"),
        (Finding(AuditVote.UNAVAILABLE, reason="nobody has it"), "unavailable: nobody has it"),
    ],
)
def test_a_finding_reads_as_a_sentence(finding, text):
    assert str(finding) == text
