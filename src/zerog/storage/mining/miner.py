"""The miner: seals, searches with spare processor time, checks its own answer, hands it in.

One thread that runs `Miner.cycle` again and again. Each cycle ends in a *state*, a sentence for a person: what was
done, or what the miner waits for.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from zerog import _native
from zerog.errors import RpcError, StorageError, StorageFull, TransactionError, ZerogError, native_errors
from zerog.storage.layout import SEGMENT_SECTORS
from zerog.storage.mining.answer import (
    EMPTY_DIGEST,
    Answer,
    RecallRange,
    WorkerContext,
    answer_proof,
    piece_position,
    scaled_target,
)
from zerog.storage.mining.contract import Head, MiningContracts, Sender
from zerog.storage.mining.sealed import ALL_PIECES, SealedStore
from zerog.storage.mining.sealer import Epochs, Loads, Sealer
from zerog.storage.store import Finalized, Reverted
from zerog.storage.values import FlowProof, ShardConfig, Submission

log = logging.getLogger("zerog.mining")

PORA_VERSION = 1
ITERATIONS = 256
"""Nonces of one native search: some tens of milliseconds."""
SEALS_PER_CYCLE = 16
"""Loads sealed before the miner looks at the chain again."""
MAX_REFUSALS = 3
"""Answers that may be refused in an epoch before the miner waits for the next one."""
STANDSTILL = 5
"""Seconds without a block after which the state says so."""
CROWD_LOOK = 0.02
"""Seconds that the miner watches what the rest of the process does."""
QUIET_CYCLES = 2
"""Cycles without a foreign block before the miner makes blocks of its own."""


class Flow(Loads, Protocol):
    """The store as the miner sees it."""

    @property
    def shard(self) -> ShardConfig:
        """What the node keeps."""
        ...

    def length(self) -> int:
        """Sectors of the flow."""
        ...

    def submission(self, seq: int) -> Submission | None:
        """An entry of the flow."""
        ...

    def sector_proof(self, sector: int, flow_root: bytes | None) -> FlowProof:
        """Proof of a sector at an earlier root; raises `StorageError`."""
        ...


@dataclass(frozen=True, slots=True)
class MinerOptions:
    """``answers_per_epoch``: 0 for as many as can be found. ``threads`` of the search."""

    answers_per_epoch: int = 1
    threads: int = 1


class Miner:
    """See the module's docstring.

    ``advance`` makes one block on a chain that makes blocks only on demand; without it the miner waits for others.
    ``beneficiary``: 0x-address that is paid [the sender].
    """

    def __init__(
        self,
        store: Flow,
        sealed: SealedStore,
        contracts: MiningContracts,
        sender: Sender,
        *,
        options: MinerOptions | None = None,
        advance: Callable[[], None] | None = None,
        beneficiary: str | None = None,
    ) -> None:
        self._store = store
        self._sealed = sealed
        self._contracts = contracts
        self._sender = sender
        self._options = options or MinerOptions()
        self._advance = advance
        self._beneficiary = (beneficiary or sender.address).lower()
        self._epochs = Epochs(contracts)
        self._sealer: Sealer | None = None
        self._miner_id: bytes | None = None
        self._queue: dict[int, None] = {}
        self._queue_lock = threading.Lock()
        self._reverted_to: int | None = None
        self._start_position = 0
        self._answered: dict[bytes, int] = {}
        self._advanced = 0
        self._head: Head | None = None
        self._last_block = -1
        self._block_time = time.monotonic()
        self._seed = secrets.randbits(64)
        self._granted: bytes | None = None
        self._refused: dict[bytes, int] = {}
        self._full: str | None = None
        self._known_masks: tuple[tuple[int, RecallRange], bytearray] | None = None
        self._quiet = 0
        self._tries = 0
        self._state = "starting"

    # What the node tells.

    def hear(self, event: object) -> None:
        """Events of the store."""
        if isinstance(event, Finalized):
            submission = self._store.submission(event.seq)
            if submission is not None:
                first, end = submission.start, submission.start + submission.sectors
                self.notice(range(first // SEGMENT_SECTORS, -(-end // SEGMENT_SECTORS)))
        elif isinstance(event, Reverted):
            self.notice_revert(self._store.length() // SEGMENT_SECTORS)

    def notice(self, loads: range) -> None:
        """Data of these loads has become complete."""
        with self._queue_lock:
            self._queue.update(dict.fromkeys(loads))
        self._advanced = 0

    def notice_revert(self, load: int) -> None:
        """The flow was reverted to somewhere in this load."""
        with self._queue_lock:
            known = self._reverted_to
            self._reverted_to = load if known is None else min(known, load)

    def set_start_position(self, sector: int) -> None:
        """``miner_setStartPosition``: search from this sector on."""
        self._start_position = sector

    # Work.

    def run(self, stop: threading.Event, pause: float) -> None:
        """Mines until ``stop``; ``pause`` seconds between cycles that had nothing to do."""
        self._fill_queue()
        while not stop.is_set():
            try:
                busy = self.cycle(stop)
            except (ZerogError, OSError, sqlite3.Error) as error:
                self._state = f"waiting after an error: {error}"
                log.info("mining: %s", error)
                busy = False
            stop.wait(0 if busy and not _is_crowded(stop) else pause)

    def cycle(self, stop: threading.Event) -> bool:
        """One look at the chain; whether there is more to do at once."""
        if self._miner_id is None and self._store.length() < SEGMENT_SECTORS:
            # Nothing to prove: no transaction either.
            self._state = (
                f"the flow has no full segment yet: {self._store.length()} of {SEGMENT_SECTORS} sectors"
            )
            return False
        block = self._follow_chain()
        miner_id = self._identity()
        if self._seal(stop):
            self._state = f"sealing, {len(self._queue)} segments to go"
            return True
        try:
            context = self._contracts.worker_context(miner_id)
        except RpcError:
            self._miner_id = None  # The chain may not know it any more: ask again in the next cycle.
            raise
        recall = self._range(context)
        waiting = self._obstacle(context, recall, miner_id, block)
        if waiting is not None:
            self._state = waiting if self._full is None else f"{waiting}; {self._full}"
            return self._make_block(context, block)
        assert recall is not None
        return self._search(context, recall, miner_id)

    def _identity(self) -> bytes:
        """This miner's id; a new one when the chain does not know the stored one."""
        if self._miner_id is not None:
            return self._miner_id
        version = self._contracts.version()
        if version != PORA_VERSION:
            raise StorageError(f"the mine contract speaks version {version}, this miner {PORA_VERSION}")
        stored = self._sealed.miner_id()
        if stored is None or not self._owns(stored):
            stored = self._new_identity()
        self._check_epochs()
        self._fill_queue()
        self._miner_id = stored
        self._sealer = Sealer(self._store, self._sealed, self._epochs, stored)
        return stored

    def _owns(self, miner_id: bytes) -> bool:
        """Whether the chain knows an id, and pays this miner for it."""
        owner = self._contracts.beneficiary(miner_id)
        return owner is not None and owner.lower() == self._beneficiary

    def _new_identity(self) -> bytes:
        """Registers an id, once: also when the disk cannot keep it yet."""
        if self._granted is None or not self._owns(self._granted):
            self._state = "registering a miner id: its transaction waits for a block"
            self._granted = self._contracts.request_miner_id(self._sender, self._beneficiary, self._seed)
            self._seed = secrets.randbits(64)
            self._head = self._contracts.head()
        self._sealed.start_over(self._granted)
        self._sealed.forget_answers()
        return self._granted

    def _check_epochs(self) -> None:
        """Forgets what was sealed for epochs, and earned in blocks, that a reorganisation took away."""
        while (epoch := self._sealed.newest_epoch()) is not None:
            if self._contracts.epoch_of(epoch.start) == epoch:
                break
            self._sealed.drop_epoch(epoch)
        while newest := self._sealed.answers(1):
            transaction = str(newest[0]["transactionHash"])
            if self._contracts.holds(transaction):
                break
            self._sealed.drop_answer(transaction)

    def _follow_chain(self) -> int:
        """Number of the newest block. A reorganisation, of chain or flow, makes the miner look at everything anew."""
        head = self._contracts.head()
        known, self._head = self._head, head
        with self._queue_lock:
            reverted, self._reverted_to = self._reverted_to, None
        if reverted is not None:
            self._sealed.drop_from(reverted)
        if reverted is not None or (known is not None and not self._contracts.follows(head, known)):
            self._epochs.forget()
            self._answered.clear()
            self._refused.clear()
            self._advanced = 0
            self._miner_id = None
        return head.number

    def _fill_queue(self) -> None:
        """Everything that may not be sealed yet."""
        loads = -(-self._store.length() // SEGMENT_SECTORS)
        shard = self._store.shard
        masks = memoryview(self._sealed.masks(0, loads)).cast("Q")
        wanted = [
            load for load in range(shard.id, loads, shard.shards) if masks[load] | (load == 0) != ALL_PIECES
        ]
        with self._queue_lock:
            self._queue.update(dict.fromkeys(wanted))

    def _seal(self, stop: threading.Event) -> bool:
        """Seals some of the queue; whether it made progress and more waits."""
        assert self._sealer is not None
        with self._queue_lock:
            batch = list(self._queue)[:SEALS_PER_CYCLE]
        before = len(self._queue)
        for load in batch:
            if stop.is_set():
                return False
            with self._queue_lock:
                self._queue.pop(load, None)  # before it is read: what comes meanwhile is noticed again
            done = False
            try:
                done = self._sealer.seal(load)
                self._full = None
            except StorageFull as error:
                # What is sealed already can be searched all the same.
                if self._full is None:
                    log.warning("mining: %s", error)
                self._full = f"sealing waits: {error.message}"
                return False
            except StorageError as error:
                log.info("mining: segment %d cannot be sealed now: %s", load, error)
            finally:
                if not done:
                    with self._queue_lock:
                        self._queue[load] = None  # again later, behind the others
        return len(self._queue) < before and len(batch) == SEALS_PER_CYCLE

    def _range(self, context: WorkerContext) -> RecallRange | None:
        shard = self._store.shard
        whole = RecallRange.whole(context.flow_length, shard)
        if whole is None or not self._start_position:
            return whole
        # The contract fixes the length; a start further on is only free while the flow is longer than a range.
        start = min(self._start_position, context.flow_length - whole.length)
        aligned = max(0, start) // (1 << 25) * (1 << 25)
        return RecallRange(aligned, whole.length, whole.shard_id, whole.shard_mask)

    def _obstacle(
        self, context: WorkerContext, recall: RecallRange | None, miner_id: bytes, block: int
    ) -> str | None:
        """Why there is nothing to search now, as a sentence; ``None`` when there is."""
        if context.digest == EMPTY_DIGEST or not context.target:
            return f"no epoch has ended yet (an epoch has {self._contracts.blocks_per_epoch()} blocks)"
        if recall is None:
            return f"the flow has no full segment yet: {context.flow_length} of {SEGMENT_SECTORS} sectors"
        if recall.shards > context.max_shards:
            return (
                f"the contract takes at most {context.max_shards} shards, this node is one of {recall.shards}"
            )
        first, last = self._contracts.window(context, miner_id)
        if block < first:
            return f"answers are taken from block {first + 1} on, the chain is at {block}"
        if block >= last:
            return (
                f"answers of epoch {context.epoch} were taken until block {last}; waiting for the next epoch"
            )
        if self._refused.get(context.digest, 0) >= MAX_REFUSALS:
            return f"{MAX_REFUSALS} answers of epoch {context.epoch} were refused; waiting for the next epoch"
        limit = self._options.answers_per_epoch
        if limit and self._answered.get(context.digest, 0) >= limit:
            return f"epoch {context.epoch} is answered"
        if not any(self._masks(recall)):
            return "no sealed data in the range of this epoch yet"
        return None

    def _make_block(self, context: WorkerContext, block: int) -> bool:
        """Moves a chain on that stands still while data waits to be proven; whether it did."""
        foreign, self._last_block = block != self._last_block, block
        if foreign:
            self._block_time = time.monotonic()
        if self._advance is None:
            idle = int(time.monotonic() - self._block_time)
            if idle >= STANDSTILL:
                self._state += f"; the chain has made no block for {idle} s and the miner makes none here"
            return False
        unproven = self._unproven()
        if foreign or not unproven:
            self._quiet = 0
            return False
        self._quiet += 1
        if self._quiet < QUIET_CYCLES or self._advanced > 3 * self._contracts.blocks_per_epoch():
            return False
        self._advance()
        self._advanced += 1
        self._head = self._contracts.head()
        self._last_block = self._head.number
        return True

    def _unproven(self) -> bool:
        """Whether full segments were added since the newest accepted answer."""
        newest = self._sealed.answers(1)
        proven = int(str(newest[0]["flowLength"])) if newest else 0
        return self._store.length() // SEGMENT_SECTORS > proven // SEGMENT_SECTORS and bool(
            self._queue or self._sealed.pieces()
        )

    def _masks(self, recall: RecallRange) -> bytearray:
        """Sealed pieces of the range; read again only after a change."""
        key = (self._sealed.changes, recall)
        if self._known_masks is None or self._known_masks[0] != key:
            masks = self._sealed.masks(recall.start // SEGMENT_SECTORS, recall.length // SEGMENT_SECTORS)
            self._known_masks = key, masks
        return self._known_masks[1]

    def _search(self, context: WorkerContext, recall: RecallRange, miner_id: bytes) -> bool:
        first = recall.start // SEGMENT_SECTORS
        masks = self._masks(recall)
        target = scaled_target(context.target, context.flow_length, recall)
        with native_errors():
            hits = _native.pora_search(
                self._sealed.descriptor,
                masks,
                miner_id,
                context.subtask_digest,
                recall.start,
                recall.length,
                recall.shard_id,
                recall.shard_mask,
                target.to_bytes(32),
                secrets.token_bytes(32),
                ITERATIONS,
                self._options.threads,
            )
        self._tries += ITERATIONS
        self._state = f"searching epoch {context.epoch}"
        before = self._refused.get(context.digest, 0)
        for nonce, load, seal_offset, _ in hits:
            if recall.holds(load) and self._hand_in(
                context, recall, miner_id, nonce, first + load, seal_offset
            ):
                break
        return self._refused.get(context.digest, 0) == before

    def _hand_in(
        self,
        context: WorkerContext,
        recall: RecallRange,
        miner_id: bytes,
        nonce: bytes,
        load: int,
        seal_offset: int,
    ) -> bool:
        position = piece_position(load, seal_offset)
        epoch = self._epochs.of_piece(position)
        if epoch is None:
            return False
        answer = Answer(
            context_digest=context.digest,
            nonce=nonce,
            miner_id=miner_id,
            recall=recall,
            position=position,
            seal_offset=seal_offset,
            sealed_context_digest=epoch.digest,
            sealed=self._sealed.piece(load, seal_offset),
            proof=answer_proof(self._store.sector_proof(position, context.flow_root)),
        )
        if not proves(answer, context.flow_root):
            log.warning("the sealed copy of sector %d is damaged; sealing it again", position)
            self._sealed.drop(load, seal_offset)
            self.notice(range(load, load + 1))
            return False
        try:
            transaction, reward = self._contracts.submit(self._sender, answer)
        except (RpcError, TransactionError) as error:
            # A refused transaction may have cost a fee: not again and again for the same reason.
            count = self._refused.get(context.digest, 0) + 1
            self._refused = {context.digest: count}
            self._state = f"an answer was refused ({count} of {MAX_REFUSALS} in this epoch): {error.message}"
            log.warning("mining: %s", self._state)
            return True
        self._answered = {context.digest: self._answered.get(context.digest, 0) + 1}
        self._advanced = 0
        self._head = self._contracts.head()  # A reorganisation may take away just this block.
        self._sealed.record(context.epoch, position, context.flow_length, transaction, reward)
        self._state = f"epoch {context.epoch} is answered"
        log.info("answer accepted in epoch %d: %d wei", context.epoch, reward)
        return True

    # About it.

    def status(self) -> dict[str, Any]:
        """State, identity, sealed data, answers and earnings (wei as text)."""
        answers, earned = self._sealed.earned()
        owed: str | None = None
        with suppress(ZerogError):
            owed = str(self._contracts.owed(self._beneficiary))
        return {
            "state": self._state,
            "minerId": None if self._miner_id is None else "0x" + self._miner_id.hex(),
            "beneficiary": self._beneficiary,
            "sealedBytes": self._sealed.pieces() * 4096,
            "segmentsToSeal": len(self._queue),
            "tries": self._tries,
            "answers": answers,
            "earned": str(earned),
            "owed": owed,
            "newest": self._sealed.answers(),
        }

    def close(self) -> None:
        """Gives files back."""
        self._sealed.close()

    def withdraw(self) -> str:
        """Pays out what the contract owes; hash of the transaction."""
        return self._contracts.withdraw(self._sender, self._beneficiary)


def proves(answer: Answer, flow_root: bytes) -> bool:
    """What the contract checks of the data: unsealed, hashed and folded, it is part of the flow."""
    from zerog.chain.keys import keccak256

    with native_errors():
        raw = _native.pora_unseal(
            answer.sealed, answer.miner_id, answer.sealed_context_digest, answer.position
        )
        node = _native.merkle_root(raw)
    index = answer.position // 16
    for sibling in answer.proof:
        node = keccak256(sibling + node if index & 1 else node + sibling)
        index >>= 1
    return node == flow_root


def _is_crowded(stop: threading.Event) -> bool:
    """Whether the rest of the process is at work, so that sealing should leave it the processor: a short look."""
    used = time.process_time()
    stop.wait(CROWD_LOOK)
    return time.process_time() - used > CROWD_LOOK / 2
