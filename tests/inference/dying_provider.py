"""A provider in a process of its own; with ``die`` it kills itself (SIGKILL) between publishing and fulfilling.

Arguments: URL, account, signing key, file of the book, ``die`` or ``live``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from zerog.client import Client
from zerog.client.storage import Storage
from zerog.contracts import INFERENCE_REGISTRY
from zerog.inference.answer import Domain, Signatory
from zerog.inference.answers import AnswerBook
from zerog.inference.engine_host import embedded
from zerog.inference.provider import GateProvider
from zerog.inference.publication import StorageTranscripts


class Dying(StorageTranscripts):
    """Ends the process as soon as the bytes are stored."""

    def publish(self, data: bytes) -> bytes:
        super().publish(data)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("alive after SIGKILL")


def main(url: str, account: str, key: str, book: str, mode: str) -> None:
    client = Client(url)
    domain = Domain(client.chain_id, bytes.fromhex(INFERENCE_REGISTRY[2:]))
    signatory = Signatory(embedded(), bytes.fromhex(key), bytes.fromhex(account[2:]), domain)
    files = Storage(url, client=client, account=account, state=Path(book).parent / "payments")
    store = (Dying if mode == "die" else StorageTranscripts)(files)
    provider = GateProvider(client, signatory, account, store=store, book=AnswerBook(Path(book)))
    provider.enrol()
    provider.serve()
    provider.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
