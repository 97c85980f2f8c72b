//! Private keys: derivation (BIP-39, BIP-32), signatures, key files. Nothing here keeps a key, and no
//! error holds any part of one.

mod keystore;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_network::TxSignerSync;
use alloy_primitives::{Address, Signature, TxKind, B256, U256};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_signer::SignerSync;
use alloy_signer_local::coins_bip39::{English, Mnemonic};
use alloy_signer_local::PrivateKeySigner;
use rayon::prelude::*;
use zeroize::Zeroizing;

pub use keystore::{decrypt, encrypt};

/// Half the order of secp256k1: a larger s is the twin of a smaller one and is refused (EIP-2).
const HALF_ORDER: U256 =
    U256::from_limbs([0xdfe9_2f46_681b_20a0, 0x5d57_6e73_57a4_501d, 0xffff_ffff_ffff_ffff, 0x7fff_ffff_ffff_ffff]);
/// More accounts than this in one call are a mistake.
const MAX_DERIVED: u32 = 100_000;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{0}")]
    Invalid(String),
    #[error("wrong password, or the key file was altered")]
    WrongPassword,
}

fn invalid(reason: impl Into<String>) -> KeyError {
    KeyError::Invalid(reason.into())
}

/// A private key as bytes that are wiped when dropped.
pub type SecretKey = Zeroizing<[u8; 32]>;

/// The first `count` accounts of a phrase; `path` ends before the index (`m/44'/60'/0'/0/`).
pub fn derive_accounts(phrase: &str, path: &str, count: u32) -> Result<Vec<(Address, SecretKey)>, KeyError> {
    if count > MAX_DERIVED {
        return Err(invalid(format!("{count} accounts are more than the limit of {MAX_DERIVED}")));
    }
    // The library's error may quote a word of the phrase: only its kind is told.
    let mnemonic = Mnemonic::<English>::new_from_phrase(phrase)
        .map_err(|_| invalid("the mnemonic is not a valid BIP-39 phrase (English words, checksum)"))?;
    let master = mnemonic.master_key(None).map_err(|_| invalid("the mnemonic gives no master key"))?;
    let prefix = path.trim_end_matches('/');
    let parent = master
        .derive_path(prefix)
        .map_err(|_| invalid(format!("derivation path {path:?} is not a BIP-32 path like m/44'/60'/0'/0/")))?;
    (0..count)
        .map(|index| {
            let child = parent
                .derive_path([index].as_slice())
                .map_err(|_| invalid(format!("no key at index {index} of {path:?}")))?;
            let key: &k256::ecdsa::SigningKey = child.as_ref();
            let signer = PrivateKeySigner::from_signing_key(key.clone());
            Ok((signer.address(), Zeroizing::new(signer.to_bytes().0)))
        })
        .collect()
}

/// A fresh phrase of 12, 15, 18, 21 or 24 words.
pub fn random_mnemonic(words: usize) -> Result<String, KeyError> {
    let mnemonic = Mnemonic::<English>::new_with_count(&mut rand_08::rngs::OsRng, words)
        .map_err(|_| invalid(format!("a phrase has 12, 15, 18, 21 or 24 words, not {words}")))?;
    Ok(mnemonic.to_phrase())
}

fn signer(key: &[u8]) -> Result<PrivateKeySigner, KeyError> {
    if key.len() != 32 {
        return Err(invalid(format!("a private key has 32 bytes, not {}", key.len())));
    }
    PrivateKeySigner::from_slice(key)
        .map_err(|_| invalid("the private key is zero or not below the order of secp256k1"))
}

pub fn address_of(key: &[u8]) -> Result<Address, KeyError> {
    Ok(signer(key)?.address())
}

/// r ‖ s ‖ v with v 27 or 28 and low s.
pub fn sign_digest(key: &[u8], digest: &B256) -> Result<[u8; 65], KeyError> {
    let signature = signer(key)?.sign_hash_sync(digest).map_err(|_| invalid("signing failed"))?;
    Ok(signature.as_bytes())
}

/// The signer of a digest. Strict: 65 bytes, v 27 or 28, low s: a signature has one form.
pub fn recover(digest: &B256, signature: &[u8]) -> Result<Address, KeyError> {
    let bytes: &[u8; 65] =
        signature.try_into().map_err(|_| invalid(format!("a signature has 65 bytes, not {}", signature.len())))?;
    let odd = match bytes[64] {
        27 => false,
        28 => true,
        v => return Err(invalid(format!("v of a signature is 27 or 28, not {v}"))),
    };
    let signature = Signature::new(U256::from_be_slice(&bytes[..32]), U256::from_be_slice(&bytes[32..64]), odd);
    if signature.s() > HALF_ORDER {
        return Err(invalid("s of the signature is in the upper half (EIP-2)"));
    }
    signature.recover_address_from_prehash(digest).map_err(|_| invalid("no key gives this signature"))
}

/// Senders of raw transactions in order; `None` for what is no transaction or has no valid signature.
pub fn recover_many(raws: &[Vec<u8>]) -> Vec<Option<Address>> {
    raws.par_iter()
        .map(|raw| {
            // Pooled form reads blob transactions with and without their sidecar.
            let sender = alloy_consensus::TxEnvelope::decode_2718_exact(raw).ok().map(|tx| tx.recover_signer());
            sender.and_then(Result::ok)
        })
        .collect()
}

/// The digest that a wallet signs for EIP-712 typed data.
pub fn eip712_digest(typed_data: &str) -> Result<B256, KeyError> {
    let data: alloy_dyn_abi::TypedData =
        serde_json::from_str(typed_data).map_err(|error| invalid(format!("typed data: {error}")))?;
    data.eip712_signing_hash().map_err(|error| invalid(format!("typed data: {error}")))
}

/// Signs a complete JSON-RPC transaction object; the network form (blob transactions with sidecar).
pub fn sign_transaction(key: &[u8], transaction: &str) -> Result<Vec<u8>, KeyError> {
    let signer = signer(key)?;
    let mut request: TransactionRequest =
        serde_json::from_str(transaction).map_err(|error| invalid(format!("transaction: {error}")))?;
    if let Some(from) = request.from {
        if from != signer.address() {
            return Err(invalid(format!("transaction: from is {from}, the key is of {}", signer.address())));
        }
    }
    // As in JSON-RPC, no recipient and some code is the creation of a contract.
    if request.to.is_none() && request.input.input().is_some_and(|code| !code.is_empty()) {
        request.to = Some(TxKind::Create);
    }
    if let Err((_, missing)) = request.missing_keys() {
        return Err(invalid(format!("transaction: {} missing", missing.join(", "))));
    }
    let mut tx = request
        .build_typed_tx()
        .map_err(|_| invalid("transaction: fields of its type are missing or contradict each other"))?;
    let signature = signer.sign_transaction_sync(&mut tx).map_err(|error| invalid(format!("transaction: {error}")))?;
    Ok(alloy_consensus::TxEnvelope::from(alloy_consensus::SignableTransaction::into_signed(tx, signature))
        .encoded_2718())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, hex, keccak256};

    const PHRASE: &str = "test test test test test test test test test test test junk";

    #[test]
    fn the_well_known_phrase_gives_the_well_known_accounts() {
        let accounts = derive_accounts(PHRASE, "m/44'/60'/0'/0/", 2).unwrap();
        assert_eq!(accounts[0].0, address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"));
        assert_eq!(accounts[1].0, address!("70997970C51812dc3A010C7d01b50e0d17dc79C8"));
        assert_eq!(hex::encode(*accounts[0].1), "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
    }

    #[test]
    fn a_bad_phrase_is_refused_without_being_quoted() {
        let error = derive_accounts("test test secretword", "m/44'/60'/0'/0/", 1).unwrap_err();
        assert!(!error.to_string().contains("secretword"));
    }

    #[test]
    fn a_random_phrase_has_as_many_words_as_asked_for_and_is_valid() {
        for words in [12, 15, 18, 21, 24] {
            let phrase = random_mnemonic(words).unwrap();
            assert_eq!(phrase.split(' ').count(), words);
            derive_accounts(&phrase, "m/44'/60'/0'/0/", 1).unwrap();
        }
        assert!(random_mnemonic(13).is_err());
    }

    #[test]
    fn a_signature_is_recovered_to_its_signer() {
        let key = derive_accounts(PHRASE, "m/44'/60'/0'/0", 1).unwrap().remove(0);
        let digest = keccak256(b"digest");
        let signature = sign_digest(&*key.1, &digest).unwrap();
        assert_eq!(recover(&digest, &signature).unwrap(), key.0);
    }

    #[test]
    fn the_high_s_twin_of_a_signature_is_refused() {
        let order =
            U256::from_str_radix("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16).unwrap();
        let digest = keccak256(b"digest");
        let mut signature = sign_digest(&[1; 32], &digest).unwrap();
        let s = order - U256::from_be_slice(&signature[32..64]);
        signature[32..64].copy_from_slice(&s.to_be_bytes::<32>());
        signature[64] = if signature[64] == 27 { 28 } else { 27 };
        assert!(recover(&digest, &signature).unwrap_err().to_string().contains("upper half"));
    }

    #[test]
    fn a_v_of_0_or_1_is_refused() {
        let digest = keccak256(b"digest");
        let mut signature = sign_digest(&[1; 32], &digest).unwrap();
        signature[64] -= 27;
        assert!(recover(&digest, &signature).is_err());
    }

    #[test]
    fn a_signed_transaction_recovers_to_the_key() {
        let key = [7; 32];
        let raw = sign_transaction(
            &key,
            r#"{"type":"0x2","chainId":"0x7a69","nonce":"0x0","gas":"0x5208","maxFeePerGas":"0x77359400",
                "maxPriorityFeePerGas":"0x1","to":"0x00000000000000000000000000000000000000aa","value":"0x1"}"#,
        )
        .unwrap();
        assert_eq!(recover_many(&[raw, vec![1, 2, 3]]), [Some(address_of(&key).unwrap()), None]);
    }

    #[test]
    fn a_transaction_without_its_nonce_is_refused_by_name() {
        let error = sign_transaction(
            &[7; 32],
            r#"{"type":"0x2","gas":"0x5208","maxFeePerGas":"0x1","maxPriorityFeePerGas":"0x1"}"#,
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("nonce"), "{error}");
    }

    #[test]
    fn a_key_of_the_wrong_length_or_range_is_refused() {
        assert!(address_of(&[1; 31]).is_err());
        assert!(address_of(&[0; 32]).is_err());
        assert!(address_of(&[0xff; 32]).is_err());
    }
}
