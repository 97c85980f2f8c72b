"""Puts an answer together again from what anyone can have: receipt and signature from the chain, transcript
from storage.

::

    signed = signed_from_chain(client, receipt_hash)
    check_transcript(signed)

Nothing that is fetched is trusted: the receipt must hash to ``receipt_hash``, the signature must be its, and the
transcript must be the one that the receipt commits to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zerog.errors import InferenceError
from zerog.inference.audit.contract import AuditContracts
from zerog.inference.audit.receipts import as_address
from zerog.inference.encoding import ZERO_HASH, Domain
from zerog.inference.privacy import MAX_ENVELOPE, is_sealed, open_sealed
from zerog.inference.publication import StorageTranscripts, TranscriptStore
from zerog.inference.receipt import InferenceReceipt, recover_signer
from zerog.inference.transcript import SignedTranscript, Transcript, decode_canonical
from zerog.inference.verification import binding_fault

if TYPE_CHECKING:
    from zerog.client import Client

_SIGNATURE = 65
_WORD = 32


def signed_from_chain(
    client: Client,
    receipt_hash: bytes,
    *,
    keys: Sequence[bytes] = (),
    store: TranscriptStore | None = None,
) -> SignedTranscript:
    """The answer that a receipt stands for. ``keys`` may open a private one.

    Raises
    ------
    InferenceError : the chain does not know the receipt, nobody has the transcript, or it cannot be read.
    """
    contracts = AuditContracts(client)
    receipt = contracts.receipt(receipt_hash)
    block = contracts.noted_block(receipt_hash)
    if receipt is None or block is None:
        raise InferenceError(f"the chain does not tell of the receipt 0x{receipt_hash.hex()}")
    signature, signer = _signature(contracts, receipt, receipt_hash, block)
    data = _published(receipt, store or StorageTranscripts(client.storage))
    transcript, envelope = _opened(data, keys)
    if (fault := binding_fault(transcript, receipt)) is not None:
        raise InferenceError(f"what lies under the data root is another transcript: {fault.reason}")
    return SignedTranscript(
        domain=Domain(client.chain_id, as_address(contracts.registry.address)),
        receipt=receipt,
        receipt_hash=receipt_hash,
        signature=signature,
        signer=signer,
        transcript=transcript,
        text_signature=None,
        envelope=envelope,
    )


def _published(receipt: InferenceReceipt, store: TranscriptStore) -> bytes:
    if receipt.dataRoot == ZERO_HASH:
        raise InferenceError("the receipt names no transcript: only the provider has it")
    data = store.fetch(receipt.dataRoot, MAX_ENVELOPE)
    if data is None:
        raise InferenceError(f"nobody has the transcript 0x{receipt.dataRoot.hex()}")
    return data


def _opened(data: bytes, keys: Sequence[bytes]) -> tuple[Transcript, bytes | None]:
    if not is_sealed(data):
        return decode_canonical(data), None
    for key in keys:
        try:
            return decode_canonical(open_sealed(data, key)), data
        except InferenceError:
            continue
    raise InferenceError("the answer is private, and no key here opens it")


def _signature(
    contracts: AuditContracts, receipt: InferenceReceipt, receipt_hash: bytes, block: int
) -> tuple[bytes, bytes]:
    """Signature and signer, from the input of the transaction that brought the receipt.

    The chain accepted it, so that one signature in there is the signer's of that time. The registered
    signer of today decides when several fit the form.
    """
    registered = as_address(contracts.registry.providerOf("0x" + receipt.provider.hex())[0].signer)
    found: list[tuple[bytes, bytes]] = []
    logs = contracts.client.logs(
        address=contracts.registry,
        topics=[None, "0x" + receipt_hash.hex()],
        from_block=block,
        to_block=block,
    )
    for transaction in dict.fromkeys(log.transaction_hash for log in logs if log.transaction_hash):
        sent = contracts.client.transaction(transaction)
        for candidate in _candidates(b"" if sent is None else bytes.fromhex(sent["input"][2:])):
            try:
                found.append((candidate, recover_signer(receipt_hash, candidate)))
            except InferenceError:
                continue
    if not found:
        raise InferenceError("the signature is not in the transaction that brought the receipt")
    return next((pair for pair in found if pair[1] == registered), found[0])


def _candidates(data: bytes) -> Iterator[bytes]:
    """Byte strings of 65 bytes in ABI-encoded input."""
    head = _SIGNATURE.to_bytes(_WORD)
    at = data.find(head)
    while at >= 0:
        candidate = data[at + _WORD : at + _WORD + _SIGNATURE]
        if len(candidate) == _SIGNATURE:
            yield candidate
        at = data.find(head, at + 1)
