"""Deterministic samplers: the token follows from logits and parameters alone.

Source: specification of Proof-of-Inference, section 3 "Samplers". Any verifier that has the same
logits chooses the same token, so a provider cannot pick one it likes better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError
from zerog.inference.logits import Logits, ranked, require_finite
from zerog.inference.receipt import GREEDY, INVERSE_CDF, SamplingParams

MAX_TOKENS = 4096
_MILLI = 1000
_GREEDY_VALUES = {"temperatureMilli": 0, "topPMilli": _MILLI, "topK": 0, "repeatPenaltyMilli": _MILLI}


def gate_seed(request_id: bytes, block_randomness: bytes) -> int:
    """Seed of a request made on chain: nobody who answers it can choose the randomness of its block."""
    return int.from_bytes(keccak256(request_id + block_randomness)[24:])


def draw(seed: int, index: int) -> int:
    """The ``index``-th draw as a 64-bit number; divided by 2^64 it is uniform in [0, 1)."""
    return int.from_bytes(keccak256(seed.to_bytes(8) + index.to_bytes(4))[:8])


def check_params(params: SamplingParams) -> None:
    """Raises `InferenceError` naming a parameter that is out of range or contradicts the sampler."""
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
    return _inverse_cdf(_penalise(row, params.repeatPenaltyMilli, context), params, index)


def _penalise(row: Logits, penalty_milli: int, context: Sequence[int]) -> NDArray[np.float64]:
    wide = row.astype(np.float64)
    if penalty_milli == _MILLI or not context:
        return wide
    penalty = penalty_milli / _MILLI
    seen = np.unique(np.asarray(context, dtype=np.int64))
    values = wide[seen]
    wide[seen] = np.where(values > 0, values / penalty, values * penalty)
    return wide


def _inverse_cdf(logits: NDArray[np.float64], params: SamplingParams, index: int) -> int:
    ids = ranked(logits, params.topK or len(logits))
    scaled = logits[ids] / (params.temperatureMilli / _MILLI)
    weights = np.exp(scaled - scaled.max())
    cumulative = np.cumsum(weights / weights.sum())
    # The nucleus is the shortest prefix whose mass reaches top-p; it always holds one token.
    kept = int(np.searchsorted(cumulative, params.topPMilli / _MILLI, side="left")) + 1
    cumulative = cumulative[: min(kept, len(ids))]
    point = draw(params.seed, index) / 2**64 * cumulative[-1]
    return int(ids[min(int(np.searchsorted(cumulative, point, side="right")), len(cumulative) - 1)])
