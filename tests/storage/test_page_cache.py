"""What stays in the page cache, through the calls that the kernel gets; contents are those of the store's tests."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest

from zerog.storage import page_cache
from zerog.storage.page_cache import KEPT, WINDOW, ReadBehind, WriteBehind

STEP = 256 << 10
MANY = KEPT // WINDOW + 3


@pytest.fixture
def let_go(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Windows that the kernel was told to let go of, in order."""
    told: list[int] = []
    monkeypatch.setattr(page_cache, "_let_go", lambda _, number: told.append(number))
    return told


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Windows that are not in memory."""
    windows: set[int] = set()
    monkeypatch.setattr(page_cache, "_on_disk_alone", lambda _, number: number in windows)
    return windows


def write(behind: WriteBehind, windows: int) -> None:
    for offset in range(0, windows * WINDOW, STEP):
        behind.wrote(offset, STEP)


def read(behind: ReadBehind, windows: int) -> None:
    for offset in range(0, windows * WINDOW, STEP):
        behind.reads(offset)
        behind.read(offset, STEP)


def test_a_full_window_goes_to_the_disk_at_once_and_out_of_memory_when_it_lies_behind(
    let_go: list[int],
) -> None:
    write(WriteBehind(-1), MANY)
    assert let_go == [*range(MANY - 3), MANY - 3, 0, MANY - 2, 1, MANY - 1, 2]


def test_windows_fill_in_any_order_and_across_their_borders(let_go: list[int]) -> None:
    offsets = list(range(0, 4 * WINDOW, 100_000))
    random.Random(1).shuffle(offsets)
    behind = WriteBehind(-1)
    for offset in offsets:
        behind.wrote(offset, min(100_000, 4 * WINDOW - offset))
    assert sorted(let_go) == [0, 1, 2, 3]


def test_a_window_that_is_never_full_is_left_to_the_kernel(let_go: list[int]) -> None:
    behind = WriteBehind(-1)
    for number in range(3 * page_cache._KNOWN):
        behind.wrote(number * WINDOW, WINDOW - 1)
    assert let_go == []
    assert len(behind._windows._filling) <= page_cache._KNOWN


def test_what_was_in_memory_before_it_was_read_stays_there(let_go: list[int], on_disk: set[int]) -> None:
    on_disk |= {0, 2}
    read(ReadBehind(-1), MANY)
    assert let_go == [0, 2]


def test_a_file_that_fits_stays_in_memory(let_go: list[int], on_disk: set[int]) -> None:
    on_disk |= set(range(KEPT // WINDOW))
    read(ReadBehind(-1), KEPT // WINDOW)
    assert let_go == []


def test_a_window_is_looked_at_before_the_kernel_reads_ahead_to_it(
    let_go: list[int], on_disk: set[int]
) -> None:
    on_disk |= set(range(MANY))
    behind = ReadBehind(-1)
    for offset in range(0, MANY * WINDOW, STEP):
        behind.reads(offset)
        on_disk.discard(offset // WINDOW)
        on_disk.discard(offset // WINDOW + 1)  # Read ahead.
        behind.read(offset, STEP)
    # Nobody could tell of the second, which the read of the first brought in.
    assert let_go == [0, 2]


def test_readers_and_writers_of_many_threads_lose_no_byte(tmp_path: Path) -> None:
    size = KEPT + 4 * WINDOW
    block = random.Random(2).randbytes(STEP)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    written, seen = WriteBehind(file), ReadBehind(file)
    wrong: list[int] = []

    def expected(offset: int) -> bytes:
        return offset.to_bytes(8, "big") + block[8:]

    def work(first: int) -> None:
        for offset in range(first * STEP, size, 4 * STEP):
            os.pwrite(file, expected(offset), offset)
            written.wrote(offset, STEP)
        for offset in range(first * STEP, size, 4 * STEP):
            seen.reads(offset)
            data = os.pread(file, STEP, offset)
            seen.read(offset, STEP)
            if data != expected(offset):
                wrong.append(offset)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(file)
    assert wrong == []
