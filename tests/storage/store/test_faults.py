"""Kills at random moments, flipped bits in every file, a full disk, many threads."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.storage.reference import merkle
from tests.storage.reference.flow import flow_proof_holds
from tests.storage.store.building import BLOCK, Chain, File, read_back

from zerog._native import keccak256
from zerog.errors import (
    CorruptDataDir,
    DataDamaged,
    DataUnavailable,
    ForeignDataDir,
    SegmentRefused,
    StorageError,
    StorageFull,
)
from zerog.storage.store import Damaged, FlowStore
from zerog.storage.store.index import index_errors
from zerog.storage.values import BlockMark, FileState, ShardConfig

FILES = [File.of(merkle.prng(size)) for size in (700, 1_048_579, 262_145, 3840, 2_097_151, 1_048_579)]
CYCLE = 3 + sum(len(file.segments) for file in FILES)
"""The line of the writer after which it reverts for the first time."""

WRITER = """
import sys
from pathlib import Path
from tests.storage.store.test_faults import BLOCK, FILES, Chain, FlowStore, BlockMark, ShardConfig

store = FlowStore.open(Path(sys.argv[1]), ShardConfig(), durable=sys.argv[2] == "durable")
chain = Chain()
submissions = [chain.submit(file) for file in FILES]
print("ready", flush=True)
store.append(submissions[store.next_seq():], BLOCK)
print("appended", flush=True)
while True:
    for seq in range(len(FILES)):
        for index, segment in enumerate(FILES[seq].segments):
            store.put_segment(seq, segment)
            print("put", seq, index, flush=True)
    print("cycle", flush=True)
    store.scrub(limit=5)
    dropped = store.revert(2, BlockMark(3, bytes(32)))
    print("reverted", flush=True)
    store.append(dropped, BLOCK)
    print("appended", flush=True)
"""


def killed_after(path: Path, lines: int, mode: str, later: float) -> list[str]:
    """Runs the writer, kills it some lines of its output and then seconds later; every line that it wrote."""
    command = [sys.executable, "-c", WRITER, str(path), mode]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            # A line without its end was cut by the kill.
            seen += [line[:-1]] if line.endswith("\n") else []
            if len(seen) == lines:
                time.sleep(later)
                process.send_signal(signal.SIGKILL)
        # A writer that failed by itself is no kill.
        assert process.wait(timeout=60) == -signal.SIGKILL, seen[-3:]
    return seen


def check_after_kill(path: Path, seen: list[str], chain: Chain) -> None:
    with FlowStore.open(path, ShardConfig()) as store:
        if "appended" in seen:
            assert store.next_seq() >= 2
        # A kill between a revert and the next append: the data waits for its roots.
        store.append(chain.submissions[store.next_seq() :], BLOCK)
        assert store.root() == chain.roots[-1]
        for seq, index in {tuple(map(int, line.split()[1:])) for line in seen if line.startswith("put")}:
            assert store.read_segment(seq, index) is not None, f"{seq}/{index} was acknowledged"
        for seq in range(len(FILES)):
            if store.state(seq) is FileState.FINALIZED:
                assert read_back(store, seq) == FILES[seq].data
        report = store.scrub(limit=10_000)
        while not report.complete:
            report = store.scrub(limit=10_000)
        assert store.damaged() == []


def kill_repeatedly(path: Path, times: int, seed: int) -> None:
    chain, choice = Chain(), random.Random(seed)
    for file in FILES:
        chain.submit(file)
    for attempt in range(times):
        mode = choice.choice(["durable", "fast"])
        # Half of the kills aim at the revert, which writes no line while it works.
        lines = choice.choice([choice.randrange(1, 80), CYCLE])
        seen = killed_after(path, lines, mode, choice.random() * 0.04)
        try:
            check_after_kill(path, seen, chain)
        except Exception as error:
            error.add_note(f"attempt {attempt}, {mode}, killed after {seen[-3:]}, line {len(seen)}")
            raise
        if attempt % 3 == 2:
            shutil.rmtree(path)


def test_kills_at_random_moments_lose_no_acknowledged_segment(tmp_path: Path) -> None:
    kill_repeatedly(tmp_path / "store", 20, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hundred_kills_lose_no_acknowledged_segment(tmp_path: Path) -> None:
    kill_repeatedly(tmp_path / "store", 200, seed=2)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A closed store with some files of which one is incomplete, and its flow roots."""
    path, chain = tmp_path_factory.mktemp("sound") / "store", Chain()
    with FlowStore.open(path, ShardConfig()) as store:
        store.append([chain.submit(file) for file in FILES], BLOCK)
        for seq in range(4):
            store.put_segments(seq, FILES[seq].segments)
        store.put_segments(4, FILES[4].segments[:3])
    return path, chain.roots


def served(path: Path, roots: list[bytes]) -> str:
    """Reads and scrubs everything; "equal", or how the damage was reported. Wrong answers fail."""
    try:
        with FlowStore.open(path, ShardConfig()) as store:
            lost = False
            for seq, file in enumerate(FILES):
                held = [i for first, end in store.held(seq) for i in range(first, end)]
                for index in held:
                    try:
                        assert store.read_segment(seq, index) == file.segments[index].data
                        assert store.segment_proof(seq, index) == file.segments[index].proof
                    except DataDamaged:
                        lost = True
            while not store.scrub(limit=1000).complete:
                pass
            counts = [3 if seq == 4 else len(FILES[seq].segments) for seq in range(5)]
            if [store.uploaded_count(seq) for seq in range(5)] != counts:
                lost = True
                assert store.damaged(), "something is missing and nothing says so"
            assert [store.root_at(seq) for seq in range(len(FILES))] == roots
            return "damaged" if lost else "equal"
    except (CorruptDataDir, ForeignDataDir):
        return "corrupt"


def flip_bits(
    sound: tuple[Path, list[bytes]], path: Path, name: str, times: int, seed: int
) -> dict[str, int]:
    choice, outcomes = random.Random(seed), {"equal": 0, "damaged": 0, "corrupt": 0}
    for _ in range(times):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        (path / "flow").mkdir()
        for part in ("index.sqlite", "flow/00000000.sectors"):
            subprocess.run(["cp", "--sparse=always", sound[0] / part, path / part], check=True)
        target = path / name
        with target.open("r+b") as file:
            while True:
                offset = choice.randrange(target.stat().st_size)
                file.seek(offset)
                byte = file.read(1)[0]
                if byte:
                    break
            file.seek(offset)
            file.write(bytes([byte ^ 1 << choice.randrange(8)]))
        outcomes[served(path, sound[1])] += 1
    return outcomes


def test_a_flipped_bit_of_data_is_always_reported(sound: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    outcomes = flip_bits(sound, tmp_path / "copy", "flow/00000000.sectors", 15, seed=3)
    assert outcomes == {"equal": 0, "damaged": 15, "corrupt": 0}


def test_a_flipped_bit_of_the_index_never_changes_an_answer(
    sound: tuple[Path, list[bytes]], tmp_path: Path
) -> None:
    outcomes = flip_bits(sound, tmp_path / "copy", "index.sqlite", 80, seed=4)
    assert outcomes["corrupt"] > 40
    assert outcomes["damaged"] == 0


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_flipped_bits_of_the_index(sound: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    assert flip_bits(sound, tmp_path / "copy", "index.sqlite", 1000, seed=5)["damaged"] == 0


def test_a_full_disk_under_data_and_index_changes_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: it hits SQLite's files and ours alike."""
    with FlowStore.open(tmp_path / "store", ShardConfig()) as store:
        chain = Chain()
        store.append([chain.submit(FILES[0])], BLOCK)
        store.put_segments(0, FILES[0].segments)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        second = chain.submit(FILES[1])
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
            with pytest.raises(StorageFull):
                store.append([second], BlockMark(8, bytes(32)))
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert (store.next_seq(), store.progress()) == (1, BLOCK)
            store.append([second], BLOCK)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
            with pytest.raises(StorageFull):
                store.put_segments(1, FILES[1].segments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)
        assert store.held(1) == []
        assert store.put_segments(1, FILES[1].segments)
        assert read_back(store, 1) == FILES[1].data
        assert read_back(store, 0) == FILES[0].data


def test_an_error_of_the_disk_is_not_called_a_full_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(sqlite3.OperationalError):
        sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
        sqlite_errorname = "SQLITE_IOERR_READ"

    with pytest.raises(StorageError, match="SQLITE_IOERR_READ") as caught, index_errors(tmp_path / "index"):
        raise Failing("disk I/O error")
    assert not isinstance(caught.value, StorageFull | CorruptDataDir)
    assert list(tmp_path.iterdir()) == []

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with FlowStore.open(tmp_path / "store", ShardConfig(), durable=True) as store:
        store.append([Chain().submit(FILES[0])], BLOCK)
        for function in ("pwrite", "fdatasync"):
            with monkeypatch.context() as patch:
                patch.setattr(os, function, failing)
                with pytest.raises(StorageError, match="Input/output error") as caught:
                    store.put_segments(0, FILES[0].segments)
                assert not isinstance(caught.value, StorageFull)
            assert store.held(0) == []
        assert store.put_segments(0, FILES[0].segments)


def test_a_read_that_fails_for_want_of_descriptors_condemns_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FlowStore.open(tmp_path, ShardConfig()) as store:
        store.append([Chain().submit(FILES[0])], BLOCK)
        store.put_segments(0, FILES[0].segments)

        def failing(number: int) -> Callable[..., None]:
            def read(*_: object) -> None:
                raise OSError(number, os.strerror(number))

            return read

        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", failing(errno.EMFILE))
            with pytest.raises(StorageError, match="cannot be read"):
                store.read_segment(0, 0)
        assert store.damaged() == []
        assert read_back(store, 0) == FILES[0].data
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", failing(errno.EIO))
            with pytest.raises(DataDamaged):
                store.read_segment(0, 0)
        assert store.damaged() == [(0, 0)]


def after_crash(path: Path) -> Path:
    """A store as a kill leaves it: what its last transactions wrote is only in the log of the index."""
    with FlowStore.open(path / "running", ShardConfig()) as store:
        chain = Chain()
        submissions = [chain.submit(file) for file in FILES]
        store.append(submissions[:2], BlockMark(8, bytes(32)))
        store.put_segments(0, FILES[0].segments)
        store.append(submissions[2:], BlockMark(9, bytes(32)))
        for segment in FILES[1].segments:
            store.put_segment(1, segment)
        store.append([], BlockMark(10, bytes(32)))
        shutil.copytree(path / "running", path / "crashed")
    assert (path / "crashed/index.sqlite-wal").stat().st_size > 100_000
    return path / "crashed"


def test_a_flipped_bit_in_the_log_of_the_index_goes_back_in_time_and_says_so(tmp_path: Path) -> None:
    crashed, chain, choice = after_crash(tmp_path), Chain(), random.Random(6)
    for file in FILES:
        chain.submit(file)
    went_back = 0
    for attempt in range(25):
        path = tmp_path / "copy"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(crashed, path)
        log = bytearray((path / "index.sqlite-wal").read_bytes())
        offset = choice.randrange(32) if attempt < 5 else choice.randrange(len(log))
        log[offset] ^= 1 << choice.randrange(8)
        (path / "index.sqlite-wal").write_bytes(log)
        with FlowStore.open(path, ShardConfig()) as store:
            count = store.next_seq()
            progress = store.progress()
            number = 0 if progress is None else progress.number
            assert number in {0: (0,), 2: (8,), 6: (9, 10)}[count]
            complete = number == 10
            assert not complete or store.uploaded_count(1) == len(FILES[1].segments)
            assert store.statistics().lost or complete, f"bit at {offset} lost something silently"
            went_back += not complete
            for seq in range(count):
                for first, end in store.held(seq):
                    for index in range(first, end):
                        assert store.read_segment(seq, index) == FILES[seq].segments[index].data
            # Followed and fetched again, it is whole.
            store.append(chain.submissions[count:], BlockMark(9, bytes(32)))
            for seq in (0, 1):
                for first, end in store.missing(seq):
                    store.put_segments(seq, FILES[seq].segments[first:end])
                assert read_back(store, seq) == FILES[seq].data
            assert store.root() == chain.roots[-1]
            while not store.scrub(limit=1000).complete:
                pass
            assert store.damaged() == []
    assert went_back > 10


def test_a_commit_that_a_kill_cut_short_is_not_called_lost(tmp_path: Path) -> None:
    path = after_crash(tmp_path)
    log = path / "index.sqlite-wal"
    # SQLite writes a frame's head, which says whether it ends a transaction, before its page.
    os.truncate(log, log.stat().st_size - 3000)
    with FlowStore.open(path, ShardConfig()) as store:
        assert not store.statistics().lost
        assert store.progress() == BlockMark(9, bytes(32))
        assert read_back(store, 1) == FILES[1].data


def test_a_kill_alone_loses_no_transaction(tmp_path: Path) -> None:
    with FlowStore.open(after_crash(tmp_path), ShardConfig()) as store:
        assert not store.statistics().lost
        assert read_back(store, 1) == FILES[1].data


@pytest.mark.parametrize("left", ["nothing", "zeros", "a beginning"])
def test_rows_that_outlived_their_data_are_reported_and_repaired(tmp_path: Path, left: str) -> None:
    """A power cut without ``durable``: the index reached the disk, bytes of segments did not."""
    path = after_crash(tmp_path)
    data = path / "flow/00000000.sectors"
    if left == "nothing":
        data.unlink()
    else:
        size = data.stat().st_size
        os.truncate(data, 0 if left == "zeros" else 300 * 1024)
        os.truncate(data, size if left == "zeros" else 300 * 1024)
    with FlowStore.open(path, ShardConfig()) as store:
        told: list[object] = []
        store.listen(told.append)
        for seq in (0, 1, 5):
            for index in range(len(FILES[seq].segments)):
                try:
                    assert store.read_segment(seq, index) == FILES[seq].segments[index].data
                except DataDamaged:
                    assert Damaged(seq, index) in told
        lost = store.damaged()
        assert len(lost) >= 4
        assert sorted((e.seq, e.index) for e in told if isinstance(e, Damaged)) == lost
        for seq in (0, 1, 5):
            missing = [(seq, i) for first, end in store.missing(seq) for i in range(first, end)]
            assert missing == [pair for pair in lost if pair[0] == seq]
        for seq, index in lost:
            store.put_segment(seq, FILES[seq].segments[index])
        assert store.damaged() == []
        for seq in (0, 1, 5):
            assert store.state(seq) is FileState.FINALIZED
            assert read_back(store, seq) == FILES[seq].data


def test_many_threads_put_read_and_scrub_while_the_shard_changes(tmp_path: Path) -> None:
    with FlowStore.open(tmp_path / "store", ShardConfig()) as store:
        chain = Chain()
        failures: list[BaseException] = []
        store.append([chain.submit(file) for file in FILES], BLOCK)

        def work(number: int) -> None:
            choice = random.Random(number)
            for _ in range(60):
                seq = choice.randrange(len(FILES))
                index = choice.randrange(len(FILES[seq].segments))
                segment = FILES[seq].segments[index]
                place = chain.submissions[seq].start + index * 1024
                # Another shard may come between any two of these: what is not kept is refused or absent.
                with contextlib.suppress(SegmentRefused):
                    store.put_segment(seq, segment)
                assert store.read_segment(seq, index) in (segment.data, None)
                assert store.segment_proof(seq, index) in (segment.proof, None)
                with contextlib.suppress(DataUnavailable):
                    proof = store.sector_proof(place, None)
                    leaf = keccak256(bytes(segment.data[:256]))
                    assert flow_proof_holds(proof, place, leaf, chain.roots[-1], store.length())
                store.scrub(limit=2)

        def reshard() -> None:
            choice = random.Random(99)
            for _ in range(40):
                store.set_shard(ShardConfig.parse(choice.choice(["0/1", "0/2", "1/2", "3/4"])))
            store.set_shard(ShardConfig())

        def noted(task: Callable[[], None]) -> None:
            try:
                task()
            except BaseException as error:
                failures.append(error)

        tasks = [functools.partial(work, number) for number in range(7)] + [reshard]
        threads = [threading.Thread(target=noted, args=(task,)) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
            assert not thread.is_alive()
        assert failures == []
        for seq, file in enumerate(FILES):
            store.put_segments(seq, file.segments)
            assert read_back(store, seq) == file.data
        assert store.statistics().segments == sum(len(file.segments) for file in FILES)
