"""Contract ABIs: what Python values become on chain and back.

The encoding itself is `eth_abi`'s, loaded at the first use. Here is what surrounds it: signatures,
structs by name, addresses from accounts and contracts, events, and reasons of reverts.
"""

from __future__ import annotations

import keyword
from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from zerog.chain.keys import checksummed, keccak256
from zerog.client.values import Log
from zerog.errors import AbiError

_ERROR = bytes.fromhex("08c379a0")  # Error(string)
_PANIC = bytes.fromhex("4e487b71")  # Panic(uint256)
_PANICS = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow or underflow",
    0x12: "division by zero",
    0x21: "value outside an enum",
    0x22: "badly encoded storage bytes",
    0x31: "pop from an empty array",
    0x32: "array index out of bounds",
    0x41: "too much memory",
    0x51: "call of an uninitialised function",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its name, canonical type, and the parts of a struct."""

    name: str
    type: str
    components: tuple[Parameter, ...] = ()
    indexed: bool = False

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Parameter:
        """From the ABI's JSON; raises `AbiError`."""
        try:
            kind = str(raw["type"])
            parts = tuple(cls.of(part) for part in raw.get("components", ()))
        except (KeyError, TypeError, AttributeError):
            raise AbiError(f"a parameter of the ABI is malformed: {raw!r:.80}") from None
        if kind.startswith("tuple"):
            kind = f"({','.join(part.type for part in parts)}){kind[5:]}"
        return cls(str(raw.get("name") or ""), kind, parts, bool(raw.get("indexed")))


def encode(parameters: Sequence[Parameter], values: Sequence[Any]) -> bytes:
    """ABI-encodes ``values``; raises `AbiError` naming the parameter that does not fit."""
    from eth_abi.abi import encode as encode_types
    from eth_abi.exceptions import EncodingError, ParseError

    plain = [
        _to_plain(p.type, p.components, v, p.name or f"argument {i}")
        for i, (p, v) in enumerate(zip(parameters, values, strict=True))
    ]
    try:
        return bytes(encode_types([p.type for p in parameters], plain))
    except (EncodingError, ParseError, TypeError, ValueError, OverflowError) as error:
        for parameter, value in zip(parameters, plain, strict=True):
            try:
                encode_types([parameter.type], [value])
            except Exception:
                raise AbiError(
                    f"{parameter.name or 'argument'}: {value!r:.80} is not a {parameter.type}"
                ) from None
        raise AbiError(str(error)) from None


def decode(parameters: Sequence[Parameter], raw: bytes) -> tuple[Any, ...]:
    """The values of ABI-encoded bytes; raises `AbiError`."""
    from eth_abi.abi import decode as decode_types
    from eth_abi.exceptions import DecodingError, ParseError

    try:
        values = decode_types([p.type for p in parameters], raw)
    except (DecodingError, ParseError, OverflowError, ValueError, UnicodeDecodeError) as error:
        types = ",".join(p.type for p in parameters)
        raise AbiError(f"{len(raw)} bytes of return data are not ({types}): {error}") from None
    return tuple(_to_rich(p.type, p.components, v) for p, v in zip(parameters, values, strict=True))


def _to_plain(kind: str, parts: tuple[Parameter, ...], value: Any, name: str) -> Any:
    """A Python value as `eth_abi` takes it."""
    if kind.endswith("]"):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise AbiError(f"{name}: {value!r:.80} is not a list for {kind}")
        inner = kind[: kind.rindex("[")]
        return [_to_plain(inner, parts, item, name) for item in value]
    if kind.startswith("("):
        if isinstance(value, Mapping):
            try:
                value = [value[part.name] for part in parts]
            except KeyError as error:
                raise AbiError(f"{name}: field {error.args[0]!r} is missing") from None
        if not isinstance(value, Sequence) or len(value) != len(parts):
            raise AbiError(f"{name}: {value!r:.80} does not have the {len(parts)} fields of {kind}")
        return tuple(
            _to_plain(p.type, p.components, item, f"{name}.{p.name}")
            for p, item in zip(parts, value, strict=True)
        )
    if kind == "address":
        return str(getattr(value, "address", value))
    if kind.startswith("bytes") and isinstance(value, str):
        try:
            return bytes.fromhex(value.removeprefix("0x"))
        except ValueError:
            raise AbiError(f"{name}: {value!r:.80} is not hexadecimal for {kind}") from None
    return value


def _to_rich(kind: str, parts: tuple[Parameter, ...], value: Any) -> Any:
    """What `eth_abi` gives as a person wants it: structs by field name, checksummed addresses."""
    if kind.endswith("]"):
        inner = kind[: kind.rindex("[")]
        return [_to_rich(inner, parts, item) for item in value]
    if kind.startswith("("):
        return _named(
            parts, tuple(_to_rich(p.type, p.components, v) for p, v in zip(parts, value, strict=True))
        )
    return checksummed(value) if kind == "address" else value


def _named(parts: Sequence[Parameter], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A named tuple when every part has a usable, distinct name."""
    names = [part.name for part in parts]
    usable = all(n.isidentifier() and not keyword.iskeyword(n) and not n.startswith("_") for n in names)
    if not names or not usable or len(set(names)) != len(names):
        return values
    made: tuple[Any, ...] = _struct(tuple(names))(*values)
    return made


@cache
def _struct(names: tuple[str, ...]) -> Any:
    return namedtuple("Struct", names)


@dataclass(frozen=True)
class Signature:
    """What functions, events and errors have in common: a name and parameters."""

    name: str
    inputs: tuple[Parameter, ...]

    @cached_property
    def signature(self) -> str:
        """``name(type,type)``."""
        return f"{self.name}({','.join(p.type for p in self.inputs)})"

    @cached_property
    def digest(self) -> bytes:
        """keccak-256 of the signature: topic of an event, its first 4 bytes the selector."""
        return keccak256(self.signature.encode())


@dataclass(frozen=True)
class Function(Signature):
    """A function of a contract."""

    outputs: tuple[Parameter, ...] = ()
    mutability: str = "nonpayable"

    @property
    def is_view(self) -> bool:
        """Whether it changes nothing, so that a call is all it needs."""
        return self.mutability in ("view", "pure")

    def encode(self, arguments: Sequence[Any]) -> bytes:
        """Selector and arguments."""
        if len(arguments) != len(self.inputs):
            raise AbiError(f"{self.signature} takes {len(self.inputs)} arguments, not {len(arguments)}")
        return self.digest[:4] + encode(self.inputs, arguments)

    def decode(self, raw: bytes) -> Any:
        """The return value: one value as it is, several as a (named) tuple, none as ``None``."""
        values = decode(self.outputs, raw)
        if not values:
            return None
        return values[0] if len(values) == 1 else _named(self.outputs, values)


@dataclass(frozen=True)
class EventType(Signature):
    """An event of a contract."""

    anonymous: bool = False

    def decode(self, log: Log) -> dict[str, Any]:
        """Arguments by name. An indexed string, array or struct is only its hash (bytes)."""
        topics = iter(log.topics if self.anonymous else log.topics[1:])
        plain = [p for p in self.inputs if not p.indexed]
        values = iter(decode(plain, log.data))
        arguments: dict[str, Any] = {}
        for index, parameter in enumerate(self.inputs):
            name = parameter.name or f"arg{index}"
            if not parameter.indexed:
                arguments[name] = next(values)
                continue
            topic = next(topics, None)
            if topic is None:
                raise AbiError(f"a log of {self.signature} has too few topics")
            arguments[name] = topic if _hashed(parameter.type) else decode([parameter], topic)[0]
        return arguments

    def topics(self, wanted: Mapping[str, Any]) -> list[Any]:
        """A topic filter for the given indexed arguments; a list of values means any of them."""
        indexed = {p.name: p for p in self.inputs if p.indexed}
        unknown = sorted(wanted.keys() - indexed.keys())
        if unknown:
            raise AbiError(
                f"{unknown[0]!r} is not an indexed argument of {self.signature}",
                hint=f"indexed are {', '.join(indexed) or 'none'}",
            )
        topics: list[Any] = [] if self.anonymous else ["0x" + self.digest.hex()]
        for name, parameter in indexed.items():
            value = wanted.get(name)
            if value is None:
                topics.append(None)
            elif isinstance(value, list | tuple | set):
                topics.append([_topic(parameter, item) for item in value])
            else:
                topics.append(_topic(parameter, value))
        while topics and topics[-1] is None:
            topics.pop()
        return topics


def _hashed(kind: str) -> bool:
    return kind in ("string", "bytes") or kind.endswith("]") or kind.startswith("(")


def _topic(parameter: Parameter, value: Any) -> str:
    if not _hashed(parameter.type):
        return "0x" + encode([parameter], [value]).hex()
    if parameter.type not in ("string", "bytes"):
        raise AbiError(f"{parameter.name}: filtering by an indexed {parameter.type} is not supported")
    raw = value.encode() if isinstance(value, str) else bytes(value)
    return "0x" + keccak256(raw).hex()


class Abi:
    """The functions, events and errors of a contract."""

    def __init__(self, raw: Sequence[Mapping[str, Any]]) -> None:
        """From the compiler's JSON; raises `AbiError`."""
        if isinstance(raw, str | bytes | Mapping) or not isinstance(raw, Sequence):
            raise AbiError(f"an ABI is a list of objects, not {type(raw).__name__}")
        self.raw = raw
        self.functions: list[Function] = []
        self.events: list[EventType] = []
        self.errors: list[Signature] = []
        self.constructor = Function("constructor", ())
        for entry in raw:
            self._add(entry)

    def _add(self, entry: Mapping[str, Any]) -> None:
        kind, name = entry.get("type", "function"), str(entry.get("name") or "")
        inputs = tuple(Parameter.of(p) for p in entry.get("inputs", ()))
        if kind == "function":
            outputs = tuple(Parameter.of(p) for p in entry.get("outputs", ()))
            self.functions.append(Function(name, inputs, outputs, entry.get("stateMutability", "nonpayable")))
        elif kind == "event":
            self.events.append(EventType(name, inputs, bool(entry.get("anonymous"))))
        elif kind == "error":
            self.errors.append(Signature(name, inputs))
        elif kind == "constructor":
            mutability = entry.get("stateMutability", "nonpayable")
            self.constructor = Function("constructor", inputs, (), mutability)

    def event_of(self, log: Log) -> EventType | None:
        """The event that a log is, by its first topic."""
        if not log.topics:
            return None
        for event in self.events:
            indexed = sum(p.indexed for p in event.inputs)
            if not event.anonymous and event.digest == log.topics[0] and indexed == len(log.topics) - 1:
                return event
        return None

    def revert_reason(self, raw: bytes) -> str | None:
        """What revert bytes say: a string, a panic, or an error of this ABI with its values."""
        for error in self.errors:
            if raw[:4] == error.digest[:4]:
                try:
                    values = decode(error.inputs, raw[4:])
                except AbiError:
                    return error.name
                named = (
                    f"{p.name}={v!r}" if p.name else repr(v)
                    for p, v in zip(error.inputs, values, strict=True)
                )
                return f"{error.name}({', '.join(named)})"
        return revert_reason(raw)


def revert_reason(raw: bytes) -> str | None:
    """What revert bytes say without an ABI; ``None`` when they are of no standard form."""
    try:
        if raw[:4] == _ERROR:
            return str(decode([Parameter("", "string")], raw[4:])[0])
        if raw[:4] == _PANIC:
            code = decode([Parameter("", "uint256")], raw[4:])[0]
            return f"panic 0x{code:02x}: {_PANICS.get(code, 'unknown code')}"
    except AbiError:
        return None
    return None
