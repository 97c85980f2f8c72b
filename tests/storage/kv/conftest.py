from __future__ import annotations

from collections.abc import Iterator

import pytest

from zerog.storage.kv.replay import Replay
from zerog.storage.kv.store import KvStore

from .flow import MemoryFlow


@pytest.fixture
def flow() -> MemoryFlow:
    return MemoryFlow()


@pytest.fixture
def store() -> Iterator[KvStore]:
    opened = KvStore(None)
    yield opened
    opened.close()


@pytest.fixture
def replay(flow: MemoryFlow, store: KvStore) -> Replay:
    return Replay(flow, store, flow.read_chunks)
