//! The state root from the flat state alone: an independent check of the incremental trie.
//!
//! Uses alloy's `HashBuilder` and nothing of `trie`. Holds one hash and value per account in memory.

use alloy_primitives::keccak256;
use alloy_trie::{HashBuilder, Nibbles};

use super::trie::roots::account_value;
use super::view::View;
use crate::primitives::{ReadError, B256, U256};

/// State root of the latest flat state.
pub(super) fn root(view: &View) -> Result<B256, ReadError> {
    let mut accounts = Vec::new();
    view.for_each_record(&mut |address, record, storage| {
        accounts.push((keccak256(address), account_value(&record.info, &storage_root(&storage))));
        true
    })?;
    Ok(root_of(accounts))
}

fn storage_root(storage: &[(U256, U256)]) -> B256 {
    root_of(
        storage.iter().map(|(slot, value)| (keccak256(slot.to_be_bytes::<32>()), alloy_rlp::encode(value))).collect(),
    )
}

fn root_of(mut leaves: Vec<(B256, Vec<u8>)>) -> B256 {
    leaves.sort_unstable();
    let mut builder = HashBuilder::default();
    for (key, value) in leaves {
        builder.add_leaf(Nibbles::unpack(key), &value);
    }
    builder.root()
}
