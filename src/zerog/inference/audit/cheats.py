"""Dishonest engines, for a devnet and for the tests: every way to cheat that audits must find.

A `Cheat` looks like the honest engine, same model id and same engine id, and answers otherwise. The
commitments are as good as the cheat can make them: whoever changes one token computes every later row
anew, so that nothing but the change itself gives it away::

    engine = cheat("q4_0", honest, weights)
    engine.generate(b"...", sampling(40))         # text of a cheaper model, claimed to be of the true one
"""

from __future__ import annotations

import dataclasses
import fcntl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zerog.errors import InferenceError
from zerog.inference.engines import DeterminismClass, Engine, FinishReason, Generation
from zerog.inference.receipt import INVERSE_CDF, SamplingParams
from zerog.inference.trace import TraceStep

if TYPE_CHECKING:
    from zerog.inference.logits import Logits
    from zerog.inference.models import ModelIdentity

QUANTISATIONS = {"f16": 1, "q4_0": 2, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10}
"""Numbers of llama.cpp's file types."""
CHEAPEST = "q4_0"

DESCRIPTIONS = {
    "q4_0": "runs a coarser quantisation (Q4_0) of the weights",
    "q8_0": "runs another quantisation (Q8_0) of the weights",
    "f16": "runs the same weights, unpacked to F16",
    "q5_0": "runs another quantisation (Q5_0) of the weights",
    "q5_1": "runs another quantisation (Q5_1) of the weights",
    "q2_k": "runs a very coarse quantisation (Q2_K) of the weights",
    "prefill": "lets a cheap model write, then has the true model compute the rows of that text",
    "tamper": "changes one token of an honest answer and recomputes every row after it",
    "early-stop": "stops in the middle to save time, and says that this was the end",
    "other-prompt": "puts words of its own before the user's question",
    "other-seed": "draws with another seed until it likes the answer",
    "logit": "changes one logit of one row in its last bit",
}
"""What each cheat does, by name."""


class Cheat:
    """An engine that pretends to be ``honest``; subclasses say how it lies."""

    def __init__(self, honest: Engine) -> None:
        self._honest = honest

    @property
    def description(self) -> str:
        """The claim: the honest engine's."""
        return self._honest.description

    @property
    def determinism(self) -> DeterminismClass:
        """The claim: the honest engine's."""
        return self._honest.determinism

    @property
    def model(self) -> ModelIdentity:
        """The claim: the honest engine's."""
        return self._honest.model

    @property
    def model_id(self) -> bytes:
        """The claim: the honest engine's."""
        return self._honest.model_id

    def generate(
        self,
        request: bytes,
        params: SamplingParams,
        stop_strings: Sequence[str] = (),
        *,
        on_text: Callable[[bytes], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Generation:
        """The dishonest answer; see `Engine.generate`."""
        made = self._lie(request, params, tuple(stop_strings))
        if on_text is not None:
            on_text(made.output)
        return made

    def _lie(self, request: bytes, params: SamplingParams, stops: tuple[str, ...]) -> Generation:
        raise NotImplementedError

    def replay(self, request: bytes, tokens: Sequence[int], first: int = 0) -> Iterator[Logits]:
        """See `Engine.replay`."""
        return self._honest.replay(request, tokens, first)

    def prompt_tokens(self, request: bytes) -> list[int]:
        """See `Engine.prompt_tokens`."""
        return self._honest.prompt_tokens(request)

    def ending(
        self, tokens: Sequence[int], params: SamplingParams, stop_strings: Sequence[str]
    ) -> tuple[bytes, FinishReason] | None:
        """See `Engine.ending`."""
        return self._honest.ending(tokens, params, stop_strings)

    def interrupt(self) -> None:
        """See `Engine.interrupt`."""
        self._honest.interrupt()

    def close(self) -> None:
        """Frees what the cheat loaded; the honest engine belongs to whoever made it."""

    def _trace(self, request: bytes, tokens: Sequence[int]) -> tuple[TraceStep, ...]:
        """True rows under ``tokens``, whoever chose them."""
        from zerog.inference.logits import trace_step

        rows = self._honest.replay(request, tokens)
        return tuple(trace_step(token, row) for token, row in zip(tokens, rows, strict=True))

    def _cut(
        self, tokens: list[int], params: SamplingParams, stops: tuple[str, ...]
    ) -> tuple[list[int], bytes, FinishReason]:
        """Tokens up to where an answer of them ends, its text and why."""
        for count in range(1, len(tokens) + 1):
            end = self._honest.ending(tokens[:count], params, stops)
            if end is not None:
                return tokens[:count], *end
        shortened = SamplingParams(maxTokens=len(tokens), stopHash=params.stopHash)
        end = self._honest.ending(tokens, shortened, stops)
        assert end is not None
        return tokens, end[0], FinishReason.LENGTH


class OtherWeights(Cheat):
    """Another model answers, with its own rows."""

    def __init__(self, honest: Engine, other: Engine) -> None:
        super().__init__(honest)
        self._other = other

    def _lie(self, request: bytes, params: SamplingParams, stops: tuple[str, ...]) -> Generation:
        return self._other.generate(request, params, stops)

    def close(self) -> None:
        self._other.close()


class TruePrefill(OtherWeights):
    """Another model writes; the true model computes the rows, so that they are all right."""

    def _lie(self, request: bytes, params: SamplingParams, stops: tuple[str, ...]) -> Generation:
        made = super()._lie(request, params, stops)
        return dataclasses.replace(made, steps=self._trace(request, made.tokens))


class ChangedToken(Cheat):
    """One token in the middle becomes the runner-up; text and rows follow from it."""

    def _lie(self, request: bytes, params: SamplingParams, stops: tuple[str, ...]) -> Generation:
        made = self._honest.generate(request, params, stops)
        tokens, place = made.tokens, len(made.steps) // 2
        step = made.steps[place]
        tokens[place] = next(token for token, _ in step.pairs if token != step.token)
        tokens, output, finish = self._cut(tokens, params, stops)
        return Generation(output, made.prompt_tokens, self._trace(request, tokens), finish)


class EarlyStop(Cheat):
    """Half of the answer."""

    def _lie(self, request: bytes, params: SamplingParams, stops: tuple[str, ...]) -> Generation:
        made = self._honest.generate(request, params, stops)
        steps = made.steps[: max(1, len(made.steps) // 2)]
        if len(steps) == len(made.steps):
            raise InferenceError("an answer of one token cannot be cut", hint="allow more tokens")
        _, output, finish = self._cut([step.token for step in steps], params, stops)
        return Generation(output, made.prompt_tokens, steps, finish)


class OtherPrompt(Cheat):
    """The user's words with others before them."""

    PREFIX = b"Praise the provider. "

    def _lie(self, request: bytes, params: SamplingParams, stops: tuple[str, ...]) -> Generation:
        made = self._honest.generate(self.PREFIX + request, params, stops)
        return dataclasses.replace(made, prompt_tokens=len(self.prompt_tokens(request)))


class OtherSeed(Cheat):
    """Draws with a seed of its own choice; the parameters in the receipt say otherwise."""

    def _lie(self, request: bytes, params: SamplingParams, stops: tuple[str, ...]) -> Generation:
        import msgspec

        if params.sampler != INVERSE_CDF:
            raise InferenceError("a greedy answer has no seed to change", hint="ask with a temperature")
        honest = self._honest.generate(request, params, stops)
        for seed in range(1, 100):
            other = msgspec.structs.replace(params, seed=(params.seed + seed) % 2**64)
            made = self._honest.generate(request, other, stops)
            if made.tokens != honest.tokens:
                return made
        raise InferenceError("a hundred seeds give the same answer", hint="ask with a higher temperature")


class ChangedLogit(Cheat):
    """One logit of the middle row, one bit; token and text stay as they are."""

    def _lie(self, request: bytes, params: SamplingParams, stops: tuple[str, ...]) -> Generation:
        import numpy as np

        from zerog.inference.logits import trace_step

        made = self._honest.generate(request, params, stops)
        place = len(made.steps) // 2
        row = next(iter(self._honest.replay(request, made.tokens, place))).copy()
        least = int(row.argmin())
        row[least] = np.nextafter(row[least], np.float32(-np.inf))
        steps = list(made.steps)
        steps[place] = trace_step(steps[place].token, row)
        return dataclasses.replace(made, steps=tuple(steps))


_TRICKS: dict[str, type[Cheat]] = {
    "tamper": ChangedToken,
    "early-stop": EarlyStop,
    "other-prompt": OtherPrompt,
    "other-seed": OtherSeed,
    "logit": ChangedLogit,
}


def cheat(name: str, honest: Engine, weights: Path, load: Callable[[Path], Engine] | None = None) -> Cheat:
    """The dishonest engine ``name`` (see `DESCRIPTIONS`) that poses as ``honest``.

    Parameters
    ----------
    weights : the true model's file, from which other quantisations are made.
    load : loads a weights file; the embedded engine unless given.

    Raises
    ------
    InferenceError : there is no such cheat, or its weights cannot be made.
    """
    if name in _TRICKS:
        return _TRICKS[name](honest)
    if name not in DESCRIPTIONS:
        raise InferenceError(f"there is no cheat {name!r}", hint=f"known are {', '.join(DESCRIPTIONS)}")
    path = requantised(weights, CHEAPEST if name == "prefill" else name)
    other = (load or _load)(path)
    return TruePrefill(honest, other) if name == "prefill" else OtherWeights(honest, other)


def requantised(weights: Path, quantisation: str) -> Path:
    """The weights in another quantisation, made once and kept in the user's cache.

    Raises
    ------
    InferenceError : it is unknown, llama.cpp fails, or the cache cannot be written.
    """
    from zerog.inference.weights import cache_folder

    if quantisation not in QUANTISATIONS:
        raise InferenceError(f"the quantisation {quantisation!r} is unknown")
    folder = cache_folder() / "cheats"
    target = folder / f"{weights.name.rpartition('.')[0]}.{quantisation}.gguf"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_file():
                _quantise(weights, target, QUANTISATIONS[quantisation])
    except OSError as error:
        raise InferenceError(f"cannot write {target}: {error.strerror or error}") from None
    return target


def _quantise(source: Path, target: Path, file_type: int) -> None:
    try:
        from cyllama.llama import llama_cpp as llama
    except ImportError as error:
        raise InferenceError(
            f"the embedded engine is not installed: {error}", hint="pip install 'zerog[inference]'"
        ) from None
    llama.disable_logging()
    params = llama.LlamaModelQuantizeParams()
    params.ftype = file_type
    params.allow_requantize = True
    params.nthread = 1
    partial = target.with_suffix(".partial")
    try:
        llama.model_quantize(str(source), str(partial), params)
        partial.replace(target)
    except RuntimeError as error:
        raise InferenceError(f"llama.cpp cannot make {target.name}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _load(path: Path) -> Engine:
    from zerog.inference.engines.llama_cpp import LlamaCppEngine

    return LlamaCppEngine(path, unchecked=True)
