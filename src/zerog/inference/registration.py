"""A model on chain and on the storage network: registered under its id, stored under its weights root.

The chain keeps hashes only. Who fetches a model proves every piece of the weights against the root and
finds the template whose hash the chain has: that in the file, or bare ChatML.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zerog.chain.keys import keccak256
from zerog.contracts.genesis import CHATML
from zerog.errors import InferenceError
from zerog.inference.encoding import parse_hex
from zerog.inference.gguf import read_gguf
from zerog.inference.model_store import ModelStore, StoredModel
from zerog.inference.onchain import registry_of
from zerog.inference.publication import Progress, StorageTranscripts

if TYPE_CHECKING:
    from zerog.client import Client


def register_model(client: Client, model: StoredModel) -> str | None:
    """Registers a model from the client's account; the transaction's hash, ``None`` when the chain knew it before.

    Raises
    ------
    ZerogError : the node or the registry refuses.
    """
    registry = registry_of(client, client.account)
    identity = bytes.fromhex(model.model_id[2:])
    if registry.isModel(identity):
        return None
    described = model.model
    entry = (
        bytes.fromhex(described.weights_root[2:]),
        bytes.fromhex(described.tokenizer_hash[2:]),
        keccak256(described.chat_template.encode()),
        keccak256(described.quantisation.encode("ascii")),
        described.uri,
    )
    sent: str = registry.registerModel(identity, entry).hash
    return sent


def publish_model(client: Client, model: StoredModel, path: Path, progress: Progress | None = None) -> None:
    """Stores a model's weights under their root, unless they are there; the client's account pays.

    Raises
    ------
    ZerogError : they are altered, or could not be stored.
    """
    StorageTranscripts(client.storage).publish_weights(
        bytes.fromhex(model.model.weights_root[2:]), path, progress
    )


def fetch_model(
    client: Client, store: ModelStore, model_id: str, name: str, progress: Progress | None = None
) -> StoredModel:
    """Gets a registered model from the storage network into the store.

    Raises
    ------
    InferenceError : the chain does not know it, nobody has its weights, or its template is neither that
        of the file nor bare ChatML.
    """
    wanted = parse_hex(model_id, 32, "the model id")
    registry = registry_of(client)
    if not registry.isModel(wanted):
        raise InferenceError(f"the chain knows no model 0x{wanted.hex()}")
    entry = registry.modelOf(wanted)
    root = bytes(entry.weightsRoot)
    target = store.folder / "fetched" / f"{root.hex()}.gguf"
    StorageTranscripts(client.storage).weights(root, target, progress)
    templates = [text for text in (read_gguf(target).chat_template, CHATML) if text is not None]
    fitting = [text for text in templates if keccak256(text.encode()) == bytes(entry.chatTemplateHash)]
    if not fitting:
        raise InferenceError(
            f"the template of 0x{wanted.hex()} is neither that of its file nor bare ChatML",
            hint=f"get it from its makers, then: zerog models add {target} --template-file FILE",
        )
    model = store.add(target, name, template=fitting[0], link=True, uri=entry.uri, progress=progress)
    if model.model_id != "0x" + wanted.hex():
        store.remove(model.name)
        raise InferenceError(f"what the chain says of 0x{wanted.hex()} does not fit its file")
    target.unlink()
    return model
