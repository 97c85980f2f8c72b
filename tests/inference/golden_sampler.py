"""The golden vectors of the seeded sampler, and the command that writes them.

``PYTHONPATH=src python -m tests.inference.golden_sampler`` rewrites ``tests/data/inference/sampler.json``. The tokens
come from the definition in the specification, in decimal arithmetic of 60 digits and without numpy: no part of the
sampler under test takes part.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Sequence
from decimal import Decimal, getcontext
from pathlib import Path
from typing import Any

from zerog.chain.keys import keccak256

FILE = Path(__file__).parents[1] / "data" / "inference" / "sampler.json"
DRAWS = 24
CLEAR = Decimal("1e-9")
"""A draw that comes closer to an edge decides nothing between two exponentials."""


def float32(value: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def token_of(row: Sequence[float], params: dict[str, int], index: int, context: Sequence[int]) -> int | None:
    """The token by definition; ``None`` when the draw is too near to an edge."""
    getcontext().prec = 60
    penalty = Decimal(params["repeatPenaltyMilli"]) / 1000
    logits = [Decimal(value) for value in row]
    for token in set(context):
        logits[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    temperature = Decimal(params["temperatureMilli"]) / 1000
    order = sorted(range(len(row)), key=lambda token: (-logits[token], token))
    if params["topK"]:
        order = order[: params["topK"]]
    weights = [((logits[token] - logits[order[0]]) / temperature).exp() for token in order]
    total = sum(weights)
    edges, mass = [], Decimal(0)
    for weight in weights:
        mass += weight / total
        edges.append(mass)
    # The shortest prefix that reaches top-p.
    if params["topPMilli"] < 1000:
        wanted = Decimal(params["topPMilli"]) / 1000
        if min(abs(edge - wanted) for edge in edges) < CLEAR:
            return None
        edges = edges[: next(i for i, edge in enumerate(edges) if edge >= wanted) + 1]
    drawn = int.from_bytes(keccak256(params["seed"].to_bytes(8) + index.to_bytes(4))[:8])
    point = Decimal(drawn) / 2**64 * edges[-1]
    if min(abs(edge - point) for edge in edges) < CLEAR:
        return None
    return order[next(i for i, edge in enumerate(edges) if point < edge)]


def rows() -> dict[str, list[float]]:
    """Rows of logits by name; every number is a float32."""
    dice = random.Random(20_261_124)
    return {
        "falling": [float32(3 - 0.4 * i) for i in range(12)],
        "tie": [1.0, 2.0, 2.0, 2.0, -1.0, 1.0, 1.0, -1.0],
        "all equal": [0.25] * 10,
        "negative": [float32(-20 - dice.random() * 4) for _ in range(9)],
        "signs": [float32(dice.gauss(0, 2)) for _ in range(16)],
        "one wins": [0.0, 30.0, -30.0, 1.0],
        "flat": [float32(dice.gauss(0, 0.3)) for _ in range(700)],
        "long tie": [float32(i % 3) for i in range(600)],
    }


CHANGES: list[dict[str, int]] = [
    {},
    {"temperatureMilli": 250},
    {"temperatureMilli": 3000},
    {"topK": 1},
    {"topK": 3},
    {"topK": 1000},
    {"topPMilli": 1},
    {"topPMilli": 433},
    {"topPMilli": 951},
    {"repeatPenaltyMilli": 1300},
    {"repeatPenaltyMilli": 700},
    {"temperatureMilli": 800, "topK": 6, "topPMilli": 871, "repeatPenaltyMilli": 1150},
]


def cases() -> list[dict[str, Any]]:
    """Parameters and the token for each index; ``null`` where nothing is decided."""
    made = []
    for number, name in enumerate(rows()):
        row = rows()[name]
        for change in CHANGES:
            params = {"temperatureMilli": 1000, "topPMilli": 1000, "topK": 0, "repeatPenaltyMilli": 1000}
            params |= change | {"seed": (number + 1) * 0x9E3779B97F4A7C15 % 2**64}
            context = [0, 3, 3, 1]
            tokens = [token_of(row, params, index, context) for index in range(DRAWS)]
            made.append({"row": name, "params": params, "context": context, "tokens": tokens})
    return made


def main() -> None:
    """Writes the file."""
    lines = ",\n".join("  " + json.dumps(case) for case in cases())
    FILE.write_text(f'{{"rows": {json.dumps(rows())},\n"cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
