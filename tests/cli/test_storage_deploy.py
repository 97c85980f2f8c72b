"""`zerog storage deploy` puts a set on a chain with which node and client work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zerog.cli import run
from zerog.client import Client, Devnet
from zerog.client.storage import Storage
from zerog.contracts import artifact


@pytest.fixture
def chain():
    with Devnet() as net:
        yield net


def test_a_deployed_set_stores_files(chain, capsys, tmp_path: Path):
    assert run(["storage", "deploy", "--rpc", chain.url, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert set(made) == {"flow", "market", "reward", "mine"}
    command = [sys.executable, "-m", "zerog", "storage", "node", "--ephemeral", "--port", "0", "--json"]
    command += ["--rpc", chain.url, "--flow", made["flow"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as node:
        try:
            assert node.stdout is not None
            url = json.loads(node.stdout.readline())["url"]
            client = Client(chain.url, account=chain.accounts[0])
            storage = Storage(url, client=client, nodes=[url], state=tmp_path)
            stored = storage.put(b"anywhere" * 100)
            assert storage.read(stored.root) == b"anywhere" * 100
            assert storage.flow.lower() == made["flow"].lower()
            assert stored.cost > 0
            storage.close()
        finally:
            node.terminate()


def test_an_epoch_has_the_length_that_was_asked_for(chain, capsys):
    assert run(["storage", "deploy", "--rpc", chain.url, "--blocks-per-epoch", "7", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    flow = chain.client.contract(made["flow"], artifact("RefundingFlow").abi)
    assert flow.blocksPerEpoch() == 7


def test_a_chain_that_does_not_answer_is_one_sentence(capsys):
    assert run(["storage", "deploy", "--rpc", "http://127.0.0.1:9"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("zerog: ")
    assert error.count("\n") == 1
