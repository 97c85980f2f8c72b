//! Every table of the store, declared once: name, key, value and writer.
//!
//! Few tables, so that a block touches few B-trees: everything that belongs to one block lies side by
//! side in [`Table::Chain`], and an account lies beside its slots in [`Table::State`].
//! Integers in keys are big-endian, so that byte order is numeric order.

use crate::primitives::{Address, B256, U256};

/// One B-tree of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// What belongs to one block. Written by every commit; only the change rows are ever rewritten.
    ///
    /// | key | value |
    /// |---|---|
    /// | number ‖ 0 | block hash ‖ RLP header |
    /// | number ‖ 1 | body: transaction count, ommers, withdrawals, requests |
    /// | number ‖ 2 ‖ index (4 bytes) | transaction with its sender and hash |
    /// | number ‖ 3 ‖ index (4 bytes) | receipt |
    /// | number ‖ 4 ‖ version (8 bytes) | changes of that version: kind, root after, changed keys |
    Chain = 0,
    /// Where a hash stands. Written by block commits.
    ///
    /// | key | value |
    /// |---|---|
    /// | block hash | number (8 bytes) |
    /// | transaction hash | number (8 bytes) ‖ index (4 bytes) |
    Hashes = 1,
    /// The latest flat state. Written by commits and reverts.
    ///
    /// | key | value |
    /// |---|---|
    /// | address | account record with its storage root |
    /// | address ‖ slot | value without leading zeros |
    State = 2,
    /// Reverse diffs: the value that held *before* a version; an empty value means "absent".
    /// Written by commits, trimmed by pruning and reverts.
    ///
    /// | key | value |
    /// |---|---|
    /// | address ‖ 0 ‖ version (8 bytes) | account record before |
    /// | address ‖ 1 ‖ slot ‖ version (8 bytes) | slot value before |
    History = 3,
    /// Code by its keccak256. Written by commits, never deleted: it is content-addressed.
    Codes = 4,
    /// Trie records by path (see `trie::record`). Written by commits and reverts.
    ///
    /// | key | value |
    /// |---|---|
    /// | 0 ‖ path (a byte per nibble) | record of the account trie |
    /// | 1 ‖ address ‖ path | record of the storage trie of that account |
    Trie = 5,
    /// Blocks by what they logged; empty values. Written by block commits.
    ///
    /// | key | meaning |
    /// |---|---|
    /// | 0 ‖ number | the block has a log |
    /// | 1 ‖ address ‖ number | the block has a log of that contract |
    /// | 2 ‖ topic 0 ‖ number | the block has a log with that first topic |
    Logs = 6,
    /// Few small values: `head` (every commit), `config` (genesis), `u/NAME` (`Store::put_meta`).
    Meta = 7,
}

impl Table {
    pub(super) const ALL: [Table; 8] = [
        Table::Chain,
        Table::Hashes,
        Table::State,
        Table::History,
        Table::Codes,
        Table::Trie,
        Table::Logs,
        Table::Meta,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Table::Chain => "chain",
            Table::Hashes => "hashes",
            Table::State => "state",
            Table::History => "history",
            Table::Codes => "codes",
            Table::Trie => "trie",
            Table::Logs => "logs",
            Table::Meta => "meta",
        }
    }
}

pub(super) const META_HEAD: &[u8] = b"head";
pub(super) const META_CONFIG: &[u8] = b"config";

/// Key of a value of `Store::put_meta`.
pub(super) fn user_meta(key: &str) -> Vec<u8> {
    [b"u/", key.as_bytes()].concat()
}

/// The kinds of row that a block has in [`Table::Chain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Header = 0,
    Body = 1,
    Transaction = 2,
    Receipt = 3,
    Changes = 4,
}

/// number ‖ row: the key of a header or body, the prefix of the others.
pub(super) fn block_row(number: u64, row: Row) -> [u8; 9] {
    let mut key = [0; 9];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8] = row as u8;
    key
}

/// Key of a transaction or receipt.
pub(super) fn indexed_row(number: u64, row: Row, index: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[..9].copy_from_slice(&block_row(number, row));
    key[9..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Key of the changes of a version.
pub(super) fn changes_row(number: u64, version: u64) -> [u8; 17] {
    let mut key = [0; 17];
    key[..9].copy_from_slice(&block_row(number, Row::Changes));
    key[9..].copy_from_slice(&version.to_be_bytes());
    key
}

/// Big-endian u64 at `at` of a key; zero for a key that is too short (keys are written by this module).
pub(super) fn u64_at(key: &[u8], at: usize) -> u64 {
    key.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// Key of a slot in [`Table::State`].
pub(super) fn slot_key(address: &Address, slot: &U256) -> [u8; 52] {
    let mut key = [0; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(&slot.to_be_bytes::<32>());
    key
}

/// Key of an account's value before `version` in [`Table::History`].
pub(super) fn account_history(address: &Address, version: u64) -> [u8; 29] {
    let mut key = [0; 29];
    key[..20].copy_from_slice(address.as_slice());
    key[21..].copy_from_slice(&version.to_be_bytes());
    key
}

/// Key of a slot's value before `version` in [`Table::History`].
pub(super) fn slot_history(address: &Address, slot: &U256, version: u64) -> [u8; 61] {
    let mut key = [0; 61];
    key[..20].copy_from_slice(address.as_slice());
    key[20] = 1;
    key[21..53].copy_from_slice(&slot.to_be_bytes::<32>());
    key[53..].copy_from_slice(&version.to_be_bytes());
    key
}

/// Prefix of the account trie in [`Table::Trie`].
pub(super) const ACCOUNT_TRIE: &[u8] = &[0];

/// Prefix of an account's storage trie in [`Table::Trie`].
pub(super) fn storage_trie(address: &Address) -> [u8; 21] {
    let mut key = [1; 21];
    key[1..].copy_from_slice(address.as_slice());
    key
}

/// What a row of [`Table::Logs`] is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum LogSubject<'a> {
    Any,
    Address(&'a Address),
    Topic(&'a B256),
}

/// Key of [`Table::Logs`]; without the number it is the subject's prefix.
pub(super) fn log_key(subject: LogSubject<'_>, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(41);
    match subject {
        LogSubject::Any => key.push(0),
        LogSubject::Address(address) => {
            key.push(1);
            key.extend_from_slice(address.as_slice());
        }
        LogSubject::Topic(topic) => {
            key.push(2);
            key.extend_from_slice(topic.as_slice());
        }
    }
    key.extend_from_slice(&number.to_be_bytes());
    key
}
