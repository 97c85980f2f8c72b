"""Stakes of providers and verifiers under random histories: nothing appears, nothing vanishes, the lot sees what counts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.contracts.conftest import World

from zerog.chain.keys import keccak256
from zerog.client import Account
from zerog.contracts import INFERENCE_AUDIT, VERIFIER_REGISTRY, artifact
from zerog.contracts.genesis import ACTIVATION_DELAY, MIN_STAKE, UNSTAKE_DELAY, VERIFIER_MIN_STAKE
from zerog.errors import ContractReverted

BURNT = "0x000000000000000000000000000000000000dEaD"
SMALL = settings(
    max_examples=10, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
LONG = settings(SMALL, max_examples=300, stateful_step_count=60)
WHO = st.integers(0, 3)
PARTS = st.integers(0, 1_000_000)


class Stakes(RuleBasedStateMachine):
    """Four accounts that stake, leave, and are slashed by the audit contract."""

    least: int

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(net.anchor())
        self.net, self.client = net, net.client
        self.accounts: list[Account] = net.accounts[4:8]
        admin, provider, user, stranger = net.accounts[:4]
        self.world = World(net, admin, provider, Account.random(), user, stranger)
        self.client.request("anvil_impersonateAccount", INFERENCE_AUDIT)
        self.client.request("anvil_setBalance", INFERENCE_AUDIT, hex(10**21))
        self.contract = self.subject()
        self.deposited = self.paid = self.kept = 0
        self.burnt_before = self.client.balance(BURNT)

    def subject(self) -> Any:
        raise NotImplementedError

    def enrol(self, account: Account, value: int) -> None:
        raise NotImplementedError

    def teardown(self) -> None:
        self.stack.close()

    def at_risk(self, account: Account) -> int:
        return int(self.contract.atRiskOf(account))

    # What accounts do. A refusal changes nothing, which the invariants then see.

    @rule(who=WHO, part=PARTS)
    def joins(self, who: int, part: int) -> None:
        self._deposit(lambda value: self.enrol(self.accounts[who], value), 3 * self.least * part // 1_000_000)

    @rule(who=WHO, part=PARTS)
    def adds(self, who: int, part: int) -> None:
        add = self.contract.addStake
        self._deposit(
            lambda value: add(account=self.accounts[who], value=value), self.least * part // 1_000_000
        )

    def _deposit(self, send: Any, value: int) -> None:
        try:
            send(value)
        except ContractReverted:
            return
        self.deposited += value

    @rule(who=WHO, part=PARTS | st.just(1_000_000))
    def asks_back(self, who: int, part: int) -> None:
        account = self.accounts[who]
        before, amount = self.at_risk(account), int(self.contract.stakeOf(account)) * part // 1_000_000
        try:
            self.contract.requestUnstake(amount, account=account)
        except ContractReverted:
            return
        assert self.at_risk(account) == before, "stake on its way out can still be taken"

    @rule(who=WHO, waits=st.booleans())
    def withdraws(self, who: int, waits: bool) -> None:
        account = self.accounts[who]
        if waits:
            self.net.increase_time(UNSTAKE_DELAY + 1)
            self.net.mine()
        before = self.at_risk(account)
        try:
            self.contract.withdrawStake(account=account)
        except ContractReverted:
            return
        self.paid += before - self.at_risk(account)

    @rule(who=WHO, amount=st.integers(0, 4 * MIN_STAKE), keep=PARTS)
    def is_slashed(self, who: int, amount: int, keep: int) -> None:
        account = self.accounts[who]
        before = self.at_risk(account)
        try:
            self.contract.seize(account, amount, keep, bytes(32), account=INFERENCE_AUDIT)
        except ContractReverted:
            return
        taken = before - self.at_risk(account)
        assert taken == min(amount, before)
        self.kept += taken * keep // 1_000_000

    @invariant()
    def money_is_conserved(self) -> None:
        held = sum(map(self.at_risk, self.accounts))
        burnt = self.client.balance(BURNT) - self.burnt_before
        assert self.client.balance(self.contract.address) == held
        assert self.deposited == held + self.paid + self.kept + burnt


class Providers(Stakes):
    least = MIN_STAKE

    def subject(self) -> Any:
        return self.world.registry

    def enrol(self, account: Account, value: int) -> None:
        self.world.register(account, account, value)

    @invariant()
    def only_enough_stake_is_eligible(self) -> None:
        for account in self.accounts:
            provider = self.contract.providerOf(account)[0]
            assert self.contract.isEligible(account) == (provider.active and provider.stake >= MIN_STAKE)


class Verifiers(Stakes):
    least = VERIFIER_MIN_STAKE

    def subject(self) -> Any:
        abi = artifact("VerifierRegistry").abi
        return self.client.contract(VERIFIER_REGISTRY, abi, account=self.net.accounts[0])

    def enrol(self, account: Account, value: int) -> None:
        self.contract.registerVerifier([self.world.engine], b"", account=account, value=value)

    def counting(self) -> dict[str, int]:
        """Stake that counts, by account."""
        stakes = {account.address: int(self.contract.stakeOf(account)) for account in self.accounts}
        return {address: stake for address, stake in stakes.items() if stake >= VERIFIER_MIN_STAKE}

    @invariant()
    def the_tree_holds_the_stake_that_counts(self) -> None:
        pool = self.world.engine
        assert self.contract.poolStake(pool) == sum(self.counting().values())
        assert set(self.contract.verifiersOf(pool)) == set(self.counting())

    @rule(seed=st.binary(min_size=32, max_size=32), count=st.integers(0, 6), excluded=WHO)
    def a_draw_takes_each_once_and_never_the_excluded(self, seed: bytes, count: int, excluded: int) -> None:
        self.net.mine(ACTIVATION_DELAY)
        outside = self.accounts[excluded].address
        beacon = self.client.block_number
        members, stakes = self.contract.draw(self.world.engine, keccak256(seed), count, outside, beacon)
        there = {address: stake for address, stake in self.counting().items() if address != outside}
        assert len(set(members)) == len(members) == min(count, len(there))
        assert all(there[member] == stake for member, stake in zip(members, stakes, strict=True))


@pytest.mark.parametrize("machine", [Providers, Verifiers])
def test_no_history_makes_or_loses_stake(zerog_devnet, machine: type[Stakes]) -> None:
    run_state_machine_as_test(lambda: machine(zerog_devnet), settings=SMALL)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("machine", [Providers, Verifiers])
def test_no_long_history_makes_or_loses_stake(zerog_devnet, machine: type[Stakes]) -> None:
    run_state_machine_as_test(lambda: machine(zerog_devnet), settings=LONG)
