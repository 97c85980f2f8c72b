//! What a committed block, an edit or a revert does to the pool.
use super::*;

#[test]
fn mined_transactions_leave_and_the_rest_stays_pending() {
    let world = World::new(config());
    for nonce in 0..3 {
        world.send(Transfer::new(0, nonce).raw()).unwrap();
    }
    let mined = world.mine(1);
    assert!(world.pool.get(&mined[0]).is_none());
    assert_eq!(world.pool.status(), (2, 0));
    assert_eq!(world.pool.next_nonce(&signer(0).address()), Some(3));
    assert_eq!(world.mine(5).len(), 2);
    assert_eq!(world.pool.status(), (0, 0));
    assert_eq!(world.pool.next_nonce(&signer(0).address()), None);
}

#[test]
fn a_block_with_a_foreign_transaction_uses_up_its_nonce() {
    let world = World::new(config());
    let stale = world.send(Transfer::new(0, 0).raw()).unwrap();
    let next = world.send(Transfer::new(0, 1).raw()).unwrap();
    let elsewhere = World::new(config());
    elsewhere.send(Transfer::new(0, 0).fees(7, 1).raw()).unwrap();
    let foreign = elsewhere.pool.best(GWEI as u64, 1).next().unwrap();
    world.pool.on_block(&world.chain.mine(&[foreign]), &world.ctx);
    assert!(world.pool.get(&stale).is_none());
    assert_eq!(world.order(), [next]);
}

#[test]
fn a_nonce_that_jumps_over_a_gap_promotes_what_was_queued() {
    let world = World::new(config());
    let queued = world.send(Transfer::new(0, 2).raw()).unwrap();
    assert_eq!(world.pool.status(), (0, 1));
    let sender = signer(0).address();
    world.chain.set(sender, 2, u128::MAX);
    let info = Some(world.chain.info(&sender));
    let mut delta = StateDelta::default();
    delta.accounts.insert(sender, AccountDelta { info, ..AccountDelta::default() });
    world.pool.on_block(&block(Vec::new(), delta), &world.ctx);
    assert_eq!(world.pool.status(), (1, 0));
    assert_eq!(world.order(), [queued]);
}

#[test]
fn a_balance_that_fell_drops_what_it_cannot_pay_and_queues_what_follows() {
    let world = World::new(config());
    let sender = signer(0).address();
    let cheap = world.send(Transfer::new(0, 0).raw()).unwrap();
    let dear = world.send(Transfer { value: 50 * GWEI * GWEI, ..Transfer::new(0, 1) }.raw()).unwrap();
    let last = world.send(Transfer::new(0, 2).raw()).unwrap();
    world.chain.set(sender, 0, GWEI * GWEI);
    world.pool.on_reset(Vec::new(), &world.ctx, &world.chain);
    assert!(world.pool.get(&dear).is_none());
    assert_eq!(world.order(), [cheap]);
    let content = world.pool.content_from(&sender);
    assert_eq!(content.queued[0].1[0].tx.hash, last);
}

#[test]
fn a_lowered_nonce_queues_and_a_reinjected_transaction_promotes_again() {
    let world = World::new(config());
    world.send(Transfer::new(0, 0).raw()).unwrap();
    world.send(Transfer::new(0, 1).raw()).unwrap();
    let first = world.pool.best(GWEI as u64, 1).next().unwrap();
    world.mine(1);
    world.chain.set(signer(0).address(), 0, u128::MAX);
    world.pool.on_reset(Vec::new(), &world.ctx, &world.chain);
    assert_eq!(world.pool.status(), (0, 1));
    world.pool.on_reset(vec![first], &world.ctx, &world.chain);
    assert_eq!(world.pool.status(), (2, 0));
}

#[test]
fn a_lower_block_gas_limit_drops_what_fits_no_block() {
    let mut world = World::new(config());
    world.send(Transfer { gas: 10_000_000, ..Transfer::new(0, 0) }.raw()).unwrap();
    world.send(Transfer::new(0, 1).raw()).unwrap();
    world.ctx.block_gas_limit = 5_000_000;
    world.pool.on_block(&block(Vec::new(), StateDelta::default()), &world.ctx);
    assert_eq!(world.pool.status(), (0, 1));
}

#[test]
fn a_removed_transaction_sends_its_followers_back_to_the_queue() {
    let world = World::new(config());
    let hash = world.send(Transfer::new(0, 0).raw()).unwrap();
    world.send(Transfer::new(0, 1).raw()).unwrap();
    assert!(world.pool.remove(&hash));
    assert!(!world.pool.remove(&hash));
    assert_eq!(world.pool.status(), (0, 1));
    world.send(Transfer::new(0, 0).fees(100, 3).raw()).unwrap();
    assert_eq!(world.pool.status(), (2, 0));
}

#[test]
fn remove_sender_and_clear_leave_nothing_behind() {
    let world = World::new(config());
    for nonce in [0, 1, 3] {
        world.send(Transfer::new(0, nonce).raw()).unwrap();
    }
    world.send(Transfer::new(1, 0).raw()).unwrap();
    assert_eq!(world.pool.remove_sender(&signer(0).address()), 3);
    assert_eq!(world.pool.status(), (1, 0));
    world.pool.clear();
    assert_eq!(world.pool.status(), (0, 0));
    assert!(!world.pool.has_ready(0));
    assert!(world.pool.content().pending.is_empty());
}

#[test]
fn the_listener_hears_of_what_became_pending_and_of_nothing_else() {
    let world = World::new(config());
    let heard: Arc<Mutex<Vec<B256>>> = Arc::default();
    let sink = heard.clone();
    let pool = Arc::downgrade(&world.pool);
    world.pool.set_listener(Box::new(move |txs| {
        // Called outside the lock: the listener may ask the pool.
        let pool = pool.upgrade().unwrap();
        assert!(txs.iter().all(|tx| pool.get(&tx.hash).is_some()));
        sink.lock().extend(txs.iter().map(|tx| tx.hash));
    }));
    let second = world.send(Transfer::new(0, 1).raw()).unwrap();
    assert!(heard.lock().is_empty());
    let first = world.send(Transfer::new(0, 0).raw()).unwrap();
    assert_eq!(*heard.lock(), [first, second]);
}

#[test]
fn a_burst_of_one_transaction_blocks_mines_every_transaction() {
    let world = World::new(config());
    let mut raws = Vec::new();
    for nonce in 0..40 {
        for sender in 0..8 {
            raws.push(Transfer::new(sender, nonce).raw());
        }
    }
    assert!(world.pool.add_many(&raws, &world.ctx, &world.chain).iter().all(Result::is_ok));
    let mut mined = 0;
    while world.pool.has_ready(world.ctx.base_fee) {
        mined += world.mine(1).len();
    }
    assert_eq!(mined, 320);
    assert_eq!(world.pool.status(), (0, 0));
}
