"""Identities, digests and signatures against the vectors that other libraries confirm."""

from __future__ import annotations

import pytest

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError
from zerog.inference.encoding import domain_separator, from_message
from zerog.inference.receipt import (
    AuditVote,
    InferenceReceipt,
    InferenceRequest,
    SamplingParams,
    engine_id,
    model_id,
    recover_signer,
    request_id,
    sign,
    stop_hash,
)
from zerog.inference.text_signature import check_text, personal_digest, sign_text

STRUCTS = {
    "InferenceReceipt": InferenceReceipt,
    "SamplingParams": SamplingParams,
    "InferenceRequest": InferenceRequest,
    "AuditVote": AuditVote,
}


def _raw(text: str) -> bytes:
    return bytes.fromhex(text[2:])


@pytest.fixture(scope="session")
def separator(vectors):
    domain = vectors["domain"]
    return domain_separator(domain["chainId"], _raw(domain["verifyingContract"]))


@pytest.fixture(scope="session")
def key(vectors):
    return _raw(vectors["private_key"])


def _assert_signed(message, vector, separator, key, signer):
    assert message.struct_hash() == _raw(vector["struct_hash"])
    digest = message.digest(separator)
    assert digest == _raw(vector["digest"])
    assert sign(key, digest) == _raw(vector["signature"])
    assert recover_signer(digest, _raw(vector["signature"])) == _raw(signer)


@pytest.mark.parametrize("name", STRUCTS)
def test_type_strings_are_those_of_the_protocol(vectors, name):
    entry = vectors["types"][name]
    assert STRUCTS[name].type_string() == entry["type_string"]
    assert keccak256(STRUCTS[name].type_string().encode()) == _raw(entry["typehash"])


@pytest.mark.parametrize("name", STRUCTS)
def test_members_are_in_the_order_of_the_type_string(name):
    struct = STRUCTS[name]
    assert [member for _, member in struct.members()] == list(struct.__struct_fields__)


def test_the_domain_separator_binds_chain_and_registry(vectors, separator):
    registry = _raw(vectors["domain"]["verifyingContract"])
    assert separator == _raw(vectors["domain"]["separator"])
    assert len({separator, domain_separator(1, registry), domain_separator(31337, bytes(20))}) == 3


@pytest.mark.parametrize("index", range(4))
def test_receipts(vectors, separator, key, index):
    vector = vectors["receipts"][index]
    receipt = from_message(InferenceReceipt, vector["message"])
    _assert_signed(receipt, vector, separator, key, vectors["signer"])


@pytest.mark.parametrize("index", range(6))
def test_refused_signatures_do_not_count(vectors, index):
    entry = vectors["refused"][index]
    digest, signature = _raw(entry["digest"]), _raw(entry["signature"])
    try:
        signer = recover_signer(digest, signature)
    except InferenceError:
        assert entry["naive_recovery"] is None or len(signature) != 65 or index in (0, 1)
        return
    # Well formed, but of another digest: it recovers a key that is nobody's signer.
    assert signer == _raw(entry["naive_recovery"]) != _raw(vectors["signer"])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_malformed_signatures_raise(vectors, index):
    entry = vectors["refused"][index]
    with pytest.raises(InferenceError, match="signature"):
        recover_signer(_raw(entry["digest"]), _raw(entry["signature"]))


def test_the_inference_request(vectors, separator, key):
    vector = vectors["inference_request"]
    request = from_message(InferenceRequest, vector["message"])
    _assert_signed(request, vector, separator, key, vectors["signer"])


@pytest.mark.parametrize("index", range(2))
def test_audit_votes(vectors, separator, key, index):
    vector = vectors["audit_votes"][index]
    _assert_signed(from_message(AuditVote, vector["message"]), vector, separator, key, vectors["signer"])


@pytest.mark.parametrize("index", range(2))
def test_sampling_params(vectors, index):
    vector = vectors["sampling_params"][index]
    params = from_message(SamplingParams, vector["message"])
    assert params.struct_hash() == _raw(vector["params_hash"])
    assert stop_hash(vector["stop_strings"]) == params.stopHash


@pytest.mark.parametrize("name", ["gguf_template", "chatml_without_system_turn"])
def test_model_ids(vectors, name):
    model = vectors["models"][name]
    parts = [_raw(model[part]) for part in ("weights_root", "tokenizer_hash", "chat_template_hash")]
    assert model_id(*parts, model["quant"]) == _raw(model["model_id"])
    if template := model.get("chat_template"):
        assert keccak256(template.encode()) == parts[2]


def test_the_engine_id(vectors):
    assert engine_id(vectors["engine"]["string"]) == _raw(vectors["engine"]["engine_id"])


@pytest.mark.parametrize("index", range(2))
def test_request_ids(vectors, index):
    entry = vectors["request_ids"][index]
    made = request_id(entry["chainId"], _raw(entry["gate"]), _raw(entry["requester"]), entry["nonce"])
    assert made == _raw(entry["request_id"])


def test_the_first_receipt_commits_to_the_reference_texts(vectors):
    receipt = from_message(InferenceReceipt, vectors["receipts"][0]["message"])
    assert keccak256(vectors["inputs"]["receipt_0_input_utf8"].encode()) == receipt.inputHash
    assert keccak256(vectors["inputs"]["receipt_0_output_utf8"].encode()) == receipt.outputHash


def test_evidence_is_hashed_as_it_is(vectors):
    receipt = from_message(InferenceReceipt, vectors["receipts"][1]["message"])
    assert keccak256(vectors["inputs"]["receipt_1_evidence_utf8"].encode()) == receipt.evidenceHash


def test_messages_survive_a_round_trip(vectors):
    for vector in vectors["receipts"]:
        receipt = from_message(InferenceReceipt, vector["message"])
        again = receipt.to_message()
        assert from_message(InferenceReceipt, again) == receipt
        assert {k: str(v).lower() for k, v in again.items()} == {
            k: str(v).lower() for k, v in vector["message"].items()
        }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tier": None}, "tier must be a number"),
        ({"tier": True}, "tier must be a number"),
        ({"tier": 256}, "tier = 256 does not fit uint8"),
        ({"tier": -1}, "tier = -1 does not fit uint8"),
        ({"deadline": "1" * 79}, "deadline must be a number"),
        ({"deadline": "0x1"}, "deadline must be a number"),
        ({"requestId": "0x00"}, "requestId has 1 bytes instead of 32"),
        ({"requestId": "zz"}, "requestId must be 0x-hexadecimal text"),
        ({"requestId": "0xzz"}, "requestId is not hexadecimal"),
        ({"extra": 1}, "InferenceReceipt has no member 'extra'"),
    ],
)
def test_malformed_messages_are_refused_by_name(vectors, change, message):
    with pytest.raises(InferenceError, match=message):
        from_message(InferenceReceipt, vectors["receipts"][0]["message"] | change)


def test_a_missing_member_is_named(vectors):
    message = dict(vectors["receipts"][0]["message"])
    del message["traceRoot"]
    with pytest.raises(InferenceError, match="member 'traceRoot' is missing"):
        from_message(InferenceReceipt, message)


@pytest.mark.parametrize(
    ("field", "value"), [("maxTokens", 2**32), ("maxTokens", -1), ("stopHash", bytes(31))]
)
def test_values_out_of_range_are_not_hashed(field, value):
    with pytest.raises(InferenceError, match=field):
        SamplingParams(**({"maxTokens": 1} | {field: value})).struct_hash()


def test_the_0g_text_signature(vectors, key):
    vector = vectors["text_signature_0g"]
    request, response = vector["request_body_utf8"].encode(), vector["response_body_utf8"].encode()
    assert sign_text(key, request, response) == vector["json"]
    assert personal_digest(vector["json"]["text"]) == _raw(vector["digest"])
    assert check_text(vector["json"], request, response) == _raw(vectors["signer"])


def test_a_0g_text_signature_covers_exactly_its_bytes(vectors):
    vector = vectors["text_signature_0g"]
    request, response = vector["request_body_utf8"].encode(), vector["response_body_utf8"].encode()
    with pytest.raises(InferenceError, match="other request or response bytes"):
        check_text(vector["json"], request, response + b" ")
    with pytest.raises(InferenceError, match="another key than signing_address"):
        check_text(vector["json"] | {"signing_address": "0x" + "11" * 20}, request, response)
