"""Canaries: receipts that are known to be bad, laid to find verifiers that vote without executing.

A canary is an answer with one changed bit in one logit. Its requester commits on chain to having laid
it before the receipt is there, and says so when the first committee has voted; the dispute that follows
finds the receipt bad, spares the provider, and takes ``canaryPpm`` of the stake of everyone who had
called it good (specification of Proof-of-Inference, section 6)::

    layer = CanaryLayer(contracts, provider, journal, store, engine)
    laid = layer.lay(b"Name a colour.")
    while layer.waiting: layer.tick()       # reveals when the first committee has voted

Whoever lays needs a provider's stake and, until the dispute is over, the bond. The provider is spared
only if the reveal comes before the dispute is settled, so that the process must not stop in between; what
it laid is in the journal, and a restart goes on with it.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError, ZerogError
from zerog.inference.answer import Answer, Domain, Inquiry, sampling
from zerog.inference.audit.chain import Audit, AuditPhase
from zerog.inference.audit.cheats import cheat
from zerog.inference.receipt import engine_id

if TYPE_CHECKING:
    from pathlib import Path

    from zerog.client import Account
    from zerog.inference.audit.contract import AuditContracts
    from zerog.inference.audit.journal import Journal
    from zerog.inference.engines import Engine
    from zerog.inference.publication import TranscriptStore

log = logging.getLogger("zerog.audit")

DEFAULT_PPM = 50_000
"""Canaries per million receipts, where other people's stake is at risk."""
GAS_MONEY = 10**17
"""Wei beyond the bond that a requester is given."""
POLL = 1.0
"""Seconds between looks at the chain."""
_SPAN = 10_000
_TOKENS = 12
QUESTIONS = (
    b"Name three colours.",
    b"What is a harbour?",
    b"Explain rain to a child.",
    b"Give me a word that rhymes with light.",
    b"Which planet is the largest?",
    b"Say good morning in Italian.",
)


@dataclass(frozen=True, slots=True)
class Canary:
    """A receipt that was laid."""

    receipt_hash: bytes
    requester: str


class CanaryLayer:
    """See the module's docstring.

    Parameters
    ----------
    contracts : the chain.
    provider : account with a provider's stake (it registers when it has none), which signs the receipts,
        and which requesters are funded from.
    journal : remembers what was laid.
    store : where transcripts are published.
    load : gives the true engine; the canary is its answer but for one bit.
    weights : file of the model.
    share_ppm : how many canaries are laid per million receipts that are seen by `run`.
    tell : hears a sentence and the receipt hash whenever something happens.
    """

    def __init__(
        self,
        contracts: AuditContracts,
        provider: Account,
        journal: Journal,
        store: TranscriptStore,
        load: Callable[[], Engine],
        weights: Path,
        *,
        share_ppm: int = DEFAULT_PPM,
        tell: Callable[[str, bytes], None] = lambda text, receipt_hash: None,
    ) -> None:
        self._contracts = contracts
        self._client = contracts.client
        self._provider = provider
        self._journal = journal
        self._store = store
        self._load = load
        self._weights = weights
        self._share = share_ppm
        self._tell = tell
        self._seen = contracts.client.block_number

    @property
    def waiting(self) -> list[bytes]:
        """Receipts that were laid and not revealed yet."""
        return list(self._journal.canaries(self._contracts.identity))

    def lay(self, question: bytes | None = None) -> Canary:
        """Makes a bad receipt, commits to it, and puts it on chain.

        Raises
        ------
        InferenceError : the engine fails, or the chain has no audits.
        """
        self._enrol()
        requester = self._requester()
        salt = secrets.token_bytes(32)
        answer = self._answer(question or secrets.choice(QUESTIONS), requester)
        receipt_hash = answer.receipt_hash
        commitment = keccak256(receipt_hash + salt)
        # On disk before the chain hears of it: a canary that nobody can reveal costs the provider its stake.
        self._journal.keep_canary(self._contracts.identity, receipt_hash, salt + requester.key)
        self._contracts.audits.commitCanary(commitment, account=requester)
        self._store.publish(answer.published)
        self._contracts.registry.record(answer.receipt.to_tuple(), answer.signature, account=self._provider)
        self._tell(f"laid the canary 0x{receipt_hash.hex()}", receipt_hash)
        return Canary(receipt_hash, requester.address)

    def tick(self) -> None:
        """Reveals every canary whose first committee has voted."""
        for receipt_hash, kept in self._journal.canaries(self._contracts.identity).items():
            audit = self._contracts.audit(receipt_hash)
            if _may_reveal(audit):
                self._reveal(receipt_hash, kept, audit)
            elif audit.phase in (AuditPhase.BAD, AuditPhase.UNAVAILABLE):
                self._journal.canary_revealed(self._contracts.identity, receipt_hash)
                self._tell(f"too late to reveal the canary 0x{receipt_hash.hex()}", receipt_hash)

    def run(self, stop: threading.Event, poll: float = POLL) -> None:
        """Lays and reveals until ``stop`` is set; a node that is away for a moment is waited for."""
        while not stop.wait(poll):
            try:
                self.tick()
                for _ in range(self._due()):
                    self.lay()
            except (ZerogError, OSError) as error:
                log.warning("canaries could not be followed: %s", error)

    # Internals.

    def _due(self) -> int:
        """How many canaries the receipts since the last look call for."""
        if not self._share:
            return 0
        head, own, due = self._client.block_number, self._provider.address.lower(), 0
        for start in range(self._seen + 1, head + 1, _SPAN):
            for found in self._contracts.recorded(start, min(head, start + _SPAN - 1)):
                foreign = "0x" + found.receipt.provider.hex() != own
                due += foreign and found.block > self._seen and secrets.randbelow(1_000_000) < self._share
        self._seen = max(self._seen, head)
        return due

    def _enrol(self) -> None:
        registry = self._contracts.registry
        engine = self._load()
        identity = engine_id(engine.description)
        provider, engines = registry.providerOf(self._provider.address)
        missing = max(0, int(registry.minStake()) - int(provider.stake))
        known = provider.active and provider.signer == self._provider.address
        if not known or missing or identity not in {bytes(one) for one in engines}:
            registry.registerProvider(
                self._provider, [identity], b"", b"", value=missing, account=self._provider
            )

    def _requester(self) -> Account:
        """A fresh account, so that a canary has no history of canaries."""
        from zerog.client.accounts import Account

        account = Account.random()
        money = self._contracts.terms().bond + GAS_MONEY
        self._client.send(account=self._provider, to=account, value=money)
        return account

    def _answer(self, question: bytes, requester: Account) -> Answer:
        from zerog.inference.audit.cheating import Liar

        registry = bytes.fromhex(self._contracts.registry.address[2:])
        domain = Domain(self._client.chain_id, registry)
        address = bytes.fromhex(requester.address[2:])
        inquiry = Inquiry(secrets.token_bytes(32), address, question, sampling(_TOKENS))
        bad = cheat("logit", self._load(), self._weights)
        liar = Liar(bad, self._provider.key, bytes.fromhex(self._provider.address[2:]), domain)
        return liar.answer(inquiry, self._client.block().timestamp, store=self._store)

    def _reveal(self, receipt_hash: bytes, kept: bytes, audit: Audit) -> None:
        from zerog.client.accounts import Account

        salt, requester = kept[:32], Account(kept[32:])
        bond = self._contracts.terms().bond if audit.phase.settled else 0
        self._contracts.audits.revealCanary(receipt_hash, salt, value=bond, account=requester)
        self._journal.canary_revealed(self._contracts.identity, receipt_hash)
        passed = "its committee had passed it" if audit.phase is AuditPhase.GOOD else "its committee objected"
        self._tell(f"revealed the canary 0x{receipt_hash.hex()}: {passed}", receipt_hash)


def _may_reveal(audit: Audit) -> bool:
    """Whether the first committee has voted and the dispute, if there is one, is not over."""
    if audit.phase in (AuditPhase.GOOD, AuditPhase.ESCALATED, AuditPhase.INCONCLUSIVE):
        return True
    return audit.phase in (AuditPhase.COMMITTING, AuditPhase.REVEALING) and audit.round > 0


def share_of(configured: int | None, devnet: bool) -> int:
    """The share of canaries that a configuration means, in millionths.

    Raises
    ------
    InferenceError : it is no share.
    """
    if configured is None:
        return 0 if devnet else DEFAULT_PPM
    if not 0 <= configured <= 1_000_000:
        raise InferenceError(f"a share of {configured} millionths lies outside 0 to 1,000,000")
    return configured
