"""The transcript file: round trip, and hostile content."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerog.errors import InferenceError
from zerog.inference.transcript_file import (
    MAX_FILE_SIZE,
    decode_transcript,
    encode_transcript,
    read_transcript,
    write_transcript,
)
from zerog.inference.verification import check_execution, check_transcript


def _document(transcript):
    return msgspec.json.decode(encode_transcript(transcript))


def _decode(document):
    return decode_transcript(msgspec.json.encode(document))


def test_a_transcript_survives_the_file(transcript, tmp_path):
    path = tmp_path / "receipt.json"
    write_transcript(path, transcript)
    again = read_transcript(path)
    assert again.receipt == transcript.receipt
    assert again.transcript == transcript.transcript
    assert encode_transcript(again) == encode_transcript(transcript)


def test_an_output_that_is_not_text_survives_the_file(transcript):
    cut = dataclasses.replace(
        transcript, transcript=dataclasses.replace(transcript.transcript, output=b"\xf0\x9f\x8e")
    )
    assert decode_transcript(encode_transcript(cut)).transcript.output == b"\xf0\x9f\x8e"


def test_an_answer_is_readable_in_the_file(transcript):
    assert _document(transcript)["output"] == {
        "encoding": "utf-8",
        "data": transcript.transcript.output.decode(),
    }


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "other/9", "format 'other/9'"),
        (("domain", "chainId"), 0, "chainId = 0 is out of range"),
        (("domain", "registry"), "0x00", "domain.registry has 1 bytes"),
        (("signature",), 5, "malformed"),
        (("signature",), "zz", "signature must be 0x-hexadecimal"),
        (("receiptHash",), "0x1234", "receiptHash has 2 bytes"),
        (("receipt", "tier"), 300, "tier = 300 does not fit"),
        (("params", "maxTokens"), "x", "maxTokens must be a number"),
        (("output",), {"encoding": "base64", "data": "???"}, "output.data is not base64"),
        (("output",), {"encoding": "hex", "data": ""}, "malformed"),
        (("trace", 0, "token"), -1, r"trace\[0\].token = -1"),
        (("trace", 0, "token"), 2**32, r"trace\[0\].token"),
        (("trace", 0, "row"), "0x", r"trace\[0\].row has 0 bytes"),
        (("trace", 0, "top"), [], r"trace\[0\].top has 0 pairs"),
        (("trace", 0, "top", 0), [0, 2**31], r"trace\[0\].top has a pair out of range"),
        (("engine",), "ä", "engine is not ASCII"),
        (("model", "weightsRoot"), "0x", "model.weightsRoot has 0 bytes"),
        (("surprise",), 1, "malformed"),
    ],
)
def test_malformed_members_are_refused_by_name(transcript, path, value, message):
    document = _document(transcript)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(InferenceError, match=message):
        _decode(document)


def test_a_trace_is_bounded(transcript):
    document = _document(transcript)
    document["trace"] = document["trace"][:1] * 4097
    with pytest.raises(InferenceError, match="4097 steps, more than the limit of 4096"):
        _decode(document)


def test_a_file_is_bounded(tmp_path):
    path = tmp_path / "big.json"
    path.write_bytes(b" " * (MAX_FILE_SIZE + 1))
    with pytest.raises(InferenceError, match="more than the limit"):
        read_transcript(path)


def test_files_that_cannot_be_used_are_named(tmp_path, transcript):
    with pytest.raises(InferenceError, match=r"cannot read .*missing\.json"):
        read_transcript(tmp_path / "missing.json")
    with pytest.raises(InferenceError, match="cannot write"):
        write_transcript(tmp_path / "no" / "folder.json", transcript)
    with pytest.raises(InferenceError, match="not JSON"):
        decode_transcript(b"{")


FORMER = Path(__file__).parents[1] / "data" / "inference" / "files" / "answer-1.json"


def test_a_file_that_format_1_wrote_is_read_and_verified_to_the_last_row(engine):
    signed = read_transcript(FORMER)
    checks = check_transcript(signed) + check_execution(signed, engine)
    assert [check.name for check in checks if not check.passed] == []
    assert signed.transcript.output == b"The colour I'm referring to"
    assert signed.transcript.prompt_tokens == signed.receipt.promptTokens
    assert msgspec.json.decode(encode_transcript(signed))["format"].endswith("/2")
    assert decode_transcript(encode_transcript(signed)) == signed


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 10**6), st.binary(max_size=6))
def test_damaged_files_never_crash(transcript, position, noise):
    data = bytearray(encode_transcript(transcript))
    position %= len(data)
    data[position : position + len(noise)] = noise
    try:
        decode_transcript(bytes(data))
    except InferenceError:
        return
