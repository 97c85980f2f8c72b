//! Decoded blocks that were asked for lately. Keyed by block hash, so an entry never goes stale: what stands behind a
//! hash does not change, and a number is resolved to its hash by the caller's view each time.

use std::sync::Arc;

use alloy_primitives::B256;
use lru::LruCache;
use parking_lot::Mutex;

use crate::primitives::{Receipt, SealedBlock};
use crate::rpc::{RpcError, Scope};
use crate::state::View;

/// Bytes that each cache may hold, roughly.
const BUDGET: usize = 24 << 20;

/// A least-recently-used map bounded by the weight of its values.
struct Weighted<V> {
    entries: LruCache<B256, (Arc<V>, usize)>,
    weight: usize,
}

impl<V> Weighted<V> {
    fn new() -> Weighted<V> {
        Weighted { entries: LruCache::unbounded(), weight: 0 }
    }

    fn get(&mut self, hash: &B256) -> Option<Arc<V>> {
        self.entries.get(hash).map(|(value, _)| Arc::clone(value))
    }

    fn insert(&mut self, hash: B256, value: Arc<V>, weight: usize) {
        if weight > BUDGET {
            return;
        }
        if let Some((_, (_, old))) = self.entries.push(hash, (value, weight)) {
            self.weight -= old;
        }
        self.weight += weight;
        while self.weight > BUDGET {
            let Some((_, (_, old))) = self.entries.pop_lru() else { break };
            self.weight -= old;
        }
    }
}

/// The receipts of a block with what their answers need beside them.
pub struct Receipts {
    pub list: Vec<Receipt>,
    /// Where in the block's sequence of logs each receipt's begin.
    pub first_logs: Vec<u64>,
    pub transaction_hashes: Vec<B256>,
}

impl Receipts {
    pub fn new(list: Vec<Receipt>, transaction_hashes: Vec<B256>) -> Receipts {
        let first_logs = list
            .iter()
            .scan(0u64, |next, receipt| {
                let first = *next;
                *next += receipt.logs.len() as u64;
                Some(first)
            })
            .collect();
        Receipts { list, first_logs, transaction_hashes }
    }
}

/// The caches of this room, one set per server.
pub struct Caches {
    blocks: Mutex<Weighted<SealedBlock>>,
    receipts: Mutex<Weighted<Receipts>>,
    /// Suggested tip by the head that it was computed for.
    pub(super) tip: Mutex<Option<(B256, u128)>>,
}

impl Default for Caches {
    fn default() -> Caches {
        Caches { blocks: Mutex::new(Weighted::new()), receipts: Mutex::new(Weighted::new()), tip: Mutex::new(None) }
    }
}

/// Committed block `number`; `None` beyond the head.
pub fn block(scope: &Scope<'_>, view: &View, number: u64) -> Result<Option<Arc<SealedBlock>>, RpcError> {
    let Some(hash) = view.hash(number)? else { return Ok(None) };
    let cache = &scope.context().eth.blocks;
    if let Some(block) = cache.lock().get(&hash) {
        return Ok(Some(block));
    }
    let Some(block) = view.block(number)? else { return Ok(None) };
    let block = Arc::new(block);
    cache.lock().insert(hash, Arc::clone(&block), block_weight(&block));
    Ok(Some(block))
}

/// Receipts of committed block `number`; `None` beyond the head.
pub fn receipts(scope: &Scope<'_>, view: &View, number: u64) -> Result<Option<Arc<Receipts>>, RpcError> {
    let Some(hash) = view.hash(number)? else { return Ok(None) };
    let cache = &scope.context().eth.receipts;
    if let Some(receipts) = cache.lock().get(&hash) {
        return Ok(Some(receipts));
    }
    let (Some(list), Some(hashes)) = (view.receipts(number)?, view.transaction_hashes(number)?) else {
        return Ok(None);
    };
    let receipts = Arc::new(Receipts::new(list, hashes));
    cache.lock().insert(hash, Arc::clone(&receipts), receipts_weight(&receipts));
    Ok(Some(receipts))
}

fn block_weight(block: &SealedBlock) -> usize {
    let transactions: usize = block.transactions.iter().map(|tx| 400 + 2 * tx.raw.len()).sum();
    1_000 + transactions + block.withdrawals.as_ref().map_or(0, |list| 48 * list.len())
}

fn receipts_weight(receipts: &Receipts) -> usize {
    let of = |receipt: &Receipt| {
        let logs: usize = receipt.logs.iter().map(|log| 120 + 32 * log.topics().len() + log.data.data.len()).sum();
        440 + logs
    };
    100 + receipts.list.iter().map(of).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_entry_goes_when_the_budget_is_spent() {
        let mut cache = Weighted::new();
        let key = |n: u8| B256::repeat_byte(n);
        let third = BUDGET / 3;
        for n in 1..=3u8 {
            cache.insert(key(n), Arc::new(n), third);
        }
        assert!(cache.get(&key(1)).is_some());
        cache.insert(key(4), Arc::new(4), third);
        assert!(cache.get(&key(2)).is_none());
        assert!(cache.get(&key(1)).is_some());
        assert_eq!(cache.weight, 3 * third);
    }

    #[test]
    fn replacing_an_entry_does_not_count_it_twice() {
        let mut cache = Weighted::new();
        cache.insert(B256::ZERO, Arc::new(1), 100);
        cache.insert(B256::ZERO, Arc::new(2), 60);
        assert_eq!((cache.weight, cache.entries.len()), (60, 1));
    }

    #[test]
    fn an_entry_beyond_the_budget_is_not_kept() {
        let mut cache = Weighted::new();
        cache.insert(B256::ZERO, Arc::new(1), BUDGET + 1);
        assert!(cache.get(&B256::ZERO).is_none());
    }
}
