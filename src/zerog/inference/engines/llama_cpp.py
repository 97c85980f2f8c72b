"""llama.cpp in this process, in the settings whose results repeat bit for bit.

Source: specification of Proof-of-Inference, "Determinism of llama.cpp on CPU". Flash attention on,
micro-batches of at most 32, f16 KV cache, decoding on one thread: then a single prefill reproduces
every row of a decode, which is what makes audits cheap. Any other setting is another engine id.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zerog.contracts import ENGINES
from zerog.errors import ContextExceeded, InferenceError
from zerog.inference.engines import DeterminismClass, EngineCancelled, FinishReason, Generation
from zerog.inference.engines.output import GrowingOutput, check_stop_strings
from zerog.inference.logits import Logits, trace_step
from zerog.inference.models import DEFAULT_MODEL, id_of
from zerog.inference.prompt import prompt_text
from zerog.inference.receipt import SamplingParams
from zerog.inference.sampling import check_params, choose
from zerog.inference.trace import TraceStep

CONTEXT = 2048
"""Tokens of prompt and answer together."""
BATCH = 32
_FLASH_ATTENTION_ON = 1
_KV_F16 = 1
_SEQUENCE = 0
_SUPPORTED_VERSION = "0.2.18"


class LlamaCppEngine:
    """SmolLM2-135M-Instruct through the ``cyllama`` wheel, class *exact*.

    Parameters
    ----------
    weights : path of the GGUF file; the caller has verified its hash (`zerog.inference.weights`).
    """

    description = ENGINES[0].name
    determinism = DeterminismClass.EXACT
    context_length = CONTEXT

    def __init__(self, weights: Path) -> None:
        llama = _import_cyllama()
        self._llama = llama
        self._lock = threading.Lock()
        self._interrupted = threading.Event()
        self._model = _load(llama, weights)
        self._vocabulary = self._model.get_vocab()
        self._context = llama.LlamaContext(self._model, _context_params(llama), False)
        self._batch = llama.LlamaBatch(n_tokens=BATCH, embd=0, n_seq_max=1)
        size = self._vocabulary.n_vocab
        self._control = [self._vocabulary.get_text(t) for t in range(size) if self._vocabulary.is_control(t)]
        self._ending = frozenset(t for t in range(size) if self._vocabulary.is_eog(t))
        self.model = DEFAULT_MODEL
        self.model_id = id_of(self.model)

    def prompt_tokens(self, request: bytes) -> list[int]:
        """Ids of the tokens that the model reads for a request."""
        tokens: list[int] = self._vocabulary.tokenize(prompt_text(request, self._control), False, True)
        return tokens

    def generate(
        self,
        request: bytes,
        params: SamplingParams,
        stop_strings: Sequence[str] = (),
        *,
        on_text: Callable[[bytes], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Generation:
        """Answers a request; see `Engine.generate`."""
        check_params(params)
        growing = GrowingOutput(check_stop_strings(stop_strings), on_text)
        prompt = self.prompt_tokens(request)
        if len(prompt) + params.maxTokens > CONTEXT:
            raise ContextExceeded(len(prompt), params.maxTokens, CONTEXT)
        with self._lock:
            return self._generate(prompt, params, growing, cancelled)

    def replay(self, request: bytes, tokens: Sequence[int], first: int = 0) -> Iterator[Logits]:
        """The rows that chose ``tokens[first:]``, by one prefill; see `Engine.replay`.

        Raises
        ------
        InferenceError : a token id is outside the vocabulary or the whole exceeds the context.
        """
        self._require_known(tokens)
        prompt = self.prompt_tokens(request)
        if len(prompt) + len(tokens) > CONTEXT:
            raise InferenceError(f"{len(prompt) + len(tokens)} tokens exceed the context of {CONTEXT}")
        if first >= len(tokens):
            return
        with self._lock:
            self._context.kv_cache_clear()
            # The row at position i chooses token i + 1: the last token's own row is not needed.
            yield from self._prefill([*prompt, *tokens[:-1]], first_row=len(prompt) + first - 1)

    def ending(
        self, tokens: Sequence[int], params: SamplingParams, stop_strings: Sequence[str]
    ) -> tuple[bytes, FinishReason] | None:
        """Output and reason when a generation of ``tokens`` ends here; see `Engine.ending`."""
        self._require_known(tokens[-1:])
        if tokens[-1] in self._ending:
            return self._text(tokens[:-1]), FinishReason.END_TOKEN
        growing = GrowingOutput(check_stop_strings(stop_strings))
        if stop_strings and growing.append(self._text(tokens)):
            return growing.finish(), FinishReason.STOP_STRING
        if len(tokens) >= params.maxTokens:
            return self._text(tokens), FinishReason.LENGTH
        return None

    def interrupt(self) -> None:
        """Ends a running generation with an error and refuses later ones; see `Engine.interrupt`."""
        self._interrupted.set()

    def close(self) -> None:
        """Frees context and model."""
        with self._lock:
            self._batch.close()
            self._context.close()
            self._model.close()

    def _generate(
        self,
        prompt: list[int],
        params: SamplingParams,
        growing: GrowingOutput,
        cancelled: threading.Event | None,
    ) -> Generation:
        self._context.kv_cache_clear()
        (row,) = self._prefill(prompt, first_row=len(prompt) - 1)
        context = list(prompt)
        steps: list[TraceStep] = []
        while True:
            if cancelled is not None and cancelled.is_set():
                raise EngineCancelled("the generation was cancelled")
            token = choose(row, params, len(steps), context)
            steps.append(trace_step(token, row))
            context.append(token)
            if (reason := self._reason(token, len(steps), params, growing)) is not None:
                return Generation(growing.finish(), len(prompt), tuple(steps), reason)
            row = self._decode_one(token, len(context) - 1)

    def _reason(
        self, token: int, count: int, params: SamplingParams, growing: GrowingOutput
    ) -> FinishReason | None:
        """Why a generation ends with its ``count``-th token, or ``None``; the output grows by it."""
        if token in self._ending:
            return FinishReason.END_TOKEN
        if growing.append(self._piece(token)):
            return FinishReason.STOP_STRING
        return FinishReason.LENGTH if count >= params.maxTokens else None

    def _prefill(self, tokens: Sequence[int], first_row: int) -> Iterator[Logits]:
        """Feeds tokens from position 0 in full batches; yields the rows from position ``first_row`` on."""
        for start in range(0, len(tokens), BATCH):
            chunk = tokens[start : start + BATCH]
            self._batch.clear()
            for offset, token in enumerate(chunk):
                self._batch.add(token, start + offset, [_SEQUENCE], start + offset >= first_row)
            self._decode()
            for offset in range(len(chunk)):
                if start + offset >= first_row:
                    yield self._row(offset)

    def _decode_one(self, token: int, position: int) -> Logits:
        self._batch.clear()
        self._batch.add(token, position, [_SEQUENCE], True)
        self._decode()
        return self._row(0)

    def _decode(self) -> None:
        if self._interrupted.is_set():
            raise EngineCancelled("the engine was interrupted")
        try:
            self._context.decode(self._batch)
        except (ValueError, RuntimeError, InterruptedError) as error:
            raise InferenceError(f"llama.cpp failed: {error}") from error

    def _row(self, index: int) -> Logits:
        return np.array(self._context.get_logits_ith(index), dtype=np.float32)

    def _require_known(self, tokens: Sequence[int]) -> None:
        # llama.cpp itself does not check: a foreign id would read outside its tables.
        size = self._vocabulary.n_vocab
        if unknown := [token for token in tokens if not 0 <= token < size]:
            raise InferenceError(f"token {unknown[0]} is outside the vocabulary of {size}")

    def _text(self, tokens: Sequence[int]) -> bytes:
        self._require_known(tokens)
        return b"".join(map(self._piece, tokens))

    def _piece(self, token: int) -> bytes:
        text: str = self._vocabulary.get_text(token)
        if self._vocabulary.is_control(token):
            return b""
        try:
            return bytes(_BYTE_OF[character] for character in text)
        except KeyError:
            return text.encode()


def default_threads(cores: int | None) -> int:
    """Threads for prefill: all cores but one. With every core busy, generation collapses."""
    return max(1, (cores or 1) - 1)


def _import_cyllama() -> Any:
    try:
        import cyllama
        from cyllama.llama import llama_cpp
    except ImportError as error:
        raise InferenceError(
            f"the embedded engine is not installed: {error}", hint="pip install 'zerog[inference]'"
        ) from None
    version = getattr(cyllama, "__version__", _SUPPORTED_VERSION)
    if version != _SUPPORTED_VERSION:
        raise InferenceError(
            f"cyllama {version} is another engine than the declared {_SUPPORTED_VERSION}",
            hint=f"pip install cyllama=={_SUPPORTED_VERSION}",
        )
    llama_cpp.disable_logging()
    return llama_cpp


def _load(llama: Any, weights: Path) -> Any:
    if not weights.is_file():
        raise InferenceError(f"there are no weights at {weights}", hint="run: zerog infer fetch")

    # cyllama 0.2.18 reads model.n_vocab in get_logits_ith, an attribute that its model class lacks.
    class ModelWithVocabularySize(llama.LlamaModel):  # type: ignore[misc]
        n_vocab = 0

    params = llama.LlamaModelParams()
    params.n_gpu_layers = 0
    try:
        model = ModelWithVocabularySize(str(weights), params, False)
    except (ValueError, RuntimeError, OSError) as error:
        raise InferenceError(f"llama.cpp cannot load {weights}: {error}") from error
    ModelWithVocabularySize.n_vocab = model.get_vocab().n_vocab
    return model


def _context_params(llama: Any) -> Any:
    params = llama.LlamaContextParams()
    params.n_ctx = CONTEXT
    params.n_batch = BATCH
    params.n_ubatch = BATCH
    params.n_seq_max = 1
    params.flash_attn_type = _FLASH_ATTENTION_ON
    params.type_k = _KV_F16
    params.type_v = _KV_F16
    params.n_threads = 1
    params.n_threads_batch = default_threads(os.cpu_count())
    return params


def _byte_of_character() -> dict[str, int]:
    """The printable stand-ins that GPT-2's byte-level vocabulary uses, back to bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_of_character()
