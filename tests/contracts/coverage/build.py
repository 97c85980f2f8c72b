"""The build that coverage is measured on."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

REPOSITORY = Path(__file__).resolve().parents[3]


class CompiledProgram(msgspec.Struct, frozen=True):
    """Code of one contract: ``kind`` is ``creation`` or ``runtime``; ``map`` is the compiler's source map."""

    source: str
    name: str
    kind: str
    code: str
    map: str
    immutables: list[dict[str, int]]


class Tree(msgspec.Struct, frozen=True):
    """Syntax tree of one source; ``id`` is its number in source maps."""

    path: str
    id: int
    ast: dict[str, Any]


class Build(msgspec.Struct, frozen=True):
    """Everything compiled."""

    programs: list[CompiledProgram]
    trees: list[Tree]


@dataclass(frozen=True, slots=True)
class Folder:
    """Where a build lies; artifacts lie below, at the same paths as in the repository."""

    path: Path

    @property
    def artifacts(self) -> Path:
        return self.path / "src/zerog/contracts/artifacts"

    @property
    def mocks(self) -> Path:
        return self.path / "tests/contracts/artifacts"

    def read(self) -> Build:
        return msgspec.json.decode((self.path / "programs.json").read_bytes(), type=Build)


def compile_into(folder: Path) -> Folder:
    """Compiles every contract without optimiser; raises `subprocess.CalledProcessError`."""
    command = ["node", str(REPOSITORY / "contracts/build.mjs"), "--coverage", str(folder)]
    subprocess.run(command, check=True, timeout=300)
    return Folder(folder)
