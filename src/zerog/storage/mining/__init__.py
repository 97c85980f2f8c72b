"""Proof of Random Access: sealing stored data, searching it for answers, and getting paid.

A miner proves again and again that it still reads the data it stores. Its data is *sealed* with its identity, so
that two miners cannot share one copy; a random *nonce* decides which segment of the flow must be read, and only
the bytes of that segment tell whether the nonce wins. The answer carries one sealed piece of 4 KiB and its Merkle
path; `PoraMine` unseals it, compares it with the root of the flow, and pays.
"""

from zerog.storage.mining.answer import Answer, RecallRange, WorkerContext
from zerog.storage.mining.sealed import SealedStore

__all__ = ["Answer", "RecallRange", "SealedStore", "WorkerContext"]
