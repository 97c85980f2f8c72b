"""What a slot of the scheduler works on: a generation, or the replay of one.

A sequence is a list of tokens to feed. The scheduler feeds them in order and hands over the logits
that the sequence wants; a generation then appends the token which they choose. The scheduler's
thread produces, the caller's thread takes: hashing and telling the reader never hold back decoding.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import TypeAlias

from zerog.errors import EngineCancelled
from zerog.inference.engines import FinishReason
from zerog.inference.engines.output import GrowingOutput
from zerog.inference.logits import Logits
from zerog.inference.receipt import SamplingParams
from zerog.inference.sampling import choose

MAX_ROWS_WAITING = 64
"""Rows that a sequence may be ahead of its caller (12 MiB at 49,152 tokens); then it pauses."""


class Chosen:
    """A row and the token that it chose, with what the reader may see now; ``token`` -1 in a replay."""

    __slots__ = ("pieces", "row", "token")

    def __init__(self, row: Logits, token: int = -1, pieces: Sequence[bytes] = ()) -> None:
        self.row = row
        self.token = token
        self.pieces = pieces


_Event: TypeAlias = Chosen | BaseException | None


class Slotted:
    """Base of both kinds.

    Parameters
    ----------
    tokens : what is to be fed, so far.
    first_row : position from which on the logits are wanted.
    cancelled : ends the sequence when set.

    Attributes
    ----------
    fed : tokens that the model has read; only the scheduler changes it.
    """

    def __init__(self, tokens: list[int], first_row: int, cancelled: threading.Event | None) -> None:
        self.tokens = tokens
        self.first_row = first_row
        self.fed = 0
        self._cancelled = cancelled
        self._abandoned = False
        self._events: SimpleQueue[_Event] = SimpleQueue()
        # Each counter has one writer: the scheduler's thread, the caller's thread.
        self._given = 0
        self._taken = 0

    # ---------------------------------------------------------------- the scheduler's side

    @property
    def left(self) -> int:
        """Tokens that are known and not fed."""
        return len(self.tokens) - self.fed

    @property
    def wants_to_run(self) -> bool:
        """Whether its caller keeps up."""
        return self._given - self._taken < MAX_ROWS_WAITING

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._abandoned or (self._cancelled is not None and self._cancelled.is_set())

    def accept(self, row: Logits) -> None:
        """Takes the next wanted row.

        Raises
        ------
        InferenceError : nothing can be chosen from it.
        """
        self._give(Chosen(row))

    def finish(self, error: BaseException | None = None) -> None:
        """Tells the caller that no row follows, and why if it is an error."""
        self._events.put(error)

    def _give(self, chosen: Chosen) -> None:
        self._given += 1
        self._events.put(chosen)

    # ---------------------------------------------------------------- the caller's side

    def take(self, wake: Callable[[], None]) -> Iterator[Chosen]:
        """Rows as they come, to the end; ``wake`` is called when a paused sequence may go on.

        Raises
        ------
        EngineCancelled, InferenceError : the sequence ended early.
        """
        while (event := self._events.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            self._taken += 1
            if self._given - self._taken == MAX_ROWS_WAITING - 1:
                wake()
            if self._cancelled is not None and self._cancelled.is_set():
                raise cancelled()
            yield event

    def abandon(self) -> None:
        """The caller does not want the rest."""
        self._abandoned = True


class Replaying(Slotted):
    """Feeds known tokens; gives the rows from ``first_row`` on."""


class Generating(Slotted):
    """Chooses tokens until the answer ends.

    Parameters
    ----------
    prompt : tokens of the prompt.
    params, stops : what the request asks for.
    ending : tokens that end an answer.
    piece : bytes of a token.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        params: SamplingParams,
        stops: Sequence[bytes],
        *,
        ending: frozenset[int],
        piece: Callable[[int], bytes],
        cancelled: threading.Event | None = None,
    ) -> None:
        super().__init__(list(prompt), len(prompt) - 1, cancelled)
        self._params = params
        self._ending = ending
        self._piece = piece
        self._told: list[bytes] = []
        self._growing = GrowingOutput(stops, self._told.append)
        self._count = 0
        self.output = b""
        self.finish_reason: FinishReason | None = None

    def accept(self, row: Logits) -> None:
        """Chooses a token; it is fed next unless the answer ends with it."""
        token = choose(row, self._params, self._count, self.tokens)
        self._count += 1
        self.finish_reason = self._reason(token)
        if self.finish_reason is None:
            self.tokens.append(token)
        else:
            self.output = self._growing.finish()
        self._give(Chosen(row, token, self._told.copy()))
        self._told.clear()

    def _reason(self, token: int) -> FinishReason | None:
        if token in self._ending:
            return FinishReason.END_TOKEN
        if self._growing.append(self._piece(token)):
            return FinishReason.STOP_STRING
        return FinishReason.LENGTH if self._count >= self._params.maxTokens else None


def cancelled() -> EngineCancelled:
    """What the caller of a cancelled sequence gets."""
    return EngineCancelled("the generation was cancelled")
