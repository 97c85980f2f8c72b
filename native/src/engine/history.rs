//! Positions in history: edits, snapshots, revert, rollback.
//!
//! A snapshot is a version number with a name, kept in the store: it survives a restart, and
//! reverting to it costs what was changed since, not what the state holds.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use alloy_primitives::{keccak256, KECCAK256_EMPTY};
use serde::Deserialize;

use super::{ChainEvent, Engine, EngineError};
use crate::primitives::*;
use crate::state::{Head, Version, View};

const SNAPSHOTS_KEY: &str = "snapshots";
/// Snapshots kept at a time; beyond it the oldest is forgotten.
const MAX_SNAPSHOTS: usize = 4096;
/// The version of a store that holds the genesis block and nothing else.
const GENESIS_VERSION: Version = 0;

/// What a devnet edit sets on one account; what is `None` or absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountEdit {
    #[serde(default)]
    pub balance: Option<U256>,
    #[serde(default, with = "alloy_serde::quantity::opt")]
    pub nonce: Option<u64>,
    #[serde(default)]
    pub code: Option<Bytes>,
    #[serde(default)]
    pub storage: BTreeMap<U256, U256>,
}

#[derive(Clone, Debug)]
struct Snapshot {
    id: u64,
    version: Version,
    /// The devnet's clock when it was taken, seconds since the epoch.
    clock: u64,
}

/// Snapshots in the order in which they were taken; ids are never used twice.
///
/// Stored as big-endian u64s: the next id, then id, version and clock of each.
#[derive(Clone, Debug, Default)]
struct Snapshots {
    next: u64,
    kept: Vec<Snapshot>,
}

impl Snapshots {
    fn load(view: &View) -> Result<Snapshots, EngineError> {
        let Some(bytes) = view.meta(SNAPSHOTS_KEY)? else { return Ok(Snapshots::default()) };
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
        let (Some((next, entries)), true) = (words.split_first(), rest.is_empty()) else {
            return Err(EngineError::Other("the stored snapshots are damaged".into()));
        };
        let (entries, rest) = entries.as_chunks::<3>();
        if !rest.is_empty() {
            return Err(EngineError::Other("the stored snapshots are damaged".into()));
        }
        let kept = entries.iter().map(|[id, version, clock]| Snapshot { id: *id, version: *version, clock: *clock });
        Ok(Snapshots { next: *next, kept: kept.collect() })
    }

    fn save(&self, store: &crate::state::Store) -> Result<(), EngineError> {
        let mut bytes = Vec::with_capacity(8 + 24 * self.kept.len());
        bytes.extend(self.next.to_be_bytes());
        for kept in &self.kept {
            for word in [kept.id, kept.version, kept.clock] {
                bytes.extend(word.to_be_bytes());
            }
        }
        Ok(store.put_meta(SNAPSHOTS_KEY, Some(&bytes))?)
    }
}

impl Engine {
    /// Commits a change of the state in place: a new version of the head block.
    pub fn edit(&self, delta: &StateDelta) -> Result<Arc<Head>, EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        let head = self.store.commit_edit(delta)?;
        life.clear();
        self.rewound(head, Vec::new())
    }

    /// Merges the edits over the accounts as they are and commits the result.
    pub fn edit_accounts(&self, edits: &BTreeMap<Address, AccountEdit>) -> Result<Arc<Head>, EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        let delta = {
            let view = self.view()?;
            merged(&view.latest(), edits)?
        };
        if delta.accounts.is_empty() {
            return Ok(self.head());
        }
        let head = self.store.commit_edit(&delta)?;
        life.clear();
        self.rewound(head, Vec::new())
    }

    /// Names the present position; the id counts up from 0 and is never used again.
    pub fn snapshot(&self) -> Result<u64, EngineError> {
        let _writer = self.life.lock();
        self.check_open()?;
        let mut snapshots = Snapshots::load(&self.view()?)?;
        let id = snapshots.next;
        snapshots.next += 1;
        snapshots.kept.push(Snapshot { id, version: self.head.load().version, clock: self.clock() });
        if snapshots.kept.len() > MAX_SNAPSHOTS {
            snapshots.kept.remove(0);
        }
        snapshots.save(&self.store)?;
        Ok(id)
    }

    /// Back to a snapshot: state, blocks and clock. False for an id that is unknown or was consumed;
    /// the id and later ones are dropped.
    pub fn revert(&self, id: u64) -> Result<bool, EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        let known = Snapshots::load(&self.view()?)?;
        let mut snapshots = known.clone();
        let Some(position) = snapshots.kept.iter().position(|kept| kept.id == id) else {
            return Ok(false);
        };
        let target = snapshots.kept[position].clone();
        snapshots.kept.truncate(position);
        // Saved first: a crash in between forgets the snapshot but never leaves one of an undone version.
        snapshots.save(&self.store)?;
        let head = match self.store.revert_to(target.version) {
            Ok((head, _)) => head,
            Err(error) => {
                // Pruned, most likely: nothing was undone, so the snapshots stay.
                known.save(&self.store)?;
                return Err(error.into());
            }
        };
        life.clear();
        self.reset_clock(target.clock);
        self.rewound(head, Vec::new())?;
        Ok(true)
    }

    /// Back to the end of block `number` (rollback / reset), optionally giving the transactions of
    /// the dropped blocks back to the pool.
    pub fn rollback(&self, number: u64, reinject: bool) -> Result<(), EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        let view = self.view()?;
        let version = view.version_at(number)?.ok_or_else(|| {
            EngineError::Other(format!("block {number} is beyond the head {}", view.head().header.number))
        })?;
        let mut snapshots = Snapshots::load(&view)?;
        drop(view);
        snapshots.kept.retain(|kept| kept.version <= version);
        snapshots.save(&self.store)?;
        let (head, dropped) = self.store.revert_to(version)?;
        life.clear();
        self.rewound(head, if reinject { dropped } else { Vec::new() })?;
        Ok(())
    }

    /// The state root of the head, and the same root rebuilt from the flat state alone. O(state).
    pub fn verify_state(&self) -> Result<(B256, B256), EngineError> {
        // No commit in between: both speak of the same version.
        let _writer = self.life.lock();
        Ok((self.head.load().state_root, self.store.rebuild_root()?))
    }

    /// Back to the genesis block as it was made, without edits, snapshots and pending transactions.
    pub fn reset(&self) -> Result<(), EngineError> {
        let mut life = self.life.lock();
        self.check_open()?;
        Snapshots { next: Snapshots::load(&self.view()?)?.next, kept: Vec::new() }.save(&self.store)?;
        let (head, _) = self.store.revert_to(GENESIS_VERSION)?;
        life.clear();
        self.pool.clear();
        self.rewound(head, Vec::new())?;
        self.mined.release_all();
        Ok(())
    }

    /// The state changed other than by a block: publishes it, re-validates the pool, tells listeners.
    pub(super) fn rewound(&self, head: Head, reinject: Vec<Arc<SignedTx>>) -> Result<Arc<Head>, EngineError> {
        let head = Arc::new(head);
        let context = self.publish(head.clone());
        let view = self.view()?;
        self.pool.on_reset(reinject, &context, &view.latest());
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.mined.recheck(&self.pool);
        if self.events.receiver_count() > 0 {
            // No receiver any more is no fault.
            let _ = self.events.send(ChainEvent::Rewound(Head::clone(&head)));
        }
        self.signal.notify();
        Ok(head)
    }
}

/// The edits as a delta over the present accounts.
fn merged(state: &dyn StateRead, edits: &BTreeMap<Address, AccountEdit>) -> Result<StateDelta, ReadError> {
    let mut delta = StateDelta::default();
    for (address, edit) in edits {
        let present = state.account(address)?;
        let mut info =
            present.clone().unwrap_or(AccountInfo { nonce: 0, balance: U256::ZERO, code_hash: KECCAK256_EMPTY });
        if let Some(balance) = edit.balance {
            info.balance = balance;
        }
        if let Some(nonce) = edit.nonce {
            info.nonce = nonce;
        }
        if let Some(code) = &edit.code {
            info.code_hash = keccak256(code);
            if !code.is_empty() {
                delta.code.insert(info.code_hash, code.clone());
            }
        }
        let empty = info.nonce == 0 && info.balance.is_zero() && info.code_hash == KECCAK256_EMPTY;
        if empty && present.is_none() && edit.storage.is_empty() {
            // An account with nothing in it does not exist (EIP-161).
            continue;
        }
        delta
            .accounts
            .insert(*address, AccountDelta { info: Some(info), storage_wiped: false, storage: edit.storage.clone() });
    }
    Ok(delta)
}
