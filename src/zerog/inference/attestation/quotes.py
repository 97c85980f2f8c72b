"""Layout of SGX and TDX quotes, as far as a provider and an auditor need it.

Source: Intel, "Quote Generation, Verification and Attestation with Intel SGX/TDX DCAP", appendix A; the same offsets
as the `dcap-qvl` crate, which verifies them on chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from zerog.chain.keys import keccak256
from zerog.errors import InferenceError

MAX_QUOTE_SIZE = 16_384
"""Largest quote that the precompile takes, in bytes."""
MAX_COLLATERAL_SIZE = 65_536
"""Largest collateral that the precompile takes, in bytes."""
MOCK_STATUS = 0x80
"""Bit of a status: the chain of trust ends in the mock root, not in Intel's."""

_HEADER = 48
_SGX_REPORT = 384
_TDX_REPORTS = {2: 584, 3: 648, 4: 885}
_TEE_SGX, _TEE_TDX = 0x00, 0x81


class TeeKind(Enum):
    """Which hardware a quote comes from."""

    SGX = "SGX"
    TDX = "TDX"


class TcbStatus(IntEnum):
    """State of a platform's updates, as precompile 0x…0A11 numbers it."""

    UP_TO_DATE = 0
    SW_HARDENING_NEEDED = 1
    CONFIGURATION_NEEDED = 2
    CONFIGURATION_AND_SW_HARDENING_NEEDED = 3
    OUT_OF_DATE = 4
    OUT_OF_DATE_CONFIGURATION_NEEDED = 5
    REVOKED = 6
    TD_RELAUNCH_ADVISED = 7
    TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED = 8


@dataclass(frozen=True, slots=True)
class Quote:
    """What a quote states; nothing of it is verified here.

    ``measurement`` is what allow-lists hold: keccak256 over MRTD and RTMR 0 to 2, or over MRENCLAVE and MRSIGNER.
    """

    kind: TeeKind
    version: int
    measurement: bytes
    report_data: bytes


def parse(quote: bytes) -> Quote:
    """Reads a quote.

    Raises
    ------
    InferenceError
        It is too large, truncated, or of an unknown version or kind.
    """
    if len(quote) > MAX_QUOTE_SIZE:
        raise InferenceError(f"the quote has {len(quote)} bytes, more than {MAX_QUOTE_SIZE}")
    if len(quote) < _HEADER + 6:
        raise InferenceError(f"the quote has {len(quote)} bytes, fewer than its header")
    version = int.from_bytes(quote[:2], "little")
    tee = int.from_bytes(quote[4:8], "little")
    start = _HEADER
    if version == 5:
        body = int.from_bytes(quote[_HEADER : _HEADER + 2], "little")
        size = _SGX_REPORT if body == 1 else _TDX_REPORTS.get(body, 0)
        kind = TeeKind.SGX if body == 1 else TeeKind.TDX
        start += 6
    elif version in (3, 4) and tee == _TEE_SGX:
        kind, size = TeeKind.SGX, _SGX_REPORT
    elif version == 4 and tee == _TEE_TDX:
        kind, size = TeeKind.TDX, _TDX_REPORTS[2]
    else:
        size = 0
    report = quote[start : start + size]
    if not size or len(report) < size:
        raise InferenceError(f"no quote of a known kind: version {version}, TEE type {tee:#x}")
    if kind is TeeKind.SGX:
        measured = report[64:96] + report[128:160]
        return Quote(kind, version, keccak256(measured), report[320:384])
    measured = report[136:184] + report[328:472]
    return Quote(kind, version, keccak256(measured), report[520:584])


def quote_hash(quote: bytes) -> bytes:
    """``evidenceHash`` of the receipts of a provider that was admitted with this quote."""
    return keccak256(quote)


def binding_to_signer(signer: bytes) -> bytes:
    """``report_data`` (64 bytes) that binds a quote to the signer's 20-byte address on every chain."""
    return signer.ljust(64, b"\0")


def binding_to_registry(signer: bytes, registry: bytes, chain_id: int, nonce: int) -> bytes:
    """``report_data`` that binds a quote to a signer at one registry of one chain.

    ``nonce`` is `TeeAttestation.nonceOf(provider)`: it moves on with every quote that was admitted in this form.
    """
    content = b"".join(part.rjust(32, b"\0") for part in (signer, registry))
    content += chain_id.to_bytes(32) + nonce.to_bytes(32)
    return keccak256(content).ljust(64, b"\0")


def binding_of_broker(signer: bytes) -> bytes:
    """``report_data`` as 0G's compute broker writes it: the address as ASCII, lower case, with 0x."""
    return f"0x{signer.hex()}".encode("ascii").ljust(64, b"\0")
