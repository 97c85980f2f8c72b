"""The model server of others that a node or a command answers through: from settings to an engine.

The server must run the model whose identity the receipts name, the embedded one: its weights are on this
machine, too, since its vocabulary is needed to check what the server says. A server that runs anything else
is found by the verifiers, and costs the stake.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zerog.errors import InferenceError
from zerog.inference.models import DEFAULT_MODEL

if TYPE_CHECKING:
    from zerog.inference.engines.openai_compatible import OpenAICompatibleEngine

UNCONNECTED = "openai-compatible/not-connected"
"""What is announced before the server was asked what it is; nothing is ever signed under this description."""


def connect(url: str, served: str, key_file: Path | None = None) -> OpenAICompatibleEngine:
    """The engine of a server that runs the embedded model under the name ``served``.

    Raises
    ------
    ConfigError : the URL or the key cannot be used.
    UpstreamError : the server does not answer a request for one token as it should.
    InferenceError : the model's weights are not on this machine.
    """
    from zerog.inference.engines.openai_compatible import OpenAICompatibleEngine
    from zerog.inference.engines.upstream_http import endpoint, key_of
    from zerog.inference.engines.vocabulary import GgufVocabulary
    from zerog.inference.weights import SMOLLM2, fetch, find

    target = endpoint(url, key_of(file=key_file))
    if find(SMOLLM2) is None:
        raise InferenceError(f"{SMOLLM2.name} is not on this machine", hint="run: zerog infer fetch")
    vocabulary = GgufVocabulary(fetch(SMOLLM2))
    return OpenAICompatibleEngine(target, served, DEFAULT_MODEL, vocabulary=vocabulary)
