//! redb: B+ tree in pure Rust, copy on write, own page cache.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use crate::workload::Batch;
use crate::{Lookup, Store, TABLES};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

pub struct Redb {
    database: Database,
    durability: Durability,
}

fn table(index: usize) -> Definition {
    TableDefinition::new(TABLES[index])
}

impl Redb {
    /// Without fsync: `Durability::None`.
    pub fn open(path: &Path, fsync: bool) -> Redb {
        let database = Database::create(path.join("redb")).expect("open");
        let durability = if fsync { Durability::Immediate } else { Durability::None };
        let tx = database.begin_write().expect("begin");
        for index in 0..TABLES.len() {
            tx.open_table(table(index)).expect("table");
        }
        tx.commit().expect("commit");
        Redb { database, durability }
    }
}

impl Store for Redb {
    fn commit(&self, batch: &Batch) {
        let mut tx = self.database.begin_write().expect("begin");
        tx.set_durability(self.durability).expect("durability");
        for puts in batch.puts.chunk_by(|a, b| a.0 == b.0) {
            let mut table = tx.open_table(table(puts[0].0)).expect("table");
            for (_, key, value) in puts {
                table.insert(key.as_slice(), value.as_slice()).expect("put");
            }
        }
        tx.commit().expect("commit");
    }

    fn sync(&self) {
        let mut tx = self.database.begin_write().expect("begin");
        tx.set_durability(Durability::Immediate).expect("durability");
        tx.commit().expect("commit");
    }

    fn read(&self, f: &mut dyn FnMut(&Lookup<'_>)) {
        let tx = self.database.begin_read().expect("begin");
        // Opened once, as a snapshot that serves several reads would.
        let state = tx.open_table(table(0)).expect("table");
        f(&|_, key| state.get(key).expect("get").is_some());
    }
}
