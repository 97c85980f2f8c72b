//! Pending and queued transactions: what waits for a block, in which order, and what is refused.
//!
//! * `decode`, `rules`: from raw bytes to a candidate, without any lock, in parallel for batches.
//! * `ledger`: the pool itself, under one short lock; `ready`: the order of the senders' first transactions.
//! * `source`: the walk in block order; `journal`: the pool on disk.
//!
//! Transactions whose fee cap is below the base fee stay pending but are not *ready*: [`Pool::best`] and
//! [`Pool::has_ready`] leave them out until the base fee falls.
//!
//! Accounts are read from the `state` argument while the lock is held, and only for senders that the pool does not
//! hold yet. A caller whose `state` opens its view at the first read therefore never misses a block: either the view
//! contains the block, or `on_block` comes after the insertion.
mod decode;
mod journal;
mod ledger;
mod ready;
mod rules;
mod source;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy_eips::eip7594::BlobTransactionSidecarVariant;
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rayon::prelude::*;

use crate::primitives::*;
use decode::Candidate;
use journal::Journal;
use ledger::{Ledger, Origin};
use ready::Fees;

pub use decode::recover_many;

/// From this many transactions on, decoding and recovery use all cores; below, a hand-over costs more than it saves.
const PARALLEL_FROM: usize = 8;
/// Records of mined transactions are written with the next addition, or when so many wait.
const MAX_WAITING_RECORDS: usize = 4096;

#[derive(Clone, Debug)]
pub struct PoolConfig {
    pub max_pending: usize,
    pub max_queued: usize,
    pub max_per_account: usize,
    pub max_bytes: usize,
    /// Refuse a nonce further than this ahead of the sender's next pending nonce.
    pub max_nonce_gap: u64,
    /// Smallest tip accepted, wei.
    pub min_tip: u128,
    /// "fees" or "fifo".
    pub fifo: bool,
    /// Where pending transactions survive a restart; `None` keeps none.
    pub journal: Option<PathBuf>,
    pub check_balance: bool,
}

/// The chain as the pool needs to know it to judge a transaction.
#[derive(Clone, Debug)]
pub struct PoolContext {
    pub chain_id: u64,
    pub fork: crate::execution::Fork,
    pub block_gas_limit: u64,
    /// Base fee and blob base fee of the *next* block.
    pub base_fee: u64,
    pub blob_base_fee: u128,
    pub max_blobs_per_tx: u64,
    pub max_blobs_per_block: u64,
    /// EIP-3860, bytes; binds from Shanghai on.
    pub max_initcode_size: usize,
}

impl PoolContext {
    fn fees(&self) -> Fees {
        Fees { base: self.base_fee, blob: self.blob_base_fee }
    }
}

/// Messages are geth's: clients match on them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("already known")]
    AlreadyKnown,
    #[error("nonce too low: next nonce {next}, tx nonce {got}")]
    NonceTooLow { next: u64, got: u64 },
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {}",
        cost.saturating_sub(*balance)
    )]
    InsufficientFunds { balance: U256, cost: U256 },
    /// The sender could pay for this transaction, but not for it and its pending ones.
    #[error(
        "insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, tx cost {cost}, overshot {}",
        queued.saturating_add(*cost).saturating_sub(*balance)
    )]
    Overdraft { balance: U256, queued: U256, cost: U256 },
    #[error("{0}")]
    Invalid(String),
    #[error("txpool is full")]
    Full,
}

/// A pooled transaction as the views and the RPC see it.
#[derive(Clone, Debug)]
pub struct PooledTx {
    pub tx: Arc<SignedTx>,
    pub sidecar: Option<Arc<BlobTransactionSidecarVariant>>,
}

/// pending: executable in nonce order from the account's nonce; queued: behind a gap.
#[derive(Clone, Debug, Default)]
pub struct PoolContent {
    pub pending: Vec<(Address, Vec<PooledTx>)>,
    pub queued: Vec<(Address, Vec<PooledTx>)>,
}

/// Hears every batch of transactions that became pending.
pub type Listener = Box<dyn Fn(&[Arc<SignedTx>]) + Send + Sync>;

pub struct Pool {
    min_tip: u128,
    ledger: Arc<Mutex<Ledger>>,
    /// Taken before the ledger's lock, never the other way round.
    journal: Option<Mutex<Journal>>,
    waiting: Mutex<Vec<PooledTx>>,
    listener: ArcSwapOption<Listener>,
}

impl Pool {
    /// Opens the journal; the transactions in it wait for [`Pool::load_journal`].
    ///
    /// # Errors
    /// The journal cannot be opened or is not one of ours.
    pub fn new(config: PoolConfig) -> Result<Arc<Pool>, PoolError> {
        let opened = config.journal.as_ref().map(|path| {
            open_journal(path).map_err(|error| PoolError::Invalid(format!("pool journal {}: {error}", path.display())))
        });
        let (journal, waiting) = opened.transpose()?.unzip();
        Ok(Arc::new(Pool {
            min_tip: config.min_tip,
            ledger: Arc::new(Mutex::new(Ledger::new(&config))),
            journal: journal.map(Mutex::new),
            waiting: Mutex::new(waiting.unwrap_or_default()),
            listener: ArcSwapOption::empty(),
        }))
    }

    /// What the journal held when the pool was opened, oldest first; the second call returns nothing.
    pub fn journal_entries(&self) -> Vec<PooledTx> {
        std::mem::take(&mut self.waiting.lock())
    }

    /// Re-inserts what the journal of the last run holds (as far as it still can run) and rewrites the file; returns how
    /// many were taken.
    pub fn load_journal(&self, ctx: &PoolContext, state: &dyn StateRead) -> usize {
        let waiting = self.journal_entries();
        if waiting.is_empty() {
            return 0;
        }
        // They are in the file already; the rewrite below drops those that are not taken.
        self.ledger.lock().set_recording(false);
        let candidates = waiting.into_iter().map(|pooled| decode::judge_recovered(pooled, ctx)).collect();
        let results = self.insert(candidates, Origin::Known, state);
        self.ledger.lock().set_recording(self.journal.is_some());
        // A failed rewrite leaves the old file, which holds the same transactions and more.
        drop(self.flush_journal());
        results.iter().filter(|result| result.is_ok()).count()
    }

    /// Decodes, recovers (in parallel for more than a few), checks against `state`, inserts.
    /// Network form of blob transactions (with sidecar) is required for type 3; KZG is checked.
    pub fn add_many(&self, raws: &[Bytes], ctx: &PoolContext, state: &dyn StateRead) -> Vec<Result<B256, PoolError>> {
        let prepare = |raw: &Bytes| {
            let decoded = decode::decode(raw, ctx)?;
            if self.ledger.lock().get(&decoded.hash()).is_some() {
                return Err(PoolError::AlreadyKnown);
            }
            decode::judge(decoded, self.min_tip, ctx)
        };
        let candidates = if raws.len() < PARALLEL_FROM {
            raws.iter().map(prepare).collect()
        } else {
            raws.par_iter().with_min_len(2).map(prepare).collect()
        };
        self.insert(candidates, Origin::New, state)
    }

    /// For impersonated senders and others whose sender is known.
    pub fn add_recovered(
        &self,
        txs: Vec<PooledTx>,
        ctx: &PoolContext,
        state: &dyn StateRead,
    ) -> Vec<Result<B256, PoolError>> {
        let candidates = txs.into_iter().map(|pooled| decode::judge_recovered(pooled, ctx)).collect();
        self.insert(candidates, Origin::New, state)
    }

    fn insert(
        &self,
        candidates: Vec<Result<Candidate, PoolError>>,
        origin: Origin,
        state: &dyn StateRead,
    ) -> Vec<Result<B256, PoolError>> {
        let (results, promoted) = {
            let mut ledger = self.ledger.lock();
            let results = candidates.into_iter().map(|candidate| {
                let candidate = candidate?;
                let hash = candidate.hash();
                ledger.insert(candidate, origin, state).map(|()| hash)
            });
            (results.collect(), ledger.take_promoted())
        };
        self.write_records();
        self.announce(&promoted);
        results
    }

    /// Executable transactions, best first under the given fees, read step by step: never blocks `add_many` for longer
    /// than one step, and ends when the chain moves.
    pub fn best(&self, base_fee: u64, blob_base_fee: u128) -> Box<dyn TxSource + Send> {
        let fees = Fees { base: base_fee, blob: blob_base_fee };
        Box::new(source::Best::new(self.ledger.clone(), fees, true))
    }

    /// Like [`Pool::best`], but what the reader rejects stays as it is: for a block that is only looked at, perhaps on a
    /// state that is not the head any more.
    pub fn preview(&self, base_fee: u64, blob_base_fee: u128) -> Box<dyn TxSource + Send> {
        let fees = Fees { base: base_fee, blob: blob_base_fee };
        Box::new(source::Best::new(self.ledger.clone(), fees, false))
    }

    /// A block was committed: drops mined and stale transactions, promotes; touches only changed senders.
    pub fn on_block(&self, block: &ExecutedBlock, ctx: &PoolContext) {
        let (promoted, records) = {
            let mut ledger = self.ledger.lock();
            ledger.epoch += 1;
            for (address, delta) in &block.delta.accounts {
                if ledger.contains_sender(address) {
                    let info = delta.info.clone().unwrap_or_else(ledger::empty_account);
                    ledger.update(address, &info);
                }
            }
            ledger.limit_gas(ctx.block_gas_limit);
            ledger.rebase(ctx.fees());
            (ledger.take_promoted(), ledger.pending_records())
        };
        if records > MAX_WAITING_RECORDS {
            self.write_records();
        }
        self.announce(&promoted);
    }

    /// The state changed in another way (edit, revert, reset): re-validates everything against `state`.
    pub fn on_reset(&self, reinject: Vec<Arc<SignedTx>>, ctx: &PoolContext, state: &dyn StateRead) {
        let mut candidates = Vec::with_capacity(reinject.len());
        let promoted = {
            let mut ledger = self.ledger.lock();
            ledger.epoch += 1;
            ledger.update_all(state);
            ledger.limit_gas(ctx.block_gas_limit);
            ledger.rebase(ctx.fees());
            for tx in reinject {
                let sidecar = ledger.sidecar(&tx.hash);
                candidates.push(decode::judge_recovered(PooledTx { tx, sidecar }, ctx));
            }
            ledger.take_promoted()
        };
        self.announce(&promoted);
        // Writes the records of mined transactions too: a lower nonce would bring them back at a restart.
        self.insert(candidates, Origin::Known, state);
    }

    pub fn get(&self, hash: &B256) -> Option<PooledTx> {
        self.ledger.lock().get(hash).map(|entry| entry.tx.pooled.clone())
    }

    /// The sidecar of a blob transaction in the pool, or in one of the latest blocks.
    pub fn sidecar(&self, hash: &B256) -> Option<Arc<BlobTransactionSidecarVariant>> {
        self.ledger.lock().sidecar(hash)
    }

    pub fn remove(&self, hash: &B256) -> bool {
        let removed = self.ledger.lock().remove(hash);
        self.write_records();
        removed
    }

    pub fn remove_sender(&self, sender: &Address) -> usize {
        let removed = self.ledger.lock().remove_sender(sender);
        self.write_records();
        removed
    }

    pub fn clear(&self) {
        self.ledger.lock().clear();
        self.write_records();
    }

    /// Next nonce of a sender counting pending transactions; `None` when the pool holds none of it.
    pub fn next_nonce(&self, sender: &Address) -> Option<u64> {
        self.ledger.lock().next_nonce(sender)
    }

    /// (pending, queued)
    pub fn status(&self) -> (usize, usize) {
        self.ledger.lock().counts()
    }

    pub fn content(&self) -> PoolContent {
        let ledger = self.ledger.lock();
        let mut content = PoolContent::default();
        for sender in ledger.senders() {
            extend(&mut content, sender, ledger.of_sender(&sender));
        }
        content
    }

    pub fn content_from(&self, sender: &Address) -> PoolContent {
        let mut content = PoolContent::default();
        extend(&mut content, *sender, self.ledger.lock().of_sender(sender));
        content
    }

    /// True when at least one transaction could go into a block at this base fee.
    pub fn has_ready(&self, base_fee: u64) -> bool {
        let mut ledger = self.ledger.lock();
        if ledger.ready.fees().base != base_fee {
            let fees = Fees { base: base_fee, ..ledger.ready.fees() };
            ledger.rebase(fees);
        }
        ledger.ready.any()
    }

    /// Called (outside the lock) with every batch that became pending, for subscriptions and automine.
    pub fn set_listener(&self, listener: Listener) {
        self.listener.store(Some(Arc::new(listener)));
    }

    /// Writes the journal out compactly (also on close).
    ///
    /// # Errors
    /// The file cannot be written; the old one stays.
    pub fn flush_journal(&self) -> std::io::Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let mut journal = journal.lock();
        let mut entries = self.waiting.lock().clone();
        entries.append(&mut self.snapshot());
        journal.rewrite(entries)?;
        journal.sync()
    }

    /// Hands the waiting records to the operating system. A failed write (full disk) does not fail the transaction: it
    /// is in the pool, and the next rewrite brings the file up to date.
    fn write_records(&self) {
        let Some(journal) = &self.journal else { return };
        let mut journal = journal.lock();
        let records = self.ledger.lock().take_records();
        if records.is_empty() {
            return;
        }
        let failed = journal.append(&records).is_err();
        if failed || journal.wants_rewrite() {
            let mut entries = self.waiting.lock().clone();
            entries.append(&mut self.snapshot());
            drop(journal.rewrite(entries));
        }
    }

    /// All transactions by arrival; records that wait for the journal are settled by it.
    fn snapshot(&self) -> Vec<PooledTx> {
        let mut ledger = self.ledger.lock();
        drop(ledger.take_records());
        ledger.all()
    }

    fn announce(&self, promoted: &[Arc<SignedTx>]) {
        if promoted.is_empty() {
            return;
        }
        if let Some(listener) = &*self.listener.load() {
            listener(promoted);
        }
    }
}

fn extend(content: &mut PoolContent, sender: Address, (pending, queued): (Vec<PooledTx>, Vec<PooledTx>)) {
    if !pending.is_empty() {
        content.pending.push((sender, pending));
    }
    if !queued.is_empty() {
        content.queued.push((sender, queued));
    }
}

/// Opens the journal; a file that is none is set aside, for it must not keep the chain from starting.
fn open_journal(path: &Path) -> std::io::Result<(Journal, Vec<PooledTx>)> {
    match Journal::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".damaged");
            std::fs::rename(path, &aside)?;
            eprintln!("zerog: {}: {error}; kept as {} and begun anew", path.display(), Path::new(&aside).display());
            Journal::open(path)
        }
        opened => opened,
    }
}
