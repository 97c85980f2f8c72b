"""Brings together what can be reached and what was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.contracts.coverage.programs import Program
from tests.contracts.coverage.sources import Place, Source

MEASURED = ("inference/", "validation/", "examples/")
"""Folders whose sources have to be covered."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that no test reached."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"contracts/{self.path}:{self.line}: {self.what}"


@dataclass(frozen=True, slots=True)
class Coverage:
    """Of one source: lines and branches, reached and all."""

    path: str
    lines: tuple[int, int]
    branches: tuple[int, int]
    gaps: tuple[Gap, ...]

    @property
    def complete(self) -> bool:
        return not self.gaps


def coverage(sources: Iterable[Source], programs: Iterable[Program]) -> list[Coverage]:
    """Coverage of the measured sources that have anything to reach."""
    wanted = {source.id: source for source in sources if source.path.startswith(MEASURED)}
    reached: dict[int, set[Place]] = {number: set() for number in wanted}
    ways: dict[int, dict[Place, set[bool]]] = {number: {} for number in wanted}
    for program in programs:
        _collect(program, wanted, reached, ways)
    found = [_of_source(source, reached[number], ways[number]) for number, source in wanted.items()]
    return sorted((entry for entry in found if entry.lines[1]), key=lambda entry: entry.path)


def _collect(
    program: Program,
    wanted: dict[int, Source],
    reached: dict[int, set[Place]],
    ways: dict[int, dict[Place, set[bool]]],
) -> None:
    for counter in program.reached:
        source, place = program.places.get(counter, (-1, Place(0, 0)))
        if source in wanted:
            reached[source].add(place)
    for counter in program.jumps:
        source, place = program.places[counter]
        if source in wanted and place in wanted[source].branches:
            ways[source].setdefault(place, set())
    for counter, following in program.taken:
        source, place = program.places[counter]
        if source in wanted and place in wanted[source].branches:
            ways[source][place].add(following != counter + 1)


def _of_source(source: Source, reached: set[Place], ways: dict[Place, set[bool]]) -> Coverage:
    lines: dict[int, bool] = {}
    ordered = sorted(reached)
    for statement in source.statements:
        line = source.line(statement)
        lines[line] = lines.get(line, True) and _touched(statement, ordered)
    gaps = [Gap(source.path, line, "not reached") for line, hit in lines.items() if not hit]
    taken = 0
    for place, kind in source.branches.items():
        # A construct without a jump of its own is in no program: its line is a gap already.
        seen = ways.get(place, set())
        taken += len(seen)
        if len(seen) < 2 and lines.get(source.line(place), True):
            gaps.append(Gap(source.path, source.line(place), f"`{kind}` {_way(kind, seen)}"))
    return Coverage(
        source.path,
        (sum(lines.values()), len(lines)),
        (taken, 2 * len(source.branches)),
        tuple(sorted(gaps, key=lambda gap: (gap.line, gap.what))),
    )


def _touched(statement: Place, reached: list[Place]) -> bool:
    return any(statement.start <= place.start and place.end <= statement.end for place in reached)


_WHEN_JUMPED = {
    "if": "false",
    "for": "false",
    "while": "false",
    "forloop": "false",
    "dowhile": "true",
    "conditional": "true",
    "||": "true on its left",
    "&&": "false on its left",
}
_WHEN_NOT = {
    "if": "true",
    "for": "true",
    "while": "true",
    "forloop": "true",
    "dowhile": "false",
    "conditional": "false",
    "||": "false on its left",
    "&&": "true on its left",
}


def _way(kind: str, seen: set[bool]) -> str:
    """What a condition always was: the compiler jumps over what a condition guards, and to what is chosen."""
    if not seen:
        return "was never asked"
    words = _WHEN_JUMPED if True in seen else _WHEN_NOT
    return "was always " + words.get(kind, "decided the same way")


def lines_of(found: list[Coverage]) -> Iterator[str]:
    """The table, then every gap."""
    width = max(len(entry.path) for entry in found)
    yield f"{'contract source':<{width}}  {'lines':>14}  {'branches':>14}"
    rows = [(entry.path, entry.lines, entry.branches) for entry in found]
    total = [(sum(row[part][0] for row in rows), sum(row[part][1] for row in rows)) for part in (1, 2)]
    for path, lines, branches in [*rows, ("all", total[0], total[1])]:
        yield f"{path:<{width}}  {_share(lines):>14}  {_share(branches):>14}"
    for entry in found:
        yield from map(str, entry.gaps)


def _share(part: tuple[int, int]) -> str:
    hit, of = part
    # Rounded down: 100 % means all.
    return f"{hit}/{of} {1000 * hit // of / 10 if of else 100:g} %"
