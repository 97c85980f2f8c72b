"""Transcripts and weights on the storage of a devnet: found by root, proven, and only there when stored."""

from __future__ import annotations

import pytest

from zerog.client import Account, Devnet
from zerog.client.storage import Storage
from zerog.errors import InferenceError
from zerog.inference.answer import Signatory, sampling
from zerog.inference.onchain import ask_gate
from zerog.inference.provider import GateProvider
from zerog.inference.publication import StorageTranscripts, weights_root
from zerog.inference.transcript import MAX_CANONICAL, decode_canonical
from zerog.inference.verification import check_transcript


@pytest.fixture(scope="module")
def net():
    """A devnet with its storage node."""
    with Devnet(services=("storage", "indexer")) as made:
        yield made


@pytest.fixture
def store(net, tmp_path) -> StorageTranscripts:
    files = Storage(net.url, client=net.client, account=net.accounts[-1], state=tmp_path)
    return StorageTranscripts(files)


def test_what_was_published_is_fetched_by_its_root(store):
    data = b"a transcript" * 1000
    root = store.publish(data)
    assert root == store.root_of(data)
    assert store.fetch(root, len(data)) == data


def test_publishing_again_pays_nothing(net, store):
    store.publish(b"once")
    before = net.client.nonce(net.accounts[-1])
    store.publish(b"once")
    assert net.client.nonce(net.accounts[-1]) == before


def test_an_unknown_root_and_too_much_data_are_nothing(store):
    assert store.fetch(b"\x07" * 32, 100) is None
    assert store.fetch(store.publish(b"x" * 101), 100) is None


def test_weights_come_back_proven_under_their_root(store, tmp_path):
    original = tmp_path / "model.gguf"
    original.write_bytes(bytes(range(256)) * 3000)
    root = weights_root(original)
    assert not store.has(root)
    store.publish_weights(root, original)
    assert store.has(root)
    target = store.weights(root, tmp_path / "models" / "copy.gguf")
    assert target.read_bytes() == original.read_bytes()


def test_a_file_that_is_not_the_model_is_not_published_as_it(store, tmp_path):
    other = tmp_path / "other.gguf"
    other.write_bytes(b"altered")
    with pytest.raises(InferenceError, match="has the root"):
        store.publish_weights(b"\x01" * 32, other)


def test_weights_that_nobody_has_are_an_error(store, tmp_path):
    with pytest.raises(InferenceError, match="cannot be had"):
        store.weights(b"\x02" * 32, tmp_path / "none.gguf")


def test_an_answer_on_chain_has_its_transcript_in_storage(net, store, engine, signatory):
    account = net.accounts[-1]
    own = Signatory(engine, signatory.key, bytes.fromhex(account.address[2:]), signatory.domain)
    provider = GateProvider(net.client, own, account, store=store)
    provider.enrol()
    asker: Account = net.accounts[2]
    ask_gate(net.client, asker, b"Name a colour.", sampling(4), 1000)
    (answer,) = provider.serve()
    stranger = StorageTranscripts(Storage(net.url, client=net.client))
    fetched = stranger.fetch(answer.receipt.dataRoot, MAX_CANONICAL)
    assert fetched is not None
    assert decode_canonical(fetched) == answer.transcript
    signed = provider.book.signed(answer.receipt_hash)
    checks = check_transcript(signed)
    assert "data root" in [check.name for check in checks]
    assert all(check.passed for check in checks)
