"""What can be reached in a source: statements and branching constructs, from the compiler's syntax tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.contracts.coverage.build import REPOSITORY, Tree

STATEMENTS = {
    "EmitStatement",
    "ExpressionStatement",
    "IfStatement",
    "ForStatement",
    "WhileStatement",
    "DoWhileStatement",
    "Return",
    "RevertStatement",
    "TryStatement",
    "VariableDeclarationStatement",
    "Break",
    "Continue",
    "YulAssignment",
    "YulExpressionStatement",
    "YulIf",
    "YulVariableDeclaration",
}
"""Nodes that have instructions of their own. Blocks have none; the statements inside count."""

BRANCHES = {
    "Conditional",
    "DoWhileStatement",
    "ForStatement",
    "IfStatement",
    "TryStatement",
    "WhileStatement",
    "YulCase",
    "YulForLoop",
    "YulIf",
}
SHORT_CIRCUITS = {"&&", "||"}


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Bytes ``[start, end)`` of a source."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """One source file, with what can be reached in it."""

    path: str
    id: int
    lines: tuple[int, ...]
    statements: tuple[Place, ...]
    branches: dict[Place, str]

    def line(self, place: Place) -> int:
        """Number of the line on which a place begins, from 1."""
        low, high = 0, len(self.lines)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.lines[middle] <= place.start else (low, middle)
        return low


def source_of(tree: Tree) -> Source:
    """Reads the syntax tree and the file beside it."""
    text = (REPOSITORY / "contracts" / tree.path).read_bytes()
    starts = [0, *(i + 1 for i, byte in enumerate(text) if byte == 0x0A)]
    statements: list[Place] = []
    branches: dict[Place, str] = {}
    for node in _nodes(tree.ast):
        kind = node["nodeType"]
        place = _place(node)
        if kind in STATEMENTS:
            statements.append(place)
        if kind in BRANCHES or (kind == "BinaryOperation" and node["operator"] in SHORT_CIRCUITS):
            branches[place] = (
                node.get("operator") or kind.removesuffix("Statement").removeprefix("Yul").lower()
            )
    return Source(tree.path, tree.id, tuple(starts), tuple(statements), branches)


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for child in node:
            yield from _nodes(child)
    elif isinstance(node, dict):
        if "nodeType" in node:
            yield node
        for child in node.values():
            yield from _nodes(child)


def _place(node: dict[str, Any]) -> Place:
    start, length, _ = map(int, node["src"].split(":"))
    return Place(start, start + length)
