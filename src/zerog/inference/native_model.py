"""Models so small that every validator runs them: multilayer perceptrons in integers (tier NATIVE).

The same function as the contract ``NativeClassifier`` evaluates; the two are compared by test. A weights file is its
own identity: the contract computes the storage root of the bytes that it holds, and the model id from that root.

::

    model = IntegerMlp((Layer(weights=((3, -2), (-1, 4)), biases=(0, 5), shift=1),))
    label, scores = model.evaluate([10, 20])
    output = encode_output(label, scores)          # keccak256 of it is the receipt's outputHash

Numbers: weights 8 bits, biases 32 bits, inputs 16 bits, all signed. A layer computes ``(bias + weights x input) >> shift``
rounding down, and all but the last replace negative values by zero. File format, version 1: see `IntegerMlp.encode`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError
from zerog.storage.layout import SECTOR

VERSION = 1
QUANTISATION = "int8-mlp-v1"
MAX_LAYERS = 4
MAX_WIDTH = 255
MAX_SHIFT = 31
MAX_SIZE = 16_384
"""Bytes of a weights file."""


@dataclass(frozen=True, slots=True)
class Layer:
    """``weights`` has one row per output; ``biases`` one value per output; ``shift`` is in bits."""

    weights: tuple[tuple[int, ...], ...]
    biases: tuple[int, ...]
    shift: int


@dataclass(frozen=True, slots=True)
class IntegerMlp:
    """A perceptron; raises `InferenceError` when its numbers do not fit the format."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise InferenceError(
                f"an integer perceptron has 1 to {MAX_LAYERS} layers, this one has {len(self.layers)}"
            )
        width = self.inputs
        for number, layer in enumerate(self.layers):
            _check_layer(number, layer, width)
            width = len(layer.weights)
        if len(self.encode()) > MAX_SIZE:
            raise InferenceError(f"the weights file has {len(self.encode())} bytes, more than {MAX_SIZE}")

    @property
    def inputs(self) -> int:
        """Number of input values."""
        rows = self.layers[0].weights
        return len(rows[0]) if rows else 0

    def encode(self) -> bytes:
        """The weights file.

        Big-endian: version, number of layers ``L``, ``L + 1`` widths and ``L`` shifts, one byte each; then for each
        layer its weights row by row and its biases, four bytes each; zeros up to 256 bytes times a power of two.
        """
        widths = [self.inputs, *(len(layer.weights) for layer in self.layers)]
        parts = [bytes([VERSION, len(self.layers), *widths, *(layer.shift for layer in self.layers)])]
        for layer in self.layers:
            parts += [struct.pack(f">{len(row)}b", *row) for row in layer.weights]
            parts.append(struct.pack(f">{len(layer.biases)}i", *layer.biases))
        data = b"".join(parts)
        sectors = -(-len(data) // SECTOR)
        return data.ljust(SECTOR << (sectors - 1).bit_length(), b"\0")

    @classmethod
    def decode(cls, data: bytes) -> IntegerMlp:
        """Reads a weights file; raises `InferenceError` for anything that `encode` does not write."""
        if len(data) > MAX_SIZE:
            raise InferenceError(f"a weights file has at most {MAX_SIZE} bytes, not {len(data)}")
        try:
            model = cls(_layers(data))
        except (struct.error, IndexError):
            raise InferenceError("the weights file ends before its last layer") from None
        if model.encode() != data:
            raise InferenceError("the weights file is not in its one canonical form")
        return model

    def weights_root(self) -> bytes:
        """Storage root of the weights file."""
        nodes = [keccak256(data) for data in _sectors(self.encode())]
        while len(nodes) > 1:
            nodes = [keccak256(left + right) for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
        return nodes[0]

    def model_id(self) -> bytes:
        """Identity of the model: specification of Proof-of-Inference, section 1."""
        return keccak256(self.weights_root() + bytes(64) + keccak256(QUANTISATION.encode("ascii")))

    def evaluate(self, values: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        """Label (lowest index of the highest score) and scores; raises `InferenceError` for a wrong input."""
        if len(values) != self.inputs:
            raise InferenceError(f"the model takes {self.inputs} values, not {len(values)}")
        for index, value in enumerate(values):
            if not -(1 << 15) <= value < 1 << 15:
                raise InferenceError(f"input {index} is {value}, which does not fit 16 bits")
        for number, layer in enumerate(self.layers):
            sums = [
                (bias + sum(w * v for w, v in zip(row, values, strict=True))) >> layer.shift
                for row, bias in zip(layer.weights, layer.biases, strict=True)
            ]
            values = sums if number + 1 == len(self.layers) else [max(0, value) for value in sums]
        scores = tuple(values)
        return scores.index(max(scores)), scores


def encode_input(values: Sequence[int]) -> bytes:
    """Input bytes of a native model: ``abi.encode(int256[])``."""
    return b"".join([_word(32), _word(len(values)), *map(_word, values)])


def encode_output(label: int, scores: Sequence[int]) -> bytes:
    """Output bytes of a native model: ``abi.encode(uint256, int256[])``."""
    return b"".join([_word(label), _word(64), _word(len(scores)), *map(_word, scores)])


def _word(value: int) -> bytes:
    return value.to_bytes(32, signed=True)


def _sectors(data: bytes) -> list[bytes]:
    return [data[start : start + SECTOR] for start in range(0, len(data), SECTOR)]


def _layers(data: bytes) -> tuple[Layer, ...]:
    version, count = data[0], data[1]
    if version != VERSION or not 1 <= count <= MAX_LAYERS:
        raise InferenceError(f"version {version} with {count} layers is no weights file of version {VERSION}")
    widths, shifts = data[2 : 3 + count], data[3 + count : 3 + 2 * count]
    position = 3 + 2 * count
    layers: list[Layer] = []
    for inputs, width, shift in zip(widths, widths[1:], shifts, strict=False):
        rows: list[tuple[int, ...]] = []
        for _ in range(width):
            rows.append(struct.unpack_from(f">{inputs}b", data, position))
            position += inputs
        layers.append(Layer(tuple(rows), struct.unpack_from(f">{width}i", data, position), shift))
        position += 4 * width
    return tuple(layers)


def _check_layer(number: int, layer: Layer, inputs: int) -> None:
    width = len(layer.weights)
    if not (1 <= width <= MAX_WIDTH and 1 <= inputs <= MAX_WIDTH):
        raise InferenceError(f"layer {number} is {width} x {inputs}; each side has 1 to {MAX_WIDTH}")
    if len(layer.biases) != width or any(len(row) != inputs for row in layer.weights):
        raise InferenceError(f"layer {number} does not have {width} rows of {inputs} weights and a bias each")
    if not 0 <= layer.shift <= MAX_SHIFT:
        raise InferenceError(f"the shift of layer {number} is {layer.shift}, not 0 to {MAX_SHIFT}")
    if any(not -128 <= weight <= 127 for row in layer.weights for weight in row):
        raise InferenceError(f"a weight of layer {number} does not fit 8 bits")
    if any(not -(1 << 31) <= bias < 1 << 31 for bias in layer.biases):
        raise InferenceError(f"a bias of layer {number} does not fit 32 bits")
