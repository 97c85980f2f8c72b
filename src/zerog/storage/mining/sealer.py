"""Seals what the store holds: each piece with the digest of the epoch that added it to the flow."""

from __future__ import annotations

from bisect import bisect_left
from typing import Protocol

from zerog import _native
from zerog.errors import native_errors
from zerog.storage.layout import SEAL, SEAL_SECTORS, SEGMENT_SECTORS
from zerog.storage.mining.answer import EMPTY_DIGEST, Epoch
from zerog.storage.mining.contract import MiningContracts
from zerog.storage.mining.sealed import SealedStore

PIECES = 64


class Loads(Protocol):
    """Where the data comes from; `FlowStore` is one."""

    def read_load(self, load: int) -> tuple[bytes, int] | None:
        """256 KiB of the flow, checked, and the mask of its complete pieces."""
        ...


class Epochs:
    """The closed epochs as far as they were needed; they never change once closed, except by a reorganisation."""

    def __init__(self, contracts: MiningContracts) -> None:
        self._contracts = contracts
        self._known: list[Epoch] = []

    def of_piece(self, position: int) -> Epoch | None:
        """The closed epoch of a piece: that of its last sector; ``None`` while it is open or cannot be sealed for."""
        last = position + SEAL_SECTORS - 1
        at = bisect_left(self._known, last, key=lambda epoch: epoch.end - 1)
        if at < len(self._known) and self._known[at].start <= last:
            return self._known[at]
        epoch = self._contracts.epoch_of(last)
        if epoch is None or epoch.digest == EMPTY_DIGEST or not epoch.start <= last < epoch.end:
            return None
        self._known.insert(bisect_left(self._known, epoch.start, key=lambda known: known.start), epoch)
        return epoch

    def forget(self) -> None:
        """The flow was reverted."""
        self._known.clear()


class Sealer:
    """See the module's docstring."""

    def __init__(self, store: Loads, sealed: SealedStore, epochs: Epochs, miner_id: bytes) -> None:
        self._store = store
        self._sealed = sealed
        self._epochs = epochs
        self._miner_id = miner_id
        self._noted: Epoch | None = None

    def seal(self, load: int) -> bool:
        """Seals what is there of a load; whether nothing is left to do for it now (the rest is open or absent)."""
        if self._epochs.of_piece(load * SEGMENT_SECTORS) is None:
            return False  # its epoch is open: nothing is read in vain
        found = self._store.read_load(load)
        if found is None:
            return True
        data, present = found
        wanted = present & ~self._sealed.mask(load)
        if load == 0:
            wanted &= ~1  # sector 0 is no data: the contract takes no answer from its piece
        runs, closed = self._runs(load, wanted)
        for first, count, epoch in runs:
            position = load * SEGMENT_SECTORS + first * SEAL_SECTORS
            piece_data = data[first * SEAL : (first + count) * SEAL]
            with native_errors():
                sealed = _native.pora_seal(piece_data, self._miner_id, epoch.digest, position)
            self._note(epoch)
            self._sealed.put(load, [(first, sealed)])
        return closed

    def _note(self, epoch: Epoch) -> None:
        """Before the first piece of an epoch, so that no piece is there of an epoch that nobody checks."""
        if epoch != self._noted:
            self._sealed.note_epoch(epoch)
            self._noted = epoch

    def _runs(self, load: int, wanted: int) -> tuple[list[tuple[int, int, Epoch]], bool]:
        """Neighbouring pieces of one epoch as (first, count, epoch); and whether no wanted piece waits for its epoch."""
        runs: list[tuple[int, int, Epoch]] = []
        closed = True
        for piece in range(PIECES):
            if not wanted >> piece & 1:
                continue
            epoch = self._epochs.of_piece(load * SEGMENT_SECTORS + piece * SEAL_SECTORS)
            if epoch is None:
                closed = False
                continue
            if runs and runs[-1][0] + runs[-1][1] == piece and runs[-1][2] == epoch:
                first, count, _ = runs[-1]
                runs[-1] = (first, count + 1, epoch)
            else:
                runs.append((piece, 1, epoch))
        return runs, closed
