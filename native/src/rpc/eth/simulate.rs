//! `eth_simulateV1`: reads the plan, runs it, writes the blocks with their call results.

use alloy_primitives::Bytes;
use alloy_rpc_types_eth::state::StateOverride;
use serde_json::value::RawValue;

use super::block_id::BlockId;
use super::call::parse_request;
use super::encode::{self, LogEncoder, Transactions};
use crate::decode;
use crate::execution::simulate::{self, BlockPlan, CallResult, HeaderOverrides, Options, SimulatedBlock};
use crate::rpc::json::Object;
use crate::rpc::params::{invalid, missing};
use crate::rpc::{Json, Params, RpcError, Scope};

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload<'a> {
    #[serde(borrow)]
    block_state_calls: Vec<Block<'a>>,
    #[serde(default)]
    trace_transfers: bool,
    #[serde(default)]
    validation: bool,
    #[serde(default)]
    return_full_transactions: bool,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block<'a> {
    #[serde(default)]
    block_overrides: Option<HeaderOverrides>,
    #[serde(default)]
    state_overrides: Option<StateOverride>,
    #[serde(borrow, default)]
    calls: Option<Vec<&'a RawValue>>,
}

impl Block<'_> {
    /// The plan of the block at `position` of the list.
    fn plan(self, position: usize) -> Result<BlockPlan, String> {
        let calls = self.calls.unwrap_or_default().into_iter().enumerate().map(|(index, raw)| {
            parse_request(raw).map_err(|why| format!("blockStateCalls[{position}].calls[{index}]: {why}"))
        });
        Ok(BlockPlan {
            overrides: self.block_overrides.unwrap_or_default(),
            state: self.state_overrides,
            calls: calls.collect::<Result<_, _>>()?,
        })
    }
}

pub fn simulate_v1(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(2)?;
    let raw = params.raw(0).ok_or_else(|| missing(0))?;
    let payload: Payload<'_> = decode::from_json(raw.get()).map_err(|why| invalid(0, why))?;
    let plans = payload
        .block_state_calls
        .into_iter()
        .enumerate()
        .map(|(at, block)| block.plan(at))
        .collect::<Result<Vec<_>, _>>();
    let plans = plans.map_err(|why| invalid(0, why))?;
    let options = Options {
        validation: payload.validation,
        trace_transfers: payload.trace_transfers,
        gas_cap: scope.config().gas_cap,
        deadline: Some(scope.deadline()),
    };
    let view = scope.view()?;
    let number = match BlockId::argument(&params, 1)? {
        BlockId::Pending => view.head().header.number,
        id => id.existing(view)?,
    };
    let lost = || RpcError::server("header not found");
    let base = view.header(number)?.ok_or_else(lost)?;
    let base_hash = view.hash(number)?.ok_or_else(lost)?;
    let state = view.state_at(number)?;
    let mut roots = view.root_calculator_at(number)?;
    let spec = scope.engine().spec();
    let blocks = simulate::simulate(&spec, &base, base_hash, &state, &mut *roots, plans, &options)?;
    let shown = if payload.return_full_transactions { Transactions::Full } else { Transactions::Hashes };
    let start = out.len();
    out.array(&blocks, |out, block| write_block(out, block, shown));
    let limit = scope.config().max_result;
    if out.len() - start > limit {
        return Err(RpcError::limit(format!("the result exceeds {limit} bytes")));
    }
    Ok(())
}

fn write_block(out: &mut Json, simulated: &SimulatedBlock, shown: Transactions) {
    let block = &simulated.block;
    let logs = LogEncoder::of(block);
    let mut object = out.object();
    encode::block_members(&mut object, block, shown, false);
    let calls = simulated.calls.iter().zip(&block.transactions).enumerate();
    object.field("calls").array(calls, |out, (index, (call, tx))| {
        let mut object = out.object();
        object.field("logs").array(&call.logs, |out, entry| {
            logs.write(out, &entry.log, &tx.hash, index as u64, entry.index);
        });
        write_call(&mut object, call);
        object.end();
    });
    object.end();
}

fn write_call(object: &mut Object<'_>, call: &CallResult) {
    object.field("returnData").hex(&call.output);
    object.field("gasUsed").quantity(call.gas_used);
    object.field("maxUsedGas").quantity(call.max_gas_used);
    object.field("status").quantity(u64::from(call.success));
    let Some(error) = &call.error else { return };
    let mut details = object.field("error").object();
    details.field("message").string(&error.message);
    details.field("code").number(error.code);
    if let Some(data) = &error.data {
        details.field("data").hex(Bytes::as_ref(data));
    }
    details.end();
}
