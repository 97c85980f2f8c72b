"""The manifest of a directory, and manifests that want out of it."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerog.errors import StorageError
from zerog.storage.directory import MAX_DEPTH, Entry, Kind, decode, encode, magic

ROOT = "0x" + "ab" * 32


def manifest(top: Any, version: int = 2) -> bytes:
    return magic() + version.to_bytes(2, "big") + json.dumps(top).encode()


def tree(*entries: Any) -> bytes:
    return manifest({"name": "/", "type": "directory", "entries": list(entries)})


def test_the_bytes_of_a_manifest_are_those_of_the_format() -> None:
    file = Entry("b", Kind.FILE, roots=(bytes([0xAB]) * 32,), size=3)
    top = Entry("/", Kind.DIRECTORY, entries=(file, Entry("a", Kind.LINK, link="b")))
    text = (
        '{"name":"/","type":"directory","entries":[{"name":"a","type":"symbolic","link":"b"},'
        f'{{"name":"b","type":"file","roots":["{ROOT}"],"size":3}}]}}'
    )
    assert encode(top) == magic() + b"\x00\x02" + text.encode()


def test_version_1_has_one_hash() -> None:
    entry = {"name": "f", "type": "file", "hash": ROOT, "size": 1}
    top = decode(manifest({"name": "/", "type": "directory", "entries": [entry]}, 1))
    assert top.entries[0].roots == (bytes.fromhex(ROOT[2:]),)


def test_an_entry_is_located_by_its_path() -> None:
    deep = {"name": "d", "type": "directory", "entries": [{"name": "f", "type": "file"}]}
    top = decode(tree(deep))
    assert top.locate("d/f") is top.entries[0].entries[0]
    assert top.locate("d/../d/f") is None and top.locate("x") is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc", "a\\b", "a\x00", "a\r\nb", "x" * 256, None, 3]
)
def test_a_name_that_is_a_path_or_none_is_refused(name: Any) -> None:
    with pytest.raises(StorageError, match="name"):
        decode(tree({"name": name, "type": "file"}))


@pytest.mark.parametrize("link", ["/etc/passwd", "..", "../x", "a/../../x", "", "x\x00", None])
def test_a_link_out_of_the_tree_is_refused(link: Any) -> None:
    with pytest.raises(StorageError, match="link"):
        decode(tree({"name": "l", "type": "symbolic", "link": link}))


def test_a_link_within_the_tree_is_kept() -> None:
    top = decode(
        tree(
            {"name": "d", "type": "directory", "entries": [{"name": "l", "type": "symbolic", "link": "../x"}]}
        )
    )
    assert top.entries[0].entries[0].link == "../x"


def test_a_tree_that_is_too_deep_is_refused() -> None:
    node: Any = {"name": "d", "type": "directory"}
    for _ in range(MAX_DEPTH + 1):
        node = {"name": "d", "type": "directory", "entries": [node]}
    with pytest.raises(StorageError, match="deeper"):
        decode(tree(node))


@pytest.mark.parametrize("limit", [1_000, 100_000])
def test_json_of_endless_depth_is_refused_however_deep_the_program_may_recurse(limit: int) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, before))
    try:
        with pytest.raises(StorageError, match="deeper"):
            decode(magic() + b"\x00\x02" + b"[" * 100_000)
    finally:
        sys.setrecursionlimit(before)


def test_brackets_in_a_name_are_no_depth() -> None:
    name = "[{" * 120 + '"'
    top = decode(tree({"name": name, "type": "directory"}))
    assert top.entries[0].name == name


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "f", "type": "file", "size": 1},
        {"name": "f", "type": "file", "size": -1},
        {"name": "f", "type": "file", "size": 1, "roots": ["0x12"]},
        {"name": "f", "type": "file", "size": 1, "roots": "x"},
        {"name": "f", "type": "device"},
        [],
    ],
)
def test_an_entry_that_makes_no_sense_is_refused(entry: Any) -> None:
    with pytest.raises(StorageError):
        decode(tree(entry))


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(StorageError, match="twice"):
        decode(tree({"name": "f", "type": "file"}, {"name": "f", "type": "file"}))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for blob in (data, magic() + b"\x00\x02" + data):
        try:
            decode(blob)
        except StorageError:
            continue
