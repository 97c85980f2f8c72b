//! The node's own keys: development accounts for eth_accounts, eth_sign* and eth_sendTransaction.

use std::borrow::Cow;

use alloy_dyn_abi::eip712::Resolver;
use alloy_dyn_abi::{Eip712Domain, TypedData};
use alloy_primitives::{hex, Address, Bytes, Signature, B256};
use alloy_signer::SignerSync;
use alloy_signer_local::coins_bip39::English;
use alloy_signer_local::{MnemonicBuilder, PrivateKeySigner};

use super::config::Accounts;
use super::dispatch::{method, Class, Method, Scope};
use super::error::RpcError;
use super::eth::call::transaction_argument;
use super::json::Json;
use super::params::{invalid, Params};
use super::sending;
use crate::decode;

pub const METHODS: &[Method] = &[
    method("eth_accounts", Class::Inline, accounts),
    method("eth_sign", Class::Heavy, eth_sign),
    method("personal_sign", Class::Heavy, personal_sign),
    method("eth_signTransaction", Class::Heavy, sign_transaction),
    method("eth_signTypedData", Class::Heavy, sign_typed_data),
    method("eth_signTypedData_v3", Class::Heavy, sign_typed_data),
    method("eth_signTypedData_v4", Class::Heavy, sign_typed_data),
];

/// More accounts than anyone derives; each costs a key derivation at the start.
const MAX_ACCOUNTS: usize = 10_000;

/// Why the configured accounts cannot be used. Never shows a key or a word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalletError {
    #[error("accounts[{index}].key: {reason}")]
    Key { index: usize, reason: &'static str },
    #[error("accounts.mnemonic: not a valid BIP-39 phrase of 12 to 24 English words")]
    Mnemonic,
    #[error("accounts.path: {path:?} is not a derivation path")]
    Path { path: String },
    #[error("accounts: want at most {MAX_ACCOUNTS}, got {0}")]
    TooMany(usize),
}

/// Keys in their configured order.
pub struct Wallet {
    signers: Vec<PrivateKeySigner>,
}

impl Wallet {
    pub fn new(accounts: &Accounts) -> Result<Wallet, WalletError> {
        let signers = match accounts {
            Accounts::None => Vec::new(),
            Accounts::Keys(keys) => {
                bounded(keys.len())?;
                let parse = |(index, key): (usize, &super::config::Key)| {
                    signer_of(&key.key).map_err(|reason| WalletError::Key { index, reason })
                };
                keys.iter().enumerate().map(parse).collect::<Result<_, _>>()?
            }
            Accounts::Mnemonic { mnemonic, path, count } => {
                bounded(*count as usize)?;
                derive(mnemonic, path, *count)?
            }
        };
        Ok(Wallet { signers })
    }

    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.signers.iter().map(PrivateKeySigner::address)
    }

    pub fn first(&self) -> Option<Address> {
        self.addresses().next()
    }

    pub fn signer(&self, address: &Address) -> Option<&PrivateKeySigner> {
        self.signers.iter().find(|signer| signer.address() == *address)
    }

    fn require(&self, address: &Address) -> Result<&PrivateKeySigner, RpcError> {
        self.signer(address).ok_or_else(unknown_account)
    }
}

/// geth's words for an address without a key here.
pub(super) fn unknown_account() -> RpcError {
    RpcError::server("unknown account")
}

fn bounded(count: usize) -> Result<(), WalletError> {
    if count > MAX_ACCOUNTS {
        return Err(WalletError::TooMany(count));
    }
    Ok(())
}

fn signer_of(key: &str) -> Result<PrivateKeySigner, &'static str> {
    let digits = key.strip_prefix("0x").unwrap_or(key);
    let mut bytes = [0u8; 32];
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| "want 32 bytes in hex")?;
    PrivateKeySigner::from_slice(&bytes).map_err(|_| "not a secp256k1 private key")
}

fn derive(mnemonic: &str, path: &str, count: u32) -> Result<Vec<PrivateKeySigner>, WalletError> {
    let prefix = if path.ends_with('/') { path.to_owned() } else { format!("{path}/") };
    // The seed is stretched once, not per account.
    let parent_path = prefix.trim_end_matches('/');
    let parent = MnemonicBuilder::<English>::default()
        .phrase(mnemonic)
        .derivation_path(parent_path)
        .map_err(|_| WalletError::Path { path: path.to_owned() })?
        .build_key()
        .map_err(|_| WalletError::Mnemonic)?;
    (0..count)
        .map(|index| {
            let child = parent.child(index).map_err(|_| WalletError::Path { path: path.to_owned() })?;
            Ok(child.signer())
        })
        .collect()
}

fn accounts(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(0)?;
    out.array(scope.context().wallet.addresses(), |out, address| out.hex(address));
    Ok(())
}

fn eth_sign(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let signer = scope.context().wallet.require(&params.address(0)?)?;
    sign_message(signer, &params.data(1)?, out)
}

fn personal_sign(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    // A third argument (the password of geth's key store) has no meaning for keys that are not locked.
    params.at_most(3)?;
    let message = message_bytes(&params, 0)?;
    let signer = scope.context().wallet.require(&params.address(1)?)?;
    sign_message(signer, &message, out)
}

/// Hex data, or text taken as UTF-8 as wallets do.
fn message_bytes(params: &Params<'_>, index: usize) -> Result<Bytes, RpcError> {
    match params.data(index) {
        Ok(data) => Ok(data),
        Err(error) => match params.required::<String>(index) {
            Ok(text) if !text.starts_with("0x") => Ok(Bytes::from(text.into_bytes())),
            _ => Err(error),
        },
    }
}

/// EIP-191 version 0x45.
fn sign_message(signer: &PrivateKeySigner, message: &[u8], out: &mut Json) -> Result<(), RpcError> {
    let signature = signer.sign_message_sync(message).map_err(signing_failed)?;
    out.hex(signature.as_bytes());
    Ok(())
}

fn sign_transaction(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let filled = sending::fill(scope, transaction_argument(&params, 0)?)?;
    let signer = scope.context().wallet.require(&filled.sender)?;
    out.hex(sending::sign(signer, filled.tx)?);
    Ok(())
}

fn sign_typed_data(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let signer = scope.context().wallet.require(&params.address(0)?)?;
    let hash = typed_data_hash(params.required_raw(1)?.get()).map_err(|reason| invalid(1, reason))?;
    let signature = sign_hash(signer, &hash)?;
    out.hex(signature.as_bytes());
    Ok(())
}

/// The EIP-712 digest of a typed-data object, or of one that is given as a JSON string.
pub fn typed_data_hash(json: &str) -> Result<B256, String> {
    /// What [`TypedData`] consists of: it does not say itself which part is wrong.
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    #[allow(dead_code)]
    struct Parts {
        types: Resolver,
        primary_type: String,
        #[serde(default)]
        domain: Eip712Domain,
    }
    let text = match json.trim_start().starts_with('"') {
        true => decode::from_json::<String>(json).map(Cow::Owned),
        false => Ok(Cow::Borrowed(json)),
    };
    let typed = text.and_then(|text| {
        decode::from_json::<TypedData>(&text).map_err(|why| decode::from_json::<Parts>(&text).err().unwrap_or(why))
    });
    let typed = typed.map_err(|why| format!("typed data: {why}"))?;
    typed.eip712_signing_hash().map_err(|error| format!("typed data: {error}"))
}

pub(super) fn sign_hash(signer: &PrivateKeySigner, hash: &B256) -> Result<Signature, RpcError> {
    signer.sign_hash_sync(hash).map_err(signing_failed)
}

fn signing_failed(error: alloy_signer::Error) -> RpcError {
    RpcError::internal(format!("signing failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::address;

    const JUNK: &str = "test test test test test test test test test test test junk";

    #[test]
    fn the_wrong_part_of_typed_data_is_named() {
        assert_eq!(typed_data_hash("{}").unwrap_err(), "typed data: missing field `types`");
        assert_eq!(typed_data_hash(r#""{\"types\": {}}""#).unwrap_err(), "typed data: missing field `primaryType`");
    }

    fn mnemonic(phrase: &str, path: &str, count: u32) -> Result<Wallet, WalletError> {
        Wallet::new(&Accounts::Mnemonic { mnemonic: phrase.to_owned(), path: path.to_owned(), count })
    }

    #[test]
    fn the_well_known_phrase_gives_the_well_known_accounts() {
        let wallet = mnemonic(JUNK, "m/44'/60'/0'/0/", 10).unwrap();
        let addresses: Vec<Address> = wallet.addresses().collect();
        assert_eq!(addresses.len(), 10);
        assert_eq!(addresses[0], address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266"));
        assert_eq!(addresses[9], address!("a0Ee7A142d267C1f36714E4a8F75612F20a79720"));
    }

    #[test]
    fn a_path_works_with_and_without_its_last_slash() {
        let with = mnemonic(JUNK, "m/44'/60'/0'/0/", 1).unwrap();
        let without = mnemonic(JUNK, "m/44'/60'/0'/0", 1).unwrap();
        assert_eq!(with.first(), without.first());
    }

    #[test]
    fn bad_accounts_are_refused_without_showing_the_secret() {
        let error = mnemonic("hunter2 hunter2", "m/44'/60'/0'/0/", 1).err().unwrap();
        assert_eq!(error, WalletError::Mnemonic);
        assert!(!error.to_string().contains("hunter2"));
        let error = mnemonic(JUNK, "nonsense/x", 1).err().unwrap();
        assert!(matches!(error, WalletError::Path { .. }));
        let keys = Accounts::Keys(vec![super::super::config::Key { key: format!("0x{}", "00".repeat(32)) }]);
        let error = Wallet::new(&keys).err().unwrap();
        assert_eq!(error.to_string(), "accounts[0].key: not a secp256k1 private key");
        assert_eq!(mnemonic(JUNK, "m/0", 1_000_000).err().unwrap(), WalletError::TooMany(1_000_000));
    }

    #[test]
    fn typed_data_is_hashed_as_the_standard_says() {
        // The example of EIP-712; its digest stands in the standard's test file.
        let json = r#"{"types":{"EIP712Domain":[{"name":"name","type":"string"},{"name":"version","type":"string"},{"name":"chainId","type":"uint256"},{"name":"verifyingContract","type":"address"}],"Person":[{"name":"name","type":"string"},{"name":"wallet","type":"address"}],"Mail":[{"name":"from","type":"Person"},{"name":"to","type":"Person"},{"name":"contents","type":"string"}]},"primaryType":"Mail","domain":{"name":"Ether Mail","version":"1","chainId":1,"verifyingContract":"0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC"},"message":{"from":{"name":"Cow","wallet":"0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},"to":{"name":"Bob","wallet":"0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},"contents":"Hello, Bob!"}}"#;
        let want = "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2";
        assert_eq!(hex::encode(typed_data_hash(json).unwrap()), want);
        let quoted = serde_json::to_string(json).unwrap();
        assert_eq!(hex::encode(typed_data_hash(&quoted).unwrap()), want);
        assert!(typed_data_hash("{\"types\":{}}").unwrap_err().starts_with("typed data: "));
    }
}
