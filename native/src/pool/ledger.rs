//! Who has which transactions, which of them are executable, and what must go when the pool is full.
//!
//! Per sender the transactions lie by nonce. `nonce..pending_end` is filled without a gap: these are *pending*, all
//! others are *queued*. Everything global (the ready index, the eviction orders, the counts) is derived from that and
//! kept up to date by `refresh`, so an operation costs O(log n) and touches one sender only.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use alloy_eips::eip7594::BlobTransactionSidecarVariant;
use alloy_primitives::map::{HashMap, HashSet};
use alloy_primitives::{Address, B256, KECCAK256_EMPTY, U256};

use super::decode::Candidate;
use super::journal::Record;
use super::ready::{Fees, ReadyIndex};
use super::{PoolConfig, PoolError, PooledTx};
use crate::primitives::{AccountInfo, SignedTx, StateRead};

/// A replacement must raise both fees by this much, percent (geth).
const PRICE_BUMP: u128 = 10;
const BLOB_PRICE_BUMP: u128 = 100;
/// EIP-7702: code that only delegates does not make its account a contract (EIP-3607).
const DELEGATION_PREFIX: [u8; 3] = [0xef, 0x01, 0x00];
const DELEGATION_LENGTH: usize = 23;
/// Sidecars of mined blob transactions that are kept for reorgs and for `sidecar`, bytes.
const LIMBO_BYTES: usize = 16 << 20;

/// A transaction in the pool.
#[derive(Debug)]
pub(super) struct Entry {
    pub tx: Candidate,
    /// Arrival number, unique.
    pub seq: u64,
}

impl Entry {
    pub fn fee_cap(&self) -> u128 {
        self.tx.fee_cap
    }

    pub fn tip_cap(&self) -> u128 {
        self.tx.tip_cap
    }

    pub fn blob_cap(&self) -> Option<u128> {
        self.tx.blob_cap
    }

    fn worth(&self) -> Worth {
        (self.tx.fee_cap, self.tx.tip_cap, Reverse(self.seq))
    }
}

/// How a transaction came to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    New,
    /// It was accepted before (journal, reorg): the room that its sender's nonces and funds left then is not asked again.
    Known,
}

/// The order of eviction: the least fee cap goes first (what cannot pay the base fee is worth less than anything that
/// can), among equals the latest arrival.
type Worth = (u128, u128, Reverse<u64>);

#[derive(Debug)]
struct Account {
    info: AccountInfo,
    txs: BTreeMap<u64, Arc<Entry>>,
    /// One past the last pending nonce; the account's nonce when nothing is pending.
    pending_end: u64,
    /// Sum of the costs of the pending transactions, wei.
    spent: U256,
    /// Upper bound of the cost of any transaction here: a balance above it needs no scan.
    max_cost: U256,
    /// What stands in the ready index and in the eviction order for this sender.
    head: Option<Arc<Entry>>,
    tail: Option<Arc<Entry>>,
    /// Arrival number of a head that a block could not use; it waits until something about it changes.
    stalled: Option<u64>,
}

impl Account {
    fn new(info: AccountInfo) -> Account {
        let pending_end = info.nonce;
        Account {
            info,
            txs: BTreeMap::new(),
            pending_end,
            spent: U256::ZERO,
            max_cost: U256::ZERO,
            head: None,
            tail: None,
            stalled: None,
        }
    }

    fn is_pending(&self, nonce: u64) -> bool {
        (self.info.nonce..self.pending_end).contains(&nonce)
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    accounts: HashMap<Address, Account>,
    by_hash: HashMap<B256, Arc<Entry>>,
    pub ready: ReadyIndex,
    /// The last pending transaction of every sender: only these can be evicted without making a gap.
    tails: BTreeMap<Worth, Address>,
    queued: BTreeMap<Worth, (Address, u64)>,
    pending: usize,
    bytes: usize,
    next_seq: u64,
    /// Moves whenever the chain moves: a source of an older epoch has nothing more to give.
    pub epoch: u64,
    stalled: HashSet<Address>,
    /// Upper bound of the gas limit of any transaction here.
    max_gas: u64,
    /// Became pending since the last drain.
    promoted: Vec<Arc<SignedTx>>,
    /// What the journal does not know yet.
    records: Vec<Record>,
    recording: bool,
    limbo: VecDeque<(B256, Arc<BlobTransactionSidecarVariant>)>,
    limbo_bytes: usize,
}

#[derive(Clone, Debug)]
struct Limits {
    max_pending: usize,
    max_queued: usize,
    max_per_account: usize,
    max_bytes: usize,
    max_nonce_gap: u64,
    check_balance: bool,
}

impl Ledger {
    pub fn new(config: &PoolConfig) -> Ledger {
        Ledger {
            limits: Limits {
                max_pending: config.max_pending,
                max_queued: config.max_queued,
                max_per_account: config.max_per_account,
                max_bytes: config.max_bytes,
                max_nonce_gap: config.max_nonce_gap,
                check_balance: config.check_balance,
            },
            accounts: HashMap::default(),
            by_hash: HashMap::default(),
            ready: ReadyIndex::new(config.fifo),
            tails: BTreeMap::new(),
            queued: BTreeMap::new(),
            pending: 0,
            bytes: 0,
            next_seq: 0,
            epoch: 0,
            stalled: HashSet::default(),
            max_gas: 0,
            promoted: Vec::new(),
            records: Vec::new(),
            recording: config.journal.is_some(),
            limbo: VecDeque::new(),
            limbo_bytes: 0,
        }
    }

    /// Checks a transaction against its sender's account and takes it in. Nothing changes on an error.
    pub fn insert(&mut self, tx: Candidate, origin: Origin, state: &dyn StateRead) -> Result<(), PoolError> {
        let (hash, sender, nonce) = (tx.hash(), tx.sender(), tx.nonce);
        if self.by_hash.contains_key(&hash) {
            return Err(PoolError::AlreadyKnown);
        }
        let info = match self.accounts.get(&sender) {
            Some(account) => account.info.clone(),
            None => read_account(state, &sender)?,
        };
        check_externally_owned(&tx, &info, state)?;
        let replaced = self.check_account(&tx, origin, &info)?;

        let entry = Arc::new(Entry { tx, seq: self.next_seq });
        self.next_seq += 1;
        self.max_gas = self.max_gas.max(entry.tx.gas);
        self.bytes += entry.tx.size;
        self.by_hash.insert(hash, entry.clone());
        if self.recording {
            self.records.push(Record::Add(entry.tx.pooled.clone()));
        }
        let account = self.accounts.entry(sender).or_insert_with(|| Account::new(info));
        account.max_cost = account.max_cost.max(entry.tx.cost);
        account.txs.insert(nonce, entry.clone());
        match replaced {
            Some(old) if account.is_pending(nonce) => {
                account.spent = account.spent.saturating_sub(old.tx.cost).saturating_add(entry.tx.cost);
                self.promoted.push(entry.tx.pooled.tx.clone());
                self.forget(&old);
            }
            Some(old) => {
                self.queued.remove(&old.worth());
                self.queued.insert(entry.worth(), (sender, nonce));
                self.forget(&old);
            }
            None if nonce == account.pending_end => self.advance(&sender),
            None => drop(self.queued.insert(entry.worth(), (sender, nonce))),
        }
        self.refresh(&sender);
        self.enforce_limits();
        if self.by_hash.contains_key(&hash) {
            Ok(())
        } else {
            Err(PoolError::Full)
        }
    }

    /// Nonce, replacement, funds and the account's share of the pool. Returns the transaction that gives way.
    fn check_account(
        &self,
        tx: &Candidate,
        origin: Origin,
        info: &AccountInfo,
    ) -> Result<Option<Arc<Entry>>, PoolError> {
        let account = self.accounts.get(&tx.sender());
        if tx.nonce < info.nonce {
            return Err(PoolError::NonceTooLow { next: info.nonce, got: tx.nonce });
        }
        let next = account.map_or(info.nonce, |account| account.pending_end);
        if origin == Origin::New && tx.nonce.saturating_sub(next) > self.limits.max_nonce_gap {
            let (got, gap) = (tx.nonce, self.limits.max_nonce_gap);
            return Err(PoolError::Invalid(format!(
                "nonce too high: next nonce {next}, tx nonce {got}, largest gap {gap}"
            )));
        }
        let old = account.and_then(|account| account.txs.get(&tx.nonce)).cloned();
        if let Some(old) = &old {
            check_replacement(tx, &old.tx)?;
        } else if account.is_some_and(|account| account.txs.len() >= self.limits.max_per_account) {
            return Err(PoolError::Invalid(format!(
                "account limit exceeded: an account may have {} transactions in the pool",
                self.limits.max_per_account
            )));
        }
        if self.limits.check_balance {
            let spent = account.map_or(U256::ZERO, |account| account.spent);
            let released = match (&old, account) {
                (Some(old), Some(account)) if account.is_pending(tx.nonce) => old.tx.cost,
                _ => U256::ZERO,
            };
            let others = if origin == Origin::New { spent.saturating_sub(released) } else { U256::ZERO };
            check_funds(info.balance, tx.cost, others)?;
        }
        Ok(old)
    }

    /// The account after a block or an edit: drops what is stale or unpayable, promotes what became executable.
    pub fn update(&mut self, sender: &Address, info: &AccountInfo) {
        let Some(account) = self.accounts.get_mut(sender) else { return };
        let old_end = account.pending_end;
        let mut end = if info.nonce < account.info.nonce { info.nonce } else { old_end.max(info.nonce) };
        let mut gone: Vec<Arc<Entry>> = Vec::new();
        while let Some(first) = account.txs.first_entry() {
            if *first.key() >= info.nonce {
                break;
            }
            gone.push(first.remove());
        }
        if self.limits.check_balance && account.max_cost > info.balance {
            let unpayable: Vec<u64> =
                account.txs.iter().filter(|(_, entry)| entry.tx.cost > info.balance).map(|(nonce, _)| *nonce).collect();
            if let Some(first) = unpayable.first() {
                end = end.min((*first).max(info.nonce));
            }
            gone.extend(unpayable.iter().filter_map(|nonce| account.txs.remove(nonce)));
            account.max_cost = account.txs.values().map(|entry| entry.tx.cost).max().unwrap_or_default();
        }
        for entry in &gone {
            if entry.tx.nonce < old_end {
                self.pending -= 1;
                account.spent = account.spent.saturating_sub(entry.tx.cost);
            } else {
                self.queued.remove(&entry.worth());
            }
        }
        if end < old_end {
            for (nonce, entry) in account.txs.range(end..old_end) {
                self.pending -= 1;
                account.spent = account.spent.saturating_sub(entry.tx.cost);
                self.queued.insert(entry.worth(), (*sender, *nonce));
            }
        }
        account.pending_end = end;
        account.info = info.clone();
        account.stalled = None;
        for entry in &gone {
            if let (Some(sidecar), true) = (&entry.tx.pooled.sidecar, entry.tx.nonce < info.nonce) {
                self.keep_sidecar(entry.tx.hash(), sidecar.clone());
            }
            self.forget(entry);
        }
        self.advance(sender);
        self.refresh(sender);
        self.enforce_limits();
    }

    /// Reads every sender's account anew.
    pub fn update_all(&mut self, state: &dyn StateRead) {
        let senders: Vec<Address> = self.accounts.keys().copied().collect();
        for sender in senders {
            if let Ok(info) = read_account(state, &sender) {
                self.update(&sender, &info);
            }
        }
    }

    /// Drops what no block can hold any more.
    pub fn limit_gas(&mut self, block_gas_limit: u64) {
        if self.max_gas <= block_gas_limit {
            return;
        }
        let too_big = |entry: &&Arc<Entry>| entry.tx.gas > block_gas_limit;
        let hashes: Vec<B256> = self.by_hash.values().filter(too_big).map(|entry| entry.tx.hash()).collect();
        for hash in hashes {
            self.take_out(&hash);
        }
        self.enforce_limits();
        self.max_gas = self.by_hash.values().map(|entry| entry.tx.gas).max().unwrap_or(0);
    }

    /// Takes one transaction out; later nonces of its sender wait for a new one in its place.
    pub fn remove(&mut self, hash: &B256) -> bool {
        let found = self.take_out(hash);
        self.enforce_limits();
        found
    }

    fn take_out(&mut self, hash: &B256) -> bool {
        let Some(entry) = self.by_hash.get(hash).cloned() else { return false };
        let (sender, nonce) = (entry.tx.sender(), entry.tx.nonce);
        let Some(account) = self.accounts.get_mut(&sender) else { return false };
        account.txs.remove(&nonce);
        if account.is_pending(nonce) {
            self.pending -= 1;
            account.spent = account.spent.saturating_sub(entry.tx.cost);
            for (nonce, later) in account.txs.range(nonce..account.pending_end) {
                self.pending -= 1;
                account.spent = account.spent.saturating_sub(later.tx.cost);
                self.queued.insert(later.worth(), (sender, *nonce));
            }
            account.pending_end = nonce;
        } else {
            self.queued.remove(&entry.worth());
        }
        self.forget(&entry);
        self.refresh(&sender);
        true
    }

    pub fn remove_sender(&mut self, sender: &Address) -> usize {
        let Some(account) = self.accounts.get(sender) else { return 0 };
        // From the last nonce down: nothing is demoted on the way.
        let hashes: Vec<B256> = account.txs.values().rev().map(|entry| entry.tx.hash()).collect();
        for hash in &hashes {
            self.take_out(hash);
        }
        hashes.len()
    }

    pub fn clear(&mut self) {
        if self.recording {
            self.records.extend(self.by_hash.keys().map(|hash| Record::Drop(*hash)));
        }
        self.accounts.clear();
        self.by_hash.clear();
        self.ready.clear();
        self.tails.clear();
        self.queued.clear();
        self.stalled.clear();
        self.promoted.clear();
        (self.pending, self.bytes, self.max_gas) = (0, 0, 0);
    }

    /// Sorts the ready index for these fees; heads that waited get another chance.
    pub fn rebase(&mut self, fees: Fees) {
        if self.ready.rebase(fees) && !self.stalled.is_empty() {
            for sender in std::mem::take(&mut self.stalled) {
                if let Some(account) = self.accounts.get_mut(&sender) {
                    account.stalled = None;
                }
                self.refresh(&sender);
            }
        }
    }

    /// A block could not use this head now: it is not ready until its account, its head or the fees change.
    pub fn stall(&mut self, hash: &B256) {
        let Some(entry) = self.by_hash.get(hash).cloned() else { return };
        let sender = entry.tx.sender();
        let Some(account) = self.accounts.get_mut(&sender) else { return };
        if account.head.as_ref().is_some_and(|head| head.seq == entry.seq) {
            account.stalled = Some(entry.seq);
            self.stalled.insert(sender);
            self.refresh(&sender);
        }
    }

    /// The pending transaction of a sender with this nonce.
    pub fn pending_at(&self, sender: &Address, nonce: u64) -> Option<&Arc<Entry>> {
        let account = self.accounts.get(sender)?;
        account.is_pending(nonce).then(|| account.txs.get(&nonce)).flatten()
    }

    pub fn next_nonce(&self, sender: &Address) -> Option<u64> {
        let account = self.accounts.get(sender)?;
        (account.pending_end > account.info.nonce).then_some(account.pending_end)
    }

    pub fn get(&self, hash: &B256) -> Option<&Arc<Entry>> {
        self.by_hash.get(hash)
    }

    pub fn contains_sender(&self, sender: &Address) -> bool {
        self.accounts.contains_key(sender)
    }

    /// (pending, queued)
    pub fn counts(&self) -> (usize, usize) {
        (self.pending, self.queued.len())
    }

    pub fn senders(&self) -> Vec<Address> {
        let mut senders: Vec<Address> = self.accounts.keys().copied().collect();
        senders.sort_unstable();
        senders
    }

    /// (pending, queued) of a sender, in nonce order.
    pub fn of_sender(&self, sender: &Address) -> (Vec<PooledTx>, Vec<PooledTx>) {
        let Some(account) = self.accounts.get(sender) else { return Default::default() };
        let pooled = |(_, entry): (&u64, &Arc<Entry>)| entry.tx.pooled.clone();
        let pending = account.txs.range(..account.pending_end).map(pooled).collect();
        let queued = account.txs.range(account.pending_end..).map(pooled).collect();
        (pending, queued)
    }

    /// Everything in the order of arrival.
    pub fn all(&self) -> Vec<PooledTx> {
        let mut entries: Vec<&Arc<Entry>> = self.by_hash.values().collect();
        entries.sort_unstable_by_key(|entry| entry.seq);
        entries.iter().map(|entry| entry.tx.pooled.clone()).collect()
    }

    /// The sidecar of a pooled or lately mined blob transaction.
    pub fn sidecar(&self, hash: &B256) -> Option<Arc<BlobTransactionSidecarVariant>> {
        match self.by_hash.get(hash) {
            Some(entry) => entry.tx.pooled.sidecar.clone(),
            None => self.limbo.iter().find(|(known, _)| known == hash).map(|(_, sidecar)| sidecar.clone()),
        }
    }

    /// What became pending since the last call and still is in the pool.
    pub fn take_promoted(&mut self) -> Vec<Arc<SignedTx>> {
        let mut promoted = std::mem::take(&mut self.promoted);
        promoted.retain(|tx| self.by_hash.contains_key(&tx.hash));
        promoted
    }

    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    pub fn pending_records(&self) -> usize {
        self.records.len()
    }

    pub fn set_recording(&mut self, on: bool) {
        self.recording = on;
    }

    /// Everything that is kept beside the accounts, recomputed from them.
    #[cfg(test)]
    pub fn audit(&self) {
        let (mut pending, mut queued, mut bytes, mut count) = (0, BTreeMap::new(), 0, 0);
        let (mut heads, mut tails) = (std::collections::BTreeSet::new(), BTreeMap::new());
        for (sender, account) in &self.accounts {
            assert!(!account.txs.is_empty(), "an account without transactions is dropped");
            let mut spent = U256::ZERO;
            for (nonce, entry) in &account.txs {
                assert_eq!((entry.tx.sender(), entry.tx.nonce), (*sender, *nonce));
                assert!(Arc::ptr_eq(entry, &self.by_hash[&entry.tx.hash()]));
                assert!(*nonce >= account.info.nonce && entry.tx.cost <= account.max_cost);
                (bytes, count) = (bytes + entry.tx.size, count + 1);
                if account.is_pending(*nonce) {
                    pending += 1;
                    spent += entry.tx.cost;
                } else {
                    queued.insert(entry.worth(), (*sender, *nonce));
                }
            }
            assert!((account.info.nonce..account.pending_end).all(|nonce| account.txs.contains_key(&nonce)));
            assert!(!account.txs.contains_key(&account.pending_end));
            assert_eq!(account.spent, spent);
            let head = account.txs.get(&account.info.nonce).filter(|head| account.stalled != Some(head.seq));
            heads.extend(head.map(|head| head.seq));
            if account.pending_end > account.info.nonce {
                tails.insert(account.txs[&(account.pending_end - 1)].worth(), *sender);
            }
        }
        assert_eq!((self.pending, self.bytes, self.by_hash.len()), (pending, bytes, count));
        assert_eq!((&self.queued, &self.tails), (&queued, &tails));
        assert_eq!(self.ready.members(), heads);
        assert!(pending <= self.limits.max_pending && queued.len() <= self.limits.max_queued);
        assert!(bytes <= self.limits.max_bytes);
    }

    /// Moves the end of the pending range over every transaction that follows without a gap.
    fn advance(&mut self, sender: &Address) {
        let Some(account) = self.accounts.get_mut(sender) else { return };
        while let Some(entry) = account.txs.get(&account.pending_end) {
            account.pending_end += 1;
            account.spent = account.spent.saturating_add(entry.tx.cost);
            self.pending += 1;
            self.queued.remove(&entry.worth());
            self.promoted.push(entry.tx.pooled.tx.clone());
        }
    }

    /// Brings the ready index and the eviction order in line with the sender's pending range.
    fn refresh(&mut self, sender: &Address) {
        let Some(account) = self.accounts.get_mut(sender) else { return };
        let has_pending = account.pending_end > account.info.nonce;
        let head = if has_pending { account.txs.get(&account.info.nonce) } else { None };
        let head = head.filter(|head| account.stalled != Some(head.seq));
        if head.map(|entry| entry.seq) != account.head.as_ref().map(|entry| entry.seq) {
            if let Some(old) = &account.head {
                self.ready.remove(old);
            }
            if let Some(new) = head {
                self.ready.insert(new);
            }
            account.head = head.cloned();
        }
        let tail = if has_pending { account.txs.get(&(account.pending_end - 1)) } else { None };
        if tail.map(|entry| entry.seq) != account.tail.as_ref().map(|entry| entry.seq) {
            if let Some(old) = &account.tail {
                self.tails.remove(&old.worth());
            }
            if let Some(new) = tail {
                self.tails.insert(new.worth(), *sender);
            }
            account.tail = tail.cloned();
        }
        if account.stalled.is_none() && !self.stalled.is_empty() {
            self.stalled.remove(sender);
        }
        if account.txs.is_empty() {
            self.stalled.remove(sender);
            self.accounts.remove(sender);
        }
    }

    /// The cheapest goes first; queued transactions before pending ones when memory is short.
    fn enforce_limits(&mut self) {
        while self.queued.len() > self.limits.max_queued
            || (self.bytes > self.limits.max_bytes && !self.queued.is_empty())
        {
            let Some((sender, nonce)) = self.queued.first_key_value().map(|(_, at)| *at) else { break };
            self.evict(&sender, nonce);
        }
        while self.pending > self.limits.max_pending || self.bytes > self.limits.max_bytes {
            let Some(sender) = self.tails.first_key_value().map(|(_, sender)| *sender) else { break };
            let Some(last) = self.accounts.get(&sender).map(|account| account.pending_end - 1) else { break };
            self.evict(&sender, last);
        }
    }

    fn evict(&mut self, sender: &Address, nonce: u64) {
        let hash = self.accounts.get(sender).and_then(|account| account.txs.get(&nonce)).map(|entry| entry.tx.hash());
        if let Some(hash) = hash {
            self.take_out(&hash);
        }
    }

    /// Removes the traces of an entry that no longer stands in its account.
    fn forget(&mut self, entry: &Entry) {
        self.by_hash.remove(&entry.tx.hash());
        self.bytes -= entry.tx.size;
        if self.recording {
            self.records.push(Record::Drop(entry.tx.hash()));
        }
    }

    fn keep_sidecar(&mut self, hash: B256, sidecar: Arc<BlobTransactionSidecarVariant>) {
        self.limbo_bytes += sidecar.size();
        self.limbo.push_back((hash, sidecar));
        while self.limbo_bytes > LIMBO_BYTES {
            let Some((_, oldest)) = self.limbo.pop_front() else { break };
            self.limbo_bytes -= oldest.size();
        }
    }
}

fn read_account(state: &dyn StateRead, address: &Address) -> Result<AccountInfo, PoolError> {
    let account = state.account(address).map_err(|error| PoolError::Invalid(error.to_string()))?;
    Ok(account.unwrap_or_else(empty_account))
}

/// An account that does not exist.
pub(super) fn empty_account() -> AccountInfo {
    AccountInfo { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY }
}

/// EIP-3607: an account with code sends nothing, unless the code is an EIP-7702 delegation. A devnet may impersonate
/// contracts.
fn check_externally_owned(tx: &Candidate, info: &AccountInfo, state: &dyn StateRead) -> Result<(), PoolError> {
    if info.code_hash == KECCAK256_EMPTY || tx.pooled.tx.impersonated {
        return Ok(());
    }
    let code = state.code(&info.code_hash).map_err(|error| PoolError::Invalid(error.to_string()))?;
    match code {
        Some(code) if code.len() == DELEGATION_LENGTH && code.starts_with(&DELEGATION_PREFIX) => Ok(()),
        _ => {
            Err(PoolError::Invalid(format!("sender not an eoa: address {}, codehash: {}", tx.sender(), info.code_hash)))
        }
    }
}

/// geth's rule: strictly higher and at least the bump, in every fee.
fn check_replacement(new: &Candidate, old: &Candidate) -> Result<(), PoolError> {
    let blobs = new.blob_cap.is_some() || old.blob_cap.is_some();
    let bump = if blobs { BLOB_PRICE_BUMP } else { PRICE_BUMP };
    let raised = |old: u128, new: u128| {
        let needed = U256::from(old) * U256::from(100 + bump) / U256::from(100);
        new > old && U256::from(new) >= needed
    };
    let blob_fee_raised = match (old.blob_cap, new.blob_cap) {
        (Some(old), Some(new)) => raised(old, new),
        _ => true,
    };
    if raised(old.fee_cap, new.fee_cap) && raised(old.tip_cap, new.tip_cap) && blob_fee_raised {
        Ok(())
    } else {
        Err(PoolError::ReplacementUnderpriced)
    }
}

fn check_funds(balance: U256, cost: U256, spent: U256) -> Result<(), PoolError> {
    if cost > balance {
        return Err(PoolError::InsufficientFunds { balance, cost });
    }
    let need = spent.saturating_add(cost);
    if need > balance {
        return Err(PoolError::Overdraft { balance, queued: spent, cost });
    }
    Ok(())
}
