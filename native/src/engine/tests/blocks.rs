//! The ABCI grammar: propose, verify, finalize, commit, with crashes in between.

use super::*;
use crate::engine::payload;

#[test]
fn a_committed_block_holds_the_pooled_transaction_and_its_receipt() {
    let engine = engine();
    let hash = submit(&engine, 0, 0);
    let head = mine(&engine);
    assert_eq!(head.header.number, 1);
    let view = engine.view().unwrap();
    let at = view.locate(&hash).unwrap().unwrap();
    assert_eq!((at.block, at.index), (1, 0));
    let (receipt, _) = view.receipt(at).unwrap().unwrap();
    assert_eq!(receipt.outcome, ReceiptOutcome::Status(true));
    assert_eq!(balance(&engine, recipient()), U256::from(1));
    assert_eq!(engine.pool().status(), (0, 0));
    assert_whole(&engine);
}

#[test]
fn nothing_is_visible_before_commit() {
    let engine = engine();
    submit(&engine, 0, 0);
    let payload = propose(&engine);
    engine.process_proposal(&payload).unwrap();
    engine.finalize_block(&payload).unwrap();
    assert_eq!(engine.head().header.number, 0);
    assert_eq!(balance(&engine, recipient()), U256::ZERO);
}

#[test]
fn another_node_accepts_the_proposal_and_gets_the_same_block() {
    let (proposer, validator) = (engine(), engine());
    submit(&proposer, 0, 0);
    let payload = propose(&proposer);
    assert_eq!(validator.process_proposal(&payload).unwrap(), Verdict::Accept);
    validator.finalize_block(&payload).unwrap();
    proposer.finalize_block(&payload).unwrap();
    let (here, there) = (proposer.commit().unwrap(), validator.commit().unwrap());
    assert_eq!((here.hash, here.state_root), (there.hash, there.state_root));
}

#[test]
fn finalize_works_without_a_proposal_step() {
    let (proposer, follower) = (engine(), engine());
    submit(&proposer, 0, 0);
    let payload = propose(&proposer);
    let block = follower.finalize_block(&payload).unwrap();
    assert_eq!(follower.commit().unwrap().hash, block.block.hash);
}

#[test]
fn finalize_may_come_twice() {
    let engine = engine();
    submit(&engine, 0, 0);
    let payload = propose(&engine);
    let first = engine.finalize_block(&payload).unwrap();
    let second = engine.finalize_block(&payload).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(engine.commit().unwrap().header.number, 1);
}

#[test]
fn the_last_finalized_payload_is_the_one_committed() {
    let engine = engine();
    let empty = propose(&engine);
    submit(&engine, 0, 0);
    let full = propose(&engine);
    engine.finalize_block(&empty).unwrap();
    let decided = engine.finalize_block(&full).unwrap();
    assert_eq!(engine.commit().unwrap().hash, decided.block.hash);
}

#[test]
fn commit_without_a_finalized_block_is_an_error() {
    let engine = engine();
    assert!(engine.commit().is_err());
    mine(&engine);
    assert!(engine.commit().is_err());
    assert_eq!(engine.head().header.number, 1);
}

#[test]
fn a_payload_for_another_height_is_rejected() {
    let engine = engine();
    let payload = propose(&engine);
    mine(&engine);
    let Verdict::Reject(reason) = engine.process_proposal(&payload).unwrap() else { panic!("accepted") };
    assert!(reason.contains("number 1, expected 2"), "{reason}");
    assert!(engine.finalize_block(&payload).is_err());
}

#[test]
fn every_altered_root_is_rejected_and_changes_nothing() {
    let engine = engine();
    submit(&engine, 0, 0);
    let block = payload::decode(&propose(&engine), true).unwrap();
    let wrong = B256::repeat_byte(9);
    let alterations: [fn(&mut alloy_consensus::Header, B256); 6] = [
        |header, wrong| header.state_root = wrong,
        |header, wrong| header.receipts_root = wrong,
        |header, wrong| header.transactions_root = wrong,
        |header, _| header.gas_used += 1,
        |header, _| header.timestamp = GENESIS_TIME - 1,
        |header, wrong| header.parent_hash = wrong,
    ];
    for (index, alter) in alterations.iter().enumerate() {
        let mut altered = block.clone();
        alter(&mut altered.header, wrong);
        let bytes = payload::encode(&altered).unwrap();
        let verdict = engine.process_proposal(&bytes).unwrap();
        assert!(matches!(verdict, Verdict::Reject(_)), "alteration {index} was accepted");
    }
    assert_eq!(engine.head().header.number, 0);
    mine(&engine);
}

#[test]
fn a_transaction_that_cannot_run_gets_its_block_rejected() {
    let engine = engine();
    submit(&engine, 0, 0);
    let mut block = payload::decode(&propose(&engine), true).unwrap();
    block.transactions.push(block.transactions[0].clone());
    let verdict = engine.process_proposal(&payload::encode(&block).unwrap()).unwrap();
    assert!(matches!(verdict, Verdict::Reject(_)));
}

#[test]
fn garbage_is_rejected_as_a_proposal_and_refused_as_a_decision() {
    let engine = engine();
    assert!(matches!(engine.process_proposal(b"garbage").unwrap(), Verdict::Reject(_)));
    assert!(matches!(engine.finalize_block(b"garbage"), Err(EngineError::Payload(_))));
}

#[test]
fn any_number_of_proposals_at_one_height_leaves_the_decided_one_usable() {
    let engine = engine();
    let mut payloads = Vec::new();
    for extra in 0..12u8 {
        let mut attributes = engine.next_attributes(GENESIS_TIME);
        attributes.extra_data = vec![extra].into();
        payloads.push(engine.propose(&attributes).unwrap());
    }
    let decided = engine.finalize_block(&payloads[0]).unwrap();
    assert_eq!(engine.commit().unwrap().hash, decided.block.hash);
}

#[test]
fn an_edit_voids_what_was_executed_before_it() {
    let engine = engine();
    let payload = propose(&engine);
    engine.finalize_block(&payload).unwrap();
    let edits = BTreeMap::from([(recipient(), AccountEdit { balance: Some(U256::from(5)), ..Default::default() })]);
    engine.edit_accounts(&edits).unwrap();
    assert!(engine.commit().is_err());
    assert!(matches!(engine.process_proposal(&payload).unwrap(), Verdict::Reject(_)));
    mine(&engine);
    assert_whole(&engine);
}

#[test]
fn a_crash_before_commit_loses_the_block_and_the_replay_gives_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    submit(&engine, 0, 0);
    let payload = propose(&engine);
    let block = engine.finalize_block(&payload).unwrap();
    drop(engine);
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    assert_eq!(engine.head().header.number, 0);
    engine.finalize_block(&payload).unwrap();
    assert_eq!(engine.commit().unwrap().hash, block.block.hash);
}

#[test]
fn a_crash_after_commit_keeps_the_block() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    let hash = submit(&engine, 0, 0);
    let head = mine(&engine);
    drop(engine);
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    assert_eq!(engine.head().hash, head.hash);
    assert!(engine.view().unwrap().locate(&hash).unwrap().is_some());
    assert_whole(&engine);
    mine(&engine);
}

#[test]
fn automine_attributes_take_one_transaction_per_block() {
    let engine = engine();
    for nonce in 0..3 {
        submit(&engine, 0, nonce);
    }
    for _ in 0..3 {
        let mut attributes = engine.next_attributes(GENESIS_TIME);
        attributes.max_transactions = Some(1);
        let payload = engine.propose(&attributes).unwrap();
        assert_eq!(engine.finalize_block(&payload).unwrap().block.transactions.len(), 1);
        engine.commit().unwrap();
    }
    assert_eq!(engine.wait_work(Duration::ZERO), Work::Timeout);
}

#[test]
fn committed_blocks_are_told_to_listeners_in_order() {
    let engine = engine();
    let mut events = engine.subscribe();
    submit(&engine, 0, 0);
    mine(&engine);
    mine(&engine);
    let mut numbers = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event {
            ChainEvent::Committed(block) => numbers.push(block.block.header.number),
            ChainEvent::Pending(txs) => assert_eq!(txs.len(), 1),
            ChainEvent::Rewound(_) => panic!("nothing was rewound"),
        }
    }
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn the_pending_block_shows_the_pool_and_is_computed_once() {
    let engine = engine();
    assert!(engine.pending_block().unwrap().block.transactions.is_empty());
    let hash = submit(&engine, 0, 0);
    let pending = engine.pending_block().unwrap();
    assert_eq!(pending.block.transactions[0].hash, hash);
    engine.update_controls(&mut |controls| controls.timestamp_interval = Some(1));
    let first = engine.pending_block().unwrap();
    assert!(Arc::ptr_eq(&first, &engine.pending_block().unwrap()));
    mine(&engine);
    assert!(engine.pending_block().unwrap().block.transactions.is_empty());
}

#[test]
fn blocks_are_committed_while_the_store_is_synced() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                engine.store().sync().unwrap();
            }
        });
        for nonce in 0..200 {
            submit(&engine, 0, nonce);
            mine(&engine);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(engine.head().header.number, 200);
    assert_whole(&engine);
}

#[test]
fn a_block_takes_no_more_bytes_than_a_payload() {
    let mut roomy = config(None);
    roomy.genesis = genesis(CHAIN_ID, u64::MAX >> 1);
    roomy.pool.max_bytes = 1 << 30;
    let engine = Engine::open(roomy).unwrap();
    let edit = AccountEdit { balance: Some(U256::MAX >> 1), ..Default::default() };
    engine.edit_accounts(&BTreeMap::from([(sender(0), edit)])).unwrap();
    // Zero bytes are the cheapest: 4 gas each, so gas alone would let far more in.
    let data = format!("0x{}", "00".repeat(120_000));
    let count = super::super::MAX_PAYLOAD_BYTES / 120_000 + 20;
    for nonce in 0..count {
        let tx = json!({
            "type": "0x2", "chainId": CHAIN_ID, "nonce": format!("{nonce:#x}"), "gas": "0x16e360",
            "maxFeePerGas": "0x174876e800", "maxPriorityFeePerGas": "0x1", "to": recipient(), "data": data,
        });
        let raw = keys::sign_transaction(&KEYS[0], &tx.to_string()).unwrap();
        engine.submit(&[raw.into()]).remove(0).unwrap();
    }
    mine(&engine);
    let (pending, _) = engine.pool().status();
    assert!((1..count).contains(&pending), "{pending} of {count} stay for the next block");
    mine(&engine);
    assert_eq!(engine.pool().status(), (0, 0));
}
