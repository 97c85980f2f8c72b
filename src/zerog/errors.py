"""Every exception that zerog raises on purpose, in one tree.

::

    ZerogError
    ├── ConfigError                 a setting: file, key or flag
    ├── GenesisError                a genesis that cannot start a chain
    ├── DataDirError                a data directory that cannot be used
    │   ├── DataDirLocked           another node uses it
    │   ├── ForeignDataDir          it was not made by zerog, or by a newer one
    │   ├── WrongChain              it holds another chain
    │   └── CorruptDataDir          its contents fail their checks
    ├── PortInUse                   a server could not listen
    ├── BlockError                  a block or proposal that breaks a rule
    ├── KeystoreError               a key file, password or key
    ├── TransportError              no answer from a node
    │   └── TransportTimeout        no answer in time
    ├── RpcError                    a node answered with an error (code, message, data)
    │   ├── InvalidParams           -32602: a parameter is wrong; the message names it
    │   └── ContractReverted        a call reverted; carries the decoded reason
    ├── TransactionError            a transaction that cannot be sent, was dropped or failed
    │   ├── TransactionFailed       it is in a block with status 0
    │   └── WaitTimeout             it is not in a block yet
    ├── AbiError                    arguments or return data that do not fit an ABI
    ├── InferenceError              an inference, its receipt or its model
    │   ├── ContextExceeded         prompt and answer are longer than the model reads
    │   ├── EngineBusy              its bounded queue is full; try again later
    │   ├── EngineCancelled         the caller, or a shutdown, ended the generation
    │   └── UpstreamError           a model server behind an engine
    │       ├── UpstreamUnavailable no connection, or closed before it answered
    │       ├── UpstreamTimeout     silent for too long, or too slow as a whole
    │       ├── UpstreamRefused     another HTTP status than 200, or an error object (status)
    │       ├── UpstreamMalformed   no JSON, too much of something, a stream that breaks off
    │       └── UpstreamLied        it contradicts itself, the request or the vocabulary
    ├── StorageError                storing, finding or reading data
    │   ├── SegmentRefused          a segment fails its checks (field, detail)
    │   ├── UnknownFile             no submission has that root or number
    │   ├── DataUnavailable         the file is known, its data is not here
    │   ├── DataDamaged             stored bytes fail their check
    │   ├── FlowDiverged            the stored flow is not the chain's
    │   ├── StorageFull             no room on the disk, or a limit is reached
    │   └── StreamWriteRefused      a KV transaction was replayed and not committed (result)
    └── NativeFailure               the native engine failed in a way that has no better name

Messages are one sentence: what was wrong, with which value. ``hint`` says what to do next; it is
printed after the message on a terminal. No message ever contains a key, a password or a mnemonic.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any


class ZerogError(Exception):
    """Root of every error raised on purpose.

    Attributes
    ----------
    message : what was wrong, with which value; one sentence without a final full stop.
    hint : what to do next, or ``None``.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


class ConfigError(ZerogError):
    """A setting is unknown, has the wrong type or is out of range."""


class GenesisError(ZerogError):
    """A genesis that cannot start a chain; the message names the field."""


class DataDirError(ZerogError):
    """A data directory that cannot be used."""


class DataDirLocked(DataDirError):
    """Another running node holds the directory."""


class ForeignDataDir(DataDirError):
    """The directory holds files that zerog did not write, or a newer format."""


class WrongChain(DataDirError):
    """The directory holds another chain than the one asked for."""


class CorruptDataDir(DataDirError):
    """The contents of the directory fail their checks."""


class PortInUse(ZerogError):
    """A server could not listen on its address."""


class BlockError(ZerogError):
    """A block or proposal breaks a rule of the chain."""


class KeystoreError(ZerogError):
    """A key file, its password, or a key itself is not usable."""


class TransportError(ZerogError):
    """No usable answer came back from a node."""


class TransportTimeout(TransportError):
    """No answer came back in time."""


class RpcError(ZerogError):
    """A node answered with a JSON-RPC error.

    Attributes
    ----------
    code : the JSON-RPC error code.
    data : ``error.data`` as sent (revert bytes as hex, or a structure), or ``None``.
    """

    def __init__(self, code: int, message: str, data: Any = None, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.data = data


class InvalidParams(RpcError):
    """-32602: a parameter has the wrong form; the message names it."""

    def __init__(self, message: str, data: Any = None) -> None:
        super().__init__(-32602, message, data)


class ContractReverted(RpcError):
    """A call or a gas estimate reverted.

    Attributes
    ----------
    reason : the revert string, or the custom error with its values, when it could be decoded.
    """

    def __init__(self, code: int, message: str, data: Any = None, *, reason: str | None = None) -> None:
        super().__init__(code, message, data)
        self.reason = reason


class TransactionError(ZerogError):
    """A transaction that cannot be sent, was dropped, or failed."""


class TransactionFailed(TransactionError):
    """The transaction is in a block and its status is 0.

    Attributes
    ----------
    receipt : the receipt that the node answered.
    """

    def __init__(self, message: str, receipt: Any) -> None:
        super().__init__(message)
        self.receipt = receipt


class WaitTimeout(TransactionError):
    """The transaction is not in a block yet."""


class AbiError(ZerogError):
    """Arguments or return data do not fit the ABI."""


class InferenceError(ZerogError):
    """An inference, its receipt or its model is not usable."""


class ContextExceeded(InferenceError):
    """Prompt and answer together are longer than what the model can read.

    Attributes
    ----------
    prompt_tokens, max_tokens, context : counts of tokens.
    """

    def __init__(self, prompt_tokens: int, max_tokens: int, context: int) -> None:
        super().__init__(
            f"{prompt_tokens} prompt tokens and maxTokens = {max_tokens} exceed"
            f" the context of {context} tokens"
        )
        self.prompt_tokens = prompt_tokens
        self.max_tokens = max_tokens
        self.context = context


class EngineBusy(InferenceError):
    """An engine's bounded queue is full; the same request may succeed later."""


class EngineCancelled(InferenceError):
    """A generation ended because its caller cancelled it or the engine was interrupted."""


class UpstreamError(InferenceError):
    """A model server that answers for an engine did not do its part; nothing is signed."""


class UpstreamUnavailable(UpstreamError):
    """No connection, or the server closed it before it answered; another attempt may succeed."""


class UpstreamTimeout(UpstreamError):
    """The server was silent for too long, or the whole answer took too long."""


class UpstreamRefused(UpstreamError):
    """The server answered with an HTTP status other than 200, a redirect or an error object.

    Attributes
    ----------
    status : the HTTP status; 200 when the error came inside a stream.
    """

    def __init__(self, message: str, status: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class UpstreamMalformed(UpstreamError):
    """The answer breaks its protocol: no JSON, a line or body beyond its limit, a stream that breaks off."""


class UpstreamLied(UpstreamError):
    """What the server reports contradicts itself, the request or the model's vocabulary."""


class StorageError(ZerogError):
    """Data cannot be stored, found or read."""


class SegmentRefused(StorageError):
    """A segment, its proof or its position is wrong; nothing was stored.

    Attributes
    ----------
    field : the wrong part as 0G's node names it: "root", "index", "data", "proof", "file_size", "end_index", …
    detail : what is wrong with it, in the words that clients match.
    """

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field = field
        self.detail = detail


class UnknownFile(StorageError):
    """No submission has that root or number."""


class DataUnavailable(StorageError):
    """The file is known, but its data is not here."""


class DataDamaged(StorageError):
    """Stored bytes do not hash to the root that was committed; the message says where."""


class FlowDiverged(StorageError):
    """The stored flow and the chain's differ where they must be equal; the message has both sides."""


class StorageFull(StorageError):
    """The disk, or a limit of the configuration, has no room."""


class StreamWriteRefused(StorageError):
    """A KV transaction was replayed and not committed.

    Attributes
    ----------
    seq : its sequence number.
    result : the reason in the words of replay, for example ``VersionConfliction``.
    """

    def __init__(self, seq: int, result: str) -> None:
        super().__init__(f"KV transaction {seq} was not committed: {result}")
        self.seq = seq
        self.result = result


class NativeFailure(ZerogError):
    """The native engine failed in a way that no other class describes."""


_BY_KIND: dict[str, type[ZerogError]] = {
    "datadir": DataDirError,
    "locked": DataDirLocked,
    "foreign_datadir": ForeignDataDir,
    "wrong_chain": WrongChain,
    "corrupt": CorruptDataDir,
    "genesis": GenesisError,
    "block": BlockError,
    "payload": BlockError,
    "port": PortInUse,
    "pool": TransactionError,
    "keystore": KeystoreError,
    "storage": StorageError,
    "other": NativeFailure,
}


def from_native(error: BaseException) -> ZerogError:
    """The exception of this tree for a ``zerog._native.NativeError`` (its ``kind`` decides)."""
    kind = str(getattr(error, "kind", "other"))
    message = str(getattr(error, "message", error))
    if kind == "rpc":
        return RpcError(int(getattr(error, "code", -32603)), message, getattr(error, "data", None))
    return _BY_KIND.get(kind, NativeFailure)(message)


class _NativeErrors:
    """See `native_errors`. A plain class, because every block passes here several times."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and kind.__name__ == "NativeError" and error is not None:
            raise from_native(error) from error


_NATIVE_ERRORS = _NativeErrors()


def native_errors() -> AbstractContextManager[None]:
    """Raises errors of the native engine as exceptions of this tree."""
    return _NATIVE_ERRORS
