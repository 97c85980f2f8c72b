"""Engines that turn a request into an output, and what every one of them promises."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from zerog.errors import EngineBusy, EngineCancelled
from zerog.inference.receipt import SamplingParams
from zerog.inference.trace import TraceStep

if TYPE_CHECKING:
    from zerog.inference.logits import Logits
    from zerog.inference.models import ModelIdentity

__all__ = ["DeterminismClass", "Engine", "EngineBusy", "EngineCancelled", "FinishReason", "Generation"]


class DeterminismClass(Enum):
    """How receipts of an engine can be compared; values as the registry stores them."""

    EXACT = 1
    TOLERANT = 2
    NATIVE = 3


class FinishReason(Enum):
    """Why a generation ended."""

    END_TOKEN = "end_token"
    STOP_STRING = "stop_string"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer and the commitment to how it came about.

    ``output`` are the bytes for the reader, without the ending token; ``prompt_tokens`` is a count.
    """

    output: bytes
    prompt_tokens: int
    steps: tuple[TraceStep, ...]
    finish: FinishReason

    @property
    def tokens(self) -> list[int]:
        """Ids of the generated tokens, the ending one included."""
        return [step.token for step in self.steps]


class Engine(Protocol):
    """A model ready to answer. Every method may be called from any thread, several at a time."""

    @property
    def description(self) -> str:
        """ASCII string whose keccak256 is the engine id."""

    @property
    def determinism(self) -> DeterminismClass:
        """How its receipts can be compared."""

    @property
    def model(self) -> ModelIdentity:
        """What the model id is made of."""

    @property
    def model_id(self) -> bytes:
        """Identity of the model that it runs."""

    def generate(
        self,
        request: bytes,
        params: SamplingParams,
        stop_strings: Sequence[str] = (),
        *,
        on_text: Callable[[bytes], None] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Generation:
        """Answers a request; returns when the answer is complete.

        Parameters
        ----------
        on_text : gets the output in pieces as they become certain: whole UTF-8 characters, never a
            part of a stop string; together they are ``Generation.output``. Called in the thread of
            the caller, so a slow reader holds back nobody else. What it raises ends the generation.
        cancelled : once it is set the generation ends within a token's time.

        Raises
        ------
        EngineBusy : the bounded queue is full.
        EngineCancelled : ``cancelled`` was set, or the engine was interrupted.
        InferenceError : request or parameters cannot be served, or a logit is not finite.
        """

    def replay(self, request: bytes, tokens: Sequence[int], first: int = 0) -> Iterator[Logits]:
        """The logit rows behind ``tokens[first:]``, computed by feeding prompt and tokens at once.

        Closing the iterator early frees what it holds.
        """

    def prompt_tokens(self, request: bytes) -> list[int]:
        """Ids of the tokens that the model reads for a request."""

    def ending(
        self, tokens: Sequence[int], params: SamplingParams, stop_strings: Sequence[str]
    ) -> tuple[bytes, FinishReason] | None:
        """Output and reason when a generation of ``tokens`` ends here; ``None`` when it goes on.

        Raises
        ------
        InferenceError : a token is outside the vocabulary.
        """

    def interrupt(self) -> None:
        """Makes running generations fail within a token's time, from any thread; for shutting down."""

    def close(self) -> None:
        """Frees the model."""
