"""A node that answers through somebody else's server: receipts at the gate, audits by distance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.inference.model_server import model_server

from zerog.client import Account, Devnet
from zerog.contracts import ENGINES, INFERENCE_REGISTRY
from zerog.errors import ConfigError, InferenceError
from zerog.inference.admission import admit_engine, admit_model, class_of
from zerog.inference.answer import Domain, Signatory, sampling
from zerog.inference.audit.contract import TOLERANT_POOL, AuditContracts
from zerog.inference.calibration import requantise
from zerog.inference.engines import DeterminismClass
from zerog.inference.engines.openai_compatible import OpenAICompatibleEngine
from zerog.inference.engines.upstream_http import endpoint
from zerog.inference.engines.vocabulary import GgufVocabulary
from zerog.inference.models import DEFAULT_MODEL, MINILM_MODEL, id_of
from zerog.inference.onchain import ask_gate, registry_of, transcript_from_node
from zerog.inference.provider import GateProvider, request_of, wait_for
from zerog.inference.publication import StorageTranscripts
from zerog.inference.receipt import engine_id
from zerog.inference.verification import check_execution, check_transcript
from zerog.inference.weights import SMOLLM2, fetch
from zerog.node import config

KEY = "key-of-the-upstream"
AUDITED, OPEN, DELIVERED = 2, 1, 3
TRACED = "openai-compatible/server=llama-server/prompt=tokens/sampler=greedy/logprobs=reported"
PATIENCE = 180.0


def devnet(url: str, folder: Path) -> Devnet:
    key_file = folder / "upstream.key"
    key_file.write_text(KEY)
    return Devnet(
        services=["storage", "inference", "verifier"],
        options={
            "inference.upstream": url,
            "inference.upstream_model": "default",
            "inference.upstream_key_file": str(key_file),
        },
    )


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with model_server(fetch(SMOLLM2), KEY) as url:
        yield url


@pytest.fixture(scope="module")
def net(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    with devnet(server, tmp_path_factory.mktemp("upstream")) as running:
        yield running


def ask(net: Devnet, question: bytes, tokens: int, tier: int) -> Any:
    contracts = AuditContracts(net.client)
    fee = int(contracts.gate.parameters().auditFee)
    return ask_gate(net.client, net.accounts[2], question, sampling(tokens), fee, tier)


def test_an_answer_of_the_server_is_delivered_with_a_receipt(net, engine):
    request = ask(net, b"Explain how rain forms.", 24, 0)
    signed = transcript_from_node(net.client, request, PATIENCE)
    assert signed.transcript.engine == TRACED
    assert class_of(net.client, engine_id(TRACED)) is DeterminismClass.TOLERANT
    checks = check_transcript(signed) + check_execution(signed, engine)
    assert [check for check in checks if not check.passed] == []
    assert AuditContracts(net.client).gate.requestOf(request.inquiry.request_id).state == DELIVERED


def test_its_answer_is_audited_by_the_verifiers_of_the_class_tolerant(net):
    contracts = AuditContracts(net.client)
    request = ask(net, b"Give three tips for sleeping well.", 32, AUDITED)
    wait_for(
        lambda: contracts.gate.requestOf(request.inquiry.request_id).state == DELIVERED, PATIENCE, "the audit"
    )
    assert contracts.gate.requestOf(request.inquiry.request_id).tier == AUDITED
    members = {str(member).lower() for member in contracts.verifiers.verifiersOf(TOLERANT_POOL)}
    assert members == {account.address.lower() for account in net.accounts[4:7]}


def test_a_server_with_coarser_weights_is_objected_to(tmp_path):
    coarse = tmp_path / "coarse.gguf"
    requantise(fetch(SMOLLM2), coarse, "Q2_K")
    with model_server(coarse, KEY) as url, devnet(url, tmp_path) as net:
        contracts = AuditContracts(net.client)
        request = ask(net, b"Explain how rain forms.", 32, AUDITED)

        def objected() -> bool:
            return bool(contracts.audits.events.AuditEscalated())

        wait_for(objected, PATIENCE, "an objection")
        assert contracts.gate.requestOf(request.inquiry.request_id).tier != AUDITED
        (event,) = contracts.audits.events.AuditEscalated()
        (finding, *_) = net.client.request("audit_findings", "0x" + event.receiptHash.hex())
        assert "differ by" in finding["reason"] or "worse than the likeliest" in finding["reason"]


def test_answers_without_log_probabilities_are_only_signed_and_verifiers_abstain(server):
    silent = OpenAICompatibleEngine(
        endpoint(server, KEY), "default", DEFAULT_MODEL,
        vocabulary=GgufVocabulary(fetch(SMOLLM2)), trace=False,
    )  # fmt: skip
    with Devnet(services=["storage", "verifier"]) as net:
        admit_engine(net.client, net.accounts[0], silent.description, silent.determinism)
        account = net.accounts[-1]
        domain = Domain(net.client.chain_id, bytes.fromhex(INFERENCE_REGISTRY[2:]))
        signatory = Signatory(silent, Account.random().key, bytes.fromhex(account.address[2:]), domain)
        store = StorageTranscripts(net.client.storage)
        provider = GateProvider(net.client, signatory, account, store=store)
        provider.enrol()
        gate, states = provider.gate, []
        for tier in (0, AUDITED):
            sent = gate.requestInference(
                silent.model_id, b"Name a colour.", sampling(6).to_tuple(), tier, 0, value=10**15,
                account=net.accounts[2],
            )  # fmt: skip
            request = next(request_of(e) for e in gate.decode(sent) if e.name == "InferenceRequested")
            answers = provider.serve()
            states.append((len(answers), gate.requestOf(request.inquiry.request_id).state))
        assert states == [(1, DELIVERED), (0, OPEN)]

        def abstained() -> bool:
            return any(n["kind"] == "abstains" for n in net.client.request("audit_status")["news"])

        wait_for(abstained, PATIENCE, "the verifiers' word")
        assert not AuditContracts(net.client).audits.events.AuditDrawn()


def test_engines_and_models_are_admitted_once_and_only_by_the_curator():
    with Devnet() as net:
        curator, stranger = net.accounts[0], net.accounts[3]
        with pytest.raises(InferenceError, match="may not register engines"):
            admit_engine(net.client, stranger, "test/engine", DeterminismClass.TOLERANT)
        assert class_of(net.client, engine_id("test/engine")) is None
        assert admit_engine(net.client, curator, "test/engine", DeterminismClass.TOLERANT)
        assert admit_engine(net.client, stranger, "test/engine", DeterminismClass.TOLERANT) is None
        with pytest.raises(InferenceError, match="in the class exact, not tolerant"):
            admit_engine(net.client, curator, ENGINES[0].name, DeterminismClass.TOLERANT)
        assert admit_model(net.client, stranger, MINILM_MODEL)
        assert registry_of(net.client).isModel(id_of(MINILM_MODEL))
        assert admit_model(net.client, stranger, MINILM_MODEL) is None


@pytest.mark.parametrize("option", ["upstream", "upstream_model"])
def test_an_upstream_needs_its_url_and_its_models_name(option):
    with pytest.raises(ConfigError, match=f"inference.{option} is set but inference.upstream"):
        config.load(None, {f"inference.{option}": "http://127.0.0.1:1"})
