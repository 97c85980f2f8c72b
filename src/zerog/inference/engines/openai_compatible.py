"""A model behind any OpenAI-compatible server: vLLM, llama-server, Ollama, a hosted API. Class *tolerant*.

What the server computes cannot be repeated bit for bit here, so its log-probabilities take the place of
logit rows: eight a token, with a row hash of zero, and the engine's description says
``logprobs=reported``. Such a trace is evidence of distance only (`zerog.inference.tolerance`), never
compared as exact. A server without log-probabilities gets no trace and its description says
``logprobs=none``: a receipt over its answers is worth a signature, nothing more.

Every word of the server is checked before anything is signed::

    engine = OpenAICompatibleEngine(
        endpoint("http://127.0.0.1:8000/v1", key_of(variable="UPSTREAM_KEY")),
        "smollm2", identity, vocabulary=GgufVocabulary(path),
    )
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from zerog.contracts.genesis import CHATML
from zerog.errors import (
    ConfigError,
    EngineBusy,
    EngineCancelled,
    InferenceError,
    UpstreamError,
    UpstreamLied,
    UpstreamMalformed,
    UpstreamRefused,
    UpstreamUnavailable,
)
from zerog.inference.engines import DeterminismClass, FinishReason, Generation
from zerog.inference.engines.output import GrowingOutput, check_stop_strings, incomplete_tail
from zerog.inference.engines.upstream_answer import Event, TokenReader, Usage, Vocabulary, decode_event
from zerog.inference.engines.upstream_http import Endpoint, Limits, exchange, quote
from zerog.inference.models import ModelIdentity, id_of
from zerog.inference.prompt import parse_request, render_chatml
from zerog.inference.receipt import GREEDY, SamplingParams
from zerog.inference.sampling import check_params
from zerog.inference.trace import PAIRS, TraceStep
from zerog.inference.verification import TOLERANT_PREFIX

if TYPE_CHECKING:
    from zerog.inference.logits import Logits

MAX_OUTPUT = 1 << 20
"""Bytes of an answer."""
_RETRIED = frozenset({429, 502, 503, 504})
_FIRST_PAUSE = 0.2
_SERVERS = {"llamacpp": "llama-server", "vllm": "vllm", "library": "ollama"}
"""What the list of models calls its owner, by server."""
_EXTRAS: dict[str, dict[str, Any]] = {
    # Anything but plain greedy decoding would choose other tokens than the log-probabilities do.
    "llama-server": {
        "cache_prompt": False,
        "repeat_penalty": 1.0,
        "top_k": 1,
        "min_p": 0.0,
        "stream_options": {"include_usage": True},
    },
    "vllm": {
        "return_tokens_as_token_ids": True,
        "repetition_penalty": 1.0,
        "stream_options": {"include_usage": True},
    },
    "ollama": {"stream_options": {"include_usage": True}},
    "other": {"stream_options": {"include_usage": True}},
}


class OpenAICompatibleEngine:
    """See the module's docstring.

    Parameters
    ----------
    target : the server and its key (`upstream_http.endpoint`).
    served : name of the model as the server knows it.
    identity : what the model is; its id is what receipts name. Its chat template decides the route: bare
        ChatML with a known vocabulary is rendered here and sent as tokens, anything else goes to the
        server's chat route, which applies its own template.
    vocabulary : tokens of the model. Without it tokens must come with their numbers.
    trace : ``False`` leaves log-probabilities out even where the server has them.
    limits : bounds of one exchange.
    concurrency, queue : requests at the server at a time, and requests that may wait here.
    retries : further attempts when the server was busy or away and nothing was answered yet.

    Raises
    ------
    UpstreamError : the server does not answer a request for one token as it should.
    """

    determinism = DeterminismClass.TOLERANT

    def __init__(
        self,
        target: Endpoint,
        served: str,
        identity: ModelIdentity,
        *,
        vocabulary: Vocabulary | None = None,
        trace: bool = True,
        limits: Limits | None = None,
        concurrency: int = 8,
        queue: int = 32,
        retries: int = 2,
    ) -> None:
        if not 1 <= concurrency <= 1024 or not 0 <= queue <= 65536 or not 0 <= retries <= 10:
            raise ConfigError(
                f"concurrency = {concurrency}, queue = {queue} or retries = {retries} is out of range"
            )
        self._target = target
        self._served = served
        self._vocabulary = vocabulary
        self._limits = limits or Limits()
        self._slots = _Slots(concurrency, queue)
        self._retries = retries
        self._interrupted = threading.Event()
        self._reader = TokenReader(vocabulary)
        self.model = identity
        self.model_id = id_of(identity)
        self._as_tokens = vocabulary is not None and identity.chat_template == CHATML
        self._server = self._find_server()
        self._traced = trace and self._reports_logprobs()
        self.description = (
            f"{TOLERANT_PREFIX}server={self._server}/prompt={'tokens' if self._as_tokens else 'chat'}"
            f"/sampler=greedy/logprobs={'reported' if self._traced else 'none'}"
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
        """Answers a request; see `Engine.generate`.

        Raises
        ------
        UpstreamError : the server failed or reports something that cannot be true.
        """
        check_params(params)
        if params.sampler != GREEDY:
            raise InferenceError("a model server samples in its own way: only the greedy sampler is served")
        stops = check_stop_strings(stop_strings)
        body = self._body(request, params.maxTokens)

        def over() -> bool:
            return self._interrupted.is_set() or (cancelled is not None and cancelled.is_set())

        with self._slots.taken(over):
            for attempt in range(self._retries + 1):
                growing = _Growing(self, GrowingOutput(stops, on_text), params.maxTokens)
                try:
                    self._read(body, growing, over)
                    return growing.generation(self._prompt_count(request, growing.usage))
                except (UpstreamUnavailable, UpstreamRefused) as error:
                    last = attempt == self._retries or growing.started
                    if last or (isinstance(error, UpstreamRefused) and error.status not in _RETRIED):
                        raise
                    self._pause(_FIRST_PAUSE * 2**attempt, over)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def replay(self, request: bytes, tokens: Sequence[int], first: int = 0) -> Iterator[Logits]:
        """Not possible: a server gives no logits. Tolerant answers are replayed by the embedded engine."""
        raise InferenceError(
            "a model server cannot replay an answer",
            hint="audit it with the embedded engine and the same model",
        )

    def prompt_tokens(self, request: bytes) -> list[int]:
        """Ids of the tokens that the model reads; only where the prompt is made here."""
        if self._vocabulary is None or not self._as_tokens:
            raise InferenceError("the server makes the prompt: its tokens are not known here")
        return self._vocabulary.tokens_of(
            render_chatml(parse_request(request), self._vocabulary.control_texts)
        )

    def ending(
        self, tokens: Sequence[int], params: SamplingParams, stop_strings: Sequence[str]
    ) -> tuple[bytes, FinishReason] | None:
        """Output and reason when a generation of ``tokens`` ends here; see `Engine.ending`."""
        if self._vocabulary is None:
            raise InferenceError("the vocabulary of the model is not known here")
        for token in tokens:
            if not 0 <= token < self._vocabulary.vocabulary_size:
                raise InferenceError(f"token {token} is outside the vocabulary")
        growing = GrowingOutput(check_stop_strings(stop_strings))
        stopped = False
        for token in tokens:
            stopped = token not in self._vocabulary.ending and growing.append(self._vocabulary.piece(token))
        if tokens and tokens[-1] in self._vocabulary.ending:
            return growing.finish(), FinishReason.END_TOKEN
        if stopped:
            return growing.finish(), FinishReason.STOP_STRING
        return (growing.finish(), FinishReason.LENGTH) if len(tokens) >= params.maxTokens else None

    def self_test(self) -> None:
        """Asks for one token again.

        Raises
        ------
        UpstreamError : the server does not answer as it did when this engine was made.
        """
        if self._traced and not self._reports_logprobs():
            raise UpstreamLied("the server has stopped reporting log-probabilities")

    def interrupt(self) -> None:
        """Closes the connections of running generations and refuses later ones."""
        self._interrupted.set()

    def close(self) -> None:
        """Ends what runs; the vocabulary belongs to whoever gave it."""
        self.interrupt()

    # ---------------------------------------------------------------- requests

    def _body(self, request: bytes, max_tokens: int, probe: bool = False) -> bytes:
        body: dict[str, Any] = {
            "model": self._served,
            "max_tokens": max_tokens,
            "temperature": 0,
            "top_p": 1,
            "stream": True,
            **_EXTRAS[self._server],
        }
        wanted = probe or self._traced
        if self._as_tokens:
            body["prompt"] = self.prompt_tokens(request)
            if wanted:
                body["logprobs"] = PAIRS
        else:
            turns = parse_request(request)
            body["messages"] = [{"role": turn.role, "content": turn.content} for turn in turns]
            if wanted:
                body |= {"logprobs": True, "top_logprobs": PAIRS}
        return msgspec.json.encode(body)

    def _read(self, body: bytes, growing: _Growing, over: Callable[[], bool]) -> None:
        path = "completions" if self._as_tokens else "chat/completions"
        with exchange(self._target, "POST", path, body, self._limits, over) as answer:
            for payload in answer.events():
                growing.take(decode_event(payload, self._quote))
                if growing.complete_here:
                    # A stop string, which the server knows nothing of: closing ends its work.
                    return
        growing.close()

    def _prompt_count(self, request: bytes, usage: Usage | None) -> int:
        count = len(self.prompt_tokens(request)) if self._as_tokens else None
        told = usage.prompt_tokens if usage is not None else None
        if count is not None and told not in (None, 0, count):
            raise UpstreamLied(f"the server read {told} prompt tokens, it was sent {count}")
        return count if count is not None else told or 0

    def _quote(self, text: str) -> str:
        return quote(text, self._target.key)

    def _pause(self, seconds: float, over: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if over():
                raise EngineCancelled("the generation was cancelled")
            self._interrupted.wait(min(0.05, seconds))

    # ---------------------------------------------------------------- what kind of server this is

    def _find_server(self) -> str:
        try:
            with exchange(
                self._target, "GET", "models", None, self._limits, self._interrupted.is_set
            ) as answer:
                listed = msgspec.json.decode(answer.body())
        except UpstreamRefused as error:
            if error.status in (404, 405):
                return "other"
            raise
        except msgspec.DecodeError:
            raise UpstreamMalformed("the server's list of models is not JSON") from None
        models = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(models, list):
            raise UpstreamMalformed("the server's list of models has no list in it")
        owners = [model.get("owned_by") for model in models if isinstance(model, dict)]
        return next((_SERVERS[owner] for owner in owners if owner in _SERVERS), "other")

    def _reports_logprobs(self) -> bool:
        """Whether one token comes with log-probabilities that make a step of a trace."""
        body = self._body(b"Hello", 1, probe=True)
        path = "completions" if self._as_tokens else "chat/completions"
        reports = []
        with exchange(self._target, "POST", path, body, self._limits, self._interrupted.is_set) as answer:
            for payload in answer.events():
                reports += decode_event(payload, self._quote).reports
        if not reports:
            return False
        try:
            self._reader.steps(reports[0])
        except UpstreamMalformed:
            # Log-probabilities of tokens that nobody can name are none.
            return False
        return True


class _Growing:
    """An answer while it arrives; everything that it says is checked on arrival."""

    def __init__(self, engine: OpenAICompatibleEngine, output: GrowingOutput, max_tokens: int) -> None:
        self._vocabulary = engine._vocabulary
        self._reader = engine._reader
        self._traced = engine._traced
        self._output = output
        self._max_tokens = max_tokens
        self._steps: list[TraceStep] = []
        self._told = bytearray()
        self._spelled = bytearray()
        self._said: str | None = None
        self._reason: FinishReason | None = None
        self.started = False
        self.complete_here = False
        self.usage: Usage | None = None

    def take(self, event: Event) -> None:
        """Takes an event in."""
        self.started = True
        self.usage = event.usage or self.usage
        if self._said is not None and (event.text or event.reports):
            raise UpstreamLied("the server says that the answer has ended, and goes on")
        self._told += event.text.encode("utf-8", "surrogatepass")
        if len(self._told) > MAX_OUTPUT:
            raise UpstreamMalformed(f"the answer is longer than the limit of {MAX_OUTPUT} bytes")
        if not self._traced:
            self._grow(event.text.encode("utf-8", "replace"))
        else:
            for report in event.reports:
                for step, piece in self._reader.steps(report):
                    self._step(step, piece)
        self._said = event.finish or self._said
        if self._traced and not self.complete_here:
            self._require_same_text()

    def close(self) -> None:
        """The server has ended the stream: what it says about the end must fit."""
        if self._said is None:
            raise UpstreamMalformed("the stream ends without a reason why the answer ended")
        if self._said not in ("stop", "length"):
            raise UpstreamMalformed(f"the answer ended for the unknown reason {self._said[:32]!r}")
        if self._traced:
            self._close_trace()
        elif self._said == "stop":
            self._reason = FinishReason.END_TOKEN
        else:
            self._reason = FinishReason.LENGTH
            if self.usage is not None and 0 < self.usage.completion_tokens < self._max_tokens:
                self._refuse_length(self.usage.completion_tokens)

    def generation(self, prompt_tokens: int) -> Generation:
        """The whole answer."""
        if self._reason is None:
            raise UpstreamMalformed("the answer has no end")
        return Generation(self._output.finish(), prompt_tokens, tuple(self._steps), self._reason)

    def _step(self, step: TraceStep, piece: bytes) -> None:
        if self._reason is not None:
            if self.complete_here:
                return
            raise UpstreamLied(f"the answer ends at token {len(self._steps) - 1}, the server goes on")
        self._steps.append(step)
        if self._vocabulary is not None and step.token in self._vocabulary.ending:
            self._reason = FinishReason.END_TOKEN
            return
        self._grow(piece)
        if self._reason is None and len(self._steps) >= self._max_tokens:
            self._reason = FinishReason.LENGTH

    def _grow(self, piece: bytes) -> None:
        if self._reason is not None:
            return
        self._spelled += piece
        if self._output.append(piece):
            self._reason = FinishReason.STOP_STRING
            self.complete_here = True

    def _require_same_text(self) -> None:
        """Text and tokens may arrive apart, but one must be the beginning of the other."""
        size = min(len(self._told), len(self._spelled))
        if self._told[:size] != self._spelled[:size]:
            at = next(i for i in range(size) if self._told[i] != self._spelled[i])
            raise UpstreamLied(f"the text of the answer differs from its tokens at byte {at}")

    def _close_trace(self) -> None:
        if not self._steps:
            raise UpstreamLied("the server reports no log-probabilities, which it did before")
        missing = self._spelled[len(self._told) :]
        if len(self._told) > len(self._spelled) or incomplete_tail(missing) != len(missing):
            raise UpstreamLied(
                f"the text of the answer has {len(self._told)} bytes, its tokens have {len(self._spelled)}"
            )
        count = len(self._steps)
        if self.usage is not None and self.usage.completion_tokens not in (0, count):
            raise UpstreamLied(
                f"the server reports log-probabilities of {count} tokens and counts {self.usage.completion_tokens}"
            )
        if self._said == "length" and self._reason is not FinishReason.LENGTH:
            self._refuse_length(count)
        if self._said == "stop" and self._reason is not FinishReason.END_TOKEN:
            if self._vocabulary is not None:
                raise UpstreamLied(
                    "the server says that the model ended the answer, but reports no ending token"
                )
            self._reason = FinishReason.END_TOKEN

    def _refuse_length(self, count: int) -> None:
        raise UpstreamLied(
            f"the server ends after {count} of {self._max_tokens} tokens and calls that the limit"
        )


class _Slots:
    """Places at the server, and a bounded number of callers who wait for one."""

    def __init__(self, places: int, queue: int) -> None:
        self._places = threading.Semaphore(places)
        self._room = threading.Semaphore(places + queue)
        self._limit = queue

    @contextmanager
    def taken(self, over: Callable[[], bool]) -> Iterator[None]:
        """A place for as long as the block lasts.

        Raises
        ------
        EngineBusy : too many wait already.
        EngineCancelled : ``over`` became true.
        """
        if over():
            raise EngineCancelled("the generation was cancelled")
        if not self._room.acquire(blocking=False):
            raise EngineBusy(f"{self._limit} requests wait for the model server already")
        try:
            while not self._places.acquire(timeout=0.05):
                if over():
                    raise EngineCancelled("the generation was cancelled")
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._room.release()


__all__ = ["MAX_OUTPUT", "OpenAICompatibleEngine", "UpstreamError"]
