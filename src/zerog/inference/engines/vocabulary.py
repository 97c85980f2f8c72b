"""The vocabulary inside a GGUF file: what an engine for a foreign server needs of a model."""

from __future__ import annotations

from pathlib import Path

from zerog.errors import InferenceError


class GgufVocabulary:
    """Tokens of a model of the byte-level kind (GPT-2's), which SmolLM2, Llama 3 and Qwen use.

    Parameters
    ----------
    path : GGUF file.

    Raises
    ------
    InferenceError : llama.cpp is not installed, cannot read the file, or the vocabulary is of another kind.
    """

    def __init__(self, path: Path) -> None:
        try:
            from cyllama.llama import llama_cpp
        except ImportError as error:
            raise InferenceError(
                f"reading a vocabulary needs llama.cpp: {error}", hint="pip install 'zerog[inference]'"
            ) from None
        llama_cpp.disable_logging()
        params = llama_cpp.LlamaModelParams()
        # Not vocab_only: cyllama 0.2.18 aborts the process with it. The weights are only mapped, not read.
        params.n_gpu_layers = 0
        try:
            self._model = llama_cpp.LlamaModel(str(path), params, False)
        except (ValueError, RuntimeError, OSError) as error:
            raise InferenceError(f"llama.cpp cannot read the vocabulary of {path}: {error}") from error
        kind = self._model.metadata().get("tokenizer.ggml.model")
        if kind != "gpt2":
            raise InferenceError(f"the vocabulary of {path} is of the kind {kind!r}, known is 'gpt2'")
        self._tokens = self._model.get_vocab()
        self.vocabulary_size: int = self._tokens.n_vocab
        every = range(self.vocabulary_size)
        self.ending = frozenset(token for token in every if self._tokens.is_eog(token))
        self._control = frozenset(token for token in every if self._tokens.is_control(token))
        self.control_texts = [self._tokens.get_text(token) for token in sorted(self._control)]
        self._bytes = _byte_of_character()

    def piece(self, token: int) -> bytes:
        """What a token adds to the output; nothing for a control token."""
        if token in self._control:
            return b""
        text: str = self._tokens.get_text(token)
        try:
            return bytes(self._bytes[character] for character in text)
        except KeyError:
            return text.encode()

    def tokens_of(self, prompt: str) -> list[int]:
        """Tokens of a text, in which control tokens are written as text."""
        tokens: list[int] = self._tokens.tokenize(prompt, False, True)
        return tokens


def _byte_of_character() -> dict[str, int]:
    """The printable stand-ins of the byte-level vocabulary, back to bytes."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}
