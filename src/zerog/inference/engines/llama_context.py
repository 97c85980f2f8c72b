"""The only module that touches cyllama: loading a model, and a context in the settings of the exact class.

Every slot has a KV stream of its own, filled from its first cell on in the order of positions. With
one cache for all, a freed cell in the middle would be used again out of order, attention would add
in another order, and the last bits of a row would depend on who was served before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zerog.errors import InferenceError
from zerog.inference.engines.row_memory import RowMemory
from zerog.inference.logits import Logits

BATCH = 32
"""Rows of a decode call; from 64 on another attention kernel would compute other bits."""
BUILD = "cyllama-0.2.18"
_SUPPORTED_VERSION = BUILD.removeprefix("cyllama-")
_FLASH_ATTENTION_ON = 1
_KV_F16 = 1
_BYTES_F16 = 2
_GUARD = 8
"""Numbers of every row that are compared with what cyllama says of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a decode call; ``wanted``: its logits are read afterwards."""

    token: int
    position: int
    slot: int
    wanted: bool


class LlamaModel:
    """Weights in memory and their vocabulary. Its methods may be called from any thread.

    Parameters
    ----------
    weights : path of a GGUF file.

    Raises
    ------
    InferenceError : no such file, or llama.cpp cannot load it.
    """

    def __init__(self, weights: Path) -> None:
        self.llama = _import_cyllama()
        self.handle = _load(self.llama, weights)
        self._vocabulary = self.handle.get_vocab()
        self.vocabulary_size: int = self._vocabulary.n_vocab
        tokens = range(self.vocabulary_size)
        self.ending = frozenset(token for token in tokens if self._vocabulary.is_eog(token))
        self._control = frozenset(token for token in tokens if self._vocabulary.is_control(token))
        self.control_texts = [self._vocabulary.get_text(token) for token in sorted(self._control)]
        self.begin: int | None = self._vocabulary.token_bos() if self._vocabulary.get_add_bos() else None
        self._pieces: dict[int, bytes] = {}
        self._byte_level = self.handle.metadata().get("tokenizer.ggml.model") == "gpt2"

    @property
    def trained_context(self) -> int:
        """Tokens that the model was trained to keep in view."""
        return int(self.handle.n_ctx_train)

    @property
    def bytes_of_a_token(self) -> int:
        """Bytes of the KV cache for one token."""
        head = self.handle.n_embd // max(1, self.handle.n_head)
        return int(2 * _BYTES_F16 * self.handle.n_layer * self.handle.n_head_kv * head)

    def frame(self) -> tuple[str, str]:
        """Texts of the tokens that begin and end a text; empty where the vocabulary has none."""
        begin, end = self._vocabulary.token_bos(), self._vocabulary.token_eos()
        return tuple(self._vocabulary.get_text(t) if t >= 0 else "" for t in (begin, end))  # type: ignore[return-value]

    def tokens_of(self, prompt: str) -> list[int]:
        """Tokens of a rendered prompt, in which control tokens are written as text."""
        tokens: list[int] = self._vocabulary.tokenize(prompt, False, True)
        return tokens

    def require_known(self, tokens: Sequence[int]) -> None:
        """Raises `InferenceError` for a token outside the vocabulary, which llama.cpp does not check."""
        for token in tokens:
            if not 0 <= token < self.vocabulary_size:
                raise InferenceError(f"token {token} is outside the vocabulary of {self.vocabulary_size}")

    def piece(self, token: int) -> bytes:
        """What a token adds to the output; nothing for a control token."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._spell(token)
        return piece

    def close(self) -> None:
        """Frees the weights; a context must be closed before."""
        self.handle.close()

    def _spell(self, token: int) -> bytes:
        if token in self._control:
            return b""
        if not self._byte_level:
            piece: str = self._vocabulary.token_to_piece(token, 0, False)
            return _byte_token(self._vocabulary.get_text(token)) or piece.encode()
        text: str = self._vocabulary.get_text(token)
        try:
            return bytes(_BYTE_OF[character] for character in text)
        except KeyError:
            return text.encode()


class LlamaContext:
    """KV cache and compute buffers of ``slots`` sequences. One thread at a time may use it.

    A model has one context at a time: how much of a row cyllama tells is a setting of the model.

    Parameters
    ----------
    model : the weights.
    slots : sequences that it keeps at a time, numbered from 0.
    length : tokens of one sequence at most.
    """

    def __init__(self, model: LlamaModel, slots: int, length: int) -> None:
        llama = model.llama
        params = llama.LlamaContextParams()
        params.n_ctx = length * slots
        params.n_batch = BATCH
        params.n_ubatch = BATCH
        params.n_seq_max = slots
        params.kv_unified = False
        params.flash_attn_type = _FLASH_ATTENTION_ON
        params.type_k = _KV_F16
        params.type_v = _KV_F16
        params.n_threads = 1
        params.n_threads_batch = 1
        try:
            self._context = llama.LlamaContext(model.handle, params, False)
        except (ValueError, RuntimeError, MemoryError) as error:
            raise InferenceError(f"llama.cpp has no room for {slots} x {length} tokens: {error}") from error
        self._batch = llama.LlamaBatch(n_tokens=BATCH, embd=0, n_seq_max=slots)
        self._size = model.vocabulary_size
        self._kind = type(model.handle)
        self._threads = 1
        self._order: dict[int, int] = {}
        self._memory: RowMemory | None = None
        self._memory = self._locate(slots)

    @property
    def reads_memory(self) -> bool:
        """Whether rows are read directly; otherwise they come as lists, with the same bits."""
        return self._memory is not None

    def decode(self, rows: Sequence[Row], threads: int = 1) -> None:
        """Computes at most `BATCH` rows.

        Parameters
        ----------
        threads : more than one keeps the bits only when all rows belong to one slot.

        Raises
        ------
        InferenceError : llama.cpp refuses; the slots hold an unknown part of the rows.
        """
        if threads != self._threads:
            self._context.set_n_threads(1, threads)
            self._threads = threads
        self._batch.clear()
        self._order.clear()
        for index, row in enumerate(rows):
            self._batch.add(row.token, row.position, [row.slot], row.wanted)
            if row.wanted:
                self._order[index] = len(self._order)
        try:
            self._context.decode(self._batch)
        except (ValueError, RuntimeError, InterruptedError) as error:
            raise InferenceError(f"llama.cpp failed: {error}") from error

    def logits(self, index: int) -> Logits:
        """The logits of row ``index`` of the last call, which wanted them."""
        if self._memory is not None:
            # To ask also makes llama.cpp put the rows into the order of the batch.
            guard = self._told(index, _GUARD)
            row = self._memory.read(self._order[index])
            if row is not None and row[:_GUARD].tobytes() == guard.tobytes():
                return row
            self._memory.close()
            self._memory = None
        return self._told(index, self._size)

    def forget(self, slot: int, position: int = 0) -> None:
        """Drops what a slot holds from ``position`` on."""
        self._context.memory_seq_rm(slot, position, -1)

    def close(self) -> None:
        """Frees everything but the model."""
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        self._batch.close()
        self._context.close()

    def _told(self, index: int, count: int) -> Logits:
        """The first ``count`` logits of a row as cyllama tells them."""
        self._kind.n_vocab = count
        return np.fromiter(self._context.get_logits_ith(index), np.float32, count)

    def _locate(self, slots: int) -> RowMemory | None:
        """Finds the rows in memory with a batch whose rows llama.cpp computes in another order."""
        last = slots - 1
        rows = [Row(1, 0, last, True), Row(2, 1, last, True)]
        rows.append(Row(3, 0, 0, True) if last else Row(3, 2, 0, True))
        self.decode(rows)
        found = RowMemory.find(self._context, [self._told(index, self._size) for index in range(len(rows))])
        for slot in {0, last}:
            self.forget(slot)
        return found


def require_engine() -> None:
    """Raises `InferenceError` when llama.cpp is not installed, or in another version."""
    _import_cyllama()


def _import_cyllama() -> Any:
    try:
        import cyllama
        from cyllama.llama import llama_cpp
    except ImportError as error:
        raise InferenceError(
            f"the embedded engine is not installed: {error}", hint="pip install 'zerog[inference]'"
        ) from None
    version = getattr(cyllama, "__version__", _SUPPORTED_VERSION)
    if version != _SUPPORTED_VERSION:
        raise InferenceError(
            f"cyllama {version} is another engine than the declared {_SUPPORTED_VERSION}",
            hint=f"pip install cyllama=={_SUPPORTED_VERSION}",
        )
    llama_cpp.disable_logging()
    return llama_cpp


def _load(llama: Any, weights: Path) -> Any:
    if not weights.is_file():
        raise InferenceError(f"there are no weights at {weights}", hint="run: zerog infer fetch")

    # cyllama 0.2.18 reads model.n_vocab in get_logits_ith, an attribute that its model class lacks:
    # so many logits of a row it returns.
    class ModelWithVocabularySize(llama.LlamaModel):  # type: ignore[misc]
        n_vocab = 0

    params = llama.LlamaModelParams()
    params.n_gpu_layers = 0
    try:
        model = ModelWithVocabularySize(str(weights), params, False)
    except (ValueError, RuntimeError, OSError) as error:
        raise InferenceError(f"llama.cpp cannot load {weights}: {error}") from error
    ModelWithVocabularySize.n_vocab = model.get_vocab().n_vocab
    return model


def _byte_token(text: str) -> bytes:
    """The byte that a SentencePiece token such as ``<0x0A>`` stands for; empty for any other."""
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return b""


def _byte_of_character() -> dict[str, int]:
    """The printable stand-ins that GPT-2's byte-level vocabulary uses, back to bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF = _byte_of_character()
