"""The GGUF reader trusts nothing: bounds before allocation, one sentence for whatever is wrong."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.inference.gguf_files import ABOUT, gguf, pair, text

from zerog.errors import InferenceError
from zerog.inference.gguf import MAX_PAIRS, MAX_TENSORS, read_gguf
from zerog.inference.weights import SMOLLM2, fetch

HUGE = 1 << 60


def _read(tmp_path, data: bytes):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return read_gguf(path)


def _refusal(tmp_path, data: bytes) -> str:
    with pytest.raises(InferenceError) as caught:
        _read(tmp_path, data)
    message = caught.value.message
    assert message.startswith(f"{tmp_path}/model.gguf is no usable GGUF file: ")
    assert "\n" not in message
    return message.partition("file: ")[2]


def test_a_file_says_what_it_is(tmp_path):
    about = _read(tmp_path, gguf())
    assert (about.architecture, about.name, about.quantisation) == ("llama", "Tiny", "Q8_0")
    assert about.trained_context == 128
    assert about.chat_template == ABOUT["tokenizer.chat_template"]
    assert about.values["tokenizer.ggml.tokens"] == 3


def test_the_built_in_weights_are_read():
    about = read_gguf(fetch(SMOLLM2))
    assert (about.architecture, about.quantisation, about.trained_context) == ("llama", "Q4_1", 8192)
    assert about.chat_template is not None
    assert "You are a helpful AI assistant named SmolLM" in about.chat_template
    assert about.values["tokenizer.ggml.tokens"] == 49152


def test_another_magic_is_refused(tmp_path):
    assert _refusal(tmp_path, gguf(magic=b"GGML")) == "it begins with b'GGML' instead of b'GGUF'"


def test_an_empty_file_is_refused(tmp_path):
    assert _refusal(tmp_path, b"") == "it is cut off at the magic"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InferenceError, match=r"nothing\.gguf cannot be read: No such file"):
        read_gguf(tmp_path / "nothing.gguf")


@pytest.mark.parametrize("version", [0, 1, 4, 0xFFFF])
def test_an_unknown_version_is_refused(tmp_path, version):
    assert _refusal(tmp_path, gguf(version=version)).startswith(f"version {version}; known are 2 and 3")


def test_a_big_endian_file_is_called_by_its_name(tmp_path):
    data = b"GGUF" + struct.pack(">IQQ", 3, 1, 1)
    assert _refusal(tmp_path, data) == "version 3, written big-endian; known are 2 and 3, little-endian"


@pytest.mark.parametrize(
    ("tensors", "pairs", "message"),
    [
        (MAX_TENSORS + 1, 0, f"{MAX_TENSORS + 1} tensors, more than the limit of {MAX_TENSORS}"),
        (1, MAX_PAIRS + 1, f"{MAX_PAIRS + 1} key-value pairs, more than the limit of {MAX_PAIRS}"),
        (1, MAX_PAIRS, f"it is cut off: {MAX_PAIRS} key-value pairs do not fit the rest of the file"),
    ],
)
def test_counts_are_bounded(tmp_path, tensors, pairs, message):
    data = b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + bytes(64)
    if tensors == 1:
        data += bytes(64)
    assert _refusal(tmp_path, data) == message


def test_a_text_of_an_exabyte_allocates_nothing(tmp_path):
    entry = text("general.architecture") + struct.pack("<IQ", 8, HUGE)
    data = gguf(pairs=[entry])
    tracemalloc.start()
    message = _refusal(tmp_path, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message == f"general.architecture has {HUGE} bytes, more than the limit of 1048576"
    assert peak < 1 << 20


@pytest.mark.parametrize(("kind", "what"), [(4, "numbers"), (8, "texts")])
def test_a_list_of_an_exabyte_is_refused(tmp_path, kind, what):
    entry = text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, kind, HUGE)
    assert _refusal(tmp_path, gguf(pairs=[entry])).startswith(f"{HUGE} {what} in tokenizer.ggml.tokens")


def test_a_list_longer_than_the_file_is_refused(tmp_path):
    entry = text("x") + struct.pack("<IIQ", 9, 4, 1 << 20)
    assert "do not fit the rest of the file" in _refusal(tmp_path, gguf(pairs=[entry]))


def test_lists_of_lists_are_refused_at_the_first_level(tmp_path):
    nested = text("deep") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * 10_000
    assert _refusal(tmp_path, gguf(pairs=[nested])) == "deep is a list of lists"


def test_a_key_that_stands_twice_is_refused(tmp_path):
    twice = [pair("general.architecture", "llama"), pair("general.architecture", "gemma")]
    assert _refusal(tmp_path, gguf(pairs=twice)) == "the key 'general.architecture' stands there twice"


def test_text_that_is_no_utf8_is_refused(tmp_path):
    entry = pair("general.architecture", b"ll\xff")
    assert _refusal(tmp_path, gguf(pairs=[entry])) == "general.architecture is not UTF-8 at byte 2"


def test_an_unknown_type_is_refused(tmp_path):
    entry = text("x") + struct.pack("<I", 99)
    assert _refusal(tmp_path, gguf(pairs=[entry])) == "x has the unknown type 99"


def test_a_file_without_architecture_is_refused(tmp_path):
    assert _refusal(tmp_path, gguf({"general.name": "x"})) == "it names no general.architecture"


def test_weights_that_are_cut_off_are_found_without_reading_them(tmp_path):
    whole = gguf(weights=1024)
    message = _refusal(tmp_path, whole[:-1])
    assert message == (
        f"it is cut off: tensor output.weight ends at byte {len(whole)} of a file of {len(whole) - 1} bytes"
    )


def test_a_tensor_beyond_all_measure_is_refused(tmp_path):
    assert "it is cut off: tensor output.weight ends" in _refusal(
        tmp_path, gguf().replace(struct.pack("<IQ", 1, 64), struct.pack("<IQ", 1, HUGE))
    )


def test_every_truncation_is_one_sentence(tmp_path):
    whole = gguf()
    for length in range(len(whole)):
        assert _refusal(tmp_path, whole[:length])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, len(gguf()) - 1), st.integers(0, 255)), max_size=8))
def test_damage_gives_an_error_or_values_and_nothing_else(tmp_path, edits):
    data = bytearray(gguf())
    for place, value in edits:
        data[place] = value
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    try:
        about = read_gguf(path)
    except InferenceError:
        return
    assert about.size == len(data)
