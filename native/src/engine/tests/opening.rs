//! Opening: whose directory it is, and which chain.

use super::*;

fn refused(config: EngineConfig) -> EngineError {
    match Engine::open(config) {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[test]
fn two_engines_cannot_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = Engine::open(config(Some(directory.path()))).unwrap();
    assert!(matches!(refused(config(Some(directory.path()))), EngineError::Locked { .. }));
    drop(first);
    Engine::open(config(Some(directory.path()))).unwrap();
}

#[test]
fn a_directory_with_foreign_files_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("letter.txt"), "dear").unwrap();
    let error = refused(config(Some(directory.path())));
    assert!(matches!(error, EngineError::Foreign { .. }));
    assert!(error.to_string().contains("letter.txt"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_file_is_no_data_directory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(refused(config(Some(file.path()))), EngineError::DataDir { .. }));
}

#[test]
fn another_layout_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(MARKER_FILE), "zerog chain data, layout 9\n").unwrap();
    assert!(matches!(refused(config(Some(directory.path()))), EngineError::Foreign { .. }));
}

#[test]
fn another_chain_id_is_refused_with_both() {
    let directory = tempfile::tempdir().unwrap();
    drop(Engine::open(config(Some(directory.path()))).unwrap());
    let mut other = config(Some(directory.path()));
    other.genesis = genesis(1, 30_000_000);
    assert!(matches!(refused(other), EngineError::WrongChain { found: CHAIN_ID, wanted: 1 }));
}

#[test]
fn another_genesis_of_the_same_chain_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Engine::open(config(Some(directory.path()))).unwrap());
    let mut other = config(Some(directory.path()));
    other.genesis = genesis(CHAIN_ID, 20_000_000);
    assert!(refused(other).to_string().contains("genesis"));
}

#[test]
fn a_chain_opens_without_its_genesis_once_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut bare = config(Some(directory.path()));
    bare.genesis.clear();
    assert!(refused(bare).to_string().contains("no genesis was given"));
    drop(Engine::open(config(Some(directory.path()))).unwrap());
    let mut bare = config(Some(directory.path()));
    bare.genesis.clear();
    assert_eq!(Engine::open(bare).unwrap().spec().chain_id, CHAIN_ID);
}

#[test]
fn pending_transactions_outlive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    let hash = submit(&engine, 0, 0);
    drop(engine);
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    assert!(engine.pool().get(&hash).is_some());
    mine(&engine);
    assert_eq!(balance(&engine, recipient()), U256::from(1));
}

#[test]
fn a_closed_engine_makes_no_blocks_and_frees_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(config(Some(directory.path()))).unwrap();
    let payload = propose(&engine);
    engine.close();
    assert!(engine.finalize_block(&payload).is_err());
    assert_eq!(engine.wait_work(Duration::from_secs(60)), Work::Closed);
}
