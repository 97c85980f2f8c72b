"""Storage alone, from another chain: an unmodified anvil, our contracts, our node, client and miner, a foreign SDK."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from zerog.client import Client
from zerog.client.storage import Storage
from zerog.contracts import artifact
from zerog.errors import TransportError

from .conftest import ZEROG, StorageNode
from .test_storage_sdks import FOLDER, TS, Job, free_port, run

pytestmark = pytest.mark.conformance

LIMIT = 60.0
"""Seconds for each wait."""
ACCOUNT_KEY = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
"""The second account of every anvil."""
KIB, MIB = 1 << 10, 1 << 20


def until(condition: Callable[[], Any], what: str) -> Any:
    """What the condition gives once it holds."""
    deadline = time.monotonic() + LIMIT
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come about within {LIMIT:g} s"
        time.sleep(0.1)
    return found


@dataclass
class Chain:
    """A running anvil with the deployed set."""

    url: str
    flow: str
    market: str
    reward: str
    mine: str

    @property
    def client(self) -> Client:
        return Client(self.url)


@pytest.fixture(scope="module")
def anvil(clients: Path) -> Iterator[str]:
    """The URL of a running anvil."""
    binary = clients / "node_modules" / ".bin" / "anvil"
    if not binary.exists():
        pytest.skip("anvil is not installed: run `make setup-test`")
    # A free port and no pipe: anvil stops for good when nobody reads what it prints.
    port = free_port()
    process = subprocess.Popen([binary, "--port", str(port), "--silent"], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(url), "an anvil that answers")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def answers(url: str) -> bool:
    """Whether a chain is there."""
    with suppress(TransportError):
        return bool(Client(url, timeout=5).version)
    return False


@pytest.fixture(scope="module")
def chain(anvil: str) -> Chain:
    command = [ZEROG, "storage", "deploy", "--rpc", anvil, "--easy", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return Chain(anvil, **json.loads(done.stdout))


class Beside(StorageNode):
    """A storage node that keeps its data in ``folder``."""

    def __init__(self, chain: Chain, folder: Path, *flags: str) -> None:
        command: list[str | Path] = [ZEROG, "storage", "node", "--rpc", chain.url, "--flow", chain.flow]
        self._start([*command, "--data-dir", folder, "--port", "0", "--json", *flags])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "node"


@pytest.fixture
def node(chain: Chain, folder: Path) -> Iterator[Beside]:
    running = Beside(chain, folder)
    yield running
    assert running.stop() == 0


def storage(chain: Chain, node: StorageNode, state: Path) -> closing[Storage]:
    """Our client, paid for by the chain's third account."""
    client = Client(chain.url)
    client.account = client.node_accounts[2]
    return closing(Storage(node.url, client=client, nodes=[node.url], state=state))


@pytest.mark.parametrize("size", [1, 256, 256 * KIB + 1, MIB + 3, 8 * MIB])
def test_file_comes_back_with_its_proofs(chain: Chain, node: Beside, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    with storage(chain, node, tmp_path) as network:
        stored = network.put(data)
        assert stored.cost > 0
        assert network.flow.lower() == chain.flow.lower()
        assert network.verify(stored.roots) == size
        assert network.read(stored.root) == data
        assert network.put(data).cost == 0


def test_several_files_go_in_one_transaction(chain: Chain, node: Beside, tmp_path: Path) -> None:
    contents = [os.urandom(size) for size in (1, 300, 256 * KIB, MIB)]
    with storage(chain, node, tmp_path) as network:
        stored = network.put_many(contents)
        assert len({transaction for one in stored for transaction in one.transactions}) == 1
        assert [network.read(one.root) for one in stored] == contents


def test_restarted_node_still_has_everything(chain: Chain, folder: Path, tmp_path: Path) -> None:
    data = os.urandom(MIB + 3)
    first = Beside(chain, folder)
    with storage(chain, first, tmp_path) as network:
        root = network.put(data).root
    assert first.stop() == 0
    second = Beside(chain, folder)
    with storage(chain, second, tmp_path) as network:
        assert network.read(root) == data
        assert network.verify([root]) == len(data)
    assert second.stop() == 0


def test_reverted_chain_takes_the_file_away_and_another_one_gets_its_place(
    chain: Chain, node: Beside, tmp_path: Path
) -> None:
    kept, reverted, other = (os.urandom(300_000) for _ in range(3))
    with storage(chain, node, tmp_path / "first") as network:
        root = network.put(kept).root
        snapshot = chain.client.request("evm_snapshot")
        gone = network.put(reverted)
    assert chain.client.request("evm_revert", snapshot) is True

    def file_info(root: str) -> Any:
        return Client(node.url).request("zgs_getFileInfo", root, True)

    until(lambda: file_info(gone.root) is None, "the end of the reverted file")
    with storage(chain, node, tmp_path / "second") as network:
        stored = network.put(other)
        assert stored.seqs == gone.seqs
        assert network.read(stored.root) == other
        assert network.read(root) == kept
    flow = chain.client.contract(chain.flow, artifact("RefundingFlow").abi)
    status = Client(node.url).request("zgs_getStatus")
    assert status["nextTxSeq"] == flow.numSubmissions()


def test_official_sdk_uploads_and_downloads(chain: Chain, node: Beside, tmp_path: Path) -> None:
    if not (FOLDER / "node_modules").is_dir():
        pytest.skip(f"npm packages are not installed in {FOLDER}; run `make setup-test`")
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(MIB + 3))
    upload = Job("upload", {"file": str(source), "key": ACCOUNT_KEY, "chain": chain.url})
    [uploaded] = run(TS, node.url, [upload])
    assert uploaded.ok, uploaded.error
    download = Job("download", {"root": uploaded.result["rootHash"], "file": str(target)})
    [outcome] = run(TS, node.url, [download])
    assert outcome.ok, outcome.error
    assert target.read_bytes() == source.read_bytes()
    with storage(chain, node, tmp_path) as network:
        assert network.read(uploaded.result["rootHash"]) == source.read_bytes()


def test_miner_with_a_key_of_its_own_earns_for_its_beneficiary(
    chain: Chain, folder: Path, tmp_path: Path
) -> None:
    """The chain lacks the PoRA precompile: the answer is verified by the contract itself."""
    key, beneficiary = tmp_path / "key", "0x" + "be" * 20
    key.write_text(ACCOUNT_KEY)
    flags = ["--mine", chain.mine, "--key-file", str(key), "--beneficiary", beneficiary, "--make-blocks"]
    miner = Beside(chain, folder, *flags)
    client = Client(miner.url)
    try:
        with storage(chain, miner, tmp_path) as network:
            network.put(os.urandom(2 * MIB))
        until(lambda: client.request("miner_status").get("answers"), "an accepted answer")
        status = client.request("miner_status")
        receipt = chain.client.receipt(status["newest"][0]["transactionHash"])
        assert receipt is not None and receipt.success
        assert receipt.raw["to"].lower() == chain.mine.lower()
        assert int(status["owed"]) == int(status["earned"]) > 0
        assert status["beneficiary"] == beneficiary
        assert chain.client.receipt(client.request("miner_withdraw")) is not None
        assert chain.client.balance(beneficiary) == int(status["earned"])
    finally:
        assert miner.stop() == 0
