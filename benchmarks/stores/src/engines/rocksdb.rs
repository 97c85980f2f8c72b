//! RocksDB: log-structured merge tree.

use std::path::Path;

use rocksdb::{ColumnFamily, Options, WriteBatch, WriteOptions, DB};

use crate::workload::Batch;
use crate::{Lookup, Store, TABLES};

pub struct Rocks {
    database: DB,
    write: WriteOptions,
}

impl Rocks {
    /// Without fsync: the write-ahead log is written to the operating system only.
    pub fn open(path: &Path, fsync: bool) -> Rocks {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let database = DB::open_cf(&options, path.join("rocksdb"), TABLES).expect("open");
        let mut write = WriteOptions::default();
        write.set_sync(fsync);
        Rocks { database, write }
    }

    fn table(&self, index: usize) -> &ColumnFamily {
        self.database.cf_handle(TABLES[index]).expect("table")
    }
}

impl Store for Rocks {
    fn commit(&self, batch: &Batch) {
        let mut write = WriteBatch::default();
        for (table, key, value) in &batch.puts {
            write.put_cf(self.table(*table), key, value);
        }
        self.database.write_opt(&write, &self.write).expect("commit");
    }

    fn sync(&self) {
        self.database.flush_wal(true).expect("sync");
    }

    fn read(&self, f: &mut dyn FnMut(&Lookup<'_>)) {
        let snapshot = self.database.snapshot();
        f(&|table, key| snapshot.get_pinned_cf(self.table(table), key).expect("get").is_some());
    }
}
