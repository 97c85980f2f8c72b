//! Verification of quotes of trusted hardware (SGX, TDX) as a native contract.
//!
//! The clock is the block's timestamp and the collateral comes with the call: no network, no clock of the machine.
//! Collateral is the JSON object that PCCS clients and the `dcap-qvl` tools write (`QuoteCollateralV3`), with exactly its
//! members. A chain of trust that names the mock root, whose private key is public, is judged by that root and marked in
//! the status; every other one is judged by Intel's.

use std::panic::{catch_unwind, AssertUnwindSafe};

use alloy_primitives::keccak256;
use dcap_qvl::configs::RingConfig;
use dcap_qvl::quote::{Quote, Report};
use dcap_qvl::verify::QuoteVerifier as Verifier;
use dcap_qvl::{QuoteClaims, QuoteCollateralV3, QuotePolicy, TcbStatus};
use serde::Deserialize;

use super::calldata::{encode_bytes, Arguments};
use super::evm::{Precompile, PrecompileCall, PrecompileResult};
use crate::primitives::*;

/// 0x…0A11.
pub const DCAP_ADDRESS: Address = Address::new([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0x11]);
pub const MAX_QUOTE: usize = 16_384;
pub const MAX_COLLATERAL: usize = 65_536;
/// Set in a status when the chain of trust ends in [`MOCK_ROOT`].
pub const MOCK: u8 = 0x80;

/// Of every call, whatever the quote is: ten P-256 signatures and the parsing of at most 80 kB.
const GAS: u64 = 100_000;
/// `verifyDcap(bytes,bytes)`: status, measurement, report data.
const VERIFY: [u8; 4] = [0xea, 0x8d, 0x28, 0x47];
/// `verifyDcapWithExpiry(bytes,bytes)`: these and the second in which the first part of the collateral expires.
const VERIFY_WITH_EXPIRY: [u8; 4] = [0x79, 0x90, 0xcc, 0xd8];
/// `DcapInvalid(string)`.
const INVALID: [u8; 4] = [0x23, 0xe1, 0xe9, 0x31];
/// Longest reason in an error, in bytes.
const MAX_REASON: usize = 256;

const MOCK_ROOT: &[u8] = include_bytes!("mock_root_ca.der");
const MOCK_ROOT_PEM: &str = include_str!("mock_root_ca.pem");
/// Certificates of a chain: more would let path building take its time.
const MAX_CHAIN: usize = 3;

pub(super) struct QuoteVerifier;

impl Precompile for QuoteVerifier {
    fn address(&self) -> Address {
        DCAP_ADDRESS
    }

    fn name(&self) -> &'static str {
        "VERIFY_DCAP"
    }

    fn call(&self, call: PrecompileCall<'_, '_>) -> PrecompileResult {
        if GAS > call.gas {
            return PrecompileResult::OutOfGas;
        }
        let revert = |output| PrecompileResult::Revert { gas_used: GAS, output };
        let plain = Arguments::of(call.input, VERIFY, 2);
        let arguments = plain.or_else(|| Arguments::of(call.input, VERIFY_WITH_EXPIRY, 2));
        let parts = arguments.and_then(|arguments| Some((arguments.bytes(0)?, arguments.bytes(1)?)));
        let Some((quote, collateral)) = parts.filter(|_| call.value.is_zero()) else {
            return revert(Bytes::new());
        };
        let now = u64::try_from(call.timestamp()).unwrap_or(u64::MAX);
        match verify(quote, collateral, now) {
            Ok(verdict) => PrecompileResult::Return { gas_used: GAS, output: verdict.encode(plain.is_none()) },
            Err(reason) => revert(refusal(&reason)),
        }
    }
}

/// What a verified quote says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Numbered as in [`number_of`], with [`MOCK`].
    pub status: u8,
    pub measurement: B256,
    pub report_data: [u8; 64],
    /// Unix second in which the first part of the collateral expires.
    pub expires: u64,
}

impl Verdict {
    fn encode(&self, with_expiry: bool) -> Bytes {
        let words = if with_expiry { 4 } else { 3 };
        let mut output = U256::from(self.status).to_be_bytes::<32>().to_vec();
        output.extend(self.measurement);
        output.extend(U256::from(words * 32).to_be_bytes::<32>());
        if with_expiry {
            output.extend(U256::from(self.expires).to_be_bytes::<32>());
        }
        encode_bytes(&mut output, &self.report_data);
        output.into()
    }
}

fn refusal(reason: &str) -> Bytes {
    let mut body = U256::from(32).to_be_bytes::<32>().to_vec();
    encode_bytes(&mut body, &reason.as_bytes()[..reason.floor_char_boundary(MAX_REASON)]);
    [INVALID.as_slice(), &body].concat().into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collateral<'a> {
    pck_crl_issuer_chain: String,
    #[serde(borrow)]
    root_ca_crl: Hex<'a>,
    pck_crl: Hex<'a>,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: Hex<'a>,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: Hex<'a>,
    pck_certificate_chain: Option<String>,
}

#[derive(Deserialize)]
struct Hex<'a>(#[serde(borrow)] &'a str);

impl Hex<'_> {
    fn bytes(&self, member: &str) -> Result<Vec<u8>, String> {
        let plain = !self.0.starts_with("0x");
        let decoded = plain.then(|| alloy_primitives::hex::decode(self.0).ok()).flatten();
        decoded.ok_or_else(|| format!("collateral: {member} is not hexadecimal without 0x"))
    }
}

impl Collateral<'_> {
    fn decode(json: &[u8]) -> Result<QuoteCollateralV3, String> {
        let raw: Collateral<'_> = serde_json::from_slice(json).map_err(|error| format!("collateral: {error}"))?;
        let (own, chains) =
            (raw.pck_certificate_chain.as_deref(), [&raw.tcb_info_issuer_chain, &raw.qe_identity_issuer_chain]);
        for chain in chains.into_iter().map(String::as_str).chain(own) {
            bounded_chain(chain.as_bytes())?;
        }
        Ok(QuoteCollateralV3 {
            root_ca_crl: raw.root_ca_crl.bytes("root_ca_crl")?,
            pck_crl: raw.pck_crl.bytes("pck_crl")?,
            tcb_info_signature: raw.tcb_info_signature.bytes("tcb_info_signature")?,
            qe_identity_signature: raw.qe_identity_signature.bytes("qe_identity_signature")?,
            pck_crl_issuer_chain: raw.pck_crl_issuer_chain,
            tcb_info_issuer_chain: raw.tcb_info_issuer_chain,
            tcb_info: raw.tcb_info,
            qe_identity_issuer_chain: raw.qe_identity_issuer_chain,
            qe_identity: raw.qe_identity,
            pck_certificate_chain: raw.pck_certificate_chain,
        })
    }
}

fn bounded_chain(pem: &[u8]) -> Result<(), String> {
    let certificates = pem.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
    if certificates > MAX_CHAIN {
        return Err(format!("a chain of {certificates} certificates, more than {MAX_CHAIN}"));
    }
    Ok(())
}

const BEGIN: &[u8] = b"-----BEGIN ";

/// Verifies `quote` with `collateral` at `now` (Unix seconds).
///
/// # Errors
/// The reason in words. It is part of the chain's state transition like any revert data: the crate that verifies is
/// pinned, and a new version of it is a fork.
pub fn verify(quote: &[u8], collateral: &[u8], now: u64) -> Result<Verdict, String> {
    for (name, size, limit) in [("quote", quote.len(), MAX_QUOTE), ("collateral", collateral.len(), MAX_COLLATERAL)] {
        if size > limit {
            return Err(format!("the {name} has {size} bytes, more than {limit}"));
        }
    }
    let collateral = Collateral::decode(collateral)?;
    bounded_chain(quote)?;
    whole(quote)?;
    let is_mock = collateral.tcb_info_issuer_chain.trim_end().ends_with(MOCK_ROOT_PEM.trim_end());
    let verifier = if is_mock {
        Verifier::<RingConfig>::new_with_config(MOCK_ROOT.to_vec())
    } else {
        Verifier::new_prod().with_config()
    };
    // The crate means to refuse whatever is hostile. Should it panic instead, then on every node alike, and a block
    // that cannot be executed would be worse than a quote that is refused.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        verifier.verify_with_policy(quote, collateral, now, &QuotePolicy::claims_only(now))
    }));
    let claims = match outcome {
        Ok(verified) => verified.map_err(|error| format!("{error:#}"))?,
        Err(_) => return Err("the quote cannot be judged".to_owned()),
    };
    Ok(verdict(&claims, is_mock))
}

/// Hardware pads a quote with zeros; anything else behind it is refused.
fn whole(quote: &[u8]) -> Result<(), String> {
    let parsed = Quote::parse(quote).map_err(|error| format!("{error:#}"))?;
    let size_at = parsed.signed_length();
    let size =
        quote.get(size_at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |size| u32::from_le_bytes(*size));
    match quote.get(size_at + 4 + size as usize..) {
        Some(rest) if rest.iter().all(|byte| *byte == 0) => Ok(()),
        _ => Err("bytes behind the quote".to_owned()),
    }
}

fn verdict(claims: &QuoteClaims, is_mock: bool) -> Verdict {
    let (measurement, report_data) = match &claims.report {
        Report::SgxEnclave(report) => {
            (keccak256([report.mr_enclave, report.mr_signer].as_flattened()), report.report_data)
        }
        Report::TD10(report) => measured(report),
        Report::TD15(report) => measured(&report.base),
        Report::TD15Ex(report) => measured(&report.base.base),
    };
    let status = number_of(claims.tcb.status) | if is_mock { MOCK } else { 0 };
    Verdict { status, measurement, report_data, expires: claims.earliest_expiration_date }
}

/// The image of a TD: what was loaded (MRTD) and started (RTMR 0 to 2). RTMR 3 is the application's own log.
fn measured(report: &dcap_qvl::quote::TDReport10) -> (B256, [u8; 64]) {
    let registers = [report.mr_td, report.rt_mr0, report.rt_mr1, report.rt_mr2];
    (keccak256(registers.as_flattened()), report.report_data)
}

fn number_of(status: TcbStatus) -> u8 {
    match status {
        TcbStatus::UpToDate => 0,
        TcbStatus::SWHardeningNeeded => 1,
        TcbStatus::ConfigurationNeeded => 2,
        TcbStatus::ConfigurationAndSWHardeningNeeded => 3,
        TcbStatus::OutOfDate => 4,
        TcbStatus::OutOfDateConfigurationNeeded => 5,
        TcbStatus::Revoked => 6,
        TcbStatus::TDRelaunchAdvised => 7,
        TcbStatus::TDRelaunchAdvisedConfigurationNeeded => 8,
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;
    use proptest::prelude::*;

    use super::*;

    macro_rules! sample {
        ($name:literal) => {
            (
                include_bytes!(concat!("../../../tests/data/attestation/", $name, ".bin")).as_slice(),
                include_bytes!(concat!("../../../tests/data/attestation/", $name, "_collateral.json")).as_slice(),
            )
        };
    }
    const TDX: (&[u8], &[u8]) = sample!("tdx_quote");
    const SGX: (&[u8], &[u8]) = sample!("sgx_quote");
    const OUTDATED: (&[u8], &[u8]) = sample!("tdx_quote_outdated");
    const MINTED: (&[u8], &[u8]) = sample!("mock_quote");
    /// 2025-06-20, noon.
    const NOW: u64 = 1_750_420_800;
    const FEBRUARY: u64 = 1_771_500_000;
    /// Offset of the report data in a TDX quote of version 4.
    const REPORT_DATA: usize = 48 + 520;

    fn reason((quote, collateral): (&[u8], &[u8]), now: u64) -> String {
        verify(quote, collateral, now).unwrap_err()
    }

    #[test]
    fn a_real_tdx_quote_is_up_to_date_on_its_day() {
        let verdict = verify(TDX.0, TDX.1, NOW).unwrap();
        assert_eq!(verdict.status, 0);
        assert_eq!(verdict.report_data, TDX.0[REPORT_DATA..REPORT_DATA + 64]);
        let measured = [&TDX.0[48 + 136..48 + 184], &TDX.0[48 + 328..48 + 472]].concat();
        assert_eq!(verdict.measurement, keccak256(measured));
        assert_eq!(verdict.expires, 1_752_919_235);
    }

    #[test]
    fn a_real_sgx_quote_has_its_own_status() {
        let verdict = verify(SGX.0, SGX.1, NOW).unwrap();
        assert_eq!(verdict.status, 3); // ConfigurationAndSWHardeningNeeded
        assert_eq!(&verdict.report_data[..12], b"Hello, world");
    }

    #[test]
    fn an_outdated_platform_is_refused() {
        assert_eq!(reason(OUTDATED, FEBRUARY), "No matching TCB level found");
    }

    #[test]
    fn collateral_has_its_time() {
        assert_eq!(reason(TDX, NOW + 60 * 86_400), "TCBInfo expired");
        assert_eq!(reason(TDX, NOW - 60 * 86_400), "TCBInfo issue date is in the future");
        assert!(reason(MINTED, NOW + 60 * 86_400).contains("CrlExpired"));
    }

    #[test]
    fn a_flipped_bit_of_the_report_data_is_noticed() {
        let mut quote = TDX.0.to_vec();
        quote[REPORT_DATA] ^= 1;
        assert_eq!(reason((&quote, TDX.1), NOW), "ISV enclave report signature is invalid");
    }

    #[test]
    fn a_mock_quote_is_marked() {
        let verdict = verify(MINTED.0, MINTED.1, NOW).unwrap();
        assert_eq!(verdict.status, MOCK);
        assert_eq!(verdict.report_data[..20], [0x11; 20]);
    }

    #[test]
    fn a_real_quote_gains_nothing_from_mock_collateral_nor_the_other_way() {
        assert!(verify(TDX.0, MINTED.1, NOW).is_err());
        assert!(verify(MINTED.0, TDX.1, NOW).is_err());
    }

    #[test]
    fn limits_hold_before_anything_is_decoded() {
        assert_eq!(reason((&[0; MAX_QUOTE + 1], b""), NOW), "the quote has 16385 bytes, more than 16384");
        assert_eq!(reason((b"", &[0; MAX_COLLATERAL + 1]), NOW), "the collateral has 65537 bytes, more than 65536");
    }

    #[test]
    fn collateral_has_exactly_its_members() {
        let text = std::str::from_utf8(MINTED.1).unwrap();
        let extra = text.replacen('{', r#"{"more":1,"#, 1);
        let missing = text.replacen("root_ca_crl", "root_ca_crt", 1);
        let twice = text.replacen('{', r#"{"tcb_info":"","#, 1);
        let prefixed = text.replacen(r#""pck_crl":""#, r#""pck_crl":"0x"#, 1);
        for (bad, part) in [
            (extra, "unknown field"),
            (missing, "unknown field"),
            (twice, "duplicate field"),
            (prefixed, "pck_crl is not hexadecimal"),
            (format!("{text} {{}}"), "trailing characters"),
            ("{}".to_owned(), "missing field"),
            (String::new(), "EOF"),
        ] {
            let reason = reason((MINTED.0, bad.as_bytes()), NOW);
            assert!(reason.starts_with("collateral: ") && reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn long_chains_are_refused_unread() {
        let chain = "-----BEGIN CERTIFICATE-----\\n".repeat(4);
        let text = std::str::from_utf8(MINTED.1).unwrap();
        let long = text.replacen(r#""tcb_info_issuer_chain":""#, &format!(r#""tcb_info_issuer_chain":"{chain}"#), 1);
        assert_eq!(reason((MINTED.0, long.as_bytes()), NOW), "a chain of 6 certificates, more than 3");
    }

    #[test]
    fn only_zeros_may_follow_a_quote() {
        let padded = [MINTED.0, &[0; 9]].concat();
        assert!(verify(&padded, MINTED.1, NOW).is_ok());
        let trailed = [MINTED.0, &[0, 1]].concat();
        assert_eq!(reason((&trailed, MINTED.1), NOW), "bytes behind the quote");
    }

    #[test]
    fn an_answer_is_abi_encoded() {
        let verdict = Verdict { status: 0x81, measurement: B256::repeat_byte(2), report_data: [3; 64], expires: 4 };
        let (plain, long) = (verdict.encode(false), verdict.encode(true));
        assert_eq!((plain.len(), long.len()), (6 * 32, 7 * 32));
        assert_eq!((plain[31], plain[95], long[95], long[127]), (0x81, 96, 128, 4));
        assert_eq!(plain[128..], [3; 64]);
        assert_eq!(long[160..], [3; 64]);
        let error = refusal(&"ä".repeat(200));
        assert_eq!(error[..4], hex!("23e1e931"));
        assert_eq!((error.len(), error[67]), (4 + 64 + 256, 0)); // 256 bytes: the length's last byte is zero
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn bent_quotes_are_refused_without_a_panic(at in 0usize..4087, bit in 0u8..8, cut in 0usize..4087) {
            let mut quote = MINTED.0.to_vec();
            quote[at] ^= 1 << bit;
            // A changed letter case or line break of the nested PEM text may leave the certificate as it was.
            if let Ok(verdict) = verify(&quote, MINTED.1, NOW) {
                prop_assert_eq!(verdict, verify(MINTED.0, MINTED.1, NOW).unwrap());
            }
            prop_assert!(verify(&MINTED.0[..cut], MINTED.1, NOW).is_err());
        }

        #[test]
        fn bent_collateral_never_changes_the_verdict(at in 0usize..7409, byte in any::<u8>(), cut in 0usize..7409) {
            let mut collateral = MINTED.1.to_vec();
            collateral[at] = byte;
            if let Ok(verdict) = verify(MINTED.0, &collateral, NOW) {
                prop_assert_eq!(verdict, verify(MINTED.0, MINTED.1, NOW).unwrap());
            }
            prop_assert!(verify(MINTED.0, &MINTED.1[..cut], NOW).is_err());
        }

        #[test]
        fn noise_is_refused(quote in prop::collection::vec(any::<u8>(), 0..5000), version in 3u8..6, kind in any::<bool>()) {
            let mut quote = quote;
            if quote.len() > 8 {
                quote[..8].copy_from_slice(&[version, 0, 2, 0, if kind { 0x81 } else { 0 }, 0, 0, 0]);
            }
            prop_assert!(verify(&quote, MINTED.1, NOW).is_err());
        }
    }
}
