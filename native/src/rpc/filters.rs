//! Polling filters: eth_newFilter and its kin.
//!
//! A filter is a position in the chain, not a queue: a poll reads what came after it. Only hashes of pending
//! transactions must be remembered, in one bounded ring for all filters. Filters that nobody polls expire.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::hex;
use parking_lot::Mutex;

use super::dispatch::{method, Class, Method, RpcConfig, Scope};
use super::error::RpcError;
use super::eth::logs::{write_logs, LogQuery, LogRange};
use super::eth::{encode, BlockId};
use super::json::Json;
use super::params::Params;
use crate::primitives::SignedTx;

pub const METHODS: &[Method] = &[
    method("eth_newFilter", Class::Inline, new_filter),
    method("eth_newBlockFilter", Class::Inline, new_block_filter),
    method("eth_newPendingTransactionFilter", Class::Inline, new_pending_filter),
    method("eth_uninstallFilter", Class::Inline, uninstall),
    // A poll moves the filter on, so it must not be tried twice.
    method("eth_getFilterChanges", Class::Heavy, changes),
    method("eth_getFilterLogs", Class::Heavy, logs),
];

/// Pending transactions that a slow poller may miss at most before older ones are lost to it.
const PENDING_KEPT: usize = 16_384;
/// Block hashes of one answer.
const MAX_HASHES: u64 = 100_000;
/// Expired filters are looked for at most this often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone)]
enum Kind {
    Blocks,
    Logs(Arc<LogQuery>),
    Pending { full: bool },
}

struct Filter {
    kind: Kind,
    /// The first block (or pending transaction) that was not answered yet.
    next: u64,
    polled: Instant,
}

impl Filter {
    fn wants_pending(&self) -> bool {
        matches!(self.kind, Kind::Pending { .. })
    }
}

#[derive(Default)]
struct Pending {
    kept: VecDeque<Arc<SignedTx>>,
    /// Position of the first kept one since the start.
    first: u64,
}

impl Pending {
    fn end(&self) -> u64 {
        self.first + self.kept.len() as u64
    }
}

struct Installed {
    filters: HashMap<u128, Filter>,
    /// How many of them ask for pending transactions.
    pending_filters: usize,
    pending: Pending,
    swept: Instant,
}

/// All filters of the server.
pub struct Filters {
    installed: Mutex<Installed>,
    max: usize,
    ttl: Duration,
}

impl Filters {
    pub fn new(config: &RpcConfig) -> Filters {
        let installed = Installed {
            filters: HashMap::new(),
            pending_filters: 0,
            pending: Pending::default(),
            swept: Instant::now(),
        };
        Filters {
            installed: Mutex::new(installed),
            max: config.max_filters,
            ttl: Duration::from_secs(config.filter_ttl_secs),
        }
    }

    fn install(&self, kind: Kind, next: u64) -> Result<u128, RpcError> {
        let now = Instant::now();
        let mut installed = self.installed.lock();
        if installed.swept + SWEEP_INTERVAL <= now || installed.filters.len() >= self.max {
            installed.swept = now;
            installed.filters.retain(|_, filter| filter.polled + self.ttl > now);
            installed.pending_filters = installed.filters.values().filter(|filter| filter.wants_pending()).count();
        }
        if installed.filters.len() >= self.max {
            return Err(RpcError::limit(format!("too many filters: want at most {}", self.max)));
        }
        let next = match kind {
            Kind::Pending { .. } => installed.pending.end(),
            Kind::Blocks | Kind::Logs(_) => next,
        };
        let id = rand::random();
        let filter = Filter { kind, next, polled: now };
        installed.pending_filters += usize::from(filter.wants_pending());
        installed.filters.insert(id, filter);
        Ok(id)
    }

    /// False when there was none.
    fn remove(&self, id: u128) -> bool {
        let mut installed = self.installed.lock();
        let Some(filter) = installed.filters.remove(&id) else { return false };
        installed.pending_filters -= usize::from(filter.wants_pending());
        true
    }

    /// Runs `f` on a living filter.
    fn with<T>(&self, id: u128, f: impl FnOnce(&mut Filter, &Pending) -> T) -> Result<T, RpcError> {
        let now = Instant::now();
        let mut installed = self.installed.lock();
        let Installed { filters, pending, .. } = &mut *installed;
        let filter = filters.get_mut(&id).filter(|filter| filter.polled + self.ttl > now).ok_or_else(not_found)?;
        filter.polled = now;
        Ok(f(filter, pending))
    }

    /// The chain went back to block `number`: what comes after it is new again.
    pub(super) fn rewind(&self, number: u64) {
        for filter in self.installed.lock().filters.values_mut() {
            if !filter.wants_pending() {
                filter.next = filter.next.min(number + 1);
            }
        }
    }

    /// Transactions that became pending; kept only while a filter asks for them.
    pub(super) fn pending(&self, transactions: &[Arc<SignedTx>]) {
        let mut installed = self.installed.lock();
        let wanted = installed.pending_filters > 0;
        let pending = &mut installed.pending;
        if !wanted {
            pending.first = pending.end();
            pending.kept.clear();
            return;
        }
        pending.kept.extend(transactions.iter().cloned());
        let surplus = pending.kept.len().saturating_sub(PENDING_KEPT);
        pending.kept.drain(..surplus);
        pending.first += surplus as u64;
    }
}

fn not_found() -> RpcError {
    RpcError::server("filter not found")
}

fn id_of(params: &Params<'_>) -> Result<u128, RpcError> {
    params.at_most(1)?;
    let text: String = params.required(0)?;
    let mut bytes = [0u8; 16];
    let digits = text.strip_prefix("0x").ok_or_else(not_found)?;
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| not_found())?;
    Ok(u128::from_be_bytes(bytes))
}

fn install(scope: &Scope<'_>, kind: Kind, out: &mut Json) -> Result<(), RpcError> {
    let next = scope.view()?.head().header.number + 1;
    let id = scope.context().filters.install(kind, next)?;
    out.hex(id.to_be_bytes());
    Ok(())
}

fn new_filter(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let query = LogQuery::argument(&params, 0)?;
    install(scope, Kind::Logs(Arc::new(query)), out)
}

fn new_block_filter(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(0)?;
    install(scope, Kind::Blocks, out)
}

fn new_pending_filter(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let full = params.optional(0)?.unwrap_or(false);
    install(scope, Kind::Pending { full }, out)
}

fn uninstall(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    // geth answers false for an id that never existed, whatever it looks like.
    let found = match id_of(&params) {
        Ok(id) => scope.context().filters.remove(id),
        Err(error) if error == not_found() => false,
        Err(error) => return Err(error),
    };
    out.bool(found);
    Ok(())
}

/// What a poll has to read.
enum Due {
    Blocks { from: u64, to: u64 },
    Logs(Option<LogQuery>),
    Pending { transactions: Vec<Arc<SignedTx>>, full: bool },
}

fn changes(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    let id = id_of(&params)?;
    let head = scope.view()?.head().header.number;
    let due = scope.context().filters.with(id, |filter, pending| {
        let from = filter.next;
        match &filter.kind {
            Kind::Blocks => {
                let to = head.min(from.saturating_add(MAX_HASHES - 1));
                filter.next = from.max(to + 1);
                Due::Blocks { from, to }
            }
            Kind::Logs(query) => {
                filter.next = from.max(head + 1);
                Due::Logs(since(query, from, head))
            }
            Kind::Pending { full } => {
                let skip = from.saturating_sub(pending.first) as usize;
                filter.next = pending.end();
                Due::Pending { transactions: pending.kept.iter().skip(skip).cloned().collect(), full: *full }
            }
        }
    })?;
    match due {
        Due::Blocks { from, to } => block_hashes(scope, from, to, out),
        Due::Logs(Some(query)) => write_logs(scope, &query, out),
        Due::Logs(None) => {
            out.raw("[]");
            Ok(())
        }
        Due::Pending { transactions, full } => {
            out.array(&transactions, |out, tx| match full {
                true => encode::transaction(out, tx, None),
                false => out.hex(tx.hash),
            });
            Ok(())
        }
    }
}

fn block_hashes(scope: &Scope<'_>, from: u64, to: u64, out: &mut Json) -> Result<(), RpcError> {
    let view = scope.view()?;
    let hashes = (from..=to).filter_map(|number| view.hash(number).transpose()).collect::<Result<Vec<_>, _>>()?;
    out.array(hashes, |out, hash| out.hex(hash));
    Ok(())
}

fn logs(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    let id = id_of(&params)?;
    let query = scope.context().filters.with(id, |filter, _| match &filter.kind {
        Kind::Logs(query) => Some(Arc::clone(query)),
        Kind::Blocks | Kind::Pending { .. } => None,
    })?;
    // geth's answer for the other kinds, too.
    write_logs(scope, &*query.ok_or_else(not_found)?, out)
}

/// The part of a query that blocks `first..=head` may answer; `None` when that is nothing.
fn since(query: &LogQuery, first: u64, head: u64) -> Option<LogQuery> {
    let LogRange::Between { from, to } = query.range else { return None };
    let from = match from {
        BlockId::Number(number) => first.max(number),
        _ => first,
    };
    let to = match to {
        BlockId::Number(number) => head.min(number),
        _ => head,
    };
    let range = LogRange::Between { from: BlockId::Number(from), to: BlockId::Number(to) };
    (from <= to).then(|| LogQuery { filter: query.filter.clone(), range })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(max: usize, ttl: u64) -> Filters {
        Filters::new(&RpcConfig { max_filters: max, filter_ttl_secs: ttl, ..RpcConfig::default() })
    }

    #[test]
    fn filters_are_bounded() {
        let filters = filters(2, 300);
        filters.install(Kind::Blocks, 1).unwrap();
        filters.install(Kind::Blocks, 1).unwrap();
        let error = filters.install(Kind::Blocks, 1).unwrap_err();
        assert_eq!(error.message, "too many filters: want at most 2");
    }

    #[test]
    fn an_expired_filter_is_gone_and_makes_room() {
        let filters = filters(1, 0);
        let id = filters.install(Kind::Blocks, 1).unwrap();
        assert_eq!(filters.with(id, |_, _| ()).unwrap_err(), not_found());
        filters.install(Kind::Blocks, 1).unwrap();
        assert_eq!(filters.installed.lock().filters.len(), 1);
    }

    #[test]
    fn pending_transactions_are_kept_only_while_a_filter_asks_for_them() {
        let filters = filters(9, 300);
        let tx = super::super::tests::some_transaction();
        filters.pending(&[Arc::clone(&tx)]);
        let id = filters.install(Kind::Pending { full: false }, 0).unwrap();
        assert_eq!(filters.with(id, |filter, pending| pending.end() - filter.next).unwrap(), 0);
        filters.pending(&vec![tx; PENDING_KEPT + 5]);
        assert_eq!(filters.installed.lock().pending.kept.len(), PENDING_KEPT);
        assert!(filters.remove(id));
        filters.pending(&[]);
        assert!(filters.installed.lock().pending.kept.is_empty());
    }

    #[test]
    fn a_rewind_makes_later_blocks_new_again() {
        let filters = filters(9, 300);
        let id = filters.install(Kind::Blocks, 10).unwrap();
        filters.rewind(3);
        assert_eq!(filters.with(id, |filter, _| filter.next).unwrap(), 4);
        filters.rewind(7);
        assert_eq!(filters.with(id, |filter, _| filter.next).unwrap(), 4);
    }

    fn query(from: BlockId, to: BlockId) -> LogQuery {
        LogQuery { filter: Default::default(), range: LogRange::Between { from, to } }
    }

    #[test]
    fn a_poll_asks_for_new_blocks_within_the_range_of_its_filter() {
        let open = query(BlockId::Latest, BlockId::Latest);
        let number = BlockId::Number;
        assert_eq!(since(&open, 5, 9), Some(query(number(5), number(9))));
        assert_eq!(since(&open, 10, 9), None);
        assert_eq!(since(&query(number(7), number(8)), 5, 9), Some(query(number(7), number(8))));
        assert_eq!(since(&query(number(0), number(4)), 5, 9), None);
    }
}
