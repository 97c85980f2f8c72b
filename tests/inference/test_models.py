"""The store of models: added whole or not at all, found by any of their names, refused when altered."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from tests.inference.gguf_files import ABOUT, gguf

from zerog.contracts.genesis import CHATML
from zerog.errors import InferenceError
from zerog.inference import weights_check
from zerog.inference.engine_host import added
from zerog.inference.engines.llama_cpp import LlamaCppEngine
from zerog.inference.model_store import ModelStore, SelfTestResult
from zerog.inference.models import DEFAULT_MODEL, id_of
from zerog.inference.weights import SMOLLM2, fetch
from zerog.inference.weights_check import root_of

PASSED = SelfTestResult(True, LlamaCppEngine.description, "exact in 9 rows")


@pytest.fixture(autouse=True)
def private_notes(monkeypatch, tmp_path):
    """Stamps of hashed files go to a directory of the test's own."""
    monkeypatch.setattr(weights_check, "cache_folder", lambda: tmp_path / "cache" / "weights")


@pytest.fixture
def store(tmp_path, monkeypatch) -> ModelStore:
    monkeypatch.setenv("ZEROG_MODELS", str(tmp_path / "models"))
    return ModelStore()


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "tiny-Q8_0.gguf"
    path.write_bytes(gguf(weights=100_000))
    return path


def test_an_added_model_is_found_by_name_id_and_root(store, file):
    model = store.add(file)
    assert model.name == "tiny-Q8_0"
    assert model.model.quantisation == "Q8_0"
    assert model.model.chat_template == ABOUT["tokenizer.chat_template"]
    for wanted in (model.name, model.model_id, id_of(model.model), model.model.weights_root):
        assert store.find(wanted) == model
    assert store.weights(model).read_bytes() == file.read_bytes()


def test_the_identity_is_the_storage_root_of_the_file(store, file):
    from zerog.storage.transfer.source import BytesSource

    root = BytesSource(file.read_bytes()).tree().root
    assert store.add(file).model.weights_root == "0x" + root.hex()


def test_another_template_is_another_model_with_the_same_weights(store, file):
    own, chatml = store.add(file, "own"), store.add(file, "chatml", template=CHATML)
    assert own.model_id != chatml.model_id
    assert own.path == chatml.path
    with pytest.raises(InferenceError, match="belong to several models here: chatml, own"):
        store.find(own.model.weights_root)


def test_the_built_in_model_is_listed_first_and_cannot_be_shadowed_or_removed(store, file):
    store.add(file, "another")
    assert [model.name for model in store.list()] == [DEFAULT_MODEL.name, "another"]
    with pytest.raises(InferenceError, match="is the built-in model"):
        store.add(file, DEFAULT_MODEL.name)
    with pytest.raises(InferenceError, match="is built in and cannot be removed"):
        store.remove(DEFAULT_MODEL.name)


def test_adding_again_changes_nothing(store, file):
    store.add(file)
    tested = store.note_self_test("tiny-Q8_0", PASSED)
    assert store.add(file) == tested


def test_a_name_belongs_to_one_model(store, file, tmp_path):
    store.add(file, "mine")
    other = tmp_path / "other.gguf"
    other.write_bytes(gguf(weights=200_000))
    with pytest.raises(InferenceError, match="the name mine belongs to another model here"):
        store.add(other, "mine")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 97, "ä", "a b"])
def test_a_name_that_is_no_file_name_is_refused(store, file, name):
    with pytest.raises(InferenceError, match=r"is no name for a model|tiny"):
        store.add(file, name or "\n")


def test_an_altered_byte_is_found_by_verify_and_by_the_engine(store, file):
    model = store.add(file)
    path = store.weights(model)
    with path.open("r+b") as stored:
        stored.seek(300_000)
        stored.write(b"\x99")
    verdict = store.verify(model)
    assert not verdict.intact
    assert f"instead of {model.model.weights_root}" in verdict.detail
    with pytest.raises(InferenceError, match="is not the weights of tiny-Q8_0"):
        LlamaCppEngine(path, model.model)


def test_an_alteration_with_the_old_times_restored_is_still_found(store, file):
    model = store.add(file)
    path = store.weights(model)
    root_of(path)
    before = path.stat()
    with path.open("r+b") as stored:
        stored.seek(300_000)
        stored.write(b"\x99")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InferenceError, match="is not the weights of"):
        LlamaCppEngine(path, model.model)


def test_a_file_that_looks_unchanged_is_hashed_once(store, file, monkeypatch):
    hashed = []
    real = weights_check._computed
    monkeypatch.setattr(
        weights_check, "_computed", lambda path, *rest: hashed.append(path) or real(path, *rest)
    )
    first = root_of(file)
    assert root_of(file) == first
    assert hashed == [file]
    assert root_of(file, always=True) == first
    assert hashed == [file, file]


def test_a_damaged_note_costs_a_hash_and_nothing_else(file, tmp_path):
    first = root_of(file)
    for note in (tmp_path / "cache" / "stamps").iterdir():
        note.write_bytes(b"{ not json")
    assert root_of(file) == first


def test_missing_weights_are_said(store, file):
    model = store.add(file)
    store.weights(model).unlink()
    gone = store.find(model.name)
    assert store.verify(gone).detail == "the weights are missing"
    with pytest.raises(InferenceError, match="are not on this machine"):
        store.weights(gone)
    assert store.add(file).path is not None


def test_a_copy_goes_on_where_it_stopped(store, file):
    root = root_of(file)
    part = store.folder / "weights" / f"{root.hex()}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(file.read_bytes()[:150_000])
    copied = []
    store.add(file, progress=lambda stage, done, total: copied.append((stage, done)))
    assert [done for stage, done in copied if stage == "copy"] == [file.stat().st_size]
    assert not part.exists()
    assert store.verify(store.find("tiny-Q8_0")).intact


@pytest.mark.parametrize("left", [b"something else" * 1000, bytes(1_000_000)])
def test_what_another_attempt_left_is_not_trusted(store, file, left):
    part = store.folder / "weights" / f"{root_of(file).hex()}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    model = store.add(file)
    assert store.verify(model).intact


_DIES = """
import os, sys
from pathlib import Path
from zerog.inference import model_store

crash, file = sys.argv[1], Path(sys.argv[2])
if crash == "copy":
    model_store._CHUNK = 65536
    def progress(stage, done, total):
        if stage == "copy" and done >= total // 2:
            os._exit(9)
else:
    progress = None
    name = {"before-name": "_sync_folder", "before-record": "write_whole"}[crash]
    setattr(model_store, name, lambda *rest: os._exit(9))
model_store.ModelStore().add(file, "mine", progress=progress)
"""


@pytest.mark.parametrize("crash", ["copy", "before-name", "before-record"])
def test_a_death_while_adding_leaves_no_model_and_the_next_attempt_completes(store, file, crash, tmp_path):
    environment = os.environ | {"ZEROG_CACHE": str(tmp_path / "child")}
    died = subprocess.run([sys.executable, "-c", _DIES, crash, str(file)], env=environment, check=False)
    assert died.returncode == 9
    assert [model.name for model in store.list()] == [DEFAULT_MODEL.name]
    assert store.verify(store.add(file, "mine")).intact
    assert not list(store.folder.rglob("*.part"))


def test_a_link_shares_the_file(store, file):
    model = store.add(file, link=True)
    assert store.weights(model).samefile(file)


def test_weights_are_removed_with_their_last_model(store, file):
    first, second = store.add(file, "first"), store.add(file, "second", template=CHATML)
    store.remove("first")
    assert store.weights(second).is_file()
    store.remove("second")
    assert first.path is not None
    assert not first.path.exists()


def test_a_file_without_template_needs_one(store, tmp_path):
    bare = tmp_path / "bare.gguf"
    bare.write_bytes(gguf({k: v for k, v in ABOUT.items() if k != "tokenizer.chat_template"}))
    with pytest.raises(InferenceError, match="holds no chat template; choose one: --template chatml"):
        store.add(bare)
    assert store.add(bare, template=CHATML).model.chat_template == CHATML


def test_a_template_that_cannot_render_is_refused_when_added(store, file):
    with pytest.raises(InferenceError, match="the chat template"):
        store.add(file, template="{{ nonsense() }}")
    assert len(store.list()) == 1


def test_a_file_that_does_not_say_its_quantisation_is_refused(store, tmp_path):
    path = tmp_path / "odd.gguf"
    path.write_bytes(gguf(ABOUT | {"general.file_type": 77}))
    with pytest.raises(InferenceError, match=r"does not say its quantisation: general\.file_type is 77"):
        store.add(path)


def test_a_damaged_record_is_named(store, file):
    store.add(file)
    record = store.folder / "tiny-Q8_0.json"
    record.write_bytes(b"{")
    with pytest.raises(InferenceError, match=r"the record .*tiny-Q8_0\.json is damaged"):
        store.list()


def test_a_record_of_another_version_is_refused(store, file):
    store.add(file)
    record = store.folder / "tiny-Q8_0.json"
    record.write_bytes(msgspec.json.encode(msgspec.json.decode(record.read_bytes()) | {"version": 9}))
    with pytest.raises(InferenceError, match="has version 9, known is 1"):
        store.list()


def test_only_a_model_that_passed_its_test_is_served(store, file):
    store.add(file)
    with pytest.raises(InferenceError, match="tiny-Q8_0 is not signable: not self-tested"):
        added("tiny-Q8_0")
    store.note_self_test("tiny-Q8_0", SelfTestResult(False, PASSED.engine, "row 3 differs"))
    with pytest.raises(InferenceError, match="is not signable: row 3 differs"):
        added("tiny-Q8_0")
    store.note_self_test("tiny-Q8_0", SelfTestResult(True, "llama.cpp/another build", "exact"))
    with pytest.raises(InferenceError, match=r"was tested with another engine, llama\.cpp/another build"):
        added("tiny-Q8_0")
    store.note_self_test("tiny-Q8_0", PASSED)
    served, _ = added("tiny-Q8_0")
    assert served.model == store.find("tiny-Q8_0").model


def test_the_engine_refuses_the_built_in_weights_under_another_identity():
    other = replace(DEFAULT_MODEL, name="other", weights_root="0x" + "11" * 32)
    with pytest.raises(InferenceError, match="is not the weights of other: its root is 0x6a9a2e28"):
        LlamaCppEngine(fetch(SMOLLM2), other)
