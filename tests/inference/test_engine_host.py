"""One engine for all services of a node."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from zerog.chain.keys import random_key
from zerog.errors import InferenceError
from zerog.inference.engine_host import EngineHost, ModelHosts, Served
from zerog.inference.engines import DeterminismClass
from zerog.inference.models import DEFAULT_MODEL, id_of

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


class Small:
    """An engine that passes for any; tells whether it was closed."""

    description = "small"
    determinism = DeterminismClass.EXACT

    def __init__(self, model):
        self.model, self.model_id = model, id_of(model)
        self.closed = False

    def self_test(self):
        pass

    def close(self):
        self.closed = True

    def interrupt(self):
        pass


MODELS = [
    DEFAULT_MODEL,
    *(replace(DEFAULT_MODEL, name=name, weights_root="0x" + name * 64) for name in ("a", "b", "c")),
]


@pytest.fixture
def several():
    """Hosts of four models, two of which may be in memory, and the engines that were made."""
    made: dict[str, list[Small]] = {model.name: [] for model in MODELS}

    def loader(model):
        def load():
            made[model.name].append(Small(model))
            return made[model.name][-1]

        return load

    hosts = [
        EngineHost(
            loader(model), random_key, lambda: (DOMAIN, bytes(20)),
            Served(model, "small", DeterminismClass.EXACT),
        )
        for model in MODELS
    ]  # fmt: skip
    return ModelHosts(hosts, most=2), made


def use(host):
    with host.lease():
        return host.signatory().engine


def test_a_model_is_found_by_name_and_by_id(several):
    hosts, _ = several
    for model in MODELS:
        for wanted in (model.name, id_of(model), "0x" + id_of(model).hex()):
            found = hosts.find(wanted)
            assert found is not None
            assert found.served.model == model
    assert hosts.find("nobody") is None


def test_the_model_idle_longest_gives_way(several):
    hosts, made = several
    first, second, third = (hosts.find(name) for name in "abc")
    use(first)
    use(second)
    use(first)
    use(third)
    assert [engine.closed for engine in made["b"]] == [True]
    assert [engine.closed for engine in made["a"]] == [False]
    assert second.loaded is None


def test_a_model_that_gave_way_is_loaded_again(several):
    hosts, made = several
    for name in "abca":
        use(hosts.find(name))
    assert [engine.closed for engine in made["a"]] == [True, False]


def test_the_default_model_and_a_pinned_one_never_give_way(several):
    hosts, made = several
    use(hosts.default)
    pinned = hosts.find("a")
    use(pinned)
    pinned.pin()
    with pytest.raises(InferenceError, match="2 models are in memory and busy, the limit is 2"):
        use(hosts.find("b"))
    assert made["b"] == []


def test_a_model_in_use_does_not_give_way(several):
    hosts, made = several
    use(hosts.find("a"))
    with hosts.find("b").lease():
        hosts.find("b").signatory()
        use(hosts.find("c"))
        with hosts.find("c").lease(), pytest.raises(InferenceError, match="in memory and busy"):
            use(hosts.find("a"))
    assert [engine.closed for engine in made["b"]] == [False]
    use(hosts.find("a"))


def test_a_load_that_fails_leaves_its_room(several):
    hosts, _ = several

    def fail():
        raise InferenceError("the disk is away")

    broken = EngineHost(
        fail, random_key, lambda: (DOMAIN, bytes(20)), Served(MODELS[1], "x", DeterminismClass.EXACT)
    )
    both = ModelHosts([hosts.default, broken], most=1)
    with pytest.raises(InferenceError, match="the disk is away"):
        broken.signatory()
    use(both.default)
