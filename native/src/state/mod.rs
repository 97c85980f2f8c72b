//! Flat state, trie, history and block data in one embedded store (skeleton: bodies to come).
use std::path::PathBuf;
use std::sync::Arc;

use alloy_consensus::Header;
use crate::primitives::*;

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// fsync in every commit: survives power loss.
    Full,
    /// Commits survive the death of the process; a power cut loses at most the last second and never corrupts.
    Safe,
}

#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `None`: a temporary directory that goes with the store.
    pub path: Option<PathBuf>,
    pub sync: SyncPolicy,
    /// Keep the states of this many latest blocks; `None` keeps all (archive).
    pub history_blocks: Option<u64>,
    /// Upper bound of the map in bytes.
    pub max_bytes: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("data directory {path}: {reason}")]
    Open { path: String, reason: String },
    #[error("the state store failed: {0}")]
    Store(String),
    #[error("block {number} does not follow the head {head}")]
    OutOfOrder { number: u64, head: u64 },
    #[error("history position {0} is not kept")]
    UnknownVersion(u64),
    #[error("{0}")]
    Corrupt(String),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A position in history. Every committed block and every devnet edit is one version.
pub type Version = u64;

/// The last committed block and the state that now holds after it.
#[derive(Clone, Debug)]
pub struct Head {
    pub header: Arc<Header>,
    pub hash: B256,
    /// Root of the trie now: differs from `header.state_root` only after devnet edits.
    pub state_root: B256,
    pub version: Version,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxLocation {
    pub block: u64,
    pub index: u32,
}

/// The environment. One writer at a time; any number of readers that never wait for it.
pub struct Store {}

impl Store {
    pub fn open(_options: StoreOptions) -> Result<Arc<Store>, StateError> { todo!() }
    /// `None` before `init_genesis`.
    pub fn view(&self) -> Result<Option<View>, StateError> { todo!() }
    /// Writes block 0 and its state. `config` is kept verbatim (see [`View::config`]).
    pub fn init_genesis(&self, _header: &Header, _alloc: &StateDelta, _config: &[u8]) -> Result<(), StateError> { todo!() }
    /// Computes the state root of an allocation without writing anything.
    pub fn root_of(_alloc: &StateDelta) -> B256 { todo!() }
    /// Commits consecutive blocks in one ACID transaction.
    pub fn commit_blocks(&self, _blocks: &[Arc<ExecutedBlock>]) -> Result<Head, StateError> { todo!() }
    /// Commits a devnet edit to the state that holds after the head (a new version of the same block).
    pub fn commit_edit(&self, _delta: &StateDelta) -> Result<Head, StateError> { todo!() }
    /// Undoes everything after `version`; returns the transactions of the dropped blocks, oldest first.
    pub fn revert_to(&self, _version: Version) -> Result<(Head, Vec<Arc<SignedTx>>), StateError> { todo!() }
    /// Free-form persistent values (dev snapshots, chain settings): small, few.
    pub fn put_meta(&self, _key: &str, _value: Option<&[u8]>) -> Result<(), StateError> { todo!() }
    /// Flushes to the disk whatever the policy deferred.
    pub fn sync(&self) -> Result<(), StateError> { todo!() }
    /// Rebuilds the trie of the head from the flat state alone; equal to `Head::state_root` or the store is broken.
    pub fn rebuild_root(&self) -> Result<B256, StateError> { todo!() }
}

/// One consistent, immutable view of everything committed (one read transaction): cheap to open,
/// opened where it is used and dropped soon. Not necessarily `Send`.
pub struct View {}

impl View {
    pub fn head(&self) -> &Head { todo!() }
    pub fn config(&self) -> Result<Vec<u8>, ReadError> { todo!() }
    pub fn meta(&self, _key: &str) -> Result<Option<Vec<u8>>, ReadError> { todo!() }
    pub fn oldest_state(&self) -> Result<u64, ReadError> { todo!() }
    /// The last version of block `number` (its edits included); `None` beyond the head.
    pub fn version_at(&self, _number: u64) -> Result<Option<Version>, ReadError> { todo!() }

    pub fn header(&self, _number: u64) -> Result<Option<Header>, ReadError> { todo!() }
    pub fn hash(&self, _number: u64) -> Result<Option<B256>, ReadError> { todo!() }
    pub fn number(&self, _hash: &B256) -> Result<Option<u64>, ReadError> { todo!() }
    pub fn block(&self, _number: u64) -> Result<Option<SealedBlock>, ReadError> { todo!() }
    pub fn transaction_count(&self, _number: u64) -> Result<Option<u32>, ReadError> { todo!() }
    pub fn transaction(&self, _at: TxLocation) -> Result<Option<SignedTx>, ReadError> { todo!() }
    pub fn locate(&self, _hash: &B256) -> Result<Option<TxLocation>, ReadError> { todo!() }
    /// The receipt and the index of its first log within the block.
    pub fn receipt(&self, _at: TxLocation) -> Result<Option<(Receipt, u64)>, ReadError> { todo!() }
    pub fn receipts(&self, _number: u64) -> Result<Option<Vec<Receipt>>, ReadError> { todo!() }
    /// Blocks in `from..=to` that may hold a log of one of `addresses` with one of `topics0` (an empty list matches all).
    pub fn log_blocks(&self, _from: u64, _to: u64, _addresses: &[Address], _topics0: &[B256]) -> Result<Vec<u64>, ReadError> { todo!() }

    /// The state that holds now (after the head and its edits).
    pub fn latest(&self) -> StateAt<'_> { todo!() }
    /// The state that held at the end of `block`.
    pub fn state_at(&self, _block: u64) -> Result<StateAt<'_>, ReadError> { todo!() }
    /// Incremental roots over the latest state.
    pub fn root_calculator(&self) -> Box<dyn RootCalculator + '_> { todo!() }
    /// Merkle proof nodes (EIP-1186) at `block`: account proof, storage root, then value and proof per slot.
    pub fn proof(&self, _block: u64, _address: &Address, _slots: &[U256]) -> Result<AccountProof, ReadError> { todo!() }
    /// Every account of the latest state in address order, with its storage; stops when `f` returns false.
    pub fn for_each_account(&self, _f: &mut dyn FnMut(Address, AccountInfo, Vec<(U256, U256)>) -> bool) -> Result<(), ReadError> { todo!() }
}

/// Reads at one position of history.
pub struct StateAt<'v> { _view: std::marker::PhantomData<&'v View> }

impl StateRead for StateAt<'_> {
    fn account(&self, _address: &Address) -> Result<Option<AccountInfo>, ReadError> { todo!() }
    fn storage(&self, _address: &Address, _slot: &U256) -> Result<U256, ReadError> { todo!() }
    fn code(&self, _hash: &B256) -> Result<Option<Bytes>, ReadError> { todo!() }
    fn block_hash(&self, _number: u64) -> Result<Option<B256>, ReadError> { todo!() }
}

pub struct AccountProof {
    pub info: Option<AccountInfo>,
    pub storage_root: B256,
    pub account_proof: Vec<Bytes>,
    /// Per slot: slot, value, proof nodes.
    pub storage: Vec<(U256, U256, Vec<Bytes>)>,
}
