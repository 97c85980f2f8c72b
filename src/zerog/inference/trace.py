"""The commitment to every logit row of a generation.

Source: specification of Proof-of-Inference, section 3 "Trace". A leaf is 105 bytes off chain and 32
on chain; verifiers of the exact class compare row hashes, of the tolerant class the eight pairs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from zerog.chain.keys import keccak256

PAIRS = 8
QUANTUM = 65536
"""Log-probabilities are committed in units of 1/65536."""

_LEAF = b"\x00"
_NODE = b"\x01"
_HEAD = struct.Struct(">II")
_PAIR = struct.Struct(">Ii")


@dataclass(frozen=True, slots=True)
class TraceStep:
    """What a trace keeps of one generated token.

    ``row_hash`` is the keccak256 of the float32 little-endian row; ``pairs`` are the eight likeliest
    tokens as (id, log-probability in units of 1/65536), likeliest first.
    """

    token: int
    row_hash: bytes
    pairs: tuple[tuple[int, int], ...]

    def leaf(self, index: int) -> bytes:
        """Leaf ``index`` of the trace tree."""
        preimage = _LEAF + _HEAD.pack(index, self.token) + self.row_hash
        return keccak256(preimage + b"".join(_PAIR.pack(*pair) for pair in self.pairs))


def trace_root(steps: Sequence[TraceStep]) -> bytes:
    """Root of the trace; zero for an output without tokens."""
    return merkle_root([step.leaf(i) for i, step in enumerate(steps)])


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes; an odd node is promoted unchanged."""
    if not leaves:
        return bytes(32)
    level = list(leaves)
    while len(level) > 1:
        above = [
            keccak256(_NODE + left + right) for left, right in zip(level[::2], level[1::2], strict=False)
        ]
        level = above + level[len(above) * 2 :]
    return level[0]
