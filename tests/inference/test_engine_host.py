"""One engine for all services of a node."""

from __future__ import annotations

import threading

import pytest

from zerog.chain.keys import random_key
from zerog.errors import InferenceError
from zerog.inference.engine_host import EngineHost

from .conftest import DOMAIN

PATIENCE = 60.0


class Counted:
    """A loader that counts, and gives the session's engine after failing as often as it is told."""

    def __init__(self, engine, failures=0):
        self.engine = engine
        self.failures = failures
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise InferenceError("the weights are on a disk that is away")
        return self.engine


def host_of(load) -> EngineHost:
    return EngineHost(load, random_key, lambda: (DOMAIN, bytes(20)))


def test_nothing_is_loaded_before_somebody_asks(engine):
    load = Counted(engine)
    assert host_of(load).loaded is None
    assert load.calls == 0


def test_callers_at_the_same_time_share_one_engine(engine):
    load = Counted(engine)
    host = host_of(load)
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(host.signatory())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert load.calls == 1
    assert len(seen) == 4
    assert all(signatory is seen[0] for signatory in seen)
    assert host.loaded is seen[0]


def test_a_failed_load_is_tried_again_by_the_next_caller(engine):
    load = Counted(engine, failures=1)
    host = host_of(load)
    with pytest.raises(InferenceError, match="a disk that is away"):
        host.signatory()
    assert host.signatory().engine is engine
