//! Plays the calls of a consensus engine against whole engines: real store, executor and pool.

mod blocks;
mod control;
mod files;
mod opening;
mod waiting;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::keys;
use crate::state::SyncPolicy;

pub(super) const CHAIN_ID: u64 = 31_337;
pub(super) const GENESIS_TIME: u64 = 1_700_000_000;
const KEYS: [[u8; 32]; 2] = [[1; 32], [2; 32]];

pub(super) fn sender(index: usize) -> Address {
    keys::address_of(&KEYS[index]).unwrap()
}

pub(super) fn recipient() -> Address {
    Address::repeat_byte(0xaa)
}

pub(super) fn genesis(chain_id: u64, gas_limit: u64) -> Vec<u8> {
    let funded = json!({ "balance": "0x3635c9adc5dea00000" });
    json!({
        "config": {
            "chainId": chain_id, "homesteadBlock": 0, "eip150Block": 0, "eip155Block": 0, "eip158Block": 0,
            "byzantiumBlock": 0, "constantinopleBlock": 0, "petersburgBlock": 0, "istanbulBlock": 0,
            "berlinBlock": 0, "londonBlock": 0, "terminalTotalDifficulty": 0, "shanghaiTime": 0, "cancunTime": 0,
            "blobSchedule": { "cancun": { "target": 3, "max": 6, "baseFeeUpdateFraction": 3338477 } },
        },
        "difficulty": "0x0", "gasLimit": format!("{gas_limit:#x}"), "timestamp": format!("{GENESIS_TIME:#x}"),
        "baseFeePerGas": "0x3b9aca00",
        "alloc": { sender(0).to_string(): funded, sender(1).to_string(): funded },
    })
    .to_string()
    .into_bytes()
}

pub(super) fn config(data_dir: Option<&Path>) -> EngineConfig {
    EngineConfig {
        store: StoreOptions {
            path: data_dir.map(|path| path.join("state")),
            sync: SyncPolicy::Safe,
            history_blocks: None,
            max_bytes: 1 << 30,
        },
        pool: PoolConfig {
            max_pending: 10_000,
            max_queued: 1_000,
            max_per_account: 1_000,
            max_bytes: 64 << 20,
            max_nonce_gap: 1_000,
            min_tip: 0,
            fifo: false,
            journal: data_dir.map(|path| path.join("pool.journal")),
            check_balance: true,
        },
        genesis: genesis(CHAIN_ID, 30_000_000),
        data_dir: data_dir.map(Path::to_path_buf),
        coinbase: Address::repeat_byte(0xcb),
        gas_limit: 0,
        devnet: true,
    }
}

pub(super) fn engine() -> Arc<Engine> {
    Engine::open(config(None)).unwrap()
}

/// A transfer of 1 wei, signed.
pub(super) fn transfer(from: usize, nonce: u64) -> Bytes {
    let tx = json!({
        "type": "0x2", "chainId": CHAIN_ID, "nonce": format!("{nonce:#x}"), "gas": "0x5208",
        "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0x1", "to": recipient(), "value": "0x1",
    });
    keys::sign_transaction(&KEYS[from], &tx.to_string()).unwrap().into()
}

pub(super) fn submit(engine: &Engine, from: usize, nonce: u64) -> B256 {
    engine.submit(&[transfer(from, nonce)]).remove(0).unwrap()
}

pub(super) fn propose(engine: &Engine) -> Vec<u8> {
    engine.propose(&engine.next_attributes(GENESIS_TIME)).unwrap()
}

/// One block through all four steps.
pub(super) fn mine(engine: &Engine) -> Arc<Head> {
    let payload = propose(engine);
    assert_eq!(engine.process_proposal(&payload).unwrap(), Verdict::Accept);
    engine.finalize_block(&payload).unwrap();
    engine.commit().unwrap()
}

pub(super) fn balance(engine: &Engine, address: Address) -> U256 {
    let view = engine.view().unwrap();
    let account = view.latest().account(&address).unwrap();
    account.map_or(U256::ZERO, |account| account.balance)
}

/// The incremental root and one rebuilt from the flat state agree.
pub(super) fn assert_whole(engine: &Engine) {
    let (root, rebuilt) = engine.verify_state().unwrap();
    assert_eq!(root, rebuilt);
}
