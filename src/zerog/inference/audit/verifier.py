"""The verifier: follows the chain, draws what is due, executes it again, votes, reveals, settles.

What has to be done follows from the chain and the journal alone, so that a restart, a reorganisation or
a devnet that goes back to a snapshot needs no special care: `Auditor.tick` looks at where each audit
stands and does the next step. Several verifiers of one process share the look, the execution and the
draws, and each signs its own vote.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from zerog.chain.keys import keccak256
from zerog.errors import ContractReverted, ZerogError
from zerog.inference.audit.chain import Audit, AuditChain, AuditPhase, Head, Recorded
from zerog.inference.audit.execution import Examiner, NotHereYet
from zerog.inference.audit.journal import Journal, Seat
from zerog.inference.audit.sending import Call, JournalledSender, refusal
from zerog.inference.audit.vote import Ballot, Finding, cast
from zerog.inference.receipt import AuditVote
from zerog.inference.verification import CannotCompare

if TYPE_CHECKING:
    from zerog.client import Account

log = logging.getLogger("zerog.audit")

LOOKBACK = 50_000
"""Blocks that a verifier which has just started looks back for open audits."""
SPAN = 10_000
"""Blocks per question for events."""
POLL = 0.25
"""Seconds between looks at the chain."""


class Need(IntEnum):
    """What an audit waits for; the largest need of all audits decides what the loop does."""

    NOTHING = 0
    BLOCK = 1
    WORK = 2
    LOOK = 3


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to tell a person: ``kind`` in one word, ``text`` in a sentence, facts for scripts."""

    kind: str
    text: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a verifier acts where the protocol leaves it a choice.

    Attributes
    ----------
    prepare : execute a receipt before its committee is drawn; right where whoever draws is drawn.
    patience : seconds of tries for a transcript before a chain that makes blocks on demand is moved on.
    retry : seconds between tries.
    margin : blocks before the end of the commit window at which a transcript counts as unavailable.
    withdraw_at : rewards are withdrawn when this much has gathered, wei.
    watch_ppm : share of the receipts that nobody was drawn for which are executed all the same, in millionths.
    """

    prepare: bool = False
    patience: float = 20.0
    retry: float = 1.0
    margin: int = 1
    withdraw_at: int = 10**16
    watch_ppm: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What a verifier registers with: pools, stake in wei, and whether it may read private transcripts."""

    pools: tuple[bytes, ...]
    stake: int
    private: bool = True

    def encryption_key(self, key: bytes) -> bytes:
        """The public key that private transcripts are sealed for; empty without."""
        from zerog.inference.privacy import public_key

        return public_key(key) if self.private else b""


@dataclass(slots=True)
class _Case:
    """An audit that may need something."""

    found: Recorded
    work: Future[Finding] | None = None
    work_leaf: int = 0
    first_try: float | None = None
    next_try: float = 0.0
    told: set[str] = field(default_factory=set)
    abstains: bool = False


class Auditor:
    """See the module's docstring.

    Parameters
    ----------
    chain : the contracts.
    sender : sends what the journal remembers.
    journal : what was promised.
    examiner : executes receipts again.
    voters : accounts that are registered as verifiers; the first one also draws and settles.
    standing : what they register with when they are not; ``None`` when somebody else sees to that.
    policy : see `Policy`.
    advance : makes one block, on a chain that makes them only on demand.
    tell : hears what happens.
    """

    def __init__(
        self,
        chain: AuditChain,
        sender: JournalledSender,
        journal: Journal,
        examiner: Examiner,
        voters: Sequence[Account],
        *,
        standing: Standing | None = None,
        policy: Policy | None = None,
        advance: Callable[[], None] | None = None,
        tell: Callable[[Happening], None] = lambda happening: None,
    ) -> None:
        self._chain = chain
        self._sender = sender
        self._journal = journal
        self._examiner = examiner
        self._voters = {bytes.fromhex(voter.address[2:]): voter for voter in voters}
        self._carrier = voters[0]
        self._standing = standing
        self._policy = policy or Policy()
        self._secret = keccak256(b"zerog watch" + voters[0].key)
        self._advance = advance
        self._tell = tell
        self._cases: dict[bytes, _Case] = {}
        self._position: Head | None = None
        self._enrolled = standing is None
        self._workers = ThreadPoolExecutor(1, thread_name_prefix="audit")

    # The loop.

    def run(self, stop: threading.Event, poll: float = POLL) -> None:
        """Works until ``stop`` is set; a node that is away for a moment is waited for."""
        try:
            while not stop.is_set():
                try:
                    need = self.tick()
                except (ZerogError, OSError) as error:
                    log.warning("audits could not be followed: %s", error)
                    need = Need.NOTHING
                if need is Need.BLOCK and self._advance is not None:
                    self._make_block()
                    continue
                stop.wait(0 if need is Need.LOOK else poll if need is Need.NOTHING else poll / 10)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the worker; a running execution is waited for by nobody."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _make_block(self) -> None:
        assert self._advance is not None
        try:
            self._advance()
        except ZerogError as error:
            log.debug("no block could be made: %s", error)

    def tick(self) -> Need:
        """One look at everything; what has to be waited for."""
        head = self._chain.head()
        self._follow(head)
        needs = [Need.NOTHING]
        if not self._enrolled:
            # Before the first receipt: private answers are sealed for those who are registered.
            needs.append(self._enrol())
            self._enrolled = needs[-1] is Need.NOTHING
        for receipt_hash, case in list(self._cases.items()):
            try:
                needs.append(self._step(receipt_hash, case, head))
            except ContractReverted as error:
                # Another verifier was faster, or the window closed in between: the next look tells.
                log.debug("audit 0x%s: refused with %s", receipt_hash.hex(), refusal(error))
                needs.append(Need.NOTHING)
        return max(needs)

    @property
    def open_audits(self) -> list[bytes]:
        """Receipts whose audits this verifier follows."""
        return list(self._cases)

    # Following the chain.

    def _follow(self, head: Head) -> None:
        position = self._position
        if position is not None and self._chain.block_hash(position.number) != position.hash:
            log.info("the chain was reorganised below block %d: looking again", position.number)
            position = None
            self._cases.clear()
        first = max(0, head.number - LOOKBACK) if position is None else position.number + 1
        for start in range(first, head.number + 1, SPAN):
            for found in self._chain.recorded(start, min(head.number, start + SPAN - 1)):
                self._cases.setdefault(found.receipt_hash, _Case(found))
        self._position = head

    def _forget(self, receipt_hash: bytes) -> Need:
        self._cases.pop(receipt_hash, None)
        return Need.NOTHING

    # One audit.

    def _step(self, receipt_hash: bytes, case: _Case, head: Head) -> Need:
        audit = self._chain.audit(receipt_hash)
        if audit.phase.settled:
            self._announce(receipt_hash, case, audit)
            self._collect()
            return self._forget(receipt_hash)
        if case.abstains:
            return Need.NOTHING
        if audit.phase in (AuditPhase.NONE, AuditPhase.ESCALATED):
            return self._draw(receipt_hash, case, audit, head)
        if audit.phase is AuditPhase.COMMITTING and head.number < audit.commit_ends:
            return self._commit(receipt_hash, case, audit, head)
        committed = any(member.committed for member in audit.members)
        opens = audit.commit_ends if audit.phase is AuditPhase.COMMITTING else 0
        # Gas is estimated on the newest block, so that a window must have passed there.
        if committed and opens < head.number < audit.reveal_ends:
            return self._reveal(receipt_hash, case, audit, head)
        if head.number <= (audit.reveal_ends if committed else audit.commit_ends):
            return Need.BLOCK
        return self._send(receipt_hash, audit, "settle", self._carrier, self._chain.settle(receipt_hash))

    def _draw(self, receipt_hash: bytes, case: _Case, audit: Audit, head: Head) -> Need:
        """Draws the committee when its beacon is there."""
        terms = self._chain.terms()
        first = audit.beacon_block
        if audit.phase is AuditPhase.NONE:
            recorded = self._chain.recorded_block(receipt_hash)
            if recorded is None:
                return self._forget(receipt_hash)
            first = recorded + terms.beacon_delay
        elif head.number > first + terms.challenge_window:
            # Nobody can be drawn: the dispute ends without a conclusion.
            return self._send(receipt_hash, audit, "settle", self._carrier, self._chain.settle(receipt_hash))
        if (need := self._enrol()) is not Need.NOTHING:
            return need
        beacon = self._chain.beacon(receipt_hash)
        # One block more: gas is estimated on the newest block, where the beacon must lie in the past, too.
        if beacon is None or head.number <= beacon:
            return Need.BLOCK
        if self._policy.prepare:
            finding = self._finding(receipt_hash, case, audit.from_leaf)
            if finding is None and not self._is_out_of_patience(case):
                return Need.WORK
            reachable, registered = self._chain.drawable(case.found.receipt, beacon)
            if reachable < registered:
                return Need.BLOCK
        late = audit.phase is AuditPhase.NONE and beacon != first
        call = self._chain.draw(
            case.found.receipt, self._chain.header(beacon), self._chain.header(first) if late else None
        )
        try:
            return self._send(receipt_hash, audit, f"draw {beacon}", self._carrier, call)
        except ContractReverted as error:
            if refusal(error) in ("NotSelected", "BeaconMissed"):
                return self._overlook(receipt_hash, case, audit, terms.bond)
            if refusal(error) == "NobodyToDraw":
                return Need.BLOCK
            raise

    def _enrol(self) -> Need:
        """Registers the voters, as far as the chain does not know them."""
        if self._standing is None:
            return Need.NOTHING
        need = Need.NOTHING
        for address, voter in self._voters.items():
            stake, pools = self._chain.standing(voter.address)
            missing = max(0, self._standing.stake - stake)
            if not missing and set(self._standing.pools) <= pools:
                continue
            call = self._chain.register(
                self._standing.pools, self._standing.encryption_key(voter.key), missing
            )
            purpose = f"{self._chain.identity.hex()[:16]} register {voter.address} {stake}"
            sent = self._sender.send(purpose, voter, call)
            need = max(need, Need.BLOCK if sent is None else Need.LOOK)
            if sent is not None:
                self._tell(
                    Happening(
                        "registered",
                        f"0x{address.hex()} is a verifier",
                        {"verifier": voter.address, "transaction": sent["transactionHash"]},
                    )
                )
        return need

    def _overlook(self, receipt_hash: bytes, case: _Case, audit: Audit, bond: int) -> Need:
        """A receipt that nobody was drawn for: perhaps looked at all the same, and challenged."""
        chance = int.from_bytes(keccak256(self._secret + receipt_hash)[:4])
        if chance * 1_000_000 >= self._policy.watch_ppm << 32:
            log.info("receipt 0x%s was not drawn", receipt_hash.hex())
            return self._forget(receipt_hash)
        finding = self._finding(receipt_hash, case, 0)
        if finding is None:
            return Need.NOTHING
        self._say_once(case, "watched", "watched", f"receipt 0x{receipt_hash.hex()}, not drawn: {finding}",
                       receiptHash=receipt_hash, verdict=finding.verdict, badIndex=finding.bad_index)  # fmt: skip
        if finding.good:
            return self._forget(receipt_hash)
        call = self._chain.challenge(receipt_hash, finding.bad_index, bond)
        try:
            return self._send(receipt_hash, audit, "challenge", self._carrier, call)
        except ContractReverted as error:
            log.info("receipt 0x%s cannot be challenged: %s", receipt_hash.hex(), refusal(error))
            return self._forget(receipt_hash)

    def _commit(self, receipt_hash: bytes, case: _Case, audit: Audit, head: Head) -> Need:
        """Commits every own member that has not."""
        open_seats = [m for m in audit.members if m.verifier in self._voters and not m.committed]
        if not open_seats:
            return Need.BLOCK
        self._say_once(case, f"drawn {audit.round}", "drawn", _drawn_text(receipt_hash, audit, len(open_seats)),
                       receiptHash=receipt_hash, round=audit.round)  # fmt: skip
        finding = self._finding(receipt_hash, case, audit.from_leaf)
        if finding is None:
            if head.number < audit.commit_ends - self._policy.margin:
                return Need.BLOCK if self._is_out_of_patience(case) else Need.WORK
            if case.work is not None and not case.work.done():
                return Need.WORK  # It executes: the transcript is there.
            finding = Finding(
                AuditVote.UNAVAILABLE, reason="the transcript could not be had until the deadline"
            )
        need = Need.NOTHING
        for member in open_seats:
            seat = self._seat(receipt_hash, audit, member.verifier)
            ballot = self._ballot(seat, finding)
            call = self._chain.commit(receipt_hash, ballot.commitment)
            need = max(need, self._send(receipt_hash, audit, "commit", self._voters[member.verifier], call))
        return need

    def _reveal(self, receipt_hash: bytes, case: _Case, audit: Audit, head: Head) -> Need:
        """Opens every own commitment that is closed."""
        need = Need.BLOCK
        for member in audit.members:
            if member.verifier not in self._voters or not member.committed or member.revealed:
                continue
            ballot = self._journal.committed_to(
                self._seat(receipt_hash, audit, member.verifier), member.commitment
            )
            if ballot is None:
                self._say_once(case, f"lost {audit.round}", "lost", "the journal does not know the commitment "
                               f"of 0x{member.verifier.hex()}", receiptHash=receipt_hash)  # fmt: skip
                continue
            call = self._chain.reveal(ballot.vote, ballot.signature, ballot.salt)
            need = max(need, self._send(receipt_hash, audit, "reveal", self._voters[member.verifier], call))
        return need

    # Votes.

    def _seat(self, receipt_hash: bytes, audit: Audit, verifier: bytes) -> Seat:
        """The place in this draw; windows and members identify a draw on every branch of the chain."""
        draw = keccak256(
            audit.commit_ends.to_bytes(8)
            + audit.from_leaf.to_bytes(4)
            + b"".join(member.verifier for member in audit.members)
        )
        return Seat(self._chain.identity, receipt_hash, audit.round, draw, verifier)

    def _ballot(self, seat: Seat, finding: Finding) -> Ballot:
        known = self._journal.ballot(seat)
        if known is not None:
            return known
        fresh = cast(finding, seat.receipt_hash, self._voters[seat.verifier].key, self._chain.separator)
        ballot = self._journal.decide(seat, fresh, finding.reason)
        self._tell(
            Happening(
                "voted",
                f"0x{seat.verifier.hex()} votes {finding}",
                {
                    "receiptHash": "0x" + seat.receipt_hash.hex(),
                    "round": seat.round,
                    "verifier": "0x" + seat.verifier.hex(),
                    "verdict": finding.verdict,
                    "badIndex": finding.bad_index,
                    "reason": finding.reason,
                    "seconds": round(finding.seconds, 4),
                },
            )
        )
        return ballot

    def _finding(self, receipt_hash: bytes, case: _Case, from_leaf: int) -> Finding | None:
        """What the re-execution found; ``None`` while it runs or waits for the transcript."""
        known = self._examiner.known(receipt_hash, from_leaf)
        if known is not None:
            return known
        now = time.monotonic()
        if case.work is not None and case.work.done():
            work, case.work = case.work, None
            try:
                if case.work_leaf == from_leaf:
                    return work.result()
            except NotHereYet as error:
                log.info("audit 0x%s: %s", receipt_hash.hex(), error)
                case.next_try = now + self._policy.retry
            except CannotCompare as error:
                # Neither good nor bad can be said of it: whoever votes all the same would be guessing.
                case.abstains = True
                self._say_once(case, "abstains", "abstains", f"receipt 0x{receipt_hash.hex()}: {error.message}",
                               receiptHash=receipt_hash)  # fmt: skip
                return None
            except ZerogError as error:
                self._say_once(case, "stuck", "stuck", f"cannot execute: {error}", receiptHash=receipt_hash)
                case.next_try = now + self._policy.retry
        if case.work is None and now >= case.next_try:
            if case.first_try is None:
                case.first_try = now
            case.work_leaf = from_leaf
            case.work = self._workers.submit(
                self._examiner.examine, receipt_hash, case.found.receipt, from_leaf
            )
        return None

    def _is_out_of_patience(self, case: _Case) -> bool:
        started = case.first_try
        running = case.work is not None and not case.work.done()
        return not running and started is not None and time.monotonic() - started > self._policy.patience

    # Transactions and news.

    def _send(self, receipt_hash: bytes, audit: Audit, step: str, account: Account, call: Call) -> Need:
        purpose = (
            f"{self._chain.identity.hex()[:16]} {receipt_hash.hex()} {audit.round} {step} {account.address}"
        )
        receipt = self._sender.send(purpose, account, call)
        if receipt is None:
            return Need.BLOCK
        log.info("%s: %s", call.what, receipt["transactionHash"])
        return Need.LOOK

    def _say_once(self, case: _Case, key: str, kind: str, text: str, **facts: Any) -> None:
        if key not in case.told:
            case.told.add(key)
            self._tell(Happening(kind, text, {name: _plain(value) for name, value in facts.items()}))

    def _announce(self, receipt_hash: bytes, case: _Case, audit: Audit) -> None:
        self._say_once(
            case, "settled", "settled", f"receipt 0x{receipt_hash.hex()}: {audit.phase.name.lower()}",
            receiptHash=receipt_hash, state=audit.phase.name.lower(), round=audit.round,
        )  # fmt: skip

    def _collect(self) -> None:
        """Withdraws rewards that have gathered."""
        for voter in self._voters.values():
            credit = self._chain.credit(voter.address)
            if credit < self._policy.withdraw_at:
                continue
            purpose = f"{self._chain.identity.hex()[:16]} withdraw {voter.address} {credit}"
            sent = self._sender.send(purpose, voter, self._chain.withdraw(voter.address))
            if sent is not None:
                facts = {
                    "verifier": voter.address,
                    "amount": str(credit),
                    "transaction": sent["transactionHash"],
                }
                self._tell(Happening("paid", f"{voter.address} was paid {credit} wei", facts))


def _plain(value: Any) -> Any:
    return "0x" + value.hex() if isinstance(value, bytes) else value


def _drawn_text(receipt_hash: bytes, audit: Audit, own: int) -> str:
    return (
        f"receipt 0x{receipt_hash.hex()}: committee of {len(audit.members)} drawn for round {audit.round}, "
        f"{own} of them here; votes until block {audit.commit_ends}"
    )
