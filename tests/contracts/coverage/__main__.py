"""Runs the contract tests and prints what of the Solidity sources they reached."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from tests.contracts.coverage.build import REPOSITORY, compile_into
from tests.contracts.coverage.programs import Library
from tests.contracts.coverage.recorder import Recorder
from tests.contracts.coverage.report import coverage, lines_of
from tests.contracts.coverage.sources import source_of

LEFT_OUT = ("storage", "coverage", "test_artifacts.py", "*gas*")
"""Tests of other contracts, and tests about the size and the gas of the code that is shipped."""


def main(arguments: list[str]) -> int:
    """Exit code: pytest's when a test fails, 1 when something was not reached."""
    with tempfile.TemporaryDirectory(prefix="zerog-coverage-") as folder:
        built = compile_into(Path(folder))
        build = built.read()
        library = Library(build.programs)
        recorder = Recorder(built, library)
        tests = REPOSITORY / "tests/contracts"
        ignored = [f"--ignore-glob={tests}/{pattern}" for pattern in LEFT_OUT]
        failed = pytest.main(["-q", "-m", "not soak", str(tests), *ignored, *arguments], plugins=[recorder])
    found = coverage([source_of(tree) for tree in build.trees], library.programs)
    print("\n".join(lines_of(found)))
    print(f"{recorder.traces} transactions and calls traced")
    return int(failed) or int(not all(entry.complete for entry in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
