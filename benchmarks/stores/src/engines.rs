//! The stores, each behind [`Store`].

use std::path::Path;
use std::sync::Arc;

use crate::Store;

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "mdbx")]
mod mdbx;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;

pub const NAMES: &[&str] = &[
    #[cfg(feature = "mdbx")]
    "mdbx",
    #[cfg(feature = "lmdb")]
    "lmdb",
    #[cfg(feature = "redb")]
    "redb",
    #[cfg(feature = "fjall")]
    "fjall",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];

pub fn open(name: &str, path: &Path, fsync: bool) -> Arc<dyn Store> {
    match name {
        #[cfg(feature = "mdbx")]
        "mdbx" => Arc::new(mdbx::Mdbx::open(path, fsync)),
        #[cfg(feature = "lmdb")]
        "lmdb" => Arc::new(lmdb::Lmdb::open(path, fsync)),
        #[cfg(feature = "redb")]
        "redb" => Arc::new(redb::Redb::open(path, fsync)),
        #[cfg(feature = "fjall")]
        "fjall" => Arc::new(fjall::Fjall::open(path, fsync)),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Arc::new(rocksdb::Rocks::open(path, fsync)),
        other => panic!("no store {other} in this build; there are {NAMES:?}"),
    }
}
