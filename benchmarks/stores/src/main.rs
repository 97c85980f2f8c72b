//! Embedded stores under the writes and reads of a chain: `benchmarks/stores/run.sh`.
//!
//! The batch of a block is what a block of transfers writes: accounts and their history at random keys,
//! transactions and receipts at the end of a table, hashes and trie records at random keys; sorted per table,
//! one atomic commit. Every store runs twice: with commits that only have to survive the death of the process
//! (if the store can) and a sync every second in the background, and with fsync in every commit.

mod engines;
mod kill;
mod workload;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{mpsc, Arc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use workload::{Batch, Generator};

/// Tables that a block writes to.
pub const TABLES: [&str; 5] = ["state", "history", "chain", "hashes", "trie"];

/// Whether a table has a key.
pub type Lookup<'s> = dyn Fn(usize, &[u8]) -> bool + 's;

/// What the benchmark asks of a store.
pub trait Store: Send + Sync {
    /// One atomic commit; with fsync when the store was opened so.
    fn commit(&self, batch: &Batch);
    /// Makes everything committed durable.
    fn sync(&self);
    /// Gives `f` a lookup in one consistent snapshot.
    fn read(&self, f: &mut dyn FnMut(&Lookup<'_>));
}

const PRELOADED: usize = 100_000;
const TRANSFERS: usize = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["kill-writer", name, path] => kill::write_forever(name, Path::new(path)),
        [] => engines::NAMES.iter().for_each(|name| measure(name)),
        ref names => names.iter().for_each(|name| measure(name)),
    }
}

fn measure(name: &str) {
    let deferred = measure_commits(name, false);
    let durable = measure_commits(name, true);
    println!(
        "| {name} | {:.1} / {:.1} | {:.0} / {:.0} | {:.1} | {:.1} | {:.2} | {:.2} | {:.0} / {:.0} | {} | {} |",
        deferred.large.processor / TRANSFERS as f64,
        deferred.large.wall / TRANSFERS as f64,
        deferred.small.processor,
        deferred.small.wall,
        durable.large.wall / TRANSFERS as f64,
        durable.small.wall / 1e3,
        deferred.get,
        deferred.snapshot,
        deferred.busy_median,
        deferred.busy_worst,
        deferred.mebibytes,
        kill::outcome(name),
    );
}

/// µs of one commit: processor time of all threads (mean), wall time (median).
struct Commit {
    processor: f64,
    wall: f64,
}

struct Figures {
    large: Commit,
    small: Commit,
    /// µs per random get.
    get: f64,
    /// µs to open a snapshot and get one value.
    snapshot: f64,
    /// µs for a snapshot and four gets while the writer commits.
    busy_median: f64,
    busy_worst: f64,
    mebibytes: u64,
}

fn measure_commits(name: &str, fsync: bool) -> Figures {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = engines::open(name, directory.path(), fsync);
    let syncer = (!fsync).then(|| Syncer::start(store.clone()));
    let mut generator = Generator::new();
    for _ in 0..PRELOADED / 5_000 {
        store.commit(&generator.block(5_000));
    }
    let large = commits(&*store, 20, &mut || generator.block(TRANSFERS));
    let small = commits(&*store, if fsync { 60 } else { 500 }, &mut || generator.block(1));
    let get = gets(&*store);
    let snapshot = snapshots(&*store);
    let (busy_median, busy_worst) = if fsync { (0.0, 0.0) } else { reads_while_writing(&store, &mut generator) };
    drop(syncer);
    let mebibytes = size(directory.path()) >> 20;
    Figures { large, small, get, snapshot, busy_median, busy_worst, mebibytes }
}

/// Syncs every second.
struct Syncer {
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    fn start(store: Arc<dyn Store>) -> Syncer {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
                store.sync();
            }
        });
        Syncer { stop, thread: Some(thread) }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        // The thread may only be gone after a panic, which `join` then shows.
        let _ = self.stop.send(());
        self.thread.take().expect("it is joined once").join().expect("the syncer");
    }
}

fn commits(store: &dyn Store, count: usize, batch: &mut dyn FnMut() -> Batch) -> Commit {
    let batches: Vec<Batch> = (0..count).map(|_| batch()).collect();
    let busy = processor();
    let times = batches.iter().map(|batch| {
        let started = Instant::now();
        store.commit(batch);
        started.elapsed()
    });
    let wall = micros(median(times.collect()));
    Commit { processor: (processor() - busy) / count as f64, wall }
}

/// µs of processor time that this process has used (Linux).
fn processor() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc");
    let time = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0)
    };
    tasks.flatten().map(time).sum::<f64>() / 1e3
}

fn gets(store: &dyn Store) -> f64 {
    const COUNT: usize = 100_000;
    let keys = workload::account_keys(4096, PRELOADED);
    let mut took = Duration::ZERO;
    store.read(&mut |get| {
        let started = Instant::now();
        for n in 0..COUNT {
            assert!(get(0, &keys[n % keys.len()]));
        }
        took = started.elapsed();
    });
    micros(took) / COUNT as f64
}

fn snapshots(store: &dyn Store) -> f64 {
    const COUNT: usize = 20_000;
    let keys = workload::account_keys(4096, PRELOADED);
    let started = Instant::now();
    for n in 0..COUNT {
        store.read(&mut |get| assert!(get(0, &keys[n % keys.len()])));
    }
    micros(started.elapsed()) / COUNT as f64
}

fn reads_while_writing(store: &Arc<dyn Store>, generator: &mut Generator) -> (f64, f64) {
    let stop = Arc::new(AtomicBool::new(false));
    let reader = std::thread::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        move || {
            let keys = workload::account_keys(4096, PRELOADED);
            let mut times = Vec::new();
            while !stop.load(Ordering::Acquire) {
                let started = Instant::now();
                store.read(&mut |get| {
                    for n in 0..4 {
                        assert!(get(0, &keys[(times.len() * 4 + n) % keys.len()]));
                    }
                });
                times.push(started.elapsed());
            }
            times
        }
    });
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        store.commit(&generator.block(TRANSFERS));
    }
    stop.store(true, Ordering::Release);
    let times = reader.join().expect("the reader");
    let worst = times.iter().max().copied().unwrap_or_default();
    (micros(median(times)), micros(worst))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Bytes that the directory takes on the disk (sparse files counted as allocated).
fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(path).expect("the directory");
    let bytes = |entry: std::fs::DirEntry| {
        let data = entry.metadata().expect("metadata");
        if data.is_dir() {
            size(&entry.path())
        } else {
            data.blocks() * 512
        }
    };
    entries.flatten().map(bytes).sum()
}
