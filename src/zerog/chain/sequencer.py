"""Decides when a devnet makes blocks, and keeps everything that changes the chain in one order.

One thread owns the chain: it makes blocks and runs *turns*, functions that other threads hand over
with `Sequencer.run`. So a snapshot, an edit and a block never interleave, and no lock is needed.
Turns come first: a burst of transactions never starves a control.

::

    sequencer = Sequencer(engine, mode=Mode.AUTOMINE)
    sequencer.start()
    head = sequencer.mine()              # one block now, in any mode
    sequencer.run(engine.snapshot)       # any function, between two blocks
    sequencer.stop()

Modes: *automine* makes a block per ready transaction, *interval* one every ``block_time`` seconds,
*mixed* both, *manual* none. A block that fails is tried again after a growing pause; each reason
is logged once until a block succeeds.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from zerog.chain.engine import Attributes, BlockEngine, FinalizedBlock, Head
from zerog.errors import BlockError, ZerogError

log = logging.getLogger("zerog.sequencer")

T = TypeVar("T")
Step = Literal["turn", "block", "ready", "timeout", "closed"]

MAX_TRANSACTIONS = "maxTransactions"
"""Attribute of a block that bounds how many transactions it takes."""

MAX_BLOCKS_PER_REQUEST = 1_000_000
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0
# The longest sleep between looks at the clock; a wake ends it at once.
_LONGEST_WAIT_MS = 60_000


class Mode(enum.Enum):
    """When blocks are made."""

    AUTOMINE = "automine"
    INTERVAL = "interval"
    MIXED = "mixed"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Mining:
    """A mode and its numbers.

    ``block_time`` in seconds (interval and mixed). ``batch``: the most transactions that one
    automined block takes.
    """

    mode: Mode = Mode.AUTOMINE
    block_time: float | None = None
    batch: int = 1

    def __post_init__(self) -> None:
        ticking = self.mode in (Mode.INTERVAL, Mode.MIXED)
        if ticking and (self.block_time is None or not 0 < self.block_time <= 1e9):
            raise ValueError(f"mode {self.mode.value} needs a block time above 0 s, not {self.block_time}")
        if self.batch < 1:
            raise ValueError(f"an automined block takes at least one transaction, not {self.batch}")

    @property
    def automine(self) -> bool:
        return self.mode in (Mode.AUTOMINE, Mode.MIXED)

    @property
    def interval(self) -> float | None:
        return self.block_time if self.mode in (Mode.INTERVAL, Mode.MIXED) else None


class Closed(ZerogError):
    """The sequencer has stopped and takes no more turns."""


class Sequencer:
    """The one thread that changes a chain; see the module's docstring."""

    def __init__(
        self,
        engine: BlockEngine,
        mining: Mining | None = None,
        *,
        clock: Callable[[], float] = time.time,
        on_automine: Callable[[bool], None] | None = None,
        on_block: Callable[[FinalizedBlock, Head], None] | None = None,
    ) -> None:
        """``clock`` gives UNIX seconds. ``on_automine`` hears of automine going on or off,
        ``on_block`` of every committed block, on the sequencer's thread."""
        self._engine = engine
        self._mining = mining or Mining()
        self._clock = clock
        self._on_automine = on_automine or (lambda on: None)
        self._on_block = on_block or (lambda block, head: None)
        self._turns: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._stopping = threading.Event()
        self._closing = threading.Lock()
        self._next_tick: float | None = None
        self._retry_at: float | None = None
        self._pause = _FIRST_PAUSE
        self._told_failure: str | None = None
        self._turn_came = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="zerog-sequencer", daemon=True)

    # For any thread.

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Ends the thread after the block or turn in hand; turns that wait fail with `Closed`."""
        with self._closing:
            self._stopping.set()
        self._turn_came.set()
        self._engine.wake()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        self._refuse_turns()

    @property
    def mining(self) -> Mining:
        """The present mode and its numbers."""
        return self._mining

    def submit(self, turn: Callable[[], T]) -> Future[T]:
        """Queues ``turn`` to run between two blocks."""
        future: Future[T] = Future()
        with self._closing:
            if self._stopping.is_set():
                raise Closed("the node is shutting down")
            self._turns.append((turn, future))
        self._turn_came.set()
        self._engine.wake()
        return future

    def run(self, turn: Callable[[], T], timeout: float | None = None) -> T:
        """Runs ``turn`` between two blocks and waits for its result (or raises what it raised)."""
        if threading.current_thread() is self._thread:
            return turn()
        return self.submit(turn).result(timeout)

    def mine(self, count: int = 1, interval: int | None = None) -> Head | None:
        """Makes ``count`` blocks at once, ``interval`` seconds apart by their timestamps."""
        return self.run(lambda: self.mine_now(count, interval))

    def set_mining(self, mining: Mining) -> None:
        """Changes the mode from the next block on."""
        self.run(lambda: self.set_mining_now(mining))

    def set_automine(self, on: bool) -> None:
        """Switches automine, keeping the interval if there is one."""
        self.run(lambda: self.set_automine_now(on))

    def set_interval(self, seconds: float | None) -> None:
        """Makes a block every ``seconds`` and switches automine off; ``None`` or 0 ends the interval."""
        self.run(lambda: self.set_interval_now(seconds))

    # For turns only: these run on the sequencer's thread.

    def mine_now(self, count: int = 1, interval: int | None = None, **attributes: Any) -> Head | None:
        """As `mine`, inside a turn. ``attributes`` override those of the engine in each block."""
        head: Head | None = None
        for index in range(count):
            if self._stopping.is_set():
                raise Closed(f"the node is shutting down; {index} of {count} blocks were mined")
            changed = dict(attributes)
            if interval is not None and head is not None:
                changed["timestamp"] = head.timestamp + interval
            head = self._block(changed)
        return head

    def set_mining_now(self, mining: Mining) -> None:
        """As `set_mining`, inside a turn."""
        self._mining = mining
        self._next_tick = None if mining.interval is None else time.monotonic() + mining.interval
        self._retry_at = None
        self._on_automine(mining.automine)

    def set_automine_now(self, on: bool) -> None:
        """As `set_automine`, inside a turn."""
        ticking = self._mining.interval is not None
        modes = {(True, True): Mode.MIXED, (True, False): Mode.AUTOMINE, (False, True): Mode.INTERVAL}
        self.set_mining_now(replace(self._mining, mode=modes.get((on, ticking), Mode.MANUAL)))

    def set_interval_now(self, seconds: float | None) -> None:
        """As `set_interval`, inside a turn."""
        if seconds:
            self.set_mining_now(replace(self._mining, mode=Mode.INTERVAL, block_time=seconds))
            return
        mode = Mode.AUTOMINE if self._mining.mode is Mode.MIXED else self._mining.mode
        if mode is Mode.INTERVAL:
            mode = Mode.MANUAL
        self.set_mining_now(replace(self._mining, mode=mode, block_time=None))

    # The thread.

    def _loop(self) -> None:
        self.set_mining_now(self._mining)
        while not self._stopping.is_set():
            try:
                if self._step() == "closed":
                    break
            except Exception as error:
                # The loop is the chain's heart: whatever goes wrong in one block is told and retried.
                self._tell_failure(error)
                self._back_off()
        with self._closing:
            self._stopping.set()
        self._refuse_turns()

    def _step(self) -> Step:
        """One turn, one block, or one sleep."""
        if self._turns:
            self._run_turn()
            return "turn"
        now = time.monotonic()
        if self._retry_at is not None:
            if now < self._retry_at:
                # The pool still has what just failed, so only a turn or the clock ends this sleep.
                self._turn_came.wait(self._retry_at - now)
                self._turn_came.clear()
                return "timeout"
            self._retry_at = None
        if self._next_tick is not None and now >= self._next_tick:
            # Missed ticks are skipped, not made up for.
            self._next_tick = max(self._next_tick + (self._mining.interval or 0.0), now)
            self._block({})
            return "block"
        work = self._engine.wait_work(self._wait_ms(now))
        if work == "ready" and self._mining.automine and not self._turns:
            self._automine_block()
            return "block"
        return work

    def _wait_ms(self, now: float) -> int:
        """Milliseconds until the next tick, at least 1."""
        if self._next_tick is None:
            return _LONGEST_WAIT_MS
        return max(1, min(_LONGEST_WAIT_MS, int((self._next_tick - now) * 1000) + 1))

    def _run_turn(self) -> None:
        turn, future = self._turns.popleft()
        if not future.set_running_or_notify_cancel():
            return
        try:
            result = turn()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _refuse_turns(self) -> None:
        while self._turns:
            _, future = self._turns.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(Closed("the node is shutting down"))

    def _automine_block(self) -> None:
        block = self._execute({MAX_TRANSACTIONS: self._mining.batch})
        if block.transactions == 0:
            # Ready transactions that do not fit a block (gas limit, fee): no empty blocks for them.
            self._back_off()
            return
        self._commit(block)

    def _block(self, overrides: Attributes) -> Head:
        return self._commit(self._execute(overrides))

    def _execute(self, overrides: Attributes) -> FinalizedBlock:
        """Propose, verify and finalize one block; nothing is visible yet."""
        attributes = self._engine.next_attributes(int(self._clock()))
        attributes.update(overrides)
        payload = self._engine.propose(attributes)
        reason = self._engine.process_proposal(payload)
        if reason is not None:
            raise BlockError(f"the node's own proposal was refused: {reason}")
        return self._engine.finalize_block(payload)

    def _commit(self, block: FinalizedBlock) -> Head:
        head = self._engine.commit()
        self._pause = _FIRST_PAUSE
        self._told_failure = None
        try:
            self._on_block(block, head)
        except Exception:
            log.exception("a listener of block %d failed", head.number)
        return head

    def _tell_failure(self, error: Exception) -> None:
        """Logs why a block failed, once for all the retries that fail alike."""
        reason = str(error) or type(error).__name__
        if reason == self._told_failure:
            return
        self._told_failure = reason
        log.error(
            "a block failed and is tried again until it works: %s",
            reason,
            exc_info=log.isEnabledFor(logging.DEBUG),
        )

    def _back_off(self) -> None:
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)
