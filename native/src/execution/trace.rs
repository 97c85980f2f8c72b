//! `debug_trace*`: transactions of blocks and simulated calls under geth's tracers.

use std::time::Instant;

use alloy_consensus::Header;
use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_trace::geth::{GethDebugTracingCallOptions, GethDebugTracingOptions, GethTrace};

use super::block::begin_block;
use super::call::{checks_of, machine_for, message_of, prepare};
use super::evm::{EvmError, Machine, Overlay, TracePlace, Tracer};
use super::spec::ChainSpec;
use super::{BlockContext, BlockError, CallError, CallOptions};
use crate::primitives::*;

/// Hash of a transaction and its trace, or why it has none.
pub type TransactionTrace = (B256, Result<GethTrace, String>);

impl From<BlockError> for CallError {
    fn from(error: BlockError) -> CallError {
        CallError::server(error.to_string())
    }
}

fn tracer(options: &GethDebugTracingOptions) -> Result<Tracer, CallError> {
    Tracer::new(options.clone()).map_err(CallError::server)
}

/// debug_traceTransaction/Block: traces of the transactions of `block` (`only`: just that index) on the state of its
/// parent.
pub fn trace_block(
    spec: &ChainSpec,
    parent: &Header,
    block: &SealedBlock,
    state: &dyn StateRead,
    only: Option<usize>,
    options: &GethDebugTracingOptions,
    deadline: Option<Instant>,
) -> Result<Vec<TransactionTrace>, CallError> {
    let context = BlockContext::of(&block.header);
    debug_assert_eq!(parent.number + 1, context.number);
    let mut machine = Machine::with_inspector(spec, &context, Overlay::new(state), tracer(options)?);
    machine.set_deadline(deadline);
    begin_block(spec, &context, block.header.parent_hash, &mut machine)?;
    let mut traces = Vec::new();
    for (index, tx) in block.transactions.iter().enumerate() {
        if only.is_some_and(|only| index < only) {
            machine.transact(tx)?;
            continue;
        }
        let place = TracePlace { block_hash: Some(block.hash), index: Some(index), hash: Some(tx.hash) };
        match machine.trace_transaction(tx, place) {
            Ok(trace) => traces.push((tx.hash, Ok(trace))),
            Err(EvmError::Timeout) => return Err(EvmError::Timeout.into()),
            Err(error) => {
                // Whatever follows would run on another state than it did in the block.
                traces.push((tx.hash, Err(error.to_string())));
                break;
            }
        }
        if only.is_some() {
            break;
        }
    }
    Ok(traces)
}

/// debug_traceCall: the trace of a simulated call. Overrides of `trace` win over those of `options`.
pub fn trace_call(
    spec: &ChainSpec,
    context: &BlockContext,
    state: &dyn StateRead,
    request: &TransactionRequest,
    trace: &GethDebugTracingCallOptions,
    options: &CallOptions,
) -> Result<GethTrace, CallError> {
    let options = CallOptions {
        state: trace.state_overrides.clone().or_else(|| options.state.clone()),
        block: trace.block_overrides.clone().or_else(|| options.block.clone()),
        ..options.clone()
    };
    let prepared = prepare(context, options.block.as_ref(), request)?;
    let message = message_of(spec, &prepared.context, request, 0, options.gas_cap)?;
    let checks = checks_of(&message);
    let mut machine = machine_for(spec, &prepared, state, &options, tracer(&trace.tracing_options)?)?;
    machine.trace_message(message, checks).map_err(|error| match error {
        EvmError::Invalid { message, .. } => CallError::server(format!("tracing failed: {message}")),
        other => other.into(),
    })
}
