"""Verification against generation: the same answers made and checked in turn, at equal threads.

    python benchmarks/verification.py [--rounds N] [--threads N] [--slow-rows]

A generation is what a provider does (decode, choose, commit to every row, sign); a verification is what a verifier
does with its transcript (`find_fault`: every row, hash, log-probability, token, the end and the text). Decoding and
reading use the same number of threads. ``--slow-rows`` takes logits as the lists that cyllama hands out, in both.

Prints medians of wall time and of processor time for each prompt size and answer length. On a shared machine the
processor time is the steadier one: it counts only what this process computed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from zerog.client import Account
from zerog.contracts import INFERENCE_REGISTRY
from zerog.inference.answer import Domain, Inquiry, Signatory, sampling
from zerog.inference.engines.llama_cpp import LlamaCppEngine
from zerog.inference.transcript import Transcript
from zerog.inference.verification import find_fault
from zerog.inference.weights import SMOLLM2, fetch

QUESTION = "Write a short story about a robot who learns to paint."
CASES = ((0, 64), (0, 128), (0, 256), (0, 400), (150, 64), (150, 256), (600, 64), (600, 256))
"""Words before the question, and tokens of the answer."""
NOW = 1_767_225_600


@dataclass(frozen=True)
class Cost:
    """Seconds of the wall clock and of the processor."""

    wall: float
    processor: float


def measured(action: Callable[[], object]) -> Cost:
    """What an action costs."""
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return Cost(time.perf_counter() - wall, time.process_time() - processor)


def request_of(words: int) -> bytes:
    """A prompt with ``words`` words before the question."""
    topics = ("river", "stone", "market", "winter", "engine", "garden", "letter")
    text = " ".join(topics[i * i % len(topics)] for i in range(words))
    return f"{text}. {QUESTION}".encode() if words else QUESTION.encode()


def checked(engine: LlamaCppEngine, transcript: Transcript) -> None:
    """Verifies; an honest transcript must pass."""
    fault = find_fault(transcript, engine)
    assert fault is None, fault


def compare(engine: LlamaCppEngine, words: int, tokens: int, rounds: int) -> None:
    """Prints a line of the table."""
    account = Account.random()
    domain = Domain(31337, bytes.fromhex(INFERENCE_REGISTRY[2:]))
    signatory = Signatory(engine, account.key, bytes.fromhex(account.address[2:]), domain)
    inquiry = Inquiry(bytes(31) + b"\x01", bytes(20), request_of(words), sampling(tokens))
    transcript = signatory.signed_transcript(signatory.answer(inquiry, NOW)).transcript
    made, verified = [], []
    for _ in range(rounds):
        made.append(measured(lambda: signatory.answer(inquiry, NOW)))
        verified.append(measured(lambda: checked(engine, transcript)))
    count = len(transcript.steps)
    wall = [statistics.median(cost.wall for cost in costs) / count * 1000 for costs in (made, verified)]
    busy = [statistics.median(cost.processor for cost in costs) / count * 1000 for costs in (made, verified)]
    print(
        f"| {transcript.prompt_tokens} | {count} | {wall[0]:.1f} | {wall[1]:.1f} | {wall[1] / wall[0]:.2f} "
        f"| {busy[0]:.1f} | {busy[1]:.1f} | {busy[1] / busy[0]:.2f} |",
        flush=True,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(CASES)), help="numbers, from 0")
    parser.add_argument("--slow-rows", action="store_true")
    options = parser.parse_args()
    if options.slow_rows:
        from zerog.inference.engines import row_memory

        row_memory._MEMORY = ""
    engine = LlamaCppEngine(fetch(SMOLLM2), prefill_threads=options.threads)
    direct = engine.reads_memory
    print(f"engine {engine.description}")
    print(
        f"threads {options.threads}, processors {os.cpu_count()}, rows {'direct' if direct else 'as lists'}"
    )
    print(f"load {os.getloadavg()[0]:.1f}, rounds {options.rounds}, ms a token of the answer\n")
    print(
        "| prompt | answer | generation | verification | ratio | processor: generation | verification | ratio |"
    )
    print("|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for number in options.cases:
        compare(engine, *CASES[number], options.rounds)
    print(f"\nload {os.getloadavg()[0]:.1f}")
    engine.close()


if __name__ == "__main__":
    main()
