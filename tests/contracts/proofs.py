"""Models of the tiers ZK and NATIVE on a devnet: registered, judged, and answered for by the provider."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zerog.chain.keys import keccak256
from zerog.client import Contract
from zerog.contracts import PROOF_EVIDENCE, artifact
from zerog.inference.native_model import QUANTISATION, IntegerMlp, Layer
from zerog.inference.receipt import InferenceReceipt, engine_id

ZK, NATIVE = 4, 5
ENGINE = "classifier of the tests"
NATIVE_CLASS = 3

CLASSIFIER = IntegerMlp(
    (
        Layer(weights=((3, -2), (-1, 4), (2, 2)), biases=(0, 5, -7), shift=1),
        Layer(weights=((1, 0, 0), (0, 1, 1)), biases=(20, 0), shift=0),
    )
)


@dataclass
class Judge:
    """The judge of proofs of a world whose provider runs an engine for small models."""

    world: Any
    address: str = PROOF_EVIDENCE
    evidence: Contract = field(init=False)

    def __post_init__(self) -> None:
        world = self.world
        self.evidence = world.client.contract(
            self.address, artifact("ProofEvidence").abi, account=world.admin
        )
        world.registry.setEngineClass(ENGINE, NATIVE_CLASS)
        engines = [world.engine, self.engine]
        world.registry.registerProvider(world.signer.address, engines, b"", b"", account=world.provider)

    @property
    def engine(self) -> bytes:
        return engine_id(ENGINE)

    def register(self, weights_root: bytes, quantisation: str) -> bytes:
        """Registers a model; its id."""
        parts = (weights_root, bytes(32), bytes(32), keccak256(quantisation.encode()))
        made = keccak256(b"".join(parts))
        self.world.registry.registerModel(made, (*parts, ""))
        return made

    def native(self, model: IntegerMlp = CLASSIFIER) -> tuple[bytes, Contract]:
        """A native model, deployed, registered and set: its id and its contract."""
        contract = self.world.deploy("NativeClassifier", model.encode())
        made = self.register(model.weights_root(), QUANTISATION)
        self.evidence.setNativeModel(made, contract)
        return made, contract

    def ask(self, model: bytes, data: bytes, tier: int, requester: Any = None) -> bytes:
        """A request of the user for a model of this judge; its id."""
        world = self.world
        arguments = (model, data, (1, 0, 1000, 0, 1000, 0, bytes(32), 0), tier, 200_000)
        asked = world.gate.requestInference(*arguments, account=requester or world.user, value=1000)
        return self.request_in(asked)

    def request_in(self, transaction: Any) -> bytes:
        """Id of the request that a transaction made."""
        found = self.world.gate.decode(transaction)
        return bytes(next(event for event in found if event.name == "InferenceRequested").requestId)

    def answer(self, requested: bytes, output: bytes, tier: int, **changes: Any) -> InferenceReceipt:
        """The provider's receipt of a tier; it has no tokens and no transcript."""
        model = bytes(self.world.gate.requestOf(requested).modelId)
        fields: dict[str, Any] = {
            "modelId": model,
            "engineId": self.engine,
            "traceRoot": bytes(32),
            "promptTokens": 0,
            "outputTokens": 0,
            "tier": tier,
        }
        receipt: InferenceReceipt = self.world.answer(requested, output, **(fields | changes))
        return receipt
