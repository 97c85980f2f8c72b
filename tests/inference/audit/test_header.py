"""Headers that a contract can check: the encoding hashes to the block's hash, under every fork's rules."""

from __future__ import annotations

import pytest

from zerog.chain.keys import keccak256
from zerog.client import Devnet
from zerog.errors import InferenceError
from zerog.inference.audit.header import encode_header, randomness_of


@pytest.mark.parametrize("hardfork", ["london", "paris", "shanghai", "cancun", "prague", "osaka"])
def test_the_encoding_hashes_to_the_hash_of_the_block(hardfork):
    with Devnet(hardfork=hardfork) as net:
        net.client.send(to=net.accounts[1], value=1)
        for number in range(net.client.block_number + 1):
            block = net.client.request("eth_getBlockByNumber", hex(number), False)
            assert "0x" + keccak256(encode_header(block)).hex() == block["hash"]


@pytest.fixture(scope="module")
def block():
    with Devnet() as net:
        net.mine()
        return net.client.request("eth_getBlockByNumber", "latest", False)


def test_the_beacon_is_the_mix_hash(block):
    assert randomness_of(block) == bytes.fromhex(block["mixHash"][2:])
    assert randomness_of(block) in encode_header(block)


@pytest.mark.parametrize("field", ["mixHash", "stateRoot", "timestamp", "extraData", "requestsHash"])
def test_a_changed_field_is_refused(block, field):
    changed = "0x01" + block[field][4:] if len(block[field]) > 4 else "0x01"
    with pytest.raises(InferenceError, match="has the hash"):
        encode_header(block | {field: changed})


@pytest.mark.parametrize(
    ("field", "value"),
    [("mixHash", None), ("mixHash", "0xzz"), ("number", "x"), ("parentHash", 5), ("nonce", "0x0")],
)
def test_a_malformed_field_is_named(block, field, value):
    with pytest.raises(InferenceError, match=field):
        encode_header(block | {field: value})


def test_a_field_that_is_unknown_here_is_noticed(block):
    with pytest.raises(InferenceError, match="has the hash"):
        encode_header(block | {"hash": "0x" + "11" * 32})
