"""The header of a block in the encoding whose hash is the block's: what `drawAudit` checks a beacon by.

A contract knows only hashes of blocks. Whoever draws an audit therefore brings the header, and the
contract takes the randomness from it. Source: Ethereum yellow paper, appendix B (RLP) and section 4.3;
fields after ``nonce``: EIP-1559, 4895, 4844, 4788, 7685.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError

_BYTES = True
_NUMBER = False
_FIELDS: tuple[tuple[str, bool], ...] = (
    ("parentHash", _BYTES),
    ("sha3Uncles", _BYTES),
    ("miner", _BYTES),
    ("stateRoot", _BYTES),
    ("transactionsRoot", _BYTES),
    ("receiptsRoot", _BYTES),
    ("logsBloom", _BYTES),
    ("difficulty", _NUMBER),
    ("number", _NUMBER),
    ("gasLimit", _NUMBER),
    ("gasUsed", _NUMBER),
    ("timestamp", _NUMBER),
    ("extraData", _BYTES),
    ("mixHash", _BYTES),
    ("nonce", _BYTES),
)
_LATER_FIELDS: tuple[tuple[str, bool], ...] = (
    ("baseFeePerGas", _NUMBER),
    ("withdrawalsRoot", _BYTES),
    ("blobGasUsed", _NUMBER),
    ("excessBlobGas", _NUMBER),
    ("parentBeaconBlockRoot", _BYTES),
    ("requestsHash", _BYTES),
)
"""Each fork appended fields; a block has a prefix of them."""

_SHORT = 55
_STRING = 0x80
_LIST = 0xC0


def encode_header(block: Mapping[str, Any]) -> bytes:
    """RLP of the header of a block as ``eth_getBlockByNumber`` answers it.

    Raises
    ------
    InferenceError : a field is missing or malformed, or the encoding does not hash to the block's hash:
        the node has a field that is unknown here, or it lies.
    """
    present = [field for field in _LATER_FIELDS if block.get(field[0]) is not None]
    items = [_field(block, name, is_bytes) for name, is_bytes in (*_FIELDS, *present)]
    header = _rlp_list(items)
    found = "0x" + keccak256(header).hex()
    if found != str(block.get("hash", "")).lower():
        raise InferenceError(
            f"block {block.get('number')} has the hash {block.get('hash')}, its fields {found}"
        )
    return header


def randomness_of(block: Mapping[str, Any]) -> bytes:
    """The beacon value of a block: its ``mixHash`` (EIP-4399), 32 bytes."""
    return _field_bytes(block, "mixHash")


def _field(block: Mapping[str, Any], name: str, is_bytes: bool) -> bytes:
    if is_bytes:
        return _rlp_string(_field_bytes(block, name))
    try:
        value = int(str(block[name]), 16)
    except (KeyError, ValueError):
        raise InferenceError(f"the block's {name} is no number") from None
    return _rlp_string(value.to_bytes((value.bit_length() + 7) // 8))


def _field_bytes(block: Mapping[str, Any], name: str) -> bytes:
    text = block.get(name)
    if not isinstance(text, str) or not text.startswith("0x"):
        raise InferenceError(f"the block's {name} is no 0x-hexadecimal text")
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        raise InferenceError(f"the block's {name} is not hexadecimal") from None


def _rlp_string(data: bytes) -> bytes:
    if len(data) == 1 and data[0] < _STRING:
        return data
    return _rlp_prefix(len(data), _STRING) + data


def _rlp_list(items: list[bytes]) -> bytes:
    payload = b"".join(items)
    return _rlp_prefix(len(payload), _LIST) + payload


def _rlp_prefix(length: int, kind: int) -> bytes:
    if length <= _SHORT:
        return bytes([kind + length])
    size = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([kind + _SHORT + len(size)]) + size
