//! The environment of the chain: flat state, trie, history and block data in one embedded ACID store.
//!
//! * Reads of accounts and slots go to flat tables; the Merkle-Patricia trie beside them is only for roots
//!   and proofs, and is updated path by path.
//! * History is a list of *versions*: every committed block and every devnet edit is one. A version keeps
//!   the values it replaced, so the state at any kept version is the latest state seen through those.
//!   Going back (`revert_to`) writes them back; pruning drops them.
//! * One writer at a time. Readers open a [`View`]: an immutable snapshot that never waits for the writer.
//!
//! ```no_run
//! use zerog_native::primitives::{StateRead, StateDelta};
//! use zerog_native::state::{Store, StoreOptions, SyncPolicy};
//!
//! # fn example(header: &alloy_consensus::Header, alloc: &StateDelta) -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(StoreOptions {
//!     path: None,
//!     sync: SyncPolicy::Safe,
//!     history_blocks: None,
//!     max_bytes: 1 << 30,
//! })?;
//! store.init_genesis(header, alloc, b"{}")?;
//! let view = store.view()?.expect("genesis is written");
//! let nobody = view.latest().account(&Default::default())?;
//! # Ok(())
//! # }
//! ```

mod codec;
mod directory;
mod history;
mod mdbx;
mod rebuild;
mod store;
mod tables;
#[cfg(test)]
mod tests;
mod trie;
mod view;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use alloy_consensus::Header;

pub use self::store::Store;
pub use self::trie::root_after as trie_root;
pub use self::view::{AccountProof, StateAt, View};
use crate::primitives::{ReadError, B256};

/// What a commit waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// fsync in every commit: survives power loss.
    Full,
    /// Commits survive the death of the process; a power cut loses at most the last second and never corrupts.
    Safe,
}

/// How to open a [`Store`].
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// A directory of the store's own, created when missing. `None`: a temporary directory that goes with
    /// the store.
    pub path: Option<PathBuf>,
    pub sync: SyncPolicy,
    /// Keep the states of this many latest blocks; `None` keeps all (archive).
    pub history_blocks: Option<u64>,
    /// Upper bound of the map in bytes.
    pub max_bytes: usize,
}

/// Why the store refused or failed. After an error nothing is changed.
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
