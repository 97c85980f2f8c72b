//! Waiting: for work (the sequencer's thread) and for a transaction to be mined (RPC tasks).

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use alloy_consensus::Transaction as _;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{Engine, Work};
use crate::pool::Pool;
use crate::primitives::*;

/// How often a waiter looks by itself whether the pool evicted its transaction.
const EVICTION_CHECK: Duration = Duration::from_millis(250);

#[derive(Default)]
struct SignalState {
    woken: bool,
    closed: bool,
    /// The generation at which the pool's ready transactions turned out not to fit into a block:
    /// until something changes there is nothing to do.
    fruitless: Option<u64>,
}

/// Level-triggered wake-up of the thread that makes blocks.
#[derive(Default)]
pub(super) struct Signal {
    state: Mutex<SignalState>,
    changed: Condvar,
}

impl Signal {
    /// Something may have become ready. The lock makes sure that a waiter which has just looked is told.
    pub(super) fn notify(&self) {
        let _state = self.state.lock();
        self.changed.notify_all();
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_all();
    }

    pub(super) fn mark_fruitless(&self, generation: u64) {
        self.state.lock().fruitless = Some(generation);
    }
}

/// Tasks that wait for transactions, by hash: a commit wakes only those of its block.
#[derive(Default)]
pub(super) struct MinedWaiters {
    waiting: Mutex<HashMap<B256, Vec<oneshot::Sender<()>>>>,
}

impl MinedWaiters {
    fn register(&self, hash: B256) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().entry(hash).or_default().push(sender);
        receiver
    }

    /// Forgets the waiters of `hash` that gave up.
    fn sweep(&self, hash: &B256) {
        let mut waiting = self.waiting.lock();
        if let Some(senders) = waiting.get_mut(hash) {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                waiting.remove(hash);
            }
        }
    }

    pub(super) fn release<'a>(&self, hashes: impl IntoIterator<Item = &'a B256>) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        for hash in hashes {
            for sender in waiting.remove(hash).unwrap_or_default() {
                // The waiter may have given up: nothing to tell then.
                let _ = sender.send(());
            }
        }
    }

    pub(super) fn release_all(&self) {
        self.waiting.lock().clear();
    }

    /// Releases whoever waits for a transaction that the pool does not hold any more.
    pub(super) fn recheck(&self, pool: &Pool) {
        self.waiting.lock().retain(|hash, _| pool.get(hash).is_some());
    }
}

impl Engine {
    /// True while automine is on: eth_sendRawTransaction then answers after its block (see `wait_mined`).
    pub fn automine(&self) -> bool {
        self.automine.load(Ordering::Acquire)
    }

    pub fn set_automine(&self, on: bool) {
        self.automine.store(on, Ordering::Release);
        if !on {
            self.mined.release_all();
        }
        self.signal.notify();
    }

    /// Waits until the transaction is in a committed block or gone from the pool, or the time is up.
    /// Returns at once for a transaction that no block can take yet (behind a nonce gap, or offering
    /// less than the base fee), and when automine is off.
    pub async fn wait_mined(&self, hash: B256, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut done = self.mined.register(hash);
        while self.may_be_mined_soon(&hash) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // Both an answer and a dropped sender mean: look no further.
            if tokio::time::timeout(left.min(EVICTION_CHECK), &mut done).await.is_ok() {
                break;
            }
        }
        drop(done);
        self.mined.sweep(&hash);
    }

    fn may_be_mined_soon(&self, hash: &B256) -> bool {
        if !self.automine() {
            return false;
        }
        let Some(pooled) = self.pool.get(hash) else {
            return false;
        };
        let tx = &pooled.tx;
        let executable = self.pool.next_nonce(&tx.sender).is_some_and(|next| tx.tx.nonce() < next);
        executable && tx.tx.max_fee_per_gas() >= u128::from(self.pool_context.load().base_fee)
    }

    /// Blocks until the pool has something executable, the time is up, [`Engine::wake`], or `close`.
    /// Level-triggered: answers [`Work::Ready`] as long as there is something. While automine is off,
    /// ready transactions wait for the clock, and so does the caller.
    pub fn wait_work(&self, limit: Duration) -> Work {
        let deadline = Instant::now() + limit;
        let mut state = self.signal.state.lock();
        loop {
            if state.closed {
                return Work::Closed;
            }
            if std::mem::take(&mut state.woken) {
                return Work::Timeout;
            }
            if self.automine() && state.fruitless != Some(self.generation.load(Ordering::Acquire)) {
                let base_fee = self.pool_context.load().base_fee;
                if self.pool.has_ready(base_fee) {
                    return Work::Ready;
                }
            }
            if self.signal.changed.wait_until(&mut state, deadline).timed_out() {
                return Work::Timeout;
            }
        }
    }

    /// Makes a waiting [`Engine::wait_work`] (or the next one) return, to look at new settings.
    pub fn wake(&self) {
        self.signal.wake();
    }
}
