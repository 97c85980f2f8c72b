"""Follows the Flow contract of a chain into a store.

A *pass* takes the store from the block up to which it followed (its *mark*) to the newest block that is
deep enough: pages of ``eth_getLogs``, each appended with its last block as the new mark in one
transaction. Before a page counts, the blocks at both of its ends are looked at again, so that logs of two
branches never mix. A mark that is no longer on the chain means a reorganisation: the store goes back to the
newest submission that is, and the pass starts over.

Nothing about the chain is trusted to be complete: sequence numbers must continue, the number of submissions
must match at the end of a pass, and the root of the flow is compared with the contract's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from zerog.errors import AbiError, FlowDiverged, RpcError, StorageError, TransportError, ZerogError
from zerog.storage.flow.contract import (
    SUBMIT_TOPIC,
    ChainRpc,
    FlowContract,
    SubmitEvent,
    decode_submit,
    explain_missing,
    hex_bytes,
)
from zerog.storage.values import BlockMark, Submission

log = logging.getLogger("zerog.storage.sync")

PAGE = 999
"""Blocks of one ``eth_getLogs``, at most; fewer when the node refuses so many."""
TRANSACTIONS = 100
"""Transactions asked for in one batch."""
ROOT_INTERVAL = 500
"""Submissions after which the root is compared with the contract's."""
CONFIRMATIONS = 1
"""Blocks on top of one before it is followed, unless the chain is a devnet."""
GAP_LIMIT = 3
"""Times that logs with a gap are fetched again before it is an error."""
CHANGE_LIMIT = 20
"""Times that one pass starts over because the chain changed below it."""
RECENT_MARKS = 128
LAG_LIMIT = 30.0
"""Seconds that a chain's node may lag behind what it showed before it counts as a reorganisation."""
SHORTEST_POLL, LONGEST_POLL = 0.05, 1.0
LONGEST_PAUSE = 5.0
_DEVNETS = ("zerog", "anvil", "hardhat", "ganache")


class FlowLog(Protocol):
    """What the synchronisation needs of the store; `FlowStore` is one."""

    def next_seq(self) -> int: ...
    def progress(self) -> BlockMark | None: ...
    def append(self, submissions: Sequence[Submission], progress: BlockMark) -> None: ...
    def revert(self, first_seq: int, progress: BlockMark | None) -> list[Submission]: ...
    def root_at(self, seq: int) -> bytes | None: ...
    def submission(self, seq: int) -> Submission | None: ...


class _Reorganised(Exception):
    """The chain changed below a pass: start over."""


class _Gap(Exception):
    """Submissions are missing in the logs."""


class FlowSync:
    """See the module's docstring. `run` blocks in a thread of its own; the rest may be called from any.

    Parameters
    ----------
    confirmations : blocks that must stand on one before it is followed; ``None``: 0 on a devnet (by the name
        of the chain's node), else `CONFIRMATIONS`.
    first_block : where the log begins; ``None`` asks the contract.
    """

    def __init__(
        self,
        rpc: ChainRpc,
        address: str,
        store: FlowLog,
        *,
        confirmations: int | None = None,
        first_block: int | None = None,
        page: int = PAGE,
        root_interval: int = ROOT_INTERVAL,
        longest_poll: float = LONGEST_POLL,
    ) -> None:
        self._rpc = rpc
        self._flow = FlowContract(rpc, address)
        self._store = store
        self._confirmations = confirmations
        self._first_block = first_block
        self._page = page
        self._root_interval = root_interval
        self._longest_poll = longest_poll
        self._patient = True  # A node behind a load balancer may lag; a devnet goes back on purpose.
        self._started = False
        self._unchecked = 0
        self._recent: deque[BlockMark] = deque(maxlen=RECENT_MARKS)
        self._behind_since: float | None = None
        self._failure: str | None = None
        self._head = 0
        self._followed: BlockMark | None = None
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []
        self._stopped = False

    # What others see and do.

    @property
    def failure(self) -> str | None:
        """Why the chain cannot be followed just now."""
        return self._failure

    @property
    def head(self) -> int:
        """Number of the newest block that was seen."""
        return self._head

    @property
    def followed(self) -> BlockMark | None:
        """The newest block whose submissions are stored, and everybody who listens to the store has heard of them."""
        return self._followed

    def wake(self) -> None:
        """There may be a new block."""
        self._wake.set()

    def after_pass(self, done: Callable[[], None]) -> None:
        """Calls ``done`` from the thread of `run` after a pass that began from now on, or at its end."""
        with self._lock:
            stopped = self._stopped
            if not stopped:
                self._waiting.append(done)
        if stopped:
            done()
        self._wake.set()

    def run(self, stop: threading.Event) -> None:
        """Follows the chain until ``stop`` is set (and `wake` called).

        Raises `FlowDiverged` when store and chain contradict each other, and `StorageError` when there is no
        Flow contract.
        """
        poll = pause = SHORTEST_POLL
        with self._lock:
            self._stopped = False
        try:
            while not stop.is_set():
                # Cleared first: a wake during the pass causes another one.
                self._wake.clear()
                waiting = self._take_waiting()
                try:
                    changed = self.catch_up(stop)
                except FlowDiverged as error:
                    self._failure = error.message
                    self._call(waiting)
                    raise
                except (RpcError, TransportError, AbiError, StorageError) as error:
                    self._report(error)
                    pause = min(LONGEST_PAUSE, pause * 2)
                    self._call(waiting)
                    stop.wait(pause)
                    continue
                self._call(waiting)
                self._failure, pause = None, SHORTEST_POLL
                poll = SHORTEST_POLL if changed else min(self._longest_poll, poll * 1.5)
                self._wake.wait(poll)
        finally:
            with self._lock:
                self._stopped = True
            self._call(self._take_waiting())

    def _take_waiting(self) -> list[Callable[[], None]]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    @staticmethod
    def _call(waiting: Sequence[Callable[[], None]]) -> None:
        for done in waiting:
            done()

    def _report(self, error: ZerogError) -> None:
        text = f"the flow cannot be followed: {error.message}"
        if text != self._failure:
            log.warning("%s", text)
            self._failure = text

    # A pass.

    def catch_up(self, stop: threading.Event | None = None) -> bool:
        """One pass; whether anything changed. Raises what `run` does, and errors of the chain's node."""
        if not self._started:
            self._start()
        before = self._store.progress()
        gaps = changes = 0
        rewind = False
        while stop is None or not stop.is_set():
            try:
                self._pass(rewind, stop)
                break
            except _Reorganised:
                changes += 1
                if changes > CHANGE_LIMIT:
                    raise StorageError("the chain's node contradicts itself about its blocks") from None
                rewind = False
            except _Gap as gap:
                gaps += 1
                if gaps > GAP_LIMIT:
                    raise StorageError(
                        f"{gap}; the chain's node does not give all logs of {self._flow.address}"
                    ) from None
                rewind = True
        self._followed = self._store.progress()
        return self._followed != before

    def _start(self) -> None:
        try:
            if self._first_block is None:
                self._first_block = self._flow.first_block()
            self._flow.submissions()
        except (AbiError, RpcError) as error:
            raise StorageError(explain_missing(self._rpc, self._flow.address, error)) from None
        version = self._client_version().lower()
        devnet = version.startswith(_DEVNETS)
        self._patient = not devnet
        if self._confirmations is None:
            self._confirmations = 0 if devnet else CONFIRMATIONS
        self._unchecked = self._root_interval  # The first pass compares the roots.
        self._started = True

    def _client_version(self) -> str:
        try:
            return str(self._rpc.request("web3_clientVersion", []))
        except RpcError:
            return ""

    def _pass(self, rewind: bool, stop: threading.Event | None) -> None:
        target = self._target()
        if target is None:
            return
        mark = self._store.progress()
        if mark is not None:
            if mark == target and not rewind:
                self._compare_roots()
                return
            if not self._holds(mark, target):
                return
        first = self._rewound() if rewind else self._after(mark)
        while first <= target.number and not (stop is not None and stop.is_set()):
            first = self._take_page(first, target)
        if first > target.number:
            self._compare_count(target)
            self._compare_roots()

    def _target(self) -> BlockMark | None:
        """The newest block to follow to; ``None`` while the chain is too short."""
        head = self._block("latest")
        if head is None:
            raise TransportError("the chain's node has no newest block")
        self._head = head.number
        if not self._confirmations:
            return head
        depth = head.number - self._confirmations
        return None if depth < 0 else self._block(hex(depth))

    def _holds(self, mark: BlockMark, target: BlockMark) -> bool:
        """Whether the pass may go on from ``mark``. False: wait for a lagging node."""
        there = target if mark.number == target.number else self._block(hex(mark.number))
        if there == mark:
            self._behind_since = None
            # A node that lags behind its own past shows a target below the mark.
            return target.number >= mark.number
        if there is None and self._patient and self._lags():
            return False
        self._reorganise()
        raise _Reorganised

    def _lags(self) -> bool:
        now = time.monotonic()
        self._behind_since = self._behind_since or now
        return now - self._behind_since < LAG_LIMIT

    def _after(self, mark: BlockMark | None) -> int:
        assert self._first_block is not None
        return self._first_block if mark is None else mark.number + 1

    def _rewound(self) -> int:
        """Block of the newest stored submission: where a gap may begin."""
        last = self._store.submission(self._store.next_seq() - 1)
        return self._after(None) if last is None else last.block.number

    def _take_page(self, first: int, target: BlockMark) -> int:
        """Appends the submissions of one page; the block after it."""
        last = min(first + self._page - 1, target.number)
        end = target if last == target.number else self._block(hex(last))
        if end is None:
            raise _Reorganised
        try:
            logs = self._logs(first, last)
        except RpcError as error:
            if last == first:
                raise StorageError(
                    f"the chain's node refuses the logs even of block {first}: {error.message}"
                ) from None
            # Nodes differ in how many blocks or logs they allow; their errors have no common form.
            self._page = max(1, (last - first + 1) // 2)
            log.info("eth_getLogs over %d blocks was refused (%s)", last - first + 1, error.message)
            return first
        fresh = self._continue(decode_submit(entry) for entry in logs)
        submissions = self._with_origins(fresh)
        self._require_unchanged(end)
        self._store.append(submissions, end)
        self._recent.append(end)
        self._unchecked += len(submissions)
        if self._unchecked >= self._root_interval:
            self._compare_roots()
        return last + 1

    def _logs(self, first: int, last: int) -> list[dict[str, Any]]:
        query = {
            "address": self._flow.address,
            "topics": [SUBMIT_TOPIC],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        return [
            entry
            for entry in self._rpc.request("eth_getLogs", [query])
            if not entry.get("removed")
            and entry["address"].lower() == self._flow.address
            and entry["topics"][0] == SUBMIT_TOPIC
        ]

    def _continue(self, events: Any) -> list[SubmitEvent]:
        """The events that follow the stored ones, in order; those that are known are left out."""
        expected = self._store.next_seq()
        fresh: list[SubmitEvent] = []
        for event in sorted(events, key=lambda event: (event.seq, event.block.number, event.log_index)):
            if event.seq < expected:
                self._require_known(event, fresh)
                continue
            if event.seq > expected:
                raise _Gap(f"submission {event.seq} follows {expected - 1} in the logs")
            fresh.append(event)
            expected += 1
        return fresh

    def _require_known(self, event: SubmitEvent, fresh: Sequence[SubmitEvent]) -> None:
        """A repeated log is harmless; another submission under a known number is a reorganisation."""
        if fresh and event.seq >= fresh[0].seq:
            same = event == fresh[event.seq - fresh[0].seq]
        else:
            stored = self._store.submission(event.seq)
            same = stored is not None and stored == event.submission(stored.sender)
        if not same:
            self._reorganise()
            raise _Reorganised

    def _with_origins(self, events: Sequence[SubmitEvent]) -> list[Submission]:
        """The submissions with the accounts that sent their transactions."""
        hashes = list(dict.fromkeys(event.transaction for event in events))
        origins: dict[bytes, bytes] = {}
        for at in range(0, len(hashes), TRANSACTIONS):
            chunk = hashes[at : at + TRANSACTIONS]
            answers = self._rpc.batch([("eth_getTransactionByHash", ["0x" + item.hex()]) for item in chunk])
            for item, answer in zip(chunk, answers, strict=True):
                if isinstance(answer, RpcError):
                    raise answer
                if answer is None:
                    raise _Reorganised
                origins[item] = hex_bytes(answer["from"])
        return [event.submission(origins[event.transaction]) for event in events]

    def _require_unchanged(self, end: BlockMark) -> None:
        """Raises `_Reorganised` unless mark and ``end`` are both on the chain still."""
        mark = self._store.progress()
        marks = [end] if mark is None else [mark, end]
        answers = self._rpc.batch([("eth_getBlockByNumber", [hex(m.number), False]) for m in marks])
        for wanted, answer in zip(marks, answers, strict=True):
            if isinstance(answer, RpcError):
                raise answer
            if _mark(answer) != wanted:
                raise _Reorganised

    # Reorganisations.

    def _reorganise(self) -> None:
        """Takes the store back to what is on the chain."""
        kept = self._last_canonical(self._store.next_seq())
        last = None if kept < 0 else self._store.submission(kept)
        mark = None if last is None else last.block
        for recent in reversed(self._recent):
            if (mark is None or recent.number >= mark.number) and self._is_canonical(recent):
                mark = recent
                break
        dropped = self._store.revert(kept + 1, mark)
        self._recent.clear()
        if mark is not None:
            self._recent.append(mark)
        self._behind_since = None
        self._unchecked = self._root_interval
        log.info(
            "the chain was reorganised: %d submissions reverted, following from block %s",
            len(dropped),
            "the first" if mark is None else mark.number,
        )

    def _last_canonical(self, count: int) -> int:
        """Highest sequence number below ``count`` whose block is on the chain; -1 for none."""
        low, high = -1, count - 1
        while low < high:
            # The newest first, then halves: a block is on the chain only if those before it are.
            middle = high if high == count - 1 else (low + high + 1) // 2
            stored = self._store.submission(middle)
            if stored is not None and self._is_canonical(stored.block):
                low = middle
            else:
                high = middle - 1
        return low

    def _is_canonical(self, mark: BlockMark) -> bool:
        return self._block(hex(mark.number)) == mark

    def _block(self, tag: str) -> BlockMark | None:
        return _mark(self._rpc.request("eth_getBlockByNumber", [tag, False]))

    # Comparisons.

    def _compare_count(self, target: BlockMark) -> None:
        """Raises `_Gap` when the contract knows more submissions at ``target`` than the logs had."""
        try:
            there = self._flow.submissions(hex(target.number))
        except RpcError:
            return  # The node has no state of that block; the next submission would show a gap.
        if there > self._store.next_seq() and self._is_canonical(target):
            raise _Gap(f"the contract has {there} submissions, the logs {self._store.next_seq()}")

    def _compare_roots(self) -> None:
        """Raises `FlowDiverged` when the stored root is not the contract's."""
        if self._unchecked < self._root_interval:
            return
        seq = self._store.next_seq() - 1
        if seq >= 0:
            stored, there = self._store.root_at(seq), self._flow.root_at(seq)
            submission = self._store.submission(seq)
            if stored != there:
                if submission is not None and not self._is_canonical(submission.block):
                    raise _Reorganised
                mine = "nothing" if stored is None else "0x" + stored.hex()
                raise FlowDiverged(
                    f"after submission {seq} the stored flow has the root {mine}, "
                    f"the contract {self._flow.address} 0x{there.hex()}",
                    hint="the store belongs to another chain or is damaged: start with an empty one",
                )
        self._unchecked = 0


def _mark(block: Any) -> BlockMark | None:
    return None if block is None else BlockMark(int(block["number"], 16), hex_bytes(block["hash"]))
