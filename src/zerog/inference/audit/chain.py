"""What a verifier sees of a chain: values, and the calls it needs. `contract` implements them over JSON-RPC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from zerog.inference.audit.sending import Call
from zerog.inference.receipt import AuditVote, InferenceReceipt


class AuditPhase(IntEnum):
    """Where the audit of a receipt stands; numbers as the contract has them."""

    NONE = 0
    COMMITTING = 1
    REVEALING = 2
    ESCALATED = 3
    GOOD = 4
    BAD = 5
    UNAVAILABLE = 6
    INCONCLUSIVE = 7

    @property
    def settled(self) -> bool:
        """Whether nothing more happens by itself."""
        return self >= AuditPhase.GOOD


@dataclass(frozen=True, slots=True)
class Head:
    """A block: number and 0x-hash."""

    number: int
    hash: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """A receipt that came on chain in ``block``; ``tier`` as proven."""

    receipt_hash: bytes
    receipt: InferenceReceipt
    block: int


@dataclass(frozen=True, slots=True)
class Member:
    """A seat of the committee: 20-byte address, its commitment (zero: none yet), its revealed verdict (0: none)."""

    verifier: bytes
    commitment: bytes
    verdict: int

    @property
    def committed(self) -> bool:
        """Whether it has committed."""
        return any(self.commitment)

    @property
    def revealed(self) -> bool:
        """Whether its vote is known."""
        return self.verdict != 0


@dataclass(frozen=True, slots=True)
class Audit:
    """The audit of a receipt as the contract has it; block numbers, ``commit_ends`` is the last for commits."""

    phase: AuditPhase
    round: int
    from_leaf: int
    beacon_block: int
    commit_ends: int
    reveal_ends: int
    members: tuple[Member, ...]

    def member(self, verifier: bytes) -> Member | None:
        """The seat of a verifier in the committee of now."""
        return next((member for member in self.members if member.verifier == verifier), None)


@dataclass(frozen=True, slots=True)
class Terms:
    """The parameters of the contract that a verifier acts by; windows in blocks, amounts in wei."""

    rate_ppm: int
    beacon_delay: int
    draw_window: int
    challenge_window: int
    bond: int


class AuditChain(Protocol):
    """A chain with an audit contract."""

    @property
    def separator(self) -> bytes:
        """EIP-712 separator of receipts and votes."""
        ...

    @property
    def identity(self) -> bytes:
        """Chain id and audit contract, hashed together: promises made here count nowhere else."""
        ...

    def head(self) -> Head:
        """The newest block."""
        ...

    def block_hash(self, number: int) -> str | None:
        """0x-hash of a block, ``None`` when there is none."""
        ...

    def terms(self) -> Terms:
        """The parameters of now."""
        ...

    def recorded(self, first: int, last: int) -> list[Recorded]:
        """Receipts that came on chain, were drawn or challenged in these blocks, each once."""
        ...

    def audit(self, receipt_hash: bytes) -> Audit:
        """How far the audit of a receipt is."""
        ...

    def recorded_block(self, receipt_hash: bytes) -> int | None:
        """Block in which the registry noted a receipt that stands; ``None`` for an unknown or condemned one."""
        ...

    def header(self, number: int) -> bytes:
        """RLP of a block's header."""
        ...

    def beacon(self, receipt_hash: bytes) -> int | None:
        """Block whose randomness draws if the draw comes in the next block; ``None`` while it is to come."""
        ...

    def drawable(self, receipt: InferenceReceipt, beacon: int) -> tuple[int, int]:
        """Verifiers that a draw with this beacon can reach, and those registered."""
        ...

    def draw(self, receipt: InferenceReceipt, header: bytes, selection: bytes | None = None) -> Call:
        """Draws a committee. ``selection``: header of the first beacon, when its window was missed."""
        ...

    def standing(self, account: str) -> tuple[int, set[bytes]]:
        """Stake of a verifier in wei, and the pools it has joined."""
        ...

    def register(self, pools: Sequence[bytes], encryption_key: bytes, value: int) -> Call:
        """Registers a verifier, or adds ``value`` wei to its stake."""
        ...

    def challenge(self, receipt_hash: bytes, leaf: int, bond: int) -> Call:
        """Disputes a receipt; ``bond`` in wei."""
        ...

    def credit(self, account: str) -> int:
        """Wei that wait to be withdrawn."""
        ...

    def withdraw(self, account: str) -> Call:
        """Pays out credits."""
        ...

    def commit(self, receipt_hash: bytes, commitment: bytes) -> Call:
        """Commits to a vote."""
        ...

    def reveal(self, vote: AuditVote, signature: bytes, salt: bytes) -> Call:
        """Opens a commitment."""
        ...

    def settle(self, receipt_hash: bytes) -> Call:
        """Ends a window that has passed."""
        ...
