//! LMDB: memory-mapped B+ tree, copy on write.

use std::path::Path;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, WithoutTls};

use crate::workload::Batch;
use crate::{Lookup, Store, TABLES};

pub struct Lmdb {
    env: Env<WithoutTls>,
    tables: Vec<Database<Bytes, Bytes>>,
}

impl Lmdb {
    /// Without fsync: `MDB_NOSYNC`, which survives the death of the process but may corrupt on a power cut.
    pub fn open(path: &Path, fsync: bool) -> Lmdb {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(16 << 30).max_dbs(TABLES.len() as u32).max_readers(256);
        let mut flags = EnvFlags::NO_READ_AHEAD | EnvFlags::NO_MEM_INIT;
        if !fsync {
            flags |= EnvFlags::NO_SYNC;
        }
        // SAFETY: the directory is this process's own.
        let env = unsafe { options.flags(flags).open(path).expect("open") };
        let mut tx = env.write_txn().expect("begin");
        let tables = TABLES.iter().map(|name| env.create_database(&mut tx, Some(name)).expect("table")).collect();
        tx.commit().expect("commit");
        Lmdb { env, tables }
    }
}

impl Store for Lmdb {
    fn commit(&self, batch: &Batch) {
        let mut tx = self.env.write_txn().expect("begin");
        for (table, key, value) in &batch.puts {
            self.tables[*table].put(&mut tx, key, value).expect("put");
        }
        tx.commit().expect("commit");
    }

    fn sync(&self) {
        self.env.force_sync().expect("sync");
    }

    fn read(&self, f: &mut dyn FnMut(&Lookup<'_>)) {
        let tx = self.env.read_txn().expect("begin");
        f(&|table, key| self.tables[table].get(&tx, key).expect("get").is_some());
    }
}
