"""Quotes of trusted hardware: what they say, whom they bind, and mock ones for devnets.

`quotes` reads the measurements and the binding out of a quote and computes what a provider has to put into it; it
judges no signature, the chain does (precompile 0x…0A11). `mock` mints quotes whose chain of trust ends in a root whose
private key lies beside this file: anybody can make them, so every place that shows one says *mock*, and a chain counts
them as tier TEE only where its genesis allows it (the devnet profile).

>>> from zerog.inference.attestation import mock, quotes
>>> made = mock.mint(bytes(19) + b"\\x01", now=1_750_000_000)
>>> quotes.parse(made.quote).report_data[:20] == bytes(19) + b"\\x01"
True
"""
