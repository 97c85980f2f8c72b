"""The mock certificate authority: certificates and revocation lists in the shape of Intel's, worth nothing.

Its root key is public (``data/mock_root_ca.key.pem``). The keys below it are derived from fixed strings, so that they
are as public as the root and every minted collateral looks alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from zerog.chain.keys import keccak256

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ROOT_NAME = "zerog MOCK Root CA - private key is public"
_BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
_END = datetime(2049, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self.certificate.public_bytes(Encoding.PEM).decode("ascii")

    def sign(self, message: bytes) -> bytes:
        """64 bytes r || s of an ECDSA signature over SHA-256."""
        return sign(self.key, message)


def public_key(name: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key that everybody can derive from ``name``."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.derive_private_key(int.from_bytes(keccak256(name.encode())) % P256_ORDER, ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """64 bytes r || s of an ECDSA signature over SHA-256; the same for the same message (RFC 6979)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True)))
    return r.to_bytes(32) + s.to_bytes(32)


@cache
def root() -> Identity:
    """The root as the precompile knows it."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    folder = files("zerog.inference.attestation") / "data"
    key = load_pem_private_key((folder / "mock_root_ca.key.pem").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Identity(x509.load_pem_x509_certificate((folder / "mock_root_ca.pem").read_bytes()), key)


def new_root(key: ec.EllipticCurvePrivateKey) -> Identity:
    """How ``data/mock_root_ca.pem`` was made. A new one is another root: the precompile embeds the old."""
    return _issue(_ROOT_NAME, key, None, is_authority=True)


def authority(name: str, issuer: Identity) -> Identity:
    """A certificate authority below ``issuer``."""
    return _issue(name, public_key(name), issuer, is_authority=True)


def leaf(name: str, issuer: Identity, extension: tuple[str, bytes] | None = None) -> Identity:
    """An end certificate, with one extension (dotted name, DER) if wanted."""
    return _issue(name, public_key(name), issuer, is_authority=False, extension=extension)


def revocation_list(
    issuer: Identity, issued: datetime, until: datetime, revoked: tuple[int, ...] = ()
) -> bytes:
    """A DER revocation list of ``issuer``; ``revoked`` are serial numbers."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(issued)
        .next_update(until)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(_authority_key(issuer), critical=False)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(issued).build()
        builder = builder.add_revoked_certificate(entry)
    crl = builder.sign(issuer.key, SHA256(), ecdsa_deterministic=True)
    return crl.public_bytes(Encoding.DER)


def _issue(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: Identity | None,
    *,
    is_authority: bool,
    extension: tuple[str, bytes] | None = None,
) -> Identity:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    subject = _name(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(keccak256(name.encode())[:19]))
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        builder = builder.add_extension(_authority_key(issuer), critical=False)
    if extension is not None:
        dotted, value = extension
        oid = x509.ObjectIdentifier(dotted)
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, value), critical=False)
    signer = key if issuer is None else issuer.key
    return Identity(builder.sign(signer, SHA256(), ecdsa_deterministic=True), key)


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "zerog devnet, MOCK"),
        ]
    )


def _usage(is_authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(issuer: Identity) -> x509.AuthorityKeyIdentifier:
    from cryptography import x509

    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
