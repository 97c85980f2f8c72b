"""`NativeClassifier` computes what its Python twin computes, from weights whose root is its identity."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerog import _native
from zerog.inference.native_model import IntegerMlp, Layer, encode_input, encode_output


def perceptron(seed: int, *widths: int, shift: int = 6) -> IntegerMlp:
    """Random weights, the same for the same seed."""
    draw = random.Random(seed)
    return IntegerMlp(
        tuple(
            Layer(
                tuple(tuple(draw.randint(-128, 127) for _ in range(inputs)) for _ in range(width)),
                tuple(draw.randint(-(1 << 20), 1 << 20) for _ in range(width)),
                shift,
            )
            for inputs, width in pairwise(widths)
        )
    )


SMALL = perceptron(1, 4, 8, 3)
EXTREME = IntegerMlp(
    (
        Layer(((-128,) * 3, (127,) * 3), (-(1 << 31), (1 << 31) - 1), 0),
        Layer(((127, -128), (-128, 127)), (1, -1), 31),
    )
)


def evaluated(contract, values) -> tuple[int, tuple[int, ...]]:
    output = contract.evaluate(encode_input(values))
    words = [int.from_bytes(output[i : i + 32], signed=True) for i in range(0, len(output), 32)]
    assert output == encode_output(words[0], words[3:])
    return words[0], tuple(words[3:])


@pytest.mark.parametrize(
    "model", [SMALL, EXTREME, perceptron(2, 16, 32, 16, 10), perceptron(3, 2, 1, 1, 2, 2)]
)
@pytest.mark.parametrize("draw", range(4))
def test_contract_and_twin_agree(world, model, draw):
    contract = world.deploy("NativeClassifier", model.encode())
    source = random.Random(draw)
    inputs = [source.choice((-32768, 32767, source.randint(-32768, 32767))) for _ in range(model.inputs)]
    assert evaluated(contract, inputs) == model.evaluate(inputs)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(st.integers(-32768, 32767), min_size=3, max_size=3))
def test_contract_and_twin_agree_on_any_input_at_the_extremes(world, values):
    contract = world.deploy("NativeClassifier", EXTREME.encode())
    assert evaluated(contract, values) == EXTREME.evaluate(values)


def test_an_equal_score_goes_to_the_lowest_label(world):
    model = IntegerMlp((Layer(((1,), (1,), (2,)), (0, 0, 0), 0),))
    contract = world.deploy("NativeClassifier", model.encode())
    assert evaluated(contract, [-1]) == (0, (-1, -1, -2))


@pytest.mark.parametrize("widths", [(4, 8, 3), (40, 30, 10), (200, 60, 5)])
def test_the_identity_is_the_storage_root_of_the_weights(world, widths):
    model = perceptron(4, *widths)
    contract = world.deploy("NativeClassifier", model.encode())
    assert contract.weightsRoot() == model.weights_root() == _native.merkle_root(model.encode())
    assert contract.modelId() == model.model_id()
    assert world.client.code(contract.weightsAt()) == b"\0" + model.encode()


@pytest.mark.parametrize("size", [0, 128, 255, 257, 768, 32_768])
def test_weights_of_another_size_are_refused(world, reverts, size):
    with reverts(f"WeightsSizeInvalid(size={size})"):
        world.deploy("NativeClassifier", SMALL.encode()[: min(1, size)].ljust(size, b"\0"))


def changed(position: int, value: int) -> bytes:
    data = bytearray(SMALL.encode())
    data[position] = value
    return bytes(data)


# Version, layers (none, too many), input width, widths of both layers, shift.
@pytest.mark.parametrize("place", [(0, 2), (1, 0), (1, 5), (2, 0), (3, 0), (4, 0), (5, 32)])
def test_a_header_that_makes_no_sense_is_refused(world, reverts, place):
    with reverts("WeightsHeaderInvalid"):
        world.deploy("NativeClassifier", changed(*place))


def test_a_file_too_short_for_its_header_is_refused(world, reverts):
    with reverts("WeightsTruncated"):
        world.deploy("NativeClassifier", changed(2, 255))


def test_an_input_of_another_form_is_refused(world, reverts):
    contract = world.deploy("NativeClassifier", SMALL.encode())
    good = encode_input([1, 2, 3, 4])
    with reverts("InputNotCanonical"):
        contract.evaluate(good + bytes(32))
    with reverts("InputCountMismatch(expected=4, given=3)"):
        contract.evaluate(encode_input([1, 2, 3]))
    for value in (1 << 15, -(1 << 15) - 1):
        with reverts(f"InputOutOfRange(index=2, value={value})"):
            contract.evaluate(encode_input([1, 2, value, 4]))
