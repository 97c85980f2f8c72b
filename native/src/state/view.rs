//! Reading: one consistent view of everything committed, and the state at any kept block.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_trie::EMPTY_ROOT_HASH;

use super::codec::{self, AccountRecord, BodyRecord, HeadRecord, Malformed};
use super::history;
use super::mdbx::{ReadCursor, ReadTxn};
use super::store::{Committed, Shared};
use super::tables::{self, block_row, indexed_row, u64_at, LogSubject, Row, Table, ACCOUNT_TRIE};
use super::trie::roots::{BaseState, Roots};
use super::trie::{Records, Trie};
use super::{Head, TxLocation, Version};
use crate::primitives::*;

/// One consistent, immutable view of everything committed (one read transaction): cheap to open,
/// opened where it is used and dropped soon, because the pages it sees are not reused meanwhile.
/// May move to another thread; is used by one at a time.
pub struct View {
    txn: ReadTxn,
    committed: Arc<Committed>,
    shared: Arc<Shared>,
}

impl View {
    /// `None` before genesis.
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Option<View>, ReadError> {
        let txn = shared.mdbx.read()?;
        let cached = shared.committed.load();
        if let Some(committed) = cached.as_ref().filter(|committed| committed.txn == txn.id()) {
            let committed = committed.clone();
            return Ok(Some(View { txn, committed, shared: shared.clone() }));
        }
        // Another commit than the published one: the writer is about to publish it, or it changed no head.
        let Some(record) = txn.get(Table::Meta, tables::META_HEAD)? else { return Ok(None) };
        let record = HeadRecord::decode(record)?;
        let header = header_record(&txn, record.number)?.ok_or(Malformed("head"))?.1;
        let committed = Arc::new(Committed::new(txn.id(), &record, Arc::new(header)));
        shared.publish(&committed);
        Ok(Some(View { txn, committed, shared: shared.clone() }))
    }

    pub fn head(&self) -> &Head {
        &self.committed.head
    }

    /// The bytes given to `init_genesis`.
    pub fn config(&self) -> Result<Vec<u8>, ReadError> {
        Ok(self.txn.get(Table::Meta, tables::META_CONFIG)?.unwrap_or_default().to_vec())
    }

    pub fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, ReadError> {
        Ok(self.txn.get(Table::Meta, &tables::user_meta(key))?.map(<[u8]>::to_vec))
    }

    /// The oldest block whose state can be read.
    pub fn oldest_state(&self) -> Result<u64, ReadError> {
        Ok(self.committed.oldest)
    }

    pub fn header(&self, number: u64) -> Result<Option<Header>, ReadError> {
        let head = self.head();
        if number == head.header.number {
            return Ok(Some((*head.header).clone()));
        }
        Ok(header_record(&self.txn, number)?.map(|(_, header)| header))
    }

    pub fn hash(&self, number: u64) -> Result<Option<B256>, ReadError> {
        let row = self.txn.get(Table::Chain, &block_row(number, Row::Header))?;
        Ok(row.map(codec::decode_header_hash).transpose()?)
    }

    pub fn number(&self, hash: &B256) -> Result<Option<u64>, ReadError> {
        let row = self.txn.get(Table::Hashes, hash.as_slice())?;
        Ok(row.filter(|row| row.len() == 8).map(|row| u64_at(row, 0)))
    }

    pub fn block(&self, number: u64) -> Result<Option<SealedBlock>, ReadError> {
        let Some((hash, header)) = header_record(&self.txn, number)? else { return Ok(None) };
        let Some(body) = self.body(number)? else { return Ok(None) };
        let mut transactions = Vec::with_capacity(body.transactions as usize);
        self.rows(number, Row::Transaction, &mut |row| {
            transactions.push(Arc::new(codec::decode_transaction(row)?));
            Ok(())
        })?;
        Ok(Some(SealedBlock { header, hash, transactions, ommers: body.ommers, withdrawals: body.withdrawals }))
    }

    pub fn transaction_count(&self, number: u64) -> Result<Option<u32>, ReadError> {
        let row = self.txn.get(Table::Chain, &block_row(number, Row::Body))?;
        Ok(row.map(BodyRecord::decode_count).transpose()?)
    }

    /// EIP-7685 requests of a block (type byte ‖ data), in order.
    pub fn requests(&self, number: u64) -> Result<Option<Vec<Bytes>>, ReadError> {
        Ok(self.body(number)?.map(|body| body.requests))
    }

    pub fn transaction(&self, at: TxLocation) -> Result<Option<SignedTx>, ReadError> {
        let row = self.txn.get(Table::Chain, &indexed_row(at.block, Row::Transaction, at.index))?;
        Ok(row.map(codec::decode_transaction).transpose()?)
    }

    /// The hashes of a block's transactions, without decoding them; `None` beyond the head.
    pub fn transaction_hashes(&self, number: u64) -> Result<Option<Vec<B256>>, ReadError> {
        let Some(count) = self.transaction_count(number)? else { return Ok(None) };
        let mut hashes = Vec::with_capacity(count as usize);
        self.rows(number, Row::Transaction, &mut |row| {
            hashes.push(codec::decode_transaction_hash(row)?);
            Ok(())
        })?;
        Ok(Some(hashes))
    }

    /// Where a transaction stands.
    pub fn locate(&self, hash: &B256) -> Result<Option<TxLocation>, ReadError> {
        Ok(self.txn.get(Table::Hashes, hash.as_slice())?.and_then(codec::decode_location))
    }

    /// The receipt and the index of its first log within the block.
    pub fn receipt(&self, at: TxLocation) -> Result<Option<(Receipt, u64)>, ReadError> {
        let row = self.txn.get(Table::Chain, &indexed_row(at.block, Row::Receipt, at.index))?;
        Ok(row.map(codec::decode_receipt).transpose()?)
    }

    pub fn receipts(&self, number: u64) -> Result<Option<Vec<Receipt>>, ReadError> {
        let Some(count) = self.transaction_count(number)? else { return Ok(None) };
        let mut receipts = Vec::with_capacity(count as usize);
        self.rows(number, Row::Receipt, &mut |row| {
            receipts.push(codec::decode_receipt(row)?.0);
            Ok(())
        })?;
        Ok(Some(receipts))
    }

    /// Blocks in `from..=to` that may hold a log of one of `addresses` with one of `topics0` (an empty list
    /// matches all), in order.
    pub fn log_blocks(
        &self,
        from: u64,
        to: u64,
        addresses: &[Address],
        topics0: &[B256],
    ) -> Result<Vec<u64>, ReadError> {
        if addresses.is_empty() && topics0.is_empty() {
            return self.blocks_about(from, to, LogSubject::Any);
        }
        let by_address = self.blocks_about_any(from, to, addresses.iter().map(LogSubject::Address))?;
        if topics0.is_empty() {
            return Ok(by_address);
        }
        let by_topic = self.blocks_about_any(from, to, topics0.iter().map(LogSubject::Topic))?;
        if addresses.is_empty() {
            return Ok(by_topic);
        }
        Ok(by_address.into_iter().filter(|number| by_topic.binary_search(number).is_ok()).collect())
    }

    fn blocks_about_any<'a>(
        &self,
        from: u64,
        to: u64,
        subjects: impl Iterator<Item = LogSubject<'a>>,
    ) -> Result<Vec<u64>, ReadError> {
        let mut blocks = Vec::new();
        for subject in subjects {
            blocks.extend(self.blocks_about(from, to, subject)?);
        }
        blocks.sort_unstable();
        blocks.dedup();
        Ok(blocks)
    }

    fn blocks_about(&self, from: u64, to: u64, subject: LogSubject<'_>) -> Result<Vec<u64>, ReadError> {
        let mut blocks = Vec::new();
        let start = tables::log_key(subject, from);
        let prefix = &start[..start.len() - 8];
        let mut cursor = self.txn.cursor(Table::Logs)?;
        let mut row = cursor.seek(&start)?;
        while let Some((key, _)) = row {
            if !key.starts_with(prefix) {
                break;
            }
            let number = u64_at(key, prefix.len());
            if number > to {
                break;
            }
            blocks.push(number);
            row = cursor.next()?;
        }
        Ok(blocks)
    }

    /// The state that holds now (after the head and its edits).
    pub fn latest(&self) -> StateAt<'_> {
        StateAt { view: self, position: None, block: self.head().header.number }
    }

    /// The state that held at the end of `block`.
    pub fn state_at(&self, block: u64) -> Result<StateAt<'_>, ReadError> {
        let beyond = || ReadError::Store(format!("block {block} is beyond the head {}", self.head().header.number));
        let version = self.version_at(block)?.ok_or_else(beyond)?;
        let position = (version != self.head().version).then_some(version);
        Ok(StateAt { view: self, position, block })
    }

    /// The last version of block `number` (its edits included); `None` beyond the head.
    pub fn version_at(&self, number: u64) -> Result<Option<Version>, ReadError> {
        let head = self.head();
        if number >= head.header.number {
            return Ok((number == head.header.number).then_some(head.version));
        }
        let oldest = self.committed.oldest;
        if number < oldest {
            return Err(ReadError::Pruned { requested: number, oldest });
        }
        let mut cursor = self.txn.cursor(Table::Chain)?;
        let prefix = block_row(number, Row::Changes);
        let last = cursor.seek_below(&block_row(number + 1, Row::Header))?;
        let (key, _) = last.filter(|(key, _)| key.starts_with(&prefix)).ok_or(Malformed("changes"))?;
        Ok(Some(u64_at(key, prefix.len())))
    }

    /// Incremental roots over the latest state.
    pub fn root_calculator(&self) -> Box<dyn RootCalculator + '_> {
        Box::new(self.roots())
    }

    /// Incremental roots over the state at the end of `block`. For an older block the later changes are undone on the
    /// trie in memory: the cost is that of the changes since.
    pub fn root_calculator_at(&self, block: u64) -> Result<Box<dyn RootCalculator + '_>, ReadError> {
        let state = self.state_at(block)?;
        let mut roots = self.roots();
        if let Some(version) = state.position {
            roots.apply(&history::delta_to(self, version)?)?;
        }
        Ok(Box::new(roots))
    }

    /// The trie's root node has the hash that the head names.
    pub(super) fn check_root(&self) -> Result<(), ReadError> {
        Trie::check(&self, ACCOUNT_TRIE, self.head().state_root)
    }

    pub(super) fn roots(&self) -> Roots<&View> {
        Roots::over(self, self.head().state_root)
    }

    /// Merkle proof nodes (EIP-1186) at `block`: account proof, storage root, then value and proof per slot.
    ///
    /// For an older block the later changes are undone on the trie in memory: the cost is that of the changes
    /// since.
    pub fn proof(&self, block: u64, address: &Address, slots: &[U256]) -> Result<AccountProof, ReadError> {
        let state = self.state_at(block)?;
        let mut roots = self.roots();
        if let Some(version) = state.position {
            let undo = history::undo_for_proof(self, version, address)?;
            roots.assume_storage_roots(undo.storage_roots);
            roots.apply(&undo.delta)?;
        }
        let proof = roots.prove(address, slots)?;
        let mut storage = Vec::with_capacity(slots.len());
        for (slot, nodes) in slots.iter().zip(proof.storage) {
            storage.push((*slot, state.storage(address, slot)?, nodes));
        }
        Ok(AccountProof {
            info: state.account(address)?,
            storage_root: proof.storage_root,
            account_proof: proof.account,
            storage,
        })
    }

    /// Every account of the latest state in address order, with its storage; stops when `f` returns false.
    /// Streams: only one account is in memory at a time.
    pub fn for_each_account(
        &self,
        f: &mut dyn FnMut(Address, AccountInfo, Vec<(U256, U256)>) -> bool,
    ) -> Result<(), ReadError> {
        self.for_each_record(&mut |address, record, storage| f(address, record.info, storage))
    }

    pub(super) fn for_each_record(
        &self,
        f: &mut dyn FnMut(Address, AccountRecord, Vec<(U256, U256)>) -> bool,
    ) -> Result<(), ReadError> {
        let mut cursor = self.txn.cursor(Table::State)?;
        let mut row = cursor.seek(&[])?;
        while let Some((key, value)) = row {
            let address = Address::try_from(key).map_err(|_| Malformed("account"))?;
            let record = AccountRecord::decode(value)?;
            let mut storage = Vec::new();
            row = cursor.next()?;
            while let Some((key, value)) = row.filter(|(key, _)| key.len() == 52 && key.starts_with(address.as_slice()))
            {
                storage.push((U256::from_be_slice(&key[20..]), codec::decode_value(value)?));
                row = cursor.next()?;
            }
            if !f(address, record, storage) {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn record(&self, address: &Address) -> Result<Option<AccountRecord>, ReadError> {
        let row = self.txn.get(Table::State, address.as_slice())?;
        Ok(row.map(AccountRecord::decode).transpose()?)
    }

    #[cfg(test)]
    #[allow(clippy::type_complexity)]
    pub(super) fn trie_records(&self) -> Result<Vec<OwnedRow>, ReadError> {
        self.all_rows(Table::Trie)
    }

    #[cfg(test)]
    pub(super) fn history_rows(&self) -> Result<usize, ReadError> {
        Ok(self.all_rows(Table::History)?.len())
    }

    #[cfg(test)]
    fn all_rows(&self, table: Table) -> Result<Vec<OwnedRow>, ReadError> {
        let mut cursor = self.txn.cursor(table)?;
        let mut rows = Vec::new();
        let mut row = cursor.seek(&[])?;
        while let Some((key, value)) = row {
            rows.push((key.to_vec(), value.to_vec()));
            row = cursor.next()?;
        }
        Ok(rows)
    }

    pub(super) fn cursor(&self, table: Table) -> Result<ReadCursor<'_>, ReadError> {
        self.txn.cursor(table)
    }

    fn body(&self, number: u64) -> Result<Option<BodyRecord>, ReadError> {
        let row = self.txn.get(Table::Chain, &block_row(number, Row::Body))?;
        Ok(row.map(BodyRecord::decode).transpose()?)
    }

    fn rows(&self, number: u64, row: Row, f: &mut dyn FnMut(&[u8]) -> Result<(), Malformed>) -> Result<(), ReadError> {
        let prefix = block_row(number, row);
        let mut cursor = self.txn.cursor(Table::Chain)?;
        let mut pair = cursor.seek(&prefix)?;
        while let Some((_, value)) = pair.filter(|(key, _)| key.starts_with(&prefix)) {
            f(value)?;
            pair = cursor.next()?;
        }
        Ok(())
    }
}

/// A key and its value.
#[cfg(test)]
type OwnedRow = (Vec<u8>, Vec<u8>);

fn header_record(txn: &ReadTxn, number: u64) -> Result<Option<(B256, Header)>, ReadError> {
    let row = txn.get(Table::Chain, &block_row(number, Row::Header))?;
    Ok(row.map(codec::decode_header).transpose()?)
}

impl Records for &View {
    fn record(&self, key: &[u8]) -> Result<Option<&[u8]>, ReadError> {
        self.txn.get(Table::Trie, key)
    }
}

impl BaseState for &View {
    fn storage_root(&self, address: &Address) -> Result<B256, ReadError> {
        Ok(View::record(self, address)?.map_or(EMPTY_ROOT_HASH, |record| record.storage_root))
    }

    fn storage_records(&self, address: &Address) -> Result<Vec<Vec<u8>>, ReadError> {
        let prefix = tables::storage_trie(address);
        let mut keys = Vec::new();
        let mut cursor = self.txn.cursor(Table::Trie)?;
        let mut row = cursor.seek(&prefix)?;
        while let Some((key, _)) = row.filter(|(key, _)| key.starts_with(&prefix)) {
            keys.push(key.to_vec());
            row = cursor.next()?;
        }
        Ok(keys)
    }
}

/// Reads at one position of history.
pub struct StateAt<'v> {
    view: &'v View,
    /// `None`: the latest state.
    position: Option<Version>,
    block: u64,
}

impl StateAt<'_> {
    /// The value of a history key family (`key` for version `position + 1`, which ends in the version):
    /// what held before the first change after the position.
    fn before(&self, key: &[u8]) -> Result<Option<&[u8]>, ReadError> {
        history::value_before(self.view, key)
    }
}

impl StateAt<'_> {
    fn record(&self, address: &Address) -> Result<Option<AccountRecord>, ReadError> {
        if let Some(version) = self.position {
            if let Some(record) = self.before(&tables::account_history(address, version + 1))? {
                return Ok(AccountRecord::decode_optional(record)?);
            }
        }
        self.view.record(address)
    }
}

impl StateRead for StateAt<'_> {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError> {
        Ok(self.record(address)?.map(|record| record.info))
    }

    fn has_storage(&self, address: &Address) -> Result<bool, ReadError> {
        Ok(self.record(address)?.is_some_and(|record| record.storage_root != EMPTY_ROOT_HASH))
    }

    fn storage(&self, address: &Address, slot: &U256) -> Result<U256, ReadError> {
        if let Some(version) = self.position {
            if let Some(value) = self.before(&tables::slot_history(address, slot, version + 1))? {
                return Ok(codec::decode_value(value)?);
            }
        }
        let row = self.view.txn.get(Table::State, &tables::slot_key(address, slot))?;
        Ok(row.map(codec::decode_value).transpose()?.unwrap_or_default())
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, ReadError> {
        if let Some(code) = self.view.shared.codes.get(hash) {
            return Ok(Some(code));
        }
        let code = self.view.txn.get(Table::Codes, hash.as_slice())?.map(Bytes::copy_from_slice);
        if let Some(code) = &code {
            self.view.shared.codes.insert(*hash, code.clone());
        }
        Ok(code)
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, ReadError> {
        if number > self.block {
            return Ok(None);
        }
        self.view.hash(number)
    }
}

/// What `eth_getProof` answers.
pub struct AccountProof {
    pub info: Option<AccountInfo>,
    pub storage_root: B256,
    pub account_proof: Vec<Bytes>,
    /// Per slot: slot, value, proof nodes.
    pub storage: Vec<(U256, U256, Vec<Bytes>)>,
}
