//! The heads of all senders (their first pending transaction) in the order in which a block wants them.
//!
//! A head's place depends on the base fee, but most places do not move when it changes. A head whose fee cap leaves
//! room for its whole tip pays exactly its tip cap; any other pays `fee cap - base fee`, and among those the order is
//! that of the fee caps. So there are two ordered sets, merged by the reader, and a change of the base fee touches only
//! the heads that cross from one to the other.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::ledger::Entry;

/// The fees for which the index is sorted: those of the next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Fees {
    /// Wei per gas.
    pub base: u64,
    /// Wei per blob gas.
    pub blob: u128,
}

/// Best first: highest fee, then earliest arrival.
pub(super) type Key = (Reverse<u128>, u64);

/// A head with its key in its set.
type Head<'a> = (Key, &'a Arc<Entry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Pays its whole tip cap (by arrival order: every ready head, all with the same key).
    ByTip(Key),
    /// Pays `fee cap - base fee`; below the base fee at the end of the set.
    ByCap(Key),
    /// Cannot run at these fees.
    Parked,
}

#[derive(Debug)]
pub(super) struct ReadyIndex {
    fifo: bool,
    fees: Fees,
    by_tip: BTreeMap<Key, Arc<Entry>>,
    by_cap: BTreeMap<Key, Arc<Entry>>,
    /// The base fee above which a head leaves `by_tip`, with its arrival number.
    thresholds: BTreeMap<(u128, u64), Arc<Entry>>,
    /// Heads with blobs by the blob base fee that they can pay.
    blob_caps: BTreeMap<(u128, u64), Arc<Entry>>,
}

impl ReadyIndex {
    pub fn new(fifo: bool) -> ReadyIndex {
        ReadyIndex {
            fifo,
            fees: Fees::default(),
            by_tip: BTreeMap::new(),
            by_cap: BTreeMap::new(),
            thresholds: BTreeMap::new(),
            blob_caps: BTreeMap::new(),
        }
    }

    pub fn fees(&self) -> Fees {
        self.fees
    }

    pub fn insert(&mut self, head: &Arc<Entry>) {
        self.thresholds.insert((self.threshold(head), head.seq), head.clone());
        if let Some(cap) = head.blob_cap() {
            self.blob_caps.insert((cap, head.seq), head.clone());
        }
        self.put(head);
    }

    pub fn remove(&mut self, head: &Entry) {
        self.thresholds.remove(&(self.threshold(head), head.seq));
        if let Some(cap) = head.blob_cap() {
            self.blob_caps.remove(&(cap, head.seq));
        }
        self.take(head);
    }

    pub fn clear(&mut self) {
        *self = ReadyIndex { fees: self.fees, ..ReadyIndex::new(self.fifo) };
    }

    /// Sorts for other fees, moving only the heads that cross. True when anything may have moved.
    pub fn rebase(&mut self, fees: Fees) -> bool {
        if fees == self.fees {
            return false;
        }
        let base = ordered(u128::from(self.fees.base), u128::from(fees.base));
        let blob = ordered(self.fees.blob, fees.blob);
        let crossing: Vec<Arc<Entry>> = self
            .thresholds
            .range((base.0, 0)..(base.1, 0))
            .chain(self.blob_caps.range((blob.0, 0)..(blob.1, 0)))
            .map(|(_, head)| head.clone())
            .collect();
        for head in &crossing {
            self.take(head);
        }
        self.fees = fees;
        for head in &crossing {
            self.put(head);
        }
        true
    }

    /// True when some head can run at the present fees.
    pub fn any(&self) -> bool {
        !self.by_tip.is_empty() || self.by_cap.first_key_value().is_some_and(|(key, _)| self.pays(key))
    }

    /// The first heads of both sets behind a cursor; heads that cannot pay the base fee are not given.
    pub fn after(&self, cursor: &Cursor) -> (Option<Head<'_>>, Option<Head<'_>>) {
        let tip = next(&self.by_tip, cursor.tip.as_ref());
        let cap = next(&self.by_cap, cursor.cap.as_ref()).filter(|(key, _)| self.pays(key));
        (tip, cap)
    }

    /// The order of a transaction among all that could go next; `None` when it cannot run at the present fees.
    pub fn rank(&self, entry: &Entry) -> Option<Key> {
        match self.place(entry) {
            Place::ByTip(key) => Some(key),
            Place::ByCap(key) if self.pays(&key) => Some(self.rank_of_cap(key)),
            Place::ByCap(_) | Place::Parked => None,
        }
    }

    /// The rank that a key of the set ordered by fee cap stands for.
    pub fn rank_of_cap(&self, (Reverse(fee_cap), seq): Key) -> Key {
        (Reverse(fee_cap.saturating_sub(u128::from(self.fees.base))), seq)
    }

    fn pays(&self, (Reverse(fee_cap), _): &Key) -> bool {
        *fee_cap >= u128::from(self.fees.base)
    }

    fn threshold(&self, head: &Entry) -> u128 {
        if self.fifo {
            head.fee_cap()
        } else {
            head.fee_cap() - head.tip_cap()
        }
    }

    fn place(&self, head: &Entry) -> Place {
        if head.blob_cap().is_some_and(|cap| cap < self.fees.blob) {
            return Place::Parked;
        }
        let pays_tip = self.threshold(head) >= u128::from(self.fees.base);
        match (self.fifo, pays_tip) {
            (true, true) => Place::ByTip((Reverse(0), head.seq)),
            (true, false) => Place::Parked,
            (false, true) => Place::ByTip((Reverse(head.tip_cap()), head.seq)),
            (false, false) => Place::ByCap((Reverse(head.fee_cap()), head.seq)),
        }
    }

    fn put(&mut self, head: &Arc<Entry>) {
        match self.place(head) {
            Place::ByTip(key) => drop(self.by_tip.insert(key, head.clone())),
            Place::ByCap(key) => drop(self.by_cap.insert(key, head.clone())),
            Place::Parked => {}
        }
    }

    fn take(&mut self, head: &Entry) {
        match self.place(head) {
            Place::ByTip(key) => drop(self.by_tip.remove(&key)),
            Place::ByCap(key) => drop(self.by_cap.remove(&key)),
            Place::Parked => {}
        }
    }

    /// Every head in the index by arrival number.
    #[cfg(test)]
    pub fn members(&self) -> std::collections::BTreeSet<u64> {
        self.thresholds.keys().map(|(_, seq)| *seq).collect()
    }
}

/// How far a reader has come in both sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    pub tip: Option<Key>,
    pub cap: Option<Key>,
}

fn next<'a>(set: &'a BTreeMap<Key, Arc<Entry>>, cursor: Option<&Key>) -> Option<Head<'a>> {
    let mut range = match cursor {
        Some(key) => set.range((Excluded(*key), Unbounded)),
        None => set.range(..),
    };
    range.next().map(|(key, entry)| (*key, entry))
}

fn ordered(a: u128, b: u128) -> (u128, u128) {
    (a.min(b), a.max(b))
}
