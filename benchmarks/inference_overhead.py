"""What hashing and signing cost a generation: the same answer with and without, alternating.

    python benchmarks/inference_overhead.py [ROUNDS]

Prints medians of wall and processor time a token: *bare* decodes and chooses only, *committed* also hashes every row
and ranks its log-probabilities, *signed* also builds the canonical transcript and signs receipt and text.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from zerog.client import Account
from zerog.contracts import INFERENCE_REGISTRY
from zerog.inference.answer import Domain, Inquiry, Signatory, sampling
from zerog.inference.engines import Generation, llama_cpp
from zerog.inference.logits import Logits, trace_steps
from zerog.inference.trace import TraceStep
from zerog.inference.weights import SMOLLM2, fetch

REQUEST = b"Write a short story about a robot who learns to paint."
TOKENS = 96
NOW = 1_767_225_600


def _nothing(tokens: Sequence[int], rows: Sequence[Logits]) -> list[TraceStep]:
    return [TraceStep(token, bytes(32), ()) for token in tokens]


def main(rounds: int) -> None:
    """Measures and prints."""
    engine = llama_cpp.LlamaCppEngine(fetch(SMOLLM2), prefill_threads=1)
    account = Account.random()
    domain = Domain(31337, bytes.fromhex(INFERENCE_REGISTRY[2:]))
    signatory = Signatory(engine, account.key, bytes.fromhex(account.address[2:]), domain)
    inquiry = Inquiry(bytes(31) + b"\x01", bytes(20), REQUEST, sampling(TOKENS))

    def generate() -> Generation:
        return engine.generate(REQUEST, inquiry.params)

    ways: dict[str, tuple[Callable[..., list[TraceStep]], Callable[[], object]]] = {
        "bare": (_nothing, generate),
        "committed": (trace_steps, generate),
        "signed": (trace_steps, lambda: signatory.sign(inquiry, generate(), NOW)),
    }
    generate()
    wall: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (commit, action) in ways.items():
            setattr(llama_cpp, "trace_steps", commit)  # noqa: B010
            start, used = time.perf_counter(), time.process_time()
            action()
            wall[name].append(time.perf_counter() - start)
            busy[name].append(time.process_time() - used)
    engine.close()
    print(f"{TOKENS} tokens, {rounds} rounds, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
    print("| | wall, ms a token | more than bare | processor, ms a token | more than bare |")
    print("|---|--:|--:|--:|--:|")
    for name in ways:
        cells = []
        for times in (wall, busy):
            median = statistics.median(times[name])
            cells += [f"{median / TOKENS * 1000:.2f}", f"{median / statistics.median(times['bare']) - 1:.1%}"]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
