//! Pending and queued transactions (skeleton: bodies to come).
use std::path::PathBuf;
use std::sync::Arc;

use crate::primitives::*;
use alloy_eips::eip7594::BlobTransactionSidecarVariant;

#[derive(Clone, Debug)]
pub struct PoolConfig {
    pub max_pending: usize,
    pub max_queued: usize,
    pub max_per_account: usize,
    pub max_bytes: usize,
    /// Refuse a nonce further than this ahead of the account.
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
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    InsufficientFunds { balance: U256, cost: U256 },
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

pub struct Pool {}

impl Pool {
    pub fn new(_config: PoolConfig) -> Result<Arc<Pool>, PoolError> {
        todo!()
    }
    /// Decodes, recovers (in parallel for more than a few), checks against `state`, inserts: one lock for the batch.
    /// Network form of blob transactions (with sidecar) is required for type 3; KZG is checked.
    pub fn add_many(
        &self,
        _raws: &[Bytes],
        _ctx: &PoolContext,
        _state: &dyn StateRead,
    ) -> Vec<Result<B256, PoolError>> {
        todo!()
    }
    /// For impersonated senders, the journal and reorgs.
    pub fn add_recovered(
        &self,
        _txs: Vec<PooledTx>,
        _ctx: &PoolContext,
        _state: &dyn StateRead,
    ) -> Vec<Result<B256, PoolError>> {
        todo!()
    }
    /// Executable transactions, best first under the given fees; a snapshot: never blocks `add_many`.
    pub fn best(&self, _base_fee: u64, _blob_base_fee: u128) -> Box<dyn TxSource + Send> {
        todo!()
    }
    /// A block was committed: drops mined and stale transactions, promotes; touches only changed senders.
    pub fn on_block(&self, _block: &ExecutedBlock, _ctx: &PoolContext) {
        todo!()
    }
    /// The state changed in another way (edit, revert, reset): re-validates everything against `state`.
    pub fn on_reset(&self, _reinject: Vec<Arc<SignedTx>>, _ctx: &PoolContext, _state: &dyn StateRead) {
        todo!()
    }
    pub fn get(&self, _hash: &B256) -> Option<PooledTx> {
        todo!()
    }
    pub fn remove(&self, _hash: &B256) -> bool {
        todo!()
    }
    pub fn remove_sender(&self, _sender: &Address) -> usize {
        todo!()
    }
    pub fn clear(&self) {
        todo!()
    }
    /// Next nonce of a sender counting pending transactions; `None` when the pool holds none of it.
    pub fn next_nonce(&self, _sender: &Address) -> Option<u64> {
        todo!()
    }
    /// (pending, queued)
    pub fn status(&self) -> (usize, usize) {
        todo!()
    }
    pub fn content(&self) -> PoolContent {
        todo!()
    }
    pub fn content_from(&self, _sender: &Address) -> PoolContent {
        todo!()
    }
    /// True when at least one transaction could go into a block at this base fee.
    pub fn has_ready(&self, _base_fee: u64) -> bool {
        todo!()
    }
    /// Called (outside the lock) with every batch that became pending, for subscriptions and automine.
    pub fn set_listener(&self, _f: Box<dyn Fn(&[Arc<SignedTx>]) + Send + Sync>) {
        todo!()
    }
    /// Re-inserts what the journal of the last run holds; returns how many were taken.
    pub fn load_journal(&self, _ctx: &PoolContext, _state: &dyn StateRead) -> usize {
        todo!()
    }
    /// Writes the journal out compactly (also on close).
    pub fn flush_journal(&self) -> std::io::Result<()> {
        todo!()
    }
}
