"""Gas of the calls that people pay for, against the committed `gas.json` and the limits of the specification.

A change of more than two per cent is deliberate: write the new figures into the file with it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.contracts.storage.conftest import plain, prng_files
from tests.contracts.storage.test_mine import Mining, mining
from tests.contracts.storage.test_storage_deployment import DevnetSender

from zerog.chain.keys import keccak256
from zerog.contracts import artifact
from zerog.contracts.storage_deployment import deploy_storage

__all__ = ["mining"]

SNAPSHOT = Path(__file__).parent / "gas.json"
TOLERANCE = 0.02


@pytest.fixture(scope="session")
def snapshot() -> dict[str, int]:
    found: dict[str, int] = msgspec.json.decode(SNAPSHOT.read_bytes())
    return found


def _close(found: int, wanted: int, tolerance: float = TOLERANCE) -> None:
    assert abs(found - wanted) <= tolerance * wanted, f"{found} gas, the snapshot says {wanted}"


def test_submissions_cost_what_the_snapshot_says(storage, snapshot):
    found = [storage.submit(file).gas_used for file in prng_files()]
    _close(max(found), snapshot["submit: dearest of the vectors"])
    _close(sum(found) // len(found), snapshot["submit: mean of the vectors"])


def test_submissions_cost_no_more_than_upstream_with_its_pricing_chunks(storage):
    made = deploy_storage(DevnetSender(storage), keccak256=keccak256)
    storage.flow = storage.client.contract(made.flow, artifact("RefundingFlow").abi, account=storage.user)
    assert max(storage.submit(file).gas_used for file in prng_files()) <= 225_000


def test_a_batch_is_cheaper_than_single_submissions(storage, snapshot):
    found = storage.batch([plain(16, n) for n in range(20)]).gas_used // 20
    _close(found, snapshot["batchSubmit: each of twenty files"])


def test_an_answer_costs_what_the_snapshot_says(mining: Mining, snapshot):
    harness = mining.storage.deploy("PoraVerifierHarness")
    answer = mining.answer()
    work = mining.work()
    by_code = harness.inSolidity(answer, work.subtaskDigest, True).gasUsed
    native = harness.byPrecompile(answer, work.subtaskDigest, True).answered
    found = mining.submit(answer).gas_used
    assert found < 390_000
    _close(by_code, snapshot["verification in Solidity"])
    # Which load the first nonce recalls decides how many words of its reward are written for the first time.
    _close(found, snapshot["PoRA submit, precompile" if native else "PoRA submit, Solidity"], 0.12)
