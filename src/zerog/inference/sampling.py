"""Deterministic samplers: the token follows from logits and parameters alone.

Source: specification of Proof-of-Inference, section 3 "Samplers". Any verifier that has the same
logits chooses the same token, so a provider cannot pick one it likes better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError
from zerog.inference.logits import Logits, ranked, require_finite
from zerog.inference.receipt import GREEDY, INVERSE_CDF, SamplingParams

MAX_TOKENS = 4096
EDGE_TOLERANCE = 1e-12
"""How far from the draw an interval may end and its token still pass an audit."""
_MILLI = 1000
_HEAD = 512
"""Tokens that are sorted at first: the draw seldom falls beyond them."""
_GREEDY_VALUES = {"temperatureMilli": 0, "topPMilli": _MILLI, "topK": 0, "repeatPenaltyMilli": _MILLI}


def gate_seed(request_id: bytes, block_randomness: bytes) -> int:
    """Seed of a request made on chain: nobody who answers it can choose the randomness of its block."""
    return int.from_bytes(keccak256(request_id + block_randomness)[24:])


def draw(seed: int, index: int) -> int:
    """The ``index``-th draw as a 64-bit number; divided by 2^64 it is uniform in [0, 1)."""
    return int.from_bytes(keccak256(seed.to_bytes(8) + index.to_bytes(4))[:8])


def check_params(params: SamplingParams) -> None:
    """Raises `InferenceError` naming a parameter that is out of range or contradicts the sampler."""
    for kind, name in SamplingParams.members():
        if kind.startswith("uint") and not 0 <= getattr(params, name) < 1 << int(kind[4:]):
            raise InferenceError(f"{name} = {getattr(params, name)} does not fit {kind}")
    if not 1 <= params.maxTokens <= MAX_TOKENS:
        raise InferenceError(f"maxTokens = {params.maxTokens} must be between 1 and {MAX_TOKENS}")
    if params.sampler == GREEDY:
        for name, neutral in _GREEDY_VALUES.items():
            if getattr(params, name) != neutral:
                raise InferenceError(
                    f"{name} = {getattr(params, name)} must be {neutral} for greedy sampling"
                )
        return
    if params.sampler != INVERSE_CDF:
        raise InferenceError(f"sampler = {params.sampler} is unknown")
    if params.temperatureMilli == 0:
        raise InferenceError("temperatureMilli = 0 needs the greedy sampler")
    if not 1 <= params.topPMilli <= _MILLI:
        raise InferenceError(f"topPMilli = {params.topPMilli} must be between 1 and {_MILLI}")
    if params.repeatPenaltyMilli == 0:
        raise InferenceError("repeatPenaltyMilli = 0 would divide by zero")


def choose(row: Logits, params: SamplingParams, index: int, context: Sequence[int]) -> int:
    """The token that ``params`` choose from a row of logits.

    Parameters
    ----------
    row : logits, shape (vocabulary,).
    index : number of the generated token, from 0.
    context : all tokens before it, prompt included; read only by the repetition penalty.

    Raises
    ------
    InferenceError : the row holds NaN or infinity.
    """
    require_finite(row)
    if params.sampler == GREEDY:
        # argmax returns the first maximum: the lowest id wins a tie.
        return int(row.argmax())
    nucleus = _nucleus(row, params, context, draw(params.seed, index))
    return int(nucleus.ids[nucleus.chosen])


def may_choose(row: Logits, params: SamplingParams, index: int, context: Sequence[int], token: int) -> bool:
    """Whether an honest engine may have chosen ``token``; `choose` without trust in the last bit.

    Exponentials differ in the last bit between C libraries, so for the seeded sampler a token is
    accepted, too, when an edge of its interval lies within `EDGE_TOLERANCE` of the draw. Greedy has
    no exponential and no tolerance.

    Raises
    ------
    InferenceError : the row holds NaN or infinity.
    """
    require_finite(row)
    if params.sampler == GREEDY:
        return int(row.argmax()) == token
    nucleus = _nucleus(row, params, context, draw(params.seed, index))
    if int(nucleus.ids[nucleus.chosen]) == token:
        return True
    # Tokens without weight may lie between: every edge within reach of the draw counts.
    first = int(np.searchsorted(nucleus.edges, nucleus.point - EDGE_TOLERANCE, side="left"))
    last = int(np.searchsorted(nucleus.edges, nucleus.point + EDGE_TOLERANCE, side="right"))
    return token in nucleus.ids[first : last + 1]


@dataclass(frozen=True, slots=True)
class _Nucleus:
    """The likeliest tokens, the upper edges of their intervals, the draw, and where it falls."""

    ids: NDArray[np.int64]
    edges: NDArray[np.float64]
    point: float
    chosen: int


def _nucleus(row: Logits, params: SamplingParams, context: Sequence[int], drawn: int) -> _Nucleus:
    """Intervals of the tokens by (logit descending, id ascending) as far as the draw needs them.

    Sorting a whole vocabulary costs more than decoding a token, so the head is sorted first. It has
    the same bits as in the whole: the sum does not depend on the order, the edges add from the top.
    """
    logits = _penalise(row, params.repeatPenaltyMilli, context)
    temperature = params.temperatureMilli / _MILLI
    highest = logits.max()
    if params.topK:
        kept = ranked(logits, params.topK)
        total = float(np.exp((logits[kept] - highest) / temperature).sum())
    else:
        total = float(np.exp((logits - highest) / temperature).sum())
    limit = min(params.topK or len(logits), len(logits))
    count = min(_HEAD, limit)
    while True:
        ids = kept[:count] if params.topK else ranked(logits, count)
        edges = np.cumsum(np.exp((logits[ids] - highest) / temperature) / total)
        found = _fall(ids, edges, params.topPMilli, drawn, whole=count == limit)
        if found is not None:
            return found
        count = limit


def _fall(
    ids: NDArray[np.int64], edges: NDArray[np.float64], top_p: int, drawn: int, *, whole: bool
) -> _Nucleus | None:
    """Where the draw falls; ``None`` when that is beyond a head that is not the whole."""
    mass = 1.0
    if top_p < _MILLI:
        # The nucleus is the shortest prefix whose mass reaches top-p; it always holds one token.
        kept = int(np.searchsorted(edges, top_p / _MILLI, side="left")) + 1
        if kept > len(ids) and not whole:
            return None
        ids, edges = ids[:kept], edges[:kept]
        mass = float(edges[-1])
        whole = True
    point = drawn / 2**64 * mass
    chosen = int(np.searchsorted(edges, point, side="right"))
    # The tolerance of an audit looks a little beyond the draw.
    if not whole and point + EDGE_TOLERANCE >= edges[-1]:
        return None
    return _Nucleus(ids, edges, point, min(chosen, len(ids) - 1))


def _penalise(row: Logits, penalty_milli: int, context: Sequence[int]) -> NDArray[np.float64]:
    wide = row.astype(np.float64)
    if penalty_milli == _MILLI or not context:
        return wide
    penalty = penalty_milli / _MILLI
    seen = np.unique(np.asarray(context, dtype=np.int64))
    values = wide[seen]
    wide[seen] = np.where(values > 0, values / penalty, values * penalty)
    return wide
