//! A whole state in memory with roots rebuilt from scratch: for fixtures, whose states are small, and as the
//! independent reference in tests.

use std::collections::BTreeMap;

use alloy_primitives::{keccak256, KECCAK256_EMPTY};
use alloy_trie::root::{state_root_unhashed, storage_root_unhashed};
use alloy_trie::TrieAccount;

use crate::primitives::*;

/// Accounts with their storage, code by hash, and block hashes.
#[derive(Clone, Debug, Default)]
pub struct MemoryState {
    pub accounts: BTreeMap<Address, (AccountInfo, BTreeMap<U256, U256>)>,
    pub code: BTreeMap<B256, Bytes>,
    pub block_hashes: BTreeMap<u64, B256>,
    /// Answers BLOCKHASH n with keccak256 of n in decimal, as state tests expect.
    pub synthetic_block_hashes: bool,
}

impl MemoryState {
    pub fn from_delta(delta: &StateDelta) -> MemoryState {
        let mut state = MemoryState::default();
        state.apply(delta);
        state
    }

    pub fn apply(&mut self, delta: &StateDelta) {
        for (hash, code) in &delta.code {
            self.code.insert(*hash, code.clone());
        }
        for (address, change) in &delta.accounts {
            let Some(info) = &change.info else {
                self.accounts.remove(address);
                continue;
            };
            let (now, storage) = self.accounts.entry(*address).or_insert_with(|| (info.clone(), BTreeMap::new()));
            *now = info.clone();
            if change.storage_wiped {
                storage.clear();
            }
            for (slot, value) in &change.storage {
                if value.is_zero() {
                    storage.remove(slot);
                } else {
                    storage.insert(*slot, *value);
                }
            }
        }
    }

    pub fn root(&self) -> B256 {
        state_root_unhashed(self.accounts.iter().map(|(address, (info, storage))| {
            let slots = storage.iter().map(|(slot, value)| (B256::from(*slot), *value));
            let account = TrieAccount {
                nonce: info.nonce,
                balance: info.balance,
                storage_root: storage_root_unhashed(slots),
                code_hash: info.code_hash,
            };
            (*address, account)
        }))
    }
}

impl StateRead for MemoryState {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError> {
        Ok(self.accounts.get(address).map(|(info, _)| info.clone()))
    }

    fn storage(&self, address: &Address, slot: &U256) -> Result<U256, ReadError> {
        let account = self.accounts.get(address);
        Ok(account.and_then(|(_, storage)| storage.get(slot)).copied().unwrap_or_default())
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, ReadError> {
        if *hash == KECCAK256_EMPTY {
            return Ok(Some(Bytes::new()));
        }
        Ok(self.code.get(hash).cloned())
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, ReadError> {
        if self.synthetic_block_hashes {
            return Ok(Some(keccak256(number.to_string())));
        }
        Ok(self.block_hashes.get(&number).copied())
    }

    fn has_storage(&self, address: &Address) -> Result<bool, ReadError> {
        Ok(self.accounts.get(address).is_some_and(|(_, storage)| !storage.is_empty()))
    }
}

/// Roots over a copy of a [`MemoryState`].
pub struct MemoryRoots(MemoryState);

impl MemoryRoots {
    pub fn over(state: &MemoryState) -> MemoryRoots {
        MemoryRoots(state.clone())
    }
}

impl RootCalculator for MemoryRoots {
    fn apply(&mut self, delta: &StateDelta) -> Result<(), ReadError> {
        self.0.apply(delta);
        Ok(())
    }

    fn root(&mut self) -> Result<B256, ReadError> {
        Ok(self.0.root())
    }

    fn take_updates(&mut self) -> Result<TrieUpdates, ReadError> {
        Ok(TrieUpdates { root: self.0.root(), ..TrieUpdates::default() })
    }
}
