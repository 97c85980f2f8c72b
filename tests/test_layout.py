"""What import-linter cannot see: the native engine is an extension module inside the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src" / "zerog"


def _imports_native(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        whole = node.module == "zerog" and any(alias.name == "_native" for alias in node.names)
        return whole or node.module == "zerog._native"
    return isinstance(node, ast.Import) and any(alias.name == "zerog._native" for alias in node.names)


def _runtime_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from _runtime_statements(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from _runtime_statements(handler.body)


def test_only_chain_storage_and_client_use_the_native_engine():
    users = {
        path.relative_to(SOURCES).parts[0]
        for path in SOURCES.rglob("*.py")
        if any(map(_imports_native, _runtime_statements(ast.parse(path.read_text()).body)))
    }
    assert users == {"chain", "storage", "client"}
