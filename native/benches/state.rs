//! What the store costs: `cargo bench --no-default-features --bench state [-- FILTER]`.
//!
//! One line per figure: `name value unit`. `…/cpu` figures are the processor time of the process
//! (Linux), which other load disturbs less; the rest is wall time: read it on an idle machine. The data
//! directory is a persistent one below `$TMPDIR`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_consensus::{Header, SignableTransaction, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{keccak256, Signature, TxKind, KECCAK256_EMPTY};
use zerog_native::primitives::*;
use zerog_native::state::{Store, StoreOptions, SyncPolicy};

/// As in the Python module, which brings its own when it is built in.
#[cfg(not(feature = "python"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SENDERS: u64 = 200;

fn address(seed: u64) -> Address {
    Address::from_word(keccak256(seed.to_be_bytes()))
}

fn account(nonce: u64, balance: u64) -> AccountDelta {
    let info = AccountInfo { nonce, balance: U256::from(balance), code_hash: KECCAK256_EMPTY };
    AccountDelta { info: Some(info), ..Default::default() }
}

struct Bench {
    store: Arc<Store>,
    _directory: tempfile::TempDir,
    fresh: u64,
}

impl Bench {
    fn new(accounts: u64, sync: SyncPolicy) -> Bench {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = Some(directory.path().join("chain"));
        let store = Store::open(StoreOptions { path, sync, history_blocks: None, max_bytes: 1 << 40 }).expect("open");
        let alloc = StateDelta {
            accounts: (0..accounts).map(|n| (address(n), account(0, 1 << 40))).collect(),
            ..Default::default()
        };
        let header = Header { state_root: Store::root_of(&alloc), ..Default::default() };
        store.init_genesis(&header, &alloc, b"").expect("genesis");
        Bench { store, _directory: directory, fresh: 1 << 32 }
    }

    fn report(&self, name: &str, value: f64, unit: &str) {
        println!("{name} {value:.3} {unit}");
    }

    /// `count` transfers from the senders to fresh recipients, executed but not committed.
    fn transfers(&mut self, count: u64) -> (Arc<ExecutedBlock>, (Duration, f64)) {
        let mut delta = StateDelta::default();
        let mut transactions = Vec::new();
        for n in 0..count {
            self.fresh += 1;
            delta.accounts.insert(address(n % SENDERS), account(self.fresh, 1 << 39));
            delta.accounts.insert(address(self.fresh), account(0, n + 1));
            transactions.push(transaction(self.fresh));
        }
        let receipts = vec![receipt(); transactions.len()];
        self.seal(delta, transactions, receipts)
    }

    fn seal(
        &self,
        delta: StateDelta,
        transactions: Vec<Arc<SignedTx>>,
        receipts: Vec<Receipt>,
    ) -> (Arc<ExecutedBlock>, (Duration, f64)) {
        let view = self.store.view().expect("view").expect("genesis");
        let started = (Instant::now(), processor());
        let mut roots = view.root_calculator();
        roots.apply(&delta).expect("apply");
        let trie = roots.take_updates().expect("updates");
        drop(roots);
        let took = (started.0.elapsed(), processor() - started.1);
        let head = view.head();
        let header = Header {
            parent_hash: head.hash,
            number: head.header.number + 1,
            state_root: trie.root,
            ..Default::default()
        };
        let block =
            SealedBlock { hash: header.hash_slow(), header, transactions, ommers: Vec::new(), withdrawals: None };
        (Arc::new(ExecutedBlock { block, receipts, delta, trie, requests: Vec::new() }), took)
    }
}

fn transaction(nonce: u64) -> Arc<SignedTx> {
    let tx = TxLegacy { nonce, gas_limit: 21_000, gas_price: 1, to: TxKind::Call(Address::ZERO), ..Default::default() };
    let tx: Transaction = tx.into_signed(Signature::test_signature()).into();
    let raw: Bytes = tx.encoded_2718().into();
    Arc::new(SignedTx { hash: keccak256(&raw), tx, sender: address(nonce % SENDERS), raw, impersonated: false })
}

fn receipt() -> Receipt {
    Receipt {
        tx_type: 2,
        outcome: ReceiptOutcome::Status(true),
        cumulative_gas_used: 21_000,
        logs: Vec::new(),
        bloom: Bloom::default(),
        gas_used: 21_000,
        effective_gas_price: 1_000_000_000,
        contract_address: None,
    }
}

fn large_blocks(bench: &mut Bench, name: &str) {
    const TRANSFERS: u64 = 10_000;
    let (mut roots, mut commits) = (Vec::new(), Vec::new());
    let (mut busy, mut hashing) = (0.0, 0.0);
    for _ in 0..7 {
        let (block, root) = bench.transfers(TRANSFERS);
        let started = (Instant::now(), processor());
        bench.store.commit_blocks(&[block]).expect("commit");
        busy += processor() - started.1;
        commits.push(started.0.elapsed());
        roots.push(root.0);
        hashing += root.1;
    }
    bench.report(&format!("{name}/commit_10k/cpu"), busy / 7.0 / TRANSFERS as f64, "us/transaction");
    bench.report(&format!("{name}/root_10k/cpu"), hashing / 7.0 / (TRANSFERS + SENDERS) as f64, "us/account");
    let accounts = (TRANSFERS + SENDERS) as f64;
    bench.report(&format!("{name}/root_10k"), median(roots) / accounts, "us/account");
    bench.report(&format!("{name}/commit_10k"), median(commits) / TRANSFERS as f64, "us/transaction");
}

fn small_blocks(bench: &mut Bench, name: &str, transfers: u64) {
    let (mut roots, mut commits) = (Vec::new(), Vec::new());
    let rss = resident();
    let mut busy = 0.0;
    let blocks = 1000;
    for _ in 0..blocks {
        let (block, root) = bench.transfers(transfers);
        let started = (Instant::now(), processor());
        bench.store.commit_blocks(&[block]).expect("commit");
        busy += processor() - started.1;
        commits.push(started.0.elapsed());
        roots.push(root.0);
    }
    bench.report(&format!("{name}/commit_{transfers}/cpu"), busy / f64::from(blocks), "us/block");
    bench.report(&format!("{name}/root_{transfers}"), median(roots), "us/block");
    bench.report(&format!("{name}/commit_{transfers}_worst"), slowest(&commits), "us/block");
    bench.report(&format!("{name}/commit_{transfers}"), median(commits), "us/block");
    bench.report(&format!("{name}/resident_{transfers}"), (resident() - rss) / f64::from(blocks), "KiB/block");
}

/// Blocks without transactions: only the system contracts (EIP-4788, EIP-2935) write, three slots in all.
fn empty_blocks(bench: &mut Bench, name: &str) {
    let mut number = bench.store.view().expect("view").expect("genesis").head().header.number;
    for blocks in [20, 1000] {
        let rss = resident();
        let mut commits = Vec::new();
        for _ in 0..blocks {
            number += 1;
            let slot = |n: u64| (U256::from(n), U256::from(number + 1));
            let system =
                |slots: &[(U256, U256)]| AccountDelta { storage: slots.iter().copied().collect(), ..account(1, 0) };
            let mut delta = StateDelta::default();
            delta.accounts.insert(address(1 << 50), system(&[slot(number % 8191), slot(number % 8191 + 8191)]));
            delta.accounts.insert(address(1 << 51), system(&[slot(number % 8191)]));
            let (block, _) = bench.seal(delta, Vec::new(), Vec::new());
            let started = Instant::now();
            bench.store.commit_blocks(&[block]).expect("commit");
            commits.push(started.elapsed());
        }
        bench.report(&format!("{name}/empty_commit_{blocks}"), median(commits), "us/block");
        bench.report(&format!("{name}/empty_resident_{blocks}"), (resident() - rss) / f64::from(blocks), "KiB/block");
    }
}

fn reads(bench: &Bench, name: &str, accounts: u64) {
    let rounds = 200_000u64;
    let timed = |what: &str, f: &mut dyn FnMut(u64)| {
        let started = Instant::now();
        for n in 0..rounds {
            f(n);
        }
        bench.report(&format!("{name}/{what}"), started.elapsed().as_secs_f64() * 1e9 / rounds as f64, "ns");
    };
    let addresses: Vec<Address> = (0..4096).map(|n| address(n * 7919 % accounts)).collect();
    let at = |n: u64| &addresses[n as usize % addresses.len()];
    timed("view", &mut |_| drop(bench.store.view().expect("view")));
    let view = bench.store.view().expect("view").expect("genesis");
    let head = view.head().header.number;
    timed("account", &mut |n| ignore(view.latest().account(at(n)).expect("account")));
    timed("slot", &mut |n| ignore(view.latest().storage(at(n), &U256::from(n)).expect("slot")));
    timed("hash", &mut |n| ignore(view.hash(n % head).expect("hash")));
    timed("header", &mut |n| ignore(view.header(n % head).expect("header")));
    timed("locate", &mut |_| ignore(view.locate(&view.head().hash).expect("locate")));
    let state = view.state_at(head / 2).expect("state");
    timed("account_in_history", &mut |n| ignore(state.account(at(n)).expect("account")));
    timed("view_and_account", &mut |n| {
        let view = bench.store.view().expect("view").expect("genesis");
        ignore(view.latest().account(at(n)).expect("account"));
    });
}

/// Keeps the compiler from leaving the read out.
fn ignore<T>(value: T) {
    std::hint::black_box(value);
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn slowest(times: &[Duration]) -> f64 {
    times.iter().max().map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// Resident memory of this process in KiB (Linux; 0 elsewhere).
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
}

/// Processor time of all threads in microseconds (Linux; 0 elsewhere).
fn processor() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let time = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        stat.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(0.0)
    };
    tasks.flatten().map(time).sum::<f64>() / 1e3
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    for (name, accounts, sync) in [
        ("small", 300, SyncPolicy::Safe),
        ("100k_accounts", 100_000, SyncPolicy::Safe),
        ("full_sync", 300, SyncPolicy::Full),
    ] {
        if filter.as_deref().is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let mut bench = Bench::new(accounts, sync);
        empty_blocks(&mut bench, name);
        small_blocks(&mut bench, name, 1);
        reads(&bench, name, accounts);
        large_blocks(&mut bench, name);
        small_blocks(&mut bench, name, 1);
    }
}
