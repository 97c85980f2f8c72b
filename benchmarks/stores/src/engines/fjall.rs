//! fjall: log-structured merge tree in pure Rust.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use crate::workload::Batch;
use crate::{Lookup, Store, TABLES};

pub struct Fjall {
    database: Database,
    tables: Vec<Keyspace>,
    fsync: bool,
}

impl Fjall {
    /// Without fsync: the journal is written to the operating system only.
    pub fn open(path: &Path, fsync: bool) -> Fjall {
        let database = Database::builder(path.join("fjall")).open().expect("open");
        let open = |name: &&str| database.keyspace(name, KeyspaceCreateOptions::default).expect("table");
        let tables = TABLES.iter().map(open).collect();
        Fjall { database, tables, fsync }
    }
}

impl Store for Fjall {
    fn commit(&self, batch: &Batch) {
        let mode = if self.fsync { PersistMode::SyncAll } else { PersistMode::Buffer };
        let mut write = self.database.batch().durability(Some(mode));
        for (table, key, value) in &batch.puts {
            write.insert(&self.tables[*table], key.as_slice(), value.as_slice());
        }
        write.commit().expect("commit");
    }

    fn sync(&self) {
        self.database.persist(PersistMode::SyncAll).expect("sync");
    }

    fn read(&self, f: &mut dyn FnMut(&Lookup<'_>)) {
        let snapshot = self.database.snapshot();
        f(&|table, key| snapshot.get(&self.tables[table], key).expect("get").is_some());
    }
}
