//! The life of a block: propose, verify, finalize, commit, over `state`, `execution` and `pool`.
//!
//! The interface has the shape of ABCI 2.0, so that the embedded sequencer and CometBFT drive the
//! same four calls:
//!
//! ```text
//! next_attributes → propose → process_proposal → finalize_block → commit
//! ```
//!
//! Nothing before [`Engine::commit`] touches the store: candidates are discardable values, and a
//! crash between two steps loses none of what was committed. `commit` is one store transaction;
//! then the new head is published (an atomic swap that readers never wait for), the pool drops
//! what was mined, and listeners are told.
//!
//! One writer lock ([`Engine::life`]) orders everything that changes the chain. Readers take
//! [`Engine::head`] and [`Engine::view`] and never that lock.

mod attributes;
mod dump;
mod history;
mod lifecycle;
mod overlay;
mod payload;
#[cfg(test)]
mod tests;
mod transfer;
mod wait;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::execution::{ChainSpec, Genesis};
use crate::pool::{Pool, PoolConfig, PoolContext, PoolError};
use crate::primitives::*;
use crate::state::{Head, Store, StoreOptions, View};

pub use history::AccountEdit;
pub use payload::{MAX_PAYLOAD_BYTES, PAYLOAD_VERSION};

/// Events that a listener may lag behind before it loses some.
const EVENT_CAPACITY: usize = 1024;
/// Name of the file whose lock says that a process uses the directory.
const LOCK_FILE: &str = "LOCK";
/// Name of the file that says whose directory this is.
const MARKER_FILE: &str = "ZEROG_CHAIN";
/// Its content: the layout version of the directory.
const MARKER: &str = "zerog chain data, layout 1\n";

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    State(#[from] crate::state::StateError),
    #[error(transparent)]
    Genesis(#[from] crate::execution::GenesisError),
    #[error(transparent)]
    Block(#[from] crate::execution::BlockError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("payload: {0}")]
    Payload(String),
    #[error("the data directory belongs to chain {found}, not {wanted}")]
    WrongChain { found: u64, wanted: u64 },
    /// The directory cannot be used: not writable, not a directory.
    #[error("data directory {path}: {reason}")]
    DataDir { path: String, reason: String },
    #[error("data directory {path} is in use by another zerog process")]
    Locked { path: String },
    /// The directory holds something that zerog did not write.
    #[error("data directory {path}: {reason}")]
    Foreign { path: String, reason: String },
    #[error("{0}")]
    Other(String),
}

pub struct EngineConfig {
    pub store: StoreOptions,
    pub pool: PoolConfig,
    /// geth-format genesis for a fresh store; checked against the stored one otherwise. Empty: the
    /// store must have one.
    pub genesis: Vec<u8>,
    /// Directory of the chain alone: it is locked, and refused when it holds foreign files.
    pub data_dir: Option<PathBuf>,
    /// Beneficiary of the blocks that this node proposes.
    pub coinbase: Address,
    /// Gas limit of the blocks that this node proposes; 0 keeps the parent's.
    pub gas_limit: u64,
    /// Accept what only a devnet's proposer may choose: overridden base fees, equal timestamps,
    /// impersonated senders.
    pub devnet: bool,
}

/// Knobs of a devnet that shape the next block; all `None`/empty on other chains.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
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
pub enum Verdict {
    Accept,
    Reject(String),
}

/// What a waiter was woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The pool holds something that can go into the next block.
    Ready,
    /// The time is up, or [`Engine::wake`] was called: look at the clock and the settings again.
    Timeout,
    Closed,
}

pub struct Engine {
    spec: Arc<ChainSpec>,
    store: Arc<Store>,
    pool: Arc<Pool>,
    devnet: bool,
    head: ArcSwap<Head>,
    pool_context: ArcSwap<PoolContext>,
    controls: Mutex<Controls>,
    /// The writer lock and the candidates of the next height.
    life: Mutex<lifecycle::Candidates>,
    events: broadcast::Sender<ChainEvent>,
    signal: wait::Signal,
    mined: wait::MinedWaiters,
    /// Grows with everything that may change the next block.
    generation: AtomicU64,
    pending: Mutex<Option<attributes::PendingBlock>>,
    automine: AtomicBool,
    closed: AtomicBool,
    /// Why the last commit failed (a full disk, say); `None` after one that worked.
    trouble: ArcSwapOption<String>,
    /// Held for its advisory lock.
    lock: Mutex<Option<File>>,
}

impl Engine {
    /// Opens the store (writing the genesis into a fresh one) and everything over it.
    pub fn open(config: EngineConfig) -> Result<Arc<Engine>, EngineError> {
        let lock = config.data_dir.as_deref().map(claim).transpose()?;
        let store = Store::open(config.store)?;
        let spec = Arc::new(settle_genesis(&store, &config.genesis)?);
        dump::undo_interrupted_load(&store)?;
        let view = store.view()?.ok_or_else(|| EngineError::Other("the store has no genesis".into()))?;
        let head = Arc::new(view.head().clone());
        let controls = attributes::restore_controls(&view, config.coinbase, config.gas_limit)?;
        let context = attributes::pool_context(&spec, &head, &controls);
        let pool = Pool::new(config.pool)?;
        let (events, _) = broadcast::channel(EVENT_CAPACITY);
        let engine = Arc::new(Engine {
            spec,
            store: store.clone(),
            pool,
            devnet: config.devnet,
            head: ArcSwap::new(head),
            pool_context: ArcSwap::new(Arc::new(context)),
            controls: Mutex::new(controls),
            life: Mutex::new(lifecycle::Candidates::default()),
            events,
            signal: wait::Signal::default(),
            mined: wait::MinedWaiters::default(),
            generation: AtomicU64::new(0),
            pending: Mutex::new(None),
            automine: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            trouble: ArcSwapOption::empty(),
            lock: Mutex::new(lock),
        });
        engine.listen_to_pool();
        engine.pool.load_journal(&engine.pool_context(), &view.latest());
        Ok(engine)
    }

    /// Why no block can be committed at present: transactions are accepted and wait.
    pub fn trouble(&self) -> Option<Arc<String>> {
        self.trouble.load_full()
    }

    fn listen_to_pool(self: &Arc<Engine>) {
        let engine: Weak<Engine> = Arc::downgrade(self);
        self.pool.set_listener(Box::new(move |pending| {
            let Some(engine) = engine.upgrade() else {
                return;
            };
            engine.generation.fetch_add(1, Ordering::AcqRel);
            engine.signal.notify();
            if engine.events.receiver_count() > 0 {
                // No receiver any more is no fault.
                let _ = engine.events.send(ChainEvent::Pending(pending.to_vec()));
            }
        }));
    }

    pub fn spec(&self) -> Arc<ChainSpec> {
        self.spec.clone()
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// True when the chain accepts what only a devnet's proposer may choose.
    pub fn devnet(&self) -> bool {
        self.devnet
    }

    /// The published head: an atomic load, no lock, no database.
    pub fn head(&self) -> Arc<Head> {
        self.head.load_full()
    }

    pub fn view(&self) -> Result<View, ReadError> {
        match self.store.view() {
            Ok(Some(view)) => Ok(view),
            Ok(None) => Err(ReadError::Store("the store has no genesis".into())),
            Err(crate::state::StateError::Read(error)) => Err(error),
            Err(error) => Err(ReadError::Store(error.to_string())),
        }
    }

    /// Bounded broadcast: a listener that lags loses events and is told so.
    pub fn subscribe(&self) -> broadcast::Receiver<ChainEvent> {
        self.events.subscribe()
    }

    pub fn pool_context(&self) -> PoolContext {
        PoolContext::clone(&self.pool_context.load())
    }

    /// eth_sendRawTransaction: recovery, pool; in order, one result each.
    pub fn submit(&self, raws: &[Bytes]) -> Vec<Result<B256, PoolError>> {
        self.pool.add_many(raws, &self.pool_context.load(), &LiveState(self))
    }

    /// A transaction of an impersonated sender (checked against the controls).
    pub fn submit_impersonated(&self, tx: SignedTx) -> Result<B256, PoolError> {
        let allowed = {
            let controls = self.controls.lock();
            self.devnet && (controls.auto_impersonate || controls.impersonated.contains(&tx.sender))
        };
        if !allowed {
            return Err(PoolError::Invalid(format!("no signer available for {}", tx.sender)));
        }
        let pooled = crate::pool::PooledTx { tx: Arc::new(tx), sidecar: None };
        self.pool
            .add_recovered(vec![pooled], &self.pool_context.load(), &LiveState(self))
            .pop()
            .unwrap_or(Err(PoolError::Invalid("the pool gave no answer".into())))
    }

    /// Takes a transaction out of the pool; its waiters are released.
    pub fn drop_transaction(&self, hash: &B256) -> bool {
        let found = self.pool.remove(hash);
        if found {
            self.mined.release([hash]);
            self.touch();
        }
        found
    }

    /// Empties the pool; all waiters are released.
    pub fn drop_all_transactions(&self) {
        self.pool.clear();
        self.mined.release_all();
        self.touch();
    }

    /// Takes a sender's transactions out of the pool; returns how many there were.
    pub fn drop_sender(&self, sender: &Address) -> usize {
        let count = self.pool.remove_sender(sender);
        if count > 0 {
            self.mined.recheck(&self.pool);
            self.touch();
        }
        count
    }

    /// The next block may differ from what was computed before.
    fn touch(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.signal.notify();
    }

    /// Makes `head` the one that readers see, with the pool's view of the chain.
    fn publish(&self, head: Arc<Head>) -> Arc<PoolContext> {
        let context = {
            let controls = self.controls.lock();
            Arc::new(attributes::pool_context(&self.spec, &head, &controls))
        };
        self.head.store(head);
        self.pool_context.store(context.clone());
        context
    }

    /// Flushes journal and store and releases every waiter; the engine serves reads until it is dropped.
    pub fn close(&self) {
        let _writer = self.life.lock();
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // Both are best effort: everything committed is in the store already.
        let _ = self.pool.flush_journal();
        let _ = self.store.sync();
        self.signal.close();
        self.mined.release_all();
        self.lock.lock().take();
    }

    fn check_open(&self) -> Result<(), EngineError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(EngineError::Other("the engine is closed".into()));
        }
        Ok(())
    }
}

/// The committed state at the moment of each read.
///
/// The pool reads accounts under its own lock while it inserts. A view opened before that could miss a block whose
/// `on_block` has already run: a transaction of a sender that the block emptied would wait behind a nonce that
/// nobody will fill. Read live, either the block is seen, or its `on_block` comes after the insertion.
struct LiveState<'a>(&'a Engine);

impl StateRead for LiveState<'_> {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError> {
        self.0.view()?.latest().account(address)
    }

    fn storage(&self, address: &Address, slot: &U256) -> Result<U256, ReadError> {
        self.0.view()?.latest().storage(address, slot)
    }

    fn code(&self, hash: &B256) -> Result<Option<Bytes>, ReadError> {
        self.0.view()?.latest().code(hash)
    }

    fn block_hash(&self, number: u64) -> Result<Option<B256>, ReadError> {
        self.0.view()?.latest().block_hash(number)
    }
}

/// Creates or checks the directory and takes its lock.
fn claim(directory: &Path) -> Result<File, EngineError> {
    let fail = |reason: String| EngineError::DataDir { path: directory.display().to_string(), reason };
    if directory.exists() && !directory.is_dir() {
        return Err(fail("is not a directory".into()));
    }
    std::fs::create_dir_all(directory).map_err(|error| fail(format!("cannot be created: {error}")))?;
    let marker = directory.join(MARKER_FILE);
    match std::fs::read_to_string(&marker) {
        Ok(text) if text == MARKER => {}
        Ok(text) => {
            return Err(EngineError::Foreign {
                path: directory.display().to_string(),
                reason: format!(
                    "{MARKER_FILE} says {:?}; this version reads {:?}",
                    text.chars().take(80).collect::<String>(),
                    MARKER.trim_end()
                ),
            })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refuse_foreign(directory)?;
        }
        Err(error) => return Err(fail(format!("{MARKER_FILE} cannot be read: {error}"))),
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(LOCK_FILE))
        .map_err(|error| fail(format!("{LOCK_FILE} cannot be opened: {error}")))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            return Err(EngineError::Locked { path: directory.display().to_string() })
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(fail(format!("cannot be locked: {error}"))),
    }
    // Written under the lock; a half-written marker can only be ours, so it is simply written again.
    if !marker.exists() {
        let fresh = directory.join(format!("{MARKER_FILE}.new"));
        std::fs::write(&fresh, MARKER)
            .and_then(|()| std::fs::rename(&fresh, &marker))
            .map_err(|error| fail(format!("cannot be written: {error}")))?;
    }
    Ok(lock)
}

/// A directory without our marker may be used only when nothing of somebody else is in it.
fn refuse_foreign(directory: &Path) -> Result<(), EngineError> {
    let entries = std::fs::read_dir(directory).map_err(|error| EngineError::DataDir {
        path: directory.display().to_string(),
        reason: format!("cannot be listed: {error}"),
    })?;
    let ours = [LOCK_FILE.to_string(), format!("{MARKER_FILE}.new")];
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !ours.contains(&name) {
            return Err(EngineError::Foreign {
                path: directory.display().to_string(),
                reason: format!("holds {name:?} and no zerog chain; choose an empty directory"),
            });
        }
    }
    Ok(())
}

/// Writes the genesis into a fresh store, or checks it against the stored one; returns the rules in force.
fn settle_genesis(store: &Store, wanted: &[u8]) -> Result<ChainSpec, EngineError> {
    let Some(view) = store.view()? else {
        if wanted.is_empty() {
            return Err(EngineError::Other("the data directory holds no chain yet, and no genesis was given".into()));
        }
        let genesis = Genesis::from_json(wanted)?;
        store.init_genesis(&genesis.header, &genesis.alloc, wanted)?;
        return Ok(genesis.spec);
    };
    let stored = Genesis::from_json(&view.config()?)?;
    if wanted.is_empty() || wanted == view.config()?.as_slice() {
        return Ok(stored.spec);
    }
    let given = Genesis::from_json(wanted)?;
    if given.spec.chain_id != stored.spec.chain_id {
        return Err(EngineError::WrongChain { found: stored.spec.chain_id, wanted: given.spec.chain_id });
    }
    let (here, there) = (stored.header.hash_slow(), given.header.hash_slow());
    if here != there {
        return Err(EngineError::Other(format!("the data directory has genesis {here}, the given genesis is {there}")));
    }
    // Another schedule is an upgrade as long as it says the same about every block that exists.
    let head = view.head();
    let fork = |spec: &ChainSpec| spec.fork(head.header.number, head.header.timestamp);
    if fork(&stored.spec) != fork(&given.spec) {
        return Err(EngineError::Other(format!(
            "the data directory runs under {:?} at its head {}, the given genesis says {:?}",
            fork(&stored.spec),
            head.header.number,
            fork(&given.spec)
        )));
    }
    Ok(given.spec)
}
