"""The measurement itself: what it finds when tests are left out, and how it reads source maps."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.contracts.coverage.build import REPOSITORY, CompiledProgram
from tests.contracts.coverage.programs import Library
from tests.contracts.coverage.report import coverage
from tests.contracts.coverage.sources import Place, Source

TEXT_LINES = (0, 10, 20, 30)


def measure(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the measurement as `make coverage` does."""
    command = [sys.executable, "-m", "tests.contracts.coverage", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=500)


def test_tests_left_out_leave_gaps():
    done = measure("-k", "test_a_domain_can_be_named")
    assert done.returncode == 1
    assert "contracts/inference/InferenceGate.sol:" in done.stdout
    # The test names a domain: that line was reached, its way out without such a domain, too.
    assert "validation/ValidationRegistry.sol" in done.stdout
    assert "1 passed" in done.stdout


# PUSH1 1; PUSH1 7; JUMPI; STOP; JUMPDEST; STOP
JUMPING = "60016007570000" + "5b00"


@pytest.fixture
def program():
    """A program with one `if` on line 2 (bytes 10 to 30) that guards line 3."""
    steps = "10:20:5;;;20:5;10:20;30:5"
    library = Library([CompiledProgram("inference/A.sol", "A", "runtime", JUMPING, steps, [])])
    return library.programs[0]


@pytest.fixture
def source():
    guarded, condition = Place(20, 25), Place(10, 30)
    return Source("inference/A.sol", 5, TEXT_LINES, (condition, guarded), {condition: "if"})


def test_one_way_of_a_branch_is_half_of_it(program, source):
    program.run([0, 2, 4, 5])
    (found,) = coverage([source], [program])
    assert (found.lines, found.branches) == ((2, 2), (1, 2))
    assert [str(gap) for gap in found.gaps] == ["contracts/inference/A.sol:2: `if` was always true"]


def test_what_was_jumped_over_is_not_reached(program, source):
    program.run([0, 2, 4, 7, 8])
    (found,) = coverage([source], [program])
    assert (found.lines, found.branches) == ((1, 2), (1, 2))
    assert [gap.line for gap in found.gaps] == [2, 3]


def test_both_ways_together_are_complete(program, source):
    program.run([0, 2, 4, 5])
    program.run([0, 2, 4, 7, 8])
    (found,) = coverage([source], [program])
    assert found.complete


def test_a_deployed_program_is_known_whatever_its_immutables_hold():
    compiled = CompiledProgram(
        "inference/A.sol", "A", "runtime", "7f" + "00" * 32 + "00", "0:1:5", [{"start": 1, "length": 32}]
    )
    library = Library([compiled])
    assert library.runtime(b"\x7f" + b"\xab" * 32 + b"\x00") is library.programs[0]
    assert library.runtime(b"\x7f" + b"\xab" * 32 + b"\x01") is None


def test_a_creation_is_known_by_its_beginning():
    compiled = CompiledProgram("inference/A.sol", "A", "creation", "6001", "0:1:5", [])
    library = Library([compiled])
    assert library.creation(bytes.fromhex("6001") + bytes(32)) is library.programs[0]
    assert library.creation(bytes.fromhex("6002")) is None
