"""Renders the chat template of a model: Jinja, as the makers of models write it, in a sandbox.

The result is part of what a receipt commits to, so it must be the same everywhere and always: a template
gets the conversation and nothing else, no clock, no chance, no files. It sees the names that
``transformers`` gives it: ``messages``, ``add_generation_prompt``, ``bos_token``, ``eos_token``,
``raise_exception``. ``strftime_now`` is left out: templates that ask whether it is defined go on without,
others are refused::

    ChatTemplate(source).render([Turn("user", "Hello")], bos="<s>", eos="</s>")
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zerog.errors import InferenceError

if TYPE_CHECKING:
    from jinja2 import Template

    from zerog.inference.prompt import Turn

MAX_TEMPLATE = 1 << 16
"""Bytes; transcripts have the same limit."""
MAX_PROMPT = 1 << 20
"""Characters of a rendered conversation."""
_ALLOWED_METHODS = frozenset(
    ["append", "capitalize", "endswith", "find", "get", "items", "keys", "lower", "lstrip", "removeprefix",
     "removesuffix", "replace", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title",
     "upper", "values"]
)  # fmt: skip
_REMOVED_FILTERS = ("center", "format", "indent", "random", "urlize", "wordwrap", "xmlattr", "pprint")


class ChatTemplate:
    """A compiled template.

    Raises
    ------
    InferenceError : Jinja is not installed, or the template is too long or malformed.
    """

    def __init__(self, source: str) -> None:
        if len(source.encode()) > MAX_TEMPLATE:
            raise InferenceError(f"the chat template has more than {MAX_TEMPLATE} bytes")
        self._template = _compile(source)

    def render(self, turns: Sequence[Turn], *, bos: str = "", eos: str = "") -> str:
        """The prompt of a conversation, ending where the assistant speaks.

        Raises
        ------
        InferenceError : the template refuses the conversation, or is at fault itself.
        """
        import jinja2

        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        pieces: list[str] = []
        length = 0
        try:
            for piece in self._template.generate(
                messages=messages, add_generation_prompt=True, bos_token=bos, eos_token=eos
            ):
                pieces.append(piece)
                length += len(piece)
                if length > MAX_PROMPT:
                    raise InferenceError(f"the chat template made more than {MAX_PROMPT} characters")
        except InferenceError:
            raise
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError,
                AttributeError) as error:  # fmt: skip
            raise InferenceError(f"the chat template cannot render this conversation: {error}") from None
        return "".join(pieces)


def _compile(source: str) -> Template:
    try:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise InferenceError(
            "templates of models need jinja2, which is not installed", hint="pip install 'zerog[inference]'"
        ) from None

    class Environment(ImmutableSandboxedEnvironment):
        """Without what could grow without bound or differ from call to call."""

        intercepted_binops = frozenset(["*", "**", "%"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if not isinstance(left, int) or not isinstance(right, int) or operator == "**":
                raise jinja2.exceptions.SecurityError(
                    f"{operator!r} is for whole numbers only here, and '**' for none"
                )
            return super().call_binop(context, operator, left, right)

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            if isinstance(obj, str | list | dict) and callable(value) and attr not in _ALLOWED_METHODS:
                return False
            return super().is_safe_attribute(obj, attr, value)

    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], autoescape=False
    )
    for name in ("range", "lipsum", "cycler", "joiner"):
        environment.globals.pop(name)
    environment.globals["raise_exception"] = _raise
    environment.filters["tojson"] = _to_json
    for name in _REMOVED_FILTERS:
        environment.filters.pop(name, None)
    try:
        return environment.from_string(source)
    except (jinja2.TemplateError, RecursionError) as error:
        raise InferenceError(f"the chat template is malformed: {error}") from None


def _raise(message: object) -> None:
    import jinja2

    raise jinja2.TemplateError(str(message))


def _to_json(value: Any, indent: int | None = None) -> str:
    """As ``transformers`` has it: without the escapes that are for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=None if indent is None else min(indent, 8))
