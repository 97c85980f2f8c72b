//! CPU time per call of the hot `eth` methods, without a socket:
//! `cargo run --release --no-default-features --example eth_methods`.
//!
//! One hundred blocks of five token transfers each, like the reads of `benchmarks/rpc.py`.

use std::fs;
use std::sync::Arc;

use alloy_primitives::Address;
use serde_json::{json, Value};
use zerog_native::engine::{Engine, EngineConfig};
use zerog_native::pool::PoolConfig;
use zerog_native::rpc::{Accounts, Context, Dispatcher, RpcConfig};
use zerog_native::state::{StoreOptions, SyncPolicy};

const JUNK: &str = "test test test test test test test test test test test junk";
const ALICE: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";
const STRANGER: &str = "0x00000000000000000000000000000000000000ff";
/// Emits LOG2 with one word of data; a call with a word of data answers that word's slot.
const TOKEN: &str = "0x0000000000000000000000000000000000001099";
const TOKEN_CODE: &str = "0x6020361415601257600035545f5260205ff35b3360aa60075f5260205fa200";

fn engine() -> Arc<Engine> {
    let genesis = json!({
        "config": {
            "chainId": 31337, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0, "berlinBlock": 0,
            "londonBlock": 0, "terminalTotalDifficulty": 0, "shanghaiTime": 0, "cancunTime": 0,
            "blobSchedule": {"cancun": {"target": 3, "max": 6, "baseFeeUpdateFraction": 3338477}},
        },
        "gasLimit": "0x1c9c380", "difficulty": "0x0", "baseFeePerGas": "0x3b9aca00", "timestamp": "0x1",
        "alloc": {
            ALICE: {"balance": "0x21e19e0c9bab2400000"},
            TOKEN: {"balance": "0x0", "code": TOKEN_CODE},
        },
    });
    Engine::open(EngineConfig {
        store: StoreOptions { path: None, sync: SyncPolicy::Safe, history_blocks: None, max_bytes: 1 << 30 },
        pool: PoolConfig {
            max_pending: 10_000,
            max_queued: 1_000,
            max_per_account: 1_000,
            max_bytes: 64 << 20,
            max_nonce_gap: 1_000,
            min_tip: 0,
            fifo: false,
            journal: None,
            check_balance: true,
        },
        genesis: genesis.to_string().into_bytes(),
        data_dir: None,
        coinbase: Address::ZERO,
        gas_limit: 30_000_000,
        devnet: true,
    })
    .unwrap()
}

/// Nanoseconds that this thread has spent on a processor.
fn cpu() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn main() {
    let engine = engine();
    engine.set_automine(false);
    let accounts = Accounts::Mnemonic { mnemonic: JUNK.to_owned(), path: "m/44'/60'/0'/0/".to_owned(), count: 1 };
    let context = Context::new(Arc::clone(&engine), RpcConfig { accounts, ..RpcConfig::default() }).unwrap();
    let dispatcher = Arc::new(Dispatcher::new(Arc::new(context), None));
    let ask = |method: &str, params: &Value| dispatcher.call_blocking(method, &params.to_string()).unwrap();
    let mut last = Value::Null;
    for time in 0..100u64 {
        for _ in 0..5 {
            let transfer = json!([{"from": ALICE, "to": TOKEN, "gas": "0x186a0"}]);
            last = serde_json::from_str(&ask("eth_sendTransaction", &transfer)).unwrap();
        }
        let payload = engine.propose(&engine.next_attributes(1_700_000_000 + time)).unwrap();
        engine.finalize_block(&payload).unwrap();
        engine.commit().unwrap();
    }
    let word = format!("0x{}", "00".repeat(32));
    let cases = [
        ("eth_blockNumber", json!([])),
        ("eth_getBalance", json!([ALICE, "latest"])),
        ("eth_call", json!([{"from": ALICE, "to": TOKEN, "data": word}, "latest"])),
        ("eth_estimateGas", json!([{"from": ALICE, "to": TOKEN}])),
        ("eth_estimateGas", json!([{"from": ALICE, "to": STRANGER, "value": "0x1"}])),
        ("eth_getTransactionReceipt", json!([last])),
        ("eth_getBlockByNumber", json!(["0x32", false])),
        ("eth_getLogs", json!([{"fromBlock": "0x32", "toBlock": "0x32", "address": TOKEN}])),
        ("eth_getLogs", json!([{"fromBlock": "0x1", "toBlock": "0x64", "address": TOKEN}])),
        ("eth_getLogs", json!([{"fromBlock": "0x1", "toBlock": "0x64", "address": STRANGER}])),
    ];
    for (method, params) in cases {
        let text = params.to_string();
        let bytes = dispatcher.call_blocking(method, &text).unwrap().len();
        let (mut calls, start) = (0u32, cpu());
        while cpu() - start < 300_000_000 {
            for _ in 0..32 {
                dispatcher.call_blocking(method, &text).unwrap();
            }
            calls += 32;
        }
        let each = (cpu() - start) as f64 / f64::from(calls) / 1_000.0;
        let shown: String = text.chars().take(60).collect();
        println!("{method:28} {each:9.2} µs  {bytes:7} bytes  {shown}");
    }
}
