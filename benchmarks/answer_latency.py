"""How long an answer waits for its next token while another reader keeps the engine busy.

    python benchmarks/answer_latency.py [TOKENS]

Prints the median and the longest time between two tokens of an answer: alone, beside the reading of a long prompt,
and beside the replay of a long answer, with the bound on their share and without it.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable

from zerog.inference.engines import scheduler
from zerog.inference.engines.llama_context import BATCH
from zerog.inference.engines.llama_cpp import LlamaCppEngine
from zerog.inference.receipt import SamplingParams
from zerog.inference.weights import SMOLLM2, fetch

REQUEST = b"Write a short story about a robot who learns to paint."
LONG = b"word " * 1500


def main(tokens: int) -> None:
    """Measures and prints."""
    engine = LlamaCppEngine(fetch(SMOLLM2), prefill_threads=1)

    def gaps() -> list[float]:
        """Seconds between the pieces of an answer."""
        times: list[float] = []
        engine.generate(
            REQUEST, SamplingParams(maxTokens=tokens), on_text=lambda piece: times.append(time.perf_counter())
        )
        return [after - before for before, after in itertools.pairwise(times)]

    def beside(load: Callable[[threading.Event], None]) -> list[float]:
        """The same while ``load`` runs again and again."""
        over = threading.Event()
        thread = threading.Thread(target=load, args=(over,))
        thread.start()
        while not engine.load.running:
            time.sleep(0.01)
        try:
            return gaps()
        finally:
            over.set()
            thread.join()

    def prompts(over: threading.Event) -> None:
        while not over.is_set():
            engine.generate(LONG, SamplingParams(maxTokens=1))

    def replays(over: threading.Event) -> None:
        while not over.is_set():
            for _ in engine.replay(REQUEST, [28] * 1500):
                if over.is_set():
                    break

    print(f"{tokens} tokens, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
    print("| beside | median, ms | longest, ms |\n|---|--:|--:|")
    bounded = scheduler.BULK_BESIDE_ANSWERS
    for name, share, measure in (
        ("nobody", bounded, gaps),
        (f"a replay, at most {bounded} rows", bounded, lambda: beside(replays)),
        ("a replay, no bound", BATCH, lambda: beside(replays)),
        (f"a long prompt, at most {bounded} rows", bounded, lambda: beside(prompts)),
        ("nobody, again", bounded, gaps),
    ):
        setattr(scheduler, "BULK_BESIDE_ANSWERS", share)  # noqa: B010
        times = measure()
        print(f"| {name} | {statistics.median(times) * 1000:.0f} | {max(times) * 1000:.0f} |", flush=True)
    engine.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
