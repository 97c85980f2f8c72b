//! The pool on disk: restarts, crashes, damage.
use std::path::Path;

use super::*;

fn journalled(folder: &Path) -> PoolConfig {
    PoolConfig { journal: Some(folder.join("pool.journal")), ..config() }
}

/// The same chain with a pool that is opened again: nothing of the old one was flushed, as after `kill -9`.
fn reopen(world: World, folder: &Path) -> World {
    let pool = Pool::new(journalled(folder)).unwrap();
    let reopened = World { pool, ..world };
    reopened.pool.load_journal(&reopened.ctx, &reopened.chain);
    reopened
}

#[test]
fn pending_queued_and_impersonated_transactions_survive_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(journalled(folder.path()));
    let pending = world.send(Transfer::new(0, 0).raw()).unwrap();
    let queued = world.send(Transfer::new(0, 5).raw()).unwrap();
    let impersonated = unsigned(Transfer::new(1, 0));
    world.chain.set(impersonated.tx.sender, 0, u128::MAX);
    world.pool.add_recovered(vec![impersonated.clone()], &world.ctx, &world.chain).pop().unwrap().unwrap();

    let world = reopen(world, folder.path());
    assert_eq!(world.pool.status(), (2, 1));
    assert!(world.pool.get(&pending).is_some() && world.pool.get(&queued).is_some());
    let back = world.pool.get(&impersonated.tx.hash).unwrap();
    assert!(back.tx.impersonated);
    assert_eq!((back.tx.sender, &back.tx.raw), (impersonated.tx.sender, &impersonated.tx.raw));
}

#[test]
fn what_left_the_pool_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(journalled(folder.path()));
    world.send(Transfer::new(0, 0).raw()).unwrap();
    world.mine(1);
    let dropped = world.send(Transfer::new(1, 0).raw()).unwrap();
    world.send(Transfer::new(2, 0).raw()).unwrap();
    world.send(Transfer::new(3, 0).raw()).unwrap();
    let kept = world.send(Transfer::new(3, 0).fees(200, 4).raw()).unwrap();
    world.pool.remove(&dropped);
    world.pool.remove_sender(&signer(2).address());
    let world = reopen(world, folder.path());
    assert_eq!(world.order(), [kept]);
    assert_eq!(world.pool.status(), (1, 0));
}

#[test]
fn a_mined_transaction_does_not_come_back_after_a_revert_and_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(journalled(folder.path()));
    world.send(Transfer::new(0, 0).raw()).unwrap();
    world.mine(1);
    world.chain.set(signer(0).address(), 0, u128::MAX);
    world.pool.on_reset(Vec::new(), &world.ctx, &world.chain);
    let world = reopen(world, folder.path());
    assert_eq!(world.pool.status(), (0, 0));
}

#[test]
fn a_cleared_pool_stays_clear() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(journalled(folder.path()));
    world.send(Transfer::new(0, 0).raw()).unwrap();
    world.pool.clear();
    let world = reopen(world, folder.path());
    assert_eq!(world.pool.status(), (0, 0));
}

#[test]
fn a_second_restart_finds_the_same_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::new(journalled(folder.path()));
    for nonce in 0..3 {
        world.send(Transfer::new(0, nonce).raw()).unwrap();
    }
    for _ in 0..3 {
        world = reopen(world, folder.path());
        assert_eq!(world.pool.status(), (3, 0));
    }
}

#[test]
fn a_journal_that_is_not_loaded_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(journalled(folder.path()));
    world.send(Transfer::new(0, 0).raw()).unwrap();
    let unused = Pool::new(journalled(folder.path())).unwrap();
    unused.flush_journal().unwrap();
    let world = reopen(world, folder.path());
    assert_eq!(world.pool.status(), (1, 0));
}

#[test]
fn a_journal_cut_at_any_byte_opens_with_a_prefix_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(journalled(folder.path()));
    let path = folder.path().join("pool.journal");
    let mut ends = vec![std::fs::metadata(&path).unwrap().len()];
    for nonce in 0..3 {
        world.send(Transfer::new(0, nonce).raw()).unwrap();
        ends.push(std::fs::metadata(&path).unwrap().len());
    }
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let expected = ends.iter().skip(1).filter(|end| **end <= cut as u64).count();
        let pool = Pool::new(journalled(folder.path())).unwrap();
        assert_eq!(pool.waiting.lock().len(), expected, "cut at {cut}");
        // The torn tail is overwritten by what comes next.
        let after = pool.add_many(&[Transfer::new(1, 0).raw()], &world.ctx, &world.chain);
        assert!(after[0].is_ok());
        let again = Pool::new(journalled(folder.path())).unwrap();
        assert_eq!(again.waiting.lock().len(), expected + 1, "cut at {cut}");
    }
}

#[test]
fn a_flipped_byte_ends_the_readable_part_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(journalled(folder.path()));
    for nonce in 0..3 {
        world.send(Transfer::new(0, nonce).raw()).unwrap();
    }
    let path = folder.path().join("pool.journal");
    let whole = std::fs::read(&path).unwrap();
    for index in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[index] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        let pool = Pool::new(journalled(folder.path())).unwrap();
        assert!(pool.waiting.lock().len() < 3, "byte {index}");
        let aside = folder.path().join("pool.journal.damaged");
        assert_eq!(aside.exists(), index < 10, "byte {index}");
        if aside.exists() {
            assert_eq!(std::fs::read(&aside).unwrap(), damaged);
            std::fs::remove_file(aside).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_no_journal_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool.journal");
    std::fs::write(&path, b"precious notes").unwrap();
    let pool = Pool::new(journalled(folder.path())).unwrap();
    assert!(pool.waiting.lock().is_empty());
    assert_eq!(std::fs::read(folder.path().join("pool.journal.damaged")).unwrap(), b"precious notes");
}

#[test]
fn the_file_does_not_grow_with_mined_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(journalled(folder.path()));
    let sender = unsigned(Transfer::new(0, 0)).tx.sender;
    world.chain.set(sender, 0, u128::MAX);
    let waiting = world.send(Transfer::new(5, 7).raw()).unwrap();
    for nonce in 0..20_000 {
        let pooled = unsigned(Transfer::new(0, nonce));
        world.pool.add_recovered(vec![pooled.clone()], &world.ctx, &world.chain).pop().unwrap().unwrap();
        world.chain.set(sender, nonce, u128::MAX);
        let block = world.chain.mine(&[pooled.tx]);
        world.pool.on_block(&block, &world.ctx);
    }
    let size = std::fs::metadata(folder.path().join("pool.journal")).unwrap().len();
    assert!(size < 3 << 20, "{size} bytes");
    let world = reopen(world, folder.path());
    assert_eq!(world.pool.status(), (0, 1));
    assert!(world.pool.get(&waiting).is_some());
}

#[test]
fn a_flush_writes_only_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(journalled(folder.path()));
    let path = folder.path().join("pool.journal");
    let empty = std::fs::metadata(&path).unwrap().len();
    for nonce in 0..10 {
        world.send(Transfer::new(0, nonce).raw()).unwrap();
    }
    world.mine(10);
    world.pool.flush_journal().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), empty);
    assert!(!folder.path().join("pool.journal.new").exists());
}
