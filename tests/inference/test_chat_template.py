"""Templates of models: rendered as their makers mean it, without clock, chance or unbounded work."""

from __future__ import annotations

import pytest

from zerog.contracts.genesis import CHATML
from zerog.errors import InferenceError
from zerog.inference.chat_template import MAX_TEMPLATE, ChatTemplate
from zerog.inference.gguf import read_gguf
from zerog.inference.prompt import Turn, prompt_text, render_chatml
from zerog.inference.weights import SMOLLM2, fetch

HELLO = [Turn("user", "Hello")]


def _failure(source: str, turns=HELLO) -> str:
    with pytest.raises(InferenceError) as caught:
        ChatTemplate(source).render(turns)
    return caught.value.message


def test_bare_chatml_through_jinja_is_the_builtin_rendering():
    turns = [Turn("system", "Be brief.\n"), Turn("user", "  {{ 1 }} <b>&"), Turn("assistant", "x")]
    assert ChatTemplate(CHATML).render(turns) == render_chatml(turns, [])


def test_the_template_of_the_built_in_file_adds_its_system_turn():
    template = read_gguf(fetch(SMOLLM2)).chat_template
    assert template is not None
    assert ChatTemplate(template).render(HELLO) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_begin_and_end_tokens_are_known_to_a_template():
    source = "{{ bos_token }}{% for m in messages %}[{{ m.content | trim }}]{{ eos_token }}{% endfor %}"
    assert ChatTemplate(source).render(HELLO, bos="<s>", eos="</s>") == "<s>[Hello]</s>"


def test_a_template_can_refuse_a_conversation():
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}ok"
    assert "no system turn" in _failure(source, [Turn("system", "x")])
    assert ChatTemplate(source).render(HELLO) == "ok"


def test_a_template_that_asks_for_the_day_goes_on_without_or_is_refused():
    asks = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}no date{% endif %}"
    assert ChatTemplate(asks).render(HELLO) == "no date"
    assert "strftime_now" in _failure("{{ strftime_now('%Y') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append({'role': 'user'}) }}",
        "{{ raise_exception.__globals__['os'] }}",
        "{% include '/etc/passwd' %}",
        "{{ lipsum() }}",
        "{{ messages | random }}",
        "{{ range(10) }}",
        "{{ 'x' * 1000000000 }}",
        "{{ 2 ** 1000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ 'x'.zfill(1000000000) }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ messages[7].content }}",
        "{{ 1 / 0 }}",
    ],
)
def test_what_a_template_must_not_do_is_an_error(source):
    assert _failure(source)


def test_a_malformed_template_is_refused_before_it_is_used():
    with pytest.raises(InferenceError, match="the chat template is malformed"):
        ChatTemplate("{% for x in %}")


def test_a_template_that_is_too_long_is_refused():
    with pytest.raises(InferenceError, match=f"more than {MAX_TEMPLATE} bytes"):
        ChatTemplate("x" * (MAX_TEMPLATE + 1))


def test_a_prompt_that_grows_too_long_is_cut_short_by_an_error():
    source = "{% for a in messages %}{% for b in messages %}{{ a.content }}{% endfor %}{% endfor %}"
    assert "more than 1048576 characters" in _failure(source, [Turn("user", "x" * 1000)] * 64)


def test_control_tokens_are_refused_before_a_template_sees_them():
    with pytest.raises(InferenceError, match="control token '<end>'"):
        prompt_text(b"hi <end>", ["<end>"], lambda turns: "never")


def test_a_completion_needs_no_template():
    assert prompt_text(b'{"prompt": "Once"}', [], lambda turns: "never") == "Once"
