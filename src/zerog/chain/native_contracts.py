"""Addresses of the native contracts of Proof-of-Inference, and their kernels for code off chain."""

from __future__ import annotations

from zerog.errors import native_errors

VERIFY_RECEIPT = "0x0000000000000000000000000000000000000a10"
"""``verifyReceipt(InferenceReceipt,bytes,uint8)``: what the inference registry answers, for less gas."""
VERIFY_DCAP = "0x0000000000000000000000000000000000000a11"
"""``verifyDcap(bytes,bytes)`` and ``verifyDcapWithExpiry(bytes,bytes)``: quotes of trusted hardware."""


def receipt_slots() -> dict[str, int]:
    """Storage slots of the registry that `VERIFY_RECEIPT` reads, by the names of its members."""
    from zerog import _native

    return dict(_native.receipt_slots())


def verify_quote(quote: bytes, collateral: bytes, now: int) -> tuple[int, bytes, bytes, int]:
    """Status, measurement, report data and expiry of a quote, as `VERIFY_DCAP` judges it at ``now``.

    Raises
    ------
    ZerogError
        The quote or its collateral is invalid at that time (Unix seconds); the text says why.
    """
    from zerog import _native

    with native_errors():
        return _native.verify_quote(quote, collateral, now)
