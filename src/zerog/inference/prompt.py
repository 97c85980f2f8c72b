"""From request bytes to the text that the model reads.

Three forms of request are understood:

* UTF-8 text: one user turn.
* A JSON object with ``messages`` as the chat-completions API has it: several turns. The role
  ``developer`` is another name of ``system``; content in parts is their text, joined by line ends.
* A JSON object with a text ``prompt`` and no ``messages``, as the completions API has it: the model
  continues exactly that text, without any template.

Other members are ignored here; what they ask for must be in the sampling parameters.

The template is the model's: bare ChatML for the built-in one, Jinja for others
(`zerog.inference.chat_template`). Text of a control token would let a user end a turn and speak as
somebody else, so such a request is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from zerog.errors import InferenceError

MAX_REQUEST_SIZE = 32_768
"""Bytes; the gate has the same limit."""
MAX_TURNS = 256
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: str
    content: str


class _Part(msgspec.Struct):
    type: Literal["text"]
    text: str


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part]

    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class _ChatRequest(msgspec.Struct):
    messages: list[_Message]


def prompt_text(
    request: bytes, control_tokens: Iterable[str], render: Callable[[Sequence[Turn]], str] | None = None
) -> str:
    """The text that the model reads for a request.

    Parameters
    ----------
    render : makes the prompt of a conversation; bare ChatML when absent.

    Raises
    ------
    InferenceError : as `parse_request` and `render_chatml`; or the template refuses the conversation.
    """
    forbidden = list(control_tokens)
    _decode(request)
    text = _continued(request)
    if text is None:
        turns = parse_request(request)
        if render is None:
            return render_chatml(turns, forbidden)
        for turn in turns:
            _refuse_control(turn.content, forbidden)
        return render(turns)
    if not text:
        raise InferenceError("the prompt is empty")
    _refuse_control(text, forbidden)
    return text


def parse_request(request: bytes) -> list[Turn]:
    """The conversation that a request asks to continue.

    Raises
    ------
    InferenceError : it is empty, too long, not UTF-8, or a chat request of the wrong form.
    """
    text = _decode(request)
    if "messages" not in _members(request):
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
    return [Turn(_ROLES[message.role], message.text()) for message in chat.messages]


def render_chatml(turns: Iterable[Turn], control_tokens: Iterable[str]) -> str:
    """The prompt of the bare ChatML template, ending where the assistant speaks.

    Raises
    ------
    InferenceError : a turn contains the text of a control token.
    """
    forbidden = list(control_tokens)
    parts = []
    for turn in turns:
        _refuse_control(turn.content, forbidden)
        parts.append(f"<|im_start|>{turn.role}\n{turn.content}<|im_end|>\n")
    return "".join(parts) + "<|im_start|>assistant\n"


def _decode(request: bytes) -> str:
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
    return text


def _refuse_control(text: str, control_tokens: Iterable[str]) -> None:
    if found := next((token for token in control_tokens if token in text), None):
        raise InferenceError(f"the request contains the control token {found!r}")


def _continued(request: bytes) -> str | None:
    """The text that a completion request asks to continue; ``None`` for any other request."""
    members = _members(request)
    prompt = members.get("prompt")
    return prompt if isinstance(prompt, str) and "messages" not in members else None


def _members(request: bytes) -> dict[str, Any]:
    """The members of a JSON object; none for any other text."""
    if not request.lstrip().startswith(b"{"):
        return {}
    try:
        value = msgspec.json.decode(request)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
