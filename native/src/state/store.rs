//! The store: opening, the writer's side, publishing what was committed, deferred syncing.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use alloy_consensus::Header;
use arc_swap::ArcSwapOption;
use lru::LruCache;
use parking_lot::{Condvar, Mutex, MutexGuard};
use signet_libmdbx::{MdbxError, SyncMode};

use super::codec::HeadRecord;
use super::directory::Directory;
use super::history;
use super::mdbx::Mdbx;
use super::trie::roots::Roots;
use super::view::View;
use super::{rebuild, write, Head, StateError, StoreOptions, SyncPolicy, Version};
use crate::primitives::*;

/// A power cut loses at most this much under [`SyncPolicy::Safe`].
const SYNC_PERIOD: Duration = Duration::from_secs(1);
/// Contracts whose code is kept in memory.
const CACHED_CODES: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The environment. One writer at a time; any number of readers that never wait for it.
pub struct Store {
    shared: Arc<Shared>,
    syncer: Option<Syncer>,
    history_blocks: Option<u64>,
    writer: Mutex<()>,
}

/// What views need; lives as long as the store or its last view.
pub(super) struct Shared {
    /// Declared first: the database closes before its directory is unlocked (and removed).
    pub(super) mdbx: Arc<Mdbx>,
    /// The head of the last commit.
    pub(super) committed: ArcSwapOption<Committed>,
    pub(super) codes: Codes,
    directory: Directory,
}

impl Shared {
    /// Publishes `committed` unless something newer is.
    pub(super) fn publish(&self, committed: &Arc<Committed>) {
        self.committed.rcu(|present| match present {
            Some(present) if present.txn >= committed.txn => Some(present.clone()),
            _ => Some(committed.clone()),
        });
    }
}

/// A head and the commit that it belongs to.
pub(super) struct Committed {
    pub(super) txn: u64,
    pub(super) head: Head,
    pub(super) oldest: u64,
}

impl Committed {
    pub(super) fn new(txn: u64, record: &HeadRecord, header: Arc<Header>) -> Committed {
        let head = Head { header, hash: record.hash, state_root: record.state_root, version: record.version };
        Committed { txn, head, oldest: record.oldest }
    }

    fn record(&self) -> HeadRecord {
        HeadRecord {
            number: self.head.header.number,
            hash: self.head.hash,
            state_root: self.head.state_root,
            version: self.head.version,
            oldest: self.oldest,
        }
    }
}

/// Recently used code, shared by all views. Content-addressed, so never stale.
pub(super) struct Codes(Mutex<LruCache<B256, Bytes>>);

impl Codes {
    pub(super) fn get(&self, hash: &B256) -> Option<Bytes> {
        self.0.lock().get(hash).cloned()
    }

    pub(super) fn insert(&self, hash: B256, code: Bytes) {
        self.0.lock().put(hash, code);
    }
}

impl Store {
    /// Opens the directory, creating it when it is missing, and checks that its head is whole.
    ///
    /// # Errors
    /// [`StateError::Open`] names the directory and what is wrong with it: not a directory, not ours, another
    /// format, in use, not writable. [`StateError::Corrupt`] when it is damaged.
    pub fn open(options: StoreOptions) -> Result<Arc<Store>, StateError> {
        let directory = Directory::open(options.path.as_deref())?;
        let mode = match options.sync {
            SyncPolicy::Full => SyncMode::Durable,
            // Nothing of a temporary directory survives a crash, so nothing has to be kept recoverable.
            SyncPolicy::Safe if directory.is_temporary() => SyncMode::UtterlyNoSync,
            SyncPolicy::Safe => SyncMode::SafeNoSync,
        };
        let mdbx = Mdbx::open(directory.path(), mode, options.max_bytes).map_err(|error| refusal(&directory, error))?;
        let deferred = mode == SyncMode::SafeNoSync;
        let shared = Arc::new(Shared {
            mdbx,
            committed: ArcSwapOption::empty(),
            codes: Codes(Mutex::new(LruCache::new(CACHED_CODES))),
            directory,
        });
        check_head(&shared)?;
        let syncer = deferred.then(|| Syncer::start(shared.mdbx.clone())).transpose();
        let syncer = syncer.map_err(|error| shared.directory.refuse(format!("no thread for syncing: {error}")))?;
        Ok(Arc::new(Store { shared, syncer, history_blocks: options.history_blocks, writer: Mutex::new(()) }))
    }

    /// `None` before `init_genesis`.
    pub fn view(&self) -> Result<Option<View>, StateError> {
        Ok(View::open(&self.shared)?)
    }

    /// Writes block 0 and its state. `config` is kept verbatim (see [`View::config`]).
    pub fn init_genesis(&self, header: &Header, alloc: &StateDelta, config: &[u8]) -> Result<(), StateError> {
        let _writer = self.writer.lock();
        if self.view()?.is_some() {
            return Err(StateError::Store("the genesis block is already written".into()));
        }
        let mut roots = Roots::empty();
        roots.apply(alloc)?;
        let trie = roots.take_updates()?;
        if trie.root != header.state_root {
            return Err(StateError::Corrupt(format!(
                "genesis: the header names state root {}, the allocation has {}",
                header.state_root, trie.root
            )));
        }
        let tx = self.shared.mdbx.write()?;
        let record = write::genesis(&tx, header, alloc, &trie, config)?;
        self.finish(tx, record, Arc::new(header.clone()))?;
        if self.shared.directory.is_temporary() {
            return Ok(());
        }
        self.sync()?;
        self.shared.directory.mark_genesis(header.hash_slow())
    }

    /// Computes the state root of an allocation without writing anything.
    pub fn root_of(alloc: &StateDelta) -> B256 {
        let mut roots = Roots::empty();
        // Over the empty state there is no record to read, hence nothing that can fail.
        roots.apply(alloc).and_then(|()| roots.root()).unwrap_or_default()
    }

    /// Commits consecutive blocks in one ACID transaction.
    ///
    /// # Errors
    /// [`StateError::OutOfOrder`] for a block that does not follow the head or was executed on another state.
    pub fn commit_blocks(&self, blocks: &[Arc<ExecutedBlock>]) -> Result<Head, StateError> {
        let writer = self.writer.lock();
        let mut head = self.committed(&writer)?.record();
        let Some(last) = blocks.last() else { return Ok(self.committed(&writer)?.head.clone()) };
        let tx = self.shared.mdbx.write()?;
        for block in blocks {
            write::block(&tx, &mut head, block)?;
            history::prune(&tx, &mut head, self.history_blocks)?;
        }
        let transactions = blocks.iter().map(|block| block.block.transactions.len()).sum::<usize>();
        let header = Arc::new(last.block.header.clone());
        let committed = self.finish(tx, head, header)?;
        self.deferred(blocks.len() + transactions / 8);
        Ok(committed)
    }

    /// Commits a devnet edit to the state that holds after the head (a new version of the same block).
    pub fn commit_edit(&self, delta: &StateDelta) -> Result<Head, StateError> {
        let writer = self.writer.lock();
        let committed = self.committed(&writer)?;
        let view = self.present_view()?;
        let mut roots = view.roots();
        roots.apply(delta)?;
        let trie = roots.take_updates()?;
        drop(roots);
        let mut head = committed.record();
        let tx = self.shared.mdbx.write()?;
        write::edit(&tx, &mut head, delta, &trie)?;
        let head = self.finish(tx, head, committed.head.header.clone())?;
        self.deferred(1);
        Ok(head)
    }

    /// Undoes everything after `version`; returns the transactions of the dropped blocks, oldest first.
    ///
    /// # Errors
    /// [`StateError::UnknownVersion`] for a version that never was, was undone or is pruned.
    pub fn revert_to(&self, version: Version) -> Result<(Head, Vec<Arc<SignedTx>>), StateError> {
        let writer = self.writer.lock();
        let committed = self.committed(&writer)?;
        if version == committed.head.version {
            return Ok((committed.head.clone(), Vec::new()));
        }
        let view = self.present_view()?;
        let undo = history::undo(&view, version)?;
        let mut roots = view.roots();
        roots.apply(&undo.delta)?;
        let trie = roots.take_updates()?;
        drop(roots);
        let header = view.header(undo.block)?.ok_or_else(|| corrupt_header(undo.block))?;
        let mut head = committed.record();
        let tx = self.shared.mdbx.write()?;
        history::revert(&tx, &mut head, &undo, &trie)?;
        let head = self.finish(tx, head, Arc::new(header))?;
        self.deferred(1);
        Ok((head, undo.transactions))
    }

    /// Free-form persistent values (dev snapshots, chain settings): small, few.
    pub fn put_meta(&self, key: &str, value: Option<&[u8]>) -> Result<(), StateError> {
        let writer = self.writer.lock();
        // A commit that changes nothing takes no transaction id: publishing under it would hide the next commit.
        if let Some(view) = self.view()? {
            if view.meta(key)?.as_deref() == value {
                return Ok(());
            }
        }
        let tx = self.shared.mdbx.write()?;
        write::meta(&tx, key, value)?;
        let txn = tx.id()?;
        tx.commit()?;
        if let Ok(committed) = self.committed(&writer) {
            let record = committed.record();
            self.shared.publish(&Arc::new(Committed::new(txn, &record, committed.head.header.clone())));
        }
        self.deferred(1);
        Ok(())
    }

    /// Flushes to the disk whatever the policy deferred.
    pub fn sync(&self) -> Result<(), StateError> {
        self.shared.mdbx.sync()
    }

    /// Rebuilds the trie of the head from the flat state alone; equal to `Head::state_root` or the store is broken.
    pub fn rebuild_root(&self) -> Result<B256, StateError> {
        Ok(rebuild::root(&self.present_view()?)?)
    }

    /// The directory that the store lives in.
    pub fn path(&self) -> &Path {
        self.shared.directory.path()
    }

    fn present_view(&self) -> Result<View, StateError> {
        self.view()?.ok_or_else(no_genesis)
    }

    /// What the last commit published. Only the writer asks, so nothing newer can exist.
    fn committed(&self, _writer: &MutexGuard<'_, ()>) -> Result<Arc<Committed>, StateError> {
        self.shared.committed.load_full().ok_or_else(no_genesis)
    }

    fn finish(
        &self,
        tx: super::mdbx::WriteTxn<'_>,
        record: HeadRecord,
        header: Arc<Header>,
    ) -> Result<Head, StateError> {
        write::head(&tx, &record)?;
        let txn = tx.id()?;
        tx.commit()?;
        let committed = Arc::new(Committed::new(txn, &record, header));
        self.shared.publish(&committed);
        Ok(committed.head.clone())
    }

    fn deferred(&self, weight: usize) {
        if let Some(syncer) = &self.syncer {
            syncer.committed(weight);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.syncer = None;
        if !self.shared.directory.is_temporary() {
            // Closing the environment syncs again; an error here can reach nobody.
            drop(self.shared.mdbx.sync());
        }
    }
}

fn no_genesis() -> StateError {
    StateError::Store("the genesis block is not written yet".into())
}

fn corrupt_header(number: u64) -> StateError {
    StateError::Corrupt(format!("the header of block {number} is missing"))
}

/// What an operator can do something with.
fn refusal(directory: &Directory, error: MdbxError) -> StateError {
    directory.refuse(match error {
        MdbxError::Invalid | MdbxError::Corrupted | MdbxError::PageNotFound | MdbxError::Panic => {
            return directory.damaged(error)
        }
        MdbxError::VersionMismatch | MdbxError::Incompatible => {
            format!("its database was written by another version ({error})")
        }
        MdbxError::Access | MdbxError::Permission => format!("is not writable ({error})"),
        MdbxError::TooLarge | MdbxError::UnableExtendMapSize => {
            format!("max_bytes does not suit its database ({error})")
        }
        other => format!("its database does not open: {other}"),
    })
}

/// Loads the head, if there is one, and checks header, hash and trie root against each other.
fn check_head(shared: &Arc<Shared>) -> Result<(), StateError> {
    let damaged = |what: String| shared.directory.damaged(what);
    let mark = shared.directory.genesis_mark()?;
    let Some(view) = View::open(shared).map_err(|error| damaged(error.to_string()))? else {
        let emptied = |hash| damaged(format!("no block is left of the chain with genesis {hash}"));
        return mark.map_or(Ok(()), |hash| Err(emptied(hash)));
    };
    let genesis = view.hash(0).map_err(|error| damaged(error.to_string()))?.unwrap_or_default();
    match mark {
        Some(mark) if mark != genesis.to_string() => {
            return Err(damaged(format!("its genesis is {genesis}, but the directory was made for {mark}")));
        }
        Some(_) => {}
        // The process died between the genesis block and its mark.
        None if shared.directory.is_temporary() => {}
        None => shared.directory.mark_genesis(genesis)?,
    }
    let head = view.head();
    if head.header.hash_slow() != head.hash {
        return Err(damaged(format!("header {} does not have its hash", head.header.number)));
    }
    view.check_root().map_err(|error| damaged(error.to_string()))
}

/// Syncs what was committed, a period after the first unsynced commit or when enough has piled up: until
/// then the pages that later commits free cannot be reused, so the file would grow.
struct Syncer {
    shared: Arc<(Mutex<Deferred>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Deferred {
    /// Commits since the last sync, large ones counted higher.
    weight: usize,
    stop: bool,
}

/// Enough for a sync before the period is over.
const SYNC_WEIGHT: usize = 256;

impl Syncer {
    fn start(mdbx: Arc<Mdbx>) -> std::io::Result<Syncer> {
        let shared = Arc::new((Mutex::new(Deferred::default()), Condvar::new()));
        let thread = std::thread::Builder::new().name("zerog-sync".into()).spawn({
            let shared = shared.clone();
            move || run_syncer(&mdbx, &shared)
        })?;
        Ok(Syncer { shared, thread: Some(thread) })
    }

    fn committed(&self, weight: usize) {
        let (deferred, wake) = &*self.shared;
        let mut deferred = deferred.lock();
        let before = deferred.weight;
        deferred.weight += weight;
        if before == 0 || (before < SYNC_WEIGHT && deferred.weight >= SYNC_WEIGHT) {
            wake.notify_one();
        }
    }
}

fn run_syncer(mdbx: &Mdbx, (deferred, wake): &(Mutex<Deferred>, Condvar)) {
    let mut state = deferred.lock();
    loop {
        wake.wait_while(&mut state, |state| state.weight == 0 && !state.stop);
        wake.wait_while_for(&mut state, |state| state.weight < SYNC_WEIGHT && !state.stop, SYNC_PERIOD);
        if state.stop {
            return;
        }
        state.weight = 0;
        MutexGuard::unlocked(&mut state, || {
            // A failing device shows itself to the writer too, which can report it; here the next round tries again.
            drop(mdbx.sync());
        });
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let (deferred, wake) = &*self.shared;
        deferred.lock().stop = true;
        wake.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
