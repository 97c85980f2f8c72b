//! The `debug` namespace: consensus bytes and execution traces.

use std::sync::Arc;

use alloy_primitives::B256;
use alloy_rlp::Encodable;
use alloy_rpc_types_trace::geth::{GethDebugTracingCallOptions, GethDebugTracingOptions, GethTrace};

use super::block_id::{pending_block, with_context, BlockId};
use super::cache;
use super::call::request_argument;
use super::rlp;
use crate::execution::{self, CallOptions};
use crate::primitives::SealedBlock;
use crate::rpc::{Json, Params, RpcError, Scope};

/// A transaction's hash and its trace, or why it has none.
type Traced = (B256, Result<GethTrace, String>);

/// A block by number, tag or hash, as the `debug` methods take it; an error when there is none.
fn existing_block(scope: &Scope<'_>, id: BlockId) -> Result<Arc<SealedBlock>, RpcError> {
    let view = scope.view()?;
    let found = match id {
        BlockId::Pending => pending_block(scope)?.map(|executed| Arc::new(executed.block.clone())),
        _ => match id.number(view)? {
            Some(number) => cache::block(scope, view, number)?,
            None => None,
        },
    };
    found.ok_or_else(|| not_found(id))
}

fn not_found(id: BlockId) -> RpcError {
    RpcError::server(match id {
        BlockId::Hash(hash) => format!("block {hash} not found"),
        BlockId::Number(number) => format!("block #{number} not found"),
        BlockId::Latest | BlockId::Pending => "block not found".to_owned(),
    })
}

pub fn get_raw_block(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    out.hex(rlp::block_rlp(&*existing_block(scope, BlockId::required(&params, 0)?)?));
    Ok(())
}

pub fn get_raw_header(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let block = existing_block(scope, BlockId::required(&params, 0)?)?;
    let mut bytes = Vec::with_capacity(block.header.length());
    block.header.encode(&mut bytes);
    out.hex(bytes);
    Ok(())
}

pub fn get_raw_receipts(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(1)?;
    let id = BlockId::required(&params, 0)?;
    if id == BlockId::Pending {
        let executed = pending_block(scope)?.ok_or_else(|| not_found(id))?;
        out.array(&executed.receipts, |out, receipt| out.hex(rlp::receipt_rlp(receipt)));
        return Ok(());
    }
    let view = scope.view()?;
    let number = id.number(view)?.ok_or_else(|| not_found(id))?;
    let receipts = cache::receipts(scope, view, number)?.ok_or_else(|| not_found(id))?;
    out.array(&receipts.list, |out, receipt| out.hex(rlp::receipt_rlp(receipt)));
    Ok(())
}

/// Refuses a trace that grew beyond what one answer may hold.
fn bounded(scope: &Scope<'_>, start: usize, out: &Json) -> Result<(), RpcError> {
    let limit = scope.config().max_result;
    if out.len() - start > limit {
        return Err(RpcError::limit(format!("the trace exceeds {limit} bytes; disable memory, stack or storage")));
    }
    Ok(())
}

/// Traces the transactions of a committed block on the state of its parent; `only` picks one.
fn trace(
    scope: &Scope<'_>,
    number: u64,
    only: Option<usize>,
    options: &GethDebugTracingOptions,
) -> Result<Vec<Traced>, RpcError> {
    let view = scope.view()?;
    let id = BlockId::Number(number);
    let Some(parent) = number.checked_sub(1) else {
        return Err(RpcError::server("genesis is not traceable"));
    };
    let block = existing_block(scope, id)?;
    let header = view.header(parent)?.ok_or_else(|| not_found(BlockId::Number(parent)))?;
    let state = view.state_at(parent)?;
    let spec = scope.engine().spec();
    Ok(execution::trace_block(&spec, &header, &block, &state, only, options, Some(scope.deadline()))?)
}

pub fn trace_transaction(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let hash = params.hash(0)?;
    let options: GethDebugTracingOptions = params.optional(1)?.unwrap_or_default();
    let at = scope.view()?.locate(&hash)?.ok_or_else(|| RpcError::server("transaction not found"))?;
    let traces = trace(scope, at.block, Some(at.index as usize), &options)?;
    let start = out.len();
    match traces.into_iter().next() {
        Some((_, Ok(trace))) => out.value(&trace),
        Some((_, Err(why))) => return Err(RpcError::server(why)),
        None => return Err(RpcError::internal("the trace is missing")),
    }
    bounded(scope, start, out)
}

fn trace_block(scope: &Scope<'_>, id: BlockId, params: &Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let options: GethDebugTracingOptions = params.optional(1)?.unwrap_or_default();
    let number = id.number(scope.view()?)?.ok_or_else(|| not_found(id))?;
    let traces = trace(scope, number, None, &options)?;
    let start = out.len();
    out.array(&traces, |out, (hash, outcome)| {
        let mut object = out.object();
        object.field("txHash").hex(hash);
        match outcome {
            Ok(trace) => object.field("result").value(trace),
            Err(why) => object.field("error").string(why),
        }
        object.end();
    });
    bounded(scope, start, out)
}

pub fn trace_block_by_number(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    trace_block(scope, BlockId::required_number(&params, 0)?, &params, out)
}

pub fn trace_block_by_hash(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    trace_block(scope, BlockId::Hash(params.hash(0)?), &params, out)
}

pub fn trace_call(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(3)?;
    let request = request_argument(&params, 0)?;
    let id = BlockId::argument(&params, 1)?;
    let trace: Option<GethDebugTracingCallOptions> = params.optional(2).map_err(|error| {
        // Read late, the tracing options inside cannot name their members; read alone they can.
        params.optional::<GethDebugTracingOptions>(2).err().unwrap_or(error)
    })?;
    let trace = trace.unwrap_or_default();
    let options = CallOptions {
        state: trace.state_overrides.clone(),
        block: trace.block_overrides.clone(),
        gas_cap: scope.config().gas_cap,
        deadline: Some(scope.deadline()),
    };
    let spec = scope.engine().spec();
    let outcome = with_context(scope, id, |context, state| {
        Ok(execution::trace_call(&spec, context, state, &request, &trace, &options)?)
    })?;
    let start = out.len();
    out.value(&outcome);
    bounded(scope, start, out)
}
