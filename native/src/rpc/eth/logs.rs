//! Log queries: parsing, matching, and the search over committed blocks.

use std::time::Instant;

use alloy_primitives::{Address, Bloom, BloomInput, Log, B256};
use serde_json::value::RawValue;

use super::block_id::BlockId;
use super::cache::{self, LogSource};
use super::encode::LogEncoder;
use crate::primitives::{Receipt, SealedBlock};
use crate::rpc::codec;
use crate::rpc::params::{invalid, missing};
use crate::rpc::{Json, Params, RpcError, Scope};

/// The EVM logs at most this many topics.
const MAX_TOPICS: usize = 4;
/// Alternatives for the address or for one topic.
const MAX_ALTERNATIVES: usize = 1000;

/// Which logs are meant: an empty list of alternatives matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    pub addresses: Vec<Address>,
    /// Per position.
    pub topics: Vec<Vec<B256>>,
}

impl LogFilter {
    pub fn matches(&self, log: &Log) -> bool {
        if !self.addresses.is_empty() && !self.addresses.contains(&log.address) {
            return false;
        }
        let topics = log.data.topics();
        self.topics.len() <= topics.len()
            && self.topics.iter().zip(topics).all(|(wanted, topic)| wanted.is_empty() || wanted.contains(topic))
    }

    /// False only when no log under this bloom can match.
    pub fn may_match(&self, bloom: &Bloom) -> bool {
        let any = |mut inputs: &mut dyn Iterator<Item = &[u8]>| {
            (&mut inputs).any(|input| bloom.contains_input(BloomInput::Raw(input)))
        };
        (self.addresses.is_empty() || any(&mut self.addresses.iter().map(|address| address.as_slice())))
            && self
                .topics
                .iter()
                .all(|wanted| wanted.is_empty() || any(&mut wanted.iter().map(|topic| topic.as_slice())))
    }
}

/// Which blocks are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRange {
    Block(B256),
    Between { from: BlockId, to: BlockId },
}

/// The argument of `eth_getLogs` and `eth_newFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogQuery {
    pub filter: LogFilter,
    pub range: LogRange,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawQuery<'a> {
    block_hash: Option<B256>,
    #[serde(borrow, default)]
    from_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    to_block: Option<&'a RawValue>,
    #[serde(borrow, default)]
    address: Option<&'a RawValue>,
    #[serde(borrow, default)]
    topics: Option<Vec<Option<&'a RawValue>>>,
}

/// One value or a list of alternatives; `None` in a list stands for "anything".
fn alternatives<T>(raw: &RawValue, parse: impl Fn(&RawValue) -> Result<T, String>) -> Result<Vec<T>, String> {
    if !raw.get().starts_with('[') {
        return Ok(vec![parse(raw)?]);
    }
    let items: Vec<Option<&RawValue>> = crate::decode::from_json(raw.get())?;
    if items.len() > MAX_ALTERNATIVES {
        return Err("exceed max addresses or topics per search position".to_owned());
    }
    let mut parsed = Vec::with_capacity(items.len());
    for item in items {
        match item.filter(|raw| raw.get() != "null") {
            Some(raw) => parsed.push(parse(raw)?),
            None => return Ok(Vec::new()),
        }
    }
    Ok(parsed)
}

fn parse_address(raw: &RawValue) -> Result<Address, String> {
    codec::string(raw).and_then(|text| codec::parse_address(&text)).map_err(|error| format!("invalid address: {error}"))
}

fn parse_topic(raw: &RawValue) -> Result<B256, String> {
    codec::string(raw).and_then(|text| codec::parse_hash(&text)).map_err(|error| format!("invalid topic: {error}"))
}

impl LogQuery {
    pub fn parse(raw: &RawValue) -> Result<LogQuery, String> {
        let query: RawQuery<'_> = crate::decode::from_json(raw.get())?;
        let bound = |name: &str, raw: Option<&RawValue>| match raw.filter(|raw| raw.get() != "null") {
            Some(raw) => BlockId::parse_number(raw).map(Some).map_err(|why| format!("{name}: {why}")),
            None => Ok(None),
        };
        let (from, to) = (bound("fromBlock", query.from_block)?, bound("toBlock", query.to_block)?);
        let range = match query.block_hash {
            Some(_) if from.is_some() || to.is_some() => {
                return Err("cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other".to_owned());
            }
            Some(hash) => LogRange::Block(hash),
            None => LogRange::Between { from: from.unwrap_or(BlockId::Latest), to: to.unwrap_or(BlockId::Latest) },
        };
        let addresses = match query.address.filter(|raw| raw.get() != "null") {
            Some(raw) => alternatives(raw, parse_address)?,
            None => Vec::new(),
        };
        let topics = query.topics.unwrap_or_default();
        if topics.len() > MAX_TOPICS {
            return Err("exceed max topics".to_owned());
        }
        let topics = topics
            .into_iter()
            .map(|topic| match topic.filter(|raw| raw.get() != "null") {
                Some(raw) => alternatives(raw, parse_topic),
                None => Ok(Vec::new()),
            })
            .collect::<Result<_, _>>()?;
        Ok(LogQuery { filter: LogFilter { addresses, topics }, range })
    }

    pub fn argument(params: &Params<'_>, index: usize) -> Result<LogQuery, RpcError> {
        let raw = params.raw(index).ok_or_else(|| missing(index))?;
        LogQuery::parse(raw).map_err(|why| invalid(index, why))
    }
}

pub fn get_logs(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    write_logs(scope, &LogQuery::argument(&params, 0)?, out)
}

/// The numbers of the first and last block of the search.
fn bounds(scope: &Scope<'_>, from: BlockId, to: BlockId) -> Result<(u64, u64), RpcError> {
    let head = scope.view()?.head().header.number;
    let number = |id| match id {
        BlockId::Number(number) => Ok(number),
        BlockId::Pending => Err(RpcError::invalid_params("pending logs are not supported")),
        BlockId::Latest | BlockId::Hash(_) => Ok(head),
    };
    let (from, to) = (number(from)?, number(to)?);
    if from > to {
        return Err(RpcError::invalid_params("invalid block range params"));
    }
    if to > head {
        return Err(RpcError::invalid_params("block range extends beyond current head block"));
    }
    let limit = scope.config().log_range;
    if limit != 0 && to - from > limit {
        return Err(RpcError::invalid_params(format!("exceed maximum block range {limit}")));
    }
    Ok((from, to))
}

/// Appends the array of all logs that `query` means.
pub fn write_logs(scope: &Scope<'_>, query: &LogQuery, out: &mut Json) -> Result<(), RpcError> {
    let view = scope.view()?;
    let blocks = match query.range {
        LogRange::Block(hash) => vec![view.number(&hash)?.ok_or_else(|| RpcError::server("unknown block"))?],
        LogRange::Between { from, to } => {
            let (from, to) = bounds(scope, from, to)?;
            let first_topic = query.filter.topics.first().map_or(&[][..], Vec::as_slice);
            view.log_blocks(from, to, &query.filter.addresses, first_topic)?
        }
    };
    let start = out.len();
    out.byte(b'[');
    for number in blocks {
        if query.filter.topics.len() > 1 {
            // The index knows the first topic only; a header's bloom is read sooner than the receipts.
            let Some(header) = view.header(number)? else { continue };
            if !query.filter.may_match(&header.logs_bloom) {
                continue;
            }
        }
        let Some(hash) = view.hash(number)? else { continue };
        let Some(receipts) = cache::receipts_of(scope, view, number, hash)? else { continue };
        let source = || {
            let timestamp = view.header(number)?.map_or(0, |header| header.timestamp);
            let transaction_hashes = view.transaction_hashes(number)?.unwrap_or_default();
            Ok(LogSource { hash, number, timestamp, transaction_hashes })
        };
        receipts.write_logs(&query.filter, out.len() == start + 1, source, out)?;
        if out.len() - start > scope.config().max_result {
            let limit = scope.config().max_result;
            return Err(RpcError::limit(format!("query result exceeds {limit} bytes, narrow the block range")));
        }
        if Instant::now() >= scope.deadline() {
            return Err(scope.timed_out());
        }
    }
    out.byte(b']');
    Ok(())
}

/// The matching logs of one block, each as a JSON object of its own, for filters and subscriptions.
pub fn block_logs(filter: &LogFilter, block: &SealedBlock, receipts: &[Receipt], removed: bool) -> Vec<Vec<u8>> {
    if !filter.may_match(&block.header.logs_bloom) {
        return Vec::new();
    }
    let encoder = LogEncoder::new(&block.hash, block.header.number, block.header.timestamp, removed);
    let mut found = Vec::new();
    let mut log_index = 0;
    for (tx_index, (tx, receipt)) in block.transactions.iter().zip(receipts).enumerate() {
        for log in &receipt.logs {
            if filter.matches(log) {
                let mut out = Json::with_capacity(640);
                encoder.write(&mut out, log, &tx.hash, tx_index as u64, log_index);
                found.push(out.into_bytes());
            }
            log_index += 1;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::Bytes;

    fn parse(json: &str) -> Result<LogQuery, String> {
        LogQuery::parse(&RawValue::from_string(json.to_owned()).unwrap())
    }

    fn topic(n: u8) -> B256 {
        B256::repeat_byte(n)
    }

    fn log(address: u8, topics: &[u8]) -> Log {
        Log::new_unchecked(Address::repeat_byte(address), topics.iter().map(|n| topic(*n)).collect(), Bytes::new())
    }

    #[test]
    fn an_empty_query_means_every_log_of_the_latest_block() {
        let query = parse("{}").unwrap();
        assert_eq!(query.filter, LogFilter::default());
        assert_eq!(query.range, LogRange::Between { from: BlockId::Latest, to: BlockId::Latest });
    }

    #[test]
    fn addresses_and_topics_are_single_values_lists_or_null() {
        let (a, b) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let json =
            format!(r#"{{"address":["{a}","{b}"],"topics":[null,"{}",["{}","{}"]]}}"#, topic(1), topic(2), topic(3));
        let filter = parse(&json).unwrap().filter;
        assert_eq!(filter.addresses, [a, b]);
        assert_eq!(filter.topics, [vec![], vec![topic(1)], vec![topic(2), topic(3)]]);
        let any = parse(&format!(r#"{{"topics":[["{}",null]]}}"#, topic(1))).unwrap();
        assert_eq!(any.filter.topics, [Vec::<B256>::new()]);
    }

    #[test]
    fn a_block_hash_excludes_a_range() {
        let error = parse(&format!(r#"{{"blockHash":"{}","fromBlock":"0x1"}}"#, topic(1))).unwrap_err();
        assert!(error.starts_with("cannot specify both BlockHash and FromBlock/ToBlock"), "{error}");
    }

    #[test]
    fn malformed_members_are_refused() {
        assert!(parse(r#"{"address":"0x12"}"#).unwrap_err().starts_with("invalid address: hex string has length 2"));
        assert!(parse(r#"{"topics":["0x12"]}"#).unwrap_err().starts_with("invalid topic: hex string has length 2"));
        assert!(parse(r#"{"topics":[null,null,null,null,null]}"#).unwrap_err().contains("exceed max topics"));
    }

    #[test]
    fn positions_are_matched_in_order_and_wildcards_match_all() {
        let filter = LogFilter { addresses: vec![], topics: vec![vec![], vec![topic(2), topic(3)]] };
        assert!(filter.matches(&log(9, &[1, 2])));
        assert!(filter.matches(&log(9, &[7, 3, 4])));
        assert!(!filter.matches(&log(9, &[2, 1])));
        assert!(!filter.matches(&log(9, &[2])), "a wildcard still wants a topic at its position");
    }

    #[test]
    fn a_bloom_never_hides_a_matching_log() {
        let log = log(5, &[1, 2]);
        let mut bloom = Bloom::ZERO;
        bloom.accrue_log(&log);
        let filter =
            LogFilter { addresses: vec![Address::repeat_byte(5)], topics: vec![vec![topic(1)], vec![topic(2)]] };
        assert!(filter.matches(&log) && filter.may_match(&bloom));
        let other = LogFilter { addresses: vec![Address::repeat_byte(6)], topics: vec![] };
        assert!(!other.may_match(&bloom));
    }
}
