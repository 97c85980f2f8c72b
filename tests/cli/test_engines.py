"""``zerog engines``, ``zerog infer embed`` and ``zerog infer --upstream`` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.inference.model_server import model_server

from zerog.cli import cli
from zerog.client import Devnet
from zerog.inference.receipt import engine_id
from zerog.inference.weights import MINILM, MINILM_TOKENIZER, SMOLLM2, fetch

ENGINE = "openai-compatible/server=vllm/prompt=tokens/sampler=greedy/logprobs=reported"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROG_HOME", str(tmp_path / "home"))


def zerog(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def told(*arguments: str) -> Any:
    done = zerog(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_curator_puts_an_engine_on_the_registry(tmp_path):
    with Devnet() as net:
        assert told("engines", "show", ENGINE, "--url", net.url)["class"] == "unknown"
        first = told("engines", "register", ENGINE, "--class", "tolerant", "--url", net.url)
        assert first["engineId"] == "0x" + engine_id(ENGINE).hex() and first["transaction"]
        assert told("engines", "show", ENGINE, "--url", net.url)["class"] == "tolerant"
        key = tmp_path / "curator.key"
        key.write_text(net.accounts[0].key.hex())
        again = told(
            "engines", "register", ENGINE, "--class", "tolerant", "--key-file", str(key), "--url", net.url
        )
        assert again["transaction"] is None


def test_vectors_have_a_receipt_that_a_rerun_confirms(tmp_path):
    fetch(MINILM)
    fetch(MINILM_TOKENIZER)
    out = tmp_path / "vectors.json"
    found = told("infer", "embed", "A cat", "A dog", "-o", str(out))
    assert [len(vector) for vector in found["vectors"]] == [384, 384]
    checked = told("infer", "verify", str(out), "--rerun")
    assert checked["valid"] and any(check["name"] == "vectors" for check in checked["checks"])


def test_an_answer_of_somebody_elses_server_is_signed_and_compared(tmp_path):
    key, out = tmp_path / "upstream.key", tmp_path / "receipt.json"
    key.write_text("key-of-the-test")
    with model_server(fetch(SMOLLM2), "key-of-the-test") as url:
        arguments = ("infer", "Name a colour.", "--upstream", url, "--model", "default", "--max-tokens", "12")
        assert told(*arguments, "--upstream-key-file", str(key), "-o", str(out))["text"]
    checked = told("infer", "verify", str(out), "--rerun")
    assert checked["valid"]
    assert "distance of the log-probabilities" in [check["name"] for check in checked["checks"]]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--upstream", "http://127.0.0.1:1"), "needs --model"),
        (("--upstream", "http://127.0.0.1:1", "--model", "m", "--url", "http://x"), "signs here"),
    ],
)
def test_half_an_upstream_is_refused(arguments, reason):
    done = zerog("infer", "Hi", *arguments)
    assert done.exit_code == 2 and reason in done.output
