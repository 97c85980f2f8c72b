//! What execution costs: `cargo bench --no-default-features --bench execution [-- FILTER]`.
//!
//! One line per figure: `name value unit`, processor time of the process (Linux), which other load disturbs less
//! than wall time. States are in memory; roots are left out (see the `state` bench).

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_consensus::{Header, SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{bytes, keccak256, Signature, TxKind, KECCAK256_EMPTY};
use alloy_rpc_types_eth::TransactionRequest;
use zerog_native::execution::memory::MemoryState;
use zerog_native::execution::*;
use zerog_native::primitives::*;

/// As in the Python module, which brings its own when it is built in.
#[cfg(not(feature = "python"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SENDERS: u64 = 200;
const CHAIN_ID: u64 = 31337;

/// Processor time of the process in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1e9
}

fn address(seed: u64) -> Address {
    Address::from_word(keccak256(seed.to_be_bytes()))
}

fn contract(n: u8) -> Address {
    Address::with_last_byte(n)
}

/// Roots that cost nothing.
struct NoRoots;

impl RootCalculator for NoRoots {
    fn apply(&mut self, _delta: &StateDelta) -> Result<(), ReadError> {
        Ok(())
    }
    fn root(&mut self) -> Result<B256, ReadError> {
        Ok(B256::ZERO)
    }
    fn take_updates(&mut self) -> Result<TrieUpdates, ReadError> {
        Ok(TrieUpdates::default())
    }
}

struct Queue(VecDeque<Arc<SignedTx>>);

impl TxSource for Queue {
    fn next(&mut self) -> Option<Arc<SignedTx>> {
        self.0.pop_front()
    }
    fn reject(&mut self, _tx: &SignedTx, reason: SkipReason) {
        panic!("rejected: {reason:?}");
    }
}

fn state() -> MemoryState {
    let mut state = MemoryState::default();
    let mut put = |address: Address, code: Bytes| {
        let code_hash = if code.is_empty() { KECCAK256_EMPTY } else { keccak256(&code) };
        state.code.insert(code_hash, code);
        let info = AccountInfo { nonce: 0, balance: U256::from(10u128.pow(24)), code_hash };
        state.accounts.insert(address, (info, Default::default()));
    };
    for n in 0..SENDERS {
        put(address(n), Bytes::new());
    }
    // Storage slots of caller and argument are moved against each other, with a log: the shape of a token transfer.
    put(contract(0xe0), bytes!("3354602035900333555f3580546020350190556020355f525f35335f60205fa300"));
    // Empty request lists.
    for predeploy in [
        alloy_eips::eip7002::WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS,
        alloy_eips::eip7251::CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS,
    ] {
        put(predeploy, bytes!("5f5ff3"));
    }
    state
}

fn transaction(n: u64, to: Address, input: Bytes, gas_limit: u64) -> Arc<SignedTx> {
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        nonce: n / SENDERS,
        gas_limit,
        max_fee_per_gas: 20_000_000_000,
        max_priority_fee_per_gas: 1_000_000_000,
        to: TxKind::Call(to),
        value: U256::from(1),
        input,
        ..TxEip1559::default()
    };
    let tx: Transaction = tx.into_signed(Signature::test_signature()).into();
    Arc::new(SignedTx {
        sender: address(n % SENDERS),
        hash: *tx.tx_hash(),
        raw: tx.encoded_2718().into(),
        impersonated: false,
        tx,
    })
}

fn parent() -> Header {
    Header {
        gas_limit: 3_000_000_000,
        base_fee_per_gas: Some(1_000_000_000),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        ..Header::default()
    }
}

fn build(name: &str, transactions: Vec<Arc<SignedTx>>) {
    let (spec, state, parent) = (ChainSpec::at(Fork::Osaka, CHAIN_ID), state(), parent());
    let attributes = BlockAttributes {
        timestamp: 1,
        beneficiary: Address::ZERO,
        prevrandao: B256::ZERO,
        gas_limit: 3_000_000_000,
        base_fee: None,
        withdrawals: Vec::new(),
        parent_beacon_block_root: B256::ZERO,
        extra_data: Bytes::new(),
        max_transactions: None,
    };
    let count = transactions.len();
    let mut best = f64::MAX;
    // The clock is coarse: short blocks are built many times.
    let rounds = (20_000 / count).max(1);
    for _ in 0..7 {
        let start = cpu();
        for _ in 0..rounds {
            let mut queue = Queue(transactions.clone().into());
            let block = build_block(&spec, &parent, B256::ZERO, &attributes, &state, &mut NoRoots, &mut queue);
            let block = block.expect("a block");
            assert!(block.receipts.iter().all(|receipt| receipt.outcome == ReceiptOutcome::Status(true)));
            assert_eq!(block.receipts.len(), count);
        }
        best = best.min(cpu() - start);
    }
    println!("{name} {:.3} µs/tx", best * 1e6 / (count * rounds) as f64);
}

fn calls(name: &str, request: &TransactionRequest) {
    let (spec, state) = (ChainSpec::at(Fork::Osaka, CHAIN_ID), state());
    let context = BlockContext::of(&parent());
    let options = CallOptions { gas_cap: 50_000_000, ..CallOptions::default() };
    let mut best = f64::MAX;
    const COUNT: u32 = 5_000;
    for _ in 0..5 {
        let start = cpu();
        for _ in 0..COUNT {
            call(&spec, &context, &state, request, &options).expect("a call");
        }
        best = best.min(cpu() - start);
    }
    println!("{name} {:.3} µs/call", best * 1e6 / f64::from(COUNT));
    let start = cpu();
    for _ in 0..COUNT {
        estimate_gas(&spec, &context, &state, request, &options).expect("an estimate");
    }
    println!("{name}/estimate {:.3} µs/call", (cpu() - start) * 1e6 / f64::from(COUNT));
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let wanted = |name: &str| name.contains(&filter);
    if wanted("transfer") {
        let fresh = |n: u64| address(1 << 32 | n);
        build("transfer", (0..20_000).map(|n| transaction(n, fresh(n), Bytes::new(), 21_000)).collect());
    }
    if wanted("token") {
        let input = |n: u64| [address(1 << 32 | n).into_word().as_slice(), &U256::from(1).to_be_bytes::<32>()].concat();
        let all = (0..10_000).map(|n| transaction(n, contract(0xe0), input(n).into(), 120_000)).collect();
        build("token", all);
    }
    if wanted("automine") {
        build("automine", vec![transaction(0, address(1 << 32), Bytes::new(), 21_000)]);
    }
    if wanted("call") {
        let to = Some(TxKind::Call(contract(0xe0)));
        let from = Some(address(1));
        calls("call", &TransactionRequest { from, to, input: Bytes::from(vec![0; 64]).into(), ..Default::default() });
    }
}
