"""The canonical transcript: golden bytes, one encoding per value, and strangers' bytes."""

from __future__ import annotations

import dataclasses
import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference import golden

from zerog.errors import InferenceError
from zerog.inference.engines import FinishReason
from zerog.inference.models import ModelIdentity
from zerog.inference.receipt import SamplingParams, stop_hash
from zerog.inference.trace import TraceStep
from zerog.inference.transcript import MAX_CANONICAL, MAX_STEPS, Transcript, decode_canonical
from zerog.inference.verification import find_fault

INDEX = json.loads(golden.INDEX.read_text())
FILES = sorted(set(INDEX) - {"maximum"})
REAL = ("cut", "greedy", "seeded", "stopped")


def _golden(name: str) -> bytes:
    return (golden.FOLDER / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_golden_bytes_are_read_and_written_alike(name):
    data = _golden(name)
    transcript = decode_canonical(data)
    assert transcript.canonical_bytes() == data
    assert (len(data), golden.root_of(data)) == (INDEX[name]["size"], INDEX[name]["root"])
    assert transcript.output.hex() == INDEX[name]["output"]


@pytest.mark.parametrize("name", ["empty", "numbers"])
def test_written_transcripts_have_the_golden_bytes(name):
    assert golden.written()[name].canonical_bytes() == _golden(name)


@pytest.mark.parametrize("name", REAL)
def test_golden_answers_are_what_this_machine_computes(name, engine):
    assert find_fault(decode_canonical(_golden(name)), engine) is None


def test_the_golden_answers_end_in_every_way():
    ends = {name: decode_canonical(_golden(name)).finish for name in REAL}
    assert ends["stopped"] is FinishReason.STOP_STRING
    assert ends["cut"] is FinishReason.LENGTH
    with pytest.raises(UnicodeDecodeError):
        decode_canonical(_golden("cut")).output.decode()


def test_the_longest_transcript_has_its_golden_root_and_fits_the_limit():
    data = golden.maximum().canonical_bytes()
    assert (len(data), golden.root_of(data)) == (INDEX["maximum"]["size"], INDEX["maximum"]["root"])
    assert len(data) <= MAX_CANONICAL
    assert decode_canonical(data) == golden.maximum()


@pytest.mark.parametrize("name", FILES)
def test_no_beginning_of_a_transcript_is_a_transcript(name):
    data = _golden(name)
    for size in range(min(len(data), 600)):
        with pytest.raises(InferenceError):
            decode_canonical(data[:size])
    with pytest.raises(InferenceError, match="goes on for 1 bytes"):
        decode_canonical(data + b"\0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"request": b"r" * ((1 << 20) + 1)}, "request has 1048577 bytes"),
        ({"engine": "é"}, "cannot be encoded"),
        ({"stop_strings": ("\ud800",)}, "cannot be encoded"),
        ({"stop_strings": ("x",)}, "does not carry"),
        ({"prompt_tokens": 2**32}, "does not fit 32 bits"),
        ({"steps": (TraceStep(1, bytes(32), ((0, 0),) * 7),)}, "cannot be encoded"),
        ({"steps": (TraceStep(0, bytes(32), ((0, 0),) * 8),) * (MAX_STEPS + 1)}, "counts 4097"),
    ],
)
def test_what_readers_would_refuse_gets_no_bytes(changes, message):
    transcript = dataclasses.replace(golden.written()["empty"], **changes)
    with pytest.raises(InferenceError, match=message):
        transcript.canonical_bytes()


def test_foreign_versions_ends_and_digests_are_refused():
    data = _golden("empty")
    with pytest.raises(InferenceError, match="version 2"):
        decode_canonical(b"\x02" + data[1:])
    with pytest.raises(InferenceError, match="unknown reason 9"):
        decode_canonical(data[: -4 - 64 - 4 - 1] + b"\x09" + data[-4 - 64 - 4 :])
    with pytest.raises(InferenceError, match="digests are of another"):
        decode_canonical(data[:-68] + bytes(64) + data[-4:])


def test_a_count_of_billions_is_refused_before_anything_is_allocated():
    data = _golden("empty")
    with pytest.raises(InferenceError, match="counts 4294967295"):
        decode_canonical(data[:-4] + b"\xff" * 4)
    with pytest.raises(InferenceError, match="4096 trace steps do not fit"):
        decode_canonical(data[:-4] + (4096).to_bytes(4))


_U32 = st.integers(0, 2**32 - 1)
_STEP = st.builds(
    TraceStep,
    _U32,
    st.binary(min_size=32, max_size=32),
    st.lists(st.tuples(_U32, st.integers(-(2**31), 2**31 - 1)), min_size=8, max_size=8).map(tuple),
)
_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_ROOT = st.binary(min_size=32, max_size=32).map(lambda raw: "0x" + raw.hex())
_MODEL = st.builds(
    ModelIdentity, _TEXT, _ROOT, _ROOT, _TEXT, st.text(st.characters(codec="ascii"), max_size=9), st.just("")
)


@st.composite
def _transcripts(draw):
    stops = tuple(draw(st.lists(_TEXT, max_size=3)))
    params = SamplingParams(
        *(draw(_U32) for _ in range(5)),
        seed=draw(st.integers(0, 2**64 - 1)),
        stopHash=stop_hash(list(stops)),
        sampler=draw(st.integers(0, 255)),
    )
    return Transcript(
        draw(st.binary(max_size=50)),
        params,
        stops,
        draw(st.binary(max_size=50)),
        draw(st.sampled_from(FinishReason)),
        draw(_U32),
        draw(st.text(st.characters(codec="ascii"), max_size=20)),
        draw(_MODEL),
        tuple(draw(st.lists(_STEP, max_size=3))),
    )


@settings(max_examples=100, deadline=None)
@given(_transcripts())
def test_every_transcript_survives_its_encoding(transcript):
    assert decode_canonical(transcript.canonical_bytes()) == transcript


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FILES), st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_altered_bytes_are_refused_or_are_another_transcript(name, position, noise):
    """Whatever is accepted has exactly the bytes that were given: no two encodings of one value."""
    data = bytearray(_golden(name))
    position %= len(data)
    data[position : position + len(noise)] = noise
    try:
        transcript = decode_canonical(bytes(data))
    except InferenceError:
        return
    assert transcript.canonical_bytes() == bytes(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_never_crashes_the_decoder(noise):
    with pytest.raises(InferenceError):
        decode_canonical(noise)


def test_changed_parameters_change_the_bytes():
    empty = golden.written()["empty"]
    other = dataclasses.replace(empty, params=msgspec.structs.replace(empty.params, seed=1))
    assert other.canonical_bytes() != empty.canonical_bytes()
