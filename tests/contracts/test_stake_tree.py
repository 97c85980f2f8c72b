"""The lot: who is drawn, how often, and as of when.

The tree is exercised through `VerifierRegistry.draw`, a view, so that thousands of draws cost nothing. The reference
walks a plain list and knows nothing of Fenwick trees.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Any

import pytest
from tests.contracts.audit_court import STAKE, Court

from zerog.chain.keys import keccak256
from zerog.client import Account
from zerog.contracts.genesis import ACTIVATION_DELAY, VERIFIER_MIN_STAKE

NOBODY = "0x" + "00" * 20
UNIT = VERIFIER_MIN_STAKE


def seed(number: int) -> bytes:
    return keccak256(number.to_bytes(32))


def reference(weights: dict[str, int], randomness: bytes, count: int, exclude: str = NOBODY) -> list[str]:
    """Draws by walking the members that are left, in the order in which they joined."""
    left = {member: weight for member, weight in weights.items() if member != exclude and weight > 0}
    drawn: list[str] = []
    for index in range(min(count, len(left))):
        target = int.from_bytes(keccak256(randomness + index.to_bytes(32))) % sum(left.values())
        ends = zip(left, accumulate(left.values()), strict=True)
        drawn.append(next(member for member, end in ends if target < end))
        del left[drawn[-1]]
    return drawn


@pytest.fixture
def court(world) -> Court:
    return Court(world, [])


def _people(world: Any, count: int) -> list[Account]:
    made = [Account.random() for _ in range(count)]
    for person in made:
        world.net.set_balance(person, 10**24)
    return made


def _drawn(
    court: Court, randomness: bytes, count: int, exclude: str = NOBODY, at: int | None = None
) -> list[str]:
    beacon = court.world.client.block_number if at is None else at
    members, _stakes = court.verifiers.draw(court.world.engine, randomness, count, exclude, beacon)
    return list(members)


def test_draws_are_those_of_a_plain_walk_over_the_members(court, world):
    weights: dict[str, int] = {}
    for index, person in enumerate(_people(world, 11)):
        weights[person.address] = UNIT * (1 + index * index)
        court.enrol([person], weights[person.address])
    excluded = list(weights)[4]
    for number in range(40):
        count = number % 13
        assert _drawn(court, seed(number), count) == reference(weights, seed(number), count)
        assert _drawn(court, seed(number), count, excluded) == reference(
            weights, seed(number), count, excluded
        )


def test_members_are_drawn_as_often_as_their_stake_says(court, world):
    shares = [1, 2, 5, 12]
    people = _people(world, len(shares))
    for person, share in zip(people, shares, strict=True):
        court.enrol([person], UNIT * share)
    draws = 1_000
    found = dict.fromkeys((person.address for person in people), 0)
    for number in range(draws):
        found[_drawn(court, seed(number), 1)[0]] += 1
    expected = [draws * share / sum(shares) for share in shares]
    chi_squared = sum((f - e) ** 2 / e for f, e in zip(found.values(), expected, strict=True))
    # Three degrees of freedom: the 99.9 % quantile. A draw that ignored stake would be beyond 500.
    assert chi_squared < 16.27


def test_a_committee_has_no_member_twice_and_everybody_when_it_is_large_enough(court, world):
    people = _people(world, 6)
    court.enrol(people)
    for number in range(20):
        committee = _drawn(court, seed(number), 6)
        assert sorted(committee) == sorted(person.address for person in people)
    assert len(_drawn(court, seed(1), 30)) == 6
    assert _drawn(court, seed(1), 0) == []


def test_a_draw_sees_the_stakes_of_an_activation_delay_before_its_beacon(court, world):
    first, second = _people(world, 2)
    court.enrol([first])
    joined = court.verifiers.registerVerifier(
        [world.engine], b"", account=second, value=1000 * STAKE
    ).block_number
    world.net.mine(2 * ACTIVATION_DELAY)
    for beacon in range(joined, joined + ACTIVATION_DELAY):
        assert _drawn(court, seed(1), 2, at=beacon) == [first.address]
    assert len(_drawn(court, seed(1), 2, at=joined + ACTIVATION_DELAY)) == 2
    assert court.verifiers.poolStakeAt(world.engine, joined + ACTIVATION_DELAY - 1) == STAKE
    assert court.verifiers.poolStakeAt(world.engine, joined + ACTIVATION_DELAY) == 1001 * STAKE


def test_who_leaves_stays_in_the_draws_that_may_be_known_already(court, world):
    people = _people(world, 2)
    court.enrol(people)
    left = court.verifiers.requestUnstake(STAKE, account=people[0]).block_number
    world.net.mine(2 * ACTIVATION_DELAY)
    assert len(_drawn(court, seed(1), 2, at=left + ACTIVATION_DELAY - 1)) == 2
    assert _drawn(court, seed(1), 2, at=left + ACTIVATION_DELAY) == [people[1].address]


def test_who_comes_back_takes_its_old_position(court, world):
    people = _people(world, 5)
    court.enrol(people)
    court.verifiers.requestUnstake(STAKE, account=people[1])
    court.enrol([people[1]], 3 * STAKE)
    weights = {p.address: 3 * STAKE if p is people[1] else STAKE for p in people}
    for number in range(10):
        assert _drawn(court, seed(number), 3) == reference(weights, seed(number), 3)
    assert court.verifiers.poolStake(world.engine) == sum(weights.values())


def test_the_weight_in_a_vote_is_never_more_than_what_can_still_be_taken(court, world):
    (person,) = _people(world, 1)
    court.enrol([person])
    world.net.set_balance(court.audit, 10**18)
    with world.net.impersonate(court.audit) as slasher:
        court.verifiers.seize(person, STAKE // 4, 0, bytes(32), account=slasher)
    members, stakes = court.verifiers.draw(world.engine, seed(1), 1, NOBODY, world.client.block_number)
    assert (list(members), list(stakes)) == ([person.address], [STAKE - STAKE // 4])


def test_who_lost_everything_is_passed_over(court, world):
    people = _people(world, 3)
    court.enrol(people)
    world.net.set_balance(court.audit, 10**18)
    with world.net.impersonate(court.audit) as slasher:
        court.verifiers.seize(people[0], 2 * STAKE, 0, bytes(32), account=slasher)
    for number in range(10):
        assert sorted(_drawn(court, seed(number), 3)) == sorted(p.address for p in people[1:])


def test_sums_stay_right_through_joins_exits_and_top_ups(court, world):
    people = _people(world, 9)
    weights: dict[str, int] = {}
    for step in range(24):
        person = people[(step * 7) % 9]
        if weights.get(person.address) and step % 3 == 0:
            court.verifiers.requestUnstake(weights[person.address], account=person)
            weights[person.address] = 0
        else:
            value = UNIT * (1 + step)
            court.verifiers.registerVerifier([world.engine], b"", account=person, value=value)
            weights[person.address] = weights.get(person.address, 0) + value
        assert court.verifiers.poolStake(world.engine) == sum(weights.values())
    assert sorted(court.verifiers.verifiersOf(world.engine)) == sorted(p for p, w in weights.items() if w)


def test_the_gas_of_a_change_grows_with_the_logarithm_of_the_members(court, world):
    costs = []
    for person in _people(world, 33):
        joined = court.verifiers.registerVerifier([world.engine], b"", account=person, value=UNIT)
        costs.append(joined.gas_used)
    # The 32nd member closes five ranges, the 33rd opens one.
    assert costs[32] < costs[31]
    assert max(costs) < 2 * min(costs)


def test_a_change_with_too_little_gas_is_refused_by_name(court, world, reverts):
    (person,) = _people(world, 1)
    with reverts("GasTooLow"):
        court.verifiers.registerVerifier.call([world.engine], b"", account=person, value=UNIT, gas=250_000)


def test_seeds_that_differ_in_one_bit_draw_independently(court, world):
    people = _people(world, 8)
    court.enrol(people)
    firsts = [_drawn(court, (1 << n).to_bytes(32), 1)[0] for n in range(64)]
    assert len(set(firsts)) == 8
    assert sum(a == b for a, b in pairwise(firsts)) < 24
