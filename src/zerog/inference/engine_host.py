"""The one engine of a node: loaded when somebody first needs it, checked once, shared by all services.

::

    host = EngineHost(embedded, key, standing)
    host.signatory()        # loads the model and runs the self-test; afterwards at once

Loading costs a second and memory, so that a node which nobody asks never pays for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
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
                engine = self._load()
                try:
                    self._signatory = Signatory(engine, key, provider, domain)
                except BaseException:
                    engine.close()
                    raise
            return self._signatory

    def interrupt(self) -> None:
        """Ends running generations with an error; a later `signatory` loads the engine again."""
        # Without the lock: whoever ends a node does not wait until a model is loaded.
        running, self._signatory = self._signatory, None
        if running is not None:
            running.engine.interrupt()


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


def engine_like(description: str) -> Engine:
    """The engine of this machine that checks answers of the engine with that description.

    Raises
    ------
    InferenceError : as `embedded` and `embeddings`.
    """
    from zerog.inference.verification import is_vector

    return embeddings() if is_vector(description) else embedded()
