"""What a verifier is put together from: weights that come from storage when the machine has none."""

from __future__ import annotations

import msgspec
import pytest

from zerog.client import Account, Devnet
from zerog.errors import InferenceError, ZerogError
from zerog.inference.answer import Domain, Inquiry, Signatory, sampling
from zerog.inference.audit.execution import Examiner
from zerog.inference.audit.setup import engine_source, ensure_weights, read_key
from zerog.inference.engine_host import embedded
from zerog.inference.models import DEFAULT_MODEL
from zerog.inference.publication import StorageTranscripts
from zerog.inference.weights import SMOLLM2, fetch, find

ROOT = bytes.fromhex(DEFAULT_MODEL.weights_root[2:])


@pytest.fixture(scope="module")
def store():
    with Devnet(services=["storage"]) as net:
        yield StorageTranscripts(net.client.storage)


@pytest.fixture
def receipt(engine, store):
    signatory = Signatory(engine, b"\x01" * 32, bytes(20), Domain(31337, b"\x02" * 20))
    answer = signatory.answer(Inquiry(bytes(32), bytes(20), b"Name a colour.", sampling(4)), 1, store=store)
    store.publish(answer.published)
    return answer.receipt


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """A machine without weights; the path of those of the real one."""
    present = fetch(SMOLLM2)
    monkeypatch.setenv("ZEROG_CACHE", str(tmp_path))
    monkeypatch.setattr("zerog.inference.weights._installed", lambda weights: None)
    assert find(SMOLLM2) is None
    return present


def test_weights_that_nobody_stored_leave_the_receipt_for_later(store, receipt, bare_machine):
    with pytest.raises(InferenceError, match="cannot be had"):
        engine_source(store, embedded)(receipt)


def test_a_verifier_without_weights_fetches_them_by_their_root_and_executes(store, receipt, bare_machine):
    store.publish_weights(ROOT, bare_machine)
    engines = []

    def load():
        engines.append(embedded())
        return engines[-1]

    try:
        finding = Examiner(store, engine_source(store, load)).examine(b"\x01" * 32, receipt, 0)
    finally:
        for engine in engines:
            engine.close()
    assert finding.good
    assert ensure_weights(store).read_bytes() == bare_machine.read_bytes()


@pytest.mark.parametrize("member", ["modelId", "engineId"])
def test_a_receipt_of_another_model_or_engine_loads_nothing(store, receipt, member):
    def load():
        raise AssertionError("loaded for a foreign receipt")

    foreign = msgspec.structs.replace(receipt, **{member: b"\x07" * 32})
    with pytest.raises(InferenceError, match="has not the model and engine"):
        engine_source(store, load)(foreign)


def test_a_key_is_read_from_a_file_and_never_shown(tmp_path):
    path = tmp_path / "key"
    account = Account.random()
    path.write_text(account.key.hex() + "\n")
    assert read_key(path).address == account.address
    path.write_text("no key, but as secret as one")
    with pytest.raises(ZerogError) as refused:
        read_key(path)
    assert "secret" not in str(refused.value)
    path.write_bytes(b"\xff" * 2000)
    with pytest.raises(InferenceError, match="too large"):
        read_key(path)
    with pytest.raises(InferenceError, match="cannot be read"):
        read_key(tmp_path / "none")
