"""The engines of a node: one per model, loaded when somebody first needs it, shared by all services.

::

    host = EngineHost(embedded, key, standing)
    host.signatory()        # loads the model and runs the self-test; afterwards at once

    hosts = ModelHosts([host, *others], most=2)
    host = hosts.find("my-model")
    with host.lease():
        host.signatory().engine.generate(...)

Loading costs a second and memory, so that a node which nobody asks never pays for it, and only a bounded
number of models is in memory: the one that was idle longest gives way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerog.errors import InferenceError

if TYPE_CHECKING:
    from zerog.inference.answer import Domain, Signatory
    from zerog.inference.engines import DeterminismClass, Engine
    from zerog.inference.models import ModelIdentity


@dataclass(frozen=True, slots=True)
class Served:
    """What a node serves: model, engine, and how receipts of it can be compared.

    ``engine`` is the description that the engine id hashes.
    """

    model: ModelIdentity
    engine: str
    determinism: DeterminismClass


class EngineHost:
    """See the module's docstring. Any thread may use it, but an event loop's only for `loaded`.

    Parameters
    ----------
    load : gives the engine; may take seconds.
    key : gives the signing key of the receipts, 32 bytes; called at the first use.
    standing : gives where the receipts count, and the 20-byte address whose stake is behind them.
    announced : what ``load`` will give, for whoever asks before it is loaded.
    """

    def __init__(
        self,
        load: Callable[[], Engine],
        key: Callable[[], bytes],
        standing: Callable[[], tuple[Domain, bytes]],
        announced: Served | None = None,
    ) -> None:
        self._load = load
        self._key = key
        self._standing = standing
        self._announced = announced
        self._lock = threading.Lock()
        self._signatory: Signatory | None = None
        self._counting = threading.Lock()
        self._users = 0
        self._pinned = False
        self.room: Callable[[EngineHost], AbstractContextManager[None]] = lambda host: nullcontext()
        """Held while the engine is loaded; entering raises `InferenceError` when there is no room for it."""
        self.last_used = 0.0
        """Monotonic seconds."""

    def beside(self, load: Callable[[], Engine], announced: Served) -> EngineHost:
        """A host for another engine whose receipts carry the same key and stake."""
        return EngineHost(load, self._key, self._standing, announced)

    @property
    def loaded(self) -> Signatory | None:
        """Engine and key if they are ready now."""
        return self._signatory

    @property
    def served(self) -> Served:
        """Which model answers; known without loading it."""
        if (running := self._signatory) is not None:
            engine = running.engine
            return Served(engine.model, engine.description, engine.determinism)
        if self._announced is not None:
            return self._announced
        from zerog.contracts import ENGINES
        from zerog.inference.engines import DeterminismClass
        from zerog.inference.models import DEFAULT_MODEL

        return Served(DEFAULT_MODEL, ENGINES[0].name, DeterminismClass.EXACT)

    def signatory(self) -> Signatory:
        """Engine and key; the first call loads them, and a call that failed is followed by a new attempt.

        Raises
        ------
        InferenceError : there are no weights, the engine is not installed, or it fails its self-test.
        """
        from zerog.inference.answer import Signatory

        with self._lock:
            if self._signatory is None:
                domain, provider = self._standing()
                key = self._key()
                with self.room(self):
                    engine = self._load()
                    try:
                        self._signatory = Signatory(engine, key, provider, domain)
                    except BaseException:
                        engine.close()
                        raise
            return self._signatory

    @contextmanager
    def lease(self) -> Iterator[None]:
        """While it is held, the engine is not unloaded to make room for another."""
        with self._counting:
            self._users += 1
        try:
            yield
        finally:
            with self._counting:
                self._users -= 1
                self.last_used = time.monotonic()

    def pin(self) -> None:
        """Keeps the engine for good once it is loaded."""
        self._pinned = True

    def unload(self) -> bool:
        """Frees the engine unless somebody uses it; whether it did."""
        with self._counting:
            running = self._signatory
            if running is None or self._pinned or self._users:
                return False
            self._signatory = None
        running.engine.close()
        return True

    def interrupt(self) -> None:
        """Ends running generations with an error; a later `signatory` loads the engine again."""
        # Without the lock: whoever ends a node does not wait until a model is loaded.
        running, self._signatory = self._signatory, None
        if running is not None:
            running.engine.interrupt()


class ModelHosts:
    """One `EngineHost` per model; the first is the default and stays once it is loaded.

    Parameters
    ----------
    hosts : by model, the default first.
    most : models that may be in memory at a time.
    """

    def __init__(self, hosts: Sequence[EngineHost], most: int = 4) -> None:
        self._hosts = tuple(hosts)
        self._most = most
        self._making_room = threading.Lock()
        self._loading: set[EngineHost] = set()
        self.default.pin()
        for host in self._hosts:
            host.room = self._room

    @property
    def default(self) -> EngineHost:
        """The host of the model that answers when none is named."""
        return self._hosts[0]

    def __iter__(self) -> Iterator[EngineHost]:
        return iter(self._hosts)

    def find(self, wanted: str | bytes) -> EngineHost | None:
        """The host of a model, by its name or model id (0x-hexadecimal, or 32 bytes)."""
        from zerog.inference.models import id_of

        for host in self._hosts:
            model = host.served.model
            identity = id_of(model)
            if wanted in (model.name, identity, "0x" + identity.hex()):
                return host
        return None

    def interrupt(self) -> None:
        """Ends what runs in all of them."""
        for host in self._hosts:
            host.interrupt()

    @contextmanager
    def _room(self, wanted: EngineHost) -> Iterator[None]:
        with self._making_room:
            self._make_room(wanted)
            self._loading.add(wanted)
        try:
            yield
        finally:
            self._loading.discard(wanted)

    def _make_room(self, wanted: EngineHost) -> None:
        others = [
            host
            for host in self._hosts
            if host is not wanted and (host.loaded is not None or host in self._loading)
        ]
        for host in sorted(others, key=lambda host: host.last_used):
            if len(others) < self._most:
                return
            if host.unload():
                others.remove(host)
        if len(others) >= self._most:
            raise InferenceError(
                f"{len(others)} models are in memory and busy, the limit is {self._most}",
                hint="try again later, or raise inference.max_loaded",
            )


def as_hosts(host: EngineHost | ModelHosts) -> ModelHosts:
    """One host counts as a node with one model."""
    return host if isinstance(host, ModelHosts) else ModelHosts([host])


def added(name: str) -> tuple[Served, Callable[[], Engine]]:
    """What a model of this machine's store is, and how it is loaded.

    Raises
    ------
    InferenceError : there is no such model, or its answers may not be signed.
    """
    from zerog.contracts import ENGINES
    from zerog.inference.engines import DeterminismClass
    from zerog.inference.model_store import ModelStore

    model = ModelStore().find(name)
    engine = ENGINES[0].name
    if model.built_in:
        return Served(model.model, engine, DeterminismClass.EXACT), embedded
    tested = model.self_test
    if tested is None or not tested.passed:
        hint = f"run: zerog models test {model.name}" if tested is None else None
        raise InferenceError(f"{model.name} is not signable: {model.standing}", hint=hint)
    if tested.engine != engine:
        raise InferenceError(
            f"{model.name} was tested with another engine, {tested.engine}",
            hint=f"run: zerog models test {model.name}",
        )

    def load() -> Engine:
        from zerog.inference.engines.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(ModelStore().weights(model), model.model)

    return Served(model.model, engine, DeterminismClass.EXACT), load


def embedded() -> Engine:
    """The embedded model.

    Raises
    ------
    InferenceError : its weights are not on this machine; nothing is downloaded behind a user's back.
    """
    from zerog.inference.weights import SMOLLM2, fetch, find

    if find(SMOLLM2) is None:
        raise InferenceError(f"{SMOLLM2.name} is not on this machine", hint="run: zerog infer fetch")
    from zerog.inference.engines.llama_cpp import LlamaCppEngine

    return LlamaCppEngine(fetch(SMOLLM2))


def embeddings() -> Engine:
    """The embedding model.

    Raises
    ------
    InferenceError : its files are not on this machine; nothing is downloaded behind a user's back.
    """
    from zerog.inference.weights import MINILM, MINILM_TOKENIZER, find

    for wanted in (MINILM, MINILM_TOKENIZER):
        if find(wanted) is None:
            raise InferenceError(
                f"{wanted.name} is not on this machine", hint="run: zerog infer fetch --embeddings"
            )
    from zerog.inference.engines.onnx import OnnxEngine, minilm

    return OnnxEngine(minilm())


def engine_like(description: str, model_id: bytes | None = None) -> Engine:
    """The engine of this machine that checks answers of the engine with that description.

    Parameters
    ----------
    model_id : the model that answered. If it is not on this machine, the embedded one is given: it can
        only say that it is another.

    Raises
    ------
    InferenceError : as `embedded`, `embeddings` and `added`.
    """
    from zerog.inference.verification import is_vector

    if is_vector(description):
        return embeddings()
    if model_id is not None and is_added(model_id):
        _, load = added("0x" + model_id.hex())
        return load()
    return embedded()


def is_added(model_id: bytes) -> bool:
    """Whether a model was added to this machine's store."""
    from zerog.inference.model_store import ModelStore

    return any(model.model_id == "0x" + model_id.hex() for model in ModelStore().list() if not model.built_in)
