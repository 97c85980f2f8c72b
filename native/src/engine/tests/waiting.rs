//! Waiting for work and for mined transactions.

use std::future::Future;
use std::time::Instant;

use super::*;

const LONG: Duration = Duration::from_secs(60);

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn work_is_ready_as_long_as_the_pool_holds_something() {
    let engine = engine();
    assert_eq!(engine.wait_work(Duration::ZERO), Work::Timeout);
    submit(&engine, 0, 0);
    assert_eq!(engine.wait_work(LONG), Work::Ready);
    assert_eq!(engine.wait_work(LONG), Work::Ready);
    mine(&engine);
    assert_eq!(engine.wait_work(Duration::ZERO), Work::Timeout);
}

#[test]
fn a_transaction_wakes_the_waiter() {
    let engine = engine();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| engine.wait_work(LONG));
        submit(&engine, 0, 0);
        assert_eq!(waiter.join().unwrap(), Work::Ready);
    });
}

#[test]
fn a_transaction_behind_a_gap_is_no_work() {
    let engine = engine();
    submit(&engine, 0, 1);
    assert_eq!(engine.wait_work(Duration::ZERO), Work::Timeout);
    submit(&engine, 0, 0);
    assert_eq!(engine.wait_work(LONG), Work::Ready);
}

#[test]
fn without_automine_ready_transactions_wait_for_the_clock() {
    let engine = engine();
    engine.set_automine(false);
    submit(&engine, 0, 0);
    assert_eq!(engine.wait_work(Duration::ZERO), Work::Timeout);
    engine.set_automine(true);
    assert_eq!(engine.wait_work(LONG), Work::Ready);
}

#[test]
fn a_wake_ends_the_wait_also_when_it_comes_first() {
    let engine = engine();
    engine.wake();
    assert_eq!(engine.wait_work(LONG), Work::Timeout);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| engine.wait_work(LONG));
        engine.wake();
        assert_eq!(waiter.join().unwrap(), Work::Timeout);
    });
}

#[test]
fn close_ends_the_wait() {
    let engine = engine();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| engine.wait_work(LONG));
        engine.close();
        assert_eq!(waiter.join().unwrap(), Work::Closed);
    });
}

#[test]
fn all_waiters_of_a_block_are_released_by_its_commit() {
    let engine = engine();
    let hashes: Vec<_> = (0..50).map(|nonce| submit(&engine, 0, nonce)).collect();
    block_on(async {
        let started = Instant::now();
        let waiters: Vec<_> = hashes.iter().map(|hash| engine.wait_mined(*hash, LONG)).collect();
        let mined = async {
            tokio::task::yield_now().await;
            mine(&engine);
        };
        futures_util::future::join(futures_util::future::join_all(waiters), mined).await;
        assert!(started.elapsed() < LONG);
    });
}

#[test]
fn a_mined_transaction_is_not_waited_for() {
    let engine = engine();
    let hash = submit(&engine, 0, 0);
    mine(&engine);
    block_on(engine.wait_mined(hash, LONG));
}

#[test]
fn a_queued_transaction_is_not_waited_for() {
    let engine = engine();
    let hash = submit(&engine, 0, 3);
    block_on(engine.wait_mined(hash, LONG));
}

#[test]
fn a_dropped_transaction_releases_its_waiter() {
    let engine = engine();
    let hash = submit(&engine, 0, 0);
    block_on(async {
        let dropped = async {
            tokio::task::yield_now().await;
            assert!(engine.drop_transaction(&hash));
        };
        futures_util::future::join(engine.wait_mined(hash, LONG), dropped).await;
    });
}

#[test]
fn a_waiter_gives_up_when_its_time_is_up() {
    let engine = engine();
    let hash = submit(&engine, 0, 0);
    block_on(engine.wait_mined(hash, Duration::from_millis(5)));
    assert!(engine.pool().get(&hash).is_some());
}
