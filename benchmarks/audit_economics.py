"""What audits cost a cheat, and what they cost the network: simulated, beside the formula.

    python benchmarks/audit_economics.py                          # table, results/audit-economics.md, docs/images/
    python benchmarks/audit_economics.py --cheaters 4000 --out '' # quick, on the terminal only

Reproduces the table of the specification (Proof-of-Inference, section 8). Everything is drawn from seeds, so that two
runs print the same figures.

* **A cheat** answers with a cheaper model. Each of its receipts is selected with probability ``p``; a selected one is
  found out with probability ``d`` (0.99). `selected_share` checks the contract's own rule of selection, keccak-256
  included, against ``p``; the careers of cheats are then drawn receipt by receipt until they are caught.
* **Least stake**: cheating pays while ``g (1 - pd) > pd S``; the simulated figure is the stake at which the simulated
  cheats break even.
* **A committee** of ``m`` is drawn by stake, without replacement, from verifiers of whom two thirds (by stake) are
  honest; the specification's figures draw each seat alone, which a large set of verifiers comes close to.
* **Overhead**: re-executions of a stream of receipts, each costing the share ``r`` of a generation.

Needs numpy; the picture needs matplotlib (``pip install 'zerog[bench]'``).
"""

from __future__ import annotations

import argparse
import math
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zerog.chain.keys import keccak256

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parent / "docs" / "images" / "audit-economics.png"

DETECTION = 0.99
"""Probability that an audit of a cheat finds it."""
RATES_PPM = (1_000, 5_000, 10_000, 20_000, 50_000, 100_000)
SEATS = (1, 3, 5, 7)
HONEST_STAKE = 2 / 3
PATIENCE = 0.99
"""Share of cheats that have been caught by the number in the third column."""
AFTER = 100
"""Number of cheats of the last column."""
OVERHEADS = ((20_000, 3, 0.5), (20_000, 3, 0.01), (1_000_000, 3, 0.5))
"""Audit rate in ppm, committee, cost of a re-execution as a share of a generation."""


@dataclass(frozen=True, slots=True)
class Career:
    """What a given audit rate does to cheats."""

    rate_ppm: int
    stake: tuple[float, float]
    cheats: tuple[int, int]
    undetected: tuple[float, float]
    selected: float


@dataclass(frozen=True, slots=True)
class Committee:
    """Probabilities over drawn committees: formula (seats drawn alone), simulation (by stake, without replacement)."""

    seats: int
    none_honest: tuple[float, float]
    majority_honest: tuple[float, float]


def selected_share(rate_ppm: int, receipts: int) -> float:
    """Share of receipts that the contract's rule selects: ``uint256(keccak256(R || receiptHash)) < 2^256 p``."""
    limit = (1 << 256) * rate_ppm // 1_000_000
    beacon = keccak256(b"audit economics" + rate_ppm.to_bytes(4))
    hits = (int.from_bytes(keccak256(beacon + keccak256(n.to_bytes(32)))) < limit for n in range(receipts))
    return sum(hits) / receipts


def careers(rng: np.random.Generator, caught: float, cheaters: int) -> np.ndarray:
    """Number of the cheat at which each cheater was caught: receipts drawn one by one until nobody is left."""
    ends = np.zeros(cheaters, dtype=np.int64)
    free = np.arange(cheaters)
    done = 0
    while free.size:
        # Receipts of those still free, in blocks; selection and detection are separate draws.
        block = rng.random((free.size, 64)) < caught / DETECTION
        found = block & (rng.random(block.shape) < DETECTION)
        hit = found.any(axis=1)
        ends[free[hit]] = done + found[hit].argmax(axis=1) + 1
        free = free[~hit]
        done += block.shape[1]
    return ends


def career(rate_ppm: int, cheaters: int, receipts: int, seed: int) -> Career:
    """One row of the specification's table, by formula and by simulation."""
    caught = rate_ppm / 1_000_000 * DETECTION
    ends = careers(np.random.default_rng([seed, rate_ppm]), caught, cheaters)
    # All receipts of all careers but the last of each went undetected.
    share = cheaters / int(ends.sum())
    return Career(
        rate_ppm,
        stake=((1 - caught) / caught, (1 - share) / share),
        cheats=(
            math.ceil(math.log(1 - PATIENCE) / math.log(1 - caught)),
            int(np.quantile(ends, PATIENCE, method="inverted_cdf")),
        ),
        undetected=((1 - caught) ** AFTER, float((ends > AFTER).mean())),
        selected=selected_share(rate_ppm, receipts),
    )


def draw_by_stake(rng: np.random.Generator, stakes: np.ndarray, seats: int, draws: int) -> np.ndarray:
    """Committees as rows of indices: by stake, without replacement (an exponential race has that law)."""
    finish = rng.exponential(size=(draws, stakes.size)) / stakes
    return np.argpartition(finish, seats - 1, axis=1)[:, :seats]


def committee(seats: int, draws: int, verifiers: int, seed: int) -> Committee:
    """A committee's probabilities when verifiers with two thirds of the stake are honest."""
    rng = np.random.default_rng([seed, seats])
    # Stakes between one and four times the least; honest is who comes first until two thirds are reached.
    stakes = rng.uniform(1, 4, verifiers)
    honest = np.cumsum(stakes) <= HONEST_STAKE * stakes.sum()
    votes = honest[draw_by_stake(rng, stakes, seats, draws)].sum(axis=1)
    majority = seats // 2 + 1
    analytic = sum(
        math.comb(seats, k) * HONEST_STAKE**k * (1 - HONEST_STAKE) ** (seats - k)
        for k in range(majority, seats + 1)
    )
    return Committee(
        seats,
        ((1 - HONEST_STAKE) ** seats, float((votes == 0).mean())),
        (analytic, float((votes >= majority).mean())),
    )


def overhead(
    rate_ppm: int, seats: int, cost: float, seed: int, receipts: int = 1_000_000
) -> tuple[float, float]:
    """Extra work per generated answer: ``p m r`` by formula, and counted over a stream of receipts."""
    rng = np.random.default_rng([seed, rate_ppm, seats])
    audited = int((rng.random(receipts) < rate_ppm / 1_000_000).sum())
    return rate_ppm / 1_000_000 * seats * cost, audited * seats * cost / receipts


# --- what is printed ----------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def percent(value: float) -> str:
    return f"{100 * value:.3g} %" if value >= 0.0005 else f"{100 * value:.4f} %"


def career_table(found: Sequence[Career]) -> Iterator[str]:
    head = [
        "audit rate p",
        "selected by the contract's rule",
        "min S/g",
        "simulated",
        "if the cheat gets the challenger's half",
        "cheats until 99 % caught",
        "simulated",
        f"undetected after {AFTER}",
        "simulated",
    ]
    rows = [
        [
            percent(c.rate_ppm / 1e6),
            percent(c.selected),
            f"{c.stake[0]:.0f}",
            f"{c.stake[1]:.0f}",
            f"{2 * c.stake[0]:.0f}",
            str(c.cheats[0]),
            str(c.cheats[1]),
            percent(c.undetected[0]),
            percent(c.undetected[1]),
        ]
        for c in found
    ]
    return table(head, rows)


def committee_table(found: Sequence[Committee]) -> Iterator[str]:
    head = ["seats m", "P(no honest seat)", "simulated", "P(honest majority)", "simulated"]
    rows = [
        [str(c.seats), *(f"{value:.4f}" for value in (*c.none_honest, *c.majority_honest))] for c in found
    ]
    return table(head, rows)


def overhead_table(seed: int) -> Iterator[str]:
    head = ["audit rate p", "seats m", "re-execution r", "p·m·r", "counted"]
    rows = [
        [percent(p / 1e6), str(m), f"{r:g}", *map(percent, overhead(p, m, r, seed))] for p, m, r in OVERHEADS
    ]
    return table(head, rows)


def draw(found: Sequence[Career], seats: Sequence[Committee], seed: int, cheaters: int, path: Path) -> None:
    """The picture of the documentation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    _survival(left, found, seed, cheaters)
    rates = np.geomspace(0.0005, 0.2, 200)
    middle.loglog(100 * rates, (1 - rates * DETECTION) / (rates * DETECTION), label="formula")
    middle.loglog([c.rate_ppm / 1e4 for c in found], [c.stake[1] for c in found], "o", label="simulated")
    middle.set(xlabel="audit rate p, %", ylabel="least stake / saving per cheat", title="Stake that deters")
    middle.legend()
    places = np.arange(len(seats))
    right.bar(places - 0.2, [c.none_honest[1] for c in seats], 0.4, label="no honest seat")
    right.bar(places + 0.2, [1 - c.majority_honest[1] for c in seats], 0.4, label="no honest majority")
    right.plot(places - 0.2, [c.none_honest[0] for c in seats], "k_", markersize=18, label="formula")
    right.plot(places + 0.2, [1 - c.majority_honest[0] for c in seats], "k_", markersize=18)
    right.set_yscale("log")
    right.set_xticks(places, [str(c.seats) for c in seats])
    right.set(xlabel="seats m", ylabel="probability", title="Why one objection escalates (2/3 honest)")
    right.legend(loc="lower left")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the program's version and date the file changes only with the figures.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _survival(axes: Any, found: Sequence[Career], seed: int, cheaters: int) -> None:
    cheats = np.arange(0, 501)
    for c in found:
        caught = c.rate_ppm / 1e6 * DETECTION
        ends = careers(np.random.default_rng([seed, c.rate_ppm]), caught, cheaters)
        (line,) = axes.plot(cheats, (1 - caught) ** cheats, label=f"p = {c.rate_ppm / 1e4:g} %")
        marks = cheats[::50]
        axes.plot(marks, [(ends > mark).mean() for mark in marks], "o", ms=4, color=line.get_color())
    axes.set(xlabel="cheats", ylabel="still undetected", title="Careers (line: formula, dots: simulated)")
    axes.legend()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cheaters", type=int, default=40_000, help="simulated careers a rate")
    parser.add_argument(
        "--receipts", type=int, default=400_000, help="receipts put through the selection rule"
    )
    parser.add_argument("--draws", type=int, default=200_000, help="committees drawn a size")
    parser.add_argument("--verifiers", type=int, default=60, help="verifiers to draw from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", default=str(HERE / "results"), help="folder of the result, '' for none")
    given = parser.parse_args()
    found = [career(rate, given.cheaters, given.receipts, given.seed) for rate in RATES_PPM]
    seats = [committee(m, given.draws, given.verifiers, given.seed) for m in SEATS]
    lines = [
        *career_table(found),
        "",
        *committee_table(seats),
        "",
        *overhead_table(given.seed),
    ]
    print("\n".join(lines))
    if not given.out:
        return
    command = shlex.join(["python", "benchmarks/audit_economics.py", *sys.argv[1:]])
    text = [
        "# Audit economics",
        "",
        f"`{command}` on {platform.machine()}, Python {platform.python_version()}; seed {given.seed}, "
        f"{given.cheaters:,} careers a rate, {given.receipts:,} receipts through the selection rule, "
        f"{given.draws:,} committees a size from {given.verifiers} verifiers with stakes between 1 and 4. "
        f"Detection given an audit d = {DETECTION:g}. What it means: [docs/economics.md](../../docs/economics.md).",
        "",
        *lines,
    ]
    Path(given.out).mkdir(parents=True, exist_ok=True)
    (Path(given.out) / "audit-economics.md").write_text("\n".join(text) + "\n")
    draw(found, seats, given.seed, given.cheaters, PICTURE)


if __name__ == "__main__":
    main()
