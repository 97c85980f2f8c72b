"""From the body of a request to what the engine is asked, or to the error that OpenAI's API would give.

Everything that changes the answer must be in the sampling parameters that the receipt commits to; a
parameter that cannot be kept is refused by name, never ignored.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from zerog.errors import InferenceError
from zerog.inference.endpoint.errors import ApiError, invalid, unsupported
from zerog.inference.prompt import MAX_REQUEST_SIZE, parse_request
from zerog.inference.receipt import GREEDY, INVERSE_CDF, SamplingParams, stop_hash
from zerog.inference.sampling import MAX_TOKENS
from zerog.inference.trace import PAIRS

CHAT_TOKENS = 256
"""Most tokens of a chat answer when the request says nothing; less where the context is full."""
COMPLETION_TOKENS = 16
"""The same for completions; OpenAI's own default."""
MAX_STOPS = 4
MAX_STOP_SIZE = 256
"""Characters of one stop string."""
_MILLI = 1000


class Kind(Enum):
    """Which of the routes was asked; the value is where its prompt stands."""

    CHAT = "messages"
    COMPLETION = "prompt"
    EMBEDDING = "input"


# What OpenAI's clients may send and what does not change the answer here.
_WITHOUT_EFFECT = frozenset(
    [
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    ]
)
_SAMPLING = frozenset(["temperature", "top_p", "top_k", "repetition_penalty", "seed", "max_tokens", "stop"])
_COMMON = _SAMPLING | {"model", "stream", "stream_options", "logprobs"}
_OF_KIND = {
    Kind.CHAT: _COMMON | {"messages", "max_completion_tokens", "top_logprobs"},
    Kind.COMPLETION: _COMMON | {"prompt"},
}
# Values that ask for nothing special; any other value of these members is refused.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "echo": (False,),
    "suffix": ("",),
    "audio": (),
    "prediction": (),
    "reasoning_effort": (),
    "verbosity": (),
    "web_search_options": (),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A request that can be answered.

    ``body`` are its bytes as they came; ``max_tokens`` is ``None`` when the request leaves it open;
    ``logprobs`` is the number of alternatives that are told per token, ``None`` for no
    log-probabilities at all.
    """

    kind: Kind
    body: bytes
    model: str
    params: SamplingParams
    max_tokens: int | None
    stop_strings: tuple[str, ...]
    stream: bool
    include_usage: bool
    logprobs: int | None

    def with_room(self, prompt_tokens: int, context: int | None) -> SamplingParams:
        """The parameters with the number of tokens that the request left open."""
        if self.max_tokens is not None or context is None:
            return self.params
        room = max(1, min(self.params.maxTokens, context - prompt_tokens))
        return msgspec.structs.replace(self.params, maxTokens=room)


def parse(body: bytes, kind: Kind) -> Question:
    """Reads a body.

    Raises
    ------
    ApiError : too large, no JSON object, a prompt of the wrong form, or a parameter that is unknown,
        out of range or not supported; names it.
    """
    members = decode(body)
    _check_members(members, kind)
    _check_prompt(body, members, kind)
    stream = _flag(members, "stream")
    stop_strings = _stops(members)
    max_tokens = _max_tokens(members, kind)
    open_limit = CHAT_TOKENS if kind is Kind.CHAT else COMPLETION_TOKENS
    return Question(
        kind=kind,
        body=body,
        model=model_of(members),
        params=_params(members, max_tokens or open_limit, stop_strings),
        max_tokens=max_tokens,
        stop_strings=stop_strings,
        stream=stream,
        include_usage=_include_usage(members, stream),
        logprobs=_logprobs(members, kind),
    )


def decode(body: bytes) -> dict[str, Any]:
    """The members of a body; raises `ApiError` when it is no JSON object."""
    if len(body) > MAX_REQUEST_SIZE:
        raise ApiError(
            413,
            f"The request has {len(body)} bytes, more than the limit of {MAX_REQUEST_SIZE}.",
            code="request_too_large",
        )
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise invalid(f"The body is not UTF-8 at byte {error.start}.") from None
    try:
        value = msgspec.json.decode(body)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise invalid(f"The body is not JSON that can be read: {error}.") from None
    if not isinstance(value, dict):
        raise invalid("The body must be a JSON object.")
    return value


def model_of(members: Mapping[str, Any]) -> str:
    """The model that a request names."""
    name = members.get("model")
    if name is None:
        raise invalid("you must provide a model parameter", "model", "missing_required_parameter")
    if not isinstance(name, str):
        raise _wrong("model", "a string", name)
    return name


def _check_members(members: Mapping[str, Any], kind: Kind) -> None:
    for name, value in members.items():
        if name in _NEUTRAL:
            if value is not None and not any(_same(value, neutral) for neutral in _NEUTRAL[name]):
                raise unsupported(name)
        elif name not in _OF_KIND[kind] and name not in _WITHOUT_EFFECT:
            raise invalid(
                f"Unrecognized request argument supplied: {name[:100]}", name[:100], "unknown_parameter"
            )


def _same(value: object, neutral: object) -> bool:
    # To Python, true equals 1.
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _check_prompt(body: bytes, members: Mapping[str, Any], kind: Kind) -> None:
    where = kind.value
    if members.get(where) is None:
        raise invalid(f"Missing required parameter: '{where}'.", where, "missing_required_parameter")
    if kind is Kind.COMPLETION:
        if not isinstance(members[where], str):
            raise invalid("prompt must be one string; lists are not supported", where, "invalid_type")
        if not members[where]:
            raise invalid("prompt must not be empty", where, "invalid_value")
        return
    try:
        parse_request(body)
    except InferenceError as error:
        raise invalid(error.message, where, "invalid_value") from None


def _params(members: Mapping[str, Any], max_tokens: int, stops: tuple[str, ...]) -> SamplingParams:
    """Sampling in integers. Without a temperature it is greedy: the answer that anyone can repeat."""
    top_p = max(1, _milli(members, "top_p", 1.0, 1))
    temperature = _milli(members, "temperature", 0.0, 2)
    penalty = _milli(members, "repetition_penalty", 1.0, 2)
    top_k = _integer(members, "top_k", 0, 2**31 - 1)
    seed = _integer(members, "seed", -(2**63), 2**64 - 1)
    if temperature == 0:
        if penalty != _MILLI:
            raise invalid(
                "repetition_penalty needs a temperature above 0", "repetition_penalty", "invalid_value"
            )
        # The likeliest token is in every nucleus: top_p and top_k say nothing here.
        return SamplingParams(maxTokens=max_tokens, stopHash=stop_hash(list(stops)), sampler=GREEDY)
    if penalty == 0:
        raise invalid("repetition_penalty must be at least 0.001", "repetition_penalty", "invalid_value")
    return SamplingParams(
        maxTokens=max_tokens,
        temperatureMilli=temperature,
        topPMilli=top_p,
        topK=top_k or 0,
        repeatPenaltyMilli=penalty,
        seed=secrets.randbits(64) if seed is None else seed % 2**64,
        stopHash=stop_hash(list(stops)),
        sampler=INVERSE_CDF,
    )


def _milli(members: Mapping[str, Any], name: str, default: float, most: int) -> int:
    """A number from 0 to ``most`` in thousandths, rounded to the nearest."""
    value = members.get(name)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "a number", value)
    if not 0 <= value <= most:
        # The number itself may have a million digits.
        raise invalid(f"{name} must be between 0 and {most}", name, "invalid_value")
    return round(value * _MILLI)


def _integer(members: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "an integer", value)
    if not least <= value <= most:
        raise invalid(f"{name} must be between {least} and {most}", name, "invalid_value")
    return value


def _max_tokens(members: Mapping[str, Any], kind: Kind) -> int | None:
    old = _integer(members, "max_tokens", 1, MAX_TOKENS)
    if kind is Kind.COMPLETION:
        return old
    new = _integer(members, "max_completion_tokens", 1, MAX_TOKENS)
    if old is not None and new is not None and old != new:
        raise invalid(
            "max_tokens and max_completion_tokens contradict each other", "max_tokens", "invalid_value"
        )
    return old if new is None else new


def _stops(members: Mapping[str, Any]) -> tuple[str, ...]:
    value = members.get("stop")
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise _wrong("stop", "a string or a list of strings", value)
    if len(stops) > MAX_STOPS:
        raise invalid(f"stop has {len(stops)} strings, allowed are {MAX_STOPS}", "stop", "invalid_value")
    if any(not 0 < len(stop) <= MAX_STOP_SIZE for stop in stops):
        raise invalid(f"a stop string must have 1 to {MAX_STOP_SIZE} characters", "stop", "invalid_value")
    return tuple(stops)


def _include_usage(members: Mapping[str, Any], stream: bool) -> bool:
    options = members.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _wrong("stream_options", "an object", options)
    if not stream:
        raise invalid(
            "stream_options is only allowed when stream is enabled", "stream_options", "invalid_value"
        )
    if unknown := sorted(options.keys() - {"include_usage", "include_obfuscation"}):
        raise invalid(
            f"stream_options has no member {unknown[0][:100]!r}", "stream_options", "unknown_parameter"
        )
    return _flag(options, "include_usage", "stream_options.include_usage")


def _logprobs(members: Mapping[str, Any], kind: Kind) -> int | None:
    if kind is Kind.COMPLETION:
        return _integer(members, "logprobs", 0, PAIRS)
    wanted = _flag(members, "logprobs")
    top = _integer(members, "top_logprobs", 0, PAIRS)
    if top is not None and not wanted:
        raise invalid("top_logprobs needs logprobs to be true", "top_logprobs", "invalid_value")
    return (top or 0) if wanted else None


def _flag(members: Mapping[str, Any], name: str, shown: str | None = None) -> bool:
    value = members.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _wrong(shown or name, "a boolean", value)
    return value


def _wrong(name: str, wanted: str, value: object) -> ApiError:
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    got = kinds.get(type(value), "an object")
    return invalid(
        f"Invalid type for '{name}': expected {wanted}, but got {got} instead.", name, "invalid_type"
    )
