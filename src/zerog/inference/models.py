"""Models: what identifies one. Light on purpose; a node imports it before it answers."""

from __future__ import annotations

from typing import TypeAlias

from zerog.chain.keys import keccak256
from zerog.contracts import MODELS, GenesisModel
from zerog.contracts.genesis import model_id

ModelIdentity: TypeAlias = GenesisModel
"""Name, weights root, tokenizer hash, chat template, quantisation and where to get it."""

DEFAULT_MODEL: ModelIdentity = MODELS[0]
"""SmolLM2-135M-Instruct Q4_1 with the bare ChatML template."""


def id_of(model: ModelIdentity) -> bytes:
    """``modelId``: specification of Proof-of-Inference, section 1."""
    return model_id(model, keccak256)
