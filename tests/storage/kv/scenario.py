"""A long, repeatable list of KV transactions, and what a store must hold after them.

Also the program that the kill tests run: ``python scenario.py FOLDER COUNT`` replays the list into an index under
FOLDER and prints a line for every transaction that was applied.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from zerog.storage import layout
from zerog.storage.kv.replay import Replay
from zerog.storage.kv.store import KvStore
from zerog.storage.kv.stream import Control, Operation, StreamData, Write, tags_of
from zerog.storage.values import BlockMark, Submission, SubmissionNode

ACCOUNTS = [bytes([number]) * 20 for number in (0xAA, 0xBB, 0xCC)]
STREAMS = [bytes(30) + b"\xf2\xbd", b"\x07" * 32]
KEYS_PER_WRITE = 40


class Scenario:
    """Transaction number ``seq`` is a function of ``seq``: every process sees the same flow."""

    def __init__(self, count: int) -> None:
        self.count = count

    def next_seq(self) -> int:
        return self.count

    def submissions(self, first: int, limit: int) -> list[Submission]:
        return [self._submission(seq) for seq in range(first, min(self.count, first + limit))]

    def submission(self, seq: int) -> Submission | None:
        return self._submission(seq) if seq < self.count else None

    def read_chunks(self, seq: int, start: int, end: int) -> bytes:
        return self.content(seq)[start * 256 : end * 256].ljust((end - start) * 256, b"\0")

    def _submission(self, seq: int) -> Submission:
        content = self.content(seq)
        nodes = tuple(SubmissionNode(seq.to_bytes(32, "big"), h) for h in layout.node_heights(len(content)))
        data = self.data(seq)
        return Submission(
            seq,
            seq.to_bytes(32, "big"),
            len(content),
            1024 * seq,
            nodes,
            tags_of(data.streams()),
            ACCOUNTS[0] if seq < 4 else random.Random(seq).choice(ACCOUNTS),
            BlockMark(seq, bytes(32)),
            seq.to_bytes(32, "big"),
        )

    def content(self, seq: int) -> bytes:
        return b"\xff" * 64 if seq % 13 == 12 else self.data(seq).encode()

    @staticmethod
    def data(seq: int) -> StreamData:
        """Many keys at once, so that half a transaction would be seen; now and then roles."""
        rng = random.Random(seq * 7919)
        streams = STREAMS if seq < 2 or seq % 3 == 0 else [STREAMS[seq % 2]]
        version = 2**64 - 1 if seq % 5 else max(0, seq - 3)
        writes = [
            Write(stream, b"key-%d" % number, b"" if rng.random() < 0.1 else b"%d/%d" % (seq, number))
            for stream in streams
            for number in range(KEYS_PER_WRITE)
        ]
        operations = (Operation.GRANT_WRITER_ROLE, Operation.REVOKE_WRITER_ROLE)
        controls = [
            Control(rng.choice(operations), stream, b"", rng.choice(ACCOUNTS[1:]))
            for stream in streams
            if seq % 4 == 1
        ]
        return StreamData(version, [], writes, controls)


def replay_of(scenario: Scenario, store: KvStore) -> Replay:
    """Replay of the scenario into a store."""
    return Replay(scenario, store, scenario.read_chunks)


def state(store: KvStore, count: int) -> dict[str, Any]:
    """Everything that clients can ask of a store."""
    return {
        "progress": store.progress(),
        "results": [store.result(seq) for seq in range(count)],
        "changes": [store.changes(stream, b"", 0, 1_000_000) for stream in STREAMS],
        "controls": [store.controls(stream, before) for stream in STREAMS for before in range(0, count, 7)],
        "missing": store.missing(),
    }


def main(folder: str, count: str) -> None:
    store = KvStore(Path(folder) / "kv.sqlite")
    replay = replay_of(Scenario(int(count)), store)
    print("ready", flush=True)
    while replay.step():
        print(store.progress(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
