//! Decoded blocks that were asked for lately. Keyed by block hash, so an entry never goes stale: what stands behind a
//! hash does not change, and a number is resolved to its hash by the caller's view each time.

use std::sync::{Arc, OnceLock};

use alloy_primitives::{Bloom, Log, B256};
use lru::LruCache;
use parking_lot::Mutex;

use super::encode::LogEncoder;
use super::logs::LogFilter;
use crate::primitives::{Receipt, SealedBlock};
use crate::rpc::{Json, RpcError, Scope};
use crate::state::View;

/// Bytes that each cache may hold, roughly.
const BUDGET: usize = 32 << 20;

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
    bloom: Bloom,
    encoded: OnceLock<EncodedLogs>,
}

/// All logs of a block as JSON objects, one after another with commas between them.
struct EncodedLogs {
    json: Json,
    /// Where each log's object ends, in the order of the block.
    ends: Vec<usize>,
}

/// What the logs of a block say about it.
pub struct LogSource {
    pub hash: B256,
    pub number: u64,
    pub timestamp: u64,
    pub transaction_hashes: Vec<B256>,
}

impl Receipts {
    pub fn new(list: Vec<Receipt>) -> Receipts {
        let first_logs = list
            .iter()
            .scan(0u64, |next, receipt| {
                let first = *next;
                *next += receipt.logs.len() as u64;
                Some(first)
            })
            .collect();
        let bloom = list.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom);
        Receipts { list, first_logs, bloom, encoded: OnceLock::new() }
    }

    /// Appends the logs that match, with commas between them and, unless `first`, before them.
    pub fn write_logs(
        &self,
        filter: &LogFilter,
        first: bool,
        source: impl FnOnce() -> Result<LogSource, RpcError>,
        out: &mut Json,
    ) -> Result<(), RpcError> {
        if !filter.may_match(&self.bloom) {
            return Ok(());
        }
        let encoded = match self.encoded.get() {
            Some(encoded) => encoded,
            None => {
                let fresh = self.encode(&source()?);
                self.encoded.get_or_init(|| fresh)
            }
        };
        let mut first = first;
        let mut start = 0;
        let logs = self.list.iter().flat_map(|receipt| &receipt.logs);
        for (log, end) in logs.zip(&encoded.ends) {
            if filter.matches(log) {
                if !first {
                    out.byte(b',');
                }
                first = false;
                out.raw(&encoded.json.as_bytes()[start..*end]);
            }
            // The next object begins behind the comma.
            start = end + 1;
        }
        Ok(())
    }

    fn encode(&self, source: &LogSource) -> EncodedLogs {
        let encoder = LogEncoder::new(&source.hash, source.number, source.timestamp, false);
        let mut encoded = EncodedLogs { json: Json::new(), ends: Vec::new() };
        for (tx_index, (receipt, tx_hash)) in self.list.iter().zip(&source.transaction_hashes).enumerate() {
            for log in &receipt.logs {
                if !encoded.ends.is_empty() {
                    encoded.json.byte(b',');
                }
                let log_index = encoded.ends.len() as u64;
                encoder.write(&mut encoded.json, log, tx_hash, tx_index as u64, log_index);
                encoded.ends.push(encoded.json.len());
            }
        }
        encoded
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
    match view.hash(number)? {
        Some(hash) => receipts_of(scope, view, number, hash),
        None => Ok(None),
    }
}

/// [`receipts`] of a block whose hash is known.
pub fn receipts_of(scope: &Scope<'_>, view: &View, number: u64, hash: B256) -> Result<Option<Arc<Receipts>>, RpcError> {
    let cache = &scope.context().eth.receipts;
    if let Some(receipts) = cache.lock().get(&hash) {
        return Ok(Some(receipts));
    }
    let Some(list) = view.receipts(number)? else { return Ok(None) };
    let receipts = Arc::new(Receipts::new(list));
    cache.lock().insert(hash, Arc::clone(&receipts), receipts_weight(&receipts));
    Ok(Some(receipts))
}

fn block_weight(block: &SealedBlock) -> usize {
    let transactions: usize = block.transactions.iter().map(|tx| 400 + 2 * tx.raw.len()).sum();
    1_000 + transactions + block.withdrawals.as_ref().map_or(0, |list| 48 * list.len())
}

fn receipts_weight(receipts: &Receipts) -> usize {
    let of = |receipt: &Receipt| {
        // The log itself and its encoding, which comes with the first query.
        let log = |log: &Log| 720 + 100 * log.topics().len() + 3 * log.data.data.len();
        400 + receipt.logs.iter().map(log).sum::<usize>()
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
