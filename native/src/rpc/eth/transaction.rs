//! Transactions and their receipts, mined or waiting in the pool.

use alloy_primitives::B256;

use super::block::blob_gas_price;
use super::block_id::{pending_block, BlockId};
use super::encode::{self, LogEncoder, Place};
use crate::primitives::SignedTx;
use crate::rpc::{Json, Params, RpcError, Scope};
use crate::state::{TxLocation, View};

pub fn get_transaction_by_hash(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let hash = params.hash(0)?;
    let view = scope.view()?;
    if let Some(at) = view.locate(&hash)? {
        return write_mined(view, at, out);
    }
    match scope.engine().pool().get(&hash) {
        Some(pooled) => encode::transaction(out, &pooled.tx, None),
        None => out.null(),
    }
    Ok(())
}

/// The mined transaction at a place that the view knows; `null` beyond the end of the block.
fn write_mined(view: &View, at: TxLocation, out: &mut Json) -> Result<(), RpcError> {
    let (Some(tx), Some(header), Some(hash)) = (view.transaction(at)?, view.header(at.block)?, view.hash(at.block)?)
    else {
        out.null();
        return Ok(());
    };
    let place = Place {
        block_hash: &hash,
        number: at.block,
        timestamp: header.timestamp,
        index: u64::from(at.index),
        base_fee: header.base_fee_per_gas,
    };
    encode::transaction(out, &tx, Some(&place));
    Ok(())
}

fn write_by_index(scope: &Scope<'_>, id: BlockId, index: u64, out: &mut Json) -> Result<(), RpcError> {
    let view = scope.view()?;
    let Ok(index) = u32::try_from(index) else {
        out.null();
        return Ok(());
    };
    if id == BlockId::Pending {
        let block = pending_block(scope)?;
        match block.as_ref().and_then(|executed| executed.block.transactions.get(index as usize)) {
            Some(tx) => encode::transaction(out, tx, None),
            None => out.null(),
        }
        return Ok(());
    }
    match id.number(view)? {
        Some(block) => write_mined(view, TxLocation { block, index }, out),
        None => {
            out.null();
            Ok(())
        }
    }
}

pub fn get_by_number_and_index(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    write_by_index(scope, BlockId::required_number(&params, 0)?, params.quantity(1)?, out)
}

pub fn get_by_hash_and_index(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    write_by_index(scope, BlockId::Hash(params.hash(0)?), params.quantity(1)?, out)
}

/// The signed bytes of a transaction; `null` for one that nobody knows.
fn write_raw(scope: &Scope<'_>, hash: &B256, out: &mut Json) -> Result<(), RpcError> {
    let view = scope.view()?;
    let mined = match view.locate(hash)? {
        Some(at) => view.transaction(at)?,
        None => None,
    };
    match (mined, scope.engine().pool().get(hash)) {
        (Some(tx), _) => out.hex(&tx.raw),
        (None, Some(pooled)) => out.hex(&pooled.tx.raw),
        (None, None) => out.null(),
    }
    Ok(())
}

pub fn get_raw_by_hash(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    write_raw(scope, &params.hash(0)?, out)
}

fn raw_by_index(scope: &Scope<'_>, id: BlockId, index: u64, out: &mut Json) -> Result<(), RpcError> {
    let view = scope.view()?;
    let at = match (id.number(view)?, u32::try_from(index)) {
        (Some(block), Ok(index)) => Some(TxLocation { block, index }),
        _ => None,
    };
    let tx: Option<SignedTx> = match at {
        Some(at) => view.transaction(at)?,
        None => None,
    };
    match tx {
        Some(tx) => out.hex(&tx.raw),
        None => out.null(),
    }
    Ok(())
}

pub fn get_raw_by_number_and_index(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    raw_by_index(scope, BlockId::required_number(&params, 0)?, params.quantity(1)?, out)
}

pub fn get_raw_by_hash_and_index(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    raw_by_index(scope, BlockId::Hash(params.hash(0)?), params.quantity(1)?, out)
}

pub fn get_receipt(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let hash = params.hash(0)?;
    write_receipt(scope, &hash, out)
}

/// The receipt of a mined transaction, `null` for any other one.
pub fn write_receipt(scope: &Scope<'_>, hash: &B256, out: &mut Json) -> Result<(), RpcError> {
    let view = scope.view()?;
    let Some(at) = view.locate(hash)? else {
        out.null();
        return Ok(());
    };
    let (Some(tx), Some((receipt, first_log)), Some(header), Some(block_hash)) =
        (view.transaction(at)?, view.receipt(at)?, view.header(at.block)?, view.hash(at.block)?)
    else {
        return Err(RpcError::internal(format!("the record of transaction {hash} is incomplete")));
    };
    let place = Place {
        block_hash: &block_hash,
        number: at.block,
        timestamp: header.timestamp,
        index: u64::from(at.index),
        base_fee: header.base_fee_per_gas,
    };
    let logs = LogEncoder::new(&block_hash, at.block, header.timestamp, false);
    let blob_gas_price = blob_gas_price(&scope.engine().spec(), &header);
    encode::receipt(out, &receipt, &tx, &place, first_log, blob_gas_price, &logs);
    Ok(())
}
