"""The contracts deployed by transactions do what the predeploys do, with the same interface."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.contracts.portable import SCENES, Chain, PortableWorld, world_at

from zerog.chain.keys import keccak256
from zerog.cli.sender import ClientSender
from zerog.contracts import MODELS, artifact
from zerog.contracts.deployment import created_address
from zerog.contracts.genesis import MIN_STAKE, VERIFIER_MIN_STAKE
from zerog.contracts.inference_deployment import EASY, InferenceParameters, deploy_inference
from zerog.errors import ZerogError

PORTABLE = (
    "ValidationRegistry",
    "InferenceRegistry",
    "InferenceGate",
    "InferenceAudit",
    "VerifierRegistry",
    "ProofEvidence",
    "AuditDraw",
    "AuditSettlement",
)


def deployed(net: Any, parameters: InferenceParameters = EASY) -> PortableWorld:
    admin = net.accounts[0]
    made = deploy_inference(ClientSender(net.client, admin), parameters, keccak256=keccak256)
    return world_at(Chain(net.client, net.chain_id), admin, made)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_a_deployed_set_plays_every_scene(zerog_devnet, scene: Callable[[PortableWorld], None]) -> None:
    scene(deployed(zerog_devnet))


@pytest.mark.parametrize("name", PORTABLE)
def test_the_interface_is_that_of_the_predeploy(name: str) -> None:
    def interface(contract: str) -> list[str]:
        return sorted(str(entry) for entry in artifact(contract).abi if entry["type"] != "constructor")

    assert interface(f"Portable{name}") == interface(name)


@pytest.mark.parametrize("name", PORTABLE)
def test_the_layout_is_that_of_the_predeploy(name: str) -> None:
    assert artifact(f"Portable{name}").storage_layout.storage == artifact(name).storage_layout.storage


def test_the_default_parameters_are_within_their_limits_and_stand(zerog_devnet) -> None:
    client, admin = zerog_devnet.client, zerog_devnet.accounts[0]
    made = deploy_inference(ClientSender(client, admin), keccak256=keccak256)
    given = InferenceParameters()
    audit = client.contract(made.audit, artifact("InferenceAudit").abi).parameters()
    assert (audit.ratePpm, audit.drawWindow, audit.bond) == (20_000, 200, given.audit.bond)
    registry = client.contract(made.registry, artifact("InferenceRegistry").abi)
    assert (registry.minStake(), registry.unstakeDelay()) == (given.min_stake, given.unstake_delay)
    verifiers = client.contract(made.verifiers, artifact("VerifierRegistry").abi)
    assert (verifiers.minStake(), verifiers.activationDelay()) == (given.verifier_min_stake, 256)


def test_the_embedded_model_and_the_domain_are_registered(zerog_devnet) -> None:
    world = deployed(zerog_devnet)
    assert world.registry.modelOf(world.model).uri == MODELS[0].uri
    assert world.registry.engineClass(world.engine) == 1
    domain = world.validation.domainOf(b"PoI".ljust(32, b"\0"))
    assert domain.verifier.lower() == world.addresses.registry.lower()
    assert domain.levels[4].rstrip(b"\0") == b"ZK"
    assert world.registry.minStake() == MIN_STAKE
    verifiers = world._at(world.addresses.verifiers, "VerifierRegistry")
    assert verifiers.minStake() == VERIFIER_MIN_STAKE


def test_without_a_judge_of_quotes_nobody_is_attested(zerog_devnet) -> None:
    world = deployed(zerog_devnet)
    world.registry.renewAttestation(b"a quote", b"", account=world.provider)
    assert world.registry.attestationOf(world.signer).until == 0


def test_a_transaction_in_between_ends_the_deployment(zerog_devnet) -> None:
    class Late(ClientSender):
        nonce = property(lambda self: 99)

    with pytest.raises(ZerogError, match=r"the gate was created at 0x\w+, not at 0x\w+"):
        deploy_inference(Late(zerog_devnet.client, zerog_devnet.accounts[0]), EASY, keccak256=keccak256)


def test_parameters_outside_their_limits_end_the_deployment(zerog_devnet) -> None:
    wrong = replace(EASY, audit=replace(EASY.audit, committee=99))
    with pytest.raises(ZerogError, match="reverted"):
        deploy_inference(
            ClientSender(zerog_devnet.client, zerog_devnet.accounts[0]), wrong, keccak256=keccak256
        )


@pytest.mark.parametrize("nonce", [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x1234567])
def test_the_address_of_a_creation_is_known_before(nonce: int) -> None:
    from eth_utils import to_canonical_address
    from rlp import encode

    sender = "0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0"
    wanted = keccak256(encode([to_canonical_address(sender), nonce]))[12:]
    assert created_address(keccak256, sender, nonce) == f"0x{wanted.hex()}"


def test_a_known_creation_has_its_known_address() -> None:
    sender = "0x6ac7ea33f8831ea9dcc53393aaa88b25a785dbf0"
    assert created_address(keccak256, sender, 0) == "0xcd234a471b72ba2f1ccf0a70fcaba648a5eecd8d"
    assert created_address(keccak256, sender, 1) == "0x343c43a37d37dff08ae8c4a11544c718abb4fcf8"
