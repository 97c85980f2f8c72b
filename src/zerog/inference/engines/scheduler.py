"""Continuous batching: many sequences through one context, each exactly as if it were alone.

One thread owns the context. A step is one decode call of at most 32 rows: every sequence in a slot
gets a row, what is left goes in equal shares to those that have more to read. So an answer grows by
a token in each step however long a prompt beside it is, and no prompt waits for another to end.
While answers grow, prompts and replays together get at most `BULK_BESIDE_ANSWERS` rows of a step
(or one each): a batch of 32 rows takes as long as 20 tokens of an answer, one of eight costs the
reading an eighth of its speed.
Sequences that find no slot wait in a bounded queue, first come, first served.

In the settings of the exact class a row does not depend on its neighbours in the batch, on the
slot, or on how a prompt was cut: tests/inference/test_engine_concurrency.py compares the bits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zerog.errors import EngineBusy, EngineCancelled, InferenceError
from zerog.inference.engines.llama_context import BATCH, Row
from zerog.inference.engines.sequences import Slotted, cancelled
from zerog.inference.logits import Logits

BULK_BESIDE_ANSWERS = 8
"""Rows of a step for prompts and replays while an answer waits for its next token."""
_LOOK_AGAIN = 0.2
"""Seconds between looks at sequences that nobody can run."""


class Context(Protocol):
    """What a scheduler needs of a context; `LlamaContext` is the implementation."""

    def decode(self, rows: Sequence[Row], threads: int = 1) -> None: ...
    def logits(self, index: int) -> Logits: ...
    def forget(self, slot: int, position: int = 0) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine is: sequences in slots, in the queue, and the limits of both."""

    running: int
    waiting: int
    slots: int
    max_waiting: int


class Scheduler:
    """See the module's docstring.

    Parameters
    ----------
    context : has ``slots`` slots; belongs to the scheduler from now on.
    max_waiting : sequences that may wait for a slot.
    prefill_threads : threads for a batch that belongs to one sequence.
    """

    def __init__(self, context: Context, slots: int, max_waiting: int, prefill_threads: int = 1) -> None:
        self._context = context
        self._max_waiting = max_waiting
        self._prefill_threads = prefill_threads
        self._slots: list[Slotted | None] = [None] * slots
        self._waiting: deque[Slotted] = deque()
        self._refusal: InferenceError | None = None
        self._closing = False
        self._turn = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="zerog-engine", daemon=True)
        self._started = False

    @property
    def load(self) -> Load:
        """How busy it is now."""
        with self._changed:
            running = sum(sequence is not None for sequence in self._slots)
            return Load(running, len(self._waiting), len(self._slots), self._max_waiting)

    def submit(self, sequence: Slotted) -> None:
        """Queues a sequence.

        Raises
        ------
        EngineBusy : the queue is full.
        EngineCancelled : the scheduler was interrupted.
        InferenceError : it failed or is closed.
        """
        with self._changed:
            if self._refusal is not None:
                raise _again(self._refusal)
            if len(self._waiting) >= self._max_waiting + self._slots.count(None):
                raise EngineBusy(
                    f"{len(self._waiting)} requests wait already, the limit is {self._max_waiting}",
                    hint="try again later",
                )
            self._waiting.append(sequence)
            if not self._started:
                self._started = True
                self._thread.start()
            self._changed.notify()

    def wake(self) -> None:
        """Makes the thread look again at what its sequences want."""
        with self._changed:
            self._changed.notify()

    def interrupt(self) -> None:
        """Ends every sequence with `EngineCancelled` after the current step and refuses new ones."""
        with self._changed:
            self._refusal = self._refusal or EngineCancelled("the engine was interrupted")
            self._changed.notify()

    def close(self) -> None:
        """Ends everything and frees the context."""
        with self._changed:
            self._refusal = self._refusal or EngineCancelled("the engine was closed")
            self._closing = True
            self._changed.notify()
        if self._started:
            self._thread.join()
        self._context.close()

    # ---------------------------------------------------------------- the thread

    def _run(self) -> None:
        try:
            while self._await_work():
                self._step()
        except BaseException as error:
            # A fault of this module, not of a request: nobody may wait for ever because of it.
            with self._changed:
                self._refusal = InferenceError(f"the engine failed: {type(error).__name__}: {error}")
                self._end_all(self._refusal)
            raise

    def _await_work(self) -> bool:
        """Sleeps until a step is possible; frees and fills slots. False when the scheduler closes."""
        with self._changed:
            while True:
                if self._refusal is not None:
                    self._end_all(self._refusal)
                    if self._closing:
                        return False
                self._drop_cancelled()
                self._fill_slots()
                if any(sequence.wants_to_run for sequence in self._running().values()):
                    return True
                # A caller may cancel without waking this thread, while every slot waits for its reader.
                idle = not self._waiting and not self._running()
                self._changed.wait(None if idle else _LOOK_AGAIN)

    def _running(self) -> dict[int, Slotted]:
        return {slot: sequence for slot, sequence in enumerate(self._slots) if sequence is not None}

    def _end_all(self, error: InferenceError) -> None:
        for slot, sequence in self._running().items():
            self._release(slot)
            sequence.finish(_again(error))
        while self._waiting:
            self._waiting.popleft().finish(_again(error))

    def _drop_cancelled(self) -> None:
        for slot, sequence in self._running().items():
            if sequence.is_cancelled:
                self._release(slot)
                sequence.finish(cancelled())
        if any(sequence.is_cancelled for sequence in self._waiting):
            for sequence in self._waiting:
                if sequence.is_cancelled:
                    sequence.finish(cancelled())
            self._waiting = deque(sequence for sequence in self._waiting if not sequence.is_cancelled)

    def _fill_slots(self) -> None:
        for slot, sequence in enumerate(self._slots):
            if sequence is None and self._waiting:
                self._slots[slot] = self._waiting.popleft()

    def _release(self, slot: int) -> None:
        self._slots[slot] = None
        self._context.forget(slot)

    def _step(self) -> None:
        ready = {slot: sequence for slot, sequence in self._running().items() if sequence.wants_to_run}
        shares = self._shares({slot: sequence.left for slot, sequence in ready.items()})
        parts = {slot: _rows(slot, ready[slot], count) for slot, count in shares.items()}
        threads = self._prefill_threads if len(parts) == 1 else 1
        try:
            self._context.decode([row for part in parts.values() for row in part], threads)
        except InferenceError as error:
            self._step_one_by_one(ready, parts, error)
            return
        index = 0
        for slot, part in parts.items():
            self._take_rows(slot, ready[slot], part, index)
            index += len(part)

    def _step_one_by_one(
        self, ready: dict[int, Slotted], parts: dict[int, list[Row]], error: InferenceError
    ) -> None:
        """After a failed call: each sequence again on its own, so that only the guilty one fails."""
        for slot, part in parts.items():
            sequence = ready[slot]
            if len(parts) > 1:
                try:
                    self._context.forget(slot, sequence.fed)
                    self._context.decode(part)
                except InferenceError as own:
                    self._end(slot, sequence, own)
                else:
                    self._take_rows(slot, sequence, part, 0)
            else:
                self._end(slot, sequence, error)

    def _take_rows(self, slot: int, sequence: Slotted, part: list[Row], index: int) -> None:
        sequence.fed += len(part)
        try:
            for offset, row in enumerate(part):
                if row.wanted:
                    sequence.accept(self._context.logits(index + offset))
        except Exception as error:
            self._end(slot, sequence, error)
            return
        if sequence.left == 0:
            self._end(slot, sequence, None)

    def _end(self, slot: int, sequence: Slotted, error: Exception | None) -> None:
        with self._changed:
            self._release(slot)
        sequence.finish(error)

    def _shares(self, left: dict[int, int]) -> dict[int, int]:
        """Rows of the next batch for each slot: one each, the rest in equal shares.

        Who comes first, and so gets an odd row, changes with every step.
        """
        slots = sorted(left)
        self._turn += 1
        turn = self._turn % len(slots)
        order = slots[turn:] + slots[:turn]
        shares = dict.fromkeys(order, 0)
        answers = sum(rows == 1 for rows in left.values())
        room = BATCH if not answers else min(BATCH, answers + max(BULK_BESIDE_ANSWERS, len(slots) - answers))
        while room:
            hungry = [slot for slot in order if shares[slot] < left[slot]]
            if not hungry:
                break
            each = max(1, room // len(hungry))
            for slot in hungry:
                given = min(each, left[slot] - shares[slot], room)
                shares[slot] += given
                room -= given
        return shares


def _again(error: InferenceError) -> InferenceError:
    """An equal error, so that two threads never raise the same object."""
    return type(error)(error.message, hint=error.hint)


def _rows(slot: int, sequence: Slotted, count: int) -> list[Row]:
    """The next ``count`` rows of a sequence."""
    return [
        Row(sequence.tokens[position], position, slot, position >= sequence.first_row)
        for position in range(sequence.fed, sequence.fed + count)
    ]
