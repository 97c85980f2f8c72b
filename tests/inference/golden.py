"""The golden transcripts: what they hold, and the command that writes them.

``PYTHONPATH=src python -m tests.inference.golden`` rewrites ``tests/data/inference/transcripts``. A format that is in use
never changes; a change of these files is a new version of the format.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zerog.chain.keys import keccak256
from zerog.inference.answer import sampling
from zerog.inference.engines import FinishReason
from zerog.inference.models import DEFAULT_MODEL, ModelIdentity
from zerog.inference.receipt import SamplingParams, stop_hash
from zerog.inference.trace import TraceStep
from zerog.inference.transcript import (
    MAX_ENGINE,
    MAX_NAME,
    MAX_OUTPUT,
    MAX_QUANTISATION,
    MAX_REQUEST,
    MAX_STEPS,
    MAX_STOP_SIZE,
    MAX_STOP_STRINGS,
    MAX_TEMPLATE,
    Transcript,
    anonymous,
)

FOLDER = Path(__file__).parents[1] / "data" / "inference" / "transcripts"
INDEX = FOLDER / "index.json"
ZERO = "0x" + "00" * 32
TOP = 2**32 - 1


def written() -> dict[str, Transcript]:
    """Transcripts that no engine is needed for."""
    nothing = ModelIdentity("", ZERO, ZERO, "", "", "")
    step = TraceStep(TOP, b"\xff" * 32, ((TOP, -(2**31)),) * 8)
    largest = ModelIdentity("é" * (MAX_NAME // 2), "0x" + "ff" * 32, "0x" + "ff" * 32, "t", "Q", "")
    stops = ("</end>", "ß")
    return {
        "empty": Transcript(b"", SamplingParams(0), (), b"", FinishReason.LENGTH, 0, "", nothing, ()),
        "numbers": Transcript(
            b"\x00\xff",
            SamplingParams(TOP, TOP, TOP, TOP, TOP, 2**64 - 1, stop_hash(list(stops)), 255),
            stops,
            b"\xf0\x9f\x8e",
            FinishReason.STOP_STRING,
            TOP,
            "e",
            largest,
            (step, step),
        ),
    }


def maximum() -> Transcript:
    """The longest transcript; too long to be kept, its root is."""
    stops = tuple(f"{index:02}" * (MAX_STOP_SIZE // 2) for index in range(MAX_STOP_STRINGS))
    model = ModelIdentity(
        "n" * MAX_NAME, "0x" + "ab" * 32, ZERO, "t" * MAX_TEMPLATE, "q" * MAX_QUANTISATION, ""
    )
    steps = tuple(TraceStep(i, keccak256(i.to_bytes(4)), ((i, -i),) * 8) for i in range(MAX_STEPS))
    params = SamplingParams(MAX_STEPS, stopHash=stop_hash(list(stops)))
    return Transcript(
        b"r" * MAX_REQUEST,
        params,
        stops,
        b"o" * MAX_OUTPUT,
        FinishReason.LENGTH,
        1,
        "e" * MAX_ENGINE,
        model,
        steps,
    )


def generated(engine: Any) -> dict[str, Transcript]:
    """Transcripts of real answers."""
    seeded = SamplingParams(maxTokens=24, temperatureMilli=900, topPMilli=950, seed=7, sampler=1)
    stops = ("Green", "Blue")
    return {
        "greedy": _answer(engine, b"Name a colour.", sampling(24)),
        "seeded": _answer(engine, b"Name a colour.", seeded),
        "stopped": _answer(engine, b"List three colours.", sampling(48, stops), stops),
        "cut": _answer(engine, CUT_REQUEST, sampling(CUT_TOKENS)),
    }


CUT_REQUEST = "Repeat exactly: 🎨🎨🎨🎨".encode()
CUT_TOKENS = 4


def _answer(engine: Any, request: bytes, params: SamplingParams, stops: tuple[str, ...] = ()) -> Transcript:
    made = engine.generate(request, params, stops)
    return Transcript(
        request,
        params,
        stops,
        made.output,
        made.finish,
        made.prompt_tokens,
        engine.description,
        anonymous(DEFAULT_MODEL),
        made.steps,
    )


def root_of(data: bytes) -> str:
    """The storage root, as the index has it."""
    from zerog._native import FileTree

    return "0x" + FileTree.from_bytes(data).root.hex()


def main() -> None:
    """Writes the files."""
    from zerog.inference.engines.llama_cpp import LlamaCppEngine
    from zerog.inference.weights import SMOLLM2, fetch

    FOLDER.mkdir(parents=True, exist_ok=True)
    index = {}
    for name, transcript in (written() | generated(LlamaCppEngine(fetch(SMOLLM2)))).items():
        data = transcript.canonical_bytes()
        (FOLDER / f"{name}.bin").write_bytes(data)
        index[name] = {"size": len(data), "root": root_of(data), "output": transcript.output.hex()}
    data = maximum().canonical_bytes()
    index["maximum"] = {"size": len(data), "root": root_of(data)}
    INDEX.write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main()
