"""Programs on chain: which of the compiled ones a code is, and where in the source each instruction belongs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.contracts.coverage.build import CompiledProgram
from tests.contracts.coverage.sources import Place

JUMPI = 0x57
PUSH1, PUSH32 = 0x60, 0x7F


@dataclass(slots=True)
class Program:
    """One program, and what was executed of it.

    ``places`` gives for each program counter source number and place; ``taken`` counts, for each conditional jump, the
    program counters that followed it.
    """

    name: str
    kind: str
    places: dict[int, tuple[int, Place]]
    jumps: frozenset[int]
    reached: set[int] = field(default_factory=set)
    taken: set[tuple[int, int]] = field(default_factory=set)

    def run(self, counters: Iterable[int]) -> None:
        """Records a run: program counters in order, as far as they lie in one frame."""
        before = -1
        for counter in counters:
            self.reached.add(counter)
            if before in self.jumps:
                self.taken.add((before, counter))
            before = counter


class Library:
    """All compiled programs, found by their code."""

    def __init__(self, compiled: Iterable[CompiledProgram]) -> None:
        self._runtime: dict[int, list[tuple[bytes, list[dict[str, int]], Program]]] = {}
        self._creation: list[tuple[bytes, Program]] = []
        self._known: dict[bytes, Program | None] = {}
        self.programs: list[Program] = []
        self.unknown: Counter[bytes] = Counter()
        for entry in compiled:
            code = bytes.fromhex(entry.code)
            program = _program(entry, code)
            self.programs.append(program)
            if entry.kind == "runtime":
                self._runtime.setdefault(len(code), []).append((code, entry.immutables, program))
            else:
                self._creation.append((code, program))
        # The longest first: the code of one contract may begin with that of another.
        self._creation.sort(key=lambda found: -len(found[0]))

    def runtime(self, code: bytes) -> Program | None:
        """The program whose deployed code this is, whatever its immutables hold."""
        if code not in self._known:
            self._known[code] = self._find(code)
        return self._known[code]

    def creation(self, data: bytes) -> Program | None:
        """The program that creates a contract: its code, followed by the arguments."""
        return next((program for code, program in self._creation if data.startswith(code)), None)

    def _find(self, code: bytes) -> Program | None:
        for compiled, immutables, program in self._runtime.get(len(code), []):
            blank = bytearray(code)
            for hole in immutables:
                blank[hole["start"] : hole["start"] + hole["length"]] = bytes(hole["length"])
            # A library's code begins with its own address.
            if bytes(blank) == compiled:
                return program
        return None


def _program(entry: CompiledProgram, code: bytes) -> Program:
    places: dict[int, tuple[int, Place]] = {}
    jumps: set[int] = set()
    start = length = source = 0
    counter = 0
    for step in entry.map.split(";"):
        parts = step.split(":")
        start = int(parts[0]) if parts[0] else start
        length = int(parts[1]) if len(parts) > 1 and parts[1] else length
        source = int(parts[2]) if len(parts) > 2 and parts[2] else source
        if counter >= len(code):
            break
        places[counter] = (source, Place(start, start + length))
        operation = code[counter]
        if operation == JUMPI:
            jumps.add(counter)
        counter += 1 + (operation - PUSH1 + 1 if PUSH1 <= operation <= PUSH32 else 0)
    return Program(entry.name, entry.kind, places, frozenset(jumps))
