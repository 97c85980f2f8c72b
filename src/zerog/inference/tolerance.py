"""Comparing answers of the class *tolerant*: by distance, never bit for bit.

A server that computes on other kernels than the verifier gives other logits for the same weights. What it
reports, eight log-probabilities a token, must still lie near those of a re-execution: nearer than a
coarser quantisation of the model can come. Four measures, all in integers, so that every verifier who has
the same rows reaches the same verdict:

* ``distance``: mean difference of the reported log-probabilities (the strongest measure);
* ``missing``: mean share of the reported eight that are not the verifier's eight likeliest;
* ``chosen``: mean difference of the chosen token's log-probability;
* ``regret``: the most by which the verifier's likeliest token exceeds a chosen one. It is what finds a text
  that another model wrote and the true one merely read: its log-probabilities are right, its choices are not.

Source: specification of Proof-of-Inference, "Fingerprint separation". Thresholds and their measured error
rates: docs/tolerant-class.md; `zerog.inference.calibration` measures them anew::

    fault = tolerant_fault(transcript, engine, thresholds_of(engine.model_id))
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from zerog.errors import InferenceError
from zerog.inference.receipt import GREEDY, SamplingParams
from zerog.inference.trace import PAIRS, QUANTUM, TraceStep
from zerog.inference.verification import NO_LEAF, CannotCompare, Fault

if TYPE_CHECKING:
    from zerog.inference.engines import Engine
    from zerog.inference.logits import Logits

UNREPORTED = ((0xFFFF_FFFF, 0),) * PAIRS
"""The pairs of a token for which the server reported nothing, as llama-server does inside a character."""
LEAST_ROWS = 16
"""Sums are divided by at least this many rows: a short answer says little, and must not be condemned by it."""

_MICRO = 1_000_000
_ROUNDING = 1 << 10
"""Allowed excess of a reported probability mass over 1, in units of 1/65536: float32 sums are not exact."""
_THRESHOLDS_FORMAT = "zerog-tolerance/1"


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What an honest answer does not exceed, in millionths: of a nat, ``missing`` of the eight pairs."""

    distance_micro: int = 350_000
    missing_micro: int = 100_000
    chosen_micro: int = 85_000
    regret_micro: int = 1_000_000


DEFAULT_THRESHOLDS = Thresholds()
"""The specification's defaults (0.35, an overlap of 0.90, 0.085) and a bound on regret; see the docs."""


@dataclass(frozen=True, slots=True)
class RowDistance:
    """How far one reported row lies from the verifier's; integers in units of 1/65536 nat.

    ``reported`` is false for a token without pairs: then only ``regret`` says anything. ``missing`` counts
    reported tokens outside the verifier's eight.
    """

    reported: bool
    distance: int
    missing: int
    chosen: int
    regret: int


@dataclass(frozen=True, slots=True)
class Measures:
    """The four measures of an answer in millionths, and the leaf that is farthest off."""

    rows: int
    distance_micro: int
    missing_micro: int
    chosen_micro: int
    regret_micro: int
    worst: int

    def excess(self, thresholds: Thresholds) -> str | None:
        """What exceeds its threshold, as a sentence; ``None`` when nothing does."""
        for name, value, limit in (
            ("the log-probabilities differ by", self.distance_micro, thresholds.distance_micro),
            (
                "the share of foreign tokens among the likeliest is",
                self.missing_micro,
                thresholds.missing_micro,
            ),
            ("the chosen tokens' log-probabilities differ by", self.chosen_micro, thresholds.chosen_micro),
            ("a chosen token is worse than the likeliest by", self.regret_micro, thresholds.regret_micro),
        ):
            if value > limit:
                return f"{name} {value / _MICRO:.3f}, allowed are {limit / _MICRO:.3f}"
        return None


class TolerantAnswer(Protocol):
    """What is looked at: a transcript."""

    @property
    def request(self) -> bytes: ...
    @property
    def params(self) -> SamplingParams: ...
    @property
    def stop_strings(self) -> tuple[str, ...]: ...
    @property
    def output(self) -> bytes: ...
    @property
    def engine(self) -> str: ...
    @property
    def steps(self) -> tuple[TraceStep, ...]: ...


def tolerant_fault(
    answer: TolerantAnswer, engine: Engine, thresholds: Thresholds = DEFAULT_THRESHOLDS
) -> Fault | None:
    """Re-executes an answer of the class tolerant on ``engine`` and compares by distance.

    The engine must run the same model; it may be of another class. Row hashes are never compared.

    Returns
    -------
    ``None`` when nothing speaks against the answer, else the first thing that does: a form that no honest
    server has, an end or a text that the tokens do not have, or measures beyond ``thresholds``.

    Raises
    ------
    CannotCompare : the answer comes from an engine without log-probabilities.
    InferenceError : the engine failed; nothing follows about the answer.
    """
    if answer.engine.endswith("logprobs=none"):
        raise CannotCompare(
            "the server reported no log-probabilities: the answer is worth its signature only"
        )
    if answer.params.sampler != GREEDY:
        return Fault(NO_LEAF, "the class tolerant has no sampler but the greedy one")
    if not answer.steps:
        return Fault(NO_LEAF, "no log-probabilities were reported: there is nothing to compare")
    for index, step in enumerate(answer.steps):
        if (wrong := wrong_form(step)) is not None:
            return Fault(index, wrong)
    if (wrong_end := _wrong_end(answer, engine)) is not None:
        return wrong_end
    measures = measure(row_distances(answer, engine))
    excess = measures.excess(thresholds)
    return None if excess is None else Fault(measures.worst, excess)


def row_distances(answer: TolerantAnswer, engine: Engine) -> Iterator[RowDistance]:
    """The distance of every reported row from its re-execution, by one prefill."""
    tokens = [step.token for step in answer.steps]
    rows = engine.replay(answer.request, tokens)
    for step, row in zip(answer.steps, rows, strict=True):
        yield row_distance(step, row)


def row_distance(step: TraceStep, row: Logits) -> RowDistance:
    """How far a reported row lies from ``row``, the verifier's logits of shape (vocabulary,)."""
    import numpy as np

    from zerog.inference.logits import log_softmax, ranked, require_finite

    require_finite(row)
    quanta = np.rint(log_softmax(row) * QUANTUM).astype(np.int64)
    known = [(token, q) for token, q in step.pairs if token < len(row)]
    regret = int(quanta.max() - quanta[step.token])
    if step.pairs == UNREPORTED:
        return RowDistance(False, 0, 0, 0, regret)
    foreign = PAIRS - len(known)
    near = {int(token) for token in ranked(row, PAIRS)}
    # A token outside the vocabulary is as far off as a token can be.
    total = sum(abs(q - int(quanta[token])) for token, q in known) + foreign * int(
        quanta.max() - quanta.min()
    )
    chosen = next((abs(q - int(quanta[token])) for token, q in known if token == step.token), 0)
    missing = foreign + sum(token not in near for token, _ in known)
    return RowDistance(True, total // PAIRS, missing, chosen, regret)


def measure(rows: Iterator[RowDistance] | Sequence[RowDistance]) -> Measures:
    """The measures of an answer from those of its rows."""
    found = list(rows)
    reported = [row for row in found if row.reported]
    count = max(len(reported), LEAST_ROWS)
    worst = max(range(len(found)), key=lambda i: (found[i].distance + found[i].regret, -i), default=0)
    return Measures(
        rows=len(found),
        distance_micro=sum(row.distance for row in reported) * _MICRO // (QUANTUM * count),
        missing_micro=sum(row.missing for row in reported) * _MICRO // (PAIRS * count),
        chosen_micro=sum(row.chosen for row in reported) * _MICRO // (QUANTUM * count),
        regret_micro=max((row.regret for row in found), default=0) * _MICRO // QUANTUM,
        worst=worst,
    )


def wrong_form(step: TraceStep) -> str | None:
    """What no honest greedy server reports about a token; ``None`` when the form is right."""
    if step.pairs == UNREPORTED:
        return None
    ids = [token for token, _ in step.pairs]
    quanta = [q for _, q in step.pairs]
    if len(set(ids)) != PAIRS:
        return "a token appears twice among the eight likeliest"
    if max(quanta) > 0:
        return "a log-probability is positive"
    if any(later > earlier for earlier, later in itertools.pairwise(quanta)):
        return "the eight log-probabilities are not in falling order"
    if _mass(quanta) > QUANTUM + _ROUNDING:
        return "the eight probabilities add up to more than 1"
    if step.token not in ids:
        return f"the chosen token {step.token} is not among the eight likeliest"
    if quanta[ids.index(step.token)] != quanta[0]:
        return f"the chosen token {step.token} is not the likeliest, as the greedy sampler wants"
    return None


def read_thresholds(path: Path) -> Thresholds:
    """The thresholds in a file that ``zerog audit calibrate`` wrote.

    Raises
    ------
    InferenceError : it cannot be read, has another format, or a threshold is not positive.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InferenceError(f"cannot read {path}: {error.strerror}") from None
    try:
        document = msgspec.json.decode(data, type=_ThresholdsFile)
    except msgspec.DecodeError as error:
        raise InferenceError(f"{path} holds no thresholds: {error}") from None
    if document.format != _THRESHOLDS_FORMAT:
        raise InferenceError(f"{path} has the format {document.format!r}, known is {_THRESHOLDS_FORMAT!r}")
    for name, value in msgspec.structs.asdict(document.thresholds).items():
        if not 0 < value < 1 << 40:
            raise InferenceError(f"{path}: {name} = {value} is out of range")
    return document.thresholds


def thresholds_of(model_id: bytes) -> Thresholds:
    """Thresholds of a model: from ``$ZEROG_TOLERANCE/<model id>.json`` if there, else the defaults.

    Raises
    ------
    InferenceError : the file is there and cannot be used; defaults in its place would surprise.
    """
    if not (folder := os.environ.get("ZEROG_TOLERANCE")):
        return DEFAULT_THRESHOLDS
    path = Path(folder) / f"0x{model_id.hex()}.json"
    return read_thresholds(path) if path.exists() else DEFAULT_THRESHOLDS


def thresholds_format() -> str:
    """Format of a thresholds file."""
    return _THRESHOLDS_FORMAT


class _ThresholdsFile(msgspec.Struct, frozen=True):
    format: str
    thresholds: Thresholds


def _mass(quanta: Sequence[int]) -> int:
    """Sum of the probabilities, in units of 1/65536."""
    import math

    return round(sum(math.exp(q / QUANTUM) for q in quanta) * QUANTUM)


def _wrong_end(answer: TolerantAnswer, engine: Engine) -> Fault | None:
    tokens = [step.token for step in answer.steps]
    for count in range(1, len(tokens) + 1):
        try:
            end = engine.ending(tokens[:count], answer.params, answer.stop_strings)
        except InferenceError as error:
            return Fault(count - 1, error.message)
        if end is None:
            continue
        if count < len(tokens):
            return Fault(count, f"the answer ends at token {count - 1}, the trace goes on")
        if end[0] != answer.output:
            return Fault(NO_LEAF, "the tokens spell another text than the output")
        return _hidden(answer, engine)
    return Fault(len(tokens) - 1, "the trace stops before the answer ends")


def _hidden(answer: TolerantAnswer, engine: Engine) -> Fault | None:
    """A token may lack its pairs only where it leaves a character unfinished."""
    tokens = [step.token for step in answer.steps]
    cut = msgspec.structs.replace(answer.params, maxTokens=1)
    for index, step in enumerate(answer.steps):
        if step.pairs != UNREPORTED:
            continue
        end = engine.ending(tokens[: index + 1], cut, ())
        if end is None or not _inside_character(end[0]):
            return Fault(index, "the log-probabilities of a whole token are missing")
    return None


def _inside_character(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.end == len(text) and len(text) - error.start < 4
    return False


__all__ = [
    "DEFAULT_THRESHOLDS",
    "LEAST_ROWS",
    "UNREPORTED",
    "Measures",
    "RowDistance",
    "Thresholds",
    "measure",
    "read_thresholds",
    "row_distance",
    "row_distances",
    "thresholds_of",
    "tolerant_fault",
    "wrong_form",
]
