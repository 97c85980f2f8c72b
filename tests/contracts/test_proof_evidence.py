"""The judge of the tiers ZK and NATIVE takes what is proven and refuses the rest, naming what does not fit."""

from __future__ import annotations

from itertools import product

import pytest
from tests.contracts.proofs import CLASSIFIER, NATIVE, ZK, Judge

from zerog.chain.keys import keccak256
from zerog.inference.native_model import encode_input, encode_output
from zerog.inference.zk import Proof, encode_instances

FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617
PROOF = Proof(b"a proof of 21 bytes..", inputs=(3, FIELD - 1), outputs=(7,))
ACCEPT, REFUSE, REVERT = range(3)
NOBODY = "0x" + "00" * 20
STRANGE = keccak256(b"no such model")


@pytest.fixture
def judge(world) -> Judge:
    return Judge(world)


@pytest.fixture
def verifier(world):
    """A verifier of proofs whose answer the test sets; it accepts at first."""
    return world.deploy("ProofVerifierMock")


@pytest.fixture
def circuit(judge, verifier) -> bytes:
    """A model with a circuit of two inputs and one output."""
    model = judge.register(keccak256(b"weights"), "ezkl")
    judge.evidence.setCircuit(model, verifier, 2, 1)
    return model


def zk_receipt(judge, model, proof=PROOF, **changes):
    fields = {
        "modelId": model,
        "engineId": judge.engine,
        "inputHash": keccak256(encode_instances(proof.inputs)),
        "outputHash": keccak256(encode_instances(proof.outputs)),
        "evidenceHash": proof.evidence_hash(),
        "tier": ZK,
    }
    return judge.world.receipt(**(fields | changes))


def native_receipt(judge, model, values=(10, 20), **changes):
    fields = {
        "modelId": model,
        "engineId": judge.engine,
        "inputHash": keccak256(encode_input(values)),
        "outputHash": keccak256(encode_output(*CLASSIFIER.evaluate(values))),
        "tier": NATIVE,
    }
    return judge.world.receipt(**(fields | changes))


def prove(judge, receipt, proof=PROOF, instances=None):
    given = list(proof.instances) if instances is None else instances
    return judge.evidence.prove(receipt.to_tuple(), proof.proof, given, account=judge.world.stranger)


# Who sets models.


@pytest.mark.parametrize("role", ["DEFAULT_ADMIN_ROLE", "CURATOR_ROLE"])
def test_genesis_gives_the_roles_to_the_administrator(judge, world, role):
    member = getattr(judge.evidence, role)()
    assert judge.evidence.hasRole(member, world.admin)
    assert not judge.evidence.hasRole(member, world.stranger)


def test_the_registry_takes_evidence_from_the_judge_alone(judge, world, reverts):
    role = world.registry.EVIDENCE_ROLE()
    assert world.registry.hasRole(role, judge.evidence)
    with reverts("AccessControlUnauthorizedAccount"):
        world.registry.recordEvidence(bytes(32), ZK)


def test_only_the_curator_sets_circuits_and_native_models(judge, world, circuit, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        judge.evidence.setCircuit(circuit, NOBODY, 1, 1, account=world.stranger)
    with reverts("AccessControlUnauthorizedAccount"):
        judge.evidence.setNativeModel(circuit, NOBODY, account=world.stranger)


def test_a_circuit_is_set_replaced_and_withdrawn(judge, circuit, verifier, reverts):
    standing = judge.evidence.circuitOf(circuit)
    assert (standing.verifier.lower(), standing.inputs, standing.outputs) == (verifier.address.lower(), 2, 1)
    done = judge.evidence.setCircuit(circuit, NOBODY, 5, 6)
    assert [event.name for event in judge.evidence.decode(done)] == ["CircuitSet"]
    assert judge.evidence.circuitOf(circuit) == (NOBODY, 5, 6)
    with reverts("NoCircuit"):
        prove(judge, zk_receipt(judge, circuit))


@pytest.mark.parametrize("inputs, outputs", [(0, 1), (1, 0), (4096, 1), (1 << 31, 1 << 31)])
def test_a_circuit_has_inputs_and_outputs_and_a_limit(judge, circuit, verifier, reverts, inputs, outputs):
    with reverts(f"InstanceCountInvalid(given={inputs + outputs}, limit=4096)"):
        judge.evidence.setCircuit(circuit, verifier, inputs, outputs)


def test_the_largest_circuit_is_accepted(judge, circuit, verifier):
    judge.evidence.setCircuit(circuit, verifier, 4095, 1)
    assert judge.evidence.circuitOf(circuit).inputs == 4095


def test_a_judge_of_an_unknown_model_or_without_code_is_refused(judge, world, circuit, verifier, reverts):
    with reverts("ModelUnknown"):
        judge.evidence.setCircuit(STRANGE, verifier, 1, 1)
    with reverts("ModelUnknown"):
        judge.evidence.setNativeModel(STRANGE, verifier)
    with reverts("WithoutCode"):
        judge.evidence.setCircuit(circuit, world.stranger, 1, 1)
    with reverts("WithoutCode"):
        judge.evidence.setNativeModel(circuit, world.stranger)


def test_a_native_contract_stands_for_the_model_of_its_weights_only(judge, circuit, reverts):
    _, contract = judge.native()
    with reverts("ModelMismatch"):
        judge.evidence.setNativeModel(circuit, contract)


def test_a_native_model_can_be_withdrawn(judge, reverts):
    model, contract = judge.native()
    assert judge.evidence.nativeModel(model).lower() == contract.address.lower()
    judge.evidence.setNativeModel(model, NOBODY)
    with reverts("NoNativeModel"):
        judge.evidence.execute(native_receipt(judge, model).to_tuple(), encode_input((10, 20)))


# Tier ZK.


def test_an_accepted_proof_makes_the_claim_count(judge, world, circuit):
    receipt = zk_receipt(judge, circuit)
    assert world.verify(receipt) == (True, 0, world.digest(receipt))
    done = prove(judge, receipt)
    assert [event.name for event in judge.evidence.decode(done)] == ["EvidenceAccepted"]
    assert world.verify(receipt, tier=ZK) == (True, ZK, world.digest(receipt))


def test_a_recorded_receipt_is_lifted_by_its_proof(judge, world, circuit):
    receipt = zk_receipt(judge, circuit)
    world.registry.record(receipt.to_tuple(), world.sign(receipt))
    assert world.registry.levelOf(world.digest(receipt)) == (True, 0)
    prove(judge, receipt)
    assert world.registry.levelOf(world.digest(receipt)) == (True, ZK)


def test_a_proof_lifts_no_other_receipt(judge, world, circuit, reverts):
    prove(judge, zk_receipt(judge, circuit))
    other = zk_receipt(judge, circuit, promptTokens=99)
    with reverts("PoITierTooLow"):
        world.verify(other, tier=ZK)


def test_evidence_of_one_tier_is_none_for_another(judge, world, circuit, reverts):
    prove(judge, zk_receipt(judge, circuit))
    with reverts("PoITierTooLow"):
        world.verify(zk_receipt(judge, circuit, tier=NATIVE), tier=1)


@pytest.mark.parametrize("tier", [0, 3, NATIVE])
def test_a_proof_is_for_a_receipt_that_claims_it(judge, circuit, reverts, tier):
    with reverts(f"TierNotClaimed(expected={ZK}, given={tier})"):
        prove(judge, zk_receipt(judge, circuit, tier=tier))


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_wrong_number_of_instances_is_refused(judge, circuit, reverts, count):
    with reverts(f"InstanceCountMismatch(expected=3, given={count})"):
        prove(judge, zk_receipt(judge, circuit), instances=[1] * count)


@pytest.mark.parametrize("place, value", list(product(range(3), (FIELD, (1 << 256) - 1))))
def test_a_second_encoding_of_an_instance_is_refused(judge, circuit, reverts, place, value):
    instances = list(PROOF.instances)
    instances[place] = value
    with reverts(f"InstanceOutOfField(index={place}, value={value})"):
        prove(judge, zk_receipt(judge, circuit), instances=instances)


@pytest.mark.parametrize(
    "field, error",
    [("inputHash", "InputMismatch"), ("outputHash", "OutputMismatch"), ("evidenceHash", "EvidenceMismatch")],
)
def test_a_receipt_of_other_bytes_is_refused(judge, circuit, reverts, field, error):
    with reverts(error):
        prove(judge, zk_receipt(judge, circuit, **{field: keccak256(b"other")}))


@pytest.mark.parametrize("answer", [REFUSE, REVERT])
def test_a_proof_that_the_verifier_refuses_is_refused(judge, circuit, verifier, reverts, answer):
    verifier.setAnswer(answer)
    with reverts("ProofRefused"):
        prove(judge, zk_receipt(judge, circuit))


# Tier NATIVE.


def test_an_evaluation_on_chain_makes_the_claim_count(judge, world):
    model, _ = judge.native()
    receipt = native_receipt(judge, model)
    judge.evidence.execute(receipt.to_tuple(), encode_input((10, 20)), account=world.stranger)
    assert world.verify(receipt, tier=NATIVE) == (True, NATIVE, world.digest(receipt))


def test_an_output_that_the_model_does_not_give_is_refused(judge, reverts):
    model, _ = judge.native()
    label, scores = CLASSIFIER.evaluate((10, 20))
    wrong = keccak256(encode_output(1 - label, scores))
    with reverts("OutputMismatch"):
        judge.evidence.execute(
            native_receipt(judge, model, outputHash=wrong).to_tuple(), encode_input((10, 20))
        )


def test_another_input_is_refused(judge, reverts):
    model, _ = judge.native()
    with reverts("InputMismatch"):
        judge.evidence.execute(native_receipt(judge, model).to_tuple(), encode_input((10, 21)))


@pytest.mark.parametrize("tier", [0, 3, ZK])
def test_an_evaluation_is_for_a_receipt_that_claims_it(judge, reverts, tier):
    model, _ = judge.native()
    with reverts(f"TierNotClaimed(expected={NATIVE}, given={tier})"):
        judge.evidence.execute(native_receipt(judge, model, tier=tier).to_tuple(), encode_input((10, 20)))


def test_a_model_without_contract_is_not_evaluated(judge, circuit, reverts):
    with reverts("NoNativeModel"):
        judge.evidence.execute(native_receipt(judge, circuit).to_tuple(), encode_input((10, 20)))
