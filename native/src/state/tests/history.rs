//! Versions: edits, going back, pruning.

use std::sync::Arc;

use super::support::*;
use crate::primitives::*;
use crate::state::{StateError, Store, StoreOptions, TxLocation};

fn pruning(history_blocks: u64) -> StoreOptions {
    StoreOptions { history_blocks: Some(history_blocks), ..options(None) }
}

fn balance(store: &Store, block: u64) -> Result<u64, ReadError> {
    let view = store.view().unwrap().unwrap();
    let account = view.state_at(block)?.account(&ALICE)?;
    Ok(account.map_or(0, |info| info.balance.to()))
}

#[test]
fn an_edit_is_a_version_of_the_same_block() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    let one = commit(&store, delta([(ALICE, account(0, 6))]));
    let edited =
        store.commit_edit(&delta([(ALICE, account(0, 7)), (BOB, with_slots(account(1, 1), &[(1, 1)]))])).unwrap();
    assert_eq!((edited.header.number, edited.hash, edited.version), (1, one.hash, 2));
    assert_ne!(edited.state_root, one.state_root);
    assert_eq!(balance(&store, 1).unwrap(), 7);
    assert_eq!(balance(&store, 0).unwrap(), 5);
    commit(&store, delta([(ALICE, account(0, 8))]));
    assert_eq!(balance(&store, 1).unwrap(), 7, "the state of a block includes its edits");
    assert_roots_agree(&store);
}

#[test]
fn reverting_an_edit_leaves_the_block() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    let one = commit(&store, delta([(ALICE, account(0, 6))]));
    store.commit_edit(&delta([(ALICE, AccountDelta::default())])).unwrap();
    assert_eq!(store.view().unwrap().unwrap().latest().account(&ALICE).unwrap(), None);
    let (head, dropped) = store.revert_to(one.version).unwrap();
    assert_eq!((head.hash, head.state_root, head.version), (one.hash, one.state_root, one.version));
    assert!(dropped.is_empty());
    assert_eq!(balance(&store, 1).unwrap(), 6);
    assert_roots_agree(&store);
}

#[test]
fn reverting_drops_blocks_and_gives_their_transactions_back_in_order() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    let start = head(&store);
    let mut hashes = Vec::new();
    for nonce in 0..3 {
        let change = delta([(ALICE, with_slots(account(nonce + 1, 5), &[(nonce, 1)]))]);
        let logs = vec![receipt(vec![log(TOKEN, nonce as u8)])];
        let block = next_block_with(&store, change, vec![transaction(nonce)], logs);
        hashes.push(store.commit_blocks(&[block]).unwrap().hash);
    }
    let (back, dropped) = store.revert_to(start.version).unwrap();
    assert_eq!((back.hash, back.state_root), (start.hash, start.state_root));
    assert_eq!(dropped.iter().map(|tx| tx.hash).collect::<Vec<_>>(), [0, 1, 2].map(|n| transaction(n).hash));
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.history_rows().unwrap(), 0);
    assert_eq!(view.latest().account(&ALICE).unwrap(), Some(info(0, 5)));
    assert_eq!(view.latest().storage(&ALICE, &U256::from(1)).unwrap(), U256::ZERO);
    assert_eq!(view.log_blocks(0, 9, &[], &[]).unwrap(), [0u64; 0]);
    for (number, hash) in (1..).zip(hashes) {
        assert_eq!(view.number(&hash).unwrap(), None);
        assert_eq!(view.header(number).unwrap(), None);
        assert_eq!(view.locate(&transaction(number - 1).hash).unwrap(), None);
        assert!(view.receipt(TxLocation { block: number, index: 0 }).unwrap().is_none());
    }
    assert_roots_agree(&store);
    commit(&store, delta([(ALICE, account(1, 1))]));
    assert_roots_agree(&store);
}

#[test]
fn a_deleted_contract_comes_back_with_its_storage() {
    let slots: Vec<(u64, u64)> = (1..30).map(|slot| (slot, slot * 3)).collect();
    let store = store_with(&delta([(TOKEN, with_slots(account(1, 0), &slots)), (ALICE, account(0, 1))]));
    let start = head(&store);
    commit(&store, delta([(TOKEN, AccountDelta::default())]));
    assert_roots_agree(&store);
    let reborn = AccountDelta { storage_wiped: true, ..with_slots(account(1, 0), &[(5, 1), (99, 9)]) };
    commit(&store, delta([(TOKEN, reborn)]));
    assert_roots_agree(&store);
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.latest().storage(&TOKEN, &U256::from(6)).unwrap(), U256::ZERO);
    assert_eq!(view.state_at(1).unwrap().storage(&TOKEN, &U256::from(5)).unwrap(), U256::ZERO);
    assert_eq!(view.state_at(0).unwrap().storage(&TOKEN, &U256::from(6)).unwrap(), U256::from(18));
    let (back, _) = store.revert_to(start.version).unwrap();
    assert_eq!(back.state_root, start.state_root);
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.latest().storage(&TOKEN, &U256::from(29)).unwrap(), U256::from(87));
    assert_eq!(view.latest().storage(&TOKEN, &U256::from(99)).unwrap(), U256::ZERO);
    assert_roots_agree(&store);
}

#[test]
fn storage_wiped_under_a_living_account_is_gone() {
    let store = store_with(&delta([(TOKEN, with_slots(account(1, 0), &[(1, 1), (2, 2), (3, 3)]))]));
    let wiped = AccountDelta { storage_wiped: true, ..with_slots(account(1, 0), &[(2, 9)]) };
    commit(&store, delta([(TOKEN, wiped)]));
    let view = store.view().unwrap().unwrap();
    let slots = [1, 2, 3].map(|slot| view.latest().storage(&TOKEN, &U256::from(slot)).unwrap());
    assert_eq!(slots, [0, 9, 0].map(U256::from));
    assert_roots_agree(&store);
}

#[test]
fn versions_that_never_were_or_were_undone_are_unknown() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    commit(&store, delta([(ALICE, account(0, 6))]));
    commit(&store, delta([(ALICE, account(0, 7))]));
    assert!(matches!(store.revert_to(3), Err(StateError::UnknownVersion(3))));
    store.revert_to(1).unwrap();
    assert!(matches!(store.revert_to(2), Err(StateError::UnknownVersion(2))));
    assert_eq!(balance(&store, 1).unwrap(), 6);
}

#[test]
fn pruning_keeps_the_states_of_the_latest_blocks_only() {
    let store = Store::open(pruning(3)).unwrap();
    genesis(&store, &delta([(ALICE, account(0, 100))]));
    for number in 1..=10 {
        commit(&store, delta([(ALICE, account(0, 100 + number))]));
        if number == 9 {
            store.commit_edit(&delta([(ALICE, account(0, 999))])).unwrap();
        }
    }
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.oldest_state().unwrap(), 8);
    let expected = ReadError::Pruned { requested: 7, oldest: 8 }.to_string();
    assert_eq!(balance(&store, 7).unwrap_err().to_string(), expected);
    assert!(matches!(view.version_at(7), Err(ReadError::Pruned { .. })));
    assert_eq!([8, 9, 10].map(|number| balance(&store, number).unwrap()), [108, 999, 110]);
    assert_eq!(view.header(2).unwrap().unwrap().number, 2, "blocks stay");
    assert_eq!(view.history_rows().unwrap(), 3, "one reverse diff per version after block 8");
    assert_roots_agree(&store);
}

#[test]
fn pruned_versions_cannot_be_reverted_to_and_the_oldest_kept_can() {
    let store = Store::open(pruning(2)).unwrap();
    genesis(&store, &delta([(ALICE, account(0, 100))]));
    for number in 1..=5 {
        commit(&store, delta([(ALICE, account(0, 100 + number))]));
    }
    assert!(matches!(store.revert_to(3), Err(StateError::UnknownVersion(3))));
    let (back, _) = store.revert_to(4).unwrap();
    assert_eq!((back.header.number, balance(&store, 4).unwrap()), (4, 104));
    assert_roots_agree(&store);
    commit(&store, delta([(ALICE, account(0, 200))]));
    assert_eq!(balance(&store, 4).unwrap(), 104);
}

#[test]
fn a_lower_limit_takes_effect_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chain");
    let store = Store::open(options(Some(&path))).unwrap();
    genesis(&store, &delta([(ALICE, account(0, 100))]));
    for number in 1..=50 {
        commit(&store, delta([(ALICE, account(0, 100 + number))]));
    }
    drop(store);
    let store = Store::open(StoreOptions { history_blocks: Some(4), ..options(Some(&path)) }).unwrap();
    assert_eq!(balance(&store, 0).unwrap(), 100, "nothing is forgotten before the next commit");
    for number in 51..=60 {
        commit(&store, delta([(ALICE, account(0, 100 + number))]));
    }
    let view = store.view().unwrap().unwrap();
    assert_eq!(view.oldest_state().unwrap(), 57);
    assert_eq!(balance(&store, 57).unwrap(), 157);
}

#[test]
fn readers_see_whole_blocks_while_the_writer_commits() {
    let store = store_with(&delta([(ALICE, account(0, 0)), (BOB, account(0, 0))]));
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, done) = (store.clone(), done.clone());
            std::thread::spawn(move || {
                let mut seen = 0;
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    let view = store.view().unwrap().unwrap();
                    let number = view.head().header.number;
                    assert_eq!(view.latest().account(&ALICE).unwrap(), Some(info(number, 0)));
                    assert_eq!(view.latest().account(&BOB).unwrap(), Some(info(number, 0)));
                    assert_eq!(view.header(number).unwrap().unwrap().hash_slow(), view.head().hash);
                    assert!(number >= seen);
                    seen = number;
                }
            })
        })
        .collect();
    for number in 1..=200 {
        commit(&store, delta([(ALICE, account(number, 0)), (BOB, account(number, 0))]));
    }
    done.store(true, std::sync::atomic::Ordering::Release);
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn syncing_beside_the_writer_breaks_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(options(Some(directory.path()))).unwrap();
    genesis(&store, &delta([(ALICE, account(0, 0))]));
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let syncer = std::thread::spawn({
        let (store, done) = (store.clone(), done.clone());
        move || {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                store.sync().unwrap();
            }
        }
    });
    for nonce in 1..=300 {
        let many = (0..30u8).map(|byte| (Address::repeat_byte(byte), account(nonce, nonce)));
        commit(&store, delta(many));
    }
    done.store(true, std::sync::atomic::Ordering::Release);
    syncer.join().unwrap();
    assert_roots_agree(&store);
}
