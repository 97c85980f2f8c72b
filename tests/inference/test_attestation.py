"""Layout of quotes, bindings, and what mock quotes say about themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from zerog.chain.native_contracts import verify_quote
from zerog.cli.infer import infer
from zerog.errors import InferenceError, ZerogError
from zerog.inference.attestation import authority, mock, quotes

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests/data/attestation"
NOW = 1_750_420_800
SIGNER = bytes([0x11] * 20)


@pytest.mark.parametrize("name", ["tdx_quote", "sgx_quote", "mock_quote"])
def test_python_reads_what_the_native_contract_verifies(name):
    quote = (SAMPLES / f"{name}.bin").read_bytes()
    _, measurement, report_data, _ = verify_quote(
        quote, (SAMPLES / f"{name}_collateral.json").read_bytes(), NOW
    )
    parsed = quotes.parse(quote)
    assert (parsed.measurement, parsed.report_data) == (measurement, report_data)


def test_a_quote_of_version_5_is_read():
    parsed = quotes.parse((SAMPLES / "tdx_quote_outdated.bin").read_bytes())
    assert (parsed.kind, parsed.version) == (quotes.TeeKind.TDX, 5)


@pytest.mark.parametrize("size", [0, 10, 53, 54, 600])
def test_a_truncated_quote_is_refused(size):
    with pytest.raises(InferenceError):
        quotes.parse((SAMPLES / "tdx_quote.bin").read_bytes()[:size])


def test_a_huge_quote_is_refused_unread():
    with pytest.raises(InferenceError, match="more than 16384"):
        quotes.parse(bytes(16_385))


def test_the_native_engine_embeds_the_root_of_the_package():
    folder = ROOT / "native/src/execution"
    root = authority.root()
    assert (folder / "mock_root_ca.der").read_bytes() == root.certificate.public_bytes(Encoding.DER)
    assert (folder / "mock_root_ca.pem").read_text() == root.pem
    assert x509.load_pem_x509_certificate(root.pem.encode()).public_key() == root.key.public_key()
    assert authority.new_root(root.key).pem == root.pem


def test_minting_is_reproducible_and_the_fixture_is_current():
    made = mock.mint(SIGNER, now=1_750_000_000)
    assert made.quote == (SAMPLES / "mock_quote.bin").read_bytes()
    assert made.collateral == (SAMPLES / "mock_quote_collateral.json").read_bytes()


def test_a_mock_says_that_it_is_one():
    made = mock.mint(SIGNER, now=NOW)
    assert "MOCK" in repr(made)
    assert verify_quote(made.quote, made.collateral, NOW)[0] & quotes.MOCK_STATUS
    for identity in (authority.root(), mock._pck(), mock._tcb_signer()):
        assert "MOCK" in identity.certificate.subject.rfc4514_string()


def test_a_mock_platform_has_the_status_it_is_given():
    made = mock.mint(SIGNER, now=NOW, status="OutOfDate")
    assert verify_quote(made.quote, made.collateral, NOW)[0] == quotes.MOCK_STATUS | 4


def test_a_mock_expires_and_can_be_revoked():
    made = mock.mint(SIGNER, now=NOW, validity=60)
    with pytest.raises(ZerogError, match="CrlExpired"):
        verify_quote(made.quote, made.collateral, NOW + 61)
    revoked = mock.mint(SIGNER, now=NOW, revoked=True)
    with pytest.raises(ZerogError, match="CertRevoked"):
        verify_quote(revoked.quote, revoked.collateral, NOW)


def test_the_command_makes_a_quote_that_verifies_and_says_mock(tmp_path):
    arguments = ["quote", "--mock", "--signer", "0x" + SIGNER.hex(), "--at", str(NOW), "--out", str(tmp_path)]
    told = CliRunner().invoke(infer, arguments)
    assert told.exit_code == 0, told.output
    assert told.output.startswith("MOCK")
    shown = json.loads(CliRunner().invoke(infer, [*arguments, "--json"]).output)
    assert shown["mock"] is True
    verified = verify_quote(Path(shown["quote"]).read_bytes(), Path(shown["collateral"]).read_bytes(), NOW)
    assert verified[2][:20] == SIGNER


def test_the_command_makes_no_quote_that_pretends_to_be_real():
    refused = CliRunner().invoke(infer, ["quote", "--signer", "0x" + SIGNER.hex()])
    assert refused.exit_code != 0
    assert "proves nothing" in refused.output
