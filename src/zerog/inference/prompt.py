"""From request bytes to the text that the model reads.

Two forms of request are understood:

* UTF-8 text: one user turn.
* A JSON object with ``messages`` as the chat-completions API has it: several turns. Other members
  are ignored here; what they ask for must be in the sampling parameters.

The template is bare ChatML. Text of a control token inside a turn would let a user end the turn and
speak as somebody else, so such a request is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from zerog.contracts.genesis import CHATML
from zerog.errors import InferenceError

MAX_REQUEST_SIZE = 32_768
"""Bytes; the gate has the same limit."""
MAX_TURNS = 256
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: str
    content: str


class _Message(msgspec.Struct):
    role: str
    content: str


class _ChatRequest(msgspec.Struct):
    messages: list[_Message]


def parse_request(request: bytes) -> list[Turn]:
    """The conversation that a request asks to continue.

    Raises
    ------
    InferenceError : it is empty, too long, not UTF-8, or a chat request of the wrong form.
    """
    if len(request) > MAX_REQUEST_SIZE:
        raise InferenceError(
            f"the request has {len(request)} bytes, more than the limit of {MAX_REQUEST_SIZE}"
        )
    try:
        text = request.decode()
    except UnicodeDecodeError as error:
        raise InferenceError(f"the request is not UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise InferenceError("the request is empty")
    if not _is_chat(request):
        return [Turn("user", text)]
    try:
        chat = msgspec.json.decode(request, type=_ChatRequest)
    except msgspec.ValidationError as error:
        raise InferenceError(f"the chat request is malformed: {error}") from None
    if not 1 <= len(chat.messages) <= MAX_TURNS:
        raise InferenceError(
            f"the chat request has {len(chat.messages)} messages, allowed are 1 to {MAX_TURNS}"
        )
    for message in chat.messages:
        if message.role not in _ROLES:
            raise InferenceError(
                f"the chat request has the role {message.role!r}, known are {', '.join(_ROLES)}"
            )
    return [Turn(message.role, message.content) for message in chat.messages]


def render_chatml(turns: Iterable[Turn], control_tokens: Iterable[str]) -> str:
    """The prompt of the bare ChatML template, ending where the assistant speaks.

    Raises
    ------
    InferenceError : a turn contains the text of a control token.
    """
    forbidden = list(control_tokens)
    parts = []
    for turn in turns:
        if found := next((token for token in forbidden if token in turn.content), None):
            raise InferenceError(f"the request contains the control token {found!r}")
        parts.append(f"<|im_start|>{turn.role}\n{turn.content}<|im_end|>\n")
    return "".join(parts) + "<|im_start|>assistant\n"


def render_prompt(turns: Iterable[Turn], template: str, control_tokens: Iterable[str]) -> str:
    """The prompt of ``template``, ending where the assistant speaks."""
    if template != CHATML:
        raise InferenceError("this chat template is not supported yet")
    return render_chatml(turns, control_tokens)


def _is_chat(request: bytes) -> bool:
    if not request.lstrip().startswith(b"{"):
        return False
    try:
        value = msgspec.json.decode(request)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(value, dict) and "messages" in value
