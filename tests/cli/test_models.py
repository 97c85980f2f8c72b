"""``zerog models``: what a person types, from a file to a receipt of another model."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.inference.gguf_files import gguf

from zerog.cli import run
from zerog.client import Devnet
from zerog.inference import weights_check
from zerog.inference.audit.cheats import requantised
from zerog.inference.transcript_file import read_transcript
from zerog.inference.weights import SMOLLM2, fetch


@pytest.fixture(autouse=True)
def private_home(monkeypatch, tmp_path):
    """Keys, models and notes go to a directory of the test's own."""
    monkeypatch.setenv("ZEROG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZEROG_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(weights_check, "cache_folder", lambda: tmp_path / "cache" / "weights")


@pytest.fixture
def zerog(capsys):
    """Runs a command with --json; exit code and the decoded last line."""

    def run_json(*arguments: str):
        code = run([*arguments, "--json"])
        captured = capsys.readouterr()
        lines = (captured.out or captured.err).strip().splitlines()
        try:
            return code, msgspec.json.decode(lines[-1])
        except msgspec.DecodeError:
            raise AssertionError(lines) from None

    return run_json


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf(weights=100_000))
    return path


def test_an_untested_model_is_listed_as_not_signable(zerog, tiny, capsys):
    code, added = zerog("models", "add", str(tiny), "--no-test")
    assert code == 0
    assert (added["name"], added["quantisation"], added["signable"]) == ("tiny", "Q8_0", False)
    code, listed = zerog("models", "list")
    assert [(m["name"], m["signable"]) for m in listed] == [("SmolLM2-135M-Instruct", True), ("tiny", False)]
    assert run(["models", "list"]) == 0
    assert "NOT SIGNABLE" in capsys.readouterr().out


def test_an_untested_model_is_not_registered(zerog, tiny):
    with Devnet() as net:
        code, answer = zerog("models", "add", str(tiny), "--no-test", "--register", "--url", net.url)
    assert code == 1
    assert answer["error"]["message"] == "tiny is not signable (not self-tested): it was not registered"


def test_a_file_that_is_no_gguf_is_one_sentence(tmp_path, capsys):
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GIF89a")
    assert run(["models", "add", str(path)]) == 1
    error = capsys.readouterr().err
    assert "is no usable GGUF file: it begins with b'GIF8' instead of b'GGUF'" in error
    assert len(error.strip().splitlines()) == 1


def test_a_file_that_llama_cpp_cannot_run_is_kept_as_not_signable(zerog, tiny):
    code, added = zerog("models", "add", str(tiny))
    assert code == 0
    assert not added["signable"]
    assert "llama.cpp cannot load" in added["selfTest"]
    assert zerog("models", "test", "tiny")[0] == 1


def test_verify_finds_an_altered_file(zerog, tiny):
    _, added = zerog("models", "add", str(tiny), "--no-test")
    assert zerog("models", "verify", "tiny")[0] == 0
    with open(added["file"], "r+b") as stored:  # noqa: PTH123
        stored.seek(200_000)
        stored.write(b"\x99")
    code, verdicts = zerog("models", "verify", "tiny")
    assert code == 1
    assert not verdicts[0]["intact"]


def test_show_takes_an_id_and_remove_forgets(zerog, tiny):
    _, added = zerog("models", "add", str(tiny), "--no-test")
    assert zerog("models", "show", added["modelId"])[1]["name"] == "tiny"
    assert zerog("models", "remove", "tiny") == (0, {"removed": "tiny"})
    code, answer = zerog("models", "show", "tiny")
    assert code == 1
    assert answer["error"]["message"] == "there is no model 'tiny' on this machine"


def test_an_added_model_answers_at_gate_and_endpoint_and_is_verified_by_rerun(zerog, tmp_path):
    file = requantised(fetch(SMOLLM2), "q4_0")
    code, added = zerog("models", "add", str(file), "--name", "coarse", "--link")
    assert (code, added["signable"], added["quantisation"]) == (0, True, "Q4_0")
    options = {"inference.models": ["coarse"]}
    with Devnet(services=["storage", "inference", "endpoint"], options=options) as net:
        url = ("--url", net.url)
        code, answer = zerog("infer", "Name a colour.", "--model", "coarse", *url)
        assert code == 1
        assert answer["error"]["message"] == "the model coarse is not registered on this chain"
        assert zerog("models", "register", "coarse", *url)[1]["transaction"].startswith("0x")
        assert zerog("models", "register", "coarse", *url)[1]["transaction"] is None
        receipt = tmp_path / "receipt.json"
        code, answer = zerog(
            "infer", "Name a colour.", "--model", "coarse", "--max-tokens", "8", "-o", str(receipt), *url
        )
        assert code == 0
        assert answer["receipt"]["modelId"] == added["modelId"]
        code, checked = zerog("infer", "verify", str(receipt), "--rerun", *url)
        assert (code, checked["valid"]) == (0, True)
        assert "logit rows and tokens" in [check["name"] for check in checked["checks"]]
        _check_endpoint(net.url, added["modelId"])
    assert read_transcript(receipt).transcript.model.quantisation == "Q4_0"


def _check_endpoint(url: str, model_id: str) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
    connection.request("GET", "/v1/models")
    listed = msgspec.json.decode(connection.getresponse().read())
    assert [model["id"] for model in listed["data"]][:2] == ["SmolLM2-135M-Instruct", "coarse"]
    for name in ("coarse", model_id):
        body = {"model": name, "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}
        connection.request("POST", "/v1/chat/completions", msgspec.json.encode(body))
        answer = msgspec.json.decode(connection.getresponse().read())
        assert answer["model"] == "coarse"
        assert answer["zerog"]["receipt"]["modelId"] == model_id
    connection.close()
