//! Executed but uncommitted blocks over a committed state, for the import of many blocks per commit.

use std::collections::HashMap;

use crate::primitives::*;

#[derive(Default)]
struct Entry {
    info: Option<AccountInfo>,
    /// What the base holds of this account's storage is void.
    wiped: bool,
    storage: HashMap<U256, U256>,
}

/// Reads through the deltas of the blocks applied so far to the base state.
pub(super) struct Overlay<'a> {
    base: &'a dyn StateRead,
    accounts: HashMap<Address, Entry>,
    code: HashMap<B256, Bytes>,
    hashes: HashMap<u64, B256>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(base: &'a dyn StateRead) -> Overlay<'a> {
        Overlay { base, accounts: HashMap::new(), code: HashMap::new(), hashes: HashMap::new() }
    }

    pub(super) fn apply(&mut self, block: &ExecutedBlock) {
        self.hashes.insert(block.block.header.number, block.block.hash);
        for (address, change) in &block.delta.accounts {
            let entry = self.accounts.entry(*address).or_default();
            entry.info = change.info.clone();
            if change.storage_wiped || change.info.is_none() {
                entry.wiped = true;
                entry.storage.clear();
            }
            entry.storage.extend(change.storage.iter().map(|(slot, value)| (*slot, *value)));
        }
        self.code.extend(block.delta.code.iter().map(|(hash, code)| (*hash, code.clone())));
    }
}

impl StateRead for Overlay<'_> {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError> {
        match self.accounts.get(address) {
            Some(entry) => Ok(entry.info.clone()),
            None => self.base.account(address),
        }
    }

    fn storage(&self, address: &Address, slot: &U256) -> Result<U256, ReadError> {
        match self.accounts.get(address) {
            Some(entry) => match entry.storage.get(slot) {
                Some(value) => Ok(*value),
                None if entry.wiped => Ok(U256::ZERO),
                None => self.base.storage(address, slot),
            },
            None => self.base.storage(address, slot),
        }
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, ReadError> {
        match self.code.get(hash) {
            Some(code) => Ok(Some(code.clone())),
            None => self.base.code(hash),
        }
    }

    fn has_storage(&self, address: &Address) -> Result<bool, ReadError> {
        match self.accounts.get(address) {
            Some(entry) if entry.storage.values().any(|value| !value.is_zero()) => Ok(true),
            Some(entry) if entry.wiped => Ok(false),
            _ => self.base.has_storage(address),
        }
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, ReadError> {
        match self.hashes.get(&number) {
            Some(hash) => Ok(Some(*hash)),
            None => self.base.block_hash(number),
        }
    }
}
