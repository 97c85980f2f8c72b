//! libmdbx: memory-mapped B+ tree, copy on write.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use signet_libmdbx::{Database, DatabaseFlags, Environment, EnvironmentFlags, Geometry, Mode, SyncMode, WriteFlags};

use crate::workload::Batch;
use crate::{Lookup, Store, TABLES};

pub struct Mdbx {
    env: Environment,
    tables: Vec<Database>,
    /// Keeps a sync out of the write transaction of another thread, which libmdbx without sticky threads
    /// would take for its own.
    gate: Mutex<()>,
}

impl Mdbx {
    /// Without fsync: `SAFE_NOSYNC`, which survives the death of the process and never corrupts.
    pub fn open(path: &Path, fsync: bool) -> Mdbx {
        let sync_mode = if fsync { SyncMode::Durable } else { SyncMode::SafeNoSync };
        let env = Environment::builder()
            .set_max_dbs(TABLES.len())
            .set_sync_bytes(256 << 20)
            .set_sync_period(Duration::from_secs(30))
            .set_flags(EnvironmentFlags {
                mode: Mode::ReadWrite { sync_mode },
                no_rdahead: true,
                no_meminit: true,
                liforeclaim: true,
                ..Default::default()
            })
            .set_geometry(Geometry {
                size: Some(0..(16usize << 30)),
                growth_step: Some(64 << 20),
                ..Default::default()
            })
            .open(path)
            .expect("open");
        let tx = env.begin_rw_unsync().expect("begin");
        let create = |name: &&str| tx.create_db(Some(name), DatabaseFlags::empty()).expect("table");
        let tables = TABLES.iter().map(create).collect();
        tx.commit().expect("commit");
        Mdbx { env, tables, gate: Mutex::new(()) }
    }
}

impl Store for Mdbx {
    fn commit(&self, batch: &Batch) {
        let _gate = self.gate.lock().expect("no panic");
        let tx = self.env.begin_rw_unsync().expect("begin");
        for puts in batch.puts.chunk_by(|a, b| a.0 == b.0) {
            let mut cursor = tx.cursor(self.tables[puts[0].0]).expect("cursor");
            for (_, key, value) in puts {
                cursor.put(key, value, WriteFlags::UPSERT).expect("put");
            }
        }
        tx.commit().expect("commit");
    }

    fn sync(&self) {
        let _gate = self.gate.lock().expect("no panic");
        self.env.sync(true).expect("sync");
    }

    fn read(&self, f: &mut dyn FnMut(&Lookup<'_>)) {
        let tx = self.env.begin_ro_unsync().expect("begin");
        f(&|table, key| tx.get::<Cow<'_, [u8]>>(self.tables[table].dbi(), key).expect("get").is_some());
    }
}
