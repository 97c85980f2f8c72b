"""Proof-of-Inference on another chain: an unmodified anvil, our command, and every scene from request to slashing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.contracts.portable import SCENES, Chain, PortableWorld, world_at

from zerog.client import Account, Client
from zerog.contracts.inference_deployment import InferenceAddresses

from .conftest import ZEROG
from .test_storage_on_anvil import ACCOUNT_KEY, answers, until
from .test_storage_sdks import free_port

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def anvil(clients: Path) -> Iterator[str]:
    """The URL of a running anvil."""
    binary = clients / "node_modules" / ".bin" / "anvil"
    if not binary.exists():
        pytest.skip("anvil is not installed: run `make setup-test`")
    port = free_port()
    process = subprocess.Popen([binary, "--port", str(port), "--silent"], stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(url), "an anvil that answers")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def addresses(anvil: str, tmp_path_factory: pytest.TempPathFactory) -> InferenceAddresses:
    """The set, deployed by the command with a key of its own."""
    key = tmp_path_factory.mktemp("key") / "key"
    key.write_text(ACCOUNT_KEY)
    command = [ZEROG, "infer", "deploy", "--url", anvil, "--key-file", str(key), "--easy", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return InferenceAddresses(**json.loads(done.stdout))


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_anvil_plays_every_scene(
    anvil: str, addresses: InferenceAddresses, scene: Callable[[PortableWorld], None]
) -> None:
    client = Client(anvil)
    snapshot = client.request("evm_snapshot")
    scene(world_at(Chain(client, client.chain_id), Account(ACCOUNT_KEY), addresses))
    assert client.request("evm_revert", snapshot) is True
