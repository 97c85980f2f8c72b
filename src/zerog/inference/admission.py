"""Engines and models on the chain's list: without their place there no receipt of theirs counts.

Anyone may add a model, since its id commits to its content. The class of an engine is a judgement, and the
curator's to make; on a devnet that is the first account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zerog.chain.keys import keccak256
from zerog.errors import ContractReverted, InferenceError
from zerog.inference.engines import DeterminismClass
from zerog.inference.models import ModelIdentity, id_of
from zerog.inference.onchain import registry_of
from zerog.inference.receipt import engine_id

if TYPE_CHECKING:
    from zerog.client import Client


def class_of(client: Client, engine: bytes) -> DeterminismClass | None:
    """The class that the registry has for an engine id; ``None`` for an engine it does not know."""
    found = int(registry_of(client).engineClass(engine))
    return DeterminismClass(found) if found else None


def admit_engine(client: Client, curator: Any, description: str, determinism: DeterminismClass) -> str | None:
    """Puts an engine on the list; the transaction's hash, ``None`` when it is there already.

    Raises
    ------
    InferenceError : it is there with another class, or ``curator`` may not change the list.
    """
    known = class_of(client, engine_id(description))
    if known is determinism:
        return None
    if known is not None:
        raise InferenceError(
            f"the registry has the engine {description!r} in the class {known.name.lower()},"
            f" not {determinism.name.lower()}"
        )
    try:
        sent = registry_of(client, curator).setEngineClass(description, determinism.value)
    except ContractReverted as error:
        raise InferenceError(
            f"{curator} may not register engines: {error.reason or error.message}",
            hint="only the curator of the registry may; on a devnet that is the first account",
        ) from None
    return str(sent.hash)


def admit_model(client: Client, account: Any, model: ModelIdentity) -> str | None:
    """Puts a model on the list; the transaction's hash, ``None`` when it is there already."""
    registry = registry_of(client, account)
    identity = id_of(model)
    if registry.isModel(identity):
        return None
    fields = (
        bytes.fromhex(model.weights_root[2:]),
        bytes.fromhex(model.tokenizer_hash[2:]),
        keccak256(model.chat_template.encode()),
        keccak256(model.quantisation.encode("ascii")),
        model.uri,
    )
    return str(registry.registerModel(identity, fields).hash)
