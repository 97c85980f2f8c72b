"""Puts a verifier together: contracts, journal, storage, engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zerog.chain.keys import parse_key
from zerog.errors import InferenceError
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.audit.execution import Examiner
from zerog.inference.audit.journal import Journal
from zerog.inference.audit.sending import JournalledSender
from zerog.inference.audit.verifier import Auditor, Happening, Policy, Standing
from zerog.inference.publication import StorageTranscripts
from zerog.inference.receipt import InferenceReceipt, engine_id

if TYPE_CHECKING:
    from zerog.client import Account, Client
    from zerog.inference.audit.canary import CanaryLayer
    from zerog.inference.engines import Engine

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
) -> Auditor:
    """A verifier for the receipts of one engine.

    Parameters
    ----------
    load : gives the engine, at the first receipt; may take seconds.
    journal_path : file of the journal; ``None`` keeps it in memory.
    stake : wei of each voter; the least that the registry takes when absent.

    Raises
    ------
    InferenceError : the chain has no audit contract, or the journal cannot be used.
    """
    from zerog.contracts import ENGINES

    contracts = AuditContracts(client)
    contracts.require()
    least = int(contracts.verifiers.minStake())
    standing = Standing((engine_id(ENGINES[0].name),), max(least, stake or 0))
    journal = Journal(journal_path)

    def engine_for(receipt: InferenceReceipt) -> Engine:
        engine = load()
        if engine_id(engine.description) != receipt.engineId or engine.model_id != receipt.modelId:
            raise InferenceError("this machine has not the model and engine of the receipt")
        return engine

    examiner = Examiner(StorageTranscripts(client.storage), engine_for, [voter.key for voter in voters])
    sender = JournalledSender(client, journal, contracts.explain)
    return Auditor(
        contracts, sender, journal, examiner, voters,
        standing=standing, policy=policy, advance=advance, tell=tell,
    )  # fmt: skip


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
