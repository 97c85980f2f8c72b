"""ABI values: Python to chain and back, events, and reasons of reverts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerog.client.abi import Abi, Parameter, decode, encode, revert_reason
from zerog.client.values import Log
from zerog.errors import AbiError

ALICE = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def parameter(kind: str, name: str = "x", components: Any = ()) -> Parameter:
    return Parameter.of({"type": kind, "name": name, "components": components})


POINT = [{"name": "x", "type": "uint256"}, {"name": "owner", "type": "address"}]


def test_a_struct_goes_in_by_name_and_comes_back_with_names() -> None:
    kind = parameter("tuple[]", "points", POINT)
    assert kind.type == "(uint256,address)[]"
    raw = encode([kind], [[{"x": 3, "owner": ALICE}, (4, ALICE)]])
    (points,) = decode([kind], raw)
    assert points[0].x == 3
    assert points[1].owner == ALICE


def test_anything_with_an_address_is_an_address() -> None:
    class Holder:
        address = ALICE

    assert encode([parameter("address")], [Holder()])[12:].hex() == ALICE[2:].lower()


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("uint8", 256, "x: 256 is not a uint8"),
        ("uint256", "5", "x: '5' is not a uint256"),
        ("address", "0x12", "x: '0x12' is not a address"),
        ("bytes4", "0xzz", "x: '0xzz' is not hexadecimal for bytes4"),
        ("uint256[]", 5, "x: 5 is not a list for uint256[]"),
        ("bool", "yes", "x: 'yes' is not a bool"),
    ],
)
def test_a_value_that_does_not_fit_is_named(kind: str, value: Any, message: str) -> None:
    with pytest.raises(AbiError) as caught:
        encode([parameter(kind)], [value])
    assert str(caught.value) == message


def test_a_missing_field_of_a_struct_is_named() -> None:
    with pytest.raises(AbiError, match="p: field 'owner' is missing"):
        encode([parameter("tuple", "p", POINT)], [{"x": 1}])


@given(st.binary(max_size=200))
def test_hostile_return_data_is_a_value_or_an_error(raw: bytes) -> None:
    for kind in ("uint256", "string", "bytes[]", "uint256[][]"):
        try:
            decode([parameter(kind)], raw)
        except AbiError as error:
            assert "return data" in str(error)


@given(st.integers(0, 2**256 - 1), st.text(max_size=50), st.binary(max_size=50), st.lists(st.booleans()))
def test_values_survive_the_round_trip(number: int, text: str, raw: bytes, flags: list[bool]) -> None:
    kinds = [parameter(kind) for kind in ("uint256", "string", "bytes", "bool[]")]
    assert decode(kinds, encode(kinds, [number, text, raw, flags])) == (number, text, raw, flags)


TRANSFER = {
    "type": "event",
    "name": "Transfer",
    "inputs": [
        {"name": "from", "type": "address", "indexed": True},
        {"name": "note", "type": "string", "indexed": True},
        {"name": "amount", "type": "uint256", "indexed": False},
    ],
}
SHORT = {"type": "error", "name": "Short", "inputs": [{"name": "wanted", "type": "uint256"}]}


def log(topics: list[bytes], data: bytes) -> Log:
    return Log(ALICE, tuple(topics), data, 1, "0x", 0, False, {})


def test_an_event_is_decoded_by_its_first_topic() -> None:
    abi = Abi([TRANSFER])
    (event,) = abi.events
    word = bytes.fromhex(ALICE[2:]).rjust(32, b"\0")
    found = log([event.digest, word, b"\x07" * 32], (9).to_bytes(32, "big"))
    assert abi.event_of(found) is event
    assert event.decode(found) == {"from": ALICE, "note": b"\x07" * 32, "amount": 9}


def test_a_log_of_something_else_is_no_event() -> None:
    abi = Abi([TRANSFER])
    assert abi.event_of(log([b"\1" * 32], b"")) is None
    assert abi.event_of(log([], b"")) is None
    assert abi.event_of(log([abi.events[0].digest], b"")) is None


def test_a_topic_filter_takes_values_and_alternatives() -> None:
    (event,) = Abi([TRANSFER]).events
    topics = event.topics({"from": [ALICE, ALICE]})
    assert topics[0] == "0x" + event.digest.hex()
    assert len(topics[1]) == 2
    with pytest.raises(AbiError, match="'amount' is not an indexed argument"):
        event.topics({"amount": 1})


def test_reasons_of_reverts_are_read() -> None:
    text = bytes.fromhex("08c379a0") + encode([parameter("string")], ["too late"])
    panic = bytes.fromhex("4e487b71") + (0x11).to_bytes(32, "big")
    abi = Abi([SHORT])
    custom = abi.errors[0].digest[:4] + (5).to_bytes(32, "big")
    assert revert_reason(text) == "too late"
    assert revert_reason(panic) == "panic 0x11: arithmetic overflow or underflow"
    assert abi.revert_reason(custom) == "Short(wanted=5)"
    assert revert_reason(custom) is None
    assert revert_reason(b"") is None


@given(st.binary(max_size=100))
def test_hostile_revert_bytes_are_read_without_a_crash(tail: bytes) -> None:
    for head in ("08c379a0", "4e487b71"):
        revert_reason(bytes.fromhex(head) + tail)


@pytest.mark.parametrize("abi", ["[]", {"abi": []}, 5])
def test_what_is_no_abi_is_refused(abi: Any) -> None:
    with pytest.raises(AbiError, match="an ABI is a list"):
        Abi(abi)
