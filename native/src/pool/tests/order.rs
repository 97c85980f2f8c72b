//! What a block takes, and in which order.
use super::*;

#[test]
fn higher_tip_goes_first_and_equal_tips_go_by_arrival() {
    let world = World::new(config());
    let low = world.send(Transfer::new(0, 0).fees(100, 1).raw()).unwrap();
    let early = world.send(Transfer::new(1, 0).fees(100, 2).raw()).unwrap();
    let late = world.send(Transfer::new(2, 0).fees(100, 2).raw()).unwrap();
    let high = world.send(Transfer::new(3, 0).fees(100, 3).raw()).unwrap();
    assert_eq!(world.order(), [high, early, late, low]);
}

#[test]
fn a_tip_that_the_cap_cuts_counts_as_what_is_left() {
    let mut world = World::new(config());
    world.ctx.base_fee = 99 * GWEI as u64;
    let cut = world.send(Transfer::new(0, 0).fees(100, 50).raw()).unwrap();
    let whole = world.send(Transfer::new(1, 0).fees(200, 2).raw()).unwrap();
    assert_eq!(world.order(), [whole, cut]);
    world.ctx.base_fee = 50 * GWEI as u64;
    assert_eq!(world.order(), [cut, whole]);
}

#[test]
fn nonces_of_a_sender_stay_in_order_even_when_later_ones_pay_more() {
    let world = World::new(config());
    let first = world.send(Transfer::new(0, 0).fees(100, 1).raw()).unwrap();
    let second = world.send(Transfer::new(0, 1).fees(100, 9).raw()).unwrap();
    let other = world.send(Transfer::new(1, 0).fees(100, 5).raw()).unwrap();
    assert_eq!(world.order(), [other, first, second]);
}

#[test]
fn fifo_goes_by_arrival_only() {
    let world = World::new(PoolConfig { fifo: true, ..config() });
    let first = world.send(Transfer::new(0, 0).fees(100, 1).raw()).unwrap();
    let second = world.send(Transfer::new(1, 0).fees(100, 9).raw()).unwrap();
    let third = world.send(Transfer::new(0, 1).fees(100, 5).raw()).unwrap();
    assert_eq!(world.order(), [first, second, third]);
}

#[test]
fn a_fee_cap_below_the_base_fee_is_pending_but_not_ready() {
    let mut world = World::new(config());
    world.ctx.base_fee = 10 * GWEI as u64;
    let hash = world.send(Transfer::new(0, 0).fees(5, 1).raw()).unwrap();
    assert_eq!(world.pool.status(), (1, 0));
    assert!(!world.pool.has_ready(world.ctx.base_fee));
    assert!(world.order().is_empty());
    world.ctx.base_fee = 5 * GWEI as u64;
    assert!(world.pool.has_ready(world.ctx.base_fee));
    assert_eq!(world.order(), [hash]);
}

#[test]
fn fifo_leaves_out_what_cannot_pay_the_base_fee() {
    let mut world = World::new(PoolConfig { fifo: true, ..config() });
    let poor = world.send(Transfer::new(0, 0).fees(5, 1).raw()).unwrap();
    let rich = world.send(Transfer::new(1, 0).fees(50, 1).raw()).unwrap();
    world.ctx.base_fee = 10 * GWEI as u64;
    assert_eq!(world.order(), [rich]);
    world.ctx.base_fee = GWEI as u64;
    assert_eq!(world.order(), [poor, rich]);
}

#[test]
fn a_rejected_sender_is_left_out_of_the_block_but_stays_in_the_pool() {
    let world = World::new(config());
    world.send(Transfer::new(0, 0).fees(100, 5).raw()).unwrap();
    world.send(Transfer::new(0, 1).fees(100, 5).raw()).unwrap();
    let other = world.send(Transfer::new(1, 0).fees(100, 1).raw()).unwrap();
    let mut best = world.pool.best(world.ctx.base_fee, 1);
    let first = best.next().unwrap();
    best.reject(&first, SkipReason::NoRoom);
    assert_eq!(best.next().unwrap().hash, other);
    assert!(best.next().is_none());
    assert_eq!(world.pool.status(), (3, 0));
    assert!(world.pool.has_ready(world.ctx.base_fee));
}

#[test]
fn an_invalid_transaction_is_dropped_and_its_followers_wait() {
    let world = World::new(config());
    let hash = world.send(Transfer::new(0, 0).raw()).unwrap();
    world.send(Transfer::new(0, 1).raw()).unwrap();
    let mut best = world.pool.best(world.ctx.base_fee, 1);
    let first = best.next().unwrap();
    best.reject(&first, SkipReason::Invalid("no".into()));
    assert!(best.next().is_none());
    assert!(world.pool.get(&hash).is_none());
    assert_eq!(world.pool.status(), (0, 1));
}

#[test]
fn a_transaction_that_cannot_run_now_is_not_ready_until_its_account_changes() {
    let world = World::new(config());
    world.send(Transfer::new(0, 0).raw()).unwrap();
    let mut best = world.pool.best(world.ctx.base_fee, 1);
    let tx = best.next().unwrap();
    best.reject(&tx, SkipReason::NotNow("later".into()));
    assert_eq!(world.pool.status(), (1, 0));
    assert!(!world.pool.has_ready(world.ctx.base_fee));
    world.pool.on_reset(Vec::new(), &world.ctx, &world.chain);
    assert!(world.pool.has_ready(world.ctx.base_fee));
}

#[test]
fn a_source_ends_when_the_chain_moves() {
    let world = World::new(config());
    world.send(Transfer::new(0, 0).raw()).unwrap();
    world.send(Transfer::new(1, 0).raw()).unwrap();
    let mut best = world.pool.best(world.ctx.base_fee, 1);
    let first = best.next().unwrap();
    world.mine(1);
    assert!(best.next().is_none());
    best.reject(&first, SkipReason::Invalid("of another state".into()));
    assert_eq!(world.pool.status(), (1, 0));
}

#[test]
fn a_transaction_that_arrives_during_the_walk_does_not_disturb_it() {
    let world = World::new(config());
    let first = world.send(Transfer::new(0, 0).fees(100, 5).raw()).unwrap();
    let second = world.send(Transfer::new(1, 0).fees(100, 3).raw()).unwrap();
    let mut best = world.pool.best(world.ctx.base_fee, 1);
    assert_eq!(best.next().unwrap().hash, first);
    world.send(Transfer::new(2, 0).fees(100, 9).raw()).unwrap();
    assert_eq!(best.next().unwrap().hash, second);
    assert!(best.next().is_none());
}

#[test]
fn another_reader_with_other_fees_does_not_make_a_source_lose_or_repeat() {
    let world = World::new(config());
    for sender in 0..8 {
        let fee = 10 + 10 * u128::from(sender);
        world.send(Transfer::new(sender, 0).fees(fee, 8).raw()).unwrap();
        world.send(Transfer::new(sender, 1).fees(fee, 8).raw()).unwrap();
    }
    let expected = world.order();
    assert_eq!(expected.len(), 16);
    let mut best = world.pool.best(world.ctx.base_fee, 1);
    let mut seen = Vec::new();
    while let Some(tx) = best.next() {
        seen.push(tx.hash);
        assert!(world.pool.has_ready(45 * GWEI as u64));
    }
    assert_eq!(seen, expected);
}
