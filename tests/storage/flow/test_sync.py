"""Following the Flow contract: pages, gaps, repeats, restarts, lagging nodes, reorganisations, divergence."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.storage.flow.chain import ADDRESS, ScriptedChain
from tests.storage.store.building import File, read_back

from zerog.errors import FlowDiverged, RpcError, StorageError, TransportError
from zerog.storage.flow.sync import FlowSync
from zerog.storage.store import FlowStore, Reverted
from zerog.storage.values import FileState, ShardConfig

FILES = [File.of(bytes([number + 1]) * (number * 300 + 1)) for number in range(12)]


@pytest.fixture
def store() -> Iterator[FlowStore]:
    with FlowStore.open(None, ShardConfig()) as opened:
        yield opened


@pytest.fixture
def chain() -> ScriptedChain:
    return ScriptedChain()


def following(chain: ScriptedChain, store: FlowStore, **options: Any) -> FlowSync:
    return FlowSync(chain, ADDRESS, store, **{"confirmations": 0} | options)


def assert_equal(chain: ScriptedChain, store: FlowStore) -> None:
    """The store has the chain's submissions, and their flow root."""
    files = chain.files()
    assert [submission.root for submission in store.submissions(0, 1000)] == [file.root for file in files]
    assert store.root() == chain.root()
    mark = store.progress()
    assert mark is not None and mark.hash == chain.blocks[mark.number].hash


# Pages.


def test_several_submissions_of_a_block_and_empty_blocks_are_followed(
    chain: ScriptedChain, store: FlowStore
) -> None:
    chain.mine(*FILES[:3])
    chain.mine()
    chain.mine(FILES[3])
    sync = following(chain, store)
    assert sync.catch_up() is True
    assert_equal(chain, store)
    assert sync.catch_up() is False
    assert store.submission(1) is not None and store.submission(1).tags == b"tag"  # type: ignore[union-attr]
    assert store.submission(1).sender == b"\x0f" * 20  # type: ignore[union-attr]


@pytest.mark.parametrize("page", [1, 2, 3, 5, 999])
def test_any_size_of_pages_gives_the_same_flow(chain: ScriptedChain, store: FlowStore, page: int) -> None:
    for file in FILES:
        chain.mine(file)
        chain.mine()
    following(chain, store, page=page).catch_up()
    assert_equal(chain, store)


@pytest.mark.parametrize("allowed", [1, 3, 7])
def test_a_range_that_the_node_refuses_is_halved(
    chain: ScriptedChain, store: FlowStore, allowed: int
) -> None:
    for file in FILES:
        chain.mine(file)
    chain.max_range = allowed
    following(chain, store, page=64).catch_up()
    assert_equal(chain, store)
    ranges = [
        int(params[0]["toBlock"], 16) - int(params[0]["fromBlock"], 16) + 1
        for method, params in chain.calls
        if method == "eth_getLogs"
    ]
    refused = [size for size in ranges if size > allowed]
    # Thirteen blocks: each refusal halves what is asked next.
    assert refused == [size for size in (13, 6, 3) if size > allowed]


def test_a_node_that_refuses_even_one_block_is_named_as_the_reason(
    chain: ScriptedChain, store: FlowStore
) -> None:
    chain.mine(FILES[0])
    chain.max_range = 0
    with pytest.raises(StorageError, match="refuses the logs even of block 0: query exceeds max block range"):
        following(chain, store).catch_up()
    assert store.next_seq() == 0


def test_repeated_logs_and_logs_out_of_order_are_harmless(chain: ScriptedChain, store: FlowStore) -> None:
    for file in FILES:
        chain.mine(file)
    everything = chain._all_logs()
    # Every page has all logs from the first block to its end, twice, the newest first.
    chain.logs = lambda logs: [
        log
        for log in reversed(everything * 2)
        if logs and int(log["blockNumber"], 16) <= max(int(one["blockNumber"], 16) for one in logs)
    ]
    following(chain, store, page=4).catch_up()
    assert_equal(chain, store)


def test_removed_and_foreign_logs_are_left_out(chain: ScriptedChain, store: FlowStore) -> None:
    chain.mine(FILES[0])
    chain.mine(FILES[1])
    chain.logs = lambda logs: [
        *logs,
        *(log | {"removed": True} for log in logs),
        *(log | {"address": "0x" + "72" * 20} for log in logs),
        *(log | {"topics": ["0x" + "11" * 32]} for log in logs),
    ]
    following(chain, store).catch_up()
    assert_equal(chain, store)


def test_addresses_in_any_case_are_the_contracts(chain: ScriptedChain, store: FlowStore) -> None:
    chain.mine(FILES[0])
    chain.logs = lambda logs: [log | {"address": log["address"].upper().replace("0X", "0x")} for log in logs]
    following(chain, store).catch_up()
    assert_equal(chain, store)


def test_a_block_counts_as_followed_when_all_listeners_have_heard_of_it(
    chain: ScriptedChain, store: FlowStore
) -> None:
    """Whoever waits for the newest block finds what a listener did with it, such as segments that waited."""
    sync = following(chain, store)
    sync.catch_up()
    seen: list[bool] = []
    store.listen(lambda event: seen.append(sync.followed == store.progress()))
    chain.mine(FILES[0])
    sync.catch_up()
    assert seen == [False]
    assert sync.followed == store.progress()


# Gaps.


def test_logs_with_a_gap_are_fetched_again(chain: ScriptedChain, store: FlowStore) -> None:
    for file in FILES:
        chain.mine(file)
    faults = [True, True]

    def forget(logs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return logs[:1] + logs[2:] if faults and faults.pop() else logs

    chain.logs = forget
    following(chain, store, page=5).catch_up()
    assert not faults
    assert_equal(chain, store)


def test_newest_logs_that_the_node_forgot_are_noticed_by_their_number(
    chain: ScriptedChain, store: FlowStore
) -> None:
    for file in FILES[:4]:
        chain.mine(file)
    faults = [True]
    chain.logs = lambda logs: logs[:-1] if faults and faults.pop() else logs
    following(chain, store).catch_up()
    assert_equal(chain, store)


def test_a_gap_that_stays_is_an_error_and_nothing_behind_it_is_stored(
    chain: ScriptedChain, store: FlowStore
) -> None:
    for file in FILES:
        chain.mine(file)
    chain.logs = lambda logs: [log for log in logs if int(log["blockNumber"], 16) != 3]
    sync = following(chain, store, page=2)
    with pytest.raises(StorageError, match=f"submission 3 follows 1.*does not give all logs of {ADDRESS}"):
        sync.catch_up()
    assert store.next_seq() == 2
    chain.logs = lambda logs: logs
    sync.catch_up()
    assert_equal(chain, store)


# Restarts.


def test_after_a_restart_only_new_blocks_are_asked_for(chain: ScriptedChain, tmp_path: Path) -> None:
    for file in FILES[:6]:
        chain.mine(file)
    with FlowStore.open(tmp_path / "store", ShardConfig()) as store:
        following(chain, store).catch_up()
    for file in FILES[6:]:
        chain.mine(file)
    chain.calls.clear()
    with FlowStore.open(tmp_path / "store", ShardConfig()) as store:
        following(chain, store).catch_up()
        assert_equal(chain, store)
    first = [params[0]["fromBlock"] for method, params in chain.calls if method == "eth_getLogs"]
    assert first == ["0x7"]


def test_a_pass_that_breaks_at_any_request_goes_on(chain: ScriptedChain, tmp_path: Path) -> None:
    for file in FILES:
        chain.mine(file)
    count = [0]
    with FlowStore.open(tmp_path / "whole", ShardConfig()) as store:
        following(chain, store, page=3).catch_up()
        count[0] = len(chain.calls)
    for broken in range(count[0]):
        left = [broken]

        def before(method: str, params: Sequence[Any], left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise TransportError("the line is dead")

        with FlowStore.open(None, ShardConfig()) as store:
            chain.before = before
            with pytest.raises(TransportError):
                following(chain, store, page=3).catch_up()
            assert store.root() == (chain.root(store.next_seq() - 1) if store.next_seq() else store.root())
            following(chain, store, page=3).catch_up()
            assert_equal(chain, store)
            chain.before = lambda method, params: None


def test_a_file_that_was_reorganised_away_while_the_node_was_off_is_reverted(
    chain: ScriptedChain, tmp_path: Path
) -> None:
    for file in FILES[:6]:
        chain.mine(file)
    with FlowStore.open(tmp_path / "store", ShardConfig()) as store:
        following(chain, store).catch_up()
    chain.go_back(4)
    chain.mine(FILES[9])
    chain.version = "anvil/v1"
    with FlowStore.open(tmp_path / "store", ShardConfig()) as store:
        following(chain, store).catch_up()
        assert_equal(chain, store)


# Confirmations, and chains that lack things.


@pytest.mark.parametrize(
    ("version", "followed"), [("zerog/0.3", 3), ("anvil/v1.3", 3), ("HardhatNetwork/2", 3), ("Geth/v1", 2)]
)
def test_a_devnet_is_followed_at_once_others_one_block_later(
    store: FlowStore, version: str, followed: int
) -> None:
    chain = ScriptedChain(version)
    for file in FILES[:3]:
        chain.mine(file)
    following(chain, store, confirmations=None).catch_up()
    assert store.next_seq() == followed


def test_confirmations_hold_submissions_back(chain: ScriptedChain, store: FlowStore) -> None:
    sync = following(chain, store, confirmations=5)
    for file in FILES[:4]:
        chain.mine(file)
    assert sync.catch_up() is False and store.progress() is None
    for _ in range(3):
        chain.mine()
    sync.catch_up()
    assert store.next_seq() == 2


def test_a_chain_without_finalized_and_safe_blocks_is_followed(
    chain: ScriptedChain, store: FlowStore
) -> None:
    with pytest.raises(RpcError):
        chain.request("eth_getBlockByNumber", ["finalized", False])
    chain.mine(FILES[0])
    chain.mine(FILES[1])
    following(chain, store, confirmations=None).catch_up()
    assert store.next_seq() == 1


def test_a_node_without_old_state_is_followed_by_its_logs(chain: ScriptedChain, store: FlowStore) -> None:
    def before(method: str, params: Sequence[Any]) -> None:
        if method == "eth_call" and params[1] != "latest":
            raise RpcError(-32000, "missing trie node")

    chain.before = before
    for file in FILES[:4]:
        chain.mine(file)
    following(chain, store).catch_up()
    assert_equal(chain, store)


# Nodes that lag.


def test_a_node_that_lags_is_waited_for(chain: ScriptedChain, store: FlowStore) -> None:
    for file in FILES[:6]:
        chain.mine(file)
    sync = following(chain, store)
    sync.catch_up()
    chain.latest = 3
    assert sync.catch_up() is False
    assert store.next_seq() == 6, "a lagging node is no reorganisation"
    chain.latest = None
    chain.mine(FILES[6])
    sync.catch_up()
    assert_equal(chain, store)


def test_a_node_that_stays_behind_counts_as_reorganised(
    chain: ScriptedChain, store: FlowStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in FILES[:6]:
        chain.mine(file)
    sync = following(chain, store)
    sync.catch_up()
    chain.go_back(4)
    assert sync.catch_up() is False and store.next_seq() == 6
    monkeypatch.setattr("zerog.storage.flow.sync.LAG_LIMIT", -1.0)
    sync.catch_up()
    assert_equal(chain, store)


def test_a_devnet_that_goes_back_is_believed_at_once(store: FlowStore) -> None:
    chain = ScriptedChain("anvil/v1.3")
    for file in FILES[:6]:
        chain.mine(file)
    sync = following(chain, store)
    sync.catch_up()
    chain.go_back(1)
    sync.catch_up()
    assert store.next_seq() == 0
    assert_equal(chain, store)


# Reorganisations.


@pytest.mark.parametrize("depth", range(1, 7))
def test_a_reorganisation_of_any_depth_is_followed(
    chain: ScriptedChain, store: FlowStore, depth: int
) -> None:
    for file in FILES[:6]:
        chain.mine(file)
    sync = following(chain, store)
    sync.catch_up()
    reverted: list[int] = []
    store.listen(lambda event: reverted.append(event.first_seq) if isinstance(event, Reverted) else None)
    chain.go_back(7 - depth)
    for file in FILES[6:]:
        chain.mine(file)
    sync.catch_up()
    assert reverted == [6 - depth]
    assert_equal(chain, store)


def test_data_of_a_submission_that_moves_to_another_place_is_kept(
    chain: ScriptedChain, store: FlowStore
) -> None:
    for file in FILES[:4]:
        chain.mine(file)
    sync = following(chain, store)
    sync.catch_up()
    for seq in range(4):
        store.put_segments(seq, FILES[seq].segments)
    chain.go_back(2)
    for file in (FILES[3], FILES[8], FILES[2], FILES[1]):
        chain.mine(file)
    sync.catch_up()
    assert_equal(chain, store)
    states = [store.state(seq) for seq in range(5)]
    pending, final = FileState.PENDING, FileState.FINALIZED
    assert states == [final, final, pending, final, final]
    for seq, file in ((0, FILES[0]), (1, FILES[3]), (3, FILES[2]), (4, FILES[1])):
        assert read_back(store, seq) == file.data


def test_a_chain_that_changes_below_a_pass_leaves_no_mixture(chain: ScriptedChain, store: FlowStore) -> None:
    for file in FILES[:8]:
        chain.mine(file)
    changes = iter([5, 3])

    def before(method: str, params: Sequence[Any]) -> None:
        # Between the logs and the look at the blocks.
        if method == "eth_getTransactionByHash":
            number = next(changes, None)
            if number is not None:
                chain.go_back(number)
                for file in FILES[number - 1 :]:
                    chain.mine(file)

    chain.before = before
    following(chain, store).catch_up()
    assert_equal(chain, store)


def test_a_node_that_never_agrees_with_itself_is_an_error(chain: ScriptedChain, store: FlowStore) -> None:
    chain.mine(FILES[0])

    def before(method: str, params: Sequence[Any]) -> None:
        if method == "eth_getTransactionByHash":
            chain.go_back(1)
            chain.mine(FILES[0])

    chain.before = before
    with pytest.raises(StorageError, match="contradicts itself about its blocks"):
        following(chain, store).catch_up()
    assert store.next_seq() == 0


# Divergence.


def test_a_root_that_is_not_the_contracts_stops_with_both_roots(
    chain: ScriptedChain, store: FlowStore
) -> None:
    for file in FILES[:3]:
        chain.mine(file)
    chain.root_lies[2] = b"\x99" * 32
    with pytest.raises(FlowDiverged) as caught:
        following(chain, store).catch_up()
    assert "0x" + store.root().hex() in caught.value.message
    assert "0x" + "99" * 32 in caught.value.message
    assert "submission 2" in caught.value.message and ADDRESS in caught.value.message


def test_the_root_is_compared_in_intervals(chain: ScriptedChain, store: FlowStore) -> None:
    chain.mine(FILES[0])
    sync = following(chain, store, root_interval=3)
    sync.catch_up()
    chain.root_lies[3] = b"\x98" * 32
    chain.mine(FILES[1], FILES[2])
    sync.catch_up()
    chain.mine(FILES[3])
    with pytest.raises(FlowDiverged, match="after submission 3"):
        sync.catch_up()


def test_divergence_ends_the_run_and_is_its_failure(chain: ScriptedChain, store: FlowStore) -> None:
    chain.mine(FILES[0])
    chain.root_lies[0] = b"\x99" * 32
    sync = following(chain, store)
    told: list[str] = []
    sync.after_pass(lambda: told.append("done"))
    with pytest.raises(FlowDiverged):
        sync.run(threading.Event())
    assert "0x" + "99" * 32 in (sync.failure or "")
    assert told == ["done"], "whoever waits for the pass is not forgotten"


def test_a_place_without_a_contract_is_named(store: FlowStore) -> None:
    chain = ScriptedChain()

    def nothing(*_: Any) -> str:
        return "0x"

    chain._eth_call = nothing  # type: ignore[method-assign]
    chain._eth_getCode = nothing  # type: ignore[method-assign]
    with pytest.raises(StorageError, match=f"there is no contract at {ADDRESS} on chain 1"):
        following(chain, store).catch_up()


# A real chain.


def test_files_in_all_states_follow_a_devnet_through_snapshots(tmp_path: Path) -> None:
    from tests.storage.api.conftest import File as Sent
    from tests.storage.api.conftest import pattern, submit, wait_until_final

    from zerog import Devnet

    with Devnet(services=["storage"]) as net:
        ask = net.client.request
        names = ("final", "half", "announced", "early", "dropped")
        files = {name: Sent.of(pattern(700_000)) for name in names}

        def states() -> dict[str, tuple[bool, int, bool] | None]:
            found: dict[str, tuple[bool, int, bool] | None] = {}
            for name, file in files.items():
                info = ask("zgs_getFileInfo", file.root, False)
                found[name] = info and (info["finalized"], info["uploadedSegNum"], info["pruned"])
            return found

        def place(*chosen: str) -> None:
            for name in chosen:
                submit(net, files[name])
                if name in ("final", "dropped"):
                    ask("zgs_uploadSegments", [files[name].json(index) for index in range(3)])
                elif name == "half":
                    ask("zgs_uploadSegment", files[name].json(1))

        before = net.snapshot()
        place("final", "half", "announced", "dropped")
        ask("zgs_uploadSegments", [files["early"].json(0), files["early"].json(2)])
        expected = {
            "final": (True, 3, False),
            "half": (False, 1, False),
            "announced": (False, 0, False),
            "early": None,
            "dropped": (True, 3, False),
        }
        assert states() == expected
        net.revert(before)
        assert states() == dict.fromkeys(files)
        assert ask("zgs_getStatus")["nextTxSeq"] == 0
        # In another order: other places in the flow, and the data that was sent once is there.
        place_order = ("announced", "early", "half", "final")
        for name in place_order:
            submit(net, files[name])
        wait_until_final(net, files["final"])
        assert states() == expected | {"early": (False, 2, False), "dropped": None}
        assert [ask("zgs_getFileInfo", files[n].root, False)["tx"]["seq"] for n in place_order] == [
            0,
            1,
            2,
            3,
        ]
        # The chain starts again from nothing, twice: an empty flow, then another one.
        for name in ("final", "half"):
            ask("anvil_reset")
            assert states() == dict.fromkeys(files)
            assert ask("zgs_getFlowContext")[1] == 1
            submit(net, files[name])
            info = ask("zgs_getFileInfo", files[name].root, False)
            assert info["tx"]["seq"] == 0
        assert ask("zgs_getStatus")["zerog"]["failure"] is None
