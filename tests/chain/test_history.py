"""Random sequences of edits, blocks, snapshots, reverts, rollbacks and restarts against a plain model.

After every step the chain answers what the model says; at the end the state at every block is the
model's, and the root of the head equals one rebuilt from the flat state.
"""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from zerog import Devnet

ADDRESSES = ["0x" + f"{n:02x}" * 20 for n in (0x51, 0x52, 0x53)]
SLOTS = [0, 1, 2**255]


@dataclass
class State:
    """What the chain should hold: balances, slots, nonce of the sender."""

    balances: dict[str, int] = field(default_factory=dict)
    slots: dict[tuple[str, int], int] = field(default_factory=dict)
    sent: int = 0


@dataclass
class Model:
    """The present state and the state at the end of every block (edits after it included)."""

    now: State = field(default_factory=State)
    past: list[State] = field(default_factory=list)

    def block(self) -> None:
        self.past.append(copy.deepcopy(self.now))

    def at(self, number: int) -> State:
        return self.past[number] if number < len(self.past) else self.now


class Chain(RuleBasedStateMachine):
    """The machine that Hypothesis drives."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="zerog-test-")
        self.model = Model()
        self.snapshots: list[tuple[str, Model]] = []
        self.open()

    def open(self) -> None:
        self.net = Devnet(data_dir=Path(self.folder.name) / "d", accounts=1).start()

    @rule(address=st.sampled_from(ADDRESSES), balance=st.integers(0, 2**128))
    def set_balance(self, address: str, balance: int) -> None:
        self.net.set_balance(address, balance)
        self.model.now.balances[address] = balance

    @rule(address=st.sampled_from(ADDRESSES), slot=st.sampled_from(SLOTS), value=st.integers(0, 3))
    def set_storage(self, address: str, slot: int, value: int) -> None:
        # An account that only has storage does not exist (EIP-161): give it code.
        self.net.set_code(address, b"\x00")
        self.net.set_storage(address, slot, value)
        self.model.now.slots[address, slot] = value

    @rule(address=st.sampled_from(ADDRESSES), value=st.integers(1, 1000))
    def send(self, address: str, value: int) -> None:
        self.model.block()
        self.net.client.send(to=address, value=value, gas=100_000)
        self.model.now.balances[address] = self.model.now.balances.get(address, 0) + value
        self.model.now.sent += 1

    @rule(count=st.integers(1, 3))
    def mine(self, count: int) -> None:
        for _ in range(count):
            self.model.block()
        self.net.mine(count)

    @rule()
    def snapshot(self) -> None:
        self.snapshots.append((self.net.snapshot(), copy.deepcopy(self.model)))

    @precondition(lambda self: bool(self.snapshots))
    @rule(data=st.data())
    def revert(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.snapshots) - 1))
        mark, self.model = self.snapshots[index]
        del self.snapshots[index:]
        self.net.revert(mark)

    @precondition(lambda self: bool(self.model.past))
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        height = len(self.model.past)
        target = data.draw(st.integers(0, height - 1))
        self.net.client.request("anvil_rollback", height - target)
        self.model.now = copy.deepcopy(self.model.past[target])
        del self.model.past[target:]
        # Snapshots of what was dropped are gone; those at the target's own height depend on their
        # version, so the model forgets them, too.
        self.snapshots = [s for s in self.snapshots if len(s[1].past) < target]

    @rule()
    def restart(self) -> None:
        head = self.net.node.engine.head()
        self.net.stop()
        self.open()
        assert self.net.node.engine.head() == head

    @rule()
    def load_a_dump_of_itself(self) -> None:
        path = Path(self.folder.name) / "state"
        root = self.net.client.block().number
        self.net.node.dump_state(path)
        self.net.node.load_state(path)
        assert self.net.client.block().number == root

    @invariant()
    def the_chain_is_what_the_model_says(self) -> None:
        assert self.net.client.block_number == len(self.model.past)
        self.compare(self.model.now, "latest")

    def compare(self, state: State, block: str | int) -> None:
        client = self.net.client
        for address in ADDRESSES:
            assert client.balance(address, block) == state.balances.get(address, 0)
        for (address, slot), value in state.slots.items():
            assert client.storage_at(address, slot, block) == value
        assert client.nonce(self.net.accounts[0], block) == state.sent

    def teardown(self) -> None:
        try:
            for number in range(len(self.model.past) + 1):
                self.compare(self.model.at(number), number)
            assert self.net.node.engine.verify_state().equal
        finally:
            self.net.stop()
            self.folder.cleanup()


Chain.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
test_random_histories = Chain.TestCase
