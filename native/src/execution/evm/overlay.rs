//! The in-block state: a cache over a [`StateRead`] that collects changes and turns them into a [`StateDelta`].

use std::collections::hash_map::Entry as MapEntry;
use std::num::NonZeroUsize;
use std::sync::LazyLock;

use alloy_primitives::map::{AddressMap, B256Map, HashMap, U256Map};
use alloy_primitives::{keccak256, KECCAK256_EMPTY};
use lru::LruCache;
use parking_lot::Mutex;
use revm::database_interface::DBErrorMarker;
use revm::state::{Account, AccountInfo as EvmInfo, Bytecode, EvmState};
use revm::Database;

use crate::primitives::*;

impl DBErrorMarker for ReadError {}

/// Analysed contracts of all states, by code hash: analysis costs more than the calls that use it.
static ANALYSED: LazyLock<Mutex<LruCache<B256, Bytecode>>> =
    LazyLock::new(|| Mutex::new(LruCache::new(ANALYSED_CONTRACTS)));
/// 512 contracts of at most [`ANALYSED_MAX_SIZE`] bytes each.
const ANALYSED_CONTRACTS: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Larger code (only possible where the EIP-170 limit is lifted) is analysed every time.
const ANALYSED_MAX_SIZE: usize = 64 * 1024;

#[derive(Clone, Copy, Debug)]
struct Slot {
    now: U256,
    before: U256,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    now: Option<AccountInfo>,
    before: Option<AccountInfo>,
    /// The storage below is void: the account was destroyed or created anew.
    wiped: bool,
    slots: U256Map<Slot>,
}

impl Entry {
    fn changed_slots(&self) -> impl Iterator<Item = (U256, U256)> + '_ {
        self.slots.iter().filter_map(|(key, slot)| {
            let changed = if self.wiped { !slot.now.is_zero() } else { slot.now != slot.before };
            changed.then_some((*key, slot.now))
        })
    }

    fn delta(&self) -> Option<AccountDelta> {
        let storage_wiped = self.wiped && self.before.is_some();
        let delta = AccountDelta { info: self.now.clone(), storage_wiped, storage: self.changed_slots().collect() };
        let same = self.now == self.before && !storage_wiped && delta.storage.is_empty();
        (!same).then_some(delta)
    }
}

/// State that persists across transactions, calls and simulated blocks; reads fall through to `base`.
pub struct Overlay<'a> {
    base: &'a dyn StateRead,
    accounts: AddressMap<Entry>,
    code: B256Map<Bytecode>,
    /// Hashes of blocks that exist only here (simulation); they shadow `base`.
    block_hashes: HashMap<u64, B256>,
    /// An account that shows another code hash when it is loaded (see the handler's EIP-7610 rule).
    pretended: Option<(Address, B256)>,
    /// Accounts committed since the last [`Overlay::take_step`]; kept only for chains that ask for steps.
    step: Option<Vec<Address>>,
}

impl std::fmt::Debug for Overlay<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overlay").field("accounts", &self.accounts.len()).finish_non_exhaustive()
    }
}

impl<'a> Overlay<'a> {
    pub fn new(base: &'a dyn StateRead) -> Overlay<'a> {
        Overlay {
            base,
            accounts: AddressMap::default(),
            code: B256Map::default(),
            block_hashes: HashMap::default(),
            pretended: None,
            step: None,
        }
    }

    fn entry(&mut self, address: Address) -> Result<&mut Entry, ReadError> {
        match self.accounts.entry(address) {
            MapEntry::Occupied(entry) => Ok(entry.into_mut()),
            MapEntry::Vacant(vacant) => {
                let info = self.base.account(&address)?;
                Ok(vacant.insert(Entry { before: info.clone(), now: info, ..Entry::default() }))
            }
        }
    }

    pub fn account(&mut self, address: Address) -> Result<Option<AccountInfo>, ReadError> {
        Ok(self.entry(address)?.now.clone())
    }

    /// [`Overlay::account`] without caching.
    pub fn peek_account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError> {
        match self.accounts.get(address) {
            Some(entry) => Ok(entry.now.clone()),
            None => self.base.account(address),
        }
    }

    /// [`Overlay::slot`] without caching.
    pub fn peek_slot(&self, address: &Address, key: &U256) -> Result<U256, ReadError> {
        let Some(entry) = self.accounts.get(address) else {
            return self.base.storage(address, key);
        };
        match entry.slots.get(key) {
            Some(slot) => Ok(slot.now),
            None if entry.wiped || entry.before.is_none() => Ok(U256::ZERO),
            None => self.base.storage(address, key),
        }
    }

    pub fn slot(&mut self, address: Address, key: U256) -> Result<U256, ReadError> {
        let base = self.base;
        let entry = self.entry(address)?;
        match entry.slots.entry(key) {
            MapEntry::Occupied(slot) => Ok(slot.get().now),
            MapEntry::Vacant(vacant) => {
                let value =
                    if entry.wiped || entry.before.is_none() { U256::ZERO } else { base.storage(&address, &key)? };
                vacant.insert(Slot { now: value, before: value });
                Ok(value)
            }
        }
    }

    /// True if the account holds storage (EIP-7610 forbids to create a contract on top of it).
    pub fn has_storage(&mut self, address: Address) -> Result<bool, ReadError> {
        let base = self.base;
        let entry = self.entry(address)?;
        if entry.slots.values().any(|slot| !slot.now.is_zero()) {
            return Ok(true);
        }
        if entry.wiped || entry.before.is_none() {
            return Ok(false);
        }
        base.has_storage(&address)
    }

    pub fn code(&self, hash: B256) -> Result<Bytes, ReadError> {
        Ok(self.bytecode(hash)?.original_bytes())
    }

    pub(super) fn bytecode(&self, hash: B256) -> Result<Bytecode, ReadError> {
        if hash == KECCAK256_EMPTY || hash.is_zero() {
            return Ok(Bytecode::default());
        }
        if let Some(code) = self.code.get(&hash) {
            return Ok(code.clone());
        }
        if let Some(code) = ANALYSED.lock().get(&hash) {
            return Ok(code.clone());
        }
        let Some(bytes) = self.base.code(&hash)? else {
            return Err(ReadError::Store(format!("no code with hash {hash}")));
        };
        let cacheable = bytes.len() <= ANALYSED_MAX_SIZE;
        let code = Bytecode::new_raw(bytes);
        if cacheable {
            ANALYSED.lock().put(hash, code.clone());
        }
        Ok(code)
    }

    pub fn set_balance(&mut self, address: Address, balance: U256) -> Result<(), ReadError> {
        self.change(address, |info| info.balance = balance)
    }

    /// Credits `amount`; an account that does not exist comes into being only for a positive amount.
    pub fn credit(&mut self, address: Address, amount: U256) -> Result<(), ReadError> {
        if amount.is_zero() {
            return Ok(());
        }
        self.change(address, |info| info.balance = info.balance.saturating_add(amount))
    }

    pub fn set_nonce(&mut self, address: Address, nonce: u64) -> Result<(), ReadError> {
        self.change(address, |info| info.nonce = nonce)
    }

    pub fn set_code(&mut self, address: Address, code: Bytes) -> Result<(), ReadError> {
        let hash = if code.is_empty() { KECCAK256_EMPTY } else { keccak256(&code) };
        if hash != KECCAK256_EMPTY {
            self.code.insert(hash, Bytecode::new_raw(code));
        }
        self.change(address, |info| info.code_hash = hash)
    }

    pub fn set_slot(&mut self, address: Address, key: U256, value: U256) -> Result<(), ReadError> {
        self.slot(address, key)?;
        if let Some(slot) = self.entry(address)?.slots.get_mut(&key) {
            slot.now = value;
        }
        self.change(address, |_| {})
    }

    /// Replaces the whole storage of the account.
    pub fn replace_storage(
        &mut self,
        address: Address,
        storage: impl IntoIterator<Item = (U256, U256)>,
    ) -> Result<(), ReadError> {
        let entry = self.entry(address)?;
        entry.wiped = true;
        entry.slots.clear();
        for (key, now) in storage {
            entry.slots.insert(key, Slot { now, before: U256::ZERO });
        }
        self.change(address, |_| {})
    }

    pub fn set_block_hash(&mut self, number: u64, hash: B256) {
        self.block_hashes.insert(number, hash);
    }

    /// Changes the account, creating it where it does not exist.
    fn change(&mut self, address: Address, f: impl FnOnce(&mut AccountInfo)) -> Result<(), ReadError> {
        let entry = self.entry(address)?;
        f(entry.now.get_or_insert(AccountInfo { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY }));
        if let Some(step) = &mut self.step {
            step.push(address);
        }
        Ok(())
    }

    pub(super) fn pretend_code(&mut self, shown: Option<(Address, B256)>) {
        self.pretended = shown;
    }

    /// Takes over what a transaction did.
    pub(super) fn commit(&mut self, state: EvmState) -> Result<(), ReadError> {
        for (address, account) in state {
            if account.is_touched() {
                self.commit_account(address, account)?;
            }
        }
        Ok(())
    }

    fn commit_account(&mut self, address: Address, account: Account) -> Result<(), ReadError> {
        if let Some(step) = &mut self.step {
            step.push(address);
        }
        let created = account.is_created();
        // The journal normalises empty accounts of early forks, so that the rule of EIP-161 fits every fork here.
        let gone = account.is_selfdestructed() || (account.is_empty() && !created);
        if !gone && account.info.code_hash != KECCAK256_EMPTY {
            if let (MapEntry::Vacant(vacant), Some(code)) =
                (self.code.entry(account.info.code_hash), &account.info.code)
            {
                // Calls load the code of existing contracts too; only new code belongs into the delta.
                if created || code.is_eip7702() {
                    vacant.insert(code.clone());
                }
            }
        }
        let entry = self.entry(address)?;
        if gone || created {
            // An account without anything below it has no storage to wipe.
            entry.wiped = true;
            entry.slots.clear();
        }
        if gone {
            entry.now = None;
            return Ok(());
        }
        entry.now = Some(AccountInfo {
            nonce: account.info.nonce,
            balance: account.info.balance,
            code_hash: account.info.code_hash,
        });
        for (key, slot) in account.storage {
            let now = slot.present_value();
            match entry.slots.entry(key) {
                MapEntry::Occupied(mut known) => known.get_mut().now = now,
                MapEntry::Vacant(vacant) => {
                    let before = if created { U256::ZERO } else { slot.original_value() };
                    vacant.insert(Slot { now, before });
                }
            }
        }
        Ok(())
    }

    /// Starts to remember which accounts change, for [`Overlay::take_step`].
    pub fn track_steps(&mut self) {
        self.step = Some(Vec::new());
    }

    /// The present values of everything that changed since the last step, changed back or not.
    pub fn take_step(&mut self) -> StateDelta {
        let mut delta = StateDelta::default();
        for address in self.step.as_mut().map(std::mem::take).unwrap_or_default() {
            let Some(entry) = self.accounts.get(&address) else {
                continue;
            };
            let mut account =
                AccountDelta { info: entry.now.clone(), storage_wiped: entry.wiped, ..AccountDelta::default() };
            if entry.now.is_some() {
                account.storage = entry.slots.iter().map(|(k, s)| (*k, s.now)).collect();
            }
            delta.accounts.insert(address, account);
        }
        delta
    }

    /// Everything that differs from the base, in deterministic order.
    pub fn delta(&self) -> StateDelta {
        let mut delta = StateDelta::default();
        for (address, entry) in &self.accounts {
            let Some(account) = entry.delta() else { continue };
            if let Some(info) = &account.info {
                let known = entry.before.as_ref().is_some_and(|b| b.code_hash == info.code_hash);
                if let (false, Some(code)) = (known, self.code.get(&info.code_hash)) {
                    delta.code.insert(info.code_hash, code.original_bytes());
                }
            }
            delta.accounts.insert(*address, account);
        }
        delta
    }
}

impl Database for Overlay<'_> {
    type Error = ReadError;

    fn basic(&mut self, address: Address) -> Result<Option<EvmInfo>, ReadError> {
        let pretended = self.pretended.filter(|(shown, _)| *shown == address).map(|(_, hash)| hash);
        Ok(self.entry(address)?.now.as_ref().map(|info| EvmInfo {
            balance: info.balance,
            nonce: info.nonce,
            code_hash: pretended.unwrap_or(info.code_hash),
            account_id: None,
            code: None,
        }))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, ReadError> {
        self.bytecode(hash)
    }

    fn storage(&mut self, address: Address, key: U256) -> Result<U256, ReadError> {
        self.slot(address, key)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, ReadError> {
        if let Some(hash) = self.block_hashes.get(&number) {
            return Ok(*hash);
        }
        Ok(self.base.block_hash(number)?.unwrap_or_default())
    }
}
