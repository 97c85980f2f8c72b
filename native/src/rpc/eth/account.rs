//! Accounts: balance, nonce, code, storage and proofs at any kept block.

use std::collections::BTreeMap;

use alloy_consensus::constants::KECCAK_EMPTY;
use alloy_primitives::{Address, B256, U256};
use serde_json::value::RawValue;

use super::block_id::{with_state, BlockId};
use crate::primitives::{AccountInfo, StateRead};
use crate::rpc::codec;
use crate::rpc::params::invalid;
use crate::rpc::{Json, Params, RpcError, Scope};
use crate::state::AccountProof;

/// Slots of one eth_getStorageValues.
const MAX_STORAGE_SLOTS: usize = 1024;
/// Keys of one eth_getProof.
const MAX_PROOF_KEYS: usize = 1024;
/// "client limit exceeded".
const CLIENT_LIMIT: i64 = -38026;

/// A storage slot and whether it was given with all its 32 bytes: proofs repeat the form of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StorageKey {
    slot: U256,
    full_width: bool,
}

impl StorageKey {
    /// As lenient as geth: the prefix and leading zeros may be missing.
    fn parse(text: &str) -> Result<StorageKey, RpcError> {
        let refuse = |why: &str| RpcError::invalid_params(format!("{why}: {text:?}"));
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        if digits.len() > 64 {
            return Err(refuse("storage key too long (want at most 32 bytes)"));
        }
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(refuse("invalid hex in storage key"));
        }
        let slot = if digits.is_empty() { U256::ZERO } else { U256::from_str_radix(digits, 16).unwrap_or_default() };
        Ok(StorageKey { slot, full_width: digits.len() >= 63 })
    }

    fn from_raw(raw: &RawValue, index: usize) -> Result<StorageKey, RpcError> {
        StorageKey::parse(&codec::string(raw).map_err(|error| invalid(index, error))?)
    }
}

fn account(scope: &Scope<'_>, address: &Address, id: BlockId) -> Result<Option<AccountInfo>, RpcError> {
    with_state(scope, id, |state| Ok(state.account(address)?))
}

pub fn get_balance(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let address = params.address(0)?;
    let info = account(scope, &address, BlockId::argument(&params, 1)?)?;
    out.quantity_u256(&info.map_or(U256::ZERO, |info| info.balance));
    Ok(())
}

/// The nonce; `pending` counts the transactions that wait in the pool.
pub fn get_transaction_count(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let address = params.address(0)?;
    let id = BlockId::argument(&params, 1)?;
    let pooled = if id == BlockId::Pending { scope.engine().pool().next_nonce(&address) } else { None };
    let nonce = match pooled {
        Some(nonce) => nonce,
        None => {
            let id = if id == BlockId::Pending { BlockId::Latest } else { id };
            account(scope, &address, id)?.map_or(0, |info| info.nonce)
        }
    };
    out.quantity(nonce);
    Ok(())
}

pub fn get_code(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let address = params.address(0)?;
    with_state(scope, BlockId::argument(&params, 1)?, |state| write_code(state, state.account(&address)?.as_ref(), out))
}

fn write_code(state: &dyn StateRead, info: Option<&AccountInfo>, out: &mut Json) -> Result<(), RpcError> {
    match info.filter(|info| info.code_hash != KECCAK_EMPTY) {
        Some(info) => out.hex(state.code(&info.code_hash)?.unwrap_or_default()),
        None => out.hex([]),
    }
    Ok(())
}

pub fn get_storage_at(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(3)?;
    let address = params.address(0)?;
    let key = StorageKey::from_raw(params.required_raw(1)?, 1)?;
    with_state(scope, BlockId::argument(&params, 2)?, |state| {
        out.word(&state.storage(&address, &key.slot)?);
        Ok(())
    })
}

/// Many slots of many accounts at once: `{address: [slot, …]}` → `{address: [word, …]}`.
pub fn get_storage_values(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let wanted: BTreeMap<Address, Vec<B256>> = params.required(0)?;
    let slots: usize = wanted.values().map(Vec::len).sum();
    if slots > MAX_STORAGE_SLOTS {
        return Err(RpcError::new(CLIENT_LIMIT, format!("too many slots (max {MAX_STORAGE_SLOTS})")));
    }
    if slots == 0 {
        return Err(RpcError::invalid_params("empty request"));
    }
    with_state(scope, BlockId::argument(&params, 1)?, |state| {
        let mut values = Vec::with_capacity(slots);
        for (address, keys) in &wanted {
            for key in keys {
                values.push(state.storage(address, &U256::from_be_bytes(key.0))?);
            }
        }
        let mut values = values.iter();
        let mut object = out.object();
        for (address, keys) in &wanted {
            let name = alloy_primitives::hex::encode_prefixed(address);
            object.field(&name).array(values.by_ref().take(keys.len()), |out, value| out.word(value));
        }
        object.end();
        Ok(())
    })
}

pub fn get_proof(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(3)?;
    let address = params.address(0)?;
    let texts: Vec<&RawValue> = match params.raw(1) {
        Some(raw) => crate::decode::from_json(raw.get()).map_err(|why| invalid(1, why))?,
        None => Vec::new(),
    };
    if texts.len() > MAX_PROOF_KEYS {
        let got = texts.len();
        return Err(RpcError::invalid_params(format!(
            "too many storage keys requested (max {MAX_PROOF_KEYS}, got {got})"
        )));
    }
    let keys = texts.into_iter().map(|raw| StorageKey::from_raw(raw, 1)).collect::<Result<Vec<_>, _>>()?;
    let slots: Vec<U256> = keys.iter().map(|key| key.slot).collect();
    let view = scope.view()?;
    let number = match BlockId::argument(&params, 2)? {
        BlockId::Pending => view.head().header.number,
        id => id.existing(view)?,
    };
    write_proof(out, &address, &view.proof(number, &address, &slots)?, &keys);
    Ok(())
}

/// An EIP-1186 proof object.
fn write_proof(out: &mut Json, address: &Address, proof: &AccountProof, keys: &[StorageKey]) {
    let mut object = out.object();
    object.field("address").hex(address);
    object.field("accountProof").array(&proof.account_proof, |out, node| out.hex(node));
    let (balance, nonce, code_hash, storage_root) = match &proof.info {
        Some(info) => (info.balance, info.nonce, info.code_hash, proof.storage_root),
        // What geth answers for an account that is not in the trie.
        None => (U256::ZERO, 0, B256::ZERO, B256::ZERO),
    };
    object.field("balance").quantity_u256(&balance);
    object.field("nonce").quantity(nonce);
    object.field("codeHash").hex(code_hash);
    object.field("storageHash").hex(storage_root);
    object.field("storageProof").array(proof.storage.iter().zip(keys), |out, ((_, value, nodes), key)| {
        let mut object = out.object();
        if key.full_width {
            object.field("key").word(&key.slot);
        } else {
            object.field("key").quantity_u256(&key.slot);
        }
        object.field("value").quantity_u256(value);
        object.field("proof").array(nodes, |out, node| out.hex(node));
        object.end();
    });
    object.end();
}

/// Balance, nonce, code hash and storage root in one answer; `null` for an account that does not exist.
pub fn get_account(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let address = params.address(0)?;
    let view = scope.view()?;
    let number = match BlockId::argument(&params, 1)? {
        BlockId::Pending => view.head().header.number,
        id => id.existing(view)?,
    };
    let proof = view.proof(number, &address, &[])?;
    let Some(info) = &proof.info else {
        out.null();
        return Ok(());
    };
    let mut object = out.object();
    object.field("balance").quantity_u256(&info.balance);
    object.field("nonce").quantity(info.nonce);
    object.field("codeHash").hex(info.code_hash);
    object.field("storageRoot").hex(proof.storage_root);
    object.end();
    Ok(())
}

/// Balance, nonce and code in one answer.
pub fn get_account_info(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let address = params.address(0)?;
    with_state(scope, BlockId::argument(&params, 1)?, |state| {
        let info = state.account(&address)?;
        let mut object = out.object();
        object.field("balance").quantity_u256(&info.as_ref().map_or(U256::ZERO, |info| info.balance));
        object.field("nonce").quantity(info.as_ref().map_or(0, |info| info.nonce));
        write_code(state, info.as_ref(), object.field("code"))?;
        object.end();
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_keys_are_read_leniently() {
        let one = StorageKey { slot: U256::from(1), full_width: false };
        for text in ["0x1", "0x01", "1", "0X0001"] {
            assert_eq!(StorageKey::parse(text).unwrap(), one, "{text}");
        }
        assert_eq!(StorageKey::parse("0x").unwrap().slot, U256::ZERO);
        assert!(StorageKey::parse(&format!("0x{:064x}", 1)).unwrap().full_width);
    }

    #[test]
    fn a_bad_storage_key_is_quoted() {
        let error = StorageKey::parse("0xasdf").unwrap_err();
        assert_eq!((error.code, &*error.message), (-32602, "invalid hex in storage key: \"0xasdf\""));
        assert!(StorageKey::parse(&"1".repeat(65)).unwrap_err().message.starts_with("storage key too long"));
    }
}
