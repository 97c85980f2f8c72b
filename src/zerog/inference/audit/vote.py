"""What a verifier says about a receipt: a signed vote, and the commitment that hides it until all have voted.

Source: specification of Proof-of-Inference, sections 2 and 6. The commitment is
``keccak256(abi.encode(bytes32 voteDigest, bytes32 salt))``; the digest names the verifier, so a copied
commitment opens for nobody but its author.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from zerog.chain.keys import address_of, keccak256
from zerog.errors import InferenceError
from zerog.inference.encoding import ZERO_HASH
from zerog.inference.receipt import AuditVote, recover_signer, sign

VERDICTS = {AuditVote.GOOD: "good", AuditVote.BAD: "bad", AuditVote.UNAVAILABLE: "unavailable"}
"""What a person calls the verdicts."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a re-execution found: verdict, first bad leaf, own trace root, the reason for a person, and
    the seconds that it took."""

    verdict: int
    bad_index: int = AuditVote.NO_BAD_INDEX
    trace_root: bytes = ZERO_HASH
    reason: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict == AuditVote.GOOD

    def __str__(self) -> str:
        word = VERDICTS[self.verdict]
        if self.verdict == AuditVote.BAD and self.bad_index != AuditVote.NO_BAD_INDEX:
            word += f" from leaf {self.bad_index} on"
        return f"{word}: {self.reason}" if self.reason else word


@dataclass(frozen=True, slots=True)
class Ballot:
    """A signed vote and the salt that its commitment was made with."""

    vote: AuditVote
    signature: bytes
    salt: bytes = field(repr=False)
    digest: bytes

    @property
    def commitment(self) -> bytes:
        """What goes on chain before the vote."""
        return keccak256(self.digest + self.salt)


def cast(
    finding: Finding, receipt_hash: bytes, key: bytes, separator: bytes, salt: bytes | None = None
) -> Ballot:
    """The signed vote of the account of ``key``; a fresh salt unless one is given."""
    verifier = bytes.fromhex(address_of(key)[2:])
    vote = AuditVote(receipt_hash, verifier, finding.verdict, finding.bad_index, finding.trace_root)
    digest = vote.digest(separator)
    return Ballot(vote, sign(key, digest), salt or secrets.token_bytes(32), digest)


def check_ballot(ballot: Ballot, separator: bytes) -> None:
    """Raises `InferenceError` when digest or signature are not those of the vote."""
    if ballot.vote.digest(separator) != ballot.digest:
        raise InferenceError("the vote's digest belongs to another vote or another chain")
    if recover_signer(ballot.digest, ballot.signature) != ballot.vote.verifier:
        raise InferenceError("the vote is not signed by its verifier")
