"""The provider on a devnet, with the real model: it answers what it should, and nothing else."""

from __future__ import annotations

import threading

import pytest

from zerog.client import Account, Devnet
from zerog.contracts.genesis import AUDIT_WINDOW, MIN_STAKE, REQUEST_TIMEOUT
from zerog.errors import InferenceError
from zerog.inference.answer import Domain, Signatory, sampling
from zerog.inference.onchain import ask_gate, gate_of, receipt_on_chain, registry_of
from zerog.inference.provider import GateProvider, RequestFeed, request_of, wait_for
from zerog.inference.receipt import SamplingParams
from zerog.inference.verification import check_execution, check_transcript

OPEN, PARKED, DELIVERED = 1, 2, 3
QUESTION = b"Name a colour."
PARAMS = sampling(4)


@pytest.fixture
def provider(zerog_devnet: Devnet, engine, signatory) -> GateProvider:
    """An enrolled provider: the devnet's last account."""
    account = zerog_devnet.accounts[-1]
    own = Signatory(engine, signatory.key, bytes.fromhex(account.address[2:]), signatory.domain)
    made = GateProvider(zerog_devnet.client, own, account)
    made.enrol()
    return made


@pytest.fixture
def user(zerog_devnet: Devnet) -> Account:
    return zerog_devnet.accounts[2]


def _ask(net, user, question=QUESTION, params=PARAMS, fee=1000):
    return ask_gate(net.client, user, question, params, fee)


def _ask_for_tier(net, user, provider, tier):
    gate = gate_of(net.client, user)
    sent = gate.requestInference(provider.model_id, QUESTION, PARAMS.to_tuple(), tier, 0)
    return next(request_of(event) for event in gate.decode(sent) if event.name == "InferenceRequested")


def _state(provider, request) -> int:
    return int(provider.gate.requestOf(request.inquiry.request_id).state)


def test_enrolling_registers_stake_signer_and_queue_place_once(zerog_devnet, provider):
    account = zerog_devnet.accounts[-1]
    stored, engines = provider.registry.providerOf(account)
    assert (stored.stake, stored.active, len(engines)) == (MIN_STAKE, True, 1)
    assert provider.gate.queueOf(provider.model_id) == [account.address]
    before = zerog_devnet.client.nonce(account)
    provider.enrol()
    assert zerog_devnet.client.nonce(account) == before


def test_enrolling_again_tops_up_lost_stake(zerog_devnet, provider):
    registry = registry_of(zerog_devnet.client, zerog_devnet.accounts[0])
    registry.slash(zerog_devnet.accounts[-1], 7, bytes(32))
    provider.enrol()
    assert registry.stakeOf(zerog_devnet.accounts[-1]) == MIN_STAKE


def test_a_request_is_answered_and_its_transcript_proves_it(zerog_devnet, provider, user, engine):
    request = _ask(zerog_devnet, user)
    (answer,) = provider.serve()
    assert _state(provider, request) == DELIVERED
    transcript = provider.book.signed(answer.receipt_hash)
    checks = check_transcript(transcript) + check_execution(transcript, engine)
    assert all(check.passed for check in checks)
    standing = receipt_on_chain(zerog_devnet.client, transcript)
    assert (standing.passed, standing.detail) == (True, "used, tier SIGNED")


def test_every_request_is_answered_once(zerog_devnet, provider, user):
    for _ in range(2):
        _ask(zerog_devnet, user)
    assert len(provider.serve()) == 2
    assert provider.serve() == []


def test_a_new_provider_finds_requests_made_before_it(zerog_devnet, provider, user, engine, signatory):
    request = _ask(zerog_devnet, user)
    account = zerog_devnet.accounts[-1]
    own = Signatory(engine, signatory.key, bytes.fromhex(account.address[2:]), signatory.domain)
    assert len(GateProvider(zerog_devnet.client, own, account).serve()) == 1
    assert _state(provider, request) == DELIVERED


def test_requests_after_a_revert_of_the_devnet_are_answered(zerog_devnet, provider, user):
    with zerog_devnet.anchor():
        zerog_devnet.mine(20)
        _ask(zerog_devnet, user)
        assert len(provider.serve()) == 1
    request = _ask(zerog_devnet, user)
    assert len(provider.serve()) == 1
    assert _state(provider, request) == DELIVERED


@pytest.mark.parametrize(
    ("question", "params"),
    [
        (b"\xff", PARAMS),
        (b"<|im_end|>", PARAMS),
        (QUESTION, SamplingParams(maxTokens=4, stopHash=b"\x01" * 32)),
        (QUESTION, SamplingParams(maxTokens=4000)),
    ],
    ids=["not text", "control token", "stop strings", "too long"],
)
def test_a_request_that_the_engine_refuses_stays_open(zerog_devnet, provider, user, question, params):
    request = _ask(zerog_devnet, user, question, params)
    assert provider.serve() == []
    assert _state(provider, request) == OPEN


def test_one_refused_request_does_not_hold_up_the_next(zerog_devnet, provider, user):
    _ask(zerog_devnet, user, b"\xff")
    request = _ask(zerog_devnet, user)
    assert len(provider.serve()) == 1
    assert _state(provider, request) == DELIVERED


def test_a_request_of_another_provider_is_left_alone(zerog_devnet, provider, user):
    other = zerog_devnet.accounts[5]
    registry = registry_of(zerog_devnet.client, other)
    engine = provider.registry.providerOf(zerog_devnet.accounts[-1])[1]
    registry.registerProvider(other, engine, b"", b"", value=MIN_STAKE)
    provider.gate.joinQueue(provider.model_id, account=other)
    requests = [_ask(zerog_devnet, user) for _ in range(2)]
    assert len(provider.serve()) == 1
    assert sorted(_state(provider, request) for request in requests) == [OPEN, DELIVERED]


def test_requests_that_pay_too_little_are_left_alone(zerog_devnet, provider, user, engine, signatory):
    account = zerog_devnet.accounts[-1]
    own = Signatory(engine, signatory.key, bytes.fromhex(account.address[2:]), signatory.domain)
    choosy = GateProvider(zerog_devnet.client, own, account, min_fee=1001)
    _ask(zerog_devnet, user)
    assert choosy.serve() == []
    _ask(zerog_devnet, user, fee=1001)
    assert len(choosy.serve()) == 1


def test_an_expired_request_is_left_alone(zerog_devnet, provider, user):
    request = _ask(zerog_devnet, user)
    zerog_devnet.increase_time(REQUEST_TIMEOUT + 1)
    zerog_devnet.mine()
    assert provider.serve() == []
    assert _state(provider, request) == OPEN


def test_a_request_for_evidence_is_left_alone(zerog_devnet, provider, user):
    _ask_for_tier(zerog_devnet, user, provider, 3)
    assert provider.serve() == []


def test_a_parked_answer_is_finished_after_its_window(zerog_devnet, provider, user):
    request = _ask_for_tier(zerog_devnet, user, provider, 1)
    assert len(provider.serve()) == 1
    assert _state(provider, request) == PARKED
    provider.serve()
    assert _state(provider, request) == PARKED
    zerog_devnet.mine(AUDIT_WINDOW)
    provider.serve()
    assert _state(provider, request) == DELIVERED


def test_a_seeded_request_is_answered_with_the_chains_seed(zerog_devnet, provider, user, engine):
    params = SamplingParams(maxTokens=4, temperatureMilli=900, sampler=1)
    request = _ask(zerog_devnet, user, params=params)
    assert request.inquiry.params.seed != 0
    (answer,) = provider.serve()
    transcript = provider.book.signed(answer.receipt_hash)
    assert all(check.passed for check in check_execution(transcript, engine))


def test_the_loop_serves_until_it_is_stopped(zerog_devnet, provider, user):
    stop = threading.Event()
    worker = threading.Thread(target=provider.run, args=(stop, 0.02))
    worker.start()
    try:
        request = _ask(zerog_devnet, user)
        wait_for(lambda: _state(provider, request) == DELIVERED, 60, "the answer")
    finally:
        stop.set()
        worker.join(30)
    assert not worker.is_alive()


def test_the_feed_shows_each_request_once(zerog_devnet, provider, user):
    feed = RequestFeed(zerog_devnet.client, provider.model_id)
    request = _ask(zerog_devnet, user)
    assert feed.new() == [request]
    assert feed.new() == []
    assert feed.is_open(request, bytes.fromhex(zerog_devnet.accounts[-1].address[2:]))
    assert not feed.is_open(request)


def test_waiting_ends_with_an_error_that_names_what_was_awaited():
    with pytest.raises(InferenceError, match=r"the answer did not happen within 0\.01 s"):
        wait_for(lambda: False, 0.01, "the answer", 0.001)


def test_a_receipt_of_another_chain_is_not_looked_up(zerog_devnet, transcript):
    import dataclasses

    foreign = dataclasses.replace(transcript, domain=Domain(1, transcript.domain.registry))
    standing = receipt_on_chain(zerog_devnet.client, foreign)
    assert (standing.passed, standing.detail) == (False, "the node is on chain 31337, not 1")


def test_a_receipt_of_nobody_is_refused_with_the_chains_reason(zerog_devnet, transcript):
    standing = receipt_on_chain(zerog_devnet.client, transcript)
    assert (standing.passed, standing.detail) == (False, "the registry answers PoIBadSignature()")
