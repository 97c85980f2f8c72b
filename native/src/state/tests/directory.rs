//! Opening data directories: fresh, ours, in use, foreign, damaged, full.

use std::fs;
use std::path::Path;

use super::support::*;
use crate::primitives::*;
use crate::state::directory::sweep;
use crate::state::{StateError, Store, StoreOptions, SyncPolicy};

fn refusal(path: &Path) -> String {
    match Store::open(options(Some(path))) {
        Ok(_) => panic!("the directory opened"),
        Err(StateError::Open { path: named, reason }) => {
            assert_eq!(named, path.display().to_string());
            reason
        }
        Err(StateError::Corrupt(reason)) => {
            assert!(reason.contains(&path.display().to_string()) && reason.contains("damaged"), "{reason}");
            reason
        }
        Err(other) => panic!("another error: {other}"),
    }
}

fn committed(path: &Path) -> crate::state::Head {
    let store = Store::open(options(Some(path))).unwrap();
    genesis(&store, &delta((0..200u8).map(|i| (Address::repeat_byte(i), account(1, i.into())))));
    commit(&store, delta([(ALICE, account(1, 1))]))
}

#[test]
fn what_was_committed_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    for sync in [SyncPolicy::Safe, SyncPolicy::Full] {
        let path = path.join(format!("{sync:?}"));
        let store = Store::open(StoreOptions { sync, ..options(Some(&path)) }).unwrap();
        genesis(&store, &delta([(ALICE, account(0, 5))]));
        let before = commit(&store, delta([(ALICE, account(1, 4))]));
        drop(store);
        let store = Store::open(StoreOptions { sync, ..options(Some(&path)) }).unwrap();
        let after = head(&store);
        assert_eq!((after.hash, after.state_root, after.version), (before.hash, before.state_root, before.version));
        assert_roots_agree(&store);
    }
}

#[test]
fn a_directory_in_use_is_refused_until_it_is_closed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(options(Some(directory.path()))).unwrap();
    assert_eq!(refusal(directory.path()), "is in use by another zerog process");
    drop(store);
    Store::open(options(Some(directory.path()))).unwrap();
}

#[test]
fn a_view_that_outlives_its_store_still_reads() {
    let store = store_with(&delta([(ALICE, account(0, 5))]));
    let view = store.view().unwrap().unwrap();
    drop(store);
    assert_eq!(view.latest().account(&ALICE).unwrap(), Some(info(0, 5)));
}

#[test]
fn a_temporary_directory_goes_with_its_store() {
    let store = Store::open(options(None)).unwrap();
    let path = store.path().to_path_buf();
    assert!(path.join("mdbx.dat").exists());
    drop(store);
    assert!(!path.exists());
}

#[test]
fn what_a_killed_process_left_is_swept_and_nothing_else() {
    let base = tempfile::tempdir().unwrap();
    let (dead, alive, foreign) =
        (base.path().join("zerog-1-00ab"), base.path().join("zerog-2-00cd"), base.path().join("zerog-3-00ef"));
    drop(Store::open(options(Some(&dead))).unwrap());
    let _open = Store::open(options(Some(&alive))).unwrap();
    fs::create_dir(&foreign).unwrap();
    let named = base.path().join("zerog-notes");
    drop(Store::open(options(Some(&named))).unwrap());
    sweep(base.path());
    assert!(!dead.exists());
    assert!(alive.exists() && foreign.exists() && named.exists());
}

#[test]
fn a_file_is_not_a_directory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(refusal(file.path()), "is not a directory");
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("photo.jpg"), b"x").unwrap();
    assert!(refusal(directory.path()).contains("photo.jpg"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn another_format_is_named() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("FORMAT"), b"zerog state 99\n").unwrap();
    let reason = refusal(directory.path());
    assert!(reason.contains("zerog state 99") && reason.contains("zerog state 1"), "{reason}");
}

#[test]
fn an_interrupted_creation_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("LOCK"), b"").unwrap();
    fs::write(directory.path().join("FORMAT.new"), b"zer").unwrap();
    Store::open(options(Some(directory.path()))).unwrap();
}

#[test]
fn a_database_of_garbage_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    committed(directory.path());
    let file = directory.path().join("mdbx.dat");
    let length = fs::metadata(&file).unwrap().len();
    fs::write(&file, vec![0x5a; length as usize]).unwrap();
    let reason = refusal(directory.path());
    assert!(reason.contains("damaged") || reason.contains("another version"), "{reason}");
}

#[test]
fn a_truncated_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    committed(directory.path());
    let file = fs::File::options().write(true).open(directory.path().join("mdbx.dat")).unwrap();
    file.set_len(8 * 4096).unwrap();
    let reason = refusal(directory.path());
    assert!(reason.contains("damaged"), "{reason}");
}

#[test]
fn an_emptied_database_is_not_taken_for_a_fresh_one() {
    for left in [None, Some(0), Some(5000)] {
        let directory = tempfile::tempdir().unwrap();
        committed(directory.path());
        let file = directory.path().join("mdbx.dat");
        match left {
            Some(length) => fs::File::options().write(true).open(&file).unwrap().set_len(length).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let reason = refusal(directory.path());
        assert!(reason.contains("damaged"), "{left:?}: {reason}");
    }
}

#[test]
fn a_chain_made_by_a_process_that_died_before_its_mark_opens() {
    let directory = tempfile::tempdir().unwrap();
    let head = committed(directory.path());
    fs::remove_file(directory.path().join("GENESIS")).unwrap();
    let reopened = Store::open(options(Some(directory.path()))).unwrap();
    assert_eq!(reopened.view().unwrap().unwrap().head().hash, head.hash);
    assert!(directory.path().join("GENESIS").exists());
}

#[test]
fn a_damaged_head_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let head = committed(directory.path());
    let file = directory.path().join("mdbx.dat");
    let mut bytes = fs::read(&file).unwrap();
    // Every copy of the head's hash, also the freed pages'.
    let mut found = 0;
    for at in 0..bytes.len() - 32 {
        if bytes[at..at + 32] == head.hash.0 {
            bytes[at] ^= 1;
            found += 1;
        }
    }
    assert!(found > 0);
    fs::write(&file, bytes).unwrap();
    let reason = refusal(directory.path());
    assert!(reason.contains("damaged"), "{reason}");
}

#[test]
fn a_damaged_trie_root_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    committed(directory.path());
    let store = Store::open(options(Some(directory.path()))).unwrap();
    let (_, record) = store.view().unwrap().unwrap().trie_records().unwrap().swap_remove(0);
    drop(store);
    let file = directory.path().join("mdbx.dat");
    let mut bytes = fs::read(&file).unwrap();
    for at in 0..bytes.len() - record.len() {
        if bytes[at..at + record.len()] == record {
            bytes[at + 20] ^= 1;
        }
    }
    fs::write(&file, bytes).unwrap();
    let reason = refusal(directory.path());
    assert!(reason.contains("damaged") && reason.contains("trie"), "{reason}");
}

#[test]
fn a_full_store_says_so_and_stays_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let small = StoreOptions { max_bytes: 4 << 20, ..options(Some(directory.path())) };
    let store = Store::open(small.clone()).unwrap();
    genesis(&store, &delta([(ALICE, account(0, 5))]));
    let before = commit(&store, delta([(ALICE, account(0, 6))]));
    let many =
        |from: u64| delta((from..from + 30_000).map(|n| (Address::left_padding_from(&n.to_be_bytes()), account(0, n))));
    let error = store.commit_blocks(&[next_block(&store, many(1))]).unwrap_err().to_string();
    assert!(error.contains("limit of 4194304 bytes"), "{error}");
    assert_eq!(head(&store).hash, before.hash);
    assert_roots_agree(&store);
    commit(&store, delta([(ALICE, account(0, 7))]));
    drop(store);
    let store = Store::open(small).unwrap();
    assert_eq!(head(&store).header.number, 2);
    assert_roots_agree(&store);
}
