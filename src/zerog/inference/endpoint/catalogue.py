"""The models that are served, as OpenAI's API lists them, with what identifies them on chain."""

from __future__ import annotations

from typing import Any

from zerog.chain.keys import keccak256
from zerog.inference.engine_host import Served
from zerog.inference.models import id_of
from zerog.inference.receipt import engine_id


def names(served: Served) -> tuple[str, str]:
    """What a request may call the model: its name, or its model id as 0x-hexadecimal."""
    return served.model.name, "0x" + id_of(served.model).hex()


def fingerprint(served: Served) -> str:
    """``system_fingerprint``: equal fingerprints mean the same engine and model."""
    return "fp_" + keccak256(id_of(served.model) + engine_id(served.engine)).hex()[:12]


def entry(served: Served, created: int, context: int | None) -> dict[str, Any]:
    """One model; ``created`` in unix seconds, ``context`` in tokens, known once the model is loaded."""
    model = served.model
    return {
        "id": model.name,
        "object": "model",
        "created": created,
        "owned_by": "zerog",
        "zerog": {
            "modelId": "0x" + id_of(model).hex(),
            "weightsRoot": model.weights_root,
            "tokenizerHash": model.tokenizer_hash,
            "chatTemplateHash": "0x" + keccak256(model.chat_template.encode()).hex(),
            "quantisation": model.quantisation,
            "engine": served.engine,
            "engineId": "0x" + engine_id(served.engine).hex(),
            "class": served.determinism.name.lower(),
            "loaded": context is not None,
            "contextLength": context,
        },
    }
