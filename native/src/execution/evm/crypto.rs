//! The cryptography behind the precompiles: revm's own, except for KZG proofs.
//!
//! revm loads the whole trusted setup with tables at the first point evaluation: seconds and 100 MB. Checking one proof
//! needs a single point of it, which the blst variant has built in.

use std::sync::Once;

use revm::precompile::kzg_point_evaluation::blst::verify_kzg_proof;
use revm::precompile::{install_crypto, Crypto, PrecompileHalt};

#[derive(Debug)]
struct WithoutSetup;

impl Crypto for WithoutSetup {
    fn verify_kzg_proof(
        &self,
        z: &[u8; 32],
        y: &[u8; 32],
        commitment: &[u8; 48],
        proof: &[u8; 48],
    ) -> Result<(), PrecompileHalt> {
        if verify_kzg_proof(commitment, z, y, proof) {
            Ok(())
        } else {
            Err(PrecompileHalt::BlobVerifyKzgProofFailed)
        }
    }
}

/// Takes effect for the whole process; must run before the first precompile does.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Refused only when another provider is installed already, and nobody else installs one.
        install_crypto(WithoutSetup);
    });
}

#[cfg(test)]
mod tests {
    use alloy_primitives::hex;

    use super::*;

    // c-kzg-4844, verify_kzg_proof_case_correct_proof_4_4.
    const COMMITMENT: [u8; 48] =
        hex!("8f59a8d2a1a625a17f3fea0fe5eb8c896db3764f3185481bc22f91b4aaffcca25f26936857bc3a7c2539ea8ec3a952b7");
    const Z: [u8; 32] = hex!("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000000");
    const Y: [u8; 32] = hex!("1522a4a7f34e1ea350ae07c29c96c7e79655aa926122e95fe69fcbd932ca49e9");
    const PROOF: [u8; 48] =
        hex!("a62ad71d14c5719385c0686f1871430475bf3a00f0aa3f7b8dd99a9abc2160744faf0070725e00b60ad9a026a15b1a8c");

    #[test]
    fn a_correct_proof_passes_and_every_altered_part_fails() {
        assert!(WithoutSetup.verify_kzg_proof(&Z, &Y, &COMMITMENT, &PROOF).is_ok());
        let zero = [0; 32];
        assert!(WithoutSetup.verify_kzg_proof(&zero, &Y, &COMMITMENT, &PROOF).is_err());
        assert!(WithoutSetup.verify_kzg_proof(&Z, &zero, &COMMITMENT, &PROOF).is_err());
        assert!(WithoutSetup.verify_kzg_proof(&Z, &Y, &PROOF, &PROOF).is_err());
        assert!(WithoutSetup.verify_kzg_proof(&Z, &Y, &COMMITMENT, &COMMITMENT).is_err());
    }

    #[test]
    fn the_precompile_uses_it() {
        install();
        assert!(format!("{:?}", revm::precompile::crypto()).contains("WithoutSetup"));
    }
}
