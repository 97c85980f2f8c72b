"""The exception tree and how native errors fall into it."""

from __future__ import annotations

import pytest

from zerog import errors
from zerog.errors import ZerogError, from_native, native_errors


class NativeError(Exception):
    """As the native module raises it."""

    def __init__(self, kind: str, message: str, code: int = 0, data: object = None) -> None:
        super().__init__(message)
        self.kind, self.message, self.code, self.data = kind, message, code, data


def test_every_exception_is_drawn_in_the_tree() -> None:
    drawn = errors.__doc__ or ""
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == errors.__name__:
            assert issubclass(value, ZerogError)
            assert name in drawn


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("datadir", errors.DataDirError),
        ("foreign_datadir", errors.ForeignDataDir),
        ("wrong_chain", errors.WrongChain),
        ("corrupt", errors.CorruptDataDir),
        ("genesis", errors.GenesisError),
        ("block", errors.BlockError),
        ("payload", errors.BlockError),
        ("port", errors.PortInUse),
        ("pool", errors.TransactionError),
        ("keystore", errors.KeystoreError),
        ("other", errors.NativeFailure),
        ("something new", errors.NativeFailure),
    ],
)
def test_a_native_error_becomes_the_exception_of_its_kind(kind: str, expected: type[ZerogError]) -> None:
    with pytest.raises(expected, match="why") as caught, native_errors():
        raise NativeError(kind, "why")
    assert type(caught.value) is expected


def test_an_rpc_error_keeps_code_and_data() -> None:
    error = from_native(NativeError("rpc", "execution reverted", 3, "0x08"))
    assert isinstance(error, errors.RpcError)
    assert (error.code, error.message, error.data) == (3, "execution reverted", "0x08")


def test_other_exceptions_pass_untouched() -> None:
    with pytest.raises(ZeroDivisionError), native_errors():
        _ = 1 / 0


def test_a_hint_follows_the_message() -> None:
    assert str(ZerogError("it is full", hint="make room")) == "it is full; make room"
