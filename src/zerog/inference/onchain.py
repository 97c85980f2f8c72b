"""What a user does with the gate over JSON-RPC: ask, wait, look a receipt up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from zerog.chain.keys import keccak256
from zerog.contracts import INFERENCE_GATE, INFERENCE_REGISTRY, MODELS, artifact
from zerog.contracts.genesis import model_id
from zerog.errors import ContractReverted, InferenceError, RpcError
from zerog.inference.dossier import TIERS
from zerog.inference.provider import AUDITED, GateRequest, request_of, wait_for
from zerog.inference.receipt import SamplingParams
from zerog.inference.transcript import SignedTranscript
from zerog.inference.transcript_file import decode_transcript
from zerog.inference.verification import Check

if TYPE_CHECKING:
    from zerog.client import Client, Contract

ANSWER_TIMEOUT = 300.0
"""Seconds to wait for a provider; the gate's own deadline is longer."""
_METHOD_NOT_FOUND = -32601


def gate_of(client: Client, account: Any = None) -> Contract:
    """The inference gate of a node."""
    return client.contract(INFERENCE_GATE, artifact("InferenceGate").abi, account=account)


def registry_of(client: Client, account: Any = None) -> Contract:
    """The inference registry of a node."""
    return client.contract(INFERENCE_REGISTRY, artifact("InferenceRegistry").abi, account=account)


def has_gate(client: Client) -> bool:
    """Whether the chain behind ``client`` has this version's gate."""
    return client.code(INFERENCE_GATE).hex() == artifact("InferenceGate").deployed_bytecode[2:]


def devnet_accounts(client: Client) -> tuple[str, str]:
    """Requester and provider among the accounts that a devnet node holds: its last two.

    Raises
    ------
    InferenceError : the node holds fewer than two.
    """
    held = client.node_accounts
    if len(held) < 2:
        raise InferenceError("the node holds no two accounts to ask and to answer with", hint="use --local")
    return held[-2], held[-1]


def ask_gate(
    client: Client,
    account: Any,
    question: bytes,
    params: SamplingParams,
    fee: int,
    min_tier: int = 0,
    model: bytes | None = None,
) -> GateRequest:
    """Makes a request; returns it as the chain has it. ``model``: a model id, the default model's when absent."""
    if model is None:
        model = model_id(MODELS[0], keccak256)
    gate = gate_of(client, account)
    sent = gate.requestInference(model, question, params.to_tuple(), min_tier, 0, value=fee)
    return next(request_of(event) for event in gate.decode(sent) if event.name == "InferenceRequested")


def fee_for(client: Client, tier: int, usual: int) -> int:
    """Wei that a request for a tier should pay: the usual fee, or what its audit costs at least."""
    least = int(gate_of(client).parameters().auditFee) if tier == AUDITED else 0
    return max(usual, least)


def node_serves(client: Client, model: bytes | None = None) -> bool:
    """Whether the node itself runs an inference service, for the model with that id if one is given.

    Raises
    ------
    InferenceError : it runs one that failed; says why.
    """
    try:
        status = client.request("poi_status")
    except RpcError as error:
        if error.code == _METHOD_NOT_FOUND:
            return False
        raise
    if model is not None:
        known = [entry for entry in status.get("models", []) if entry["modelId"] == "0x" + model.hex()]
        if not known:
            return False
        status = known[0]
    if status.get("failure"):
        raise InferenceError(f"the node's inference service failed: {status['failure']}")
    return True


def transcript_from_node(
    client: Client, request: GateRequest, timeout: float = ANSWER_TIMEOUT
) -> SignedTranscript:
    """Waits for the answer to a request and gets its transcript from the node's service."""
    gate = gate_of(client)

    def answered() -> Any:
        node_serves(client, request.model_id)
        events = gate.events.InferenceFulfilled(requestId=request.inquiry.request_id)
        return client.request("poi_transcript", "0x" + events[0].receiptHash.hex()) if events else None

    return decode_transcript(msgspec.json.encode(wait_for(answered, timeout, "the answer to the request")))


def tier_name(level: int) -> str:
    """What the protocol calls a tier."""
    return TIERS[level] if level < len(TIERS) else f"number {level}"


def tier_of(client: Client, receipt_hash: bytes) -> int | None:
    """The tier that the registry has for a receipt; ``None`` when it knows none."""
    known, level = registry_of(client).levelOf(receipt_hash)
    return int(level) if known else None


def receipt_on_chain(client: Client, transcript: SignedTranscript) -> Check:
    """What the chain says: the tier of a receipt that was used, else whether it would be accepted."""
    registry = registry_of(client)
    name = "on chain"
    if client.chain_id != transcript.domain.chain_id:
        return Check(name, False, f"the node is on chain {client.chain_id}, not {transcript.domain.chain_id}")
    known, level = registry.levelOf(transcript.receipt_hash)
    if known:
        return Check(name, True, f"used, tier {tier_name(level)}")
    try:
        registry.verifyReceipt(transcript.receipt.to_tuple(), transcript.signature, 0)
    except ContractReverted as error:
        return Check(name, False, f"the registry answers {error.reason or error.message}")
    return Check(name, True, "not used yet; the registry accepts it")
