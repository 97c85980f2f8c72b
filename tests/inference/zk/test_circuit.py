"""A small ONNX model is proven, and the verifier generated for it judges on the devnet."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.inference.zk.perceptron import write_perceptron

from zerog.chain.keys import keccak256
from zerog.errors import ContractReverted, InferenceError
from zerog.inference.zk import Circuit, Proof, encode_instances

pytest.importorskip("ezkl", reason="needs the extra zerog[zk]")
pytest.importorskip("onnx")
REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A perceptron 4-8-3 with fixed weights."""
    return write_perceptron(tmp_path_factory.mktemp("zk") / "model.onnx")


@pytest.fixture(scope="session")
def circuit(model: Path) -> Circuit:
    return Circuit.compile(model, model.parent / "circuit", example=[0.1, -0.2, 0.3, 0.4])


@pytest.fixture(scope="session")
def proof(circuit: Circuit) -> Proof:
    return circuit.prove([0.5, -0.25, 0.125, 1.0])


@pytest.fixture
def verifier(circuit: Circuit, zerog_devnet):
    """The generated contract, compiled with the pinned compiler."""
    path = circuit.folder / "verifier.sol"
    path.write_text(circuit.solidity_verifier())
    command = ["node", str(REPOSITORY / "contracts/compile.mjs"), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    compiled = json.loads(done.stdout)["Halo2Verifier"]
    abi = [entry | {"stateMutability": "view"} for entry in compiled["abi"]]
    return zerog_devnet.client.deploy(abi, compiled["bytecode"], account=zerog_devnet.accounts[0])


def test_a_proof_holds_and_a_changed_instance_does_not(circuit, proof):
    assert circuit.shape == (4, 3)
    assert proof.inputs[0] == 64, "0.5 with seven fractional bits"
    assert circuit.verify(proof)
    changed = (proof.outputs[0] + 1, *proof.outputs[1:])
    assert not circuit.verify(replace(proof, outputs=changed))


def test_the_generated_contract_accepts_the_proof_and_refuses_changes(verifier, proof):
    assert verifier.verifyProof(proof.proof, list(proof.instances)) is True
    with pytest.raises(ContractReverted):
        verifier.verifyProof(proof.proof, [proof.instances[0] + 1, *proof.instances[1:]])
    bent = bytearray(proof.proof)
    bent[40] ^= 1
    with pytest.raises(ContractReverted):
        verifier.verifyProof(bytes(bent), list(proof.instances))


def test_the_evidence_hash_is_that_of_the_abi(proof):
    from eth_abi import encode

    wanted = keccak256(encode(["bytes", "uint256[]"], [proof.proof, proof.instances]))
    assert proof.evidence_hash() == wanted
    assert encode_instances(proof.outputs) == encode(["uint256[]"], [proof.outputs])


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(InferenceError, match="cannot be made into a circuit"):
        Circuit.compile(path, tmp_path / "circuit", example=[0.0])


def test_without_the_extra_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ezkl", None)
    with pytest.raises(InferenceError, match="ezkl is not installed") as caught:
        Circuit(tmp_path, tmp_path / "srs").prove([0.0])
    assert caught.value.hint == "pip install 'zerog[zk]'"
