//! Blocks without an EVM: a delta in, an executed block with real roots out.

use std::path::Path;
use std::sync::Arc;

use alloy_consensus::{Header, SignableTransaction, TxLegacy};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{address, keccak256, Address, LogData, Signature, TxKind, KECCAK256_EMPTY};
use alloy_trie::EMPTY_ROOT_HASH;

use crate::primitives::*;
use crate::state::{Head, Store, StoreOptions, SyncPolicy};

pub(super) const ALICE: Address = address!("00000000000000000000000000000000000a11ce");
pub(super) const BOB: Address = address!("0000000000000000000000000000000000000b0b");
pub(super) const TOKEN: Address = address!("00000000000000000000000000000000c0ffee00");

pub(super) fn options(path: Option<&Path>) -> StoreOptions {
    StoreOptions { path: path.map(Path::to_path_buf), sync: SyncPolicy::Safe, history_blocks: None, max_bytes: 1 << 30 }
}

pub(super) fn info(nonce: u64, balance: u64) -> AccountInfo {
    AccountInfo { nonce, balance: U256::from(balance), code_hash: KECCAK256_EMPTY }
}

/// An account as it stands after a change, without storage changes.
pub(super) fn account(nonce: u64, balance: u64) -> AccountDelta {
    AccountDelta { info: Some(info(nonce, balance)), ..Default::default() }
}

pub(super) fn with_slots(mut account: AccountDelta, slots: &[(u64, u64)]) -> AccountDelta {
    account.storage.extend(slots.iter().map(|(slot, value)| (U256::from(*slot), U256::from(*value))));
    account
}

pub(super) fn delta(accounts: impl IntoIterator<Item = (Address, AccountDelta)>) -> StateDelta {
    StateDelta { accounts: accounts.into_iter().collect(), code: Default::default() }
}

/// A fresh temporary store with `alloc` as its genesis.
pub(super) fn store_with(alloc: &StateDelta) -> Arc<Store> {
    let store = Store::open(options(None)).unwrap();
    genesis(&store, alloc);
    store
}

pub(super) fn genesis(store: &Store, alloc: &StateDelta) {
    let header = Header { state_root: Store::root_of(alloc), ..Default::default() };
    store.init_genesis(&header, alloc, b"the config").unwrap();
}

pub(super) fn head(store: &Store) -> Head {
    store.view().unwrap().unwrap().head().clone()
}

/// The block after the head that has the effect `delta`.
pub(super) fn next_block(store: &Store, delta: StateDelta) -> Arc<ExecutedBlock> {
    next_block_with(store, delta, Vec::new(), Vec::new())
}

pub(super) fn next_block_with(
    store: &Store,
    delta: StateDelta,
    transactions: Vec<Arc<SignedTx>>,
    receipts: Vec<Receipt>,
) -> Arc<ExecutedBlock> {
    let view = store.view().unwrap().unwrap();
    let mut roots = view.root_calculator();
    roots.apply(&delta).unwrap();
    let trie = roots.take_updates().unwrap();
    let parent = view.head();
    seal(&parent.header, parent.hash, delta, trie, transactions, receipts)
}

pub(super) fn seal(
    parent: &Header,
    parent_hash: B256,
    delta: StateDelta,
    trie: TrieUpdates,
    transactions: Vec<Arc<SignedTx>>,
    receipts: Vec<Receipt>,
) -> Arc<ExecutedBlock> {
    let header = Header {
        parent_hash,
        number: parent.number + 1,
        timestamp: parent.timestamp + 1,
        state_root: trie.root,
        ..Default::default()
    };
    let block = SealedBlock { hash: header.hash_slow(), header, transactions, ommers: Vec::new(), withdrawals: None };
    Arc::new(ExecutedBlock { block, receipts, delta, trie, requests: Vec::new() })
}

pub(super) fn commit(store: &Store, delta: StateDelta) -> Head {
    let block = next_block(store, delta);
    store.commit_blocks(&[block]).unwrap()
}

/// A transaction that no signature belongs to, different for every `nonce`.
pub(super) fn transaction(nonce: u64) -> Arc<SignedTx> {
    let tx = TxLegacy { nonce, gas_limit: 21_000, gas_price: 1, to: TxKind::Call(BOB), ..Default::default() };
    let tx: Transaction = tx.into_signed(Signature::test_signature()).into();
    let raw: Bytes = tx.encoded_2718().into();
    Arc::new(SignedTx { hash: keccak256(&raw), tx, sender: ALICE, raw, impersonated: nonce % 2 == 1 })
}

pub(super) fn receipt(logs: Vec<Log>) -> Receipt {
    let bloom = logs.iter().collect();
    Receipt {
        tx_type: 0,
        outcome: ReceiptOutcome::Status(true),
        cumulative_gas_used: 21_000,
        logs,
        bloom,
        gas_used: 21_000,
        effective_gas_price: 7,
        contract_address: None,
    }
}

pub(super) fn log(address: Address, topic: u8) -> Log {
    Log { address, data: LogData::new_unchecked(vec![B256::repeat_byte(topic)], vec![topic; 3].into()) }
}

/// The incremental root, the root rebuilt from the flat state and the published one are the same.
pub(super) fn assert_roots_agree(store: &Store) {
    let head = head(store);
    assert_eq!(store.rebuild_root().unwrap(), head.state_root);
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.root_calculator().root().unwrap(), head.state_root);
    if head.state_root == EMPTY_ROOT_HASH {
        let mut accounts = 0;
        view.for_each_account(&mut |_, _, _| {
            accounts += 1;
            true
        })
        .unwrap();
        assert_eq!(accounts, 0);
    }
}
