//! Chains and states as files.

use std::io::Cursor;

use super::*;

fn exported(engine: &Engine) -> Vec<u8> {
    let mut file = Vec::new();
    engine.export_blocks(&mut file, 1, engine.head().header.number).unwrap();
    file
}

/// A chain of `blocks` blocks with a transfer in each.
fn chain(blocks: u64) -> Arc<Engine> {
    let engine = engine();
    for nonce in 0..blocks {
        submit(&engine, 0, nonce);
        mine(&engine);
    }
    engine
}

#[test]
fn an_exported_chain_is_imported_to_the_same_head() {
    let source = chain(300);
    let copy = engine();
    let mut told = Vec::new();
    let imported = copy
        .import_blocks(&mut exported(&source).as_slice(), &mut |number| {
            told.push(number);
            true
        })
        .unwrap();
    assert_eq!(imported, 300);
    assert_eq!(told.last(), Some(&300));
    let (here, there) = (source.head(), copy.head());
    assert_eq!((here.hash, here.state_root), (there.hash, there.state_root));
    assert_whole(&copy);
    let view = copy.view().unwrap();
    assert_eq!(view.state_at(100).unwrap().account(&recipient()).unwrap().unwrap().balance, U256::from(100));
}

#[test]
fn known_blocks_are_skipped() {
    let source = chain(3);
    let file = exported(&source);
    assert_eq!(source.import_blocks(&mut file.as_slice(), &mut |_| true).unwrap(), 0);
}

#[test]
fn an_import_keeps_what_came_before_the_bad_block() {
    let source = chain(3);
    let mut file = exported(&source);
    let length = file.len();
    file.truncate(length - 10);
    file.extend([0; 10]);
    let copy = engine();
    assert!(copy.import_blocks(&mut file.as_slice(), &mut |_| true).is_err());
    assert!(copy.head().header.number <= 2);
    assert_whole(&copy);
}

#[test]
fn a_block_with_an_altered_root_is_refused_by_number() {
    use alloy_rlp::{Decodable, Encodable};
    let source = chain(2);
    let file = exported(&source);
    let mut rest = file.as_slice();
    type Block = alloy_consensus::Block<Transaction>;
    let mut blocks = [Block::decode(&mut rest).unwrap(), Block::decode(&mut rest).unwrap()];
    blocks[1].header.state_root = B256::repeat_byte(1);
    let mut altered = Vec::new();
    blocks.iter().for_each(|block| block.encode(&mut altered));
    let copy = engine();
    let error = copy.import_blocks(&mut altered.as_slice(), &mut |_| true).unwrap_err();
    assert!(error.to_string().starts_with("block 2: "), "{error}");
    assert_eq!(copy.head().header.number, 1);
}

#[test]
fn a_chain_of_another_genesis_is_refused() {
    let source = chain(1);
    let mut other = config(None);
    other.genesis = genesis(CHAIN_ID, 20_000_000);
    let other = Engine::open(other).unwrap();
    let error = other.import_blocks(&mut exported(&source).as_slice(), &mut |_| true).unwrap_err();
    assert!(error.to_string().contains("parent hash"), "{error}");
}

#[test]
fn a_stopped_import_says_how_far_it_came() {
    let source = chain(2);
    let copy = engine();
    let error = copy.import_blocks(&mut exported(&source).as_slice(), &mut |_| false).unwrap_err();
    assert!(error.to_string().contains("2 blocks are committed"), "{error}");
}

#[test]
fn an_export_beyond_the_head_is_refused() {
    let source = chain(1);
    assert!(source.export_blocks(&mut Vec::new(), 1, 2).is_err());
    assert!(source.export_blocks(&mut Vec::new(), 1, 0).is_err());
}

fn dumped(engine: &Engine) -> Vec<u8> {
    let mut file = Vec::new();
    engine.dump_state(&mut file).unwrap();
    file
}

fn contract(engine: &Engine) {
    let edit = AccountEdit {
        code: Some(Bytes::from_static(&[0x60, 0x00])),
        storage: (1..40u64).map(|slot| (U256::from(slot), U256::from(slot * 2))).collect(),
        ..Default::default()
    };
    engine.edit_accounts(&BTreeMap::from([(Address::repeat_byte(0xcc), edit)])).unwrap();
}

#[test]
fn a_dumped_state_loads_to_the_same_root() {
    let source = chain(2);
    contract(&source);
    let copy = engine();
    copy.load_state(&mut Cursor::new(dumped(&source))).unwrap();
    assert_eq!(copy.head().state_root, source.head().state_root);
    assert_whole(&copy);
}

#[test]
fn a_shorter_chain_grows_to_the_number_and_time_of_the_dump() {
    let source = chain(700);
    let copy = engine();
    copy.load_state(&mut Cursor::new(dumped(&source))).unwrap();
    let (here, there) = (source.head(), copy.head());
    assert_eq!((here.header.number, here.header.timestamp), (there.header.number, there.header.timestamp));
    assert_eq!(here.state_root, there.state_root);
    assert_whole(&copy);
    mine(&copy);
    copy.rollback(0, false).unwrap();
    assert_eq!(balance(&copy, recipient()), U256::ZERO);
}

#[test]
fn a_dump_of_a_number_out_of_reach_changes_nothing() {
    let source = engine();
    let file = String::from_utf8(dumped(&source)).unwrap().replacen("\"number\":0", "\"number\":99999999", 1);
    let before = source.head().version;
    assert!(source.load_state(&mut Cursor::new(file)).unwrap_err().to_string().contains("99999999"));
    assert_eq!(source.head().version, before);
}

#[test]
fn a_loaded_account_replaces_the_present_one_with_its_storage() {
    let source = engine();
    contract(&source);
    let file = dumped(&source);
    let stale = AccountEdit { storage: BTreeMap::from([(U256::from(99), U256::from(1))]), ..Default::default() };
    source.edit_accounts(&BTreeMap::from([(Address::repeat_byte(0xcc), stale)])).unwrap();
    source.load_state(&mut Cursor::new(file)).unwrap();
    let view = source.view().unwrap();
    assert_eq!(view.latest().storage(&Address::repeat_byte(0xcc), &U256::from(99)).unwrap(), U256::ZERO);
    assert_whole(&source);
}

#[test]
fn a_damaged_dump_changes_nothing_and_names_the_line() {
    let source = chain(1);
    contract(&source);
    let file = dumped(&source);
    let copy = engine();
    let before = copy.head();
    let lines = file.iter().filter(|byte| **byte == b'\n').count();
    for damage in [0, file.len() / 2, file.len() - 20] {
        let mut damaged = file.clone();
        damaged[damage] = 0xff;
        let error = copy.load_state(&mut Cursor::new(damaged)).unwrap_err().to_string();
        assert!(error.starts_with("state dump, line "), "{error}");
    }
    let mut cut = file.clone();
    cut.truncate(file.len() - 15);
    assert!(copy.load_state(&mut Cursor::new(cut)).unwrap_err().to_string().contains(&format!("line {lines}")));
    assert_eq!(copy.head().state_root, before.state_root);
    assert_eq!(copy.head().version, before.version);
}

#[test]
fn an_interrupted_load_is_undone_when_the_store_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    let before = engine.head();
    // What a crash in the middle of a load leaves: the mark, and a part of the accounts.
    engine.store().put_meta("loading", Some(&before.version.to_be_bytes())).unwrap();
    contract(&engine);
    drop(engine);
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    assert_eq!(engine.head().state_root, before.state_root);
    assert_eq!(engine.view().unwrap().meta("loading").unwrap(), None);
}
