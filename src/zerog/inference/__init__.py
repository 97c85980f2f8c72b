"""Proven inference: a model's answer with a receipt that anyone can check, on chain and off.

The idea: llama.cpp in pinned settings computes the same logits bit for bit on every run, so a
signed commitment to prompt, parameters, logits and text can be re-executed and compared. Parts:

* `receipt`, `encoding` - the EIP-712 structs and identities that the contracts check.
* `engines` - models; `self_test` refuses to sign when this machine computes anything else.
* `answer`, `transcript`, `verification` - sign an answer, write it down, check it without trust.
* `provider`, `service` - answer the requests of the on-chain gate.
* `weights` - get the model and check its hash.

::

    from zerog.inference.engines.llama_cpp import LlamaCppEngine
    from zerog.inference.receipt import SamplingParams
    from zerog.inference.weights import SMOLLM2, fetch

    engine = LlamaCppEngine(fetch(SMOLLM2))
    engine.generate(b"What is a blockchain?", SamplingParams(maxTokens=40)).output

Modules load on their own: importing this package costs nothing.
"""
