"""Sealed transcripts: open for every recipient, for nobody else, and only unaltered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerog.chain.keys import random_key
from zerog.errors import InferenceError
from zerog.inference.privacy import (
    MAX_ENVELOPE,
    MAX_RECIPIENTS,
    is_sealed,
    open_sealed,
    public_key,
    require_public_key,
    seal,
)
from zerog.inference.transcript import MAX_CANONICAL

KEYS = [random_key() for _ in range(3)]
PUBLIC = [public_key(key) for key in KEYS]
SECRET = b"a private transcript"
ENVELOPE = seal(SECRET, PUBLIC)


@pytest.mark.parametrize("key", KEYS)
def test_every_recipient_opens_the_envelope(key):
    assert open_sealed(ENVELOPE, key) == SECRET


def test_another_key_opens_nothing():
    with pytest.raises(InferenceError, match="not addressed to this key"):
        open_sealed(ENVELOPE, random_key())


def test_the_envelope_shows_neither_content_nor_recipients():
    assert SECRET not in ENVELOPE
    assert not any(key in ENVELOPE or key[1:] in ENVELOPE for key in PUBLIC)
    assert is_sealed(ENVELOPE)
    assert not is_sealed(b"\x01")


def test_two_envelopes_of_one_content_have_nothing_in_common():
    assert seal(SECRET, PUBLIC)[1:34] != ENVELOPE[1:34]
    assert seal(SECRET, PUBLIC)[-30:] != ENVELOPE[-30:]


def test_repeated_recipients_count_once():
    assert len(seal(SECRET, PUBLIC * 2)) == len(ENVELOPE)


def test_every_altered_byte_is_found():
    for position in range(len(ENVELOPE)):
        altered = bytearray(ENVELOPE)
        altered[position] ^= 1
        # The last recipient's slot is right until its own bytes change, and even then nobody is misled.
        with pytest.raises(InferenceError):
            open_sealed(bytes(altered), KEYS[2])


def test_a_cut_or_prolonged_envelope_is_refused():
    for size in range(len(ENVELOPE)):
        with pytest.raises(InferenceError):
            open_sealed(ENVELOPE[:size], KEYS[0])
    with pytest.raises(InferenceError, match="goes on for 1 bytes"):
        open_sealed(ENVELOPE + b"\0", KEYS[0])


def test_removing_another_recipient_is_found():
    """The content's tag covers the slots: nobody can lock a verifier out of a published envelope."""
    shorter = ENVELOPE[:34] + (2).to_bytes(4) + ENVELOPE[38 + 48 :]
    with pytest.raises(InferenceError, match="was altered"):
        open_sealed(shorter, KEYS[2])


def test_oversize_counts_and_lengths_are_refused_before_reading():
    with pytest.raises(InferenceError, match="slots counts 4294967295"):
        open_sealed(ENVELOPE[:34] + b"\xff" * 4 + ENVELOPE[38:], KEYS[0])
    at = 38 + 3 * 48
    with pytest.raises(InferenceError, match="sealed transcript has 4294967295 bytes"):
        open_sealed(ENVELOPE[:at] + b"\xff" * 4 + ENVELOPE[at + 4 :], KEYS[0])
    with pytest.raises(InferenceError, match="too many for an envelope"):
        seal(bytes(MAX_CANONICAL + 1), PUBLIC)


def test_the_longest_content_for_the_most_recipients_fits_the_limit():
    many = [public_key((index + 1).to_bytes(32)) for index in range(MAX_RECIPIENTS)]
    envelope = seal(bytes(MAX_CANONICAL), many)
    assert len(envelope) <= MAX_ENVELOPE
    assert open_sealed(envelope, MAX_RECIPIENTS.to_bytes(32)) == bytes(MAX_CANONICAL)


@pytest.mark.parametrize("count", [0, MAX_RECIPIENTS + 1])
def test_none_and_too_many_recipients_are_refused(count):
    keys = [public_key((index + 1).to_bytes(32)) for index in range(count)]
    with pytest.raises(InferenceError, match="1 to 256 recipients"):
        seal(SECRET, keys)


@pytest.mark.parametrize("key", [b"", bytes(33), b"\x04" * 65, b"\x02" + b"\xff" * 32])
def test_what_is_no_public_key_is_refused(key):
    with pytest.raises(InferenceError, match="no compressed secp256k1 public key"):
        require_public_key(key)


@pytest.mark.parametrize("key", [b"", bytes(32), b"\xff" * 32])
def test_what_is_no_private_key_is_refused(key):
    with pytest.raises(InferenceError, match="no secp256k1 key"):
        open_sealed(ENVELOPE, key)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_noise_never_crashes(noise):
    with pytest.raises(InferenceError):
        open_sealed(noise, KEYS[0])


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=2000))
def test_any_content_survives(content):
    assert open_sealed(seal(content, PUBLIC[:1]), KEYS[0]) == content
