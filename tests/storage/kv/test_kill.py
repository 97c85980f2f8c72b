"""`kill -9` of a process that replays, at random moments.

What it had told before it died is there afterwards, no transaction is there by half, and going on ends in the
state of a replay that nobody killed. `make soak` kills some hundreds of times.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zerog.storage.kv.store import KvStore

from .scenario import KEYS_PER_WRITE, STREAMS, Scenario, replay_of, state

PROGRAM = Path(__file__).with_name("scenario.py")


def _killed_replay(folder: Path, count: int, rng: random.Random) -> int:
    """Runs the program until a random moment; the progress that it last told."""
    process = subprocess.Popen(
        [sys.executable, PROGRAM, folder, str(count)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        # Somewhere within the steps, not only between them.
        told = [line for line, _ in zip(process.stdout, range(rng.randrange(12)), strict=False)]
        time.sleep(rng.random() * 0.01)
    finally:
        process.kill()
        rest, _ = process.communicate(timeout=30)
    lines = [line for line in ("".join(told) + rest).splitlines(keepends=True) if line.endswith("\n")]
    return int(lines[-1]) if lines else 0


def _check_whole(store: KvStore, scenario: Scenario) -> None:
    """Every applied transaction is there as a whole, and nothing of a later one."""
    progress = store.progress()
    for stream in STREAMS:
        found: dict[int, int] = {}
        for pair in store.changes(stream, b"", 0, 1_000_000):
            found[pair.version] = found.get(pair.version, 0) + 1
        for seq, keys in found.items():
            assert seq < progress and store.result(seq) == "Commit"
            assert keys == KEYS_PER_WRITE
        for seq in range(progress):
            if store.result(seq) == "Commit" and stream in scenario.data(seq).streams():
                assert found.get(seq) == KEYS_PER_WRITE, f"transaction {seq} is not there"


def _kill(folder: Path, kills: int, seed: int) -> None:
    rng, count = random.Random(seed), 60
    scenario = Scenario(count)
    unkilled = KvStore(None)
    replay_of(scenario, unkilled).catch_up()
    expected = state(unkilled, count)
    unkilled.close()
    assert len(set(expected["results"])) >= 5, "the scenario has refusals of many kinds"
    done = finished = 0
    index = folder / "kv.sqlite"
    while done < kills:
        told = _killed_replay(folder, count, rng)
        done += 1
        store = KvStore(index)
        try:
            assert store.progress() >= told, "a transaction that was reported as applied is lost"
            _check_whole(store, scenario)
            complete = store.progress() == count
            if complete:
                assert state(store, count) == expected
                finished += 1
        finally:
            store.close()
        if complete:
            for file in folder.iterdir():
                file.unlink()
    store = KvStore(index)
    replay_of(scenario, store).catch_up()
    assert state(store, count) == expected
    store.close()
    assert finished or kills < 20


def test_a_replay_that_is_killed_again_and_again_loses_nothing(tmp_path: Path) -> None:
    _kill(tmp_path, 25, 1)


@pytest.mark.soak
def test_a_replay_that_is_killed_hundreds_of_times_loses_nothing(tmp_path: Path) -> None:
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        _kill(folder, 100, seed)
