"""``zerog infer`` on a devnet with verifiers: asked, audited, shown, verified by hash, with everything real."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from zerog.cli import run
from zerog.client import Devnet
from zerog.inference.transcript_file import read_transcript, write_transcript

QUESTION = "Name a colour."
ACCOUNTS = slice(4, 7)


@pytest.fixture(scope="module", autouse=True)
def private_home(tmp_path_factory):
    """Keys go to a directory of the test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEROG_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="module")
def net(private_home):
    with Devnet(services=["inference", "storage", "verifier"]) as made:
        yield made


@pytest.fixture
def zerog(net, capsys):
    """Runs ``zerog infer`` with --json; exit code and the decoded last line."""

    def run_json(*arguments: str):
        code = run(["infer", *arguments, "--url", net.url, "--json"])
        captured = capsys.readouterr()
        return code, msgspec.json.decode((captured.out or captured.err).strip().splitlines()[-1])

    return run_json


@pytest.fixture(scope="module")
def audited(net, tmp_path_factory):
    """An audited answer as a person gets it: exit code, the receipt's file."""
    path = tmp_path_factory.mktemp("answer") / "receipt.json"
    code = run(
        ["infer", QUESTION, "--tier", "audited", "--max-tokens", "6", "--url", net.url, "-o", str(path)]
    )
    assert code == 0
    return path


def test_a_person_reads_who_audited_what_it_cost_and_where_it_stands(net, capsys):
    assert run(["infer", QUESTION, "--tier", "audited", "--max-tokens", "6", "--url", net.url]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip()
    for text in ("waiting for tier AUDITED", "tier AUDITED", "audit    good", "executed it again in",
                 "earned", "fee      ", "gas      requester", "request ", "fulfil ", "draw ", "commit ",
                 "reveal ", "finalize "):  # fmt: skip
        assert text in captured.err, text


def test_the_json_has_votes_money_and_transactions(net, zerog):
    code, answer = zerog(QUESTION, "--tier", "audited", "--max-tokens", "6")
    assert (code, answer["tier"]) == (0, "AUDITED")
    assert {vote["verifier"] for vote in answer["verifiers"]} == {a.address for a in net.accounts[ACCOUNTS]}
    for vote in answer["verifiers"]:
        assert (vote["verdict"], vote["badLeaf"], vote["round"]) == ("good", None, 0)
        assert vote["seconds"] > 0
        assert int(vote["reward"]) > 0
    cost = {name: int(value) for name, value in answer["cost"].items() if name != "gas"}
    assert cost["fee"] == cost["provider"] + cost["audit"]
    assert cost["rewards"] == sum(int(vote["reward"]) for vote in answer["verifiers"]) > 0
    steps = [step["what"] for step in answer["transactions"]]
    assert steps == ["request", "fulfil", "draw", *["commit"] * 3, *["reveal"] * 3, "finalize"]
    for step in answer["transactions"]:
        receipt = net.client.receipt(step["transaction"])
        assert (receipt.success, receipt.gas_used, receipt.block_number) == (True, step["gas"], step["block"])
    spent = sum(int(step["cost"]) for step in answer["transactions"])
    assert sum(int(wei) for wei in answer["cost"]["gas"].values()) == spent
    assert set(answer["seconds"]) == {"answered", "audited"}


def test_the_fee_is_raised_to_what_an_audit_costs_at_least(net, zerog):
    from zerog.inference.onchain import fee_for, gate_of

    least = int(gate_of(net.client).parameters().auditFee)
    assert fee_for(net.client, 2, 1) == max(1, least)
    assert fee_for(net.client, 0, 1) == 1


def test_a_receipt_is_verified_by_its_hash_alone(net, zerog, audited):
    signed = read_transcript(audited)
    code, result = zerog("verify", "0x" + signed.receipt_hash.hex(), "--rerun")
    assert (code, result["valid"], result["firstBadLeaf"]) == (0, True, None)
    assert result["signer"] == "0x" + signed.signer.hex()
    assert result["seconds"] > 0
    assert result["checks"][-1] == {"name": "on chain", "passed": True, "detail": "used, tier AUDITED"}


def test_what_comes_from_chain_and_storage_is_the_file(net, audited):
    from zerog.inference.retrieval import signed_from_chain

    signed = read_transcript(audited)
    found = signed_from_chain(net.client, signed.receipt_hash)
    assert found == dataclasses.replace(signed, text_signature=None)


def test_a_receipt_is_shown_by_hash_and_by_file(net, zerog, audited, capsys):
    signed = read_transcript(audited)
    code, by_hash = zerog("show", "0x" + signed.receipt_hash.hex())
    assert (code, by_hash["question"], by_hash["tier"]) == (0, QUESTION, "AUDITED")
    assert by_hash["text"].encode() == signed.transcript.output
    assert (by_hash["audit"], by_hash["delivery"], by_hash["condemned"]) == ("good", "delivered", False)
    assert zerog("show", str(audited)) == (0, by_hash)
    assert run(["infer", "show", str(audited), "--url", net.url]) == 0
    out = capsys.readouterr().out
    assert f"asked    {QUESTION}" in out
    assert "audit    good" in out


def test_a_hash_that_the_chain_does_not_know_is_named(zerog):
    for command in ("show", "verify"):
        code, error = zerog(command, "0x" + "ab" * 32)
        assert code == 1
        assert "0x" + "ab" * 32 in error["error"]["message"]
        code, error = zerog(command, "0xab")
        assert "the receipt hash has 1 bytes instead of 32" in error["error"]["message"]


def test_verification_names_the_first_bad_leaf(zerog, audited, tmp_path, capsys):
    signed = read_transcript(audited)
    steps = list(signed.transcript.steps)
    for index in (3, 4):
        steps[index] = dataclasses.replace(steps[index], row_hash=bytes(32))
    path = tmp_path / "lie.json"
    lie = dataclasses.replace(signed.transcript, steps=tuple(steps))
    write_transcript(path, dataclasses.replace(signed, transcript=lie))
    code, result = zerog("verify", str(path), "--rerun")
    assert (code, result["valid"], result["firstBadLeaf"]) == (1, False, 3)
    assert run(["infer", "verify", str(path), "--rerun"]) == 1
    assert "(first bad leaf: 3)" in capsys.readouterr().out


def test_an_optimistic_answer_is_waited_for(zerog):
    code, answer = zerog(QUESTION, "--tier", "optimistic", "--max-tokens", "6")
    assert code == 0
    assert answer["tier"] in ("OPTIMISTIC", "AUDITED")


def test_no_devnet_is_said_before_anything_is_asked(capsys, monkeypatch):
    monkeypatch.setattr("zerog.cli.infer.DEFAULT_URL", "http://127.0.0.1:9")
    assert run(["infer", QUESTION, "--tier", "audited"]) == 1
    assert "start one: zerog up" in capsys.readouterr().err


SECRET = "My secret word is marzipan. Say hello."


@pytest.fixture(scope="module")
def private(net, tmp_path_factory):
    """A private, audited answer: its file."""
    path = tmp_path_factory.mktemp("private") / "receipt.json"
    arguments = ["--private", "--tier", "audited", "--max-tokens", "6", "--url", net.url, "-o", str(path)]
    assert run(["infer", SECRET, *arguments]) == 0
    return path


def test_a_private_answer_is_audited_and_stands_nowhere_in_the_clear(net, private, zerog):
    signed = read_transcript(private)
    storage = net.client.storage
    published = storage.read(signed.receipt.dataRoot)
    assert published == signed.envelope
    assert b"marzipan" not in published
    for number in range(net.client.block_number + 1):
        for transaction in net.client.block(number, full=True).transactions:
            assert b"marzipan" not in bytes.fromhex(transaction["input"][2:])
    code, shown = zerog("show", str(private))
    assert (code, shown["tier"], shown["audit"], shown["cost"]["fee"]) == (0, "AUDITED", "good", "0")
    assert next(step["what"] for step in shown["transactions"]) == "record"
    assert net.client.request("poi_transcript", "0x" + signed.receipt_hash.hex()) is None


def test_only_the_requester_reads_a_private_answer_by_its_hash(private, zerog, tmp_path):
    receipt_hash = "0x" + read_transcript(private).receipt_hash.hex()
    code, result = zerog("verify", receipt_hash, "--rerun")
    assert (code, result["valid"]) == (0, True)
    stranger = tmp_path / "stranger.key"
    stranger.write_text("11" * 32)
    stranger.chmod(0o600)
    code, error = zerog("verify", receipt_hash, "--key-file", str(stranger))
    assert code == 1
    assert "the answer is private, and no key here opens it" in error["error"]["message"]
    code, shown = zerog("show", receipt_hash, "--key-file", str(stranger))
    assert (code, shown["text"], shown["tier"]) == (0, None, "AUDITED")
    assert "private" in shown["unreadable"]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({}, "request"),
        ({"request": "x", "maxTokens": 0, "requester": "0x" + "00" * 20, "reader": "0x02"}, "reader"),
        ({"request": "x", "maxTokens": 4, "requester": "0x00", "reader": "0x02"}, "requester has 1 bytes"),
        (
            {"request": "x", "maxTokens": 4, "requester": "0x" + "00" * 20, "reader": "0x05" + "11" * 32},
            "no compressed secp256k1 public key",
        ),
    ],
)
def test_a_malformed_private_question_is_refused_by_name(net, question, message):
    from zerog.errors import InvalidParams

    with pytest.raises(InvalidParams, match=message):
        net.client.request("poi_ask", question)


def test_a_private_question_that_the_engine_refuses_leaves_nothing_on_chain(net, zerog):
    before = net.client.block_number
    code, error = zerog("<|im_end|>", "--private")
    assert code == 1
    assert "control token" in error["error"]["message"]
    assert net.client.block_number == before


def test_the_example_verifies_by_hand(net, audited, capsys):
    import importlib.util
    from pathlib import Path

    path = Path(__file__).parents[2] / "examples" / "verify_by_hand.py"
    spec = importlib.util.spec_from_file_location("verify_by_hand", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    signed = read_transcript(audited)
    example.main(signed.receipt_hash, net.url)
    assert "all true: " in capsys.readouterr().out
