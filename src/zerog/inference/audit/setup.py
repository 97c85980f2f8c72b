"""Puts a verifier together: contracts, journal, storage, engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zerog.chain.keys import parse_key
from zerog.errors import InferenceError
from zerog.inference.audit.contract import TOLERANT_POOL, AuditContracts
from zerog.inference.audit.execution import EngineFor, Examiner
from zerog.inference.audit.journal import Journal
from zerog.inference.audit.sending import JournalledSender
from zerog.inference.audit.verifier import Auditor, Happening, Policy, Standing
from zerog.inference.publication import StorageTranscripts
from zerog.inference.receipt import InferenceReceipt, engine_id

if TYPE_CHECKING:
    from zerog.client import Account, Client
    from zerog.inference.audit.canary import CanaryLayer
    from zerog.inference.engines import Engine

log = logging.getLogger("zerog.audit")

MAX_KEY_FILE = 1024


def auditor(
    client: Client,
    voters: Sequence[Account],
    load: Callable[[], Engine],
    journal_path: Path | None,
    *,
    stake: int | None = None,
    policy: Policy | None = None,
    advance: Callable[[], None] | None = None,
    tell: Callable[[Happening], None] = lambda happening: None,
    others: Callable[[bytes], Engine | None] = lambda model_id: None,
) -> Auditor:
    """A verifier for the receipts of the embedded engine, and of the class tolerant for the default model.

    Parameters
    ----------
    load : gives the engine, at the first receipt; may take seconds.
    journal_path : file of the journal; ``None`` keeps it in memory.
    others : gives the engine of a model that is not the default one, by model id; ``None`` when this
        machine has not the model.
    stake : wei of each voter; the least that the registry takes when absent.

    Raises
    ------
    InferenceError : the chain has no audit contract, or the journal cannot be used.
    """
    from zerog.contracts import ENGINES

    contracts = AuditContracts(client)
    contracts.require()
    least = int(contracts.verifiers.minStake())
    standing = Standing((engine_id(ENGINES[0].name), TOLERANT_POOL), max(least, stake or 0))
    journal, store = Journal(journal_path), StorageTranscripts(client.storage)
    examiner = Examiner(
        store,
        engine_source(store, load, contracts.is_tolerant, others),
        [voter.key for voter in voters],
    )
    sender = JournalledSender(client, journal, contracts.explain)
    return Auditor(
        contracts, sender, journal, examiner, voters,
        standing=standing, policy=policy, advance=advance, tell=tell,
    )  # fmt: skip


def engine_source(
    store: StorageTranscripts,
    load: Callable[[], Engine],
    is_tolerant: Callable[[bytes], bool] = lambda engine: False,
    others: Callable[[bytes], Engine | None] = lambda model_id: None,
) -> EngineFor:
    """Gives the engine for receipts of the default model, of its own engine or one of the class tolerant; and
    for those of its own engine with a model that ``others`` has.

    When its weights are not on this machine, they are fetched from ``store`` by their root: whoever registered
    the model said under which root they are, and every segment is proven against it.
    """
    from zerog.contracts import ENGINES
    from zerog.inference.models import DEFAULT_MODEL, id_of

    def engine_for(receipt: InferenceReceipt) -> Engine:
        own, engine = engine_id(ENGINES[0].name), None
        if receipt.modelId == id_of(DEFAULT_MODEL):
            if receipt.engineId == own or is_tolerant(receipt.engineId):
                ensure_weights(store)
                engine = load()
        elif receipt.engineId == own:
            engine = others(receipt.modelId)
        if engine is None:
            raise InferenceError("this machine has not the model and engine of the receipt")
        if engine_id(engine.description) != own or engine.model_id != receipt.modelId:
            raise InferenceError("the engine at hand is another one than that of the receipt")
        return engine

    return engine_for


def ensure_weights(store: StorageTranscripts) -> Path:
    """The weights of the default model, from this machine or else from ``store``.

    Raises
    ------
    InferenceError : nobody has them; what was fetched so far is kept for the next attempt.
    """
    from zerog.inference.models import DEFAULT_MODEL
    from zerog.inference.weights import SMOLLM2, cache_folder, fetch, find

    if find(SMOLLM2) is None:
        log.info("fetching the weights of %s from storage", DEFAULT_MODEL.name)
        store.weights(bytes.fromhex(DEFAULT_MODEL.weights_root[2:]), cache_folder() / SMOLLM2.name)
    return fetch(SMOLLM2)


def canary_layer(
    client: Client,
    provider: Account,
    load: Callable[[], Engine],
    journal_path: Path | None,
    *,
    share_ppm: int,
    tell: Callable[[Happening], None] = lambda happening: None,
) -> CanaryLayer:
    """What lays canaries, with ``provider`` as their provider; the client's own account pays for storage.

    Raises
    ------
    InferenceError : the chain has no audit contract, there are no weights, or the journal cannot be used.
    """
    from zerog.inference.audit.canary import CanaryLayer
    from zerog.inference.weights import SMOLLM2, fetch, find

    if find(SMOLLM2) is None:
        raise InferenceError(f"{SMOLLM2.name} is not on this machine", hint="run: zerog infer fetch")
    contracts = AuditContracts(client)
    contracts.require()

    def told(text: str, receipt_hash: bytes) -> None:
        tell(Happening("canary", text, {"receiptHash": "0x" + receipt_hash.hex()}))

    store = StorageTranscripts(client.storage)
    return CanaryLayer(
        contracts,
        provider,
        Journal(journal_path),
        store,
        load,
        fetch(SMOLLM2),
        share_ppm=share_ppm,
        tell=told,
    )


def read_key(path: Path) -> Account:
    """The account whose key, 64 hexadecimal digits, is in a file.

    Raises
    ------
    InferenceError : it cannot be read. The key is in no error.
    """
    from zerog.client.accounts import Account

    try:
        if path.stat().st_size > MAX_KEY_FILE:
            raise InferenceError(f"{path} is too large for a key file")
        return Account(parse_key(path.read_text().strip()))
    except (OSError, UnicodeDecodeError) as error:
        raise InferenceError(f"the key file {path} cannot be read: {error}") from None
