//! Senders, readers and the block builder at the same time.
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

const PER_SENDER: u64 = 300;

/// Mines one transaction per block until everything that was sent is mined, as automine does.
fn mine_until(world: &World, total: usize) -> usize {
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut mined = 0;
    while mined < total {
        assert!(Instant::now() < deadline, "mined {mined} of {total}; left: {:?}", world.pool.status());
        if world.pool.has_ready(world.ctx.base_fee) {
            mined += world.mine(1).len();
        } else {
            std::thread::yield_now();
        }
    }
    mined
}

#[test]
fn one_transaction_blocks_under_a_storm_of_senders_leave_nothing_behind() {
    let world = World::new(config());
    for from in 0..4 {
        world.chain.set(unsigned(Transfer::new(from, 0)).tx.sender, 0, u128::MAX);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for from in 0..4u8 {
            let world = &world;
            scope.spawn(move || {
                for nonce in 0..PER_SENDER {
                    // Every third pair arrives in the wrong order.
                    let nonce = if nonce % 3 == 2 { nonce } else { nonce - nonce % 3 + (1 - nonce % 3) };
                    let pooled = unsigned(Transfer::new(from, nonce));
                    world.pool.add_recovered(vec![pooled], &world.ctx, &world.chain)[0].as_ref().unwrap();
                }
            });
        }
        // A reader that looks at other fees and walks on its own must not disturb anybody.
        let (world, done) = (&world, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let mut preview = world.pool.preview(2 * GWEI as u64, 1);
                while let Some(tx) = preview.next() {
                    preview.reject(&tx, SkipReason::Invalid("only looking".into()));
                }
                world.pool.content();
            }
        });
        assert_eq!(mine_until(world, 4 * PER_SENDER as usize), 4 * PER_SENDER as usize);
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(world.pool.status(), (0, 0));
    world.pool.ledger.lock().audit();
}

#[test]
fn a_sender_that_goes_on_right_after_its_block_never_waits_behind_a_used_nonce() {
    let world = World::new(config());
    let sender = unsigned(Transfer::new(0, 0)).tx.sender;
    world.chain.set(sender, 0, u128::MAX);
    std::thread::scope(|scope| {
        let world = &world;
        scope.spawn(move || {
            for nonce in 0..PER_SENDER {
                // The account is read when the pool has its lock: the block of the nonce before is in it, or comes.
                while world.chain.info(&sender).nonce < nonce {
                    std::thread::yield_now();
                }
                let pooled = unsigned(Transfer::new(0, nonce));
                world.pool.add_recovered(vec![pooled], &world.ctx, &world.chain)[0].as_ref().unwrap();
            }
        });
        assert_eq!(mine_until(world, PER_SENDER as usize), PER_SENDER as usize);
    });
    assert_eq!(world.pool.status(), (0, 0));
}
