"""What a reader sees of an output while it grows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerog.errors import InferenceError
from zerog.inference.engines.output import GrowingOutput, check_stop_strings, incomplete_tail


def _grow(pieces, stops=()):
    told: list[bytes] = []
    growing = GrowingOutput(check_stop_strings(stops), told.append)
    stopped = any(growing.append(piece) for piece in pieces)
    return growing.finish(), told, stopped


def test_a_stop_string_across_tokens_never_leaks():
    output, told, stopped = _grow([b"one EN", b"D", b" two"], ["END"])
    assert (output, told, stopped) == (b"one ", [b"one "], True)


def test_what_only_looked_like_a_stop_string_comes_later():
    output, told, stopped = _grow([b"a EN", b"T", b"E"], ["END"])
    assert (output, told, stopped) == (b"a ENTE", [b"a ", b"ENT", b"E"], False)


def test_a_character_comes_whole():
    party = "🎉".encode()
    assert _grow([party[:1], party[1:3], party[3:] + b"!"]) == (party + b"!", [party + b"!"], False)


def test_an_output_cut_inside_a_character_is_told_to_its_end():
    assert _grow([b"a", b"\xf0\x9f"]) == (b"a\xf0\x9f", [b"a", b"\xf0\x9f"], False)


def test_the_earliest_of_several_stop_strings_cuts():
    assert _grow([b"abcdef"], ["ef", "cd"])[0] == b"ab"


def test_a_repeated_beginning_of_a_stop_string_is_seen():
    assert _grow([b"aa", b"ab"], ["aab"]) == (b"a", [b"a"], True)


@given(
    st.text("ab🎉é", max_size=30).map(str.encode),
    st.lists(st.text("ab🎉é", min_size=1, max_size=3), max_size=3),
    st.lists(st.integers(1, 4), min_size=120, max_size=130),
)
def test_pieces_are_characters_and_together_the_output(text, stops, sizes):
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    output, told, stopped = _grow(pieces, stops)
    assert b"".join(told) == output
    for piece in told:
        piece.decode()
    assert stopped == any(stop.encode() in text for stop in stops)
    assert not any(stop.encode() in output for stop in stops)
    assert text.startswith(output)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", 0),
        (b"abc", 0),
        (b"a\xc3", 1),
        (b"\xe2\x82", 2),
        (b"\xf0\x9f\x8e", 3),
        ("é".encode(), 0),
        (b"\x80\x80\x80", 0),
        (b"\xc0", 0),
        (b"\xff", 0),
    ],
)
def test_the_incomplete_tail_is_what_could_still_become_a_character(data, size):
    assert incomplete_tail(data) == size


@pytest.mark.parametrize(
    ("stops", "message"),
    [
        ([""], "stop string 0 has 0 bytes"),
        (["a", "b" * 257], "stop string 1 has 257 bytes"),
        (["a"] * 17, "17 stop strings are more than the limit of 16"),
        (["\ud800"], "stop string 0 is not valid Unicode"),
    ],
)
def test_bad_stop_strings_are_named(stops, message):
    with pytest.raises(InferenceError, match=message):
        check_stop_strings(stops)
