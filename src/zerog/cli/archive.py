"""The part of ``zerog demo`` that stores: evidence goes in, comes out proven, and a miner is paid for keeping it.

Every fact is an answer of the storage node or of the chain; only speeds are measured here.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from zerog.client import Account, Client
from zerog.client.storage import Storage, StoredFile
from zerog.contracts import PREDEPLOYS, artifact
from zerog.errors import StorageError
from zerog.inference.publication import StorageTranscripts
from zerog.inference.transcript import SignedTranscript
from zerog.inference.transcript_file import decode_transcript, encode_transcript
from zerog.inference.verification import check_transcript

REWARD_DEADLINE = 60.0
"""Seconds in which a miner must have been paid."""
_POLL = 0.2


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that was stored and read back.

    ``proven``: all its bytes came back, each under a proof that ends in ``root``, and they were the same.
    """

    name: str
    root: str
    size: int
    seq: int
    transaction: str
    proven: bool


@dataclass(frozen=True, slots=True)
class Speed:
    """Bytes per second of a transfer, both ways."""

    put: float
    get: float


@dataclass(frozen=True, slots=True)
class MinerPaid:
    """An answer that the mine contract accepted; ``reward`` in wei, ``position`` in sectors of the flow."""

    epoch: int
    position: int
    reward: int
    transaction: str
    block: int
    miner: str


class Archive:
    """Stores for one account; ``folder`` holds what is on its way."""

    def __init__(self, client: Client, url: str, payer: Account, folder: Path) -> None:
        self._client, self._folder = client, folder
        self._storage = Storage(url, client=client, account=payer, state=folder / "payments")

    @property
    def transcripts(self) -> StorageTranscripts:
        """The same storage, for transcripts in their canonical form."""
        return StorageTranscripts(self._storage)

    def keep_evidence(self, transcript: SignedTranscript, signer: bytes) -> list[Kept]:
        """Stores transcript and receipt in one transaction, reads both back and checks the transcript read."""
        written = {
            "transcript.json": encode_transcript(transcript),
            "receipt.json": _receipt(transcript),
        }
        for name, content in written.items():
            (self._folder / name).write_bytes(content)
        stored = self._storage.put_many([self._folder / name for name in written])
        kept = []
        for one, (name, content) in zip(stored, written.items(), strict=True):
            read = self._read_back(one)
            proven = read == content and self._complete(one)
            if name == "transcript.json":
                proven &= all(check.passed for check in check_transcript(decode_transcript(read), signer))
            kept.append(_kept(one, proven))
        return kept

    def keep_file(self, path: Path) -> tuple[Kept, Speed]:
        """Stores a file of any size; reads it back, proof by proof, without a second copy on disk."""
        began = time.perf_counter()
        stored = self._storage.put(path)
        put = time.perf_counter()
        size = self._storage.verify(list(stored.roots))
        got = time.perf_counter()
        proven = size == path.stat().st_size and self._complete(stored)
        return _kept(stored, proven), Speed(size / (put - began), size / (got - put))

    def reward(self, deadline: float = REWARD_DEADLINE) -> MinerPaid:
        """The newest accepted answer of the node's miner, as the chain has it.

        Raises
        ------
        StorageError : nothing was accepted within ``deadline`` seconds.
        """
        end = time.monotonic() + deadline
        while True:
            status = self._client.request("miner_status")
            if status.get("answers", 0) >= 1:
                return self._paid(status["newest"][0]["transactionHash"])
            if time.monotonic() > end:
                raise StorageError(f"the miner earned nothing in {deadline:g} s: {status['state']}")
            time.sleep(_POLL)

    def _paid(self, transaction: str) -> MinerPaid:
        mined = self._client.receipt(transaction)
        if mined is None or not mined.success:
            raise StorageError(f"the chain has no successful transaction {transaction}")
        (answer,) = self._events("PoraMine", "IPoraMine", "NewSubmission", mined)
        (paid,) = self._events("StorageReward", "IStorageReward", "DistributeReward", mined)
        return MinerPaid(
            answer.epoch,
            answer.recallPosition,
            paid.amount,
            mined.hash,
            mined.block_number,
            "0x" + answer.minerId.hex(),
        )

    def _events(self, contract: str, interface: str, event: str, mined: Any) -> list[Any]:
        found = self._client.contract(PREDEPLOYS[contract], artifact(interface).abi).decode(mined)
        return [one for one in found if one.name == event]

    def _read_back(self, stored: StoredFile) -> bytes:
        target = self._folder / f"again-{stored.name}"
        return self._storage.get(stored.root, target).read_bytes()

    def _complete(self, stored: StoredFile) -> bool:
        return all(self._storage.info(root).finalized for root in stored.roots)

    def close(self) -> None:
        """Gives connections back."""
        self._storage.close()


def _kept(stored: StoredFile, proven: bool) -> Kept:
    return Kept(stored.name, stored.root, stored.size, stored.seqs[0], stored.transaction or "", proven)


def _receipt(transcript: SignedTranscript) -> bytes:
    """The receipt alone: what a contract takes."""
    document = {
        "domain": {
            "chainId": transcript.domain.chain_id,
            "registry": "0x" + transcript.domain.registry.hex(),
        },
        "receipt": transcript.receipt.to_message(),
        "receiptHash": "0x" + transcript.receipt_hash.hex(),
        "signature": "0x" + transcript.signature.hex(),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def summary(kept: list[Kept], speed: Speed | None, paid: MinerPaid | None) -> dict[str, Any]:
    """What ``zerog demo --json`` says about storage; numbers of wei are text."""
    return {
        "files": [asdict(one) for one in kept],
        "putBytesPerSecond": None if speed is None else round(speed.put),
        "getBytesPerSecond": None if speed is None else round(speed.get),
        "reward": None if paid is None else {**asdict(paid), "reward": str(paid.reward)},
    }
