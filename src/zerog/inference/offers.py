"""Answers that were given off chain, and what is due when their receipts come on chain.

Whoever holds a receipt may bring it on chain, where it can be drawn for an audit: then the transcript must be
available, or the provider loses stake. Publishing every answer would cost a transaction each, so the bytes wait
in the provider's book until the chain knows the receipt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from zerog.contracts import INFERENCE_REGISTRY, artifact
from zerog.inference.answers import AnswerBook, Stage

if TYPE_CHECKING:
    from zerog.client import Client
    from zerog.inference.publication import TranscriptStore

log = logging.getLogger("zerog.inference")

_LOOKBACK = 50_000
_SPAN = 10_000


class Offers:
    """Publishes what is due.

    Parameters
    ----------
    client : the node to watch.
    account : the provider's 0x-address.
    book : where the answers are written down.
    store : makes the place to publish; called when something is due.
    """

    def __init__(
        self, client: Client, account: str, book: AnswerBook, store: Callable[[], TranscriptStore]
    ) -> None:
        self._client = client
        self._account = account
        self._book = book
        self._make_store = store
        self._store: TranscriptStore | None = None
        self._registry = client.contract(INFERENCE_REGISTRY, artifact("InferenceRegistry").abi)
        self._next_block = 0

    def publish_due(self) -> list[bytes]:
        """Publishes the transcripts of offered receipts that the chain has learnt of; returns their hashes.

        Raises
        ------
        ZerogError : the node or the storage failed; the next call tries the same receipts again.
        """
        if not self._book.at(Stage.OFFERED):
            # What is offered later comes on chain later still.
            self._next_block = self._client.block_number
            return []
        head = self._client.block_number
        if head + 1 < self._next_block:
            # The devnet went back to a snapshot.
            self._next_block = 0
        published = []
        for start in range(max(self._next_block, head - _LOOKBACK, 0), head + 1, _SPAN):
            for receipt_hash in self._learnt(start, min(head, start + _SPAN - 1)):
                if self._publish(receipt_hash):
                    published.append(receipt_hash)
        self._next_block = head + 1
        return published

    def _learnt(self, first: int, last: int) -> list[bytes]:
        """Receipts of this provider that became known in a span of blocks."""
        events = self._registry.events
        found = [
            *events.ReceiptRecorded(from_block=first, to_block=last, provider=self._account),
            *events.ReceiptConsumed(from_block=first, to_block=last, provider=self._account),
        ]
        return [bytes(event.receiptHash) for event in found]

    def _publish(self, receipt_hash: bytes) -> bool:
        signed = self._book.signed(receipt_hash)
        if signed is None:
            return False
        entry = self._book.to_request(signed.receipt.requestId)
        if entry is None or entry.stage is not Stage.OFFERED:
            return False
        if self._store is None:
            self._store = self._make_store()
        self._store.publish(signed.transcript.canonical_bytes())
        self._book.move(signed.receipt.requestId, Stage.DONE)
        log.info("published the transcript of 0x%s: its receipt is on chain", receipt_hash.hex())
        return True
