//! Fee suggestions and fee history.

use std::sync::Arc;

use alloy_consensus::transaction::Transaction as _;
use alloy_consensus::Header;
use serde_json::value::RawValue;

use super::block::blob_gas_price;
use super::block_id::{pending_block, BlockId};
use super::cache;
use crate::execution::{ChainSpec, Fork};
use crate::primitives::{Receipt, SealedBlock};
use crate::rpc::codec;
use crate::rpc::params::{invalid, missing};
use crate::rpc::{Json, Params, RpcError, Scope};

/// Blocks whose tips make the suggestion.
const TIP_BLOCKS: u64 = 20;
/// Cheapest transactions looked at per block.
const TIPS_PER_BLOCK: usize = 3;
const TIP_PERCENTILE: usize = 60;
/// Tips below this say nothing about the market, in wei.
const TIP_IGNORED_BELOW: u128 = 2;
/// The suggestion on a chain without a market: 1 gwei.
const DEFAULT_TIP: u128 = 1_000_000_000;
/// Never suggest more: 500 gwei.
const MAX_TIP: u128 = 500_000_000_000;
/// Blocks of one eth_feeHistory.
const MAX_HISTORY: u64 = 1024;
const MAX_PERCENTILES: usize = 100;

/// Base fee of the next block and the suggested tip.
pub fn gas_price(scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    let tip = suggested_tip(scope)?;
    out.quantity_u128(tip + u128::from(next_base_fee(scope)?.unwrap_or(0)));
    Ok(())
}

pub fn max_priority_fee_per_gas(scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    out.quantity_u128(suggested_tip(scope)?);
    Ok(())
}

pub fn base_fee(scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    match next_base_fee(scope)? {
        Some(fee) => out.quantity(fee),
        None => out.null(),
    }
    Ok(())
}

pub fn blob_base_fee(scope: &Scope<'_>, _params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    let header = Arc::clone(&scope.engine().head().header);
    match header.excess_blob_gas {
        Some(_) => out.quantity_u128(blob_gas_price(&scope.engine().spec(), &header)),
        None => out.null(),
    }
    Ok(())
}

/// Base fee of the next block under the devnet's controls; `None` before London.
pub fn next_base_fee(scope: &Scope<'_>) -> Result<Option<u64>, RpcError> {
    let context = scope.engine().pool_context();
    Ok((context.fork >= Fork::London).then_some(context.base_fee))
}

/// A tip that got transactions into recent blocks: a percentile of the cheapest tips of each.
pub fn suggested_tip(scope: &Scope<'_>) -> Result<u128, RpcError> {
    let view = scope.view()?;
    let head = view.head();
    if let Some((hash, tip)) = *scope.context().eth.tip.lock() {
        if hash == head.hash {
            return Ok(tip);
        }
    }
    let last = head.header.number;
    let mut tips = Vec::new();
    for number in last.saturating_sub(TIP_BLOCKS - 1)..=last {
        let Some(block) = cache::block(scope, view, number)? else { continue };
        let mut of_block: Vec<u128> = block
            .transactions
            .iter()
            .filter(|tx| tx.sender != block.header.beneficiary)
            .map(|tx| effective_tip(&tx.tx, &block.header))
            .filter(|tip| *tip >= TIP_IGNORED_BELOW)
            .collect();
        of_block.sort_unstable();
        tips.extend(of_block.into_iter().take(TIPS_PER_BLOCK));
    }
    tips.sort_unstable();
    let tip = match tips.len() {
        0 => DEFAULT_TIP,
        count => tips[(count - 1) * TIP_PERCENTILE / 100].min(MAX_TIP),
    };
    *scope.context().eth.tip.lock() = Some((head.hash, tip));
    Ok(tip)
}

/// What the beneficiary got per gas.
fn effective_tip(tx: &crate::primitives::Transaction, header: &Header) -> u128 {
    let base_fee = header.base_fee_per_gas.unwrap_or(0);
    tx.effective_tip_per_gas(base_fee).unwrap_or(0)
}

/// What one block contributes to the history.
struct BlockFees {
    base_fee: u64,
    next_base_fee: u64,
    gas_used_ratio: f64,
    blob_fee: u128,
    next_blob_fee: u128,
    blob_used_ratio: f64,
    rewards: Vec<u128>,
}

impl BlockFees {
    fn of(spec: &ChainSpec, header: &Header, rewards: Vec<u128>) -> BlockFees {
        let time = header.timestamp;
        let max_blob_gas = spec.blob_limits(time).1 * alloy_eips::eip4844::DATA_GAS_PER_BLOB;
        let next_blob_fee = match header.excess_blob_gas {
            Some(_) => spec.next_excess_blob_gas(header, time).map_or(0, |excess| spec.blob_base_fee(excess, time)),
            None => 0,
        };
        BlockFees {
            base_fee: header.base_fee_per_gas.unwrap_or(0),
            next_base_fee: spec.next_base_fee(header, time).unwrap_or(0),
            gas_used_ratio: ratio(header.gas_used, header.gas_limit),
            blob_fee: blob_gas_price(spec, header),
            next_blob_fee,
            blob_used_ratio: ratio(header.blob_gas_used.unwrap_or(0), max_blob_gas),
            rewards,
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

/// The tips at the given percentiles of the block's gas, cheapest first.
fn rewards(block: &SealedBlock, receipts: &[Receipt], percentiles: &[f64]) -> Vec<u128> {
    let mut paid: Vec<(u128, u64)> = block
        .transactions
        .iter()
        .zip(receipts)
        .map(|(tx, receipt)| (effective_tip(&tx.tx, &block.header), receipt.gas_used))
        .collect();
    if paid.is_empty() {
        return vec![0; percentiles.len()];
    }
    paid.sort_by_key(|(tip, _)| *tip);
    let mut index = 0;
    let mut gas = paid[0].1;
    percentiles
        .iter()
        .map(|percentile| {
            let threshold = (block.header.gas_used as f64 * percentile / 100.0) as u64;
            while gas < threshold && index < paid.len() - 1 {
                index += 1;
                gas += paid[index].1;
            }
            paid[index].0
        })
        .collect()
}

/// The number of blocks: hexadecimal or decimal, as a string or a number.
fn block_count(raw: &RawValue) -> Result<u64, String> {
    if let Ok(count) = serde_json::from_str::<u64>(raw.get()) {
        return Ok(count);
    }
    let text = codec::string(raw).map_err(|error| error.to_string())?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("invalid hex or decimal integer {text:?}"))
}

fn check_percentiles(percentiles: &[f64]) -> Result<(), RpcError> {
    let refuse = |why: String| RpcError::server(format!("invalid reward percentile: {why}"));
    if percentiles.len() > MAX_PERCENTILES {
        return Err(refuse(format!("over the query limit {MAX_PERCENTILES}")));
    }
    if let Some(bad) = percentiles.iter().find(|p| !(0.0..=100.0).contains(*p)) {
        return Err(refuse(format!("{bad:.6}")));
    }
    for (index, pair) in percentiles.windows(2).enumerate() {
        if pair[0] >= pair[1] {
            return Err(refuse(format!("#{index}:{:.6} >= #{}:{:.6}", pair[0], index + 1, pair[1])));
        }
    }
    Ok(())
}

pub fn fee_history(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(3)?;
    let count = block_count(params.raw(0).ok_or_else(|| missing(0))?).map_err(|why| invalid(0, why))?;
    let newest = BlockId::required_number(&params, 1)?;
    let percentiles: Vec<f64> = params.optional(2)?.unwrap_or_default();
    check_percentiles(&percentiles)?;
    let view = scope.view()?;
    let head = view.head().header.number;
    let pending = if newest == BlockId::Pending { pending_block(scope)? } else { None };
    let last = match (newest, &pending) {
        (BlockId::Number(number), _) if number > head => {
            return Err(RpcError::server(format!("request beyond head block: requested {number}, head {head}")));
        }
        (BlockId::Number(number), _) => number,
        (_, Some(executed)) => executed.block.header.number,
        _ => head,
    };
    let count = count.min(MAX_HISTORY).min(last + 1);
    if count == 0 {
        out.raw(r#"{"oldestBlock":"0x0","gasUsedRatio":null}"#);
        return Ok(());
    }
    let oldest = last + 1 - count;
    let spec = scope.engine().spec();
    let mut fees = Vec::with_capacity(count as usize);
    for number in oldest..=last.min(head) {
        fees.push(committed_fees(scope, &spec, number, &percentiles)?);
    }
    if let Some(executed) = pending {
        let rewards = rewards(&executed.block, &executed.receipts, &percentiles);
        fees.push(BlockFees::of(&spec, &executed.block.header, rewards));
    }
    write_history(out, oldest, &fees, !percentiles.is_empty());
    Ok(())
}

fn committed_fees(
    scope: &Scope<'_>,
    spec: &ChainSpec,
    number: u64,
    percentiles: &[f64],
) -> Result<BlockFees, RpcError> {
    let view = scope.view()?;
    let lost = || RpcError::internal(format!("block {number} is incomplete"));
    if percentiles.is_empty() {
        return Ok(BlockFees::of(spec, &view.header(number)?.ok_or_else(lost)?, Vec::new()));
    }
    let block = cache::block(scope, view, number)?.ok_or_else(lost)?;
    let receipts = cache::receipts(scope, view, number)?.ok_or_else(lost)?;
    Ok(BlockFees::of(spec, &block.header, rewards(&block, &receipts.list, percentiles)))
}

fn write_history(out: &mut Json, oldest: u64, fees: &[BlockFees], with_rewards: bool) {
    let (next_base_fee, next_blob_fee) = fees.last().map_or((0, 0), |last| (last.next_base_fee, last.next_blob_fee));
    let mut object = out.object();
    object.field("oldestBlock").quantity(oldest);
    if with_rewards {
        object.field("reward").array(fees, |out, block| {
            out.array(&block.rewards, |out, reward| out.quantity_u128(*reward));
        });
    }
    let base_fees = fees.iter().map(|block| block.base_fee).chain([next_base_fee]);
    object.field("baseFeePerGas").array(base_fees, |out, fee| out.quantity(fee));
    object.field("gasUsedRatio").array(fees, |out, block| out.value(&block.gas_used_ratio));
    let blob_fees = fees.iter().map(|block| block.blob_fee).chain([next_blob_fee]);
    object.field("baseFeePerBlobGas").array(blob_fees, |out, fee| out.quantity_u128(fee));
    object.field("blobGasUsedRatio").array(fees, |out, block| out.value(&block.blob_used_ratio));
    object.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn the_block_count_is_hexadecimal_or_decimal() {
        for json in ["\"0xa\"", "\"10\"", "10"] {
            assert_eq!(block_count(&raw(json)), Ok(10), "{json}");
        }
        assert!(block_count(&raw("\"ten\"")).is_err());
    }

    #[test]
    fn percentiles_rise_within_zero_and_hundred() {
        assert!(check_percentiles(&[0.0, 50.0, 100.0]).is_ok());
        for bad in [&[101.0][..], &[-1.0], &[5.0, 5.0], &[9.0, 3.0], &[f64::NAN]] {
            assert!(check_percentiles(bad).unwrap_err().message.starts_with("invalid reward percentile"), "{bad:?}");
        }
        assert!(check_percentiles(&(0..101).map(f64::from).collect::<Vec<_>>()).is_err());
    }
}
