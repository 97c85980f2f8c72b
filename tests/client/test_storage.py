"""`Client.storage` against the storage node of a devnet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerog import Client, Devnet
from zerog.client.storage import Storage


@pytest.fixture(scope="module")
def net() -> Iterator[Devnet]:
    with Devnet(services=["storage"]) as running:
        yield running


@pytest.fixture
def storage(net: Devnet, tmp_path: Path) -> Storage:
    return Storage(net.url, client=Client(net.url, account=net.accounts[1]), state=tmp_path / "state")


@pytest.mark.parametrize("size", [1, 255, 256, 257, 4096, 262_143, 262_145, 1_048_579, 8 << 20])
def test_a_file_comes_back_with_proofs(storage: Storage, tmp_path: Path, size: int) -> None:
    data = hashlib.shake_128(size.to_bytes(8, "big")).digest(size)
    stored = storage.put(data)
    storage.get(stored.root, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data and storage.info(stored.root).finalized
    assert storage.put(data).cost == 0


def test_the_client_of_a_devnet_knows_its_storage(
    net: Devnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROG_HOME", str(tmp_path))
    assert net.client.storage.read(net.client.storage.put(b"hello").root) == b"hello"


def test_the_same_root_is_submitted_again_on_demand(storage: Storage) -> None:
    first, second = (storage.put(b"value", tags=b"t", again=True) for _ in range(2))
    assert second.seqs[0] > first.seqs[0] and storage.read(first.root) == b"value"
