"""What hashing costs a generation: the same answers with and without commitments, alternating.

    python benchmarks/inference_overhead.py [ROUNDS]

Prints the medians of the time a token takes, their ratio, and the share of verification: replay with
commitments over generation with commitments, at one thread each.
"""

from __future__ import annotations

import statistics
import sys
import time

from zerog.inference.engines import llama_cpp
from zerog.inference.logits import Logits, trace_step
from zerog.inference.receipt import SamplingParams
from zerog.inference.trace import TraceStep
from zerog.inference.weights import SMOLLM2, fetch

REQUEST = b"Write a short story about a robot who learns to paint."
TOKENS = 96


def _nothing(token: int, row: Logits) -> TraceStep:
    return TraceStep(token, bytes(32), ())


def main(rounds: int) -> None:
    """Measures and prints."""
    engine = llama_cpp.LlamaCppEngine(fetch(SMOLLM2))
    params = SamplingParams(maxTokens=TOKENS)
    known = engine.generate(REQUEST, params)
    times: dict[str, list[float]] = {"bare": [], "committed": [], "verified": []}
    for _ in range(rounds):
        for name, commit in (("bare", _nothing), ("committed", trace_step)):
            setattr(llama_cpp, "trace_step", commit)  # noqa: B010
            start = time.perf_counter()
            engine.generate(REQUEST, params)
            times[name].append(time.perf_counter() - start)
        start = time.perf_counter()
        rows = engine.replay(REQUEST, known.tokens)
        assert all(trace_step(s.token, row) == s for s, row in zip(known.steps, rows, strict=True))
        times["verified"].append(time.perf_counter() - start)
    engine.close()
    median = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in median.items():
        print(f"{name:10} {seconds / TOKENS * 1000:6.2f} ms a token")
    print(f"overhead of commitments  {median['committed'] / median['bare'] - 1:6.1%}")
    print(f"verification/generation  {median['verified'] / median['committed']:6.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
