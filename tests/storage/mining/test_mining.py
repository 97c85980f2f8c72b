"""Miners on a devnet: who has the data earns, who lacks it never does, and what faults and reorganisations leave."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.storage.mining.conftest import Pit, until

from zerog import _native
from zerog.client import Client, Devnet
from zerog.client.storage import Storage
from zerog.client.transport import HttpTransport
from zerog.contracts import PORA_MINE, STORAGE_FLOW
from zerog.errors import ContractReverted, RpcError, StorageFull
from zerog.node.alone import ServerAlone
from zerog.node.config import RpcSettings
from zerog.storage.layout import SEAL, SEGMENT_SECTORS
from zerog.storage.mining.answer import (
    Answer,
    RecallRange,
    WorkerContext,
    answer_proof,
    piece_position,
    scaled_target,
)
from zerog.storage.mining.contract import SUBMIT
from zerog.storage.mining.miner import Miner, proves
from zerog.storage.mining.sealed import SealedStore
from zerog.storage.mining.sealer import Epochs
from zerog.storage.service import StorageOptions, StorageService
from zerog.storage.values import ShardConfig

MIB = 1 << 20
TRIES = 10_000
ALL = (1 << 64) - 1


def earning(pit: Pit, name: str = "miner", account: int = 3) -> tuple[Miner, SealedStore]:
    """A miner with data and an accepted answer."""
    miner, sealed = pit.miner(name, account)
    pit.blocks(40)
    pit.cycles(miner, lambda: sealed.earned()[0])
    return miner, sealed


def found(pit: Pit, miner_id: bytes, sealed: SealedStore, count: int) -> tuple[WorkerContext, list[Answer]]:
    """As many answers as asked for, made by the native search from a sealed file as it is."""
    context = pit.contracts.worker_context(miner_id)
    recall = RecallRange.whole(context.flow_length, ShardConfig())
    assert recall is not None
    target = scaled_target(context.target, context.flow_length, recall).to_bytes(32)
    masks = sealed.masks(0, recall.length // SEGMENT_SECTORS)
    epochs, answers = Epochs(pit.contracts), []
    while len(answers) < count:
        hits = _native.pora_search(
            sealed.descriptor, masks, miner_id, context.subtask_digest, recall.start, recall.length,
            recall.shard_id, recall.shard_mask, target, secrets.token_bytes(32), 256, 1,
        )  # fmt: skip
        for nonce, load, offset, _ in hits:
            position = piece_position(load, offset)
            epoch = epochs.of_piece(position)
            if epoch is None:
                continue
            proof = answer_proof(pit.store.sector_proof(position, context.flow_root))
            piece = sealed.piece(load, offset)
            answers.append(
                Answer(context.digest, nonce, miner_id, recall, position, offset, epoch.digest, piece, proof)
            )
    return context, answers


def put(net: Devnet, nodes: list[str], size: int, folder: Path) -> None:
    """Stores random bytes on several nodes."""
    client = Client(net.url, account=net.accounts[1])
    with closing(Storage(net.url, client=client, nodes=nodes, state=folder / "state")) as storage:
        storage.put(os.urandom(size))


def earned(net: Devnet) -> Any:
    """The status of a miner that earned, else nothing."""
    status = net.client.request("miner_status")
    return status if status.get("answers") else None


@contextmanager
def second(net: Devnet, shard: str) -> Iterator[str]:
    """A storage node beside a devnet; its URL."""
    service = StorageService(lambda: HttpTransport(net.url), STORAGE_FLOW, None, StorageOptions(shard=shard))
    with ServerAlone([service], RpcSettings(port=0)).start() as server:
        yield server.url


def refusal(pit: Pit, answer: Answer) -> str:
    """Why the contract does not take an answer."""
    with pytest.raises((ContractReverted, RpcError)) as refused:
        pit.net.client.call(PORA_MINE, SUBMIT + answer.encoded())
    return str(refused.value)


def is_taken(pit: Pit, answer: Answer) -> bool:
    """Whether the contract takes an answer."""
    try:
        pit.net.client.call(PORA_MINE, SUBMIT + answer.encoded())
    except (ContractReverted, RpcError):
        return False
    return True


def other_shards(answer: Answer) -> Iterator[RecallRange]:
    """Ranges of one shard in two. Each draws a position of its own, which in a small flow can be the answer's."""
    for bit in range(10):
        yield replace(answer.recall, shard_id=1 << bit, shard_mask=ALL - (1 << bit))


@pytest.fixture
def forged(pit: Pit, tmp_path: Path) -> tuple[Pit, bytes, SealedStore, SealedStore]:
    """A paid miner's id, its sealed data, and an empty place for data that claims to be as much."""
    pit.put(MIB)
    _, sealed = earning(pit)
    miner_id = sealed.miner_id()
    assert miner_id is not None
    return pit, miner_id, sealed, SealedStore(tmp_path / "forged")


@pytest.mark.parametrize("kind", ["random", "zero", "of another miner", "one byte wrong"])
def test_miner_without_the_data_never_has_an_answer(
    forged: tuple[Pit, bytes, SealedStore, SealedStore], kind: str
) -> None:
    pit, miner_id, honest, fake = forged
    for load in range(4):
        mask = honest.mask(load)
        pieces = [piece for piece in range(64) if mask >> piece & 1]
        if kind == "of another miner":
            context = pit.contracts.worker_context(miner_id)
            data = {
                piece: _native.pora_seal(
                    _native.pora_unseal(
                        honest.piece(load, piece), miner_id, context.digest, piece_position(load, piece)
                    ),
                    os.urandom(32),
                    context.digest,
                    piece_position(load, piece),
                )
                for piece in pieces
            }
        else:
            data = {piece: honest.piece(load, piece) for piece in pieces}
        for piece in pieces:
            if kind == "random":
                data[piece] = os.urandom(SEAL)
            elif kind == "zero":
                data[piece] = bytes(SEAL)
            elif kind == "one byte wrong":
                changed = bytearray(data[piece])
                changed[secrets.randbelow(SEAL)] ^= 1 << secrets.randbelow(8)
                data[piece] = bytes(changed)
        fake.put(load, list(data.items()))
    context, answers = found(pit, miner_id, fake, TRIES)
    assert len(answers) >= TRIES
    assert not any(proves(answer, context.flow_root) for answer in answers)
    for answer in secrets.SystemRandom().sample(answers, 25):
        assert "Inconsistent merkle root" in refusal(pit, answer)


def test_only_the_right_answer_is_taken_and_only_once(
    forged: tuple[Pit, bytes, SealedStore, SealedStore],
) -> None:
    pit, miner_id, sealed, _ = forged
    context, answers = found(pit, miner_id, sealed, 1)
    good = answers[0]
    assert proves(good, context.flow_root)
    _, other = earning(pit, "other", account=4)
    foreign = other.miner_id()
    assert foreign is not None
    context, answers = found(pit, miner_id, sealed, 1)
    good = answers[0]
    refusal(pit, replace(good, miner_id=foreign))
    masked = replace(good.recall, shard_id=1, shard_mask=ALL)
    assert "Masked bits should be zero" in refusal(pit, replace(good, recall=masked))
    assert not all(is_taken(pit, replace(good, recall=recall)) for recall in other_shards(good))
    refusal(pit, replace(good, context_digest=bytes(32)))
    sender = pit.miner("sender")[0]._sender
    transaction, reward = pit.contracts.submit(sender, good)
    assert transaction and reward > 0
    assert "Answer has been submitted" in refusal(pit, good)
    _, fresh = found(pit, miner_id, sealed, 1)
    pit.blocks(40)
    pit.put(300_000)
    pit.blocks(40)
    assert "Inconsistent mining digest" in refusal(pit, fresh[0])


def test_several_miners_of_one_account_all_earn(pit: Pit) -> None:
    pit.put(MIB)
    _, first = earning(pit, "first")
    _, second = earning(pit, "second")
    assert first.miner_id() != second.miner_id()


def test_restart_keeps_id_and_sealed_data(pit: Pit) -> None:
    pit.put(MIB)
    miner, sealed = earning(pit)
    known, pieces = sealed.miner_id(), sealed.pieces()
    miner.close()
    again, reopened = pit.miner()
    assert reopened.pieces() == pieces > 0
    again.cycle(pit.stop)
    assert reopened.miner_id() == known
    assert reopened.pieces() == pieces


def test_reorganisation_of_epochs_alone_seals_anew(pit: Pit) -> None:
    """The flow stays, but the digest of its epoch is another one: what was sealed for it is worth nothing."""
    pit.put(MIB)
    miner, sealed = pit.miner()
    miner.cycle(pit.stop)
    snapshot = pit.net.client.request("evm_snapshot")
    pit.blocks(40)
    pit.cycles(miner, lambda: sealed.earned()[0])
    before = sealed.newest_epoch()
    pit.net.client.request("evm_revert", snapshot)
    pit.net.client.request("evm_increaseTime", "0x64")
    pit.blocks(41)
    miner.cycle(pit.stop)
    pit.cycles(miner, lambda: sealed.earned()[0])
    after = sealed.newest_epoch()
    assert before is not None and after is not None
    assert after.digest != before.digest
    _, answers = found(pit, sealed.miner_id() or b"", sealed, 500)
    context = pit.contracts.worker_context(sealed.miner_id() or b"")
    assert all(proves(answer, context.flow_root) for answer in answers)


def test_reorganisation_that_takes_the_id_away_gets_a_new_one(pit: Pit) -> None:
    pit.put(MIB)
    snapshot = pit.net.client.request("evm_snapshot")
    miner, sealed = earning(pit)
    known = sealed.miner_id()
    pit.net.client.request("evm_revert", snapshot)
    pit.blocks(41)
    pit.cycles(miner, lambda: sealed.miner_id() != known and sealed.earned()[0])
    assert sealed.earned()[0] == 1


def test_damaged_sealed_piece_is_found_and_sealed_again(pit: Pit) -> None:
    pit.put(MIB)
    miner, sealed = earning(pit)
    for load in range(4):
        os.pwrite(sealed.descriptor, bytes(64 * SEAL), load * 64 * SEAL)
    count = sealed.earned()[0]
    pit.cycles(miner, lambda: sealed.earned()[0] > count)


def test_full_disk_leaves_what_is_sealed_and_says_so(pit: Pit, monkeypatch: pytest.MonkeyPatch) -> None:
    pit.put(MIB)
    miner, sealed = pit.miner()
    pit.blocks(40)

    def full(load: int, pieces: object) -> None:
        raise StorageFull("no room for sealed data")

    with monkeypatch.context() as patch:
        patch.setattr(sealed, "put", full)
        miner.cycle(pit.stop)
        assert "no room for sealed data" in miner.status()["state"]
        assert sealed.pieces() == 0
    pit.cycles(miner, lambda: sealed.earned()[0])


def test_account_without_a_balance_waits_and_sends_nothing(pit: Pit) -> None:
    pit.put(MIB)
    pit.net.client.request("hardhat_setBalance", pit.net.accounts[3].address, "0x0")
    miner, _ = pit.miner()
    block = pit.net.client.block_number
    with pytest.raises(RpcError):
        miner.cycle(pit.stop)
    assert pit.net.client.block_number == block


@pytest.mark.parametrize("shard", ["0/2", "1/2"])
def test_each_of_two_shards_earns(shard: str, tmp_path: Path) -> None:
    options = {"storage.shard": shard}
    with Devnet(services=["storage", "miner"], options=options) as net:
        other = "1/2" if shard == "0/2" else "0/2"
        with second(net, other) as url:
            put(net, [net.url, url], MIB, tmp_path)
            status = until(lambda: earned(net), lambda: net.client.request("miner_status"))
            loads = {answer["position"] // SEGMENT_SECTORS % 2 for answer in status["newest"]}
            assert loads == {int(shard[0])}


def test_interval_mining_earns_too(tmp_path: Path) -> None:
    with Devnet(services=["storage", "miner"], block_time=0.05) as net:
        put(net, [net.url], MIB, tmp_path)
        assert until(lambda: earned(net), lambda: net.client.request("miner_status"))


def test_untouched_devnet_gets_no_block_and_automine_stops_after_the_answer(tmp_path: Path) -> None:
    with Devnet(services=["storage", "miner"]) as net:
        until(lambda: "no full segment" in net.client.request("miner_status")["state"])
        assert net.client.block_number == 0
        put(net, [net.url], MIB, tmp_path)
        until(lambda: earned(net), lambda: net.client.request("miner_status"))
        assert net.client.block_number < 110
        until(lambda: "is answered" in net.client.request("miner_status")["state"])
        assert net.client.request("miner_status")["answers"] == 1
