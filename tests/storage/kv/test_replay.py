from __future__ import annotations

import pytest

from zerog.storage.kv import access
from zerog.storage.kv.replay import Replay
from zerog.storage.kv.store import KvStore
from zerog.storage.kv.stream import STREAM_DOMAIN, Control, Operation, Read, StreamData, Write

from .flow import ALICE, BOB, CAROL, OTHER, STREAM


def _set(key=b"k", value=b"v", version=2**64 - 1, stream=STREAM):
    return StreamData(version, [], [Write(stream, key, value)])


def _control(operation, account=bytes(20), key=b"", stream=STREAM):
    return StreamData(0, controls=[Control(operation, stream, key, account)])


def _result(flow, replay, data, sender=ALICE, **options):
    seq = flow.write(data, sender, **options)
    replay.catch_up()
    return replay.store.result(seq)


def _value(replay, flow, key, stream=STREAM):
    pair = replay.store.get(stream, key)
    if pair is None:
        return None
    return replay.content(flow.submission(pair.version)).read(pair.start, pair.start + pair.length)


def test_a_write_has_the_sequence_number_as_its_version(flow, replay):
    flow.submit(b"no stream")
    assert _result(flow, replay, _set()) == "Commit"
    assert replay.store.get(STREAM, b"k").version == 1
    assert _value(replay, flow, b"k") == b"v"
    assert replay.store.result(0) is None
    assert replay.store.progress() == 2


def test_a_value_of_a_megabyte_is_read_back(flow, replay):
    value = bytes(range(256)) * 4100
    assert _result(flow, replay, _set(value=value)) == "Commit"
    assert _value(replay, flow, b"k") == value


def test_an_older_version_conflicts_and_the_newest_does_not(flow, replay):
    flow.submit(b"something else")
    assert _result(flow, replay, _set(version=1)) == "Commit"
    assert _result(flow, replay, _set(version=0)) == "VersionConfliction"
    assert _result(flow, replay, _set(version=1)) == "Commit"


def test_a_stale_read_conflicts(flow, replay):
    flow.submit(b"something else")
    _result(flow, replay, _set(b"seen"))
    data = StreamData(0, [Read(STREAM, b"seen")], [Write(STREAM, b"new", b"v")])
    assert _result(flow, replay, data) == "VersionConfliction"
    data.version = 1
    assert _result(flow, replay, data) == "Commit"


def test_a_write_outside_the_tags_mismatches(flow, replay):
    assert _result(flow, replay, _set(stream=OTHER), tags=[STREAM]) == "TagsMismatch"


def test_a_control_outside_the_tags_mismatches(flow, replay):
    data = _control(Operation.GRANT_WRITER_ROLE, BOB, stream=OTHER)
    assert _result(flow, replay, data, tags=[STREAM]) == "TagsMismatch"


def test_a_read_of_a_stream_that_is_not_monitored_mismatches(flow, store):
    replay = Replay(flow, store, flow.read_chunks, streams=[STREAM])
    data = StreamData(5, [Read(OTHER, b"k")], [Write(STREAM, b"k", b"v")])
    assert _result(flow, replay, data) == "TagsMismatch"


def test_a_transaction_with_any_foreign_stream_is_passed_over(flow, store):
    replay = Replay(flow, store, flow.read_chunks, streams=[STREAM])
    both = StreamData(5, [], [Write(STREAM, b"k", b"v"), Write(OTHER, b"k", b"v")])
    assert _result(flow, replay, both) is None
    assert store.get(STREAM, b"k") is None
    assert _result(flow, replay, _set()) == "Commit"


def test_the_first_sender_administrates_and_others_cannot_write(flow, replay):
    _result(flow, replay, _set())
    reads = flow.reads
    assert _result(flow, replay, _set(value=b"mine"), BOB) == "SenderNoWritePermission"
    assert flow.reads == reads, "the content of a sender without permission is not even read"
    assert _value(replay, flow, b"k") == b"v"


def test_a_writer_may_write_normal_keys_and_not_special_ones(flow, replay):
    _result(flow, replay, _control(Operation.GRANT_WRITER_ROLE, BOB))
    _result(flow, replay, _control(Operation.SET_KEY_TO_SPECIAL, key=b"s" * 40))
    assert _result(flow, replay, _set(), BOB) == "Commit"
    assert (
        _result(flow, replay, _set(b"s" * 40), BOB)
        == f"WritePermissionDenied: stream: 0x{STREAM.hex()}, key: {'s' * 32}"
    )
    assert _result(flow, replay, _control(Operation.SET_KEY_TO_NORMAL, key=b"s" * 40)) == "Commit"
    assert _result(flow, replay, _set(b"s" * 40), BOB) == "Commit"


def test_a_key_that_is_no_text_is_called_unknown(flow, replay):
    _result(flow, replay, _control(Operation.GRANT_SPECIAL_WRITER_ROLE, BOB, b"s"))
    assert (
        _result(flow, replay, _set(b"\xff"), BOB)
        == f"WritePermissionDenied: stream: 0x{STREAM.hex()}, key: UNKNOWN"
    )


def test_a_special_writer_may_write_its_key_until_it_is_revoked(flow, replay):
    _result(flow, replay, _control(Operation.SET_KEY_TO_SPECIAL, key=b"s"))
    _result(flow, replay, _control(Operation.GRANT_SPECIAL_WRITER_ROLE, BOB, b"s"))
    assert _result(flow, replay, _set(b"s"), BOB) == "Commit"
    assert _result(flow, replay, _control(Operation.GRANT_SPECIAL_WRITER_ROLE, CAROL, b"s"), BOB) == "Commit"
    _result(flow, replay, _control(Operation.REVOKE_SPECIAL_WRITER_ROLE, BOB, b"s"))
    assert _result(flow, replay, _set(b"s"), BOB) == "SenderNoWritePermission"
    assert (
        _result(flow, replay, _control(Operation.RENOUNCE_SPECIAL_WRITER_ROLE, key=b"s"), CAROL) == "Commit"
    )
    assert _result(flow, replay, _set(b"s"), CAROL) == "SenderNoWritePermission"


@pytest.mark.parametrize(
    ("operation", "key", "account"),
    [
        (Operation.GRANT_ADMIN_ROLE, b"", CAROL),
        (Operation.SET_KEY_TO_SPECIAL, b"k", bytes(20)),
        (Operation.SET_KEY_TO_NORMAL, b"k", bytes(20)),
        (Operation.REVOKE_WRITER_ROLE, b"", CAROL),
        (Operation.GRANT_SPECIAL_WRITER_ROLE, b"k", CAROL),
        (Operation.REVOKE_SPECIAL_WRITER_ROLE, b"k", CAROL),
    ],
)
def test_a_writer_may_not_control(flow, replay, operation, key, account):
    _result(flow, replay, _control(Operation.GRANT_WRITER_ROLE, BOB))
    shown = key.decode() or "NONE"
    assert _result(flow, replay, _control(operation, account, key), BOB) == (
        f"AccessControlPermissionDenied: operation: {operation.name}, stream: 0x{STREAM.hex()}, "
        f"key: {shown}, account: 0x{account.hex()}"
    )


def test_a_writer_may_grant_writers(flow, replay):
    _result(flow, replay, _control(Operation.GRANT_WRITER_ROLE, BOB))
    assert _result(flow, replay, _control(Operation.GRANT_WRITER_ROLE, CAROL), BOB) == "Commit"
    assert _result(flow, replay, _set(), CAROL) == "Commit"


def test_an_administrator_is_removed_only_by_itself(flow, replay):
    _result(flow, replay, _control(Operation.GRANT_ADMIN_ROLE, BOB))
    assert access.is_admin(replay.store, BOB, STREAM, 10)
    _result(flow, replay, _control(Operation.RENOUNCE_ADMIN_ROLE), BOB)
    assert not access.is_admin(replay.store, BOB, STREAM, 10)
    assert access.is_admin(replay.store, ALICE, STREAM, 10)


def test_a_new_stream_whose_founder_renounces_has_no_administrator(flow, replay):
    assert _result(flow, replay, _control(Operation.RENOUNCE_ADMIN_ROLE)) == "Commit"
    assert _result(flow, replay, _set()) == "SenderNoWritePermission"


def test_the_last_operation_on_one_role_counts(flow, replay):
    controls = [
        Control(Operation.GRANT_WRITER_ROLE, STREAM, account=BOB),
        Control(Operation.REVOKE_WRITER_ROLE, STREAM, account=BOB),
        Control(Operation.GRANT_ADMIN_ROLE, STREAM, account=ALICE),
    ]
    assert _result(flow, replay, StreamData(0, controls=controls)) == "Commit"
    assert not access.is_writer_of_stream(replay.store, BOB, STREAM, 10)
    assert access.is_admin(replay.store, ALICE, STREAM, 10)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff" * 300, "Stream read/write/access_control list too long"),
        (bytes(16) + b"\0\0\0\1" + b"\x55" + bytes(300), "Invalid stream data"),
        (bytes(8) + b"\0\1\0\0" + bytes(300), "Invalid stream data"),
    ],
)
def test_nonsense_is_a_parse_error_and_replay_goes_on(flow, replay, content, reason):
    seq = flow.submit(content, STREAM_DOMAIN + STREAM)
    replay.catch_up()
    assert replay.store.result(seq) == f"DataParseError: {reason}"
    assert _result(flow, replay, _set()) == "Commit"


def test_a_content_that_comes_late_is_awaited(flow, store):
    replay = Replay(flow, store, flow.read_chunks, clock=lambda: 0.0)
    late, data = flow.write(_set(), here=False), _set(b"other").encode()
    flow.submit(data, STREAM_DOMAIN + STREAM)
    replay.catch_up()
    assert (store.progress(), replay.waiting.seq) == (0, late)
    flow.contents[late] = _set().encode()
    replay.catch_up()
    assert (store.progress(), replay.waiting, store.result(late)) == (2, None, "Commit")


def test_a_content_that_never_comes_is_given_up_and_one_that_comes_after_all_is_applied(flow, store):
    now = 0.0
    reverted = []
    replay = Replay(
        flow, store, flow.read_chunks, give_up_after=10, clock=lambda: now, on_change=reverted.append
    )
    first = flow.write(_set(b"a", b"late"), here=False)
    second = flow.write(_set(b"a", b"newer"))
    third = flow.write(_set(b"b", b"never"), here=False)
    replay.catch_up()
    assert store.result(first) is None
    now = 11.0
    replay.catch_up()
    assert (store.result(first), store.result(second)) == ("DownloadFailed", "Commit")
    now = 22.0
    replay.catch_up()
    assert (store.result(third), store.progress()) == ("DownloadFailed", 3)
    flow.contents[first] = _set(b"a", b"late").encode()
    replay.catch_up()
    assert [store.result(seq) for seq in (first, second, third)] == ["Commit", "Commit", "DownloadFailed"]
    assert first in reverted
    assert _value(replay, flow, b"a") == b"newer"
    assert store.get(STREAM, b"a", first).version == first
    assert store.missing() == [third]


def test_half_a_content_does_not_count_as_come(flow, store):
    now = 0.0
    replay = Replay(flow, store, flow.read_chunks, give_up_after=10, clock=lambda: now)
    seq = flow.write(_set(value=b"x" * 600_000), here=False)
    whole = _set(value=b"x" * 600_000).encode()
    replay.catch_up()
    now = 11.0
    replay.catch_up()
    original = flow.read_chunks
    replay._read_chunks = lambda s, a, b: None if b > 1024 else original(s, a, b)
    flow.contents[seq] = whole
    replay.catch_up()
    assert store.result(seq) == "DownloadFailed"
    replay._read_chunks = original
    replay.catch_up()
    assert store.result(seq) == "Commit"


def test_a_reorganisation_removes_what_was_applied_from_there_on(flow, replay, store):
    _result(flow, replay, _set(b"a", b"1"))
    _result(flow, replay, _set(b"a", b"2"))
    _result(flow, replay, _control(Operation.GRANT_WRITER_ROLE, BOB))
    flow.cut(1)
    flow.write(_set(b"b", b"3"))
    replay.reverted(1)
    replay.catch_up()
    assert store.progress() == 2
    assert _value(replay, flow, b"a") == b"1"
    assert _value(replay, flow, b"b") == b"3"
    assert not access.is_writer_of_stream(store, BOB, STREAM, 10)


def test_a_reorganisation_while_the_node_was_down_is_found_at_the_start(flow, replay, store):
    for value in (b"1", b"2", b"3"):
        _result(flow, replay, _set(b"a", value))
    flow.cut(1)
    flow.write(_set(b"a", b"other"), BOB)
    flow.write(_set(b"a", b"second"))
    again = Replay(flow, store, flow.read_chunks)
    again.recheck()
    again.catch_up()
    assert store.result(1) == "SenderNoWritePermission"
    assert _value(again, flow, b"a") == b"second"
    assert store.progress() == 3


def test_a_stream_that_is_added_is_replayed_from_its_first_entry(flow, store):
    replay = Replay(flow, store, flow.read_chunks, streams=[STREAM])
    _result(flow, replay, _set(b"a", stream=OTHER))
    _result(flow, replay, _set(b"b"))
    replay.add_stream(OTHER)
    replay.catch_up()
    assert [store.result(seq) for seq in (0, 1)] == ["Commit", "Commit"]
    again = Replay(flow, store, flow.read_chunks, streams=[STREAM])
    assert OTHER in again.monitor


def test_a_node_that_begins_to_follow_all_streams_applies_the_past(flow, store):
    replay = Replay(flow, store, flow.read_chunks, streams=[STREAM])
    assert _result(flow, replay, _set(stream=OTHER)) is None
    replay = Replay(flow, store, flow.read_chunks)
    replay.catch_up()
    assert store.result(0) == "Commit"


def test_state_is_kept_over_a_restart(flow, tmp_path):
    store = KvStore(tmp_path / "kv.sqlite")
    replay = Replay(flow, store, flow.read_chunks)
    _result(flow, replay, _set())
    store.close()
    reopened = KvStore(tmp_path / "kv.sqlite")
    assert (reopened.progress(), reopened.result(0)) == (1, "Commit")
    assert reopened.get(STREAM, b"k").length == 1
    reopened.close()


class _Shift:
    """A cipher that adds one to every byte behind a header of one byte, 0x01."""

    def open(self, header):
        if header[:1] != b"\x01":
            return None
        return 1, lambda offset, data: bytes((byte - 1) % 256 for byte in data)


def test_a_node_with_a_key_reads_encrypted_streams_only(flow, store):
    replay = Replay(flow, store, flow.read_chunks, key=_Shift())
    secret = b"\x01" + bytes((byte + 1) % 256 for byte in _set(value=b"secret" * 60_000).encode())
    hidden = flow.submit(secret, STREAM_DOMAIN + STREAM)
    plain = flow.submit(_set().encode(), STREAM_DOMAIN + STREAM)
    replay.catch_up()
    assert store.result(hidden) == "Commit"
    assert _value(replay, flow, b"k") == b"secret" * 60_000
    assert store.result(plain) == "DataParseError: Invalid stream data"
