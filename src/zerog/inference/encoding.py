"""EIP-712 structs of static fields and 0x-hexadecimal text.

Every struct of Proof-of-Inference is flat and has only static fields, so its encoding is one word a
field. Source: EIP-712 "Definition of encodeData"; specification of Proof-of-Inference, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError

_WORD = 32
_SIZES = {"bytes32": 32, "address": 20, "uint256": 32, "uint64": 8, "uint32": 4, "uint8": 1}
DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
DOMAIN_NAME = "ProofOfInference"
DOMAIN_VERSION = "1"

ZERO_HASH = bytes(32)
ZERO_ADDRESS = bytes(20)


class TypedStruct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the signed structs. A subclass sets ``TYPE`` to its EIP-712 type string."""

    def struct_hash(self) -> bytes:
        """``hashStruct`` of EIP-712."""
        return keccak256(keccak256(self.type_string().encode("ascii")) + self._words())

    def digest(self, separator: bytes) -> bytes:
        """What is signed: ``keccak256(0x1901 || separator || hashStruct)``."""
        return keccak256(b"\x19\x01" + separator + self.struct_hash())

    @classmethod
    def type_string(cls) -> str:
        """The EIP-712 type string; part of the protocol, never derived from attribute names."""
        raise NotImplementedError

    @classmethod
    def members(cls) -> list[tuple[str, str]]:
        """(type, name) of every member in the order of the type string."""
        inside = cls.type_string().partition("(")[2].removesuffix(")")
        return [(kind, name) for kind, _, name in (part.partition(" ") for part in inside.split(","))]

    def to_message(self) -> dict[str, Any]:
        """The struct as JSON values: bytes as 0x-hexadecimal, 64-bit numbers and larger as decimal text."""
        return {name: _json_value(kind, value) for (kind, name), value in self._items()}

    def to_tuple(self) -> tuple[Any, ...]:
        """Members in order, addresses as 0x-text, for ABI encoders."""
        return tuple("0x" + value.hex() if kind == "address" else value for (kind, _), value in self._items())

    def _items(self) -> list[tuple[tuple[str, str], Any]]:
        return list(zip(self.members(), msgspec.structs.astuple(self), strict=True))

    def _words(self) -> bytes:
        return b"".join(_encode_word(kind, name, value) for (kind, name), value in self._items())


S = TypeVar("S", bound=TypedStruct)


def from_message(cls: type[S], message: Mapping[str, Any]) -> S:
    """A struct from JSON values as `TypedStruct.to_message` writes them.

    Raises
    ------
    InferenceError : a member is missing, unknown, of the wrong form or out of range.
    """
    members = cls.members()
    names = [name for _, name in members]
    if unknown := sorted(set(message) - set(names)):
        raise InferenceError(f"{cls.__name__} has no member {unknown[0]!r}")
    values = []
    for kind, name in members:
        if name not in message:
            raise InferenceError(f"{cls.__name__}: member {name!r} is missing")
        values.append(_parse_value(kind, name, message[name]))
    return cls(*values)


def domain_separator(chain_id: int, registry: bytes) -> bytes:
    """Separator of the signing domain of the inference registry at ``registry`` on a chain."""
    return keccak256(
        keccak256(DOMAIN_TYPE.encode("ascii"))
        + keccak256(DOMAIN_NAME.encode("ascii"))
        + keccak256(DOMAIN_VERSION.encode("ascii"))
        + chain_id.to_bytes(_WORD)
        + registry.rjust(_WORD, b"\0")
    )


@dataclass(frozen=True, slots=True)
class Domain:
    """Where receipts count: a chain and the inference registry on it (20 bytes)."""

    chain_id: int
    registry: bytes

    @property
    def separator(self) -> bytes:
        """The EIP-712 domain separator."""
        return domain_separator(self.chain_id, self.registry)


def parse_hex(text: object, size: int | None, name: str) -> bytes:
    """Bytes of 0x-hexadecimal text; ``size`` in bytes when fixed. Raises `InferenceError` naming it."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise InferenceError(f"{name} must be 0x-hexadecimal text")
    try:
        data = bytes.fromhex(text[2:])
    except ValueError:
        raise InferenceError(f"{name} is not hexadecimal") from None
    if size is not None and len(data) != size:
        raise InferenceError(f"{name} has {len(data)} bytes instead of {size}")
    return data


def _encode_word(kind: str, name: str, value: Any) -> bytes:
    size = _SIZES[kind]
    if kind.startswith("uint"):
        if not 0 <= value < 1 << (8 * size):
            raise InferenceError(f"{name} = {value} does not fit {kind}")
        return int(value).to_bytes(_WORD)
    if len(value) != size:
        raise InferenceError(f"{name} has {len(value)} bytes instead of {size}")
    return bytes(value).rjust(_WORD, b"\0")


def _json_value(kind: str, value: Any) -> Any:
    if not kind.startswith("uint"):
        return "0x" + value.hex()
    # JSON numbers lose digits beyond 2^53 in many readers.
    return str(value) if _SIZES[kind] >= 8 else value


def _parse_value(kind: str, name: str, value: object) -> int | bytes:
    size = _SIZES[kind]
    if not kind.startswith("uint"):
        return parse_hex(value, size, name)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 78:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InferenceError(f"{name} must be a number")
    if not 0 <= value < 1 << (8 * size):
        raise InferenceError(f"{name} = {value} does not fit {kind}")
    return value
