"""Rows read from llama.cpp's memory: the same bits as cyllama's lists, or nothing."""

from __future__ import annotations

import numpy as np
import pytest

from zerog.inference.engines.llama_context import LlamaContext, LlamaModel, Row
from zerog.inference.engines.row_memory import RowMemory
from zerog.inference.weights import SMOLLM2, fetch


@pytest.fixture(scope="module")
def model():
    loaded = LlamaModel(fetch(SMOLLM2))
    yield loaded
    loaded.close()


@pytest.fixture
def context(model):
    opened = LlamaContext(model, 3, 256)
    yield opened
    opened.close()


def batch(slots: list[int], counts: list[int], unwanted: int = 0) -> list[Row]:
    """Rows of some slots; the first ``unwanted`` of each are not wanted."""
    return [
        Row(100 + 7 * slot + position, position, slot, position >= unwanted)
        for slot, count in zip(slots, counts, strict=True)
        for position in range(count)
    ]


def wanted(rows: list[Row]) -> list[int]:
    return [index for index, row in enumerate(rows) if row.wanted]


def without_memory(context: LlamaContext) -> None:
    context._memory = None


@pytest.mark.parametrize(
    ("slots", "counts", "unwanted"),
    [
        ([0], [1], 0),
        ([2], [32], 0),
        ([2, 0], [9, 3], 0),
        ([1, 2, 0], [20, 1, 11], 0),
        ([2, 1], [8, 6], 5),
    ],
)
def test_rows_from_memory_are_cyllamas_rows(context, slots, counts, unwanted):
    rows = batch(slots, counts, unwanted)
    context.decode(rows)
    assert context.reads_memory
    direct = [context.logits(index) for index in wanted(rows)]
    assert context.reads_memory
    without_memory(context)
    lists = [context.logits(index) for index in wanted(rows)]
    assert len(direct) == sum(max(0, count - unwanted) for count in counts)
    assert [row.tobytes() for row in direct] == [row.tobytes() for row in lists]


def test_a_row_stays_what_it_is_when_the_next_batch_is_computed(context):
    context.decode(batch([0], [4]))
    row = context.logits(3)
    before = row.tobytes()
    context.decode([Row(9, position, 0, True) for position in range(4, 36)])
    assert row.tobytes() == before != context.logits(31).tobytes()


class Astray:
    """Memory that holds something else than the row that was asked for."""

    def __init__(self, row: np.ndarray | None) -> None:
        self.row = row
        self.closed = False

    def read(self, number: int) -> np.ndarray | None:
        return self.row

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("found", [None, np.zeros(49152, np.float32)])
def test_memory_that_differs_is_given_up_and_the_row_is_right(context, found):
    context.decode(batch([0], [2]))
    expected = context.logits(1).tobytes()
    context._memory.close()
    context._memory = astray = Astray(found)
    assert context.logits(1).tobytes() == expected
    assert astray.closed
    assert not context.reads_memory
    assert context.logits(0).shape == (49152,)


def test_without_the_kernels_file_rows_come_as_lists(model, monkeypatch):
    monkeypatch.setattr("zerog.inference.engines.row_memory._MEMORY", "/nothing/here")
    opened = LlamaContext(model, 1, 64)
    try:
        assert not opened.reads_memory
        opened.decode(batch([0], [3]))
        assert np.isfinite(opened.logits(2)).all()
    finally:
        opened.close()


def test_an_object_without_such_a_pointer_is_not_mistaken():
    assert RowMemory.find(object(), [np.arange(100, dtype=np.float32)]) is None
