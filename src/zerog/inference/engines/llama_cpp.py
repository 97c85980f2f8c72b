"""llama.cpp in this process, in the settings whose results repeat bit for bit.

Source: specification of Proof-of-Inference, "Determinism of llama.cpp on CPU". Flash attention on,
micro-batches of at most 32, f16 KV cache, decoding on one thread: then a single prefill reproduces
every row of a decode, which is what makes audits cheap, and a row is the same whether its sequence
is alone or one of eight. Any other setting is another engine id::

    engine = LlamaCppEngine(fetch(SMOLLM2))
    engine.generate(b"What is a blockchain?", SamplingParams(maxTokens=40), on_text=print).output
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zerog.contracts import ENGINES
from zerog.contracts.genesis import CHATML
from zerog.errors import ContextExceeded, InferenceError
from zerog.inference.chat_template import ChatTemplate
from zerog.inference.engines import DeterminismClass, FinishReason, Generation
from zerog.inference.engines.llama_context import LlamaContext, LlamaModel
from zerog.inference.engines.output import GrowingOutput, check_stop_strings
from zerog.inference.engines.scheduler import Context, Load, Scheduler
from zerog.inference.engines.sequences import Chosen, Generating, Replaying, Slotted
from zerog.inference.logits import HASHED_TOGETHER, Logits, trace_steps
from zerog.inference.models import DEFAULT_MODEL, ModelIdentity, id_of
from zerog.inference.prompt import Turn, prompt_text
from zerog.inference.receipt import SamplingParams
from zerog.inference.sampling import check_params
from zerog.inference.trace import TraceStep
from zerog.inference.weights_check import require_root, stamp_of

CONTEXT = 2048
"""Tokens of prompt and answer together."""
MAX_SLOTS = 8
KV_MEMORY = 192 << 20
"""Bytes that the KV caches of all slots may take, if that leaves at least one slot."""
MAX_WAITING = 64
"""Requests that may wait for a slot."""


class LlamaCppEngine:
    """A llama-architecture GGUF through the ``cyllama`` wheel, class *exact*.

    Parameters
    ----------
    weights : path of the GGUF file.
    model : what the file is; its chat template makes the prompts.
    unchecked : take the file without looking whether it is the model's. For experiments that pretend.
    slots : sequences at a time; by default as many as fit `KV_MEMORY`, at most `MAX_SLOTS`.
    max_waiting : requests that may wait for a slot before `EngineBusy`.
    prefill_threads : threads for reading one sequence; by default `default_threads`.

    Raises
    ------
    InferenceError : the wheel is missing or another one, the file is not the model's weights, or it
        cannot be loaded.
    """

    description = ENGINES[0].name
    determinism = DeterminismClass.EXACT

    def __init__(
        self,
        weights: Path,
        model: ModelIdentity = DEFAULT_MODEL,
        *,
        slots: int | None = None,
        max_waiting: int = MAX_WAITING,
        prefill_threads: int | None = None,
        unchecked: bool = False,
    ) -> None:
        self.model = model
        self.model_id = id_of(model)
        stamp = None if unchecked else require_root(weights, model.weights_root, model.name)
        self._weights = LlamaModel(weights)
        if stamp is not None and stamp_of(weights) != stamp:
            self._weights.close()
            raise InferenceError(f"{weights} was changed while it was loaded")
        self._render = self._renderer(model.chat_template)
        self.context_length = min(CONTEXT, self._weights.trained_context)
        count = slots or slots_within(KV_MEMORY, self._weights.bytes_of_a_token * self.context_length)
        self._scheduler = Scheduler(
            self._open_context(count), count, max_waiting, prefill_threads or default_threads(os.cpu_count())
        )

    @property
    def load(self) -> Load:
        """Requests that run and wait now."""
        return self._scheduler.load

    @property
    def reads_memory(self) -> bool:
        """Whether logit rows are read from llama.cpp's memory; see `row_memory`."""
        return self._direct

    def prompt_tokens(self, request: bytes) -> list[int]:
        """Ids of the tokens that the model reads for a request."""
        tokens = self._weights.tokens_of(prompt_text(request, self._weights.control_texts, self._render))
        begin = self._weights.begin
        # As llama.cpp's own programs: a vocabulary that wants it gets it, once.
        return tokens if begin is None or tokens[:1] == [begin] else [begin, *tokens]

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
        stops = check_stop_strings(stop_strings)
        prompt = self.prompt_tokens(request)
        if len(prompt) + params.maxTokens > self.context_length:
            raise ContextExceeded(len(prompt), params.maxTokens, self.context_length)
        sequence = Generating(
            prompt,
            params,
            stops,
            ending=self._weights.ending,
            piece=self._weights.piece,
            cancelled=cancelled,
        )
        steps: list[TraceStep] = []
        pending: list[Chosen] = []
        for chosen in self._rows_of(sequence):
            pending.append(chosen)
            if len(pending) == HASHED_TOGETHER:
                steps += _committed(pending)
            if on_text is not None:
                for piece in chosen.pieces:
                    on_text(piece)
        steps += _committed(pending)
        assert sequence.finish_reason is not None
        return Generation(sequence.output, len(prompt), tuple(steps), sequence.finish_reason)

    def replay(self, request: bytes, tokens: Sequence[int], first: int = 0) -> Iterator[Logits]:
        """The rows that chose ``tokens[first:]``, by one prefill; see `Engine.replay`.

        Raises
        ------
        ContextExceeded : prompt and tokens are more than the model can read.
        InferenceError : a token id is outside the vocabulary, or ``first`` is negative.
        """
        self._weights.require_known(tokens)
        if first < 0:
            raise InferenceError(f"a replay cannot begin at leaf {first}")
        prompt = self.prompt_tokens(request)
        if len(prompt) + len(tokens) > self.context_length:
            raise ContextExceeded(len(prompt), len(tokens), self.context_length)
        if first >= len(tokens):
            return
        # The row at position i chooses token i + 1: the last token's own row is not needed.
        sequence = Replaying([*prompt, *tokens[:-1]], len(prompt) + first - 1, None)
        for chosen in self._rows_of(sequence):
            yield chosen.row

    def ending(
        self, tokens: Sequence[int], params: SamplingParams, stop_strings: Sequence[str]
    ) -> tuple[bytes, FinishReason] | None:
        """Output and reason when a generation of ``tokens`` ends here; see `Engine.ending`."""
        # Only the last: whoever looks for the end asks for every prefix.
        self._weights.require_known(tokens[-1:])
        if tokens[-1] in self._weights.ending:
            return self._text(tokens[:-1]), FinishReason.END_TOKEN
        if stop_strings and (cut := self._stop_in_last(tokens, check_stop_strings(stop_strings))):
            return self._text(tokens)[:-cut], FinishReason.STOP_STRING
        return (self._text(tokens), FinishReason.LENGTH) if len(tokens) >= params.maxTokens else None

    def interrupt(self) -> None:
        """Ends running generations with `EngineCancelled` and refuses later ones."""
        self._scheduler.interrupt()

    def close(self) -> None:
        """Ends what runs, then frees context and model."""
        self._scheduler.close()
        self._weights.close()

    def _renderer(self, template: str) -> Callable[[Sequence[Turn]], str] | None:
        """What makes the prompts; bare ChatML needs no Jinja."""
        if template == CHATML:
            return None
        begin, end = self._weights.frame()
        chat = ChatTemplate(template)
        return lambda turns: chat.render(turns, bos=begin, eos=end)

    def _open_context(self, slots: int) -> Context:
        context = LlamaContext(self._weights, slots, self.context_length)
        self._direct = context.reads_memory
        return context

    def _rows_of(self, sequence: Slotted) -> Iterator[Chosen]:
        self._scheduler.submit(sequence)
        try:
            yield from sequence.take(self._scheduler.wake)
        finally:
            # Whatever ended the loop: nobody computes for a caller that has gone.
            sequence.abandon()
            self._scheduler.wake()

    def _stop_in_last(self, tokens: Sequence[int], stops: Sequence[bytes]) -> int:
        """Bytes from the first stop string that the last token completes to the end; 0 without one.

        Looks only as far back as a stop string can reach: whoever looks for the end asks for every prefix.
        """
        last = self._weights.piece(tokens[-1])
        reach = max(map(len, stops)) - 1
        before = b""
        for token in reversed(tokens[:-1]):
            if len(before) >= reach:
                break
            self._weights.require_known([token])
            before = self._weights.piece(token) + before
        growing = GrowingOutput(stops)
        growing.append(before)
        return len(before) + len(last) - len(growing.finish()) if growing.append(last) else 0

    def _text(self, tokens: Sequence[int]) -> bytes:
        self._weights.require_known(tokens)
        return b"".join(map(self._weights.piece, tokens))


def _committed(pending: list[Chosen]) -> list[TraceStep]:
    """The steps of what is pending, which is empty afterwards."""
    steps = trace_steps([chosen.token for chosen in pending], [chosen.row for chosen in pending])
    pending.clear()
    return steps


def default_threads(cores: int | None) -> int:
    """Threads for prefill: all cores but one. With every core busy, generation collapses."""
    return max(1, (cores or 1) - 1)


def slots_within(memory: int, slot_size: int) -> int:
    """Slots of ``slot_size`` bytes that fit ``memory`` bytes: 1 to `MAX_SLOTS`."""
    return min(MAX_SLOTS, max(1, memory // slot_size))
