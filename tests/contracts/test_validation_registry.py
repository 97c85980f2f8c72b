"""Every function and every revert of `ValidationRegistry`."""

from __future__ import annotations

import pytest

from zerog.chain.keys import keccak256
from zerog.contracts import INFERENCE_REGISTRY

SUBJECT = keccak256(b"subject")
RULE = keccak256(b"rule")


def _name(text: str) -> bytes:
    return text.encode().ljust(32, b"\0")


LEVELS = [_name("LOW"), _name("HIGH")]


@pytest.fixture
def domain(world):
    """A domain whose levels a test sets."""
    verifier = world.deploy("VerifierMock")
    world.validation.setDomain(_name("Mock"), verifier, RULE, LEVELS)
    return verifier


def test_the_three_kinds_of_proof_are_known_from_genesis(world):
    assert world.validation.domains() == [_name("PoS"), _name("PoRA"), _name("PoI")]
    poi = world.validation.domainOf(_name("PoI"))
    assert poi.verifier == INFERENCE_REGISTRY
    tiers = ["SIGNED", "OPTIMISTIC", "AUDITED", "TEE", "ZK", "NATIVE"]
    assert poi.levels == [_name(tier) for tier in tiers]
    assert poi.slashingRule == keccak256(b"PoI/all-stake-of-provider")


def test_a_consumed_receipt_is_validated_at_its_tier(world, reverts):
    receipt = world.receipt()
    receipt_hash = world.digest(receipt)
    with reverts("NotValidated"):
        world.validation.functions["requireValidated(bytes32,uint8)"](receipt_hash, 0)
    world.registry.consume(receipt.to_tuple(), world.sign(receipt), 0, account=world.user)
    world.validation.functions["requireValidated(bytes32,uint8)"](receipt_hash, 0)
    with reverts("LevelTooLow"):
        world.validation.functions["requireValidated(bytes32,uint8)"](receipt_hash, 1)
    assert tuple(world.validation.levelOf(receipt_hash)) == (_name("PoI"), 0)


def test_a_domain_can_be_named(world, domain, reverts):
    require = world.validation.functions["requireValidated(bytes32,bytes32,uint8)"]
    with reverts("NotValidated"):
        require(_name("Mock"), SUBJECT, 0)
    domain.setLevel(SUBJECT, 0)
    require(_name("Mock"), SUBJECT, 0)
    with reverts("LevelTooLow"):
        require(_name("Mock"), SUBJECT, 1)
    with reverts("NotValidated"):
        require(_name("PoI"), SUBJECT, 0)
    with reverts("UnknownDomain"):
        require(_name("PoX"), SUBJECT, 0)


def test_a_domain_out_of_service_validates_nothing(world, domain, reverts):
    domain.setLevel(SUBJECT, 1)
    world.validation.setDomain(_name("Mock"), "0x" + "00" * 20, RULE, LEVELS)
    with reverts("NotValidated"):
        world.validation.functions["requireValidated(bytes32,uint8)"](SUBJECT, 0)


def test_changing_a_domain_keeps_its_place(world, domain):
    world.validation.setDomain(_name("Mock"), domain, RULE, LEVELS[:1])
    assert world.validation.domains().count(_name("Mock")) == 1
    assert world.validation.domainOf(_name("Mock")).levels == LEVELS[:1]


def test_descriptions_of_domains_are_checked(world, domain, reverts):
    set_domain = world.validation.setDomain
    with reverts("EmptyDomainName"):
        set_domain(bytes(32), domain, RULE, LEVELS)
    with reverts("InvalidLevels(given=0, limit=16)"):
        set_domain(_name("New"), domain, RULE, [])
    with reverts("InvalidLevels(given=17, limit=16)"):
        set_domain(_name("New"), domain, RULE, LEVELS[:1] * 17)
    with reverts("VerifierWithoutCode"):
        set_domain(_name("New"), world.user, RULE, LEVELS)
    with reverts("UnknownDomain"):
        world.validation.domainOf(_name("New"))


def test_the_number_of_domains_is_bounded(world, domain, reverts):
    for number in range(16 - len(world.validation.domains())):
        world.validation.setDomain(_name(f"D{number}"), domain, RULE, LEVELS)
    with reverts("TooManyDomains(limit=16)"):
        world.validation.setDomain(_name("D99"), domain, RULE, LEVELS)


def test_only_the_administrator_sets_domains(world, domain, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        world.validation.setDomain(_name("New"), domain, RULE, LEVELS, account=world.stranger)
