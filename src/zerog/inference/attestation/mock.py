"""Mints MOCK quotes of TDX with their collateral: everything real but the trust."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from zerog.chain.keys import keccak256
from zerog.inference.attestation import authority
from zerog.inference.attestation.quotes import binding_to_signer, parse

LABEL = "MOCK quote: its root key is public, it proves nothing"
"""What is shown beside every mock quote."""
VALIDITY = 30 * 86_400
"""Seconds that minted collateral is good for; Intel's lasts as long."""
DEFAULT_IMAGE = "zerog mock image"

_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_FMSPC = bytes.fromhex("00005a45524f")  # "ZERO" in ASCII, no platform of Intel's
_PCE_SVN = 11
_CPU_SVN = bytes([2] * 16)
_TEE_TCB_SVN = bytes([5, 0, 2]) + bytes(13)
_QE_SVN = 4
_QE_SIGNER = keccak256(b"zerog MOCK quoting enclave signer")
_SGX = "1.2.840.113741.1.13.1"
# DER of the object identifier above without tag and length.
_SGX_OID = bytes.fromhex("2a864886f84d010d01")


@dataclass(frozen=True, slots=True)
class MockQuote:
    """A quote and the collateral with which the precompile verifies it, both as it takes them."""

    quote: bytes
    collateral: bytes
    measurement: bytes

    def __repr__(self) -> str:
        return f"<{LABEL}: measurement 0x{self.measurement.hex()}>"


def mint(
    signer: bytes,
    *,
    now: int,
    image: str = DEFAULT_IMAGE,
    status: str = "UpToDate",
    validity: int = VALIDITY,
    report_data: bytes | None = None,
    revoked: bool = False,
) -> MockQuote:
    """A mock TDX quote that binds ``signer``.

    Parameters
    ----------
    signer : 20-byte address that the provider will sign receipts with.
    now : clock of the chain in Unix seconds; the collateral is good from a minute before.
    image : name of the image; decides the measurement.
    status : what the TCB info says about the platform, for example ``OutOfDate``.
    validity : seconds until the collateral expires.
    report_data : 64 bytes to bind something else, see `quotes`.
    revoked : whether the revocation list names the platform's certificate.
    """
    data = binding_to_signer(signer) if report_data is None else report_data
    quote = _quote(image, data)
    begin = datetime.fromtimestamp(now, UTC) - timedelta(minutes=1)
    collateral = _collateral(begin, begin + timedelta(minutes=1, seconds=validity), status, revoked)
    encoded = json.dumps(collateral, separators=(",", ":")).encode("ascii")
    return MockQuote(quote, encoded, parse(quote).measurement)


# The quote.


def _quote(image: str, report_data: bytes) -> bytes:
    """A TDX quote of version 4 with nested certification data (type 6 around type 5)."""
    header = b"".join(
        [_le(4, 2), _le(2, 2), _le(0x81, 4), _le(0, 2), _le(0, 2), _VENDOR, bytes(20)],
    )
    signed = header + _td_report(image, report_data)
    attester = authority.public_key("zerog MOCK attestation key")
    point = attester.public_key().public_numbers()
    attestation_key = point.x.to_bytes(32) + point.y.to_bytes(32)
    extra = bytes(range(32))
    enclave = _qe_report(_sha256(attestation_key + extra) + bytes(32))
    chain = "".join(identity.pem for identity in (_pck(), _pck_authority(), authority.root())).encode()
    certified = b"".join(
        [enclave, _pck().sign(enclave), _le(len(extra), 2), extra, _le(5, 2), _le(len(chain), 4), chain]
    )
    authenticated = b"".join(
        [authority.sign(attester, signed), attestation_key, _le(6, 2), _le(len(certified), 4), certified]
    )
    return signed + _le(len(authenticated), 4) + authenticated


def _td_report(image: str, report_data: bytes) -> bytes:
    """A TD report 1.0 (584 bytes); attributes: no debugging, SEPT_VE_DISABLE."""
    name = image.encode()
    return b"".join(
        [
            _TEE_TCB_SVN,
            _register(b"mrseam"),
            bytes(48 + 8),
            _le(1 << 28, 8),
            _le(0xE7, 8),
            _register(b"mrtd", name),
            bytes(3 * 48),
            *(_register(b"rtmr%d" % index, name) for index in range(4)),
            report_data,
        ]
    )


def _register(*parts: bytes) -> bytes:
    """48 bytes of a measurement register."""
    return keccak256(b"zerog MOCK " + b" ".join(parts)).ljust(48, b"\x5a")


def _qe_report(report_data: bytes) -> bytes:
    """The enclave report (384 bytes) of the quoting enclave."""
    return b"".join(
        [
            _CPU_SVN,
            bytes(4 + 28),
            _le(0x11, 16),
            keccak256(b"zerog MOCK quoting enclave"),
            bytes(32),
            _QE_SIGNER,
            bytes(96),
            _le(2, 2),
            _le(_QE_SVN, 2),
            bytes(60),
            report_data,
        ]
    )


# The certificates.


@cache
def _pck_authority() -> authority.Identity:
    return authority.authority("zerog MOCK PCK Platform CA", authority.root())


@cache
def _pck() -> authority.Identity:
    return authority.leaf("zerog MOCK PCK Certificate", _pck_authority(), (_SGX, _sgx_extension()))


@cache
def _tcb_signer() -> authority.Identity:
    return authority.leaf("zerog MOCK TCB Signing", authority.root())


def _sgx_extension() -> bytes:
    """Intel's extension of a PCK certificate: platform, versions, family (PCK Certificate Profile, section 1.3.5)."""
    tcb = [_entry((2, index + 1), _integer(svn)) for index, svn in enumerate(_CPU_SVN)]
    tcb += [_entry((2, 17), _integer(_PCE_SVN)), _entry((2, 18), _octets(_CPU_SVN))]
    entries = [
        _entry((1,), _octets(b"zerog MOCK PPID.")),
        _entry((2,), _sequence(*tcb)),
        _entry((3,), _octets(bytes(2))),
        _entry((4,), _octets(_FMSPC)),
        _entry((5,), _der(0x0A, b"\x01")),
    ]
    return _sequence(*entries)


def _entry(suffix: tuple[int, ...], value: bytes) -> bytes:
    return _sequence(_der(0x06, _SGX_OID + bytes(suffix)), value)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x82, size >> 8, size & 0xFF])
    return bytes([tag]) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


def _octets(content: bytes) -> bytes:
    return _der(0x04, content)


def _integer(value: int) -> bytes:
    return _der(0x02, bytes([value]))


# The collateral.


def _collateral(issued: datetime, until: datetime, status: str, revoked: bool) -> dict[str, str]:
    root, signer = authority.root(), _tcb_signer()
    issuer_chain = signer.pem + root.pem
    tcb_info = json.dumps(_tcb_info(issued, until, status), separators=(",", ":"))
    qe_identity = json.dumps(_qe_identity(issued, until), separators=(",", ":"))
    serials = (_pck().certificate.serial_number,) if revoked else ()
    return {
        "pck_crl_issuer_chain": _pck_authority().pem + root.pem,
        "root_ca_crl": authority.revocation_list(root, issued, until).hex(),
        "pck_crl": authority.revocation_list(_pck_authority(), issued, until, serials).hex(),
        "tcb_info_issuer_chain": issuer_chain,
        "tcb_info": tcb_info,
        "tcb_info_signature": signer.sign(tcb_info.encode()).hex(),
        "qe_identity_issuer_chain": issuer_chain,
        "qe_identity": qe_identity,
        "qe_identity_signature": signer.sign(qe_identity.encode()).hex(),
    }


def _tcb_info(issued: datetime, until: datetime, status: str) -> dict[str, object]:
    level = {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn} for svn in _CPU_SVN],
            "pcesvn": _PCE_SVN,
            "tdxtcbcomponents": [{"svn": svn} for svn in _TEE_TCB_SVN],
        },
        "tcbDate": _time(issued),
        "tcbStatus": status,
    }
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    return {
        "id": "TDX",
        "version": 3,
        "issueDate": _time(issued),
        "nextUpdate": _time(until),
        "fmspc": _FMSPC.hex().upper(),
        "pceId": "0000",
        "tcbType": 0,
        "tcbEvaluationDataNumber": 1,
        "tdxModule": module,
        "tcbLevels": [level],
    }


def _qe_identity(issued: datetime, until: datetime) -> dict[str, object]:
    level = {"tcb": {"isvsvn": _QE_SVN}, "tcbDate": _time(issued), "tcbStatus": "UpToDate"}
    return {
        "id": "TD_QE",
        "version": 2,
        "issueDate": _time(issued),
        "nextUpdate": _time(until),
        "tcbEvaluationDataNumber": 1,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11" + "00" * 15,
        "attributesMask": "FB" + "FF" * 7 + "00" * 8,
        "mrsigner": _QE_SIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": [level],
    }


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _le(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def _sha256(content: bytes) -> bytes:
    from hashlib import sha256

    return sha256(content).digest()
