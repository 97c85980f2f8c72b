"""Engines that turn a request into an output, and what every one of them promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from zerog.inference.receipt import SamplingParams
from zerog.inference.trace import TraceStep

if TYPE_CHECKING:
    from zerog.inference.logits import Logits

__all__ = ["DeterminismClass", "Engine", "FinishReason", "Generation"]


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
    """A model ready to answer. Implementations serialise calls themselves."""

    @property
    def description(self) -> str:
        """ASCII string whose keccak256 is the engine id."""

    @property
    def determinism(self) -> DeterminismClass:
        """How its receipts can be compared."""

    @property
    def model_id(self) -> bytes:
        """Identity of the model that it runs."""

    def generate(
        self, request: bytes, params: SamplingParams, stop_strings: Sequence[str] = ()
    ) -> Generation:
        """Answers a request.

        Raises
        ------
        InferenceError : request or parameters cannot be served, or a logit is not finite.
        """

    def replay(self, request: bytes, tokens: Sequence[int]) -> Iterator[Logits]:
        """The logit rows behind ``tokens``, computed by feeding prompt and tokens at once."""

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
        """Makes a running generation fail within a token's time, from any thread; for shutting down."""

    def close(self) -> None:
        """Frees the model."""
