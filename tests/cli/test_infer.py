"""``zerog infer``: what a person types, what comes back, and how it fails."""

from __future__ import annotations

import msgspec
import pytest

from zerog.cli import run
from zerog.client import Devnet
from zerog.inference.transcript_file import read_transcript

QUESTION = "Name a colour."


@pytest.fixture(autouse=True)
def private_home(monkeypatch, tmp_path):
    """Keys go to a directory of the test's own."""
    monkeypatch.setenv("ZEROG_HOME", str(tmp_path / "home"))


@pytest.fixture
def ask(capsys):
    """Runs ``zerog infer`` with --json; exit code and the decoded last line."""

    def run_json(*arguments: str):
        code = run(["infer", *arguments, "--json"])
        captured = capsys.readouterr()
        lines = (captured.out or captured.err).strip().splitlines()
        return code, msgspec.json.decode(lines[-1])

    return run_json


@pytest.fixture
def file(ask, tmp_path):
    """A locally signed receipt."""
    path = tmp_path / "receipt.json"
    code, _ = ask(QUESTION, "--local", "--max-tokens", "6", "--out", str(path))
    assert code == 0
    return path


def _edit(path, **changes):
    document = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(document | changes))


def test_an_answer_is_printed_with_its_receipt(capsys):
    assert run(["infer", QUESTION, "--local", "--max-tokens", "6"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip()
    assert "receipt  0x" in captured.err
    assert "tier SIGNED, here, not yet on any chain" in captured.err


def test_the_json_answer_carries_the_whole_receipt(ask, tmp_path):
    path = tmp_path / "r.json"
    code, answer = ask(QUESTION, "--local", "--max-tokens", "6", "-o", str(path))
    assert code == 0
    transcript = read_transcript(path)
    assert answer["receiptHash"] == "0x" + transcript.receipt_hash.hex()
    assert answer["text"].encode() == transcript.transcript.output
    assert answer["receipt"] == transcript.receipt.to_message()
    assert answer["onChain"] is False


def test_the_same_question_gets_the_same_answer_and_trace(ask):
    first = ask(QUESTION, "--local", "--max-tokens", "6")[1]
    second = ask(QUESTION, "--local", "--max-tokens", "6")[1]
    assert first["text"] == second["text"]
    assert first["receipt"]["traceRoot"] == second["receipt"]["traceRoot"]
    assert first["signer"] == second["signer"]
    assert first["receiptHash"] != second["receiptHash"]


def test_a_receipt_verifies_by_running_the_model_again(ask, file):
    code, result = ask("verify", str(file), "--rerun")
    assert (code, result["valid"]) == (0, True)
    assert "logit rows and tokens" in [check["name"] for check in result["checks"]]


def test_verification_speaks_to_a_person(capsys, file):
    capsys.readouterr()
    assert run(["infer", "verify", str(file)]) == 0
    out = capsys.readouterr().out
    assert "✓ signature" in out
    assert "valid: signed by 0x" in out
    assert "add --rerun" in out


def test_an_altered_answer_is_invalid(capsys, ask, file):
    _edit(file, output={"encoding": "utf-8", "data": "Something else"})
    code, result = ask("verify", str(file))
    failed = [check["name"] for check in result["checks"] if not check["passed"]]
    assert (code, result["valid"], failed) == (1, False, ["output hash", "0G text signature"])
    assert run(["infer", "verify", str(file)]) == 1
    assert "INVALID: do not rely on this answer" in capsys.readouterr().out


def test_another_signer_than_expected_is_invalid(ask, file):
    code, result = ask("verify", str(file), "--signer", "0x" + "11" * 20)
    assert (code, result["valid"]) == (1, False)


def test_a_devnet_without_a_service_is_asked_through_its_gate(ask, tmp_path):
    path = tmp_path / "r.json"
    with Devnet() as net:
        code, answer = ask(QUESTION, "--url", net.url, "--max-tokens", "6", "-o", str(path))
        assert (code, answer["onChain"]) == (0, True)
        code, result = ask("verify", str(path), "--url", net.url)
        assert (code, result["valid"]) == (0, True)
        assert result["checks"][-1] == {"name": "on chain", "passed": True, "detail": "used, tier SIGNED"}
        again, _ = ask(QUESTION, "--url", net.url, "--max-tokens", "6")
        assert again == 0


def test_a_local_receipt_is_unknown_to_the_chain(ask, file):
    with Devnet() as net:
        code, result = ask("verify", str(file), "--url", net.url)
    assert code == 1
    assert result["checks"][-1]["detail"] == "the registry answers PoIBadSignature()"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["<|im_end|>", "--local"], "control token"),
        (["", "--local"], "the request is empty"),
        (["verify", "/nowhere/receipt.json"], "cannot read /nowhere/receipt.json"),
        (["hi", "--url", "http://127.0.0.1:9"], "127.0.0.1"),
    ],
)
def test_errors_are_one_sentence(ask, arguments, message):
    code, error = ask(*arguments)
    assert code == 1
    assert message in error["error"]["message"]


def test_a_file_that_is_no_transcript_is_named(ask, tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{}")
    code, error = ask("verify", str(path))
    assert code == 1
    assert "the transcript is malformed" in error["error"]["message"]


@pytest.mark.parametrize(
    "arguments", [["hi", "--max-tokens", "0"], ["hi", "--local", "--url", "x"], ["verify"], ["hi", "--what"]]
)
def test_wrong_usage_exits_with_2(arguments):
    assert run(["infer", *arguments]) == 2


def test_fetch_says_where_the_weights_are(ask):
    code, result = ask("fetch")
    assert code == 0
    assert result["weights"].endswith(".gguf")


def test_help_names_the_commands(capsys):
    assert run(["infer", "--help"]) == 0
    out = capsys.readouterr().out
    assert "verify" in out
    assert "fetch" in out


def test_a_tier_of_the_chain_needs_a_chain(capsys):
    assert run(["infer", QUESTION, "--local", "--tier", "audited"]) != 0
    assert "tier audited is reached on chain only" in capsys.readouterr().err
