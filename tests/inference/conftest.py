"""The embedded model, loaded once, and answers signed with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zerog.client import Account
from zerog.contracts import INFERENCE_REGISTRY
from zerog.inference.answer import Domain, Inquiry, Signatory, sampling
from zerog.inference.engines.llama_cpp import LlamaCppEngine
from zerog.inference.transcript import SignedTranscript
from zerog.inference.weights import SMOLLM2, fetch

DATA = Path(__file__).parents[1] / "data" / "inference"
DOMAIN = Domain(31337, bytes.fromhex(INFERENCE_REGISTRY[2:]))
NOW = 1_767_225_600


@pytest.fixture(scope="session")
def vectors() -> Any:
    """Structs, digests and signatures that several libraries agree on."""
    return msgspec.json.decode((DATA / "receipts.json").read_bytes())


@pytest.fixture(scope="session")
def reference() -> Any:
    """The reference inference with its hashes."""
    return msgspec.json.decode((DATA / "reference_inference.json").read_bytes())


@pytest.fixture(scope="session")
def engine() -> Iterator[LlamaCppEngine]:
    """The embedded engine."""
    loaded = LlamaCppEngine(fetch(SMOLLM2))
    yield loaded
    loaded.close()


@pytest.fixture(scope="session")
def signatory(engine: LlamaCppEngine) -> Signatory:
    """The engine with a signing key of its own."""
    account = Account.random()
    return Signatory(engine, account.key, bytes.fromhex(account.address[2:]), DOMAIN)


@pytest.fixture(scope="session")
def transcript(signatory: Signatory) -> SignedTranscript:
    """A signed answer to a short question."""
    inquiry = Inquiry(bytes(31) + b"\x01", bytes(20), b"Name a colour.", sampling(12))
    answer = signatory.answer(inquiry, NOW)
    return signatory.signed_transcript(answer)
