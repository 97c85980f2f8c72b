//! The life of a block: propose, verify, finalize, commit, over `state`, `execution` and `pool` (skeleton: bodies to come).
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::execution::{BlockAttributes, BlockContext, ChainSpec};
use crate::pool::{Pool, PoolConfig, PoolContext};
use crate::primitives::*;
use crate::state::{Head, Store, StoreOptions, View};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)] State(#[from] crate::state::StateError),
    #[error(transparent)] Genesis(#[from] crate::execution::GenesisError),
    #[error(transparent)] Block(#[from] crate::execution::BlockError),
    #[error(transparent)] Read(#[from] ReadError),
    #[error("payload: {0}")] Payload(String),
    #[error("the data directory belongs to chain {found}, not {wanted}")] WrongChain { found: u64, wanted: u64 },
    #[error("{0}")] Other(String),
}

pub struct EngineConfig {
    pub store: StoreOptions,
    pub pool: PoolConfig,
    /// geth-format genesis for a fresh store; checked against the stored one otherwise.
    pub genesis: Vec<u8>,
    pub data_dir: Option<PathBuf>,
}

/// Knobs of a devnet that shape the next block; all `None`/empty on other chains.
#[derive(Clone, Debug, Default)]
pub struct Controls {
    /// Seconds added to the wall clock.
    pub time_offset: i64,
    /// Exact timestamp of the next block (consumed by it).
    pub next_timestamp: Option<u64>,
    /// Each block's timestamp = parent + this.
    pub timestamp_interval: Option<u64>,
    pub next_base_fee: Option<u64>,
    pub next_prevrandao: Option<B256>,
    pub coinbase: Address,
    pub gas_limit: u64,
    pub auto_impersonate: bool,
    pub impersonated: std::collections::BTreeSet<Address>,
}

/// What the chain tells its listeners, in order.
#[derive(Clone, Debug)]
pub enum ChainEvent {
    Committed(Arc<ExecutedBlock>),
    /// The head moved back or the state was edited in place: caches of it are void.
    Rewound(Head),
    Pending(Vec<Arc<SignedTx>>),
}

/// Answer of ProcessProposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict { Accept, Reject(String) }

/// What a waiter was woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work { Ready, Timeout, Closed }

pub struct Engine {}

impl Engine {
    pub fn open(_config: EngineConfig) -> Result<Arc<Engine>, EngineError> { todo!() }
    pub fn spec(&self) -> Arc<ChainSpec> { todo!() }
    pub fn store(&self) -> &Arc<Store> { todo!() }
    pub fn pool(&self) -> &Arc<Pool> { todo!() }
    /// The published head: an atomic load, no lock, no database.
    pub fn head(&self) -> Arc<Head> { todo!() }
    pub fn view(&self) -> Result<View, ReadError> { todo!() }
    /// Bounded broadcast: a listener that lags loses events and is told so.
    pub fn subscribe(&self) -> tokio::sync::broadcast::Receiver<ChainEvent> { todo!() }
    pub fn controls(&self) -> Controls { todo!() }
    pub fn update_controls(&self, _f: &mut dyn FnMut(&mut Controls)) { todo!() }
    pub fn pool_context(&self) -> PoolContext { todo!() }
    /// Timestamp rule, base fee, beneficiary, randao of the next block under the controls, with wall clock `now`.
    pub fn next_attributes(&self, _now: u64) -> BlockAttributes { todo!() }
    /// Context for `pending` calls.
    pub fn pending_context(&self) -> BlockContext { todo!() }
    /// The next block, executed from the pool but not proposed: for the `pending` tag.
    pub fn pending_block(&self) -> Result<Arc<ExecutedBlock>, EngineError> { todo!() }

    /// eth_sendRawTransaction: recovery, pool; in order, one result each.
    pub fn submit(&self, _raws: &[Bytes]) -> Vec<Result<B256, crate::pool::PoolError>> { todo!() }
    /// A transaction of an impersonated sender (checked against the controls).
    pub fn submit_impersonated(&self, _tx: SignedTx) -> Result<B256, crate::pool::PoolError> { todo!() }
    /// True while automine is on: eth_sendRawTransaction then answers after its block (see `wait_mined`).
    pub fn automine(&self) -> bool { todo!() }
    pub fn set_automine(&self, _on: bool) { todo!() }
    /// Waits until the transaction is in a block or gone from the pool, or the time is up.
    pub async fn wait_mined(&self, _hash: B256, _limit: Duration) { todo!() }

    // ABCI 2.0 shaped. A payload is one version byte ‖ RLP.
    pub fn propose(&self, _attributes: &BlockAttributes) -> Result<Vec<u8>, EngineError> { todo!() }
    pub fn process_proposal(&self, _payload: &[u8]) -> Result<Verdict, EngineError> { todo!() }
    pub fn finalize_block(&self, _payload: &[u8]) -> Result<Arc<ExecutedBlock>, EngineError> { todo!() }
    pub fn commit(&self) -> Result<Arc<Head>, EngineError> { todo!() }

    /// Blocks until the pool has something executable (level-triggered), the time is up, or `close`.
    pub fn wait_work(&self, _limit: Duration) -> Work { todo!() }
    pub fn wake(&self) { todo!() }

    pub fn edit(&self, _delta: &StateDelta) -> Result<Arc<Head>, EngineError> { todo!() }
    pub fn snapshot(&self) -> Result<u64, EngineError> { todo!() }
    /// False for an id that is unknown or was consumed; later ids are dropped.
    pub fn revert(&self, _id: u64) -> Result<bool, EngineError> { todo!() }
    /// Back to block `number` (rollback / reset), optionally re-injecting transactions.
    pub fn rollback(&self, _number: u64, _reinject: bool) -> Result<(), EngineError> { todo!() }
    /// Executes and commits RLP blocks one after another; returns how many.
    pub fn import_blocks(&self, _rlp: &mut dyn std::io::Read, _progress: &mut dyn FnMut(u64)) -> Result<u64, EngineError> { todo!() }
    pub fn export_blocks(&self, _out: &mut dyn std::io::Write, _from: u64, _to: u64) -> Result<u64, EngineError> { todo!() }
    pub fn close(&self) { todo!() }
}
