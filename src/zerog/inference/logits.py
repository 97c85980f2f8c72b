"""Arithmetic on one row of logits: ranking, log-softmax, and its commitment in the trace.

Log-probabilities are always this module's own float64 log-softmax, never what an engine reports:
reported values differ by about 1e-4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError
from zerog.inference.trace import PAIRS, QUANTUM, TraceStep

HASHED_TOGETHER = 8
"""Rows whose hashes are computed side by side."""
_BLOCK = 64

Logits: TypeAlias = NDArray[np.float32]
"""One row of logits, shape (vocabulary,), unnormalised."""


def trace_step(token: int, row: Logits) -> TraceStep:
    """Commitment to the row that chose ``token``.

    Raises
    ------
    InferenceError : the row holds NaN or infinity, which must never be signed.
    """
    pairs = likeliest(row)
    return TraceStep(token, keccak256(row.astype("<f4", copy=False).tobytes()), pairs)


def trace_steps(tokens: Sequence[int], rows: Sequence[Logits]) -> list[TraceStep]:
    """`trace_step` of several rows, which takes half the time when they are `HASHED_TOGETHER`."""
    pairs = [likeliest(row) for row in rows]
    return [TraceStep(*step) for step in zip(tokens, row_hashes(rows), pairs, strict=True)]


def likeliest(row: Logits) -> tuple[tuple[int, int], ...]:
    """The pairs of a `TraceStep`.

    Raises
    ------
    InferenceError : the row holds NaN or infinity.
    """
    require_finite(row)
    top = ranked(row, PAIRS)
    # rint rounds halves to even, as the protocol asks.
    quanta = np.rint(log_softmax(row, top) * QUANTUM)
    return tuple((int(i), int(q)) for i, q in zip(top, quanta, strict=True))


def row_hashes(rows: Sequence[Logits]) -> list[bytes]:
    """Hashes of rows of one length as `TraceStep` has them: eight side by side, without the GIL."""
    if not rows:
        return []
    from zerog.chain.keys import keccak256_each

    data = np.stack([row.astype("<f4", copy=False) for row in rows])
    return keccak256_each(data.data.cast("B"), data.shape[1] * data.itemsize)


def ranked(row: NDArray[np.floating], count: int) -> NDArray[np.int64]:
    """Ids of the ``count`` largest logits by (logit descending, id ascending)."""
    count = min(count, len(row))
    candidates = np.flatnonzero(row >= _threshold(row, count))
    # A stable sort of ascending ids by falling logit keeps the lower id first in a tie.
    order = np.argsort(-row[candidates], kind="stable")
    return candidates[order][:count]


def _threshold(row: NDArray[np.floating], count: int) -> float:
    """A value that at least ``count`` logits reach, and few more.

    The maxima of blocks are logits, so ``count`` logits reach the ``count``-th largest of them; to
    take it from the blocks is ten times faster than from the whole row.
    """
    blocks = len(row) // _BLOCK
    if blocks < 4 * count:
        return float(np.partition(row, len(row) - count)[len(row) - count])
    maxima = row[: blocks * _BLOCK].reshape(blocks, _BLOCK).max(axis=1)
    return float(np.partition(maxima, blocks - count)[blocks - count])


def log_softmax(
    row: NDArray[np.floating], ids: NDArray[np.int64] | slice = slice(None)
) -> NDArray[np.float64]:
    """Natural log-probabilities in float64, of all tokens or of ``ids``."""
    wide = row.astype(np.float64)
    wide -= wide.max()
    wanted = wide[ids].copy()
    # In place: the same numbers, without two more arrays of the vocabulary's size.
    return np.asarray(wanted - np.log(np.exp(wide, out=wide).sum()))


def require_finite(row: NDArray[np.floating]) -> None:
    """Raises `InferenceError` when a logit is NaN or infinite."""
    finite = np.isfinite(row)
    if not finite.all():
        bad = int(np.flatnonzero(~finite)[0])
        raise InferenceError(f"the engine produced the logit {row[bad]} for token {bad}: nothing is signed")
