//! The environment (libmdbx) behind three small things: an opened set of tables, pooled read transactions
//! and write transactions. The only module that names the store's library.
//!
//! Read transactions are reset and renewed instead of begun and aborted: renewing costs a tenth of a
//! microsecond, takes no lock of the environment and never waits for the writer.

use std::borrow::Cow;
use std::ffi::c_void;
use std::fs::File;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use signet_libmdbx::tx::aliases::{RwCursorUnsync, RwTxUnsync};
use signet_libmdbx::{
    ffi, Database, DatabaseFlags, Environment, EnvironmentFlags, Geometry, MdbxError, Mode, SyncMode, WriteFlags,
};

use super::tables::Table;
use super::StateError;
use crate::primitives::ReadError;

/// Read transactions at the same time; more get an error instead of waiting.
const MAX_READERS: u64 = 2048;
/// Name that libmdbx gives the file of the database.
const DATA_FILE: &str = "mdbx.dat";
/// Read transactions kept for reuse.
const MAX_IDLE: usize = 64;
/// Under a deferred sync policy a commit itself syncs only beyond these: they are the backstop of the store's
/// own syncing, and naming them keeps libmdbx from syncing whenever it finds no page to reuse.
const BACKSTOP_BYTES: usize = 256 << 20;
const BACKSTOP_PERIOD: Duration = Duration::from_secs(30);
/// The file grows in steps of this many bytes (sparse: space is taken only when written).
const GROWTH_STEP: isize = 64 << 20;

/// An open environment with all tables.
pub(super) struct Mdbx {
    idle: Mutex<Vec<RawTxn>>,
    databases: [Database; Table::ALL.len()],
    env: Environment,
    max_bytes: usize,
    /// The data file once more, to flush it beside the writer.
    data: File,
    /// Held by the write transaction and by [`Mdbx::sync`]. Without sticky threads libmdbx takes any write
    /// transaction for the caller's own, so it does not keep a sync of another thread out of a commit.
    gate: Mutex<()>,
}

/// A read transaction that is reset (holds no snapshot) while it lies in the pool.
struct RawTxn(*mut ffi::MDBX_txn);

// SAFETY: the environment is opened with MDBX_NOTLS, so a read transaction is not bound to the thread that
// began it; it is only ever used by one owner at a time.
unsafe impl Send for RawTxn {}

impl Mdbx {
    /// Opens (or creates) the environment in directory `path` and all tables.
    pub(super) fn open(path: &Path, mode: SyncMode, max_bytes: usize) -> Result<Arc<Mdbx>, MdbxError> {
        let env = Environment::builder()
            .set_max_dbs(Table::ALL.len())
            .set_max_readers(MAX_READERS)
            .set_sync_bytes(BACKSTOP_BYTES)
            .set_sync_period(BACKSTOP_PERIOD)
            .set_flags(EnvironmentFlags {
                mode: Mode::ReadWrite { sync_mode: mode },
                no_rdahead: true,
                no_meminit: true,
                liforeclaim: true,
                ..Default::default()
            })
            .set_geometry(Geometry {
                size: Some(0..max_bytes),
                growth_step: Some(GROWTH_STEP.min((max_bytes / 4).max(1 << 20) as isize)),
                shrink_threshold: None,
                page_size: None,
            })
            .open(path)?;
        let tx = env.begin_rw_unsync()?;
        let mut databases = [Database::freelist_db(); Table::ALL.len()];
        for table in Table::ALL {
            databases[table as usize] = tx.create_db(Some(table.name()), DatabaseFlags::empty())?;
        }
        tx.commit()?;
        let data =
            File::open(path.join(DATA_FILE)).map_err(|error| MdbxError::Other(error.raw_os_error().unwrap_or(0)))?;
        Ok(Arc::new(Mdbx { idle: Mutex::new(Vec::new()), databases, env, max_bytes, data, gate: Mutex::new(()) }))
    }

    /// Begins a read transaction: one immutable snapshot of everything committed.
    pub(super) fn read(self: &Arc<Self>) -> Result<ReadTxn, ReadError> {
        let pooled = self.idle.lock().pop();
        let raw = match pooled {
            Some(raw) => {
                // SAFETY: `raw` came from mdbx_txn_begin_ex of this environment, is reset and owned by us alone.
                match unsafe { ffi::mdbx_txn_renew(raw.0) } {
                    ffi::MDBX_SUCCESS => raw,
                    code => {
                        // SAFETY: as above; aborting a read transaction that did not renew frees it.
                        unsafe { ffi::mdbx_txn_abort(raw.0) };
                        return Err(read_error(MdbxError::from_err_code(code)));
                    }
                }
            }
            None => self.begin()?,
        };
        Ok(ReadTxn { raw: Some(raw), mdbx: self.clone() })
    }

    fn begin(&self) -> Result<RawTxn, ReadError> {
        let mut txn: *mut ffi::MDBX_txn = ptr::null_mut();
        // SAFETY: the environment pointer is valid while `self.env` lives; `txn` receives the transaction.
        let code = self.env.with_raw_env_ptr(|env| unsafe {
            ffi::mdbx_txn_begin_ex(env, ptr::null_mut(), ffi::MDBX_TXN_RDONLY, &mut txn, ptr::null_mut())
        });
        match code {
            ffi::MDBX_SUCCESS => Ok(RawTxn(txn)),
            code => Err(read_error(MdbxError::from_err_code(code))),
        }
    }

    fn recycle(&self, raw: RawTxn) {
        // SAFETY: the caller gives up its only handle; no cursor of it is left (they borrow the ReadTxn).
        let code = unsafe { ffi::mdbx_txn_reset(raw.0) };
        let mut idle = self.idle.lock();
        if code == ffi::MDBX_SUCCESS && idle.len() < MAX_IDLE {
            idle.push(raw);
            return;
        }
        drop(idle);
        // SAFETY: as above; the transaction is not used afterwards.
        unsafe { ffi::mdbx_txn_abort(raw.0) };
    }

    /// Begins the write transaction; waits for another one. Begin, use and finish it in one thread.
    pub(super) fn write(&self) -> Result<WriteTxn<'_>, StateError> {
        let gate = self.gate.lock();
        let tx = self.env.begin_rw_unsync().map_err(|error| self.write_error(error))?;
        Ok(WriteTxn { tx, mdbx: self, _gate: gate })
    }

    /// Flushes everything committed and marks it as the state to return to after a power cut.
    pub(super) fn sync(&self) -> Result<(), StateError> {
        // Most of the pages go to the disk beside the writer; what is left behind the gate is little.
        self.data.sync_data().map_err(|error| StateError::Store(error.to_string()))?;
        let _gate = self.gate.lock();
        self.env.sync(true).map(drop).map_err(|error| self.write_error(error))
    }

    fn database(&self, table: Table) -> Database {
        self.databases[table as usize]
    }

    /// Says what happened in the operator's words.
    pub(super) fn write_error(&self, error: MdbxError) -> StateError {
        /// errno of a full device on every platform that we build for.
        const ENOSPC: i32 = 28;
        /// What the library calls a short write: the device filled up in the middle of it, or it failed.
        const EIO: i32 = 5;
        let text = match error {
            MdbxError::MapFull => {
                format!(
                    "the data directory reached its limit of {} bytes (max_bytes); nothing was changed",
                    self.max_bytes
                )
            }
            MdbxError::Other(ENOSPC) => "no space left on the device; nothing was changed".into(),
            MdbxError::Other(EIO) => "the device is full or failed while it was written; nothing was changed".into(),
            other => other.to_string(),
        };
        StateError::Store(text)
    }
}

impl Drop for Mdbx {
    fn drop(&mut self) {
        for raw in self.idle.get_mut().drain(..) {
            // SAFETY: the pool owned the transaction; the environment still lives (fields drop after this).
            unsafe { ffi::mdbx_txn_abort(raw.0) };
        }
    }
}

fn read_error(error: MdbxError) -> ReadError {
    ReadError::Store(error.to_string())
}

/// A read transaction. Slices that it gives out point into the map and live as long as it does.
pub(super) struct ReadTxn {
    /// `None` only while dropping.
    raw: Option<RawTxn>,
    mdbx: Arc<Mdbx>,
}

impl ReadTxn {
    fn raw(&self) -> *mut ffi::MDBX_txn {
        self.raw.as_ref().map_or(ptr::null_mut(), |raw| raw.0)
    }

    /// Number of the commit that this transaction sees.
    pub(super) fn id(&self) -> u64 {
        // SAFETY: the transaction is live while `self` is.
        unsafe { ffi::mdbx_txn_id(self.raw()) }
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, ReadError> {
        let key = value_of(key);
        let mut data = ffi::MDBX_val { iov_len: 0, iov_base: ptr::null_mut() };
        // SAFETY: live transaction, handle of this environment, key and data outlive the call.
        let code = unsafe { ffi::mdbx_get(self.raw(), self.mdbx.database(table).dbi(), &key, &mut data) };
        match code {
            // SAFETY: on success `data` points into the snapshot, which stays until the transaction is reset.
            ffi::MDBX_SUCCESS => Ok(Some(unsafe { slice_of(&data) })),
            ffi::MDBX_NOTFOUND => Ok(None),
            code => Err(read_error(MdbxError::from_err_code(code))),
        }
    }

    pub(super) fn cursor(&self, table: Table) -> Result<ReadCursor<'_>, ReadError> {
        let mut cursor: *mut ffi::MDBX_cursor = ptr::null_mut();
        // SAFETY: live transaction, handle of this environment; `cursor` receives the cursor.
        let code = unsafe { ffi::mdbx_cursor_open(self.raw(), self.mdbx.database(table).dbi(), &mut cursor) };
        match code {
            ffi::MDBX_SUCCESS => Ok(ReadCursor { cursor, _txn: std::marker::PhantomData }),
            code => Err(read_error(MdbxError::from_err_code(code))),
        }
    }
}

impl Drop for ReadTxn {
    fn drop(&mut self) {
        if let Some(raw) = self.raw.take() {
            self.mdbx.recycle(raw);
        }
    }
}

/// A key and its value in the map.
pub(super) type Pair<'t> = (&'t [u8], &'t [u8]);

/// A position in a table of a read transaction.
pub(super) struct ReadCursor<'t> {
    cursor: *mut ffi::MDBX_cursor,
    _txn: std::marker::PhantomData<&'t ReadTxn>,
}

impl<'t> ReadCursor<'t> {
    /// The first pair whose key is not below `key`.
    pub(super) fn seek(&mut self, key: &[u8]) -> Result<Option<Pair<'t>>, ReadError> {
        self.step(value_of(key), ffi::MDBX_SET_RANGE)
    }

    pub(super) fn next(&mut self) -> Result<Option<Pair<'t>>, ReadError> {
        self.step(value_of(&[]), ffi::MDBX_NEXT)
    }

    /// The pair before the position (the last pair when the position is past the end).
    pub(super) fn prev(&mut self) -> Result<Option<Pair<'t>>, ReadError> {
        self.step(value_of(&[]), ffi::MDBX_PREV)
    }

    pub(super) fn last(&mut self) -> Result<Option<Pair<'t>>, ReadError> {
        self.step(value_of(&[]), ffi::MDBX_LAST)
    }

    /// The last pair whose key is below `key`.
    pub(super) fn seek_below(&mut self, key: &[u8]) -> Result<Option<Pair<'t>>, ReadError> {
        match self.seek(key)? {
            Some(_) => self.prev(),
            None => self.last(),
        }
    }

    fn step(&mut self, mut key: ffi::MDBX_val, op: ffi::MDBX_cursor_op) -> Result<Option<Pair<'t>>, ReadError> {
        let mut data = ffi::MDBX_val { iov_len: 0, iov_base: ptr::null_mut() };
        // SAFETY: the cursor is open while `self` lives and its transaction outlives it ('t).
        match unsafe { ffi::mdbx_cursor_get(self.cursor, &mut key, &mut data, op) } {
            // SAFETY: on success both point into the snapshot, which stays for 't.
            ffi::MDBX_SUCCESS => Ok(Some(unsafe { (slice_of(&key), slice_of(&data)) })),
            ffi::MDBX_NOTFOUND | ffi::MDBX_ENODATA => Ok(None),
            code => Err(read_error(MdbxError::from_err_code(code))),
        }
    }
}

impl Drop for ReadCursor<'_> {
    fn drop(&mut self) {
        // SAFETY: opened by `ReadTxn::cursor`, closed once, before its transaction is reset.
        unsafe { ffi::mdbx_cursor_close(self.cursor) };
    }
}

fn value_of(bytes: &[u8]) -> ffi::MDBX_val {
    ffi::MDBX_val { iov_len: bytes.len(), iov_base: bytes.as_ptr() as *mut c_void }
}

/// # Safety
/// `value` must describe memory that stays valid and unchanged for `'t`.
unsafe fn slice_of<'t>(value: &ffi::MDBX_val) -> &'t [u8] {
    if value.iov_len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(value.iov_base as *const u8, value.iov_len) }
}

/// The one write transaction. Dropping it without `commit` changes nothing.
pub(super) struct WriteTxn<'m> {
    /// Declared before the gate: it ends first.
    tx: RwTxUnsync,
    mdbx: &'m Mdbx,
    _gate: MutexGuard<'m, ()>,
}

impl WriteTxn<'_> {
    /// Number that readers of this commit will see.
    pub(super) fn id(&self) -> Result<u64, StateError> {
        self.tx.id().map_err(|error| self.mdbx.write_error(error))
    }

    pub(super) fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let database = self.mdbx.database(table);
        self.tx.put(database, key, value, WriteFlags::UPSERT).map_err(|error| self.mdbx.write_error(error))
    }

    pub(super) fn delete(&self, table: Table, key: &[u8]) -> Result<(), StateError> {
        self.tx.del(self.mdbx.database(table), key, None).map(drop).map_err(|error| self.mdbx.write_error(error))
    }

    pub(super) fn cursor(&self, table: Table) -> Result<WriteCursor<'_>, StateError> {
        let cursor = self.tx.cursor(self.mdbx.database(table)).map_err(|error| self.mdbx.write_error(error))?;
        Ok(WriteCursor { cursor, mdbx: self.mdbx })
    }

    pub(super) fn commit(self) -> Result<(), StateError> {
        let mdbx = self.mdbx;
        self.tx.commit().map_err(|error| mdbx.write_error(error))
    }
}

fn codec_error(mdbx: &Mdbx, error: signet_libmdbx::ReadError) -> StateError {
    match error {
        signet_libmdbx::ReadError::Mdbx(error) => mdbx.write_error(error),
        other => StateError::Corrupt(other.to_string()),
    }
}

/// A key and its value within a write transaction.
pub(super) type OwnedPair<'t> = (Cow<'t, [u8]>, Cow<'t, [u8]>);

/// A position in a table of the write transaction. Sorted keys make its puts cheap: the next key mostly
/// lies on the page where the cursor stands.
pub(super) struct WriteCursor<'t> {
    cursor: RwCursorUnsync<'t>,
    mdbx: &'t Mdbx,
}

impl<'t> WriteCursor<'t> {
    /// Moves to `key` and gives its value.
    pub(super) fn get(&mut self, key: &[u8]) -> Result<Option<Cow<'t, [u8]>>, StateError> {
        self.cursor.set(key).map_err(|error| codec_error(self.mdbx, error))
    }

    /// Moves to the first pair whose key is not below `key`.
    pub(super) fn seek(&mut self, key: &[u8]) -> Result<Option<OwnedPair<'t>>, StateError> {
        self.cursor.set_range(key).map_err(|error| codec_error(self.mdbx, error))
    }

    pub(super) fn next(&mut self) -> Result<Option<OwnedPair<'t>>, StateError> {
        self.cursor.next().map_err(|error| codec_error(self.mdbx, error))
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.cursor.put(key, value, WriteFlags::UPSERT).map_err(|error| self.mdbx.write_error(error))
    }

    /// Adds a pair behind all others.
    pub(super) fn append(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.cursor.append(key, value).map_err(|error| self.mdbx.write_error(error))
    }

    /// Deletes the pair at the position; `next` then gives the pair that followed it.
    pub(super) fn delete_current(&mut self) -> Result<(), StateError> {
        self.cursor.del().map_err(|error| self.mdbx.write_error(error))
    }

    /// Deletes `key` if it exists.
    pub(super) fn delete(&mut self, key: &[u8]) -> Result<(), StateError> {
        match self.get(key)? {
            Some(_) => self.delete_current(),
            None => Ok(()),
        }
    }
}
