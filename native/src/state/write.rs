//! The writer's side of a commit: blocks, edits and the flat state with its reverse diffs.
//!
//! Every table is written in key order through one cursor, so that most puts land on the page of the
//! previous one.

use std::borrow::Cow;
use std::collections::BTreeMap;

use alloy_consensus::Header;
use alloy_trie::EMPTY_ROOT_HASH;

use super::codec::{self, AccountRecord, BodyRecord, ChangesRecord, HeadRecord};
use super::mdbx::{WriteCursor, WriteTxn};
use super::tables::{self, block_row, changes_row, indexed_row, LogSubject, Row, Table};
use super::{StateError, TxLocation, Version};
use crate::primitives::*;

/// Block 0 with its state; the version it makes is 0.
pub(super) fn genesis(
    tx: &WriteTxn<'_>,
    header: &Header,
    alloc: &StateDelta,
    trie: &TrieUpdates,
    config: &[u8],
) -> Result<HeadRecord, StateError> {
    apply_delta(tx, None, alloc, trie)?;
    let hash = header.hash_slow();
    let body = BodyRecord {
        transactions: 0,
        ommers: Vec::new(),
        withdrawals: header.withdrawals_root.map(|_| Vec::new()),
        requests: Vec::new(),
    };
    tx.put(Table::Chain, &block_row(header.number, Row::Header), &codec::encode_header(&hash, header))?;
    tx.put(Table::Chain, &block_row(header.number, Row::Body), &body.encode())?;
    let changes = ChangesRecord { edit: false, root: trie.root, accounts: Vec::new() };
    tx.put(Table::Chain, &changes_row(header.number, 0), &changes.encode())?;
    tx.put(Table::Hashes, hash.as_slice(), &header.number.to_be_bytes())?;
    tx.put(Table::Meta, tables::META_CONFIG, config)?;
    Ok(HeadRecord { number: header.number, hash, state_root: trie.root, version: 0, oldest: header.number })
}

/// The block after `head`, which moves on to it.
pub(super) fn block(tx: &WriteTxn<'_>, head: &mut HeadRecord, executed: &ExecutedBlock) -> Result<(), StateError> {
    let block = &executed.block;
    let number = block.header.number;
    check_follows(head, executed)?;
    let version = head.version + 1;
    let accounts = apply_delta(tx, Some(version), &executed.delta, &executed.trie)?;
    let changes = ChangesRecord { edit: false, root: executed.trie.root, accounts };
    append_rows(tx, executed, version, &changes)?;
    put_hashes(tx, block)?;
    put_logs(tx, number, &executed.receipts)?;
    *head = HeadRecord { number, hash: block.hash, state_root: executed.trie.root, version, oldest: head.oldest };
    Ok(())
}

fn check_follows(head: &HeadRecord, executed: &ExecutedBlock) -> Result<(), StateError> {
    let header = &executed.block.header;
    let follows = header.number == head.number + 1 && header.parent_hash == head.hash;
    if !follows || executed.trie.base != head.state_root {
        return Err(StateError::OutOfOrder { number: header.number, head: head.number });
    }
    if executed.trie.root != header.state_root {
        return Err(StateError::Corrupt(format!(
            "block {}: the header names state root {}, execution gave {}",
            header.number, header.state_root, executed.trie.root
        )));
    }
    if executed.receipts.len() != executed.block.transactions.len() {
        return Err(StateError::Corrupt(format!(
            "block {}: {} transactions, {} receipts",
            header.number,
            executed.block.transactions.len(),
            executed.receipts.len()
        )));
    }
    Ok(())
}

/// A devnet edit: a new version of the head's state.
pub(super) fn edit(
    tx: &WriteTxn<'_>,
    head: &mut HeadRecord,
    delta: &StateDelta,
    trie: &TrieUpdates,
) -> Result<(), StateError> {
    let version = head.version + 1;
    let accounts = apply_delta(tx, Some(version), delta, trie)?;
    let changes = ChangesRecord { edit: true, root: trie.root, accounts };
    tx.put(Table::Chain, &changes_row(head.number, version), &changes.encode())?;
    head.version = version;
    head.state_root = trie.root;
    Ok(())
}

pub(super) fn head(tx: &WriteTxn<'_>, record: &HeadRecord) -> Result<(), StateError> {
    tx.put(Table::Meta, tables::META_HEAD, &record.encode())
}

pub(super) fn meta(tx: &WriteTxn<'_>, key: &str, value: Option<&[u8]>) -> Result<(), StateError> {
    let key = tables::user_meta(key);
    match value {
        Some(value) => tx.put(Table::Meta, &key, value),
        None => tx.delete(Table::Meta, &key),
    }
}

/// Rows of the chain table, which grow at its end.
fn append_rows(
    tx: &WriteTxn<'_>,
    executed: &ExecutedBlock,
    version: Version,
    changes: &ChangesRecord,
) -> Result<(), StateError> {
    let block = &executed.block;
    let number = block.header.number;
    let mut cursor = tx.cursor(Table::Chain)?;
    cursor.append(&block_row(number, Row::Header), &codec::encode_header(&block.hash, &block.header))?;
    let body = BodyRecord {
        transactions: block.transactions.len() as u32,
        ommers: block.ommers.clone(),
        withdrawals: block.withdrawals.clone(),
        requests: executed.requests.clone(),
    };
    cursor.append(&block_row(number, Row::Body), &body.encode())?;
    let mut record = Vec::with_capacity(512);
    for (index, transaction) in (0u32..).zip(&block.transactions) {
        record.clear();
        codec::encode_transaction(transaction, &mut record);
        cursor.append(&indexed_row(number, Row::Transaction, index), &record)?;
    }
    let mut first_log = 0;
    for (index, receipt) in (0u32..).zip(&executed.receipts) {
        record.clear();
        codec::encode_receipt(receipt, first_log, &mut record);
        cursor.append(&indexed_row(number, Row::Receipt, index), &record)?;
        first_log += receipt.logs.len() as u64;
    }
    cursor.append(&changes_row(number, version), &changes.encode())
}

fn put_hashes(tx: &WriteTxn<'_>, block: &SealedBlock) -> Result<(), StateError> {
    let number = block.header.number;
    let mut transactions: Vec<(B256, u32)> = block.transactions.iter().map(|tx| tx.hash).zip(0u32..).collect();
    transactions.sort_unstable();
    let mut cursor = tx.cursor(Table::Hashes)?;
    for (hash, index) in transactions {
        cursor.put(hash.as_slice(), &codec::encode_location(TxLocation { block: number, index }))?;
    }
    cursor.put(block.hash.as_slice(), &number.to_be_bytes())
}

fn put_logs(tx: &WriteTxn<'_>, number: u64, receipts: &[Receipt]) -> Result<(), StateError> {
    let keys = log_keys(number, receipts);
    if keys.is_empty() {
        return Ok(());
    }
    let mut cursor = tx.cursor(Table::Logs)?;
    for key in keys {
        cursor.put(&key, &[])?;
    }
    Ok(())
}

/// The rows that a block's logs have in the log index, in order.
pub(super) fn log_keys(number: u64, receipts: &[Receipt]) -> Vec<Vec<u8>> {
    let logs: Vec<&Log> = receipts.iter().flat_map(|receipt| &receipt.logs).collect();
    if logs.is_empty() {
        return Vec::new();
    }
    let mut addresses: Vec<&Address> = logs.iter().map(|log| &log.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut topics: Vec<&B256> = logs.iter().filter_map(|log| log.topics().first()).collect();
    topics.sort_unstable();
    topics.dedup();
    let subjects = std::iter::once(LogSubject::Any)
        .chain(addresses.into_iter().map(LogSubject::Address))
        .chain(topics.into_iter().map(LogSubject::Topic));
    subjects.map(|subject| tables::log_key(subject, number)).collect()
}

/// Writes the flat state, the code and the trie of a delta. With `version`, the values it replaces go to the
/// history. Returns the keys that really changed.
pub(super) fn apply_delta(
    tx: &WriteTxn<'_>,
    version: Option<Version>,
    delta: &StateDelta,
    trie: &TrieUpdates,
) -> Result<Vec<(Address, Vec<U256>)>, StateError> {
    let mut flat = Flat { state: tx.cursor(Table::State)?, history: tx.cursor(Table::History)?, version };
    let mut changed = Vec::with_capacity(delta.accounts.len());
    for (address, account) in &delta.accounts {
        if let Some(slots) = flat.apply(address, account, trie.storage_roots.get(address))? {
            changed.push((*address, slots));
        }
    }
    for (hash, code) in &delta.code {
        tx.put(Table::Codes, hash.as_slice(), code)?;
    }
    let mut cursor = tx.cursor(Table::Trie)?;
    for (key, record) in &trie.nodes {
        match record {
            Some(record) => cursor.put(key, record)?,
            None => cursor.delete(key)?,
        }
    }
    Ok(changed)
}

/// The flat state and its history, written side by side in key order.
struct Flat<'t> {
    state: WriteCursor<'t>,
    history: WriteCursor<'t>,
    version: Option<Version>,
}

impl Flat<'_> {
    /// The changed slots; `None` when nothing changed at all.
    fn apply(
        &mut self,
        address: &Address,
        account: &AccountDelta,
        storage_root: Option<&B256>,
    ) -> Result<Option<Vec<U256>>, StateError> {
        let old = self.state.get(address.as_slice())?;
        let wiped = account.storage_wiped || account.info.is_none();
        let mut new = Vec::with_capacity(80);
        if let Some(info) = &account.info {
            let storage_root = match (storage_root, &old) {
                (Some(root), _) => *root,
                (None, Some(old)) if !wiped => decode_account(old)?.storage_root,
                (None, _) => EMPTY_ROOT_HASH,
            };
            AccountRecord { info: info.clone(), storage_root }.encode(&mut new);
        }
        let old_bytes = old.as_deref().unwrap_or_default();
        let changed = old_bytes != new;
        if changed {
            if let Some(version) = self.version {
                self.history.put(&tables::account_history(address, version), old_bytes)?;
            }
            self.write(address.as_slice(), &new, old.is_some())?;
        }
        let slots = if wiped && old.is_some() {
            let mut storage = self.wipe(address)?;
            if account.info.is_some() {
                storage.extend(account.storage.iter().map(|(slot, value)| (*slot, *value)));
            }
            self.apply_slots(address, &storage)?
        } else if account.info.is_some() {
            self.apply_slots(address, &account.storage)?
        } else {
            Vec::new()
        };
        Ok((changed || !slots.is_empty()).then_some(slots))
    }

    /// Every slot that the account has, set to zero.
    fn wipe(&mut self, address: &Address) -> Result<BTreeMap<U256, U256>, StateError> {
        let mut slots = BTreeMap::new();
        let mut row = self.state.seek(&tables::slot_key(address, &U256::ZERO))?;
        while let Some((key, _)) = row.filter(|(key, _)| key.starts_with(address.as_slice())) {
            slots.insert(U256::from_be_slice(&key[20..]), U256::ZERO);
            row = self.state.next()?;
        }
        Ok(slots)
    }

    fn apply_slots(&mut self, address: &Address, storage: &BTreeMap<U256, U256>) -> Result<Vec<U256>, StateError> {
        let mut changed = Vec::new();
        for (slot, value) in storage {
            let key = tables::slot_key(address, slot);
            let old: Option<Cow<'_, [u8]>> = self.state.get(&key)?;
            let old_bytes = old.as_deref().unwrap_or_default();
            let (bytes, start) = codec::encode_value(value);
            let new = &bytes[start..];
            if old_bytes == new {
                continue;
            }
            if let Some(version) = self.version {
                self.history.put(&tables::slot_history(address, slot, version), old_bytes)?;
            }
            self.write(&key, new, old.is_some())?;
            changed.push(*slot);
        }
        Ok(changed)
    }

    /// An empty value deletes; the cursor stands on the key when it `exists`.
    fn write(&mut self, key: &[u8], value: &[u8], exists: bool) -> Result<(), StateError> {
        if !value.is_empty() {
            return self.state.put(key, value);
        }
        if exists {
            return self.state.delete_current();
        }
        Ok(())
    }
}

fn decode_account(bytes: &[u8]) -> Result<AccountRecord, StateError> {
    Ok(AccountRecord::decode(bytes).map_err(ReadError::from)?)
}
