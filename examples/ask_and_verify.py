"""Asks the embedded model, signs the answer, and checks it the way a stranger would.

Run: python examples/ask_and_verify.py "What is a blockchain?"
"""

from __future__ import annotations

import sys
import time

from zerog.client import Account
from zerog.contracts import INFERENCE_REGISTRY
from zerog.inference.answer import Domain, Inquiry, Signatory, sampling
from zerog.inference.engines.llama_cpp import LlamaCppEngine
from zerog.inference.transcript_file import decode_transcript, encode_transcript
from zerog.inference.verification import check_execution, check_transcript
from zerog.inference.weights import SMOLLM2, fetch


def main(question: str) -> None:
    """Asks, signs, writes the transcript to bytes, and verifies those bytes."""
    engine = LlamaCppEngine(fetch(SMOLLM2))
    account = Account.random()
    address = bytes.fromhex(account.address[2:])
    domain = Domain(31337, bytes.fromhex(INFERENCE_REGISTRY[2:]))

    # The provider's side. Making a signatory runs the self-test.
    signatory = Signatory(engine, account.key, address, domain)
    inquiry = Inquiry(bytes(32), address, question.encode(), sampling(max_tokens=40))
    answer = signatory.answer(inquiry, now=int(time.time()))
    file = encode_transcript(signatory.signed_transcript(answer))
    print(answer.output.decode(errors="replace"))

    # The reader's side: nothing but the file, and the same public weights.
    transcript = decode_transcript(file)
    for check in check_transcript(transcript) + check_execution(transcript, engine):
        print("ok " if check.passed else "BAD", check.name, check.detail)


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "What is a blockchain?")
