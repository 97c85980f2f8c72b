"""From a body to parameters, or to the error that OpenAI's API would give."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerog.inference.endpoint.errors import ApiError
from zerog.inference.endpoint.questions import CHAT_TOKENS, COMPLETION_TOKENS, Kind, Question, parse
from zerog.inference.prompt import MAX_REQUEST_SIZE
from zerog.inference.receipt import GREEDY, INVERSE_CDF, SamplingParams, stop_hash
from zerog.inference.sampling import check_params

MESSAGES = [{"role": "user", "content": "hi"}]


def chat(**members: Any) -> Question:
    return parse(json.dumps({"model": "m", "messages": MESSAGES} | members).encode(), Kind.CHAT)


def completion(**members: Any) -> Question:
    return parse(json.dumps({"model": "m", "prompt": "hi"} | members).encode(), Kind.COMPLETION)


def refusal(body: bytes, kind: Kind = Kind.CHAT) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(body, kind)
    return caught.value


def refused(**members: Any) -> ApiError:
    return refusal(json.dumps({"model": "m", "messages": MESSAGES} | members).encode())


def test_without_a_temperature_the_answer_is_greedy():
    question = chat()
    assert question.params == SamplingParams(maxTokens=CHAT_TOKENS, sampler=GREEDY)
    assert question.max_tokens is None
    assert completion().params.maxTokens == COMPLETION_TOKENS


def test_sampling_parameters_become_integers():
    params = chat(
        temperature=0.7, top_p=0.95, top_k=40, repetition_penalty=1.1, seed=5, max_tokens=9, stop=["a", "b"]
    ).params
    assert params == SamplingParams(9, 700, 950, 40, 1100, 5, stop_hash(["a", "b"]), INVERSE_CDF)


def test_a_temperature_without_a_seed_gets_one():
    seeds = {chat(temperature=1).params.seed for _ in range(4)}
    assert len(seeds) == 4


def test_a_negative_seed_is_read_as_twos_complement():
    assert chat(temperature=1, seed=-1).params.seed == 2**64 - 1


def test_both_names_of_the_token_limit_mean_the_same():
    assert chat(max_completion_tokens=7).params.maxTokens == 7
    assert refused(max_tokens=6, max_completion_tokens=7).param == "max_tokens"


def test_an_open_token_limit_shrinks_to_what_the_context_leaves():
    assert chat().with_room(2000, 2048).maxTokens == 48
    assert chat().with_room(10, 2048).maxTokens == CHAT_TOKENS
    assert chat(max_tokens=100).with_room(2000, 2048).maxTokens == 100


def test_members_without_effect_and_neutral_values_are_taken():
    chat(
        user="u", metadata={"a": "b"}, n=1, presence_penalty=0.0, logit_bias={}, tools=[], tool_choice="none"
    )
    chat(response_format={"type": "text"}, store=False, n=None, temperature=None, stop=None, seed=None)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("n", 2),
        ("n", True),
        ("tools", [{"type": "function"}]),
        ("functions", [{}]),
        ("logit_bias", {"1": 5}),
        ("response_format", {"type": "json_object"}),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("modalities", ["audio"]),
        ("audio", {}),
        ("reasoning_effort", "high"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(member, value):
    error = refused(**{member: value})
    assert (error.status, error.param, error.code) == (400, member, "unsupported_parameter")
    assert member in error.message


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("temperature", -0.1, "invalid_value"),
        ("temperature", 2.1, "invalid_value"),
        ("temperature", "hot", "invalid_type"),
        ("temperature", True, "invalid_type"),
        ("top_p", 1.5, "invalid_value"),
        ("top_p", 10**400, "invalid_value"),
        ("seed", 2**64, "invalid_value"),
        ("seed", 1.5, "invalid_type"),
        ("max_tokens", 0, "invalid_value"),
        ("max_tokens", -5, "invalid_value"),
        ("max_tokens", 2**70, "invalid_value"),
        ("max_completion_tokens", "9", "invalid_type"),
        ("stop", ["a"] * 5, "invalid_value"),
        ("stop", [""], "invalid_value"),
        ("stop", "x" * 300, "invalid_value"),
        ("stop", [1], "invalid_type"),
        ("stream", "yes", "invalid_type"),
        ("top_logprobs", 3, "invalid_value"),
        ("stream_options", {"include_usage": True}, "invalid_value"),
        ("repetition_penalty", 1.2, "invalid_value"),
        ("model", 5, "invalid_type"),
        ("model", None, "missing_required_parameter"),
        ("messages", None, "missing_required_parameter"),
        ("messages", [], "invalid_value"),
        ("messages", [{"role": "tool", "content": "x"}], "invalid_value"),
        ("messages", "hi", "invalid_value"),
        ("temperatur", 1, "unknown_parameter"),
    ],
)
def test_a_wrong_parameter_is_named(member, value, code):
    error = refused(**{member: value})
    assert (error.status, error.param, error.code) == (400, member, code)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(number):
    body = b'{"model": "m", "messages": [{"role": "user", "content": "a"}], "temperature": %s}'
    error = refusal(body % number.encode())
    assert (error.status, error.kind) == (400, "invalid_request_error")


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"null", b"{} x", b"[" * 5000])
def test_a_body_that_is_no_json_object_is_refused(body):
    assert refusal(body).status == 400


def test_invalid_utf8_is_found_where_it_is():
    error = refusal(b'{"model": "\xff"}')
    assert (error.status, error.message) == (400, "The body is not UTF-8 at byte 11.")


def test_a_body_beyond_the_bound_of_prompts_is_too_large():
    error = refusal(b" " * (MAX_REQUEST_SIZE + 1))
    assert (error.status, error.code) == (413, "request_too_large")


def test_lists_of_prompts_are_refused():
    assert refusal(b'{"model": "m", "prompt": ["a", "b"]}', Kind.COMPLETION).param == "prompt"
    assert refusal(b'{"model": "m", "prompt": ""}', Kind.COMPLETION).param == "prompt"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    [
        "temperature",
        "top_p",
        "top_k",
        "repetition_penalty",
        "seed",
        "max_tokens",
        "stop",
        "stream",
        "n",
        "stream_options",
        "logprobs",
        "top_logprobs",
        "messages",
        "prompt",
        "model",
        "tools",
        "logit_bias",
    ]
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(NAMES, JSON_VALUES, max_size=5), st.sampled_from((Kind.CHAT, Kind.COMPLETION)))
def test_any_members_give_parameters_that_the_engine_takes_or_a_refusal(members, kind):
    base = {"model": "m", kind.value: MESSAGES if kind is Kind.CHAT else "hi"}
    try:
        question = parse(json.dumps(base | members).encode(), kind)
    except ApiError as error:
        assert error.status in (400, 413)
    else:
        check_params(question.params)
