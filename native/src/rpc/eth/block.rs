//! Blocks, headers, uncles and the receipts of whole blocks.

use std::sync::Arc;

use alloy_consensus::Header;
use alloy_primitives::B256;

use super::block_id::{pending_block, BlockId};
use super::cache::{self, Receipts};
use super::encode::{self, LogEncoder, Transactions};
use crate::execution::ChainSpec;
use crate::primitives::{ExecutedBlock, SealedBlock};
use crate::rpc::{Json, Params, RpcError, Scope};
use crate::state::View;

/// Transactions up to which a block is read and written where connections are served: some microseconds each.
const LARGE_BLOCK: u32 = 64;

/// A block to show and whether it is the pending one.
enum Found {
    Committed(Arc<SealedBlock>),
    Pending(Arc<ExecutedBlock>),
}

impl Found {
    fn block(&self) -> &SealedBlock {
        match self {
            Found::Committed(block) => block,
            Found::Pending(executed) => &executed.block,
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self, Found::Pending(_))
    }
}

/// Refuses to handle a large block where connections are served.
fn defer_large(scope: &Scope<'_>, view: &View, number: u64) -> Result<(), RpcError> {
    match view.transaction_count(number)? {
        Some(count) if count > LARGE_BLOCK => scope.defer_large(),
        _ => Ok(()),
    }
}

fn find(scope: &Scope<'_>, id: BlockId) -> Result<Option<Found>, RpcError> {
    let view = scope.view()?;
    if id == BlockId::Pending {
        return Ok(pending_block(scope)?.map(Found::Pending));
    }
    let Some(number) = id.number(view)? else { return Ok(None) };
    defer_large(scope, view, number)?;
    Ok(cache::block(scope, view, number)?.map(Found::Committed))
}

/// The header and hash of a committed block.
fn find_header(scope: &Scope<'_>, id: BlockId) -> Result<Option<(Header, B256)>, RpcError> {
    let view = scope.view()?;
    let Some(number) = id.number(view)? else { return Ok(None) };
    match (view.header(number)?, view.hash(number)?) {
        (Some(header), Some(hash)) => Ok(Some((header, hash))),
        _ => Ok(None),
    }
}

fn by_hash(params: &Params<'_>) -> Result<BlockId, RpcError> {
    params.hash(0).map(BlockId::Hash)
}

fn write_block(scope: &Scope<'_>, id: BlockId, params: &Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let full: bool = params.optional(1)?.unwrap_or(false);
    let shown = if full { Transactions::Full } else { Transactions::Hashes };
    match find(scope, id)? {
        Some(found) => encode::block(out, found.block(), shown, found.is_pending()),
        None => out.null(),
    }
    Ok(())
}

pub fn get_block_by_number(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    write_block(scope, BlockId::required_number(&params, 0)?, &params, out)
}

pub fn get_block_by_hash(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    write_block(scope, by_hash(&params)?, &params, out)
}

fn write_header(scope: &Scope<'_>, id: BlockId, out: &mut Json) -> Result<(), RpcError> {
    if id == BlockId::Pending {
        match pending_block(scope)? {
            Some(executed) => encode::header(out, &executed.block.header, &executed.block.hash, true),
            None => out.null(),
        }
        return Ok(());
    }
    match find_header(scope, id)? {
        Some((header, hash)) => encode::header(out, &header, &hash, false),
        None => out.null(),
    }
    Ok(())
}

pub fn get_header_by_number(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    write_header(scope, BlockId::required_number(&params, 0)?, out)
}

pub fn get_header_by_hash(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    write_header(scope, by_hash(&params)?, out)
}

fn write_transaction_count(scope: &Scope<'_>, id: BlockId, out: &mut Json) -> Result<(), RpcError> {
    let view = scope.view()?;
    let count = match id {
        BlockId::Pending => pending_block(scope)?.map(|executed| executed.block.transactions.len() as u64),
        _ => match id.number(view)? {
            Some(number) => view.transaction_count(number)?.map(u64::from),
            None => None,
        },
    };
    match count {
        Some(count) => out.quantity(count),
        None => out.null(),
    }
    Ok(())
}

pub fn get_transaction_count_by_number(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    write_transaction_count(scope, BlockId::required_number(&params, 0)?, out)
}

pub fn get_transaction_count_by_hash(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    write_transaction_count(scope, by_hash(&params)?, out)
}

fn write_uncle_count(scope: &Scope<'_>, id: BlockId, out: &mut Json) -> Result<(), RpcError> {
    match find(scope, id)? {
        Some(found) => out.quantity(found.block().ommers.len() as u64),
        None => out.null(),
    }
    Ok(())
}

pub fn get_uncle_count_by_number(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    write_uncle_count(scope, BlockId::required_number(&params, 0)?, out)
}

pub fn get_uncle_count_by_hash(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    write_uncle_count(scope, by_hash(&params)?, out)
}

fn write_uncle(scope: &Scope<'_>, id: BlockId, index: u64, out: &mut Json) -> Result<(), RpcError> {
    let found = find(scope, id)?;
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    match found.as_ref().and_then(|found| found.block().ommers.get(index)) {
        Some(header) => encode::ommer(out, header),
        None => out.null(),
    }
    Ok(())
}

pub fn get_uncle_by_number(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    write_uncle(scope, BlockId::required_number(&params, 0)?, params.quantity(1)?, out)
}

pub fn get_uncle_by_hash(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    write_uncle(scope, by_hash(&params)?, params.quantity(1)?, out)
}

pub fn get_block_receipts(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let id = BlockId::required(&params, 0)?;
    let spec = scope.engine().spec();
    if id == BlockId::Pending {
        match pending_block(scope)? {
            Some(executed) => {
                let receipts = Receipts::new(executed.receipts.clone());
                write_receipts(&spec, &executed.block, &receipts, out);
            }
            None => out.null(),
        }
        return Ok(());
    }
    let view = scope.view()?;
    let Some(number) = id.number(view)? else {
        out.null();
        return Ok(());
    };
    defer_large(scope, view, number)?;
    match (cache::block(scope, view, number)?, cache::receipts(scope, view, number)?) {
        (Some(block), Some(receipts)) => write_receipts(&spec, &block, &receipts, out),
        _ => out.null(),
    }
    Ok(())
}

fn write_receipts(spec: &ChainSpec, block: &SealedBlock, receipts: &Receipts, out: &mut Json) {
    let logs = LogEncoder::of(block);
    let blob_gas_price = blob_gas_price(spec, &block.header);
    let items = block.transactions.iter().zip(&receipts.list).zip(&receipts.first_logs).enumerate();
    out.array(items, |out, (index, ((tx, receipt), first_log))| {
        let place = encode::place_in(block, index as u64);
        encode::receipt(out, receipt, tx, &place, *first_log, blob_gas_price, &logs);
    });
}

/// What blob gas cost in the block of `header`; 0 before Cancun.
pub fn blob_gas_price(spec: &ChainSpec, header: &Header) -> u128 {
    header.excess_blob_gas.map_or(0, |excess| spec.blob_base_fee(excess, header.timestamp))
}
