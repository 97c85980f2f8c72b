"""What a submission costs, where change goes, and how rewards are spread and paid."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tests.contracts.storage.conftest import SUBMIT_OLD, plain

from zerog.contracts import STORAGE_FLOW, artifact
from zerog.contracts.storage_genesis import PRICE_PER_SECTOR, RELEASE_SECONDS
from zerog.errors import ContractReverted

TOKEN = 10**18


def _strict(storage):
    """Flow, market and reward as upstream deploys them; the admin may claim rewards."""
    flow, market = storage.deploy("FixedPriceFlow", 0), storage.deploy("FixedPrice")
    reward = storage.deploy("ChunkLinearReward", 1000, 1024)
    flow.initialize(market, 32)
    market.initialize(PRICE_PER_SECTOR, flow, reward)
    reward.initialize(market, storage.admin, storage.admin)
    return flow, market, reward


def test_a_fee_one_wei_short_is_refused_with_its_numbers(storage):
    file = plain(18)
    with pytest.raises(ContractReverted) as caught:
        storage.submit(file, value=storage.fee(file) - 1)
    words = (PRICE_PER_SECTOR, 18, 18 * PRICE_PER_SECTOR - 1)
    assert caught.value.data == "0xf85c6482" + "".join(f"{word:064x}" for word in words)


def test_alignment_gaps_are_not_charged(storage):
    storage.submit(plain(1))
    storage.submit(plain(1024))
    assert storage.flow.tree().currentLength == 2048
    assert storage.client.balance(storage.reward) - 10_000 * TOKEN == 1025 * PRICE_PER_SECTOR


@pytest.mark.parametrize("many", [False, True])
def test_the_change_goes_back_to_the_payer(storage, many):
    files = [plain(2, 1), plain(16, 2)][: 1 + many]
    before = storage.client.balance(storage.user)
    receipt = storage.batch(files, value=TOKEN) if many else storage.submit(files[0], value=TOKEN)
    gas = receipt.gas_used * receipt.effective_gas_price
    assert storage.client.balance(storage.user) == before - gas - sum(map(storage.fee, files))
    assert storage.client.balance(STORAGE_FLOW) == 0


def test_in_strict_mode_the_change_pays_for_the_next_submitter(storage):
    flow, market, reward = _strict(storage)
    flow.functions[SUBMIT_OLD](plain(1, 1).data(), value=3 * PRICE_PER_SECTOR)
    assert storage.client.balance(flow) == 2 * PRICE_PER_SECTOR
    flow.functions[SUBMIT_OLD](plain(2, 2).data(), account=storage.stranger)
    assert storage.client.balance(flow) == 0
    assert storage.client.balance(market) == 0
    assert storage.client.balance(reward) == 3 * PRICE_PER_SECTOR
    with pytest.raises(ContractReverted, match="NotEnoughFee"):
        flow.functions[SUBMIT_OLD](plain(1, 3).data())


def test_forced_ether_is_nobodys_change(storage):
    storage.client.request("hardhat_setBalance", STORAGE_FLOW, hex(5 * TOKEN))
    storage.submit(plain(1), value=TOKEN)
    assert storage.client.balance(STORAGE_FLOW) == 5 * TOKEN


def test_a_tip_to_the_market_goes_with_the_next_file(storage):
    storage.client.send(to=storage.market.address, value=TOKEN, account=storage.stranger)
    storage.submit(plain(1))
    assert storage.reward.rewards(0).lockedReward == TOKEN + PRICE_PER_SECTOR


def test_the_price_is_the_administrators(storage, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        storage.market.setPricePerSector(0)
    storage.market.setPricePerSector(0, account=storage.admin)
    storage.submit(plain(1024), value=0)
    assert storage.flow.submissionIndex() == 1


def test_only_the_contracts_of_the_set_move_fees(storage, reverts):
    for call in (
        lambda: storage.market.chargeFee(1, 1, 0),
        lambda: storage.reward.fillReward(1, 1),
        lambda: storage.reward.claimMineReward(0, storage.user, bytes(32)),
    ):
        with reverts("Sender does not have permission"):
            call()


def test_a_file_over_many_pricing_chunks_costs_as_much_gas_as_over_three(storage):
    small = storage.submit(plain(4096)).gas_used
    big = storage.submit(plain(1 << 20, 1)).gas_used
    assert big < small + 60_000
    shares = [storage.reward.rewards(i) for i in range(1024, 2048)]
    assert len({share.lockedReward for share in shares[:-1]}) == 1
    assert all(share.startTime for share in shares)


def test_fees_are_spread_over_pricing_chunks_without_loss(storage):
    flow, market, reward = _strict(storage)
    for sectors in (1, 1024, 18, 2048, 5, 10240, 768):
        file = plain(sectors, sectors)
        flow.functions[SUBMIT_OLD](file.data(), value=sectors * PRICE_PER_SECTOR)
        length = flow.tree().currentLength
        rewards = [reward.rewards(i) for i in range(length // 1024 + 2)]
        held = sum(r.lockedReward for r in rewards) + reward.totalBaseReward()
        assert held == storage.client.balance(reward)
        assert reward.totalBaseReward() < 1000
        assert [bool(r.startTime) for r in rewards] == [(i + 1) * 1024 <= length for i in range(len(rewards))]
    assert storage.client.balance(market) == 0


def test_a_claim_pays_half_of_what_was_released(storage):
    flow, _, reward = _strict(storage)
    flow.functions[SUBMIT_OLD](plain(1024).data(), value=1024 * PRICE_PER_SECTOR)
    flow.functions[SUBMIT_OLD](plain(1024, 2).data(), value=1024 * PRICE_PER_SECTOR)
    total, start = reward.rewards(1).lockedReward, reward.rewards(1).startTime
    claimable = distributed = 0
    for elapsed in (100, 500, 900, 1000, 5000):
        storage.client.request("evm_setNextBlockTimestamp", hex(start + elapsed))
        receipt = reward.claimMineReward(1, storage.user, b"\1" * 32, gas=300_000)
        claimable += total * min(elapsed, 1000) // 1000 - claimable - distributed
        paid = claimable // 2
        claimable, distributed = claimable - paid, distributed + paid
        assert [event.amount for event in reward.decode(receipt)] == [paid]
        found = reward.rewards(1)
        assert (found.lockedReward, found.claimableReward, found.distributedReward) == (
            total - claimable - distributed,
            claimable,
            distributed,
        )
    assert reward.payments(storage.user) == distributed


def test_base_rewards_end_with_their_fund_and_with_the_chunk(storage):
    flow, _, reward = _strict(storage)
    flow.functions[SUBMIT_OLD](plain(1024).data(), value=1024 * PRICE_PER_SECTOR)
    flow.functions[SUBMIT_OLD](plain(1024, 2).data(), value=1024 * PRICE_PER_SECTOR)
    reward.donate(value=5 * TOKEN)
    reward.setBaseReward(3 * TOKEN)
    start = reward.rewards(1).startTime
    reward.claimMineReward(9, storage.user, b"\1" * 32, gas=300_000)
    assert reward.payments(storage.user) == 0
    left = []
    for elapsed in (10, 20, 2000):
        storage.client.request("evm_setNextBlockTimestamp", hex(start + elapsed))
        reward.claimMineReward(1, storage.user, b"\1" * 32, gas=300_000)
        left.append(reward.totalBaseReward())
    assert left == [2 * TOKEN, 0, 0]
    reward.donate(value=TOKEN)
    reward.claimMineReward(1, storage.user, b"\1" * 32, gas=300_000)
    assert reward.totalBaseReward() == TOKEN


def test_the_service_fee_goes_to_the_treasury(storage, reverts):
    for setter, value in (
        ("setServiceFeeRate", 1),
        ("setBaseReward", 1),
        ("setTreasury", storage.user),
        ("setFoundationAdmin", storage.user),
    ):
        with reverts("Not foundation admin"):
            getattr(storage.reward, setter)(value)
    with reverts("InvalidServiceFeeRate"):
        storage.reward.setServiceFeeRate(10_001, account=storage.admin)
    storage.reward.setServiceFeeRate(2_500, account=storage.admin)
    storage.reward.setTreasury("0x" + "77" * 20, account=storage.admin)
    storage.submit(plain(1024), value=1024 * PRICE_PER_SECTOR)
    fee = 1024 * PRICE_PER_SECTOR
    padding = fee * 1023 // 2047
    assert storage.client.balance("0x" + "77" * 20) == padding // 4 + (fee - padding) // 4


def test_the_first_rewardable_chunk_moves_with_time(storage):
    for number in range(4):
        storage.submit(plain(1024, number))
        storage.client.request("evm_increaseTime", hex(86_400))
        storage.mine(1)
    deadlines = [storage.reward.rewardDeadline(i) for i in range(6)]
    assert deadlines[5] == 0
    # The first file skips chunk 0, which fills at the same moment.
    assert all(later >= earlier for earlier, later in pairwise(deadlines[:5]))
    assert storage.reward.firstRewardableChunk().index == 0
    storage.client.request("evm_increaseTime", hex(RELEASE_SECONDS - 2 * 86_400))
    storage.mine(1)
    now = storage.client.block().timestamp
    wanted = next(i for i, deadline in enumerate(deadlines) if not 0 < deadline < now)
    assert wanted > 0
    assert tuple(storage.reward.firstRewardableChunk()) == (wanted, now)


def test_chunks_of_a_reward_without_parameter_have_eight_gibibytes(storage):
    reward = storage.deploy("ChunkLinearReward", 1, 0)
    assert reward.sectorsPerChunk() == 1 << 25
    assert artifact("ChunkLinearReward").immutable_references
