"""What a model server reports about its answer, and which of it can be believed.

Two forms of log-probabilities exist: a list of entries with their alternatives (chat completions; of
llama-server every completion), and parallel lists with dictionaries (text completions of vLLM and OpenAI).
Either becomes the steps of a trace, or an error that says what is wrong with it: nothing is repaired.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from zerog.errors import UpstreamLied, UpstreamMalformed, UpstreamRefused
from zerog.inference.encoding import ZERO_HASH
from zerog.inference.tolerance import UNREPORTED, wrong_form
from zerog.inference.trace import PAIRS, QUANTUM, TraceStep

_TOKEN_ID = "token_id:"
"""How vLLM names a token by its number (``return_tokens_as_token_ids``)."""
_POSITIVE = 1e-3
"""A float32 log-softmax may exceed 0 by less than this."""
_UINT32 = 1 << 32
_LEAST_QUANTUM = -(1 << 31)
_MOST_ENTRIES = 64
"""Alternatives of one token that are looked at; eight were asked for."""


class Vocabulary(Protocol):
    """The tokens of a model, as `vocabulary.GgufVocabulary` reads them from a file."""

    vocabulary_size: int
    ending: frozenset[int]
    control_texts: list[str]

    def piece(self, token: int) -> bytes:
        """What a token adds to the output; nothing for a control token."""

    def tokens_of(self, prompt: str) -> list[int]:
        """Tokens of a text, in which control tokens are written as text."""


class _Alternative(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    id: int | None = None
    bytes: list[int] | None = None


class _Entry(_Alternative, frozen=True):
    top_logprobs: list[_Alternative] = []


class _Logprobs(msgspec.Struct, frozen=True):
    content: list[_Entry] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    index: int = 0
    text: str | None = None
    delta: _Delta | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class Usage(msgspec.Struct, frozen=True):
    """Token counts as the server tells them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: Usage | None = None
    error: Any = None


@dataclass(frozen=True, slots=True)
class Report:
    """One token with its likeliest alternatives; ``None`` where the server did not say."""

    entry: _Alternative
    alternatives: Sequence[_Alternative]


@dataclass(frozen=True, slots=True)
class Event:
    """One piece of a streamed answer."""

    text: str
    reports: list[Report]
    finish: str | None
    usage: Usage | None


def decode_event(payload: bytes, show: Any = str) -> Event:
    """An event from its JSON. ``show`` makes a server's words fit for an error message.

    Raises
    ------
    UpstreamMalformed : no JSON of the expected form.
    UpstreamRefused : an error object.
    """
    try:
        chunk = msgspec.json.decode(payload, type=_Chunk)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamMalformed(f"an event of the stream is malformed: {show(str(error))}") from None
    if chunk.error is not None:
        said = chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error
        raise UpstreamRefused(f"the server ends the answer with an error: {show(str(said))}", 200)
    if not chunk.choices:
        return Event("", [], None, chunk.usage)
    if len(chunk.choices) > 1 or chunk.choices[0].index != 0:
        raise UpstreamMalformed("the server answers with several choices, one was asked for")
    choice = chunk.choices[0]
    text = choice.text if choice.text is not None else (choice.delta.content if choice.delta else None)
    return Event(text or "", _reports(choice.logprobs), choice.finish_reason, chunk.usage)


class TokenReader:
    """Turns reports into steps of a trace.

    Parameters
    ----------
    vocabulary : of the model, or ``None``; then tokens must come with their numbers.
    """

    def __init__(self, vocabulary: Vocabulary | None) -> None:
        self._vocabulary = vocabulary
        self._ids: dict[bytes, int | None] | None = None

    def steps(self, report: Report) -> list[tuple[TraceStep, bytes]]:
        """The steps of a report with the bytes that each adds to the output.

        More than one when the server gathers the tokens of a character into one report, as llama-server
        does; then only the last one has log-probabilities.

        Raises
        ------
        UpstreamLied : what is reported contradicts itself or the vocabulary.
        UpstreamMalformed : it does not say which token it means.
        """
        token = self._token(report.entry)
        step = TraceStep(token, ZERO_HASH, self._pairs(report))
        if (wrong := wrong_form(step)) is not None:
            raise UpstreamLied(f"the server reports an impossible row: {wrong}")
        text = _text(report.entry)
        if self._vocabulary is None:
            return [(step, text)]
        piece = self._vocabulary.piece(token)
        if piece == text or self._is_control(token):
            return [(step, piece)]
        if not text.endswith(piece):
            raise UpstreamLied(f"token {token} is {piece!r} in the vocabulary, the server says {text[:64]!r}")
        return [*self._gathered(token, text), (step, piece)]

    def _token(self, entry: _Alternative) -> int:
        token = entry.id
        if token is None and entry.token.startswith(_TOKEN_ID) and entry.token[9:].isdecimal():
            token = int(entry.token[9:])
        if token is None:
            token = self._token_of_text(entry)
        size = _UINT32 if self._vocabulary is None else self._vocabulary.vocabulary_size
        if not 0 <= token < size:
            raise UpstreamLied(f"the server reports token {token}, the vocabulary has {size}")
        return token

    def _token_of_text(self, entry: _Alternative) -> int:
        if self._vocabulary is None:
            raise UpstreamMalformed(
                "the server names tokens by their text only, and the vocabulary is unknown"
            )
        if self._ids is None:
            self._ids = _ids_of(self._vocabulary)
        token = self._ids.get(_text(entry))
        if token is None and len(named := self._vocabulary.tokens_of(entry.token)) == 1:
            # A control token, which adds nothing to the output and has no bytes of its own.
            token = named[0]
        if token is None:
            raise UpstreamMalformed(f"the text {entry.token[:64]!r} names no token, or several")
        return token

    def _pairs(self, report: Report) -> tuple[tuple[int, int], ...]:
        entries = report.alternatives[:_MOST_ENTRIES]
        if len(entries) < PAIRS:
            raise UpstreamLied(
                f"the server reports {len(entries)} alternatives of a token, asked for were {PAIRS}"
            )
        found: dict[int, float] = {}
        for entry in entries:
            token = self._token(entry)
            _require_logprob(entry.logprob)
            if found.setdefault(token, entry.logprob) != entry.logprob:
                raise UpstreamLied(f"the server reports two log-probabilities of token {token}")
        chosen = self._token(report.entry)
        _require_logprob(report.entry.logprob)
        if chosen not in found:
            raise UpstreamLied(f"the chosen token {chosen} is missing among its alternatives")
        if abs(found[chosen] - report.entry.logprob) > _POSITIVE:
            raise UpstreamLied(f"the server reports two log-probabilities of token {chosen}")
        if sum(map(math.exp, found.values())) > 1 + 1 / 64:
            raise UpstreamLied("the reported probabilities of a token's alternatives add up to more than 1")
        best = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))[:PAIRS]
        if len(best) < PAIRS:
            raise UpstreamLied("the server reports a token twice among the alternatives")
        return tuple((token, _quantum(logprob)) for token, logprob in best)

    def _is_control(self, token: int) -> bool:
        assert self._vocabulary is not None
        return token in self._vocabulary.ending or not self._vocabulary.piece(token)

    def _gathered(self, last: int, text: bytes) -> list[tuple[TraceStep, bytes]]:
        """The tokens before ``last`` in a text of several, which is split as the vocabulary splits it."""
        assert self._vocabulary is not None
        try:
            tokens = self._vocabulary.tokens_of(text.decode())
        except UnicodeDecodeError:
            tokens = []
        pieces = [self._vocabulary.piece(token) for token in tokens]
        if len(tokens) < 2 or tokens[-1] != last or b"".join(pieces) != text:
            raise UpstreamLied(
                f"the server gathers tokens into {text[:64]!r} which end otherwise than in {last}"
            )
        return [
            (TraceStep(token, ZERO_HASH, UNREPORTED), piece)
            for token, piece in zip(tokens[:-1], pieces[:-1], strict=True)
        ]


def _reports(logprobs: _Logprobs | None) -> list[Report]:
    if logprobs is None:
        return []
    if logprobs.content is not None:
        return [Report(entry, entry.top_logprobs) for entry in logprobs.content]
    tokens, chosen, tops = logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs
    if not tokens:
        return []
    if chosen is None or tops is None or not len(tokens) == len(chosen) == len(tops):
        raise UpstreamLied("the server reports lists of log-probabilities that differ in length")
    reports = []
    for token, logprob, top in zip(tokens, chosen, tops, strict=True):
        if logprob is None or top is None:
            raise UpstreamLied("the server leaves out the log-probability of a token")
        alternatives = [_Alternative(name, value) for name, value in top.items()]
        reports.append(Report(_Alternative(token, logprob), alternatives))
    return reports


def _text(entry: _Alternative) -> bytes:
    if entry.bytes is None:
        return entry.token.encode("utf-8", "surrogatepass")
    if not all(0 <= byte < 256 for byte in entry.bytes):
        raise UpstreamLied("the server reports bytes of a token that are no bytes")
    return bytes(entry.bytes)


def _ids_of(vocabulary: Vocabulary) -> dict[bytes, int | None]:
    """Token ids by their bytes; ``None`` where several tokens have the same."""
    ids: dict[bytes, int | None] = {}
    for token in range(vocabulary.vocabulary_size):
        piece = vocabulary.piece(token)
        if piece:
            ids[piece] = None if piece in ids else token
    return ids


def _require_logprob(value: float) -> None:
    if not math.isfinite(value):
        raise UpstreamLied(f"the server reports the log-probability {value}")
    if value > _POSITIVE:
        raise UpstreamLied(f"the server reports a positive log-probability, {value:g}")


def _quantum(logprob: float) -> int:
    # Python's round is half to even, as the protocol asks.
    return max(min(round(logprob * QUANTUM), 0), _LEAST_QUANTUM)
