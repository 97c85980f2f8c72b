//! Devnet controls: clock, fees, edits, snapshots, rollback, impersonation.

use super::*;

fn set_balance(engine: &Engine, address: Address, wei: u64) {
    let edit = AccountEdit { balance: Some(U256::from(wei)), ..Default::default() };
    engine.edit_accounts(&BTreeMap::from([(address, edit)])).unwrap();
}

#[test]
fn an_edit_changes_the_state_without_a_block() {
    let engine = engine();
    let slot = U256::from(3);
    let edit = AccountEdit {
        balance: Some(U256::from(7)),
        nonce: Some(4),
        code: Some(Bytes::from_static(&[0x5b])),
        storage: BTreeMap::from([(slot, U256::from(9))]),
    };
    let head = engine.edit_accounts(&BTreeMap::from([(recipient(), edit)])).unwrap();
    assert_eq!(head.header.number, 0);
    let view = engine.view().unwrap();
    let account = view.latest().account(&recipient()).unwrap().unwrap();
    assert_eq!((account.balance, account.nonce), (U256::from(7), 4));
    assert_eq!(view.latest().storage(&recipient(), &slot).unwrap(), U256::from(9));
    assert_eq!(view.latest().code(&account.code_hash).unwrap().unwrap(), Bytes::from_static(&[0x5b]));
    assert_whole(&engine);
}

#[test]
fn an_edit_keeps_what_it_does_not_name() {
    let engine = engine();
    mine(&engine);
    let before = balance(&engine, sender(0));
    let edit = AccountEdit { nonce: Some(5), ..Default::default() };
    engine.edit_accounts(&BTreeMap::from([(sender(0), edit)])).unwrap();
    assert_eq!(balance(&engine, sender(0)), before);
}

#[test]
fn a_snapshot_brings_state_blocks_and_clock_back() {
    let engine = engine();
    let before = engine.head();
    let id = engine.snapshot().unwrap();
    engine.update_controls(&mut |controls| controls.time_offset = 1_000_000);
    set_balance(&engine, recipient(), 5);
    submit(&engine, 0, 0);
    mine(&engine);
    assert!(engine.revert(id).unwrap());
    let after = engine.head();
    assert_eq!((after.hash, after.state_root), (before.hash, before.state_root));
    assert_eq!(balance(&engine, recipient()), U256::ZERO);
    assert!(engine.controls().time_offset.abs() < 60);
    assert_whole(&engine);
    submit(&engine, 0, 0);
    mine(&engine);
}

#[test]
fn a_snapshot_is_consumed_by_its_revert_and_drops_later_ones() {
    let engine = engine();
    let (first, second, third) = (engine.snapshot().unwrap(), engine.snapshot().unwrap(), engine.snapshot().unwrap());
    assert_eq!((first, second, third), (0, 1, 2));
    assert!(engine.revert(second).unwrap());
    assert!(!engine.revert(second).unwrap());
    assert!(!engine.revert(third).unwrap());
    assert!(engine.revert(first).unwrap());
    assert!(!engine.revert(77).unwrap());
    assert_eq!(engine.snapshot().unwrap(), 3);
}

#[test]
fn a_snapshot_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    let id = engine.snapshot().unwrap();
    set_balance(&engine, recipient(), 5);
    mine(&engine);
    drop(engine);
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    assert!(engine.revert(id).unwrap());
    assert_eq!((engine.head().header.number, balance(&engine, recipient())), (0, U256::ZERO));
    assert_eq!(engine.snapshot().unwrap(), id + 1);
}

#[test]
fn a_rollback_drops_blocks_and_gives_their_transactions_back_if_asked() {
    let engine = engine();
    let hash = submit(&engine, 0, 0);
    mine(&engine);
    mine(&engine);
    engine.rollback(0, true).unwrap();
    assert_eq!(engine.head().header.number, 0);
    assert!(engine.pool().get(&hash).is_some());
    mine(&engine);
    engine.rollback(0, false).unwrap();
    assert_eq!(engine.pool().status(), (0, 0));
    assert!(engine.rollback(5, false).is_err());
    assert_whole(&engine);
}

#[test]
fn a_rollback_drops_the_snapshots_of_what_it_undid() {
    let engine = engine();
    let early = engine.snapshot().unwrap();
    mine(&engine);
    let late = engine.snapshot().unwrap();
    engine.rollback(0, false).unwrap();
    mine(&engine);
    assert!(!engine.revert(late).unwrap());
    assert!(engine.revert(early).unwrap());
}

#[test]
fn a_rewind_is_told_to_listeners() {
    let engine = engine();
    let mut events = engine.subscribe();
    set_balance(&engine, recipient(), 5);
    assert!(matches!(events.try_recv().unwrap(), ChainEvent::Rewound(_)));
}

#[test]
fn the_timestamp_is_the_clock_but_never_the_parents() {
    let engine = engine();
    assert_eq!(engine.next_attributes(GENESIS_TIME + 50).timestamp, GENESIS_TIME + 50);
    assert_eq!(engine.next_attributes(GENESIS_TIME - 50).timestamp, GENESIS_TIME + 1);
    engine.update_controls(&mut |controls| controls.time_offset = 100);
    assert_eq!(engine.next_attributes(GENESIS_TIME + 50).timestamp, GENESIS_TIME + 150);
    engine.update_controls(&mut |controls| controls.timestamp_interval = Some(12));
    assert_eq!(engine.next_attributes(GENESIS_TIME + 50).timestamp, GENESIS_TIME + 12);
}

#[test]
fn an_exact_timestamp_serves_one_block_and_the_clock_goes_on_from_it() {
    let engine = engine();
    let exact = GENESIS_TIME + 1_000_000_000;
    engine.update_controls(&mut |controls| controls.next_timestamp = Some(exact));
    assert_eq!(mine(&engine).header.timestamp, exact);
    assert_eq!(engine.controls().next_timestamp, None);
    let clock = engine.clock();
    assert!((exact..exact + 60).contains(&clock), "{clock}");
}

#[test]
fn a_base_fee_override_serves_one_block() {
    let engine = engine();
    engine.update_controls(&mut |controls| controls.next_base_fee = Some(7));
    assert_eq!(engine.pool_context().base_fee, 7);
    assert_eq!(mine(&engine).header.base_fee_per_gas, Some(7));
    assert_eq!(engine.controls().next_base_fee, None);
    assert_ne!(engine.pool_context().base_fee, 0);
}

#[test]
fn the_default_randao_depends_on_the_parent_and_an_override_serves_one_block() {
    let engine = engine();
    let first = engine.next_attributes(GENESIS_TIME).prevrandao;
    let chosen = B256::repeat_byte(4);
    engine.update_controls(&mut |controls| controls.next_prevrandao = Some(chosen));
    assert_eq!(mine(&engine).header.mix_hash, chosen);
    let second = engine.next_attributes(GENESIS_TIME).prevrandao;
    assert!(first != chosen && second != chosen && first != second);
}

#[test]
fn clock_and_impersonation_outlive_a_restart_but_one_block_controls_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    engine.update_controls(&mut |controls| {
        controls.time_offset = 500;
        controls.next_base_fee = Some(7);
        controls.impersonated.insert(recipient());
    });
    drop(engine);
    let controls = Engine::open(config(Some(directory.path()))).unwrap().controls();
    assert_eq!((controls.time_offset, controls.next_base_fee), (500, None));
    assert!(controls.impersonated.contains(&recipient()));
}

/// A transfer as an impersonated account sends it: its signature is of nobody.
fn unsigned_transfer(from: Address) -> SignedTx {
    use alloy_consensus::{SignableTransaction, TxEip1559};
    use alloy_eips::eip2718::Encodable2718;
    let tx = TxEip1559 {
        chain_id: CHAIN_ID,
        gas_limit: 21_000,
        max_fee_per_gas: 100_000_000_000,
        to: recipient().into(),
        value: U256::from(1),
        ..Default::default()
    };
    let signature = alloy_primitives::Signature::new(U256::from(1), U256::from_be_slice(from.as_slice()), false);
    let tx = Transaction::from(tx.into_signed(signature));
    let raw: Bytes = tx.encoded_2718().into();
    SignedTx { hash: alloy_primitives::keccak256(&raw), tx, sender: from, raw, impersonated: true }
}

#[test]
fn an_impersonated_transaction_is_mined_and_verified_by_another_devnet() {
    let (engine, other) = (engine(), engine());
    let from = Address::repeat_byte(0xbb);
    for node in [&engine, &other] {
        set_balance(node, from, u64::MAX);
    }
    assert!(engine.submit_impersonated(unsigned_transfer(from)).is_err());
    engine.update_controls(&mut |controls| {
        controls.impersonated.insert(from);
    });
    engine.submit_impersonated(unsigned_transfer(from)).unwrap();
    let payload = propose(&engine);
    assert_eq!(other.process_proposal(&payload).unwrap(), Verdict::Accept);
    mine(&engine);
    assert_eq!(balance(&engine, recipient()), U256::from(1));
    let view = engine.view().unwrap();
    assert_eq!(view.block(1).unwrap().unwrap().transactions[0].sender, from);
}

#[test]
fn the_oldest_snapshots_are_forgotten_beyond_the_bound() {
    let engine = engine();
    let first = engine.snapshot().unwrap();
    let mut last = first;
    for _ in 0..4096 {
        last = engine.snapshot().unwrap();
    }
    assert!(!engine.revert(first).unwrap());
    assert!(engine.revert(last).unwrap());
}

#[test]
fn a_pruned_snapshot_is_told_and_changes_nothing() {
    let mut pruning = config(None);
    pruning.store.history_blocks = Some(3);
    let engine = Engine::open(pruning).unwrap();
    let old = engine.snapshot().unwrap();
    for _ in 0..10 {
        mine(&engine);
    }
    let young = engine.snapshot().unwrap();
    let error = engine.revert(old).unwrap_err().to_string();
    assert!(error.contains("not kept"), "{error}");
    assert_eq!(engine.head().header.number, 10);
    assert!(engine.revert(young).unwrap());
    assert!(matches!(engine.view().unwrap().state_at(2), Err(ReadError::Pruned { requested: 2, .. })));
    assert!(engine.view().unwrap().state_at(9).is_ok());
}
