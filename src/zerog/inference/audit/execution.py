"""Executes a receipt again: transcript from storage, one prefill, the first bad leaf.

All verifiers of one process share an `Examiner`, so that three votes cost one prefill. What it finds
follows from the receipt alone: every honest verifier finds the same.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zerog.errors import InferenceError, ZerogError
from zerog.inference.audit.vote import Finding
from zerog.inference.encoding import ZERO_HASH
from zerog.inference.receipt import AuditVote, InferenceReceipt

if TYPE_CHECKING:
    from zerog.inference.engines import Engine
    from zerog.inference.publication import TranscriptStore
    from zerog.inference.transcript import Transcript

log = logging.getLogger("zerog.audit")

_ENVELOPE = 1 << 16
"""Bytes that sealing may add."""
KEPT_FINDINGS = 4096


class NotHereYet(InferenceError):
    """The transcript could not be had now; that is not yet the provider's fault."""


class WrongData(InferenceError):
    """What lies under the data root, proven, is not what the receipt commits to: its signer's fault."""


class SealedForOthers(InferenceError):
    """The transcript is there, but none of the keys here opens it."""


EngineFor = Callable[[InferenceReceipt], "Engine"]
"""Gives the engine that reproduces a receipt, loaded; raises `InferenceError` when this machine has none."""


class Examiner:
    """See the module's docstring. Any thread may use it; one re-execution runs at a time.

    Parameters
    ----------
    store : where transcripts are published.
    engine_for : the engine for a receipt.
    keys : private keys that may open a transcript that is sealed for verifiers.
    """

    def __init__(self, store: TranscriptStore, engine_for: EngineFor, keys: Sequence[bytes] = ()) -> None:
        self._store = store
        self._engine_for = engine_for
        self._keys = tuple(keys)
        self._turn = threading.Lock()
        self._findings: OrderedDict[tuple[bytes, int], Finding] = OrderedDict()
        self.executions = 0
        """Prefills that were really made."""

    def known(self, receipt_hash: bytes, from_leaf: int) -> Finding | None:
        """A finding that needs no work."""
        return self._findings.get((receipt_hash, from_leaf))

    def examine(self, receipt_hash: bytes, receipt: InferenceReceipt, from_leaf: int) -> Finding:
        """What is wrong with a receipt.

        Raises
        ------
        NotHereYet : the transcript cannot be had now.
        InferenceError : this machine cannot execute it.
        """
        with self._turn:
            found = self.known(receipt_hash, from_leaf)
            if found is None:
                began = time.perf_counter()
                found = self._examine(receipt, from_leaf)
                found = dataclasses.replace(found, seconds=time.perf_counter() - began)
                self._findings[receipt_hash, from_leaf] = found
                while len(self._findings) > KEPT_FINDINGS:
                    self._findings.popitem(last=False)
        return found

    def _examine(self, receipt: InferenceReceipt, from_leaf: int) -> Finding:
        if receipt.dataRoot == ZERO_HASH:
            return _unavailable("the receipt names no transcript")
        try:
            transcript = self.transcript(receipt)
        except SealedForOthers as error:
            return _unavailable(error.message)
        except WrongData as error:
            return Finding(AuditVote.BAD, reason=error.message)
        engine = self._engine_for(receipt)
        self.executions += 1
        return judge(transcript, receipt, engine, from_leaf)

    def transcript(self, receipt: InferenceReceipt) -> Transcript:
        """The published transcript of a receipt.

        Raises
        ------
        NotHereYet : nobody delivers it now.
        SealedForOthers : it is private, and not for these keys.
        WrongData : it is no transcript, or that of another receipt.
        """
        from zerog.inference.transcript import MAX_CANONICAL, decode_canonical
        from zerog.inference.verification import binding_fault

        try:
            data = self._store.fetch(receipt.dataRoot, MAX_CANONICAL + _ENVELOPE)
        except (ZerogError, OSError) as error:
            raise NotHereYet(f"no storage node answers: {error}") from None
        if data is None:
            raise NotHereYet(f"nobody has the transcript 0x{receipt.dataRoot.hex()}")
        opened = self._opened(data)
        try:
            transcript = decode_canonical(opened)
        except InferenceError as error:
            raise WrongData(f"the published bytes are no transcript: {error.message}") from None
        if (fault := binding_fault(transcript, receipt)) is not None:
            raise WrongData(f"the published transcript is another one: {fault.reason}")
        return transcript

    def _opened(self, data: bytes) -> bytes:
        """Canonical bytes, out of the envelope of a private answer."""
        from zerog.inference.privacy import is_sealed, open_sealed

        if not is_sealed(data):
            return data
        for key in self._keys:
            try:
                return open_sealed(data, key)
            except InferenceError:
                continue
        raise SealedForOthers("the transcript is sealed, and for none of this verifier's keys")


def judge(transcript: Transcript, receipt: InferenceReceipt, engine: Engine, from_leaf: int = 0) -> Finding:
    """Re-executes a transcript that belongs to its receipt.

    A leaf from ``from_leaf`` on that is bad decides at once. Before the whole is called good, the leaves before it
    are looked at, too: else a cheat could have itself challenged behind its own lie.

    Raises
    ------
    InferenceError : this machine cannot execute it; nothing follows about the answer.
    """
    from zerog.inference.verification import find_fault

    fault = find_fault(transcript, engine, from_leaf, receipt=receipt)
    if fault is None and from_leaf:
        fault = find_fault(transcript, engine, receipt=receipt)
    if fault is None:
        return Finding(AuditVote.GOOD, trace_root=receipt.traceRoot, reason="every row and token agrees")
    return Finding(AuditVote.BAD, fault.index, reason=fault.reason)


def _unavailable(reason: str) -> Finding:
    return Finding(AuditVote.UNAVAILABLE, reason=reason)
