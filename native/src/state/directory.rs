//! The data directory: whose it is, which format it has, who uses it now.
//!
//! `FORMAT` names the format and marks the directory as ours, `LOCK` is locked while a store is open, `GENESIS` holds
//! the hash of block 0 once that is safely on disk (so an emptied database is not taken for a fresh one), `mdbx.dat` and
//! `mdbx.lck` belong to the database.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::StateError;
use crate::primitives::B256;

/// Written by this build and the only one it reads.
const FORMAT: &str = "zerog state 1\n";
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_DRAFT: &str = "FORMAT.new";
const LOCK_FILE: &str = "LOCK";
const GENESIS_FILE: &str = "GENESIS";
const GENESIS_DRAFT: &str = "GENESIS.new";
/// Temporary directories are called `zerog-<process>-<random>`.
const TEMPORARY_PREFIX: &str = "zerog-";

/// A directory that is ours while this value lives. A temporary one is removed with it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    temporary: bool,
    /// Holds the lock; the operating system releases it when the process dies.
    _lock: File,
}

impl Directory {
    /// Opens (or creates) the directory and locks it; `None` makes a temporary one.
    pub(super) fn open(path: Option<&Path>) -> Result<Directory, StateError> {
        let temporary = path.is_none();
        let path = match path {
            Some(path) => path.to_path_buf(),
            None => {
                let base = std::env::temp_dir();
                sweep(&base);
                base.join(format!("{TEMPORARY_PREFIX}{}-{:016x}", std::process::id(), rand::random::<u64>()))
            }
        };
        let refuse = |reason: String| StateError::Open { path: path.display().to_string(), reason };
        if path.exists() && !path.is_dir() {
            return Err(refuse("is not a directory".into()));
        }
        fs::create_dir_all(&path).map_err(|error| refuse(format!("cannot be created: {error}")))?;
        let format = read_format(&path).map_err(refuse)?;
        let lock = lock(&path).map_err(refuse)?;
        if format.is_none() {
            write_format(&path).map_err(|error| refuse(format!("cannot be written: {error}")))?;
        }
        Ok(Directory { path, temporary, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// The hash of block 0 as it was noted when the chain was made; `None` for a directory without a chain.
    pub(super) fn genesis_mark(&self) -> Result<Option<String>, StateError> {
        match fs::read_to_string(self.path.join(GENESIS_FILE)) {
            Ok(text) => Ok(Some(text.trim().chars().take(66).collect())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.damaged(format!("{GENESIS_FILE} cannot be read: {error}"))),
        }
    }

    /// Notes the hash of block 0; call it when the block can no longer be lost.
    pub(super) fn mark_genesis(&self, hash: B256) -> Result<(), StateError> {
        let text = format!("{hash}\n");
        write_whole(&self.path, GENESIS_DRAFT, GENESIS_FILE, text.as_bytes())
            .map_err(|error| self.refuse(format!("cannot be written: {error}")))
    }

    pub(super) fn refuse(&self, reason: impl Into<String>) -> StateError {
        StateError::Open { path: self.path.display().to_string(), reason: reason.into() }
    }

    /// The refusal of a directory whose database does not hold together.
    pub(super) fn damaged(&self, what: impl std::fmt::Display) -> StateError {
        StateError::Corrupt(format!(
            "data directory {}: its database is damaged ({what}); restore it or start with another directory",
            self.path.display()
        ))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // Best effort: a temporary directory that stays behind harms nothing.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// Removes the temporary directories of processes that were killed: ours by name and format, and nobody holds the
/// lock, which a living owner takes before it writes the format.
pub(super) fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| {
            let mut parts = name.strip_prefix(TEMPORARY_PREFIX).unwrap_or_default().split('-');
            let hex = |part: Option<&str>| part.is_some_and(|part| u64::from_str_radix(part, 16).is_ok());
            hex(parts.next()) && hex(parts.next()) && parts.next().is_none()
        });
        let path = entry.path();
        if !ours || !matches!(read_format(&path), Ok(Some(()))) {
            continue;
        }
        let Ok(held) = File::options().write(true).open(path.join(LOCK_FILE)) else { continue };
        if held.try_lock().is_ok() {
            // Best effort: what stays behind is tried again by the next one.
            drop(fs::remove_dir_all(&path));
        }
    }
}

/// The directory's format; `None` for a fresh directory.
fn read_format(path: &Path) -> Result<Option<()>, String> {
    let found = match fs::read(path.join(FORMAT_FILE)) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return refuse_foreign(path).map(|()| None),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    if found == FORMAT.as_bytes() {
        return Ok(Some(()));
    }
    let shown: String = String::from_utf8_lossy(&found[..found.len().min(40)]).trim().chars().take(40).collect();
    Err(format!("has format {shown:?}, but this version of zerog reads {:?}", FORMAT.trim()))
}

/// A directory without our mark must be empty, whatever else it is.
fn refuse_foreign(path: &Path) -> Result<(), String> {
    let entries = fs::read_dir(path).map_err(|error| format!("cannot be read: {error}"))?;
    for entry in entries {
        let name = entry.map_err(|error| format!("cannot be read: {error}"))?.file_name();
        if name != LOCK_FILE && name != FORMAT_DRAFT {
            return Err(format!("is not a zerog state directory: it holds {name:?} and no {FORMAT_FILE} file"));
        }
    }
    Ok(())
}

fn lock(path: &Path) -> Result<File, String> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join(LOCK_FILE))
        .map_err(|error| format!("cannot be written: {error}"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err("is in use by another zerog process".into()),
        Err(TryLockError::Error(error)) => Err(format!("cannot be locked: {error}")),
    }
}

fn write_format(path: &Path) -> std::io::Result<()> {
    write_whole(path, FORMAT_DRAFT, FORMAT_FILE, FORMAT.as_bytes())
}

/// A file appears whole or not at all.
fn write_whole(folder: &Path, draft: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let draft = folder.join(draft);
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, folder.join(name))
}
