"""Compiled contracts and the genesis state of zerog's predeploys.

The artifacts are built from ``contracts/`` by ``node contracts/build.mjs`` and committed, so that no
user needs a Solidity compiler; ``node contracts/build.mjs --check`` proves that they match::

    from zerog.contracts import INFERENCE_GATE, artifact

    gate = client.contract(INFERENCE_GATE, artifact("InferenceGate").abi)
"""

from __future__ import annotations

from zerog.contracts.artifacts import Artifact, artifact, artifact_names
from zerog.contracts.genesis import (
    ENGINES,
    INFERENCE_AUDIT,
    INFERENCE_GATE,
    INFERENCE_REGISTRY,
    MOCK_MEASUREMENT,
    MODELS,
    PREDEPLOYS,
    PROOF_EVIDENCE,
    TEE_ATTESTATION,
    VALIDATION_REGISTRY,
    VERIFIER_REGISTRY,
    GenesisEngine,
    GenesisModel,
    genesis_alloc,
)
from zerog.contracts.storage_genesis import PORA_MINE, STORAGE_FLOW, STORAGE_MARKET, STORAGE_REWARD

__all__ = [
    "ENGINES",
    "INFERENCE_AUDIT",
    "INFERENCE_GATE",
    "INFERENCE_REGISTRY",
    "MOCK_MEASUREMENT",
    "MODELS",
    "PORA_MINE",
    "PREDEPLOYS",
    "PROOF_EVIDENCE",
    "STORAGE_FLOW",
    "STORAGE_MARKET",
    "STORAGE_REWARD",
    "TEE_ATTESTATION",
    "VALIDATION_REGISTRY",
    "VERIFIER_REGISTRY",
    "Artifact",
    "GenesisEngine",
    "GenesisModel",
    "artifact",
    "artifact_names",
    "genesis_alloc",
]
