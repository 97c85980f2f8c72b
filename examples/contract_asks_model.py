"""A contract asks a model and acts on the proven answer, on a devnet inside this process.

Run: python examples/contract_asks_model.py "Plant trees in the city park with volunteers."
"""

from __future__ import annotations

import sys

from zerog import Devnet
from zerog.client import Account
from zerog.contracts import INFERENCE_REGISTRY, artifact
from zerog.inference.answer import Domain, Signatory
from zerog.inference.engines.llama_cpp import LlamaCppEngine
from zerog.inference.provider import GateProvider
from zerog.inference.weights import SMOLLM2, fetch

TOKEN = 10**18


def main(proposal: str) -> None:
    """Deploys the treasury, proposes a grant, lets a provider answer, shows what became of it."""
    with Devnet() as net:
        owner, operator, applicant = net.accounts[:3]

        # A provider: a model, a signing key, and an account with stake.
        domain = Domain(net.chain_id, bytes.fromhex(INFERENCE_REGISTRY[2:]))
        engine = LlamaCppEngine(fetch(SMOLLM2))
        key = Account.random().key
        signatory = Signatory(engine, key, bytes.fromhex(operator.address[2:]), domain)
        provider = GateProvider(net.client, signatory, operator)
        provider.enrol()

        # A contract that pays only on a proven "approve".
        code = artifact("GrantTreasury")
        treasury = net.client.deploy(
            code.abi, code.bytecode, engine.model_id, 0, account=owner, value=10 * TOKEN
        )
        treasury.propose(applicant, TOKEN, proposal, account=applicant)
        treasury.ask(0, proposal, account=applicant, value=TOKEN // 1000)

        (answer,) = provider.serve()
        print("the model says:", answer.output.decode())
        print("the treasury now holds:", net.client.balance(treasury) / TOKEN, "tokens")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "Plant trees in the city park with volunteers.")
