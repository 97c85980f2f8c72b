//! Going through history: what changed since a version, undoing it, forgetting it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::codec::{AccountRecord, ChangesRecord, HeadRecord, Malformed};
use super::mdbx::WriteTxn;
use super::tables::{self, block_row, changes_row, u64_at, Row, Table};
use super::view::View;
use super::{codec, write, StateError, Version};
use crate::primitives::*;

/// Blocks whose history one commit forgets at most: a backlog (after a lower limit) goes bit by bit.
const MAX_PRUNED_BLOCKS: usize = 16;

/// Everything that has to change to get back to a version.
pub(super) struct Undo {
    version: Version,
    /// The block that the version belongs to.
    pub(super) block: u64,
    hash: B256,
    root: B256,
    pub(super) delta: StateDelta,
    /// Versions to forget with their changes.
    later: Vec<(Version, ChangesRecord)>,
    dropped: Vec<SealedBlock>,
    log_keys: Vec<Vec<u8>>,
    /// Transactions of the dropped blocks, oldest first.
    pub(super) transactions: Vec<Arc<SignedTx>>,
}

/// Collects what undoing everything after `version` takes.
pub(super) fn undo(view: &View, version: Version) -> Result<Undo, StateError> {
    let (at, later) = changes_since(view, version)?;
    let Some((block, record)) = at else { return Err(StateError::UnknownVersion(version)) };
    let delta = delta_back(view, version, &later, &|_| true)?;
    let hash = view.hash(block)?.ok_or(StateError::UnknownVersion(version))?;
    let (mut dropped, mut log_keys, mut transactions) = (Vec::new(), Vec::new(), Vec::new());
    for number in block + 1..=view.head().header.number {
        let Some(sealed) = view.block(number)? else { continue };
        log_keys.extend(write::log_keys(number, &view.receipts(number)?.unwrap_or_default()));
        transactions.extend(sealed.transactions.iter().cloned());
        dropped.push(sealed);
    }
    Ok(Undo { version, block, hash, root: record.root, delta, later, dropped, log_keys, transactions })
}

/// The delta from the latest state back to `version`.
pub(super) fn delta_to(view: &View, version: Version) -> Result<StateDelta, ReadError> {
    let (_, later) = changes_since(view, version)?;
    delta_back(view, version, &later, &|_| true)
}

/// The delta from the latest state back to `version`, with the storage of `address` only: enough for its
/// proof, because the records of the other accounts name their storage roots.
pub(super) fn undo_for_proof(view: &View, version: Version, address: &Address) -> Result<ProofUndo, ReadError> {
    let (_, later) = changes_since(view, version)?;
    let delta = delta_back(view, version, &later, &|account| account == address)?;
    let mut storage_roots = BTreeMap::new();
    for (account, _) in later.iter().flat_map(|(_, changes)| &changes.accounts) {
        if account == address {
            continue;
        }
        let record = account_before(view, account, version)?;
        storage_roots.insert(*account, record.map_or(alloy_trie::EMPTY_ROOT_HASH, |record| record.storage_root));
    }
    Ok(ProofUndo { delta, storage_roots })
}

/// See [`undo_for_proof`].
pub(super) struct ProofUndo {
    pub(super) delta: StateDelta,
    /// Storage roots, at that version, of the accounts whose storage the delta leaves out.
    pub(super) storage_roots: BTreeMap<Address, B256>,
}

type Later = Vec<(Version, ChangesRecord)>;

/// The row of `version` itself with its block, and all later versions, newest first.
fn changes_since(view: &View, version: Version) -> Result<(Option<(u64, ChangesRecord)>, Later), ReadError> {
    let mut later = Vec::new();
    let mut cursor = view.cursor(Table::Chain)?;
    for number in (view.oldest_state()?..=view.head().header.number).rev() {
        let prefix = block_row(number, Row::Changes);
        let mut row = cursor.seek_below(&block_row(number + 1, Row::Header))?;
        while let Some((key, value)) = row.filter(|(key, _)| key.starts_with(&prefix)) {
            let found = u64_at(key, prefix.len());
            if found < version {
                return Ok((None, later));
            }
            let changes = ChangesRecord::decode(value)?;
            if found == version {
                return Ok((Some((number, changes)), later));
            }
            later.push((found, changes));
            row = cursor.prev()?;
        }
    }
    Ok((None, later))
}

/// The values at `version` of everything that changed later.
fn delta_back(
    view: &View,
    version: Version,
    later: &Later,
    with_storage: &dyn Fn(&Address) -> bool,
) -> Result<StateDelta, ReadError> {
    let mut touched: BTreeMap<Address, BTreeSet<U256>> = BTreeMap::new();
    for (address, slots) in later.iter().flat_map(|(_, changes)| &changes.accounts) {
        let known = touched.entry(*address).or_default();
        if with_storage(address) {
            known.extend(slots);
        }
    }
    let mut delta = StateDelta::default();
    for (address, slots) in touched {
        let record = account_before(view, &address, version)?;
        let mut storage = BTreeMap::new();
        if record.is_some() {
            for slot in slots {
                storage.insert(slot, slot_before(view, &address, &slot, version)?);
            }
        }
        let info = record.map(|record| record.info);
        delta.accounts.insert(address, AccountDelta { info, storage_wiped: false, storage });
    }
    Ok(delta)
}

/// The account at `version`, which has a later change.
fn account_before(view: &View, address: &Address, version: Version) -> Result<Option<AccountRecord>, ReadError> {
    match value_before(view, &tables::account_history(address, version + 1))? {
        Some(bytes) => Ok(AccountRecord::decode_optional(bytes)?),
        None => view.record(address),
    }
}

fn slot_before(view: &View, address: &Address, slot: &U256, version: Version) -> Result<U256, ReadError> {
    let bytes = value_before(view, &tables::slot_history(address, slot, version + 1))?;
    Ok(codec::decode_value(bytes.ok_or(Malformed("history"))?)?)
}

/// The first history value of a key family from the version in `key` on.
pub(super) fn value_before<'v>(view: &'v View, key: &[u8]) -> Result<Option<&'v [u8]>, ReadError> {
    let mut cursor = view.cursor(Table::History)?;
    let row = cursor.seek(key)?;
    Ok(row.filter(|(found, _)| found[..found.len() - 8] == key[..key.len() - 8]).map(|(_, value)| value))
}

/// Writes an [`Undo`]; `trie` is its delta's.
pub(super) fn revert(
    tx: &WriteTxn<'_>,
    head: &mut HeadRecord,
    undo: &Undo,
    trie: &TrieUpdates,
) -> Result<(), StateError> {
    if trie.root != undo.root {
        return Err(StateError::Corrupt(format!(
            "undoing to version {} gives state root {}, recorded is {}",
            undo.version, trie.root, undo.root
        )));
    }
    write::apply_delta(tx, None, &undo.delta, trie)?;
    for (version, changes) in &undo.later {
        forget_changes(tx, *version, changes)?;
    }
    drop_blocks(tx, undo)?;
    head.number = undo.block;
    head.hash = undo.hash;
    head.state_root = undo.root;
    head.version = undo.version;
    head.oldest = head.oldest.min(undo.block);
    Ok(())
}

fn drop_blocks(tx: &WriteTxn<'_>, undo: &Undo) -> Result<(), StateError> {
    let mut chain = tx.cursor(Table::Chain)?;
    let mut row = chain.seek(&changes_row(undo.block, undo.version + 1))?;
    while row.is_some() {
        chain.delete_current()?;
        row = chain.next()?;
    }
    let mut hashes = tx.cursor(Table::Hashes)?;
    for block in &undo.dropped {
        hashes.delete(block.hash.as_slice())?;
        for (index, transaction) in (0u32..).zip(&block.transactions) {
            let at = codec::encode_location(super::TxLocation { block: block.header.number, index });
            if hashes.get(transaction.hash.as_slice())?.is_some_and(|found| *found == at) {
                hashes.delete_current()?;
            }
        }
    }
    let mut logs = tx.cursor(Table::Logs)?;
    for key in &undo.log_keys {
        logs.delete(key)?;
    }
    Ok(())
}

/// Deletes the reverse diffs of one version.
fn forget_changes(tx: &WriteTxn<'_>, version: Version, changes: &ChangesRecord) -> Result<(), StateError> {
    let mut history = tx.cursor(Table::History)?;
    for (address, slots) in &changes.accounts {
        history.delete(&tables::account_history(address, version))?;
        for slot in slots {
            history.delete(&tables::slot_history(address, slot, version))?;
        }
    }
    Ok(())
}

/// Moves the oldest kept state forward so that `keep` blocks are left. Costs what the forgotten blocks changed.
pub(super) fn prune(tx: &WriteTxn<'_>, head: &mut HeadRecord, keep: Option<u64>) -> Result<(), StateError> {
    let Some(keep) = keep else { return Ok(()) };
    let wanted = head.number.saturating_sub(keep.max(1) - 1);
    for _ in 0..MAX_PRUNED_BLOCKS {
        if head.oldest >= wanted {
            break;
        }
        forget_block(tx, head.oldest, false)?;
        head.oldest += 1;
        forget_block(tx, head.oldest, true)?;
    }
    Ok(())
}

/// Deletes the reverse diffs of a block's versions and their rows; with `keep_last` the last row stays,
/// without changes: it names the block's version and root.
fn forget_block(tx: &WriteTxn<'_>, number: u64, keep_last: bool) -> Result<(), StateError> {
    let prefix = block_row(number, Row::Changes);
    let mut rows = Vec::new();
    let mut chain = tx.cursor(Table::Chain)?;
    let mut row = chain.seek(&prefix)?;
    while let Some((key, value)) = row.filter(|(key, _)| key.starts_with(&prefix)) {
        let changes = ChangesRecord::decode(&value).map_err(ReadError::from)?;
        rows.push((u64_at(&key, prefix.len()), changes));
        row = chain.next()?;
    }
    let last = rows.len().saturating_sub(1);
    for (index, (version, changes)) in rows.into_iter().enumerate() {
        forget_changes(tx, version, &changes)?;
        let key = changes_row(number, version);
        if keep_last && index == last {
            chain.put(&key, &ChangesRecord { accounts: Vec::new(), ..changes }.encode())?;
        } else {
            chain.delete(&key)?;
        }
    }
    Ok(())
}
