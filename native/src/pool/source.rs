//! The executable transactions, best first, read step by step out of the live pool.
//!
//! A source copies nothing: each step takes the lock for one look at the ready index and one at the last sender's next
//! nonce, O(log n). Transactions that arrive meanwhile may be seen or not; when the chain moves, the source ends.

use std::collections::BinaryHeap;
use std::sync::Arc;

use alloy_primitives::map::HashSet;
use alloy_primitives::Address;
use parking_lot::Mutex;

use super::ledger::{Entry, Ledger};
use super::ready::{Cursor, Fees, Key};
use crate::primitives::{SignedTx, SkipReason, TxSource};

pub(super) struct Best {
    ledger: Arc<Mutex<Ledger>>,
    fees: Fees,
    epoch: u64,
    /// Whether a rejection changes the pool.
    binding: bool,
    cursor: Cursor,
    /// Senders whose head was given out.
    seen: HashSet<Address>,
    /// Next transactions of senders in `seen`, best on top.
    followers: BinaryHeap<Follower>,
    /// Sender and nonce given out last; its next nonce joins `followers` at the next step, unless rejected.
    last: Option<(Address, u64)>,
}

struct Follower {
    rank: Key,
    entry: Arc<Entry>,
}

impl Best {
    pub fn new(ledger: Arc<Mutex<Ledger>>, fees: Fees, binding: bool) -> Best {
        let epoch = ledger.lock().epoch;
        Best {
            ledger,
            fees,
            epoch,
            binding,
            cursor: Cursor::default(),
            seen: HashSet::default(),
            followers: BinaryHeap::new(),
            last: None,
        }
    }
}

impl TxSource for Best {
    fn next(&mut self) -> Option<Arc<SignedTx>> {
        let shared = self.ledger.clone();
        let mut ledger = shared.lock();
        if ledger.epoch != self.epoch {
            return None;
        }
        if ledger.ready.fees() != self.fees {
            // Another reader asked for other fees: heads may have changed sets behind the cursor.
            ledger.rebase(self.fees);
            self.cursor = Cursor::default();
        }
        if let Some((sender, nonce)) = self.last.take() {
            let follower = ledger.pending_at(&sender, nonce + 1);
            if let Some((entry, rank)) = follower.and_then(|entry| Some((entry.clone(), ledger.ready.rank(entry)?))) {
                self.followers.push(Follower { rank, entry });
            }
        }
        let entry = self.pick(&ledger)?;
        self.last = Some((entry.tx.sender(), entry.tx.nonce));
        Some(entry.tx.pooled.tx.clone())
    }

    fn reject(&mut self, tx: &SignedTx, reason: SkipReason) {
        self.last = None;
        if !self.binding {
            return;
        }
        let mut ledger = self.ledger.lock();
        if ledger.epoch != self.epoch {
            // The verdict is about a state that is gone.
            return;
        }
        match reason {
            SkipReason::NoRoom => {}
            SkipReason::NotNow(_) => ledger.stall(&tx.hash),
            SkipReason::Invalid(_) => drop(ledger.remove(&tx.hash)),
        }
    }
}

impl Best {
    /// The best of: the top follower, the next head that pays its tip, the next head that pays what the cap leaves.
    fn pick(&mut self, ledger: &Ledger) -> Option<Arc<Entry>> {
        loop {
            let (tip, cap) = ledger.ready.after(&self.cursor);
            let cap_rank = cap.map(|(key, _)| ledger.ready.rank_of_cap(key));
            let follower = self.followers.peek().map(|follower| follower.rank);
            let best = [follower, tip.map(|(key, _)| key), cap_rank].into_iter().flatten().min()?;
            if follower == Some(best) {
                return self.followers.pop().map(|follower| follower.entry);
            }
            let entry = match (tip, cap) {
                (Some((key, entry)), _) if key == best => {
                    self.cursor.tip = Some(key);
                    entry
                }
                (_, Some((key, entry))) => {
                    self.cursor.cap = Some(key);
                    entry
                }
                _ => return None,
            };
            if self.seen.insert(entry.tx.sender()) {
                return Some(entry.clone());
            }
        }
    }
}

impl PartialEq for Follower {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Follower {}

impl PartialOrd for Follower {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Follower {
    /// The heap keeps its greatest element on top: that must be the least key.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.rank.cmp(&self.rank)
    }
}
