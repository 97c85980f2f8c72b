"""The committed artifacts, their loader, and the genesis state computed from them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from zerog.chain.keys import keccak256
from zerog.contracts import PREDEPLOYS, artifact, artifact_names, genesis_alloc
from zerog.contracts.genesis import CODE_PREDEPLOYS
from zerog.contracts.storage import array_slots, mapping_slot, packed, string_slots
from zerog.contracts.storage_genesis import root_history_address
from zerog.errors import ZerogError

SELECTORS = msgspec.json.decode((Path(__file__).parents[1] / "data/inference/selectors.json").read_bytes())
LATER = {"verifyDcap(bytes,bytes)"}
"""A precompile, which has no artifact."""
ADMIN = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def _type(parameter) -> str:
    kind = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    return "(" + ",".join(map(_type, parameter["components"])) + ")" + kind[5:]


def _signatures(kind: str) -> set[str]:
    return {
        f"{entry['name']}({','.join(map(_type, entry['inputs']))})"
        for name in artifact_names()
        for entry in artifact(name).abi
        if entry["type"] == kind
    }


@pytest.mark.parametrize("kind", ["function", "error"])
def test_selectors_are_those_of_the_protocol(kind):
    wanted = {s: v for s, v in SELECTORS[kind + "s"].items() if s not in LATER}
    found = {s: "0x" + keccak256(s.encode())[:4].hex() for s in _signatures(kind)}
    assert {s: found.get(s) for s in wanted} == wanted


STANDS_FOR = {
    "StorageFlow": "RefundingFlow",
    "StorageMarket": "FixedPrice",
    "StorageReward": "ChunkLinearReward",
}
"""Predeploys whose name in the banner is not that of their contract."""


@pytest.mark.parametrize("name", artifact_names())
def test_contracts_have_code_of_bounded_size(name):
    size = len(artifact(name).deployed_bytecode) // 2 - 1
    # An immutable needs 32 bytes wherever it is used, the address of a predeploy two.
    share = 83 if name.startswith("Portable") else 80
    assert 0 <= size <= 24_576 * share // 100


def test_an_unknown_artifact_is_named_with_its_alternatives():
    with pytest.raises(ZerogError, match=r"no contract is called 'Nothing'.*InferenceGate"):
        artifact("Nothing")


def test_an_unknown_variable_has_no_slot():
    with pytest.raises(KeyError, match="InferenceGate has no state variable"):
        artifact("InferenceGate").slot("nothing")


def test_genesis_holds_every_predeploy_as_geth_writes_accounts():
    alloc = genesis_alloc(31337, administrator=ADMIN, keccak256=keccak256)
    assert set(alloc) == {*PREDEPLOYS.values(), *CODE_PREDEPLOYS.values(), root_history_address(keccak256)}
    for name, address in (PREDEPLOYS | CODE_PREDEPLOYS).items():
        account, contract = alloc[address], artifact(STANDS_FOR.get(name, name))
        assert len(account["code"]) == len(contract.deployed_bytecode)
        if not contract.immutable_references:
            assert account["code"] == contract.deployed_bytecode
        assert int(account["nonce"], 16) >= 1
        assert all(len(slot) == len(value) == 66 for slot, value in account["storage"].items())


def test_the_administrator_decides_who_holds_the_roles():
    one = genesis_alloc(31337, administrator=ADMIN, keccak256=keccak256)
    other = genesis_alloc(31337, administrator="0x" + "11" * 20, keccak256=keccak256)
    for address in PREDEPLOYS.values():
        assert set(one[address]["storage"]) != set(other[address]["storage"])


def test_storage_helpers_follow_the_layout_of_solidity():
    key = int.from_bytes(keccak256(bytes(31) + b"\x05" + bytes(31) + b"\x03"))
    assert mapping_slot(keccak256, 3, 5) == key
    first = int.from_bytes(keccak256(bytes(31) + b"\x02"))
    assert array_slots(keccak256, 2, [7, 8]) == {2: 2, first: 7, first + 1: 8}
    assert string_slots(9, "ab") == {9: int.from_bytes(b"ab" + bytes(29) + b"\x04")}
    assert packed((1, 8), (2, 1)) == 1 + (2 << 64)


def test_storage_helpers_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="a short string at most 31"):
        string_slots(0, "x" * 32)
    with pytest.raises(ValueError, match="256 does not fit 1 bytes"):
        packed((256, 1))
    with pytest.raises(ValueError, match="33 bytes do not fit a word"):
        packed((0, 32), (0, 1))
