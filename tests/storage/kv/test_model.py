"""Random transactions, roles, reorganisations, late contents and restarts, against a plain model.

The model keeps sets and lists and computes the whole history anew after every step; it shares no rule with the
code under test.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from zerog.storage.kv import access
from zerog.storage.kv.replay import Replay
from zerog.storage.kv.store import KvStore
from zerog.storage.kv.stream import Control, Operation, Read, StreamData, Write, tags_of

from .flow import ALICE, BOB, CAROL, OTHER, STREAM, MemoryFlow

ACCOUNTS, STREAMS, KEYS = (ALICE, BOB, CAROL), (STREAM, OTHER), (b"a", b"b", b"s")
ANY = 2**64 - 1


@dataclass
class Transaction:
    data: StreamData
    tags: tuple[bytes, ...]
    sender: bytes
    here: bool


@dataclass
class Roles:
    """Who may do what on one stream."""

    admins: set[bytes] = field(default_factory=set)
    writers: set[bytes] = field(default_factory=set)
    special: set[bytes] = field(default_factory=set)
    special_writers: set[tuple[bytes, bytes]] = field(default_factory=set)
    founded: bool = False

    def may_write(self, account: bytes, key: bytes) -> bool:
        if not self.founded or account in self.admins:
            return True
        return (key, account) in self.special_writers if key in self.special else account in self.writers

    def may_write_something(self, account: bytes) -> bool:
        named = {writer for _, writer in self.special_writers}
        return not self.founded or account in self.admins | self.writers | named

    def may_control(self, account: bytes, control: Control) -> bool:
        if not self.founded or account in self.admins or "RENOUNCE" in control.operation.name:
            return True
        if control.operation is Operation.GRANT_WRITER_ROLE:
            return account in self.writers
        if control.operation is Operation.GRANT_SPECIAL_WRITER_ROLE:
            return (control.key, account) in self.special_writers
        return False

    def take(self, control: Control) -> None:
        member: tuple[set[bytes], bytes] | tuple[set[tuple[bytes, bytes]], tuple[bytes, bytes]]
        name = control.operation.name
        if "ADMIN" in name:
            member = self.admins, control.account
        elif "SET_KEY" in name:
            member = self.special, control.key
        elif "SPECIAL" in name:
            member = self.special_writers, (control.key, control.account)
        else:
            member = self.writers, control.account
        chosen, what = member
        (chosen.add if name.startswith("GRANT") or name.endswith("TO_SPECIAL") else chosen.discard)(what)  # type: ignore[arg-type]


class Model:
    """The history of a list of transactions."""

    def __init__(self, history: list[Transaction]) -> None:
        self.values: dict[tuple[bytes, bytes], list[tuple[int, bytes]]] = {}
        self.roles = {stream: Roles() for stream in STREAMS}
        self.results = [self._apply(seq, transaction) for seq, transaction in enumerate(history)]

    def _apply(self, seq: int, transaction: Transaction) -> str:
        data, sender, tags = transaction.data, transaction.sender, transaction.tags
        if not any(self.roles[stream].may_write_something(sender) for stream in tags):
            return "SenderNoWritePermission"
        if not transaction.here:
            return "DownloadFailed"
        for read in data.reads:
            if self._version(read.stream, read.key) > data.version:
                return "VersionConfliction"
        for write in data.writes:
            if write.stream not in tags:
                return "TagsMismatch"
            if self._version(write.stream, write.key) > data.version:
                return "VersionConfliction"
            if not self.roles[write.stream].may_write(sender, write.key):
                return f"WritePermissionDenied: stream: 0x{write.stream.hex()}, key: {write.key.decode()}"
        controls = self._effective(sender, tags, data.controls)
        if any(control.stream not in tags for control in controls):
            return "TagsMismatch"
        for control in controls:
            if not self.roles[control.stream].may_control(sender, control):
                return (
                    f"AccessControlPermissionDenied: operation: {control.operation.name}, stream: "
                    f"0x{control.stream.hex()}, key: {control.key.decode() or 'NONE'}, account: "
                    f"0x{control.account.hex()}"
                )
        for (stream, key), value in {(w.stream, w.key): w.value for w in data.writes}.items():
            self.values.setdefault((stream, key), []).append((seq, value))
        for control in controls:
            self.roles[control.stream].take(control)
        for stream in tags:
            self.roles[stream].founded = True
        return "Commit"

    def _version(self, stream: bytes, key: bytes) -> int:
        history = self.values.get((stream, key))
        return history[-1][0] if history else -1

    def _effective(self, sender: bytes, tags: tuple[bytes, ...], controls: list[Control]) -> list[Control]:
        kept: dict[object, Control] = {}
        for stream in tags:
            if not self.roles[stream].founded:
                kept[0, stream, b"", sender] = Control(Operation.GRANT_ADMIN_ROLE, stream, b"", sender)
        for control in controls:
            account = sender if "RENOUNCE" in control.operation.name else control.account
            place = (int(control.operation) >> 4, control.stream, control.key, account)
            if control.operation is Operation.GRANT_ADMIN_ROLE and (account == sender or place in kept):
                continue
            kept[place] = Control(control.operation, control.stream, control.key, account)
        return list(kept.values())

    def at(self, stream: bytes, key: bytes, version: int) -> tuple[int, bytes] | None:
        """Version and value as of a version."""
        older = [pair for pair in self.values.get((stream, key), []) if pair[0] <= version]
        return older[-1] if older else None


def _control(operation: Operation, stream: bytes, key: bytes, account: bytes) -> Control:
    return Control(
        operation,
        stream,
        key if operation.has_key else b"",
        account if operation.has_account else bytes(20),
    )


_streams, _keys, _accounts = st.sampled_from(STREAMS), st.sampled_from(KEYS), st.sampled_from(ACCOUNTS)
_writes = st.lists(st.builds(Write, _streams, _keys, st.sampled_from((b"", b"x", b"yy" * 200))), max_size=3)
_reads = st.lists(st.builds(Read, _streams, _keys), max_size=2)
_controls = st.lists(st.builds(_control, st.sampled_from(Operation), _streams, _keys, _accounts), max_size=4)

_data = st.one_of(
    st.builds(StreamData, st.just(ANY), _reads, _writes, st.just([])),
    st.builds(StreamData, st.just(ANY), st.just([]), _writes, _controls),
)
_transactions = st.tuples(
    _data,
    st.one_of(st.none(), st.integers(0, 6)),
    st.one_of(st.none(), st.just(list(STREAMS)), st.lists(_streams, min_size=1, max_size=2, unique=True)),
    _accounts,
    st.integers(0, 7).map(bool),
)


class KvMachine(RuleBasedStateMachine):
    """A flow, a store on disk that follows it, and the model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="kv-model-"))
        self.flow = MemoryFlow()
        self.history: list[Transaction] = []
        self.salt = 0
        self._open()

    def _open(self) -> None:
        self.store = KvStore(self.folder / "kv.sqlite")
        self.replay = Replay(self.flow, self.store, self.flow.read_chunks, give_up_after=0.0)
        self.replay.recheck()

    def teardown(self) -> None:
        try:
            self.what_is_answered_is_what_the_model_says()
        finally:
            self.store.close()
            shutil.rmtree(self.folder)

    @initialize(roles=st.booleans())
    def streams_are_founded(self, roles: bool) -> None:
        """Without it most transactions would fail at the door."""
        if roles:
            controls = [Control(Operation.GRANT_WRITER_ROLE, stream, b"", BOB) for stream in STREAMS] + [
                Control(Operation.SET_KEY_TO_SPECIAL, STREAM, b"s"),
                Control(Operation.GRANT_SPECIAL_WRITER_ROLE, STREAM, b"s", CAROL),
            ]
            self._add(Transaction(StreamData(ANY, [], [], controls), STREAMS, ALICE, True))

    @rule(batch=st.lists(_transactions, min_size=1, max_size=6))
    def some_are_submitted(
        self, batch: list[tuple[StreamData, int | None, list[bytes] | None, bytes, bool]]
    ) -> None:
        for data, back, tags, sender, here in batch:
            version = ANY if back is None else max(0, len(self.history) - back)
            dated = StreamData(version, data.reads, data.writes, data.controls)
            named = tuple(tags or dated.streams() or [STREAM])
            self._add(Transaction(dated, named, sender, here))

    def _add(self, transaction: Transaction) -> None:
        self.history.append(transaction)
        self._submit(transaction)

    def _submit(self, transaction: Transaction) -> None:
        self.salt += 1
        content, tags = transaction.data.encode(), tags_of(transaction.tags)
        self.flow.submit(content, tags, transaction.sender, here=transaction.here, salt=self.salt)

    @precondition(lambda self: any(not transaction.here for transaction in self.history))
    @rule()
    def a_content_comes_late(self) -> None:
        for seq, transaction in enumerate(self.history):
            if not transaction.here:
                transaction.here = True
                self.flow.contents[seq] = transaction.data.encode()
                return

    @precondition(lambda self: self.history)
    @rule(depth=st.integers(1, 5), told=st.booleans())
    def the_chain_is_reorganised(self, depth: int, told: bool) -> None:
        first = max(0, len(self.history) - depth)
        # The same transaction again is another one: the chain gives it another place.
        kept = self.history[first:-1]
        del self.history[first:]
        self.flow.cut(first)
        for transaction in kept:
            self.salt += 1
            self.history.append(transaction)
            self.flow.write(
                transaction.data, transaction.sender, tags=transaction.tags, here=transaction.here
            )
        if told:
            self.replay.reverted(first)
        else:
            self._restart()

    @rule()
    def the_node_is_restarted(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.store.close()
        self._open()

    @rule(seq=st.integers(0, 20))
    def only_a_part_is_replayed(self, seq: int) -> None:
        for _ in range(seq):
            self.replay.step()

    @rule()
    def what_is_answered_is_what_the_model_says(self) -> None:
        # Late contents are noticed one at a time.
        for _ in range(1 + len(self.history)):
            self.replay.catch_up()
        model, count = Model(self.history), len(self.history)
        assert self.store.progress() == count
        assert [self.store.result(seq) for seq in range(count)] == model.results
        for stream in STREAMS:
            for key in KEYS:
                for version in range(count):
                    assert self._value(stream, key, version) == model.at(stream, key, version)
            self._compare_roles(stream, model.roles[stream])

    def _value(self, stream: bytes, key: bytes, version: int) -> tuple[int, bytes] | None:
        pair = self.store.get(stream, key, version)
        if pair is None:
            return None
        submission = self.flow.submission(pair.version)
        assert submission is not None
        content = self.replay.content(submission)
        return pair.version, content.read(pair.start, pair.start + pair.length)

    def _compare_roles(self, stream: bytes, roles: Roles) -> None:
        before = len(self.history)
        for account in ACCOUNTS:
            assert access.is_admin(self.store, account, stream, before) == (account in roles.admins)
            assert access.is_writer_of_stream(self.store, account, stream, before) == (
                account in roles.writers
            )
            for key in KEYS:
                assert access.has_write_permission(
                    self.store, account, stream, key, before
                ) == roles.may_write(account, key)
                assert access.is_writer_of_key(self.store, account, stream, key, before) == (
                    (key, account) in roles.special_writers
                )
        for key in KEYS:
            assert access.is_special_key(self.store, stream, key, before) == (key in roles.special)


TestKvAgainstAModel = KvMachine.TestCase
TestKvAgainstAModel.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
