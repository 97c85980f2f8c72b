"""Epochs: one by one, after long silence, and the history of their roots."""

from __future__ import annotations

import pytest
from tests.contracts.storage.conftest import plain

from zerog.chain.keys import keccak256
from zerog.contracts import artifact

EMPTY = keccak256(b"")


def _epochs(storage, receipt):
    return [e for e in storage.flow.decode(receipt) if e.name == "NewEpoch"]


def test_an_epoch_opens_one_block_after_its_first(storage):
    length = storage.flow.blocksPerEpoch()
    storage.mine(length)
    assert storage.block == length
    assert storage.flow.makeContextWithResult.call().epoch == 0
    (event,) = _epochs(storage, storage.flow.makeContext(gas=1_000_000))
    assert (event.index, event.flowLength, event.submissionIndex) == (1, 1, 0)
    assert event.context == storage.flow.getContext().digest
    assert event.startMerkleRoot == bytes(32)


def test_a_submission_opens_the_epoch_before_it_is_added(storage):
    storage.submit(plain(1))
    storage.mine(40)
    receipt = storage.submit(plain(2))
    assert [e.name for e in storage.flow.decode(receipt)] == ["NewEpoch", "Submit"]
    context = storage.flow.getContext()
    assert context.flowLength == 2
    assert storage.flow.epochStartPosition() == 2
    assert tuple(storage.flow.getEpochRange(context.digest)) == (0, 2)


def test_digests_of_several_epochs_are_recomputed(storage):
    edges = [0]
    for number in range(3):
        storage.submit(plain(16, number))
        storage.mine(32)
        storage.flow.makeContext(gas=1_000_000)
        context, length = storage.flow.getContext(), storage.flow.tree().currentLength
        block = storage.client.block(32 * (number + 1))
        digest = keccak256(
            bytes.fromhex(block.hash[2:]) + storage.flow.getFlowRootByTxSeq(number) + int(length).to_bytes(32)
        )
        assert context.digest == digest
        assert tuple(storage.flow.getEpochRangeHistory(number)) == (edges[-1], length, digest)
        edges.append(length)
    for position in range(edges[-1]):
        found = storage.flow.queryContextAtPosition.call(position)
        assert found.start <= position < found.end


def test_positions_without_context_are_refused(storage, reverts):
    storage.submit(plain(1))
    with reverts("Can not find proper context"):
        storage.flow.queryContextAtPosition.call(1)
    with reverts("Queried position exceeds upper bound"):
        storage.flow.queryContextAtPosition.call(2)


def test_due_epochs_can_be_opened_a_few_at_a_time(storage):
    storage.mine(32 * 10)
    first = _epochs(storage, storage.flow.makeContextFixedTimes(3, gas=3_000_000))
    assert [e.index for e in first] == [1, 2, 3, 4]
    rest = _epochs(storage, storage.flow.makeContext(gas=3_000_000))
    assert [e.index for e in rest] == [5, 6, 7, 8, 9, 10]
    assert _epochs(storage, storage.flow.makeContext()) == []


@pytest.mark.parametrize("blocks", [32 * 40, 9_000])
def test_long_silence_does_not_make_a_submission_expensive(storage, blocks):
    storage.submit(plain(16))
    storage.mine(blocks)
    receipt = storage.submit(plain(1))
    assert receipt.gas_used < 700_000
    context = storage.flow.getContext()
    assert context.epoch == (storage.block - 1) // 32
    assert context.mineStart == 32 * context.epoch
    digest = keccak256(
        bytes.fromhex(storage.client.block(int(context.mineStart)).hash[2:])
        + storage.flow.getFlowRootByTxSeq(0)
        + int(context.flowLength).to_bytes(32)
    )
    assert context.digest == digest
    assert tuple(storage.flow.queryContextAtPosition.call(20))[:2] == (0, context.flowLength)


def test_an_epoch_whose_hash_is_out_of_reach_records_nothing(storage):
    storage.submit(plain(16))
    storage.mine(8191 + 32 * 3)
    storage.flow.makeContextFixedTimes(0, gas=1_000_000)
    context = storage.flow.getContext()
    assert (context.epoch, context.digest, context.blockDigest) == (1, EMPTY, EMPTY)
    assert storage.flow.epochStartPosition() == 0
    storage.flow.makeContext(gas=3_000_000)
    assert storage.flow.getEpochRangeHistory(0).start == 0
    assert storage.flow.epochStartPosition() == context.flowLength


def test_estimates_shortly_before_an_epoch_include_its_gas(storage):
    file = plain(1)
    for _ in range(36):
        storage.submit(file)
    assert storage.flow.epoch() == 1


def test_the_history_of_roots_is_a_ring(storage, reverts):
    history = storage.deploy("DigestHistory", 3)
    digests = [bytes([i + 1]) * 32 for i in range(5)]
    for digest in digests:
        history.insert(digest)
    assert [history.contains(d) for d in digests] == [False, False, True, True, True]
    assert [history.available(i) for i in range(6)] == [False, False, True, True, True, False]
    assert history.at(2) == digests[2]
    for index in (1, 5):
        with reverts("UnavailableIndex"):
            history.at(index)
    history.insert(digests[2])
    assert history.contains(digests[2])
    with reverts("NotOwner"):
        history.insert(digests[0], account=storage.stranger)
    assert artifact("DigestHistory").contract_name == "DigestHistory"
    predeployed = storage.client.contract(storage.flow.rootHistory(), artifact("DigestHistory").abi)
    assert (predeployed.capacity(), predeployed.owner()) == (1000, storage.flow.address)
    with reverts("NotOwner"):
        predeployed.insert(digests[0], account=storage.stranger)
