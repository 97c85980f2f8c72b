//! Block data, latest state, logs and proofs as a reader sees them.

use alloy_primitives::keccak256;
use alloy_trie::proof::verify_proof;
use alloy_trie::{Nibbles, TrieAccount};

use super::support::*;
use crate::primitives::*;
use crate::state::{StateError, TxLocation};

#[test]
fn before_genesis_there_is_no_view() {
    let store = crate::state::Store::open(options(None)).unwrap();
    assert!(store.view().unwrap().is_none());
}

#[test]
fn genesis_state_config_and_root_are_readable() {
    let store = store_with(&delta([(ALICE, account(0, 5)), (TOKEN, with_slots(account(1, 0), &[(1, 2)]))]));
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.config().unwrap(), b"the config");
    assert_eq!(view.latest().account(&ALICE).unwrap(), Some(info(0, 5)));
    assert_eq!(view.latest().account(&BOB).unwrap(), None);
    assert_eq!(view.latest().storage(&TOKEN, &U256::from(1)).unwrap(), U256::from(2));
    assert_eq!(view.latest().storage(&TOKEN, &U256::from(2)).unwrap(), U256::ZERO);
    assert_roots_agree(&store);
}

#[test]
fn a_genesis_header_with_another_root_is_refused() {
    let store = crate::state::Store::open(options(None)).unwrap();
    let error = store.init_genesis(&Default::default(), &delta([(ALICE, account(0, 5))]), b"").unwrap_err();
    assert!(matches!(error, StateError::Corrupt(_)), "{error}");
    assert!(store.view().unwrap().is_none());
}

#[test]
fn a_committed_block_is_found_by_number_hash_and_transaction() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    let transactions = vec![transaction(0), transaction(1)];
    let receipts = vec![receipt(vec![log(TOKEN, 1)]), receipt(vec![log(TOKEN, 2), log(BOB, 1)])];
    let block = next_block_with(&store, delta([(ALICE, account(2, 4))]), transactions.clone(), receipts.clone());
    store.commit_blocks(std::slice::from_ref(&block)).unwrap();

    let view = store.view().unwrap().unwrap();
    let hash = block.block.hash;
    assert_eq!(view.number(&hash).unwrap(), Some(1));
    assert_eq!(view.hash(1).unwrap(), Some(hash));
    assert_eq!(view.header(1).unwrap(), Some(block.block.header.clone()));
    assert_eq!(view.header(0).unwrap().unwrap().number, 0);
    assert_eq!(view.header(2).unwrap(), None);
    assert_eq!(view.transaction_count(1).unwrap(), Some(2));
    let at = TxLocation { block: 1, index: 1 };
    assert_eq!(view.locate(&transactions[1].hash).unwrap(), Some(at));
    assert_eq!(view.number(&transactions[1].hash).unwrap(), None);
    assert_eq!(view.locate(&hash).unwrap(), None);
    let found = view.transaction(at).unwrap().unwrap();
    assert_eq!((found.hash, found.sender, found.impersonated), (transactions[1].hash, ALICE, true));
    assert_eq!((found.raw, found.tx), (transactions[1].raw.clone(), transactions[1].tx.clone()));
    assert_eq!(view.receipt(at).unwrap(), Some((receipts[1].clone(), 1)));
    assert_eq!(view.receipts(1).unwrap(), Some(receipts));
    assert_eq!(view.receipts(2).unwrap(), None);
    let sealed = view.block(1).unwrap().unwrap();
    assert_eq!((sealed.hash, sealed.header, sealed.transactions.len()), (hash, block.block.header.clone(), 2));
}

#[test]
fn blocks_that_do_not_follow_the_head_are_refused() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    let block = next_block(&store, delta([(ALICE, account(1, 4))]));
    store.commit_blocks(std::slice::from_ref(&block)).unwrap();
    let error = store.commit_blocks(&[block]).unwrap_err();
    assert!(matches!(error, StateError::OutOfOrder { number: 1, head: 1 }), "{error}");
}

#[test]
fn a_block_executed_before_an_edit_is_refused_after_it() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    let block = next_block(&store, delta([(ALICE, account(1, 4))]));
    store.commit_edit(&delta([(BOB, account(0, 9))])).unwrap();
    assert!(matches!(store.commit_blocks(&[block]), Err(StateError::OutOfOrder { .. })));
    assert_roots_agree(&store);
}

#[test]
fn several_blocks_commit_in_one_transaction() {
    let store = store_with(&delta([(ALICE, account(0, 5)), (TOKEN, with_slots(account(1, 0), &[(7, 7)]))]));
    let view = store.view().unwrap().unwrap();
    let mut roots = view.root_calculator();
    let (mut parent, mut parent_hash) = ((*view.head().header).clone(), view.head().hash);
    let mut blocks = Vec::new();
    for nonce in 1..5 {
        let change =
            delta([(ALICE, account(nonce, 5)), (TOKEN, with_slots(account(1, 0), &[(nonce, nonce), (nonce - 1, 0)]))]);
        roots.apply(&change).unwrap();
        let block = seal(&parent, parent_hash, change, roots.take_updates().unwrap(), vec![], vec![]);
        (parent, parent_hash) = (block.block.header.clone(), block.block.hash);
        blocks.push(block);
    }
    drop(roots);
    let head = store.commit_blocks(&blocks).unwrap();
    assert_eq!((head.header.number, head.version), (4, 4));
    assert_roots_agree(&store);
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.state_at(2).unwrap().account(&ALICE).unwrap(), Some(info(2, 5)));
    assert_eq!(view.state_at(2).unwrap().storage(&TOKEN, &U256::from(2)).unwrap(), U256::from(2));
    assert_eq!(view.latest().storage(&TOKEN, &U256::from(2)).unwrap(), U256::ZERO);
}

#[test]
fn log_blocks_match_address_and_first_topic() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    for (nonce, logs) in [(0, vec![log(TOKEN, 1)]), (1, vec![]), (2, vec![log(BOB, 1)]), (3, vec![log(TOKEN, 2)])] {
        let block = next_block_with(&store, delta([]), vec![transaction(nonce)], vec![receipt(logs)]);
        store.commit_blocks(&[block]).unwrap();
    }
    let view = store.view().unwrap().unwrap();
    let (one, two) = (B256::repeat_byte(1), B256::repeat_byte(2));
    let blocks =
        |from, to, addresses: &[Address], topics: &[B256]| view.log_blocks(from, to, addresses, topics).unwrap();
    assert_eq!(blocks(0, 9, &[], &[]), [1, 3, 4]);
    assert_eq!(blocks(2, 3, &[], &[]), [3]);
    assert_eq!(blocks(0, 9, &[TOKEN], &[]), [1, 4]);
    assert_eq!(blocks(0, 9, &[BOB, TOKEN], &[]), [1, 3, 4]);
    assert_eq!(blocks(0, 9, &[], &[one]), [1, 3]);
    assert_eq!(blocks(0, 9, &[TOKEN], &[one]), [1]);
    assert_eq!(blocks(0, 9, &[TOKEN], &[one, two]), [1, 4]);
    assert_eq!(blocks(0, 9, &[BOB], &[two]), [0u64; 0]);
}

#[test]
fn a_view_keeps_its_snapshot_while_the_writer_moves_on() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    let before = store.view().unwrap().unwrap();
    commit(&store, delta([(ALICE, account(1, 4))]));
    assert_eq!(before.head().header.number, 0);
    assert_eq!(before.latest().account(&ALICE).unwrap(), Some(info(0, 5)));
    let after = store.view().unwrap().unwrap();
    assert_eq!(after.latest().account(&ALICE).unwrap(), Some(info(1, 4)));
}

#[test]
fn meta_values_are_kept_and_deleted() {
    let store = store_with(&delta([]));
    store.put_meta("snapshots", Some(b"1,2")).unwrap();
    assert_eq!(store.view().unwrap().unwrap().meta("snapshots").unwrap(), Some(b"1,2".to_vec()));
    store.put_meta("snapshots", None).unwrap();
    assert_eq!(store.view().unwrap().unwrap().meta("snapshots").unwrap(), None);
}

#[test]
fn writing_a_meta_value_again_does_not_hide_the_next_commit() {
    let store = store_with(&delta([]));
    commit(&store, delta([(ALICE, account(0, 1))]));
    for _ in 0..2 {
        store.put_meta("snapshots", Some(b"1,2")).unwrap();
        store.put_meta("nothing", None).unwrap();
    }
    let (head, _) = store.revert_to(0).unwrap();
    assert_eq!(head.header.number, 0);
    assert_eq!(store.view().unwrap().unwrap().head().header.number, 0);
}

#[test]
fn code_is_found_by_its_hash() {
    let code = Bytes::from_static(&[0x60, 0x00]);
    let mut alloc = delta([(ALICE, account(0, 5))]);
    alloc.code.insert(keccak256(&code), code.clone());
    let store = store_with(&alloc);
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.latest().code(&keccak256(&code)).unwrap(), Some(code));
    assert_eq!(view.latest().code(&B256::ZERO).unwrap(), None);
}

#[test]
fn block_hashes_are_known_up_to_the_position() {
    let store = store_with(&delta([]));
    let one = commit(&store, delta([(ALICE, account(0, 1))]));
    commit(&store, delta([(ALICE, account(0, 2))]));
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.state_at(1).unwrap().block_hash(1).unwrap(), Some(one.hash));
    assert_eq!(view.state_at(1).unwrap().block_hash(2).unwrap(), None);
}

#[test]
fn proofs_verify_at_the_head_and_at_earlier_blocks() {
    let many = (0..40u8).map(|i| (Address::repeat_byte(i), account(1, i.into())));
    let store = store_with(&delta(many.chain([(TOKEN, with_slots(account(1, 0), &[(1, 1), (2, 2), (3, 3)]))])));
    commit(&store, delta([(TOKEN, with_slots(account(1, 0), &[(1, 0), (9, 9)])), (ALICE, account(0, 1))]));
    commit(&store, delta([(TOKEN, AccountDelta::default()), (Address::repeat_byte(3), AccountDelta::default())]));
    let view = store.view().unwrap().unwrap();
    for number in 0..=2 {
        let root = view.header(number).unwrap().unwrap().state_root;
        for address in [ALICE, TOKEN, BOB, Address::repeat_byte(3)] {
            let slots = [1, 2, 9, 10].map(U256::from);
            let proof = view.proof(number, &address, &slots).unwrap();
            assert_eq!(proof.info, view.state_at(number).unwrap().account(&address).unwrap());
            let value = proof.info.as_ref().map(|info| {
                alloy_rlp::encode(TrieAccount {
                    nonce: info.nonce,
                    balance: info.balance,
                    storage_root: proof.storage_root,
                    code_hash: info.code_hash,
                })
            });
            verify_proof(root, Nibbles::unpack(keccak256(address)), value, &proof.account_proof).unwrap();
            for (slot, value, nodes) in &proof.storage {
                let expected = (!value.is_zero()).then(|| alloy_rlp::encode(value));
                let key = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
                verify_proof(proof.storage_root, key, expected, nodes).unwrap();
            }
        }
    }
}
