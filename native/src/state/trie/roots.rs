//! State roots over a committed state plus deltas: the account trie and the storage tries it names.

use std::collections::{BTreeMap, HashMap, HashSet};

use alloy_primitives::keccak256;
use alloy_trie::{Nibbles, TrieAccount, EMPTY_ROOT_HASH};
use rayon::prelude::*;

use super::{Changes, NoRecords, Records, Trie, Update, PARALLEL_UPDATES};
use crate::primitives::*;
use crate::state::tables::{storage_trie, ACCOUNT_TRIE};

/// The committed state under the deltas.
pub(in crate::state) trait BaseState: Records {
    /// Storage root of the account in the flat state; the empty root when there is none.
    fn storage_root(&self, address: &Address) -> Result<B256, ReadError>;
    /// Keys of all records of the account's storage trie.
    fn storage_records(&self, address: &Address) -> Result<Vec<Vec<u8>>, ReadError>;
}

impl BaseState for NoRecords {
    fn storage_root(&self, _address: &Address) -> Result<B256, ReadError> {
        Ok(EMPTY_ROOT_HASH)
    }

    fn storage_records(&self, _address: &Address) -> Result<Vec<Vec<u8>>, ReadError> {
        Ok(Vec::new())
    }
}

/// The changes of one account since the last root.
#[derive(Debug, Default)]
struct Pending {
    info: Option<AccountInfo>,
    wiped: bool,
    storage: BTreeMap<U256, U256>,
}

impl Pending {
    fn merge(&mut self, delta: &AccountDelta) {
        if delta.storage_wiped || delta.info.is_none() {
            self.wiped = true;
            self.storage.clear();
        }
        self.info.clone_from(&delta.info);
        if self.info.is_some() {
            self.storage.extend(delta.storage.iter().map(|(slot, value)| (*slot, *value)));
        }
    }
}

/// The [`RootCalculator`] of the store.
pub(in crate::state) struct Roots<B> {
    base: B,
    accounts: Trie,
    storage: HashMap<Address, Trie>,
    pending: BTreeMap<Address, Pending>,
    /// Storage roots of every account whose storage changed since `base`.
    storage_roots: HashMap<Address, B256>,
    /// Those that changed since the last `take_updates`.
    fresh: HashSet<Address>,
    /// Root at the last `take_updates`.
    taken: B256,
}

impl Roots<NoRecords> {
    /// Over the empty state.
    pub(in crate::state) fn empty() -> Roots<NoRecords> {
        Roots::over(NoRecords, EMPTY_ROOT_HASH)
    }
}

impl<B: BaseState> Roots<B> {
    /// Over a committed state with state root `root`.
    pub(in crate::state) fn over(base: B, root: B256) -> Roots<B> {
        Roots {
            base,
            accounts: Trie::open(ACCOUNT_TRIE, root),
            storage: HashMap::new(),
            pending: BTreeMap::new(),
            storage_roots: HashMap::new(),
            fresh: HashSet::new(),
            taken: root,
        }
    }

    pub(in crate::state) fn storage_root(&self, address: &Address) -> Result<B256, ReadError> {
        match self.storage_roots.get(address) {
            Some(root) => Ok(*root),
            None => self.base.storage_root(address),
        }
    }

    /// Takes the storage roots of some accounts as given, without their storage tries.
    pub(in crate::state) fn assume_storage_roots(&mut self, roots: impl IntoIterator<Item = (Address, B256)>) {
        self.storage_roots.extend(roots);
    }

    /// Brings the tries up to date with everything applied.
    fn settle(&mut self) -> Result<(), ReadError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        self.settle_storage(&mut pending)?;
        let addresses: Vec<(Address, Pending)> = pending.into_iter().collect();
        let roots = addresses
            .iter()
            .map(|(address, account)| match account.info {
                Some(_) => self.storage_root(address),
                None => Ok(EMPTY_ROOT_HASH),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let entry = |((address, account), storage_root): (&(Address, Pending), &B256)| Update {
            key: Nibbles::unpack_array(&keccak256(address).0),
            value: account.info.as_ref().map(|info| account_value(info, storage_root)),
        };
        let mut updates: Vec<Update> = if addresses.len() >= PARALLEL_UPDATES {
            let mut updates: Vec<Update> = addresses.par_iter().zip(&roots).map(entry).collect();
            updates.par_sort_unstable_by_key(|update| update.key);
            updates
        } else {
            addresses.iter().zip(&roots).map(entry).collect()
        };
        updates.sort_unstable_by_key(|update| update.key);
        self.accounts.update(&self.base, &mut updates)
    }

    fn settle_storage(&mut self, pending: &mut BTreeMap<Address, Pending>) -> Result<(), ReadError> {
        let mut touched: Vec<(Address, Trie)> = Vec::new();
        let mut slots = 0;
        for (address, account) in pending {
            if !account.wiped && account.storage.is_empty() {
                continue;
            }
            let root = self.storage_root(address)?;
            if root == EMPTY_ROOT_HASH && account.storage.values().all(U256::is_zero) {
                continue;
            }
            let prefix = storage_trie(address);
            let mut trie = self.storage.remove(address).unwrap_or_else(|| Trie::open(&prefix, root));
            if account.wiped {
                trie.clear(self.base.storage_records(address)?);
            }
            slots += account.storage.len();
            trie.update(&self.base, &mut slot_updates(&account.storage))?;
            touched.push((*address, trie));
        }
        if slots >= PARALLEL_UPDATES && touched.len() > 1 {
            touched.par_iter_mut().for_each(|(_, trie)| {
                trie.root();
            });
        }
        for (address, mut trie) in touched {
            self.storage_roots.insert(address, trie.root());
            self.fresh.insert(address);
            self.storage.insert(address, trie);
        }
        Ok(())
    }

    /// Proof of `address` and of `slots` in its storage, in the state with everything applied.
    pub(in crate::state) fn prove(&mut self, address: &Address, slots: &[U256]) -> Result<AddressProof, ReadError> {
        self.settle()?;
        let account = self.accounts.prove(&self.base, &Nibbles::unpack_array(&keccak256(address).0))?;
        let root = self.storage_root(address)?;
        let prefix = storage_trie(address);
        let trie = self.storage.entry(*address).or_insert_with(|| Trie::open(&prefix, root));
        let mut storage = Vec::with_capacity(slots.len());
        for slot in slots {
            storage.push(trie.prove(&self.base, &slot_path(slot))?);
        }
        Ok(AddressProof { account, storage_root: root, storage })
    }
}

/// Proof nodes of an account and of some of its slots.
pub(in crate::state) struct AddressProof {
    pub(in crate::state) account: Vec<Bytes>,
    pub(in crate::state) storage_root: B256,
    pub(in crate::state) storage: Vec<Vec<Bytes>>,
}

impl<B: BaseState> RootCalculator for Roots<B> {
    fn apply(&mut self, delta: &StateDelta) -> Result<(), ReadError> {
        for (address, account) in &delta.accounts {
            self.pending.entry(*address).or_default().merge(account);
        }
        Ok(())
    }

    fn root(&mut self) -> Result<B256, ReadError> {
        self.settle()?;
        Ok(self.accounts.root())
    }

    fn take_updates(&mut self) -> Result<TrieUpdates, ReadError> {
        let root = self.root()?;
        let mut storage_roots = BTreeMap::new();
        let mut nodes: Changes = self.accounts.take_changes();
        for address in std::mem::take(&mut self.fresh) {
            if let Some(trie) = self.storage.get_mut(&address) {
                storage_roots.insert(address, trie.root());
                nodes.extend(trie.take_changes());
            }
        }
        nodes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(TrieUpdates { nodes, storage_roots, base: std::mem::replace(&mut self.taken, root), root })
    }
}

fn slot_path(slot: &U256) -> Nibbles {
    Nibbles::unpack_array(&keccak256(slot.to_be_bytes::<32>()).0)
}

fn slot_updates(storage: &BTreeMap<U256, U256>) -> Vec<Update> {
    let entry = |(slot, value): (&U256, &U256)| Update {
        key: slot_path(slot),
        value: (!value.is_zero()).then(|| alloy_rlp::encode(value)),
    };
    let mut updates: Vec<Update> = storage.iter().map(entry).collect();
    updates.sort_unstable_by_key(|update| update.key);
    updates
}

/// The account's value in the trie.
pub(in crate::state) fn account_value(info: &AccountInfo, storage_root: &B256) -> Vec<u8> {
    alloy_rlp::encode(TrieAccount {
        nonce: info.nonce,
        balance: info.balance,
        storage_root: *storage_root,
        code_hash: info.code_hash,
    })
}
