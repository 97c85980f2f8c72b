"""From request to callback on the tiers ZK and NATIVE: with a real circuit, and with a model that the chain evaluates."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.contracts.proofs import CLASSIFIER, NATIVE, ZK, Judge
from tests.inference.zk.perceptron import write_perceptron

from zerog._native import merkle_root
from zerog.chain.keys import keccak256
from zerog.inference.native_model import encode_input, encode_output
from zerog.inference.zk import Circuit, Proof, encode_instances

REPOSITORY = Path(__file__).resolve().parents[2]
AMOUNT = 10**18
FEE = 1000
FEATURES = [0.5, -0.25, 0.125, 1.0]
GRANTED, DENIED = (10, 20), (20, -10)
"""Inputs that the classifier puts into class 1 and class 0."""
DELIVERED, CALLBACK_FAILED = 3, 4


@pytest.fixture
def judge(world) -> Judge:
    return Judge(world)


@pytest.fixture(scope="session")
def circuit(tmp_path_factory) -> Circuit:
    """A perceptron with its keys."""
    pytest.importorskip("ezkl", reason="needs the extra zerog[zk]")
    model = write_perceptron(tmp_path_factory.mktemp("desk") / "model.onnx")
    return Circuit.compile(model, model.parent / "circuit", example=[0.1, -0.2, 0.3, 0.4])


@pytest.fixture(scope="session")
def proof(circuit) -> Proof:
    return circuit.prove(FEATURES)


@pytest.fixture(scope="session")
def generated(circuit):
    """The generated verifier, compiled."""
    path = circuit.folder / "verifier.sol"
    path.write_text(circuit.solidity_verifier())
    command = ["node", str(REPOSITORY / "contracts/compile.mjs"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return json.loads(done.stdout)["Halo2Verifier"]


def signed(element: int) -> int:
    field = 21888242871839275222246405745257275088548364400416034343698204186575808495617
    return element - field if element > field // 2 else element


@pytest.fixture
def proven(judge, circuit, generated) -> bytes:
    """The perceptron, registered with its verifier: its model id."""
    verifier = judge.world.client.deploy(generated["abi"], generated["bytecode"], account=judge.world.admin)
    weights = (circuit.folder.parent / "model.onnx").read_bytes()
    model = judge.register(merkle_root(weights), "onnx-f32")
    judge.evidence.setCircuit(model, verifier, *circuit.shape)
    return model


def apply(judge, desk, features: bytes, amount: int = AMOUNT) -> bytes:
    return judge.request_in(desk.applyForLoan(amount, features, account=judge.world.user, value=FEE))


def test_a_proven_classification_decides_a_loan(judge, world, proven, proof, circuit):
    desk = world.deploy("LoanDesk", proven, ZK, value=AMOUNT)
    requested = apply(judge, desk, encode_instances(proof.inputs))
    output = encode_instances(proof.outputs)
    receipt = judge.answer(requested, output, ZK, evidenceHash=proof.evidence_hash())
    judge.evidence.prove(receipt.to_tuple(), proof.proof, list(proof.instances), account=world.stranger)
    world.fulfill(receipt, output)
    assert (world.state(requested), world.gate.requestOf(requested).tier) == (DELIVERED, ZK)
    scores = [signed(element) for element in proof.outputs]
    granted = scores.index(max(scores)) == 1
    application = desk.applications(requested)
    assert (application.decided, application.granted) == (True, granted)
    assert world.client.balance(desk.address) == (0 if granted else AMOUNT)


def test_without_its_proof_the_same_answer_is_not_delivered(judge, world, proven, proof, reverts):
    desk = world.deploy("LoanDesk", proven, ZK, value=AMOUNT)
    requested = apply(judge, desk, encode_instances(proof.inputs))
    output = encode_instances(proof.outputs)
    with reverts("PoITierTooLow"):
        world.fulfill(judge.answer(requested, output, ZK, evidenceHash=proof.evidence_hash()), output)


def test_a_proof_is_none_for_another_output(judge, world, proven, proof, reverts):
    desk = world.deploy("LoanDesk", proven, ZK, value=AMOUNT)
    requested = apply(judge, desk, encode_instances(proof.inputs))
    outputs = tuple(reversed(proof.outputs))
    bent = Proof(proof.proof, proof.inputs, outputs)
    receipt = judge.answer(requested, encode_instances(outputs), ZK, evidenceHash=bent.evidence_hash())
    with reverts("ProofRefused"):
        judge.evidence.prove(receipt.to_tuple(), bent.proof, list(bent.instances))


@pytest.mark.parametrize("values, granted", [(GRANTED, True), (DENIED, False)])
def test_a_model_that_the_chain_evaluates_decides_a_loan(judge, world, values, granted):
    model, _ = judge.native()
    desk = world.deploy("LoanDesk", model, NATIVE, value=AMOUNT)
    requested = apply(judge, desk, encode_input(values))
    label, scores = CLASSIFIER.evaluate(values)
    assert label == int(granted)
    output = encode_output(label, scores)
    receipt = judge.answer(requested, output, NATIVE)
    judge.evidence.execute(receipt.to_tuple(), encode_input(values), account=world.stranger)
    before = world.client.balance(world.user)
    world.fulfill(receipt, output)
    assert (world.state(requested), world.gate.requestOf(requested).tier) == (DELIVERED, NATIVE)
    assert desk.applications(requested)[2:] == (True, granted)
    assert world.client.balance(world.user) - before == (AMOUNT if granted else 0)


def test_a_desk_without_money_can_pay_later(judge, world):
    model, _ = judge.native()
    desk = world.deploy("LoanDesk", model, NATIVE)
    requested = apply(judge, desk, encode_input(GRANTED))
    output = encode_output(*CLASSIFIER.evaluate(GRANTED))
    receipt = judge.answer(requested, output, NATIVE)
    judge.evidence.execute(receipt.to_tuple(), encode_input(GRANTED))
    world.fulfill(receipt, output)
    assert world.state(requested) == CALLBACK_FAILED
    world.client.send(to=desk.address, value=AMOUNT, account=world.admin)
    world.gate.retry(requested)
    assert world.state(requested) == DELIVERED
    assert desk.applications(requested).granted


@pytest.mark.parametrize("tier", [0, 3])
def test_a_desk_takes_no_weaker_evidence(world, reverts, tier):
    with reverts(f"TierTooWeak(tier={tier})"):
        world.deploy("LoanDesk", world.model, tier)


@pytest.fixture
def called(judge, world):
    """A desk of tier ZK whose gate the test plays."""
    gate = world.gate.address
    world.client.request("anvil_impersonateAccount", gate)
    world.client.request("anvil_setBalance", gate, hex(10**18))
    desk = world.deploy("LoanDesk", world.model, ZK, value=AMOUNT)
    yield lambda requested, output: desk.onInference(requested, output, ZK, account=gate), desk
    world.client.request("anvil_stopImpersonatingAccount", gate)


@pytest.mark.parametrize(
    "scores, granted",
    [((1, 2, 1), True), ((2, 2, 1), False), ((-5, -3, -4), True), ((-5, 3, 4), False), ((4, -3), False)],
)
def test_scores_are_compared_with_their_sign(judge, world, called, scores, granted):
    field = 21888242871839275222246405745257275088548364400416034343698204186575808495617
    call, desk = called
    requested = apply(judge, desk, b"any")
    call(requested, encode_instances([score % field for score in scores]))
    assert desk.applications(requested).granted is granted


def test_a_desk_decides_once_and_only_what_it_asked(judge, world, called, reverts):
    call, desk = called
    requested = apply(judge, desk, b"any")
    with reverts("RequestUnknown"):
        call(keccak256(b"other"), encode_instances([1]))
    with reverts("NoScores"):
        call(requested, encode_instances([]))
    with reverts("NotGate"):
        desk.onInference(requested, encode_instances([1]), ZK, account=world.stranger)
    call(requested, encode_instances([1]))
    with reverts("AlreadyDecided"):
        call(requested, encode_instances([1]))
