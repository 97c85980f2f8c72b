"""Deploys the contracts of Proof-of-Inference on any EVM chain, through whatever sends transactions.

The chain needs the Cancun hard fork, and headers whose hash is their RLP's, as Ethereum's and its test chains' are: the
randomness of an audit is proven by a header. History of block hashes (EIP-2935) is used where it exists. There is no
judge of TEE quotes: tier TEE needs a chain with its native contract.

Gate and audit name each other, so the gate's address is computed before it exists. A transaction of the same account in
between would move it; then the deployment fails, and nothing half-wired is returned.

::

    addresses = deploy_inference(sender, keccak256=keccak256)
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Protocol

from zerog.contracts import genesis
from zerog.contracts.deployment import Deployment, Sender, created_address, tail, words
from zerog.contracts.genesis import ENGINES, MODELS, AuditParameters, GenesisModel, model_id
from zerog.contracts.storage import Keccak
from zerog.errors import ZerogError

_NOBODY = "0x" + "00" * 20
_EXACT_CLASS = 1
_AUDIT_PARAMETERS = (
    "setParameters((uint32,uint16,uint16,uint8,uint16,uint16,uint16,uint16,uint32,uint128,uint128,"
    "uint32,uint32,uint32,uint32,uint32,uint32,uint8))"
)


class CountingSender(Sender, Protocol):
    """A sender that knows how many transactions its account has sent."""

    @property
    def nonce(self) -> int:
        """Nonce of the account's next transaction."""


@dataclass(frozen=True, slots=True)
class InferenceParameters:
    """What a deployment can choose; money in wei, times in seconds, windows and delays in blocks.

    The defaults suit a chain with a block every few seconds: one receipt in fifty is audited, a round takes a hundred
    blocks, and stake stays locked for a week, longer than any dispute of blocks up to twelve seconds.
    """

    min_stake: int = 10**18
    unstake_delay: int = 7 * 86_400
    request_timeout: int = 3600
    audit_window: int = 300
    max_callback_gas: int = genesis.MAX_CALLBACK_GAS
    audit_share_ppm: int = genesis.AUDIT_SHARE_PPM
    audit_fee: int = genesis.AUDIT_FEE
    verifier_min_stake: int = 5 * 10**17
    activation_delay: int = 256
    audit: AuditParameters = field(
        default_factory=lambda: AuditParameters(
            rate_ppm=20_000,
            draw_window=200,
            commit_window=50,
            reveal_window=50,
            challenge_window=7200,
            bond=10**17,
        )
    )


EASY = InferenceParameters(
    min_stake=genesis.MIN_STAKE,
    unstake_delay=genesis.UNSTAKE_DELAY,
    request_timeout=genesis.REQUEST_TIMEOUT,
    audit_window=genesis.AUDIT_WINDOW,
    verifier_min_stake=genesis.VERIFIER_MIN_STAKE,
    activation_delay=genesis.ACTIVATION_DELAY,
    audit=genesis.AUDIT_PARAMETERS,
)
"""A set for trying things out, as a devnet has it: every receipt is audited, and windows are short."""


@dataclass(frozen=True, slots=True)
class InferenceAddresses:
    """0x-addresses of a deployed set; ``draw`` and ``settlement`` are code of ``audit`` that nobody calls."""

    validation: str
    registry: str
    gate: str
    audit: str
    verifiers: str
    evidence: str
    draw: str
    settlement: str


def deploy_inference(
    sender: CountingSender, parameters: InferenceParameters | None = None, *, keccak256: Keccak
) -> InferenceAddresses:
    """Deploys, wires and parametrises the set; registers the embedded model and its engine.

    Raises
    ------
    ZerogError : a transaction failed, or another one of the same account came in between; what the sender raises
        passes through.
    """
    deployment = Deployment(sender, keccak256)
    made = _create(deployment, sender, keccak256)
    _configure(deployment, made, parameters or InferenceParameters())
    _grant(deployment, made)
    for model in MODELS:
        _register_model(deployment, made.registry, model)
    for engine in ENGINES:
        arguments = words(64, _EXACT_CLASS) + tail(engine.name.encode("ascii"))
        deployment.call_encoded(made.registry, "setEngineClass(string,uint8)", arguments)
    _set_domain(deployment, made)
    return made


def _create(deployment: Deployment, sender: CountingSender, keccak256: Keccak) -> InferenceAddresses:
    admin = sender.address
    validation = deployment.create("PortableValidationRegistry", admin)
    registry = deployment.create("PortableInferenceRegistry", admin, _NOBODY)
    verifiers = deployment.create("PortableVerifierRegistry", admin)
    evidence = deployment.create("PortableProofEvidence", admin, registry)
    # Draw, settlement and audit come before the gate that all three name.
    expected = created_address(keccak256, admin, sender.nonce + 3)
    draw = deployment.create("PortableAuditDraw", registry, expected, verifiers)
    settlement = deployment.create("PortableAuditSettlement", registry, expected, verifiers)
    collaborators = (registry, expected, verifiers, draw, settlement)
    audit = deployment.create("PortableInferenceAudit", admin, *collaborators)
    gate = deployment.create("PortableInferenceGate", admin, registry, audit)
    if gate.lower() != expected:
        raise ZerogError(
            f"the gate was created at {gate}, not at {expected}",
            hint="let no other transaction of the account come in between, and deploy again",
        )
    return InferenceAddresses(
        validation=validation,
        registry=registry,
        gate=gate,
        audit=audit,
        verifiers=verifiers,
        evidence=evidence,
        draw=draw,
        settlement=settlement,
    )


def _configure(deployment: Deployment, made: InferenceAddresses, given: InferenceParameters) -> None:
    deployment.call(made.registry, "setParameters(uint256,uint64)", given.min_stake, given.unstake_delay)
    deployment.call(
        made.gate,
        "setParameters((uint64,uint64,uint64,uint32,uint128))",
        given.request_timeout,
        given.audit_window,
        given.max_callback_gas,
        given.audit_share_ppm,
        given.audit_fee,
    )
    deployment.call(made.audit, _AUDIT_PARAMETERS, *astuple(given.audit))
    deployment.call(
        made.verifiers,
        "setParameters(uint128,uint64,uint32)",
        given.verifier_min_stake,
        given.unstake_delay,
        given.activation_delay,
    )


def _grant(deployment: Deployment, made: InferenceAddresses) -> None:
    for at, role, member in (
        (made.registry, "GATE_ROLE", made.gate),
        (made.registry, "AUDIT_ROLE", made.audit),
        (made.registry, "SLASHER_ROLE", made.audit),
        (made.registry, "EVIDENCE_ROLE", made.evidence),
        (made.verifiers, "SLASHER_ROLE", made.audit),
    ):
        role_id = int.from_bytes(deployment.keccak256(role.encode("ascii")))
        deployment.call(at, "grantRole(bytes32,address)", role_id, member)


def _register_model(deployment: Deployment, registry: str, model: GenesisModel) -> None:
    keccak256 = deployment.keccak256
    identity = model_id(model, keccak256)
    parts = (
        bytes.fromhex(model.weights_root[2:]),
        bytes.fromhex(model.tokenizer_hash[2:]),
        keccak256(model.chat_template.encode()),
        keccak256(model.quantisation.encode("ascii")),
    )
    described = b"".join(parts) + words(160) + tail(model.uri.encode("ascii"))
    deployment.call_encoded(
        registry,
        "registerModel(bytes32,(bytes32,bytes32,bytes32,bytes32,string))",
        identity + words(64) + described,
    )


def _set_domain(deployment: Deployment, made: InferenceAddresses) -> None:
    name, rule, levels = genesis.INFERENCE_DOMAIN
    texts = [level.encode("ascii").ljust(32, b"\0") for level in levels]
    arguments = (
        name.encode("ascii").ljust(32, b"\0")
        + words(made.registry)
        + deployment.keccak256(rule.encode("ascii"))
        + words(128, len(texts))
        + b"".join(texts)
    )
    deployment.call_encoded(made.validation, "setDomain(bytes32,address,bytes32,bytes32[])", arguments)
