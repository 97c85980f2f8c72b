//! What the pool costs per transaction: `cargo bench --no-default-features --bench pool`.
//!
//! One line per figure: name, nanoseconds per item, items. The best of several rounds is printed: on a shared machine
//! the least disturbed round says most about the code.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Signature, TxKind, KECCAK256_EMPTY};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use zerog_native::execution::Fork;
use zerog_native::pool::{Pool, PoolConfig, PoolContext, PooledTx};
use zerog_native::primitives::*;

const ROUNDS: usize = 5;
const SENDERS: u64 = 200;
const PER_SENDER: u64 = 50;
const BASE_FEE: u64 = 1_000_000_000;

struct Rich(HashMap<Address, u64>);

impl StateRead for Rich {
    fn account(&self, address: &Address) -> Result<Option<AccountInfo>, ReadError> {
        let nonce = self.0.get(address).copied().unwrap_or(0);
        Ok(Some(AccountInfo { nonce, balance: U256::MAX >> 1, code_hash: KECCAK256_EMPTY }))
    }
    fn storage(&self, _: &Address, _: &U256) -> Result<U256, ReadError> {
        Ok(U256::ZERO)
    }
    fn code(&self, _: &B256) -> Result<Option<Bytes>, ReadError> {
        Ok(None)
    }
    fn block_hash(&self, _: u64) -> Result<Option<B256>, ReadError> {
        Ok(None)
    }
}

fn main() {
    let ctx = PoolContext {
        chain_id: 31337,
        fork: Fork::Osaka,
        block_gas_limit: 30_000_000,
        base_fee: BASE_FEE,
        blob_base_fee: 1,
        max_blobs_per_tx: 6,
        max_blobs_per_block: 9,
        max_initcode_size: 49_152,
    };
    let txs: Vec<PooledTx> =
        (0..PER_SENDER).flat_map(|nonce| (0..SENDERS).map(move |from| pooled(from, nonce))).collect();
    let count = txs.len();
    let state = Rich(HashMap::new());
    let folder = std::env::temp_dir().join(format!("zerog-pool-bench-{}", std::process::id()));

    for (name, journal) in [("insert", None), ("insert_journal", Some(folder.join("pool")))] {
        report(&format!("pool/{name}/batch"), count, || {
            let (pool, batch) = (open(journal.clone()), txs.clone());
            timed(|| assert!(pool.add_recovered(batch, &ctx, &state).iter().all(Result::is_ok)))
        });
        report(&format!("pool/{name}/single"), count, || {
            let (pool, batch) = (open(journal.clone()), txs.clone());
            timed(|| batch.into_iter().for_each(|tx| assert!(pool.add_recovered(vec![tx], &ctx, &state)[0].is_ok())))
        });
    }
    report("pool/best/walk", count, || {
        let pool = filled(&txs, &ctx, &state);
        timed(|| {
            let mut best = pool.best(BASE_FEE, 1);
            assert_eq!(std::iter::from_fn(|| best.next()).count(), count);
        })
    });
    report("pool/best/first_of_many", 1_000, || {
        let pool = filled(&txs, &ctx, &state);
        timed(|| (0..1_000).for_each(|_| assert!(pool.best(BASE_FEE, 1).next().is_some())))
    });
    for (name, per_block) in [("single", 1), ("full", 1_000)] {
        report(&format!("pool/on_block/{name}"), count, || mine_all(&txs, &ctx, &state, per_block));
    }

    let signers: Vec<PrivateKeySigner> =
        (1..=10).map(|byte| PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).expect("a key")).collect();
    let raws: Vec<Bytes> = (0..100).map(|index| signed(&signers[index % 10], index as u64 / 10)).collect();
    report("pool/add_many/batch_of_100", 100, || {
        let pool = open(None);
        timed(|| assert!(pool.add_many(&raws, &ctx, &state).iter().all(Result::is_ok)))
    });
    report("pool/add_many/single", 100, || {
        let pool = open(None);
        timed(|| raws.iter().for_each(|raw| assert!(pool.add_many(std::slice::from_ref(raw), &ctx, &state)[0].is_ok())))
    });
    std::fs::remove_dir_all(&folder).ok();
}

/// Time that `on_block` takes while everything is mined in blocks of `per_block`.
fn mine_all(txs: &[PooledTx], ctx: &PoolContext, state: &Rich, per_block: usize) -> Duration {
    let pool = filled(txs, ctx, state);
    let mut spent = Duration::ZERO;
    loop {
        let mut best = pool.best(BASE_FEE, 1);
        let mined: Vec<Arc<SignedTx>> = std::iter::from_fn(|| best.next()).take(per_block).collect();
        if mined.is_empty() {
            return spent;
        }
        let block = block(mined);
        spent += timed(|| pool.on_block(&block, ctx));
    }
}

fn block(transactions: Vec<Arc<SignedTx>>) -> ExecutedBlock {
    let mut delta = StateDelta::default();
    for tx in &transactions {
        let nonce = alloy_consensus::Transaction::nonce(&tx.tx) + 1;
        let info = Some(AccountInfo { nonce, balance: U256::MAX >> 1, code_hash: KECCAK256_EMPTY });
        delta.accounts.insert(tx.sender, AccountDelta { info, ..AccountDelta::default() });
    }
    let header = alloy_consensus::Header::default();
    ExecutedBlock {
        block: SealedBlock { header, hash: B256::ZERO, transactions, ommers: Vec::new(), withdrawals: None },
        receipts: Vec::new(),
        delta,
        trie: TrieUpdates::default(),
        requests: Vec::new(),
    }
}

fn open(journal: Option<std::path::PathBuf>) -> Arc<Pool> {
    if let Some(path) = &journal {
        std::fs::remove_file(path).ok();
    }
    Pool::new(PoolConfig {
        max_pending: 100_000,
        max_queued: 100_000,
        max_per_account: 100_000,
        max_bytes: 1 << 30,
        max_nonce_gap: 1_000,
        min_tip: 0,
        fifo: false,
        journal,
        check_balance: true,
    })
    .expect("a pool")
}

fn filled(txs: &[PooledTx], ctx: &PoolContext, state: &Rich) -> Arc<Pool> {
    let pool = open(None);
    pool.add_recovered(txs.to_vec(), ctx, state);
    pool
}

fn transfer(nonce: u64, tip: u128) -> TxEip1559 {
    TxEip1559 {
        chain_id: 31337,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: 20 * u128::from(BASE_FEE) + tip,
        max_priority_fee_per_gas: tip,
        to: TxKind::Call(Address::repeat_byte(0xaa)),
        value: U256::ONE,
        ..TxEip1559::default()
    }
}

fn pooled(from: u64, nonce: u64) -> PooledTx {
    let sender = Address::from_word(B256::from(U256::from(from + 1)));
    let tx = Transaction::from(transfer(nonce, u128::from(from % 7 + 1)).into_signed(Signature::new(
        U256::ONE,
        U256::ONE,
        false,
    )));
    let raw: Bytes = tx.encoded_2718().into();
    let hash = alloy_primitives::keccak256([sender.as_slice(), &raw].concat());
    PooledTx { tx: Arc::new(SignedTx { tx, sender, hash, raw, impersonated: true }), sidecar: None }
}

fn signed(signer: &PrivateKeySigner, nonce: u64) -> Bytes {
    let tx = transfer(nonce, 1);
    let signature = signer.sign_hash_sync(&tx.signature_hash()).expect("a signature");
    Transaction::from(tx.into_signed(signature)).encoded_2718().into()
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn report(name: &str, items: usize, mut round: impl FnMut() -> Duration) {
    let best = (0..ROUNDS).map(|_| round()).min().unwrap_or_default();
    println!("{name} {} ns/item {items} items", best.as_nanos() / items as u128);
}
