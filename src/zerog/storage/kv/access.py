"""Who may write a stream: the rules of access control, as functions over what was recorded before.

A stream without any record is new: everybody may write it, and the first transaction makes its sender an
administrator. After that, administrators write everything, writers of the stream everything but special keys,
and writers of a special key that key. An administrator can only be removed by itself.

Streams and keys are bytes, accounts 20 bytes. ``before`` is a version: records up to and with it count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from zerog.storage.kv.stream import NO_ACCOUNT, Control, Operation

ADMIN, SPECIAL_KEY, WRITER, SPECIAL_WRITER = 0x00, 0x10, 0x20, 0x30


class AccessRecords(Protocol):
    """The recorded controls."""

    def is_new(self, stream: bytes, before: int) -> bool:
        """Whether nothing is recorded for the stream."""
        ...

    def last_operation(
        self, stream: bytes, family: int, key: bytes, account: bytes, before: int
    ) -> Operation | None:
        """The newest operation of a family."""
        ...

    def writes_special_key(self, stream: bytes, account: bytes, before: int) -> bool:
        """Whether the account is a special writer of any key of the stream."""
        ...


def is_admin(records: AccessRecords, account: bytes, stream: bytes, before: int) -> bool:
    """Whether the account administrates the stream."""
    return records.last_operation(stream, ADMIN, b"", account, before) is Operation.GRANT_ADMIN_ROLE


def is_special_key(records: AccessRecords, stream: bytes, key: bytes, before: int) -> bool:
    """Whether only special writers (and administrators) may write the key."""
    last = records.last_operation(stream, SPECIAL_KEY, key, NO_ACCOUNT, before)
    return last is Operation.SET_KEY_TO_SPECIAL


def is_writer_of_stream(records: AccessRecords, account: bytes, stream: bytes, before: int) -> bool:
    """Whether the account was granted the normal keys of the stream."""
    return records.last_operation(stream, WRITER, b"", account, before) is Operation.GRANT_WRITER_ROLE


def is_writer_of_key(records: AccessRecords, account: bytes, stream: bytes, key: bytes, before: int) -> bool:
    """Whether the account was granted this special key."""
    last = records.last_operation(stream, SPECIAL_WRITER, key, account, before)
    return last is Operation.GRANT_SPECIAL_WRITER_ROLE


def has_write_permission(
    records: AccessRecords, account: bytes, stream: bytes, key: bytes, before: int
) -> bool:
    """Whether the account may write the key."""
    if records.is_new(stream, before) or is_admin(records, account, stream, before):
        return True
    if is_special_key(records, stream, key, before):
        return is_writer_of_key(records, account, stream, key, before)
    return is_writer_of_stream(records, account, stream, before)


def can_write(records: AccessRecords, account: bytes, stream: bytes, before: int) -> bool:
    """Whether the account may write any key of the stream."""
    return (
        records.is_new(stream, before)
        or is_admin(records, account, stream, before)
        or is_writer_of_stream(records, account, stream, before)
        or records.writes_special_key(stream, account, before)
    )


def effective_controls(
    records: AccessRecords, sender: bytes, streams: Iterable[bytes], controls: Iterable[Control], before: int
) -> list[Control]:
    """The controls that a transaction leaves: what is said last, after the grant that a new stream implies.

    Within one operation list the last operation of a family, stream, key and account counts. Granting the
    administration to oneself, or to somebody who is already named, says nothing.
    """
    kept: dict[tuple[int, bytes, bytes, bytes], Control] = {}
    for stream in streams:
        if records.is_new(stream, before):
            kept[ADMIN, stream, b"", sender] = Control(Operation.GRANT_ADMIN_ROLE, stream, account=sender)
    for control in controls:
        place = (control.operation.family, control.stream, control.key, control.account)
        grants_admin = control.operation is Operation.GRANT_ADMIN_ROLE
        if grants_admin and (place in kept or control.account == sender):
            continue
        kept[place] = control
    return list(kept.values())


def refused_control(
    records: AccessRecords, sender: bytes, streams: Sequence[bytes], controls: Iterable[Control], before: int
) -> Control | None:
    """The first control that ``sender`` may not give; ``streams`` are those of the transaction's tags."""
    administered = {
        stream
        for stream in streams
        if records.is_new(stream, before) or is_admin(records, sender, stream, before)
    }
    for control in controls:
        if control.stream in administered or control.operation.renounces:
            continue
        operation, stream = control.operation, control.stream
        if operation is Operation.GRANT_WRITER_ROLE:
            allowed = is_writer_of_stream(records, sender, stream, before)
        elif operation is Operation.GRANT_SPECIAL_WRITER_ROLE:
            allowed = is_writer_of_key(records, sender, stream, control.key, before)
        else:
            allowed = False
        if not allowed:
            return control
    return None
