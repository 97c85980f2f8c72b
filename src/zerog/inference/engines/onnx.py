"""ONNX Runtime for embeddings and classifiers. Class *exact*, where the self-test proves it.

One thread, one input at a time, no optimisation that depends on the machine's caches: so the vector of an
input depends on nothing but the input. Which kernels ONNX Runtime takes for integer weights depends on the
processor all the same; an engine on a machine where they give other bits fails its self-test, and nothing
is signed there::

    engine = OnnxEngine(minilm())
    answer = engine.generate(b"A cat sits on the mat.", neutral_params(1))
    (vector,) = decode_vectors(answer.output)
"""

from __future__ import annotations

import math
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from zerog.chain.keys import keccak256
from zerog.errors import EngineBusy, EngineCancelled, InferenceError
from zerog.inference.embedding import (
    Input,
    Vector,
    check_vector_params,
    encode_vectors,
    inputs_of,
    same,
    vector_step,
)
from zerog.inference.engines import DeterminismClass, FinishReason, Generation
from zerog.inference.models import MINILM_MODEL, ModelIdentity, id_of
from zerog.inference.receipt import SamplingParams
from zerog.inference.verification import VECTOR_PREFIX
from zerog.inference.weights import MINILM, MINILM_TOKENIZER, Progress, fetch

MAX_TOKENS = 512
"""Tokens of one text; a longer one is refused, never cut."""
QUEUE = 64
"""Requests that may wait."""
MEAN_POOLING = "embedding/pooling=mean/normalise=l2"
"""Template of models whose vector is the mean of their tokens' vectors, of length 1."""
RAW_OUTPUT = "classifier/output=raw"
"""Template of models whose first output is the vector."""


class Reference(msgspec.Struct, frozen=True):
    """Inputs with the keccak256 of their vectors as 0x-hexadecimal: what an engine must reproduce."""

    inputs: list[str | list[float]]
    rows: list[str]


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A model file with what identifies it.

    ``tokenizer`` is absent for models that read numbers; ``reference`` for models of which nobody knows what
    they must give: they compute, but nothing of theirs is signed.
    """

    path: Path
    identity: ModelIdentity
    tokenizer: Path | None = None
    reference: Reference | None = None


def minilm(progress: Progress | None = None) -> OnnxModel:
    """all-MiniLM-L6-v2 in int8, the default for embeddings; downloads it when it is missing.

    Raises
    ------
    InferenceError : as `zerog.inference.weights.fetch`.
    """
    data = (resources.files("zerog.inference") / "data" / "embedding_reference.json").read_bytes()
    return OnnxModel(
        fetch(MINILM, progress),
        MINILM_MODEL,
        fetch(MINILM_TOKENIZER, progress),
        msgspec.json.decode(data, type=Reference),
    )


def identify(
    name: str, model: Path, tokenizer: Path | None, template: str, quantisation: str
) -> ModelIdentity:
    """Identity of files: storage root of the model, keccak256 of the tokenizer.

    Raises
    ------
    InferenceError : a file cannot be read.
    """
    from zerog.storage.transfer.source import BytesSource

    try:
        root: bytes = BytesSource(model.read_bytes()).tree().root
        reader = bytes(32) if tokenizer is None else keccak256(tokenizer.read_bytes())
    except OSError as error:
        raise InferenceError(f"cannot read the model {name}: {error}") from None
    return ModelIdentity(name, "0x" + root.hex(), "0x" + reader.hex(), template, quantisation, "")


class OnnxEngine:
    """See the module's docstring. Any thread may use it; requests are computed one after the other.

    Parameters
    ----------
    model : the files. They must be what the identity says; `self_test` finds it when they are not.
    queue : requests that may wait.

    Raises
    ------
    InferenceError : ONNX Runtime is not installed, or cannot run the model.
    """

    determinism = DeterminismClass.EXACT

    def __init__(self, model: OnnxModel, queue: int = QUEUE) -> None:
        self.model = model.identity
        self.model_id = id_of(model.identity)
        self._reference = model.reference
        self._session, version = _session(model.path)
        self._names = [wanted.name for wanted in self._session.get_inputs()]
        self._tokenizer = None if model.tokenizer is None else _tokenizer(model.tokenizer)
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(queue + 1)
        self._interrupted = threading.Event()
        machine = platform.machine().lower()
        self.description = (
            f"{VECTOR_PREFIX}cpu-{machine}/threads=1/batch=1/optimisation=basic/build=onnxruntime-{version}"
        )

    def generate(
        self,
        request: bytes,
        params: SamplingParams,
        stop_strings: Sequence[str] = (),
        *,
        on_text: Callable[[bytes], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Generation:
        """The vectors of a request as canonical bytes, with a leaf for each; see `Engine.generate`."""
        inputs = inputs_of(request)
        check_vector_params(params, len(inputs))
        if stop_strings:
            raise InferenceError("vectors have no stop strings")
        count = sum(len(self._read(value)) for value in inputs)
        vectors = self.embed(inputs, cancelled=cancelled)
        output = encode_vectors(vectors)
        if on_text is not None:
            on_text(output)
        steps = tuple(vector_step(index, vector) for index, vector in enumerate(vectors))
        return Generation(output, count, steps, FinishReason.END_TOKEN)

    def embed(self, inputs: Sequence[Input], *, cancelled: threading.Event | None = None) -> list[Vector]:
        """One vector for each input, in their order.

        Raises
        ------
        EngineBusy : too many wait.
        EngineCancelled : ``cancelled`` was set, or the engine was interrupted.
        InferenceError : an input is of another kind than the model reads, or too long.
        """
        read = [self._read(value) for value in inputs]
        vectors = []
        with self._place():
            for values in read:
                if self._interrupted.is_set() or (cancelled is not None and cancelled.is_set()):
                    raise EngineCancelled("the generation was cancelled")
                vectors.append(self._vector(values))
        return vectors

    def replay(self, request: bytes, tokens: Sequence[int], first: int = 0) -> Iterator[Vector]:
        """The vectors of the inputs ``tokens[first:]``, computed again."""
        inputs = inputs_of(request)
        for index in tokens[first:]:
            if not 0 <= index < len(inputs):
                raise InferenceError(f"the request has no input {index}")
            yield from self.embed([inputs[index]])

    def prompt_tokens(self, request: bytes) -> list[int]:
        """Ids of all tokens of all inputs; for a model that reads numbers one 0 for each number."""
        tokens: list[int] = []
        for value in inputs_of(request):
            read = self._read(value)
            tokens += read if self._tokenizer is not None else [0] * len(read)
        return tokens

    def ending(
        self, tokens: Sequence[int], params: SamplingParams, stop_strings: Sequence[str]
    ) -> tuple[bytes, FinishReason] | None:
        """Not possible: the tokens of vectors are numbers of inputs and spell no text."""
        raise InferenceError("vectors spell no text")

    def self_test(self) -> None:
        """Reproduces the known vectors, and finds them again in another order and one by one.

        Raises
        ------
        InferenceError : a vector differs, or none is known.
        """
        known = self._reference
        if known is None:
            raise InferenceError(
                f"self-test: no vector of {self.model.name} is known: nothing will be signed"
            )
        inputs: list[Input] = [value if isinstance(value, str) else tuple(value) for value in known.inputs]
        vectors = self.embed(inputs)
        for index, (vector, row) in enumerate(zip(vectors, known.rows, strict=True)):
            if "0x" + vector_step(index, vector).row_hash.hex() != row:
                raise InferenceError(
                    f"self-test: vector {index} is another one than the reference",
                    hint="this machine does not reproduce the exact class: nothing will be signed",
                )
        alone = [self.embed([value])[0] for value in inputs]
        if not same(vectors, alone) or not same(vectors, reversed(self.embed(inputs[::-1]))):
            raise InferenceError("self-test: a vector depends on the other inputs: nothing will be signed")

    def interrupt(self) -> None:
        """Ends running requests before their next input and refuses later ones."""
        self._interrupted.set()

    def close(self) -> None:
        """Ends what runs; the model is freed with the engine."""
        self.interrupt()

    # ---------------------------------------------------------------- one input

    def _read(self, value: Input) -> list[Any]:
        """Token ids of a text, or the numbers."""
        if self._tokenizer is None:
            if isinstance(value, str):
                raise InferenceError(f"{self.model.name} reads lists of numbers, not texts")
            return list(value)
        if not isinstance(value, str):
            raise InferenceError(f"{self.model.name} reads texts, not numbers")
        ids: list[int] = self._tokenizer.encode(value).ids
        if len(ids) > MAX_TOKENS:
            raise InferenceError(f"an input has {len(ids)} tokens, more than the limit of {MAX_TOKENS}")
        return ids

    def _vector(self, values: list[Any]) -> Vector:
        try:
            found = np.asarray(self._session.run(None, self._feed(values))[0])
        except Exception as error:
            # ONNX Runtime's errors have no common class.
            raise InferenceError(f"ONNX Runtime cannot run {self.model.name}: {error}") from None
        if found.dtype != np.float32 or found.shape[:1] != (1,):
            raise InferenceError(
                f"{self.model.name} gives {found.dtype} of shape {found.shape}, want float32"
            )
        if self.model.chat_template == MEAN_POOLING:
            return _pooled(found[0])
        if found.ndim != 2:
            raise InferenceError(f"{self.model.name} gives the shape {found.shape}, want one vector")
        return np.array(found[0], dtype=np.float32)

    def _feed(self, values: list[Any]) -> dict[str, Any]:
        if self._tokenizer is None:
            return {self._names[0]: np.array([values], dtype=np.float32)}
        known = {
            "input_ids": np.array([values], dtype=np.int64),
            "attention_mask": np.ones((1, len(values)), dtype=np.int64),
            "token_type_ids": np.zeros((1, len(values)), dtype=np.int64),
        }
        return {name: known[name] for name in self._names if name in known}

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise EngineBusy("too many requests wait for the model")
        try:
            with self._turn:
                yield
        finally:
            self._places.release()


def reference_of(engine: OnnxEngine, inputs: Sequence[Input]) -> Reference:
    """What ``engine`` gives here and now: the reference for other machines."""
    rows = [vector_step(i, vector).row_hash for i, vector in enumerate(engine.embed(inputs))]
    return Reference(
        [value if isinstance(value, str) else list(value) for value in inputs],
        ["0x" + row.hex() for row in rows],
    )


def _pooled(rows: Any) -> Vector:
    """Mean of the rows, of length 1. No sum depends on the order in which a machine adds."""
    wide = rows.astype(np.float64)
    total = wide[0].copy()
    for row in wide[1:]:
        total += row
    mean = total / len(wide)
    length = math.sqrt(math.fsum(float(value) * float(value) for value in mean))
    if not length > 0 or not math.isfinite(length):
        raise InferenceError("the model gives a vector without length: nothing is signed")
    return np.asarray(mean / length, dtype=np.float32)


def _session(path: Path) -> tuple[Any, str]:
    try:
        import onnxruntime
    except ImportError as error:
        raise InferenceError(
            f"ONNX Runtime is not installed: {error}", hint="pip install 'zerog[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.use_deterministic_compute = True
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InferenceError(f"ONNX Runtime cannot load {path}: {error}") from None
    return session, onnxruntime.__version__


def _tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise InferenceError(
            f"the tokenizer is not installed: {error}", hint="pip install 'zerog[onnx]'"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise InferenceError(f"{path} is no tokenizer: {error}") from None
    # The file cuts texts and fills them up, as its makers' batches want it.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
