"""Zero-knowledge proofs of small ONNX models (tier ZK), with ezkl: the extra ``zerog[zk]``.

::

    circuit = Circuit.compile(Path("model.onnx"), Path("circuit"), example=[0.1, -0.2, 0.3, 0.4])
    proof = circuit.prove([0.5, 0.1, -0.3, 0.2])
    assert circuit.verify(proof)
    source = circuit.solidity_verifier()           # deploy it, then ProofEvidence.setCircuit

Nothing else imports ezkl, and importing this package costs nothing. Input and output bytes of a receipt are
`encode_instances` of the proof's inputs and outputs; its ``evidenceHash`` is `Proof.evidence_hash`.
"""

from __future__ import annotations

from zerog.inference.zk.circuit import Circuit, Proof, encode_instances

__all__ = ["Circuit", "Proof", "encode_instances"]
