"""Measures for a model how far honest answers of other kernels and cheats lie from the embedded engine.

The honest runs are the same weights on other kernels (flash attention off; micro-batches of 512), the
cheats are requantisations of the same file and a text that a coarser model wrote and the true one read.
From the first third of the prompts come thresholds, from the rest, which the thresholds have never seen,
the error rates. On the command line: ``zerog audit calibrate``::

    report = calibrate(engine, weights, folder, prompts, progress=print)
    report.thresholds, report.rate(honest=True), report.rate(honest=False)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from zerog.errors import InferenceError
from zerog.inference.tolerance import (
    DEFAULT_THRESHOLDS,
    Measures,
    RowDistance,
    Thresholds,
    measure,
    row_distance,
    thresholds_format,
)

if TYPE_CHECKING:
    from zerog.inference.engines import Engine
    from zerog.inference.logits import Logits
    from zerog.inference.trace import TraceStep

Progress = Callable[[str, int, int], None]
"""Called with what is measured, answers done and answers in all."""

LENGTHS = (4, 8, 16, 32)
"""Tokens after which an answer is judged: short answers must not raise false alarms either."""
MARGIN_PERCENT = 150
"""A threshold is at least this share of the worst honest measure of the calibration set."""
READER = "text of Q2_K read by the true model"
"""The cheat that generates cheaply and computes the log-probabilities with one true prefill."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a provider computes: ``quantisation`` as llama.cpp names file types, ``None`` for the file as it is."""

    name: str
    honest: bool
    flash_attention: bool = True
    micro_batch: int = 32
    quantisation: str | None = None


SETTINGS = (
    Setting("same class", True),
    Setting("flash attention off", True, flash_attention=False),
    Setting("micro-batch 512", True, micro_batch=512),
    Setting("Q8_0", False, quantisation="Q8_0"),
    Setting("F16", False, quantisation="F16"),
    Setting("Q5_1", False, quantisation="Q5_1"),
    Setting("Q4_0", False, quantisation="Q4_0"),
    Setting("Q2_K", False, quantisation="Q2_K"),
)
INSEPARABLE = frozenset({"Q8_0", "F16"})
"""Finer than the declared quantisation: no cheaper to run, and nearer to honest than kernels are to each other."""

_CONTEXT = 2048
_FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q5_1": 9, "Q2_K": 10}
"""``llama_ftype`` of the quantisations; source: llama.h."""


class Row(msgspec.Struct, frozen=True, rename="camel"):
    """Error counts of one setting on the held-back prompts, with the extremes of its measures."""

    setting: str
    honest: bool
    answers: int
    accused: int
    accused_by_defaults: int
    distance: tuple[int, int, int]
    missing: tuple[int, int, int]
    chosen: tuple[int, int, int]
    regret: tuple[int, int, int]


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """What a calibration found; also the thresholds file. Measures in millionths as (least, mean, most)."""

    format: str
    model: str
    model_id: str
    engine: str
    tokens: int
    calibration_prompts: int
    held_back_prompts: int
    thresholds: Thresholds
    rows: list[Row]
    short_answers: list[Row]

    def rate(self, honest: bool) -> tuple[int, int]:
        """(accused, answers) of all honest or all separable dishonest settings."""
        rows = [row for row in self.rows if row.honest is honest and row.setting not in INSEPARABLE]
        return sum(row.accused for row in rows), sum(row.answers for row in rows)


def calibrate(
    engine: Engine,
    weights: Path,
    folder: Path,
    prompts: Sequence[str],
    *,
    tokens: int = 32,
    model: str = "",
    progress: Progress | None = None,
) -> Report:
    """Measures all settings on ``prompts`` and derives thresholds from the first third of them.

    Parameters
    ----------
    engine : the verifier's engine, which runs ``weights``.
    weights : GGUF file of the declared model.
    folder : scratch space for the requantised files, up to three times the size of ``weights`` at a time.
    tokens : length of every answer; answers that end earlier are used as they are.

    Raises
    ------
    InferenceError : fewer than six prompts, no room, or an engine failed.
    """
    if len(prompts) < 6:
        raise InferenceError(f"{len(prompts)} prompts are too few: at least 6 are needed")
    report = progress or (lambda what, done, total: None)
    split = len(prompts) // 3
    total = len(prompts) * (len(SETTINGS) + 1)
    found: dict[Setting, list[list[RowDistance]]] = {}
    for position, setting in enumerate(SETTINGS):
        texts: list[list[int]] = []
        with runner(weights, setting, folder) as run:
            answers: list[list[RowDistance]] = []
            for number, prompt in enumerate(prompts):
                report(setting.name, position * len(prompts) + number, total)
                steps = run.answer(engine.prompt_tokens(prompt.encode()), tokens)
                texts.append([step.token for step in steps])
                answers.append(_distances(engine, prompt, steps))
            found[setting] = answers
        if setting.quantisation == "Q2_K":
            reader = Setting(READER, False)
            found[reader] = _read(engine, weights, folder, prompts, texts, report, total)
    report("done", total, total)
    thresholds = _thresholds([a for s, answers in found.items() if s.honest for a in answers[:split]])
    held = {setting: answers[split:] for setting, answers in found.items()}
    return Report(
        format=thresholds_format(),
        model=model or weights.name,
        model_id="0x" + engine.model_id.hex(),
        engine=engine.description,
        tokens=tokens,
        calibration_prompts=split,
        held_back_prompts=len(prompts) - split,
        thresholds=thresholds,
        rows=[_row(setting.name, setting.honest, answers, thresholds) for setting, answers in held.items()],
        short_answers=[
            _row(
                f"{setting.name}, {length} tokens", setting.honest, [a[:length] for a in answers], thresholds
            )
            for length in LENGTHS
            if length < tokens
            for setting, answers in held.items()
        ],
    )


class Runner:
    """llama.cpp in any setting; one answer at a time, always the likeliest token."""

    def __init__(self, weights: Path, setting: Setting) -> None:
        llama = _llama()

        # cyllama 0.2.18 reads model.n_vocab in get_logits_ith, an attribute that its model class lacks.
        class Model(llama.LlamaModel):  # type: ignore[misc, name-defined]
            n_vocab = 0

        model_params = llama.LlamaModelParams()
        model_params.n_gpu_layers = 0
        self._model = Model(str(weights), model_params, False)
        vocabulary = self._model.get_vocab()
        Model.n_vocab = vocabulary.n_vocab
        self._end = frozenset(t for t in range(vocabulary.n_vocab) if vocabulary.is_eog(t))
        params = llama.LlamaContextParams()
        params.n_ctx = _CONTEXT
        params.n_batch = max(setting.micro_batch, 32)
        params.n_ubatch = setting.micro_batch
        params.n_seq_max = 1
        params.flash_attn_type = 1 if setting.flash_attention else 0
        params.n_threads = 1
        params.n_threads_batch = 1
        self._size = params.n_batch
        self._context = llama.LlamaContext(self._model, params, False)
        self._batch = llama.LlamaBatch(n_tokens=self._size, embd=0, n_seq_max=1)

    def answer(self, prompt: Sequence[int], tokens: int) -> list[TraceStep]:
        """The steps of a greedy answer of at most ``tokens`` tokens."""
        from zerog.inference.logits import trace_step

        self._context.kv_cache_clear()
        (row,) = self._feed(prompt, 0, len(prompt) - 1)
        steps: list[TraceStep] = []
        while True:
            token = int(row.argmax())
            steps.append(trace_step(token, row))
            if token in self._end or len(steps) == tokens:
                return steps
            (row,) = self._feed([token], len(prompt) + len(steps) - 1, 0)

    def read(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[TraceStep]:
        """The steps that a text would have if this model had written it."""
        from zerog.inference.logits import trace_step

        self._context.kv_cache_clear()
        rows = self._feed([*prompt, *tokens[:-1]], 0, len(prompt) - 1)
        return [trace_step(token, row) for token, row in zip(tokens, rows, strict=True)]

    def close(self) -> None:
        """Frees the model."""
        self._batch.close()
        self._context.close()
        self._model.close()

    def _feed(self, tokens: Sequence[int], position: int, first_row: int) -> Iterator[Logits]:
        import numpy as np

        for start in range(0, len(tokens), self._size):
            chunk = tokens[start : start + self._size]
            self._batch.clear()
            for offset, token in enumerate(chunk):
                wanted = start + offset >= first_row
                self._batch.add(token, position + start + offset, [0], wanted)
            self._context.decode(self._batch)
            for offset in range(len(chunk)):
                if start + offset >= first_row:
                    yield np.array(self._context.get_logits_ith(offset), dtype=np.float32)


@contextmanager
def runner(weights: Path, setting: Setting, folder: Path) -> Iterator[Runner]:
    """A provider in a setting; a requantised file lives as long as it."""
    path = weights
    if setting.quantisation is not None:
        path = folder / f"{weights.stem}.requantised-{setting.quantisation}.gguf"
        requantise(weights, path, setting.quantisation)
    run: Runner | None = None
    try:
        run = Runner(path, setting)
        yield run
    finally:
        if run is not None:
            run.close()
        if path != weights:
            path.unlink(missing_ok=True)


def requantise(source: Path, target: Path, quantisation: str) -> None:
    """Writes ``source`` in another quantisation.

    Raises
    ------
    InferenceError : the quantisation is unknown, or llama.cpp refuses.
    """
    if quantisation not in _FILE_TYPES:
        raise InferenceError(
            f"the quantisation {quantisation!r} is unknown, known are {', '.join(_FILE_TYPES)}"
        )
    llama = _llama()
    params: Any = llama.LlamaModelQuantizeParams()
    params.ftype = _FILE_TYPES[quantisation]
    params.allow_requantize = True
    params.nthread = 1
    try:
        llama.model_quantize(str(source), str(target), params)
    except (RuntimeError, OSError) as error:
        target.unlink(missing_ok=True)
        raise InferenceError(f"llama.cpp cannot requantise {source} to {quantisation}: {error}") from error


def _llama() -> Any:
    try:
        from cyllama.llama import llama_cpp
    except ImportError as error:
        raise InferenceError(
            f"the embedded engine is not installed: {error}", hint="pip install 'zerog[inference]'"
        ) from None
    llama_cpp.disable_logging()
    return llama_cpp


def _read(
    engine: Engine,
    weights: Path,
    folder: Path,
    prompts: Sequence[str],
    texts: Sequence[Sequence[int]],
    report: Progress,
    total: int,
) -> list[list[RowDistance]]:
    """Another kernel reads foreign texts: the hardest case, all log-probabilities are the true model's."""
    answers = []
    setting = Setting(READER, False, flash_attention=False)
    with runner(weights, setting, folder) as run:
        for number, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            report(READER, len(prompts) * len(SETTINGS) + number, total)
            steps = run.read(engine.prompt_tokens(prompt.encode()), text)
            answers.append(_distances(engine, prompt, steps))
    return answers


def _distances(engine: Engine, prompt: str, steps: Sequence[TraceStep]) -> list[RowDistance]:
    rows = engine.replay(prompt.encode(), [step.token for step in steps])
    return [row_distance(step, row) for step, row in zip(steps, rows, strict=True)]


def _thresholds(honest: Sequence[Sequence[RowDistance]]) -> Thresholds:
    """The defaults, raised where honest answers come too near to them."""
    measures = [measure(answer[:length]) for answer in honest for length in (*LENGTHS, len(answer))]
    worst = {
        name: max(getattr(m, name) for m in measures) * MARGIN_PERCENT // 100
        for name in msgspec.structs.asdict(DEFAULT_THRESHOLDS)
    }
    return Thresholds(**{n: max(v, worst[n]) for n, v in msgspec.structs.asdict(DEFAULT_THRESHOLDS).items()})


def _row(name: str, honest: bool, answers: Sequence[Sequence[RowDistance]], thresholds: Thresholds) -> Row:
    measures = [measure(answer) for answer in answers]
    return Row(
        setting=name,
        honest=honest,
        answers=len(measures),
        accused=sum(m.excess(thresholds) is not None for m in measures),
        accused_by_defaults=sum(m.excess(DEFAULT_THRESHOLDS) is not None for m in measures),
        distance=_extremes(measures, "distance_micro"),
        missing=_extremes(measures, "missing_micro"),
        chosen=_extremes(measures, "chosen_micro"),
        regret=_extremes(measures, "regret_micro"),
    )


def _extremes(measures: Sequence[Measures], name: str) -> tuple[int, int, int]:
    values = [getattr(m, name) for m in measures]
    return min(values), sum(values) // len(values), max(values)
