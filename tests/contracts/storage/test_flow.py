"""The flow: positions, roots, the rules for submissions, both generations of calls, pausing."""

from __future__ import annotations

import pytest
from tests.contracts.storage.conftest import BATCH_OLD, SUBMIT, SUBMIT_OLD, File, plain, prng_files, vectors

from zerog.chain.keys import keccak256
from zerog.client import Devnet
from zerog.errors import ContractReverted, TransactionFailed

FLOW = vectors("flow.json")


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def test_a_fresh_flow_has_one_sector_and_the_root_zero(storage):
    assert tuple(storage.flow.tree()) == (1, 1)
    assert storage.root() == _unhex(FLOW["initial"]["root"])
    context = storage.flow.getContext()
    assert (context.epoch, context.flowLength) == (0, 1)
    assert context.digest == context.blockDigest == keccak256(b"")


def test_every_submission_of_the_vectors_gets_its_position_and_root(storage):
    files = vectors("merkle.json")["prng"]
    for file, entry, wanted in zip(prng_files(), files, FLOW["submissions"], strict=True):
        event = next(e for e in storage.flow.decode(storage.submit(file)) if e.name == "Submit")
        assert event.submissionIndex == wanted["txSeq"]
        assert event.startPos == wanted["startPos"]
        assert event.length == wanted["sectors"]
        assert event.identity == _unhex(entry["identity"])
        assert event.submission.length == file.size
        assert storage.flow.tree().currentLength == wanted["currentLength"]
        assert storage.flow.getFlowRootByTxSeq(wanted["txSeq"]) == _unhex(wanted["flowRoot"])
        assert storage.root() == _unhex(wanted["flowRoot"])


def test_a_batch_equals_the_same_submissions_one_by_one(storage):
    storage.batch(prng_files())
    assert storage.flow.submissionIndex() == storage.flow.numSubmissions() == 22
    for wanted in FLOW["submissions"]:
        assert storage.flow.getFlowRootByTxSeq(wanted["txSeq"]) == _unhex(wanted["flowRoot"])


def test_equal_sizes_end_where_the_upstream_tests_say(storage):
    for wanted in FLOW["lengthsAfterSectors"]:
        storage.submit(plain(wanted["sectors"]))
        assert storage.flow.tree().currentLength == wanted["currentLength"]


def test_a_file_of_several_segments_begins_at_a_segment(storage):
    for wanted in FLOW["startPositions"]:
        (event,) = [
            e for e in storage.flow.decode(storage.submit(plain(wanted["sectors"]))) if e.name == "Submit"
        ]
        assert event.startPos == wanted["startPos"]


@pytest.mark.parametrize("case", FLOW["invalidSubmissions"], ids=lambda case: case["why"])
def test_invalid_submissions_of_the_vectors_are_refused(storage, reverts, case):
    nodes = [(_unhex(root), height) for height, root in case["nodes"]]
    with reverts("Invalid submission"):
        storage.flow.functions[SUBMIT](((case["length"], b"", nodes), case["submitter"]), value=10**18)
    assert storage.flow.submissionIndex() == 0


@pytest.mark.parametrize(
    ("why", "size", "heights"),
    [
        ("no nodes", 256, []),
        ("height of 64", 256 << 64, [64]),
        ("height that overflows a shift", 256, [255]),
        ("equal heights", 256 * 32, [4, 4]),
        ("rising heights", 256 * 24, [3, 4]),
        ("five nodes", 256 * 31, [4, 3, 2, 1, 0]),
        ("size of a smaller file below 16 sectors", 256 * 14, [3, 2, 1, 0]),
        ("size that one node less would hold", 256 * 15 * 2, [5]),
        ("size that a smaller last node would hold", 256 * (16 + 4 - 2), [4, 2]),
        ("one byte beyond the last sector", 256 * 18 + 1, [4, 1]),
    ],
)
def test_every_rule_refuses_on_its_own(storage, reverts, why, size, heights):
    nodes = [(bytes([i + 1]) * 32, height) for i, height in enumerate(heights)]
    with reverts("Invalid submission"):
        storage.submit(File(size, tuple(nodes)), value=10**18)


@pytest.mark.parametrize(
    ("size", "heights"),
    [
        (1, [0]),
        (256 * 14 + 1, [3, 2, 1, 0]),
        (256 * 30 + 1, [5]),
        (256 * 17 + 1, [4, 1]),
        (256 * 240, [7, 6, 5, 4]),
    ],
)
def test_the_limits_of_the_rules_are_allowed(storage, size, heights):
    nodes = tuple((bytes([i + 1]) * 32, height) for i, height in enumerate(heights))
    storage.submit(File(size, nodes))
    assert storage.flow.submissionIndex() == 1


def test_the_submitter_is_the_sender_of_the_event(storage):
    file = plain(1)
    receipt = storage.flow.functions[SUBMIT](
        (file.data(b"tag"), storage.stranger.address), value=storage.fee(file)
    )
    (event,) = [e for e in storage.flow.decode(receipt) if e.name == "Submit"]
    assert event.sender == storage.stranger.address
    assert event.submission.tags == b"tag"


def test_the_older_calls_submit_in_the_name_of_the_caller(storage):
    first, second = plain(1, 1), plain(16, 2)
    one = storage.flow.functions[SUBMIT_OLD](first.data(), value=storage.fee(first))
    two = storage.flow.functions[BATCH_OLD](
        [first.data(), second.data()], value=storage.fee(first) + storage.fee(second)
    )
    events = [e for r in (one, two) for e in storage.flow.decode(r) if e.name == "Submit"]
    assert [e.sender for e in events] == [storage.user.address] * 3
    assert [e.submissionIndex for e in events] == [0, 1, 2]


def test_both_generations_return_the_same_four_values(storage):
    file = plain(2)
    options = {"value": storage.fee(file), "account": storage.user}
    new = storage.flow.functions[SUBMIT].call((file.data(), storage.user.address), **options)
    old = storage.flow.functions[SUBMIT_OLD].call(file.data(), **options)
    assert tuple(new) == tuple(old) == (0, keccak256(file.nodes[0][0]), 2, 2)


def test_submissions_and_epochs_stop_while_paused(storage, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        storage.flow.pause(account=storage.stranger)
    storage.flow.pause(account=storage.admin)
    storage.mine(40)
    for call in (lambda: storage.submit(plain(1)), lambda: storage.flow.makeContext()):
        with reverts("EnforcedPause"):
            call()
    storage.flow.unpause(account=storage.admin)
    storage.submit(plain(1))
    assert storage.flow.epoch() == 1


def test_a_flow_takes_no_submission_before_its_first_block(storage, reverts):
    flow = storage.deploy("Flow", 1000)
    market = storage.deploy("DummyMarket")
    flow.initialize(market, 32)
    with reverts("Contract has not launched."):
        flow.functions[SUBMIT_OLD](plain(1).data())
    with reverts("Contract has not launched."):
        flow.makeContext()
    with reverts("InvalidInitialization"):
        flow.initialize(market, 32)
    storage.mine(1001)
    flow.functions[SUBMIT_OLD](plain(1).data())
    assert flow.submissionIndex() == 1


def test_strangers_cannot_change_parameters_that_are_set(storage, reverts):
    before = storage.flow.blocksPerEpoch(), storage.flow.firstBlock(), storage.flow.rootHistory()
    storage.flow.setParams(7, 10**9, storage.stranger.address, account=storage.stranger)
    assert (storage.flow.blocksPerEpoch(), storage.flow.firstBlock(), storage.flow.rootHistory()) == before
    with reverts("InvalidInitialization"):
        storage.flow.initialize(storage.stranger, 1, account=storage.stranger)
    for contract in (storage.market, storage.reward):
        with reverts("InvalidInitialization"):
            contract.initialize(
                *([0] * (contract is storage.market)),
                *[storage.stranger] * (2 if contract is storage.market else 3),
                account=storage.stranger,
            )


def test_a_flow_that_is_full_says_so(storage):
    flow = storage.deploy("Flow", 0)
    flow.initialize(storage.deploy("DummyMarket"), 32)
    with pytest.raises(ContractReverted) as caught:
        for _ in range(3):
            flow.functions[SUBMIT_OLD]((256 << 63, b"", [(bytes(32), 63)]))
    assert "FlowFull" in str(caught.value.reason)


def test_the_flow_survives_a_restart_of_its_node(tmp_path):
    with Devnet(data_dir=tmp_path) as net:
        code = net.client.code("0x0000000000000000000000000000000000007100")
    with Devnet(data_dir=tmp_path) as net:
        assert net.client.code("0x0000000000000000000000000000000000007100") == code != b""


def test_an_estimate_holds_when_others_submit_first(storage):
    file = plain(1)
    gas = storage.flow.functions[SUBMIT].estimate_gas(
        (file.data(), storage.user.address), value=storage.fee(file), account=storage.user
    )
    for sectors in (1, 3, 14, 256, 16):
        storage.submit(plain(sectors, salt=sectors), account=storage.stranger)
    assert storage.submit(file, gas=gas).success


def test_an_estimate_holds_over_the_end_of_an_epoch(storage):
    file = plain(1)
    storage.submit(plain(1, salt=7))
    storage.mine(storage.flow.blocksPerEpoch() - storage.block - 1)
    gas = storage.flow.functions[SUBMIT].estimate_gas(
        (file.data(), storage.user.address), value=storage.fee(file), account=storage.user
    )
    storage.mine(3)
    assert storage.submit(file, gas=gas).success
    assert storage.flow.epoch() == 1


def test_a_submission_without_the_gas_of_the_dearest_outcome_is_refused(storage):
    with pytest.raises(TransactionFailed):
        storage.submit(plain(1), gas=300_000)
    assert storage.flow.submissionIndex() == 0
