"""OpenAI's official clients, unmodified, against `zerog up`: the Python package and the one from npm."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import CLIENTS, Node

openai = pytest.importorskip("openai")
pytestmark = pytest.mark.conformance

MODEL = "SmolLM2-135M-Instruct"
EMBEDDER = "all-MiniLM-L6-v2"
MESSAGES = [{"role": "user", "content": "Name a colour."}]
CHECKS = re.findall(r"^  (\w+): async \(\) =>", (CLIENTS / "openai.mjs").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def serving() -> Iterator[Node]:
    running = Node(chain_only=False)
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def client(serving: Node) -> Any:
    return openai.OpenAI(base_url=f"{serving.url}/v1", api_key="unused", max_retries=0, timeout=120)


@pytest.fixture(scope="module")
def results(serving: Node, clients: Path) -> dict[str, dict[str, object]]:
    """The script runs once; check name → its line."""
    if not (clients / "node_modules" / "openai").is_dir():
        pytest.skip("the npm client is not installed: run `make setup-test`")
    done = subprocess.run(
        ["node", "openai.mjs", serving.url],
        cwd=clients,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert not done.stderr, done.stderr
    return {line["check"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("check", CHECKS)
def test_npm_client_check_passes(check: str, results: dict[str, dict[str, object]]) -> None:
    assert check in results, "the script ended before this check"
    assert results[check]["ok"], results[check]["error"]


def test_a_chat_carries_its_receipt(client: Any) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8)
    assert answer.choices[0].message.content
    assert answer.zerog["receipt"]["outputTokens"] == answer.usage.completion_tokens


def test_a_stream_tells_the_text_of_the_whole_answer(client: Any) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8)
    chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[-1].zerog["receipt"]["traceRoot"] == whole.zerog["receipt"]["traceRoot"]


def test_a_completion_has_log_probabilities(client: Any) -> None:
    answer = client.completions.create(model=MODEL, prompt="One, two,", max_tokens=3, logprobs=2)
    assert len(answer.choices[0].logprobs.token_logprobs) == 3


def test_vectors_come_as_floats_and_in_base64(client: Any) -> None:
    plain = client.embeddings.create(model=EMBEDDER, input=["A cat.", "A dog."], encoding_format="float")
    coded = client.embeddings.create(model=EMBEDDER, input=["A cat.", "A dog."])
    assert [len(entry.embedding) for entry in plain.data] == [384, 384]
    assert [entry.embedding for entry in plain.data] == [entry.embedding for entry in coded.data]
    assert plain.zerog["receipt"]["outputTokens"] == 2


def test_models_are_listed_and_found(client: Any) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, EMBEDDER]
    assert client.models.retrieve(MODEL).zerog["class"] == "exact"


@pytest.mark.parametrize(
    ("kind", "code", "members"),
    [
        (openai.NotFoundError, "model_not_found", {"model": "gpt-9"}),
        (openai.BadRequestError, "unsupported_parameter", {"n": 2}),
        (openai.BadRequestError, "invalid_value", {"temperature": 3}),
        (
            openai.BadRequestError,
            "context_length_exceeded",
            {"messages": [{"role": "user", "content": "word " * 3000}]},
        ),
        (
            openai.APIStatusError,
            "request_too_large",
            {"messages": [{"role": "user", "content": "w" * 40_000}]},
        ),
    ],
)
def test_errors_are_the_exceptions_of_the_client(
    client: Any, kind: type[Exception], code: str, members: dict[str, Any]
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**({"model": MODEL, "messages": MESSAGES} | members))
    assert caught.value.code == code  # type: ignore[attr-defined]
