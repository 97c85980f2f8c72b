"""Loads the committed results of the Solidity compiler."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import msgspec

from zerog.errors import ZerogError

_FOLDER = resources.files("zerog.contracts") / "artifacts"


class StorageEntry(msgspec.Struct, frozen=True):
    """A state variable: ``slot`` as decimal text, ``offset`` in bytes from the word's low end."""

    label: str
    slot: str
    offset: int
    type: str


class CodeRange(msgspec.Struct, frozen=True):
    """Bytes ``[start, start + length)`` of the deployed code."""

    start: int
    length: int


class StorageLayout(msgspec.Struct, frozen=True):
    """State variables of a contract and their types, as the compiler reports them."""

    storage: list[StorageEntry]
    types: dict[str, Any]


class Artifact(msgspec.Struct, frozen=True, rename="camel"):
    """One compiled contract.

    ``bytecode`` creates it, ``deployed_bytecode`` is what stands on chain afterwards; both
    0x-hexadecimal. ``metadata_sha256`` is the hash of the compiler's metadata, which names every
    source by hash. ``immutable_references`` says, by name, where the deployed code holds zeros for
    values that the constructor sets.
    """

    contract_name: str
    source_name: str
    solc_version: str
    metadata_sha256: str
    abi: list[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str
    immutable_references: dict[str, list[CodeRange]]
    storage_layout: StorageLayout

    def slot(self, variable: str) -> int:
        """Slot of a state variable; raises `KeyError` for an unknown one."""
        return self.place(variable)[0]

    def place(self, variable: str) -> tuple[int, int]:
        """Slot of a state variable and its offset in bytes from the word's low end; `KeyError` as above."""
        for entry in self.storage_layout.storage:
            if entry.label == variable:
                return int(entry.slot), entry.offset
        raise KeyError(f"{self.contract_name} has no state variable {variable!r}")

    def runtime(self, immutables: Mapping[str, int]) -> str:
        """The deployed code with the values of immutables filled in; those not named are zero.

        Raises
        ------
        KeyError : the contract has no immutable of this name.
        """
        code = bytearray.fromhex(self.deployed_bytecode[2:])
        for name, value in immutables.items():
            for place in self.immutable_references[name]:
                code[place.start : place.start + place.length] = value.to_bytes(place.length)
        return f"0x{code.hex()}"


def artifact_names() -> list[str]:
    """Names of all shipped contracts and interfaces."""
    return sorted(
        entry.name.removesuffix(".json") for entry in _FOLDER.iterdir() if entry.name.endswith(".json")
    )


@cache
def artifact(name: str) -> Artifact:
    """The compiled contract ``name``; raises `ZerogError` when there is none of that name."""
    try:
        data = (_FOLDER / f"{name}.json").read_bytes()
    except OSError:
        known = ", ".join(artifact_names())
        raise ZerogError(f"no contract is called {name!r}", hint=f"there are {known}") from None
    return msgspec.json.decode(data, type=Artifact)
