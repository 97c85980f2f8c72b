"""Mining from the first submission to the payment, and every answer that the mine refuses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from tests.contracts.storage import pora
from tests.contracts.storage.conftest import Storage, prng_files, vectors

from zerog.chain.keys import keccak256
from zerog.contracts import PORA_MINE, STORAGE_FLOW, VALIDATION_REGISTRY, artifact
from zerog.contracts.storage_genesis import BASE_REWARD

CALLER = "0x000000000000000000000000000000000000000a"
FLOW_LENGTH = 69632


@cache
def flow_tree() -> tuple[bytes, list[list[bytes]]]:
    """Bytes and nodes of the flow after the submissions of the vectors."""
    model = pora.FlowModel(FLOW_LENGTH)
    for entry in vectors("flow.json")["submissions"]:
        model.put(entry["startPos"], pora.prng(entry["fileSize"]))
    return bytes(model.data), model.levels()


@dataclass
class Mining:
    """A miner on a flow with the files of the vectors, in the first epoch that can be mined."""

    storage: Storage
    miner: bytes
    context: Any

    def work(self) -> Any:
        return self.storage.pora.computeWorkerContext.call(self.miner, account=CALLER)

    def answer(self, number: int = 0, **changes: Any) -> dict[str, Any]:
        """The answer of the ``number``-th nonce whose load can be proven, with some fields changed."""
        data, levels = flow_tree()
        search = changes.pop("search", (0, FLOW_LENGTH, 0, pora.NO_SHARDS))
        subtask = changes.pop("subtask", None) or bytes(self.work().subtaskDigest)
        for attempt in range(1000 * number, 1000 * number + 1000):
            nonce = attempt.to_bytes(32)
            pad = pora.scratch_pad(self.miner, nonce, subtask, search)
            load = pora.recalled_load(pad, search)
            if 0 < load < FLOW_LENGTH // pora.LOAD:
                break
        offset = changes.pop("sealOffset", 5)
        position = load * pora.LOAD + 16 * offset
        fields = {
            "contextDigest": bytes(self.context.digest),
            "minerId": self.miner,
            "nonce": nonce,
            "search": search,
            "recallPosition": position,
            "sealOffset": offset,
            "sealedContextDigest": bytes(self.context.digest),
            "merkleProof": pora.proof_of(levels, position),
        } | changes
        raw = data[position * 256 :][:4096]
        fields["sealed"] = pora.seal(raw, self.miner, fields["sealedContextDigest"], position)
        return pora.answer_of(**fields)

    def submit(self, answer: dict[str, Any], **options: Any) -> Any:
        return self.storage.pora.submit(answer, gas=2_000_000, **options)

    def check(self, answer: dict[str, Any]) -> None:
        """Simulates a submission."""
        self.storage.pora.submit.call(answer)

    def next_epoch(self) -> None:
        self.storage.mine(int(self.storage.flow.blocksPerEpoch()))
        self.storage.flow.makeContext(gas=1_000_000)
        self.context = self.storage.flow.getContext()


@pytest.fixture
def mining(storage: Storage) -> Mining:
    storage.batch(prng_files())
    storage.mine(40)
    storage.flow.makeContext(gas=1_000_000)
    event = storage.pora.decode(storage.pora.requestMinerId(storage.user, 7))[0]
    return Mining(storage, bytes(event.minerId), storage.flow.getContext())


def test_the_context_of_an_epoch_is_recomputed(mining):
    storage, context = mining.storage, mining.context
    start = storage.client.block(int(context.mineStart))
    assert (context.epoch, context.mineStart, context.flowLength) == (1, 32, FLOW_LENGTH)
    assert bytes(context.flowRoot).hex() == vectors("flow.json")["submissions"][-1]["flowRoot"][2:]
    assert bytes(context.flowRoot) == flow_tree()[1][-1][0]
    assert "0x" + bytes(context.blockDigest).hex() == start.hash
    digest = keccak256(bytes(context.blockDigest) + bytes(context.flowRoot) + FLOW_LENGTH.to_bytes(32))
    assert bytes(context.digest) == digest
    assert tuple(storage.flow.getEpochRange(digest)) == (0, FLOW_LENGTH)
    assert tuple(storage.flow.getEpochRangeHistory(0)) == (0, FLOW_LENGTH, digest)
    assert tuple(storage.flow.queryContextAtPosition.call(5000)) == (0, FLOW_LENGTH, digest)
    history = storage.client.contract(storage.flow.rootHistory(), artifact("DigestHistory").abi)
    assert history.contains(context.flowRoot)
    assert history.at(0) == context.flowRoot


def test_miner_id_and_subtask_digest_are_recomputed(storage):
    storage.batch(prng_files())
    storage.mine(40)
    receipt = storage.pora.requestMinerId(storage.user, 7)
    parent = storage.client.block(receipt.block_number - 1).hash
    wanted = keccak256(bytes.fromhex(parent[2:]) + bytes.fromhex(storage.user.address[2:]) + (7).to_bytes(8))
    assert bytes(storage.pora.decode(receipt)[0].minerId) == wanted
    work = storage.pora.computeWorkerContext.call(wanted, account=CALLER)
    start = storage.client.block(int(work.context.mineStart)).hash
    assert bytes(work.subtaskDigest) == keccak256(bytes(work.context.digest) + bytes.fromhex(start[2:]))
    assert work.poraTarget == 2**256 - 1
    assert work.maxShards == 32


def test_an_answer_is_accepted_paid_and_recorded(mining):
    storage, answer = mining.storage, mining.answer()
    before = storage.reward.totalBaseReward()
    receipt = mining.submit(answer, account=storage.stranger)
    (accepted,) = storage.pora.decode(receipt)
    assert (accepted.epoch, accepted.epochIndex) == (1, 0)
    assert accepted.recallPosition == answer["recallPosition"]
    (paid,) = storage.reward.decode(receipt)
    assert paid.pricingIndex == answer["recallPosition"] // 1024
    assert paid.beneficiary == storage.user.address
    assert storage.reward.payments(storage.user) == paid.amount >= BASE_REWARD
    assert storage.reward.totalBaseReward() == before - BASE_REWARD
    held = storage.client.balance(storage.user)
    storage.reward.withdrawPayments(storage.user, account=storage.stranger)
    assert storage.client.balance(storage.user) == held + paid.amount
    assert (storage.pora.lastMinedEpoch(), storage.pora.currentSubmissions()) == (1, 1)


def test_a_proven_load_is_known_to_the_validation_registry(mining):
    storage, answer = mining.storage, mining.answer()
    load = answer["recallPosition"] // 1024
    subject = bytes(storage.pora.subjectOf(load))
    words = map(pora.u256, (96, int(STORAGE_FLOW, 16), load, 4))
    assert subject == keccak256(b"".join(words) + b"PoRA".ljust(32, b"\0"))
    registry = storage.client.contract(VALIDATION_REGISTRY, artifact("ValidationRegistry").abi)
    domain = b"PoRA".ljust(32, b"\0")
    assert registry.domainOf(domain).verifier == PORA_MINE
    assert tuple(registry.levelOf(subject)) == (bytes(32), 0)
    mining.submit(answer)
    assert tuple(registry.levelOf(subject)) == (domain, 0)
    again = mining.answer(sealOffset=9)
    mining.submit(again)
    assert tuple(registry.levelOf(subject)) == (domain, 0)
    assert storage.pora.proofOf(load).answers == 2
    mining.next_epoch()
    mining.submit(_answer_for(mining, load))
    assert tuple(registry.levelOf(subject)) == (domain, 1)


def _answer_for(mining: Mining, load: int) -> dict[str, Any]:
    """An answer that proves this load."""
    numbers = range(1, 2000)
    subtask, first = (
        bytes(mining.work().subtaskDigest),
        bytes(mining.storage.flow.getEpochRangeHistory(0).digest),
    )
    for number in numbers:
        answer = mining.answer(number, subtask=subtask, sealedContextDigest=first)
        if answer["recallPosition"] // 1024 == load:
            return answer
    raise AssertionError("no nonce recalls the load")


def test_a_replayed_answer_is_refused(mining, reverts):
    answer = mining.answer()
    mining.submit(answer)
    with reverts("Answer has been submitted"):
        mining.check(answer)


def test_a_changed_nonce_recalls_another_position(mining, reverts):
    answer, others = mining.answer(), (mining.answer(number) for number in range(1, 20))
    # Two nonces may recall one load.
    answer["nonce"] = next(a["nonce"] for a in others if a["recallPosition"] != answer["recallPosition"])
    with reverts("Incorrect recall position"):
        mining.check(answer)


def test_data_of_another_place_has_another_root(mining, reverts):
    answer = mining.answer()
    answer["sealedData"] = [bytes(32), *answer["sealedData"][1:]]
    with reverts("Inconsistent merkle root"):
        mining.check(answer)


def test_a_proof_that_is_cut_or_extended_is_refused(mining, reverts):
    answer = mining.answer()
    siblings = answer["merkleProof"]
    for proof in (siblings[:-1], [*siblings, bytes(32)], [], siblings * 5):
        with reverts("Inconsistent merkle root"):
            mining.check(answer | {"merkleProof": proof})


@pytest.mark.parametrize(
    ("search", "reason"),
    [
        ((1024, FLOW_LENGTH - 1024, 0, pora.NO_SHARDS), "Start position is not aligned"),
        ((1 << 25, FLOW_LENGTH, 0, pora.NO_SHARDS), "Mining range overflow"),
        ((0, FLOW_LENGTH + 1024, 0, pora.NO_SHARDS), "Mining range overflow"),
        ((0, FLOW_LENGTH - 1024, 0, pora.NO_SHARDS), "Mining range too short"),
        ((0, 1, 0, pora.NO_SHARDS), "Mining range too short"),
        ((0, FLOW_LENGTH, 1, pora.NO_SHARDS), "Masked bits should be zero"),
        ((0, FLOW_LENGTH, 2, 2**64 - 2), "Masked bits should be zero"),
        ((0, FLOW_LENGTH, 0, 2**64 - 64), "Exceeding the allowed number of shards"),
    ],
)
def test_a_wrong_range_is_refused(mining, reverts, search, reason):
    answer = mining.answer()
    answer["range"] = dict(zip(answer["range"], search, strict=True))
    with reverts(reason):
        mining.check(answer)


def test_a_shard_is_mined_and_another_shard_is_not(mining, reverts):
    search = (0, FLOW_LENGTH, 1, 2**64 - 2)
    answer = next(a for n in range(20) if _reaches(mining, a := mining.answer(n, search=search)))
    assert answer["recallPosition"] // 1024 % 2 == 1
    mining.check(answer)
    answer["range"] |= {"shardId": 0}
    with reverts("Incorrect recall position"):
        mining.check(answer)


def _reaches(mining: Mining, answer: dict[str, Any]) -> bool:
    """Whether the hash is below the target of a shard, half of all."""
    found = int.from_bytes(mining.storage.pora.pora(answer, mining.work().subtaskDigest))
    return found < 2**255 - 2**192


def test_a_hash_above_the_target_is_refused(mining, reverts):
    search = (0, FLOW_LENGTH, 1, 2**64 - 2)
    answer = next(a for n in range(20) if not _reaches(mining, a := mining.answer(n, search=search)))
    with reverts("Do not reach target quality"):
        mining.check(answer)


def test_a_piece_beyond_its_load_is_refused(mining, reverts):
    answers = (mining.answer(number) for number in range(20))
    answer = next(a for a in answers if a["recallPosition"] + 1024 < FLOW_LENGTH)
    far = answer | {"sealOffset": 64 + 5, "recallPosition": answer["recallPosition"] + 1024}
    raw = flow_tree()[0][far["recallPosition"] * 256 :][:4096]
    sealed = pora.seal(raw, mining.miner, far["sealedContextDigest"], far["recallPosition"])
    far["sealedData"] = [sealed[i : i + 32] for i in range(0, 4096, 32)]
    far["merkleProof"] = pora.proof_of(flow_tree()[1], far["recallPosition"])
    with reverts("Incorrect recall position"):
        mining.check(far)


def test_miners_must_be_known(mining, reverts):
    answer = mining.answer()
    with reverts("MinerId cannot be zero"):
        mining.check(answer | {"minerId": bytes(32)})
    with reverts("MinerId does not registered"):
        mining.check(answer | {"minerId": b"\1" * 32})


def test_an_answer_sealed_for_another_miner_is_refused(mining, reverts):
    answer = mining.answer()
    other = bytes(
        mining.storage.pora.decode(mining.storage.pora.requestMinerId(mining.storage.user, 8))[0].minerId
    )
    with reverts("Inconsistent merkle root"):
        mining.check(answer | {"minerId": other})


def test_an_answer_to_an_earlier_context_is_refused(mining, reverts):
    answer = mining.answer()
    mining.next_epoch()
    with reverts("Inconsistent mining digest"):
        mining.check(answer)


def test_the_sealed_context_must_hold_the_piece(mining, reverts):
    answer = mining.answer()
    with reverts("Invalid sealed context digest"):
        mining.check(answer | {"sealedContextDigest": b"\2" * 32})


def test_nothing_is_mined_before_the_first_epoch(storage, reverts):
    event = storage.pora.decode(storage.pora.requestMinerId(storage.user, 1))[0]
    answer = pora.answer_of(
        minerId=bytes(event.minerId),
        nonce=bytes(32),
        search=(0, 1024, 0, pora.NO_SHARDS),
        recallPosition=16,
        sealOffset=1,
        sealedContextDigest=keccak256(b""),
        sealed=bytes(4096),
        merkleProof=[],
        contextDigest=keccak256(b""),
    )
    with reverts("Empty digest can not mine"):
        storage.pora.submit.call(answer)


def test_a_mining_window_opens_and_closes(mining, reverts):
    context = tuple(mining.context)
    later = (context[0], mining.storage.block + 10, *context[2:])
    with reverts("Earlier than expected subtask start block."):
        mining.storage.pora.getSubtaskDigest(later, mining.miner)
    mining.storage.mine(40)
    with reverts("Mine deadline exceed"):
        mining.storage.pora.getSubtaskDigest(context, mining.miner)


def test_an_epoch_takes_twice_the_wanted_answers(mining, reverts):
    pora_mine = mining.storage.pora
    pora_mine.setTargetSubmissions(1, account=mining.storage.admin)
    for number in range(2):
        mining.submit(mining.answer(number))
    assert not pora_mine.canSubmit.call()
    assert mining.work().poraTarget == 0
    with reverts("Epoch has enough submissions"):
        mining.check(mining.answer(3, subtask=bytes(mining.work().subtaskDigest)))
    mining.next_epoch()
    assert pora_mine.canSubmit.call()


def test_difficulty_follows_the_number_of_answers(mining):
    pora_mine, target = mining.storage.pora, 2**256 - 1
    pora_mine.setTargetSubmissions(1, account=mining.storage.admin)
    for number in range(2):
        mining.submit(mining.answer(number))
    assert pora_mine.poraTarget() == target
    first = bytes(mining.storage.flow.getEpochRangeHistory(0).digest)
    mining.next_epoch()
    scaled = target >> 16
    wanted = (scaled * 19 + scaled // 2) // 20 << 16
    assert mining.work().poraTarget == wanted
    answers = (mining.answer(n, sealedContextDigest=first) for n in range(10))
    mining.submit(next(a for a in answers if _hash(mining, a) < wanted - 2**64))
    assert pora_mine.poraTarget() == wanted
    assert pora_mine.currentSubmissions() == 1


def _hash(mining: Mining, answer: dict[str, Any]) -> int:
    return int.from_bytes(mining.storage.pora.pora(answer, mining.work().subtaskDigest))


def test_a_beneficiary_hands_its_miner_on(mining, reverts):
    storage = mining.storage
    with reverts("Sender does not own minerId"):
        storage.pora.transferBeneficial(storage.stranger, mining.miner, account=storage.stranger)
    (event,) = storage.pora.decode(storage.pora.transferBeneficial(storage.stranger, mining.miner))
    assert (getattr(event, "from"), event.to) == (storage.user.address, storage.stranger.address)
    assert storage.pora.beneficiaries(mining.miner) == storage.stranger.address


def test_the_worker_context_answers_its_caller_only(mining, reverts):
    with reverts("Only authorized caller can compute worker context"):
        mining.storage.pora.computeWorkerContext.call(mining.miner)
    assert mining.storage.pora.computeWorkerContextCaller().lower() == CALLER
    assert mining.storage.pora.poraVersion() == 1


@pytest.mark.parametrize(
    ("setter", "value", "reason"),
    [
        ("setTargetMineBlocks", 257, "target mine block must <= 256"),
        ("setDifficultyAdjustRatio", 0, "Adjust ratio must be non-zero"),
        ("setMaxShards", 0, "Max shard number cannot be zero"),
        ("setMaxShards", 3, "Max shard number must be power of 2"),
        ("setNumSubtasks", 0, "Number of subtasks cannot be zero"),
        ("setNumSubtasks", 2, "Number of subtasks must be less than blocks per epoch"),
        ("setSubtaskInterval", 0, "Subtask interval cannot be zero"),
        ("setSubtaskInterval", 32, "Number of subtask intervals must be less than blocks per epoch"),
    ],
)
def test_parameters_are_bounded(storage, reverts, setter, value, reason):
    with reverts("AccessControlUnauthorizedAccount"):
        getattr(storage.pora, setter)(1, account=storage.stranger)
    with reverts(reason):
        getattr(storage.pora, setter)(value, account=storage.admin)


def test_a_least_difficulty_bounds_the_target(storage):
    storage.pora.setMinDifficulty(4, account=storage.admin)
    assert storage.pora.poraTarget() == (2**256 - 1) // 4
