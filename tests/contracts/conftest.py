"""The predeploys on a devnet, a staked provider, and receipts that can be bent one field at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from zerog.chain.keys import keccak256
from zerog.client import Account, Client, Contract, Devnet, Receipt
from zerog.contracts import (
    ENGINES,
    INFERENCE_GATE,
    INFERENCE_REGISTRY,
    MODELS,
    VALIDATION_REGISTRY,
    artifact,
)
from zerog.contracts.genesis import AUDIT_FEE, MIN_STAKE, model_id
from zerog.errors import ContractReverted
from zerog.inference.encoding import TypedStruct, domain_separator
from zerog.inference.receipt import InferenceReceipt, SamplingParams, engine_id, request_id, sign

MOCKS = Path(__file__).parent / "artifacts"
GREEDY = SamplingParams(maxTokens=8)
INPUT = b"Is water wet?"
OUTPUT = b"Yes."
GAS = 500_000


@contextmanager
def _reverts(reason: str) -> Iterator[None]:
    with pytest.raises(ContractReverted) as caught:
        yield
    assert caught.value.reason is not None, f"the revert data {caught.value.data} could not be decoded"
    assert caught.value.reason.startswith(reason), caught.value.reason


@pytest.fixture(scope="session")
def reverts() -> Callable[[str], AbstractContextManager[None]]:
    """Asserts that the chain reverts with this error; values may be given in part."""
    return _reverts


@dataclass
class World:
    """A devnet with one registered provider."""

    net: Devnet
    admin: Account
    provider: Account
    signer: Account
    user: Account
    stranger: Account
    registry: Contract = field(init=False)
    gate: Contract = field(init=False)
    validation: Contract = field(init=False)

    def __post_init__(self) -> None:
        self.registry = self._predeploy(INFERENCE_REGISTRY, "InferenceRegistry")
        self.gate = self._predeploy(INFERENCE_GATE, "InferenceGate")
        self.validation = self._predeploy(VALIDATION_REGISTRY, "ValidationRegistry")

    def _predeploy(self, address: str, name: str) -> Contract:
        return self.client.contract(address, artifact(name).abi, account=self.admin)

    @property
    def client(self) -> Client:
        return self.net.client

    @property
    def model(self) -> bytes:
        return model_id(MODELS[0], keccak256)

    @property
    def engine(self) -> bytes:
        return engine_id(ENGINES[0].name)

    @property
    def now(self) -> int:
        return int(self.client.block().timestamp)

    def deploy(self, name: str, *arguments: Any, value: int = 0) -> Contract:
        """Deploys a shipped contract or a mock."""
        path = MOCKS / f"{name}.json"
        compiled = msgspec.json.decode(path.read_bytes()) if path.exists() else None
        abi = compiled["abi"] if compiled else artifact(name).abi
        code = compiled["bytecode"] if compiled else artifact(name).bytecode
        return self.client.deploy(abi, code, *arguments, account=self.admin, value=value)

    def register(self, provider: Account, signer: Account, stake: int = MIN_STAKE) -> Receipt:
        """Registers a provider that runs the default engine."""
        receipt: Receipt = self.registry.registerProvider(
            signer.address, [self.engine], b"", b"", account=provider, value=stake
        )
        return receipt

    def receipt(self, **changes: Any) -> InferenceReceipt:
        """A good receipt of the provider for the user, with some members changed."""
        base = InferenceReceipt(
            requestId=keccak256(b"a direct request"),
            requester=raw(self.user),
            provider=raw(self.provider),
            modelId=self.model,
            engineId=self.engine,
            inputHash=keccak256(INPUT),
            outputHash=keccak256(OUTPUT),
            paramsHash=GREEDY.struct_hash(),
            traceRoot=keccak256(b"trace"),
            dataRoot=bytes(32),
            promptTokens=12,
            outputTokens=3,
            issuedAt=self.now,
            deadline=self.now + 600,
            tier=0,
            evidenceHash=bytes(32),
        )
        return msgspec.structs.replace(base, **changes)

    def digest(self, message: TypedStruct) -> bytes:
        """What is signed in the registry's domain."""
        return message.digest(domain_separator(self.net.chain_id, raw(INFERENCE_REGISTRY)))

    def sign(self, message: TypedStruct, signer: Account | None = None) -> bytes:
        """A signature in the registry's domain; of the provider's signer when nobody is named."""
        return sign((signer or self.signer).key, self.digest(message))

    def verify(self, receipt: InferenceReceipt, signature: bytes | None = None, tier: int = 0) -> Any:
        """``verifyReceipt``; signs when no signature is given."""
        signature = self.sign(receipt) if signature is None else signature
        return self.registry.verifyReceipt(receipt.to_tuple(), signature, tier)

    def request(
        self,
        requester: Account | Contract | None = None,
        *,
        data: bytes = INPUT,
        params: SamplingParams = GREEDY,
        tier: int = 0,
        gas: int = GAS,
        fee: int | None = None,
    ) -> bytes:
        """Makes a request at the gate, as an account or through a consumer; its id."""
        if fee is None:
            fee = AUDIT_FEE if tier == 2 else 1000
        arguments = (self.model, data, params.to_tuple(), tier, gas)
        if isinstance(requester, Contract):
            asked = requester.ask(*arguments, account=self.user, value=fee)
        else:
            asked = self.gate.requestInference(*arguments, account=requester or self.user, value=fee)
        event = next(e for e in self.gate.decode(asked) if e.name == "InferenceRequested")
        return bytes(event.requestId)

    def answer(self, requested: bytes, output: bytes = OUTPUT, **changes: Any) -> InferenceReceipt:
        """The provider's receipt for a request of the gate."""
        request = self.gate.requestOf(requested)
        fields: dict[str, Any] = {
            "requestId": requested,
            "requester": raw(request.requester),
            "inputHash": bytes(request.inputHash),
            "paramsHash": bytes(request.paramsHash),
            "outputHash": keccak256(output),
        }
        return self.receipt(**(fields | changes))

    def fulfill(
        self,
        receipt: InferenceReceipt,
        output: bytes = OUTPUT,
        signature: bytes | None = None,
        **options: Any,
    ) -> Receipt:
        """Carries an answer to the gate; signs when no signature is given."""
        signature = self.sign(receipt) if signature is None else signature
        options.setdefault("account", self.provider)
        receipt_of: Receipt = self.gate.fulfill(receipt.to_tuple(), signature, output, **options)
        return receipt_of

    def state(self, requested: bytes) -> int:
        """State of a request: 1 open, 2 parked, 3 delivered, 4 callback failed, 5 disputed, 6 refunded."""
        return int(self.gate.requestOf(requested).state)

    def next_request_id(self, requester: Account | Contract) -> bytes:
        """The id that the requester's next request will have."""
        nonce = self.gate.nonces(requester.address)
        return request_id(self.net.chain_id, raw(INFERENCE_GATE), raw(requester), nonce)

    def events(self, receipt: Receipt) -> list[str]:
        """Names of the gate's and the registry's events in a transaction."""
        return [event.name for event in (*self.gate.decode(receipt), *self.registry.decode(receipt))]


def raw(target: Account | Contract | str) -> bytes:
    """The 20 bytes of an address."""
    return bytes.fromhex(str(getattr(target, "address", target))[2:])


@pytest.fixture
def world(zerog_devnet: Devnet) -> World:
    """A devnet with one registered provider."""
    admin, provider, user, stranger = zerog_devnet.accounts[:4]
    made = World(zerog_devnet, admin, provider, Account.random(), user, stranger)
    made.register(provider, made.signer)
    return made
