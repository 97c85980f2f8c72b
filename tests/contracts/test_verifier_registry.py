"""Registration, stake and exits of verifiers; what the lot does with them is in `test_stake_tree`."""

from __future__ import annotations

import pytest
from tests.contracts.audit_court import STAKE, TOLERANT_POOL, Court

from zerog.chain.keys import keccak256
from zerog.contracts.genesis import ACTIVATION_DELAY, UNSTAKE_DELAY, VERIFIER_MIN_STAKE

KEY = b"\x02" + bytes(31) + b"\x01"
POOL = keccak256(b"an engine")


@pytest.fixture
def court(world) -> Court:
    return Court(world, [])


@pytest.fixture
def member(world):
    return world.net.accounts[4]


@pytest.fixture
def seize(court, world):
    """Takes stake as the audit contract does."""
    world.net.set_balance(court.audit, 10**18)

    def take(account, amount, keep=0):
        with world.net.impersonate(court.audit) as slasher:
            return court.verifiers.seize(account, amount, keep, POOL, account=slasher)

    return take


def _of(court, member):
    verifier, pools = court.verifiers.verifierOf(member)
    return verifier, list(pools)


def test_a_verifier_has_pools_a_key_and_stake(court, member):
    court.verifiers.registerVerifier([POOL, TOLERANT_POOL], KEY, account=member, value=STAKE)
    verifier, pools = _of(court, member)
    assert (verifier.stake, verifier.active, verifier.encryptionKey) == (STAKE, True, KEY)
    assert pools == [POOL, TOLERANT_POOL]
    assert court.verifiers.isVerifier(member)
    assert court.verifiers.verifiersOf(POOL) == [member.address]
    assert [court.verifiers.poolStake(pool) for pool in pools] == [STAKE, STAKE]


def test_registering_again_changes_pools_and_key_and_adds_stake(court, member):
    court.verifiers.registerVerifier([POOL], KEY, account=member, value=STAKE)
    court.verifiers.registerVerifier([TOLERANT_POOL], b"", account=member, value=1)
    verifier, pools = _of(court, member)
    assert (verifier.stake, verifier.encryptionKey, pools) == (STAKE + 1, b"", [TOLERANT_POOL])
    assert court.verifiers.poolStake(POOL) == 0
    assert court.verifiers.poolStake(TOLERANT_POOL) == STAKE + 1


def test_a_registration_is_checked(court, member, reverts):
    def register(pools, key=b"", value=STAKE):
        court.verifiers.registerVerifier(pools, key, account=member, value=value)

    with reverts("PoolCountInvalid(given=0, limit=8)"):
        register([])
    with reverts("PoolCountInvalid(given=9, limit=8)"):
        register([keccak256(bytes([n])) for n in range(9)])
    with reverts("PoolRepeated"):
        register([POOL, POOL])
    for key in (bytes(33), b"\x04" + bytes(32), KEY[:-1], KEY + b"\0"):
        with reverts("EncryptionKeyInvalid"):
            register([POOL], key)
    with reverts("StakeTooSmall"):
        register([POOL], value=VERIFIER_MIN_STAKE - 1)
    register([keccak256(bytes([n])) for n in range(8)])


def test_stake_is_added_by_registered_verifiers_only(court, world, member, reverts):
    with reverts("NotRegistered"):
        court.verifiers.addStake(account=world.stranger, value=1)
    court.verifiers.registerVerifier([POOL], b"", account=member, value=STAKE)
    court.verifiers.addStake(account=member, value=5)
    assert (court.verifiers.stakeOf(member), court.verifiers.poolStake(POOL)) == (STAKE + 5, STAKE + 5)


def test_an_exit_takes_its_delay_and_pays_out_once(court, world, member, reverts):
    court.verifiers.registerVerifier([POOL], b"", account=member, value=STAKE)
    court.verifiers.requestUnstake(STAKE, account=member)
    assert not court.verifiers.isVerifier(member)
    assert (court.verifiers.stakeOf(member), court.verifiers.atRiskOf(member)) == (0, STAKE)
    with reverts("StakeLocked"):
        court.verifiers.withdrawStake(account=member)
    world.net.increase_time(UNSTAKE_DELAY + 1)
    world.net.mine()
    before = world.client.balance(court.verifiers)
    court.verifiers.withdrawStake(account=member)
    assert world.client.balance(court.verifiers) == before - STAKE
    with reverts("NothingToWithdraw"):
        court.verifiers.withdrawStake(account=member)


def test_part_of_a_stake_can_leave_if_enough_remains(court, member, reverts):
    court.verifiers.registerVerifier([POOL], b"", account=member, value=STAKE)
    with reverts("StakeTooSmall"):
        court.verifiers.requestUnstake(STAKE - VERIFIER_MIN_STAKE + 1, account=member)
    with reverts("UnstakeExceedsStake"):
        court.verifiers.requestUnstake(STAKE + 1, account=member)
    court.verifiers.requestUnstake(STAKE - VERIFIER_MIN_STAKE, account=member)
    assert court.verifiers.isVerifier(member)
    with reverts("NotRegistered"):
        court.verifiers.requestUnstake(1)


def test_a_second_exit_starts_the_delay_again(court, world, member, reverts):
    court.verifiers.registerVerifier([POOL], b"", account=member, value=3 * VERIFIER_MIN_STAKE)
    court.verifiers.requestUnstake(VERIFIER_MIN_STAKE, account=member)
    world.net.increase_time(UNSTAKE_DELAY - 10)
    court.verifiers.requestUnstake(VERIFIER_MIN_STAKE, account=member)
    world.net.increase_time(20)
    world.net.mine()
    with reverts("StakeLocked"):
        court.verifiers.withdrawStake(account=member)


def test_seizing_takes_counting_stake_first_then_what_is_leaving(court, member, seize):
    court.verifiers.registerVerifier([POOL], b"", account=member, value=STAKE)
    court.verifiers.requestUnstake(VERIFIER_MIN_STAKE, account=member)
    seize(member, VERIFIER_MIN_STAKE + 7)
    assert court.verifiers.stakeOf(member) == 0
    assert court.verifiers.atRiskOf(member) == VERIFIER_MIN_STAKE - 7
    assert not court.verifiers.isVerifier(member)
    assert court.verifiers.poolStake(POOL) == 0
    seize(member, STAKE)
    assert court.verifiers.atRiskOf(member) == 0


def test_what_is_kept_goes_to_the_slasher_and_the_rest_is_burnt(court, world, member, seize):
    court.verifiers.registerVerifier([POOL], b"", account=member, value=STAKE)
    burnt = court.verifiers.BURN_ADDRESS()
    done = seize(member, 1_000, 250_000)
    event = next(e for e in court.verifiers.decode(done) if e.name == "Seized")
    assert (event.taken, event.kept, event.stakeLeft) == (1_000, 250, STAKE - 1_000)
    assert world.client.balance(burnt) == 750
    assert world.client.balance(court.verifiers) == STAKE - 1_000


def test_an_account_without_stake_loses_nothing_and_stops_no_audit(court, world, seize):
    done = seize(world.stranger, 10**18)
    assert next(e for e in court.verifiers.decode(done) if e.name == "Seized").taken == 0


def test_only_the_slasher_seizes_and_no_more_than_all(court, world, member, reverts):
    with reverts("AccessControlUnauthorizedAccount"):
        court.verifiers.seize(member, 1, 0, POOL)
    world.net.set_balance(court.audit, 10**18)
    with world.net.impersonate(court.audit) as slasher, reverts("ShareTooLarge"):
        court.verifiers.seize.call(member, 1, 1_000_001, POOL, account=slasher)


def test_a_draw_is_bounded(court, reverts):
    with reverts("TooManyDrawn(count=33, limit=32)"):
        court.verifiers.draw(POOL, bytes(32), 33, "0x" + "00" * 20, 100)
    assert court.verifiers.draw(POOL, bytes(32), 32, "0x" + "00" * 20, 100) == ([], [])


def test_parameters_come_from_genesis_and_have_limits(court, world, reverts):
    assert court.verifiers.minStake() == VERIFIER_MIN_STAKE
    assert court.verifiers.unstakeDelay() == UNSTAKE_DELAY
    assert court.verifiers.activationDelay() == ACTIVATION_DELAY
    with reverts("AccessControlUnauthorizedAccount"):
        court.verifiers.setParameters(10**9, 1, 1, account=world.stranger)
    for values, name in [
        ((10**9 - 1, 1, 1), "minStake"),
        ((10**9, 365 * 86_400 + 1, 1), "unstakeDelay"),
        ((10**9, 1, 0), "activationDelay"),
        ((10**9, 1, 10_001), "activationDelay"),
    ]:
        with reverts(f"ParameterOutOfRange(name='{name}')"):
            court.verifiers.setParameters(*values)
    court.verifiers.setParameters(10**9, 7, 3)
    assert (court.verifiers.minStake(), court.verifiers.activationDelay()) == (10**9, 3)


def test_a_raised_minimum_counts_from_the_next_change_on(court, member):
    court.verifiers.registerVerifier([POOL], b"", account=member, value=STAKE)
    court.verifiers.setParameters(2 * STAKE, UNSTAKE_DELAY, ACTIVATION_DELAY)
    assert not court.verifiers.isVerifier(member)
    court.verifiers.addStake(account=member, value=1)
    assert court.verifiers.poolStake(POOL) == 0
    court.verifiers.addStake(account=member, value=STAKE)
    assert court.verifiers.poolStake(POOL) == 2 * STAKE + 1
