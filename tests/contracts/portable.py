"""The set deployed by transactions, and what every chain must be able to do with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.contracts.audit_court import BAD, COMMITTING, ESCALATED, GOOD, Court
from tests.contracts.conftest import OUTPUT, World, raw
from tests.contracts.proofs import CLASSIFIER, NATIVE, Judge

from zerog.client import Account, Client, Contract
from zerog.contracts import artifact
from zerog.contracts.genesis import AUDIT_PARAMETERS, MIN_STAKE
from zerog.contracts.inference_deployment import InferenceAddresses
from zerog.inference.audit.header import encode_header
from zerog.inference.encoding import TypedStruct, domain_separator
from zerog.inference.native_model import encode_input, encode_output

DELIVERED, DISPUTED = 3, 5
FUNDS = 10_000 * 10**18


@dataclass
class Chain:
    """A chain with the interface that a `World` needs of its devnet."""

    client: Client
    chain_id: int

    def mine(self, blocks: int = 1) -> None:
        self.client.request("anvil_mine", hex(blocks))

    def account(self) -> Account:
        """A new account with money."""
        made = Account.random()
        self.client.request("anvil_setBalance", made.address, hex(FUNDS))
        return made


@dataclass
class PortableWorld(World):
    """A world whose contracts were deployed."""

    addresses: InferenceAddresses

    def __post_init__(self) -> None:
        self.registry = self._at(self.addresses.registry, "InferenceRegistry")
        self.gate = self._at(self.addresses.gate, "InferenceGate")
        self.validation = self._at(self.addresses.validation, "ValidationRegistry")

    def _at(self, address: str, name: str) -> Contract:
        return self.client.contract(address, artifact(name).abi, account=self.admin)

    def digest(self, message: TypedStruct) -> bytes:
        return message.digest(domain_separator(self.net.chain_id, raw(self.addresses.registry)))


@dataclass
class PortableCourt(Court):
    """The audit contracts of such a world; headers are put together from what every node answers."""

    def __post_init__(self) -> None:
        addresses = self.world.addresses
        self.audit = self.world._at(addresses.audit, "InferenceAudit")
        self.verifiers = self.world._at(addresses.verifiers, "VerifierRegistry")
        self.enrol(self.members)

    def header(self, number: int) -> str:
        return (
            "0x" + encode_header(self.world.client.request("eth_getBlockByNumber", hex(number), False)).hex()
        )


def world_at(chain: Any, admin: Any, addresses: InferenceAddresses) -> PortableWorld:
    """A world with a provider, on any chain with the calls of a development node."""
    provider, user, stranger = (chain.account() for _ in range(3))
    made = PortableWorld(chain, admin, provider, Account.random(), user, stranger, addresses)
    made.register(provider, made.signer)
    return made


def court_of(world: PortableWorld) -> PortableCourt:
    """Three verifiers whose stake counts."""
    return PortableCourt(world, [world.net.account() for _ in range(3)])


def check_audited_request(world: PortableWorld) -> None:
    """Request, answer, draw, votes, delivery."""
    court = court_of(world)
    requested, receipt, receipt_hash = court.parked()
    members = court.draw(receipt).members
    assert len(set(members)) == 3
    assert court.state(receipt_hash) == COMMITTING
    court.ballot(receipt_hash, lambda member: 1)
    assert court.state(receipt_hash) == GOOD
    world.gate.finalize(requested, account=world.stranger)
    assert world.state(requested) == DELIVERED
    assert world.validation.levelOf(receipt_hash) == (b"PoI".ljust(32, b"\0"), 2)
    assert all(court.audit.creditOf(member) > 0 for member in members)
    before = world.client.balance(world.provider)
    owed = world.gate.creditOf(world.provider)
    world.gate.withdraw(world.provider, account=world.stranger)
    assert world.client.balance(world.provider) - before == owed > 0


def check_cheat_is_slashed(world: PortableWorld) -> None:
    """The first committee passes an answer, an outsider challenges it, the second one finds the fault."""
    court = court_of(world)
    requested, receipt, receipt_hash = court.parked()
    court.round(receipt, lambda member: 1)
    at_risk = world.registry.atRiskOf(world.provider)
    assert at_risk == MIN_STAKE
    court.audit.challenge(receipt_hash, 0, account=world.stranger, value=AUDIT_PARAMETERS.bond)
    assert court.state(receipt_hash) == ESCALATED
    court.round(receipt, lambda member: 2)
    assert court.state(receipt_hash) == BAD
    assert world.registry.atRiskOf(world.provider) == 0
    assert court.audit.creditOf(world.stranger) == at_risk // 2 + AUDIT_PARAMETERS.bond
    assert world.registry.levelOf(receipt_hash)[0] is False
    world.gate.finalize(requested)
    assert world.state(requested) == DISPUTED
    world.gate.refund(requested)
    assert world.gate.creditOf(world.user) > 0


def check_signed_request(world: PortableWorld) -> None:
    """An answer of the lowest tier is delivered at once, by whoever carries it."""
    requested = world.request()
    world.fulfill(world.answer(requested), OUTPUT, account=world.stranger)
    assert world.state(requested) == DELIVERED


def check_native_tier(world: PortableWorld) -> None:
    """The chain evaluates a model and the receipt counts as NATIVE."""
    judge = Judge(world, world.addresses.evidence)
    model, _ = judge.native()
    requested = judge.ask(model, encode_input((10, 20)), NATIVE)
    output = encode_output(*CLASSIFIER.evaluate((10, 20)))
    receipt = judge.answer(requested, output, NATIVE)
    judge.evidence.execute(receipt.to_tuple(), encode_input((10, 20)))
    world.fulfill(receipt, output)
    assert (world.state(requested), world.gate.requestOf(requested).tier) == (DELIVERED, NATIVE)


def check_silent_provider(world: PortableWorld) -> None:
    """A missed deadline costs a little stake, which the gate tells the audit."""
    world.gate.joinQueue(world.model, account=world.provider)
    requested = world.request()
    world.client.request("evm_increaseTime", 700)
    world.net.mine(1)
    world.gate.refund(requested)
    part = MIN_STAKE * AUDIT_PARAMETERS.missed_deadline_ppm // 1_000_000
    assert world.registry.stakeOf(world.provider) == MIN_STAKE - part


SCENES = [
    check_signed_request,
    check_audited_request,
    check_cheat_is_slashed,
    check_native_tier,
    check_silent_provider,
]
