//! `eth_simulateV1`: chains of blocks that might follow, with overrides, executed on a state that nobody keeps.
//!
//! Pure like the rest of the room: base header, state and roots come in, blocks and call results go out. The rules, in
//! particular the order of checks and the error codes, are those of the execution API and of geth.

use std::sync::Arc;
use std::time::Instant;

use alloy_consensus::constants::EMPTY_OMMER_ROOT_HASH;
use alloy_consensus::proofs::calculate_withdrawals_root;
use alloy_consensus::{
    Header, SignableTransaction, Transaction as _, TxEip1559, TxEip4844, TxEip7702, TxLegacy, Typed2718,
};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{keccak256, Signature, TxKind, B64};
use alloy_rlp::Encodable;
use alloy_rpc_types_eth::state::StateOverride;
use alloy_rpc_types_eth::TransactionRequest;

use super::block::{
    block_bloom, collect_requests, credit_reward, credit_withdrawals, open_block, requests_hash, transactions_root,
};
use super::call::apply_overrides;
use super::evm::{Checks, EvmError, IndexedLog, InvalidKind, LogRecorder, Machine, Message, Outcome, Overlay};
use super::receipt::{bloom_of, receipts_root};
use super::spec::{ChainSpec, Fork};
use super::{BlockContext, BlockError, CallError};
use crate::primitives::*;

/// Blocks between the base and the last simulated one.
pub const MAX_BLOCKS: u64 = 256;
pub const MAX_CALLS_PER_BLOCK: usize = 5_000;
pub const MAX_CALLS: usize = 10_000;
/// Seconds between blocks that name no time.
const BLOCK_SECONDS: u64 = 12;

const BASE_FEE_TOO_LOW: i64 = -38012;
const BLOCK_GAS_LIMIT: i64 = -38015;
const BLOCK_NUMBER_ORDER: i64 = -38020;
const BLOCK_TIME_ORDER: i64 = -38021;
const CLIENT_LIMIT: i64 = -38026;
const INTERNAL: i64 = -32603;
const INVALID_PARAMS: i64 = -32602;
/// An exceptional halt, as the error of one call.
const VM_ERROR: i64 = -32015;
const REVERTED: i64 = 3;

/// Header fields that a simulated block may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOverrides {
    pub number: Option<U256>,
    pub difficulty: Option<U256>,
    #[serde(with = "alloy_serde::quantity::opt")]
    pub time: Option<u64>,
    #[serde(with = "alloy_serde::quantity::opt")]
    pub gas_limit: Option<u64>,
    #[serde(alias = "coinbase")]
    pub fee_recipient: Option<Address>,
    #[serde(alias = "random")]
    pub prev_randao: Option<B256>,
    #[serde(alias = "baseFee")]
    pub base_fee_per_gas: Option<U256>,
    pub blob_base_fee: Option<U256>,
    pub beacon_root: Option<B256>,
    pub withdrawals: Option<Vec<Withdrawal>>,
}

/// One block to simulate.
#[derive(Clone, Debug, Default)]
pub struct BlockPlan {
    pub overrides: HeaderOverrides,
    pub state: Option<StateOverride>,
    pub calls: Vec<TransactionRequest>,
}

/// How the whole chain is simulated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Nonces, fees and the base fee follow the rules of real blocks.
    pub validation: bool,
    /// Transfers of value appear as logs.
    pub trace_transfers: bool,
    /// Gas of all calls together; 0: unlimited.
    pub gas_cap: u64,
    pub deadline: Option<Instant>,
}

/// What became of one call.
#[derive(Clone, Debug)]
pub struct CallResult {
    pub success: bool,
    pub output: Bytes,
    pub logs: Vec<IndexedLog>,
    pub gas_used: u64,
    /// The most gas held at any time.
    pub max_gas_used: u64,
    pub error: Option<CallError>,
}

/// A simulated block with the results of its calls, in order.
#[derive(Clone, Debug)]
pub struct SimulatedBlock {
    pub block: SealedBlock,
    pub calls: Vec<CallResult>,
}

/// A plan with number and time settled.
struct Planned {
    number: u64,
    time: u64,
    plan: BlockPlan,
}

/// Settles numbers and times: both rise, gaps in numbers become empty blocks.
fn settle(base: &Header, plans: Vec<BlockPlan>) -> Result<Vec<Planned>, CallError> {
    let mut settled: Vec<Planned> = Vec::with_capacity(plans.len());
    let (mut last_number, mut last_time) = (base.number, base.timestamp);
    for plan in plans {
        let number = match plan.overrides.number {
            Some(number) => u64::try_from(number).unwrap_or(u64::MAX),
            None => last_number + 1,
        };
        if number <= last_number {
            return Err(CallError::new(
                BLOCK_NUMBER_ORDER,
                format!("block numbers must be in order: {number} <= {last_number}"),
            ));
        }
        if number - base.number > MAX_BLOCKS {
            return Err(CallError::new(CLIENT_LIMIT, "too many blocks"));
        }
        for gap in last_number + 1..number {
            last_time = last_time.saturating_add(BLOCK_SECONDS);
            settled.push(Planned { number: gap, time: last_time, plan: BlockPlan::default() });
        }
        let time = match plan.overrides.time {
            Some(time) if time <= last_time => {
                return Err(CallError::new(
                    BLOCK_TIME_ORDER,
                    format!("block timestamps must be in order: {time} <= {last_time}"),
                ));
            }
            Some(time) => time,
            None => last_time.saturating_add(BLOCK_SECONDS),
        };
        (last_number, last_time) = (number, time);
        settled.push(Planned { number, time, plan });
    }
    Ok(settled)
}

/// Executes `plans` as blocks after `base`, whose state `state` and `roots` stand for.
pub fn simulate(
    spec: &ChainSpec,
    base: &Header,
    base_hash: B256,
    state: &dyn StateRead,
    roots: &mut dyn RootCalculator,
    plans: Vec<BlockPlan>,
    options: &Options,
) -> Result<Vec<SimulatedBlock>, CallError> {
    if plans.is_empty() {
        return Err(CallError::new(INVALID_PARAMS, "empty input"));
    }
    if plans.len() as u64 > MAX_BLOCKS {
        return Err(CallError::new(CLIENT_LIMIT, "too many blocks"));
    }
    let mut calls = 0;
    for plan in &plans {
        let in_block = plan.calls.len();
        if in_block > MAX_CALLS_PER_BLOCK {
            let message = format!("too many calls in block: {in_block} > {MAX_CALLS_PER_BLOCK}");
            return Err(CallError::new(CLIENT_LIMIT, message));
        }
        calls += in_block;
        if calls > MAX_CALLS {
            return Err(CallError::new(CLIENT_LIMIT, format!("too many calls: {calls} > {MAX_CALLS}")));
        }
    }
    let mut overlay = Overlay::new(state);
    overlay.track_steps();
    overlay.set_block_hash(base.number, base_hash);
    let mut chain = Chain {
        spec,
        options,
        roots,
        budget: if options.gas_cap == 0 { u64::MAX } else { options.gas_cap },
        parent: base.clone(),
        parent_hash: base_hash,
    };
    let mut blocks = Vec::new();
    for planned in settle(base, plans)? {
        let (block, after) = chain.block(planned, overlay)?;
        overlay = after;
        overlay.set_block_hash(block.block.header.number, block.block.hash);
        chain.parent = block.block.header.clone();
        chain.parent_hash = block.block.hash;
        blocks.push(block);
    }
    Ok(blocks)
}

/// The chain so far.
struct Chain<'s, 'r> {
    spec: &'s ChainSpec,
    options: &'s Options,
    roots: &'r mut dyn RootCalculator,
    /// Gas that all further calls may use.
    budget: u64,
    parent: Header,
    parent_hash: B256,
}

/// One block under execution.
struct Run<'m, 'a> {
    machine: Machine<'a, LogRecorder>,
    fork: Fork,
    context: &'m BlockContext,
    gas_used: u64,
    blob_gas_used: u64,
    transactions: Vec<Arc<SignedTx>>,
    receipts: Vec<Receipt>,
    results: Vec<CallResult>,
}

impl Chain<'_, '_> {
    /// The block context that the overrides and the parent make.
    fn context(&self, planned: &Planned) -> Result<(BlockContext, Fork), CallError> {
        let Planned { number, time, plan } = planned;
        let overrides = &plan.overrides;
        let mut fork = self.spec.fork(*number, *time);
        let mut difficulty = if fork >= Fork::Paris { U256::ZERO } else { self.parent.difficulty };
        if let Some(wanted) = overrides.difficulty {
            difficulty = wanted;
            fork = self.spec.fork_with_difficulty(*number, *time, difficulty);
        }
        let base_fee = match overrides.base_fee_per_gas {
            _ if fork < Fork::London => None,
            Some(fee) => Some(
                u64::try_from(fee)
                    .map_err(|_| CallError::new(INVALID_PARAMS, format!("baseFeePerGas exceeds 64 bits: {fee}")))?,
            ),
            None if self.options.validation => self.spec.next_base_fee(&self.parent, *time),
            None => Some(0),
        };
        let context = BlockContext {
            number: *number,
            timestamp: *time,
            beneficiary: overrides.fee_recipient.unwrap_or(self.parent.beneficiary),
            gas_limit: overrides.gas_limit.unwrap_or(self.parent.gas_limit),
            base_fee,
            prevrandao: overrides.prev_randao.unwrap_or_default(),
            difficulty,
            excess_blob_gas: self.spec.next_excess_blob_gas(&self.parent, *time),
            parent_beacon_block_root: (fork >= Fork::Cancun).then(|| overrides.beacon_root.unwrap_or_default()),
        };
        Ok((context, fork))
    }

    fn block<'a>(
        &mut self,
        planned: Planned,
        overlay: Overlay<'a>,
    ) -> Result<(SimulatedBlock, Overlay<'a>), CallError> {
        let (context, fork) = self.context(&planned)?;
        let BlockPlan { overrides, state, calls } = planned.plan;
        let recorder = LogRecorder::new(self.options.trace_transfers);
        let mut machine = Machine::with_inspector(self.spec, &context, overlay, recorder);
        machine.set_deadline(self.options.deadline);
        if let Some(price) = overrides.blob_base_fee {
            machine.set_blob_base_fee(price.saturating_to());
        }
        if let Some(state) = &state {
            apply_overrides(&mut machine, state)?;
        }
        open_block(fork, self.parent_hash, context.parent_beacon_block_root, &mut machine).map_err(block_error)?;
        let mut run = Run {
            machine,
            fork,
            context: &context,
            gas_used: 0,
            blob_gas_used: 0,
            transactions: Vec::with_capacity(calls.len()),
            receipts: Vec::with_capacity(calls.len()),
            results: Vec::with_capacity(calls.len()),
        };
        for request in calls {
            self.call(&mut run, request)?;
        }
        self.finish(run, overrides.withdrawals.unwrap_or_default())
    }

    /// Applies everything that changed since the last time to the roots.
    fn step_root(&mut self, overlay: &mut Overlay<'_>) -> Result<B256, CallError> {
        self.roots.apply(&overlay.take_step())?;
        Ok(self.roots.root()?)
    }

    fn call(&mut self, run: &mut Run<'_, '_>, request: TransactionRequest) -> Result<(), CallError> {
        let sender = run.machine.overlay().account(request.from.unwrap_or_default())?;
        let nonce = sender.as_ref().map_or(0, |info| info.nonce);
        let remaining = run.context.gas_limit - run.gas_used;
        let wanted = request.gas.unwrap_or(remaining);
        if remaining < wanted {
            let message = format!("block gas limit reached: remaining: {remaining}, required: {wanted}");
            return Err(CallError::new(BLOCK_GAS_LIMIT, message));
        }
        let gas = wanted.min(self.budget);
        let message = message_of(self.spec, run.context, request, nonce, gas)?;
        let balance = sender.map_or(U256::ZERO, |info| info.balance);
        self.check(run.context, &message, nonce, balance)?;
        let outcome = self.execute(run, &message, nonce)?;
        if outcome.gas_used > self.budget {
            let (need, left) = (outcome.gas_used, self.budget);
            return Err(CallError::server(format!("RPC gas cap exhausted: need {need}, remaining {left}")));
        }
        self.budget -= outcome.gas_used;
        self.record(run, &message, outcome, gas < wanted)
    }

    fn checks(&self, message: &Message) -> Checks {
        let priced = message.gas_price > 0 || message.priority_fee.is_some_and(|tip| tip > 0);
        Checks { base_fee: self.options.validation || priced, ..Checks::CALL }
    }

    /// The rules that are checked before execution, in the order in which their errors take precedence.
    fn check(&self, context: &BlockContext, message: &Message, nonce: u64, balance: U256) -> Result<(), CallError> {
        let from = message.from;
        if self.options.validation {
            if message.nonce < nonce {
                let text = format!("nonce too low: address {from}, tx: {} state: {nonce}", message.nonce);
                return Err(invalid(InvalidKind::NonceTooLow, &text, message));
            }
            if message.nonce > nonce {
                let text = format!("nonce too high: address {from}, tx: {} state: {nonce}", message.nonce);
                return Err(invalid(InvalidKind::NonceTooHigh, &text, message));
            }
            if nonce == u64::MAX {
                let text = format!("nonce has max value: address {from}, nonce: {nonce}");
                return Err(invalid(InvalidKind::NonceMax, &text, message));
            }
        }
        if let (true, Some(base_fee)) = (self.checks(message).base_fee, context.base_fee) {
            let tip = message.priority_fee.unwrap_or(message.gas_price);
            if tip > message.gas_price {
                let text = format!(
                    "max priority fee per gas higher than max fee per gas: address {from}, maxPriorityFeePerGas: {tip}, \
                     maxFeePerGas: {}",
                    message.gas_price
                );
                return Err(invalid(InvalidKind::TipAboveFeeCap, &text, message));
            }
            if message.gas_price < u128::from(base_fee) {
                let text = format!(
                    "max fee per gas less than block base fee: address {from}, maxFeePerGas: {}, baseFee: {base_fee}",
                    message.gas_price
                );
                return Err(invalid(InvalidKind::FeeCapBelowBaseFee, &text, message));
            }
        }
        let blob_gas = U256::from(message.blob_hashes.len()) * U256::from(DATA_GAS_PER_BLOB);
        let cost = U256::from(message.gas_limit)
            .saturating_mul(U256::from(message.gas_price))
            .saturating_add(blob_gas.saturating_mul(U256::from(message.max_fee_per_blob_gas)))
            .saturating_add(message.value);
        if balance < cost {
            let text = format!("insufficient funds for gas * price + value: address {from} have {balance} want {cost}");
            return Err(invalid(InvalidKind::Funds, &text, message));
        }
        Ok(())
    }

    fn execute(&self, run: &mut Run<'_, '_>, message: &Message, nonce: u64) -> Result<Outcome, CallError> {
        // Without validation nonces wrap around; the EVM accepts none that cannot be raised.
        let mut allowed = message.clone();
        allowed.nonce = allowed.nonce.min(u64::MAX - 1);
        if nonce == u64::MAX {
            run.machine.overlay().set_nonce(message.from, u64::MAX - 1)?;
        }
        let outcome = run.machine.inspect(allowed, self.checks(message)).map_err(|error| match error {
            EvmError::Invalid { kind, message: text } => invalid(kind, &text, message),
            other => CallError::from(other),
        })?;
        if nonce == u64::MAX {
            run.machine.overlay().set_nonce(message.from, 0)?;
        }
        Ok(outcome)
    }

    fn record(
        &mut self,
        run: &mut Run<'_, '_>,
        message: &Message,
        outcome: Outcome,
        capped: bool,
    ) -> Result<(), CallError> {
        let tx = unsigned(message, run.fork);
        let logs = run.machine.inspector().take();
        run.gas_used += outcome.gas_used;
        run.blob_gas_used += tx.tx.blob_gas_used().unwrap_or(0);
        let status = if run.fork >= Fork::Byzantium {
            ReceiptOutcome::Status(outcome.success)
        } else {
            ReceiptOutcome::PostState(self.step_root(run.machine.overlay())?)
        };
        run.receipts.push(Receipt {
            tx_type: tx.tx.ty(),
            outcome: status,
            cumulative_gas_used: run.gas_used,
            bloom: bloom_of(&outcome.logs),
            logs: outcome.logs,
            gas_used: outcome.gas_used,
            effective_gas_price: tx.tx.effective_gas_price(run.context.base_fee),
            contract_address: None,
        });
        run.transactions.push(Arc::new(tx));
        let error = match (&outcome.halt, outcome.success) {
            (_, true) => None,
            (Some(halt), false) => {
                let capped = if capped { " (gas limit was capped by the RPC server's global gas cap)" } else { "" };
                Some(CallError::new(VM_ERROR, format!("{}{capped}", halt.message)))
            }
            (None, false) => Some(CallError { code: REVERTED, ..CallError::reverted(outcome.output.clone()) }),
        };
        run.results.push(CallResult {
            success: outcome.success,
            output: if outcome.success { outcome.output } else { Bytes::new() },
            logs,
            gas_used: outcome.gas_used,
            max_gas_used: outcome.gas_spent.max(outcome.gas_used),
            error,
        });
        Ok(())
    }

    fn finish<'a>(
        &mut self,
        mut run: Run<'_, 'a>,
        withdrawals: Vec<Withdrawal>,
    ) -> Result<(SimulatedBlock, Overlay<'a>), CallError> {
        let (fork, context) = (run.fork, run.context);
        let requests = collect_requests(self.spec, fork, &run.receipts, &mut run.machine).map_err(block_error)?;
        let mut overlay = run.machine.into_overlay();
        let withdrawals = (fork >= Fork::Shanghai).then_some(withdrawals);
        credit_withdrawals(&mut overlay, withdrawals.as_deref().unwrap_or_default())?;
        credit_reward(&mut overlay, fork, context, &[])?;
        let state_root = self.step_root(&mut overlay)?;
        let header = Header {
            parent_hash: self.parent_hash,
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            beneficiary: context.beneficiary,
            state_root,
            transactions_root: transactions_root(&run.transactions),
            receipts_root: receipts_root(&run.receipts),
            logs_bloom: block_bloom(&run.receipts),
            difficulty: context.difficulty,
            number: context.number,
            gas_limit: context.gas_limit,
            gas_used: run.gas_used,
            timestamp: context.timestamp,
            extra_data: Bytes::new(),
            mix_hash: context.prevrandao,
            nonce: B64::ZERO,
            base_fee_per_gas: context.base_fee,
            withdrawals_root: withdrawals.as_deref().map(calculate_withdrawals_root),
            blob_gas_used: (fork >= Fork::Cancun).then_some(run.blob_gas_used),
            excess_blob_gas: context.excess_blob_gas,
            parent_beacon_block_root: context.parent_beacon_block_root,
            requests_hash: (fork >= Fork::Prague).then(|| requests_hash(&requests)),
            block_access_list_hash: None,
            slot_number: None,
        };
        let hash = header.hash_slow();
        let block = SealedBlock { header, hash, transactions: run.transactions, ommers: Vec::new(), withdrawals };
        Ok((SimulatedBlock { block, calls: run.results }, overlay))
    }
}

fn block_error(error: BlockError) -> CallError {
    match error {
        BlockError::Read(read) => read.into(),
        other => CallError::server(other.to_string()),
    }
}

/// The error of a call that may not be executed at all; it fails the whole simulation.
fn invalid(kind: InvalidKind, text: &str, message: &Message) -> CallError {
    let code = match kind {
        InvalidKind::NonceTooLow => -38010,
        InvalidKind::NonceTooHigh => -38011,
        InvalidKind::FeeCapBelowBaseFee => BASE_FEE_TOO_LOW,
        InvalidKind::IntrinsicGas => -38013,
        InvalidKind::Funds => -38014,
        InvalidKind::SenderHasCode => -38024,
        InvalidKind::InitCodeSize => -38025,
        InvalidKind::TipAboveFeeCap => INVALID_PARAMS,
        _ => INTERNAL,
    };
    CallError::new(code, format!("err: {text} (supplied gas {})", message.gas_limit))
}

/// Understands a request as a message; what it leaves open is zero.
fn message_of(
    spec: &ChainSpec,
    context: &BlockContext,
    request: TransactionRequest,
    nonce: u64,
    gas_limit: u64,
) -> Result<Message, CallError> {
    let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && dynamic {
        return Err(CallError::server("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    if let Some(id) = request.chain_id.filter(|id| *id != spec.chain_id) {
        let want = spec.chain_id;
        return Err(CallError::server(format!("chainId does not match node's (have={id}, want={want})")));
    }
    let to = request.to.unwrap_or(TxKind::Create);
    if to.is_create() && request.authorization_list.is_some() {
        return Err(CallError::server("authorizationList provided for contract creation, but \"to\" field is missing"));
    }
    if to.is_create() && request.blob_versioned_hashes.is_some() {
        return Err(CallError::server("missing \"to\" in blob transaction"));
    }
    let legacy = request.gas_price.is_some() || context.base_fee.is_none();
    let tx_type = match (&request.authorization_list, &request.blob_versioned_hashes) {
        _ if legacy => 0,
        (Some(_), _) => 4,
        (None, Some(_)) => 3,
        (None, None) => 2,
    };
    Ok(Message {
        tx_type,
        from: request.from.unwrap_or_default(),
        to,
        value: request.value.unwrap_or_default(),
        input: request.input.into_input().unwrap_or_default(),
        nonce: request.nonce.unwrap_or(nonce),
        gas_limit,
        gas_price: request.gas_price.or(request.max_fee_per_gas).unwrap_or(0),
        priority_fee: (!legacy).then(|| request.max_priority_fee_per_gas.unwrap_or(0)),
        chain_id: Some(spec.chain_id),
        access_list: if legacy { Default::default() } else { request.access_list.unwrap_or_default() },
        blob_hashes: if legacy { Vec::new() } else { request.blob_versioned_hashes.unwrap_or_default() },
        max_fee_per_blob_gas: if legacy { 0 } else { request.max_fee_per_blob_gas.unwrap_or(0) },
        authorizations: if legacy { Vec::new() } else { request.authorization_list.unwrap_or_default() },
    })
}

/// The message as a transaction with an all-zero signature, which gives it a hash and a place in the block.
fn unsigned(message: &Message, fork: Fork) -> SignedTx {
    let signature = Signature::new(U256::ZERO, U256::ZERO, false);
    let message = message.clone();
    let chain_id = message.chain_id.unwrap_or_default();
    let priority_fee = message.priority_fee.unwrap_or(0);
    let to = message.to.to().copied().unwrap_or_default();
    let tx: Transaction = match message.tx_type {
        4 => TxEip7702 {
            chain_id,
            nonce: message.nonce,
            gas_limit: message.gas_limit,
            max_fee_per_gas: message.gas_price,
            max_priority_fee_per_gas: priority_fee,
            to,
            value: message.value,
            access_list: message.access_list,
            authorization_list: message.authorizations,
            input: message.input,
        }
        .into_signed(signature)
        .into(),
        3 => TxEip4844 {
            chain_id,
            nonce: message.nonce,
            gas_limit: message.gas_limit,
            max_fee_per_gas: message.gas_price,
            max_priority_fee_per_gas: priority_fee,
            to,
            value: message.value,
            access_list: message.access_list,
            blob_versioned_hashes: message.blob_hashes,
            max_fee_per_blob_gas: message.max_fee_per_blob_gas,
            input: message.input,
        }
        .into_signed(signature)
        .into(),
        2 if fork >= Fork::London => TxEip1559 {
            chain_id,
            nonce: message.nonce,
            gas_limit: message.gas_limit,
            max_fee_per_gas: message.gas_price,
            max_priority_fee_per_gas: priority_fee,
            to: message.to,
            value: message.value,
            access_list: message.access_list,
            input: message.input,
        }
        .into_signed(signature)
        .into(),
        _ => {
            let tx = TxLegacy {
                chain_id: None,
                nonce: message.nonce,
                gas_price: message.gas_price,
                gas_limit: message.gas_limit,
                to: message.to,
                value: message.value,
                input: message.input,
            };
            return unsigned_legacy(tx, signature, message.from);
        }
    };
    let raw = Bytes::from(tx.encoded_2718());
    SignedTx { sender: message.from, hash: *tx.tx_hash(), raw, tx, impersonated: true }
}

/// A legacy transaction whose v is zero, too: no signature encodes to that, so its bytes are written here.
fn unsigned_legacy(tx: TxLegacy, signature: Signature, sender: Address) -> SignedTx {
    let fields: [&dyn Encodable; 9] =
        [&tx.nonce, &tx.gas_price, &tx.gas_limit, &tx.to, &tx.value, &tx.input, &0u8, &0u8, &0u8];
    let payload_length = fields.iter().map(|field| field.length()).sum();
    let mut raw = Vec::new();
    alloy_rlp::Header { list: true, payload_length }.encode(&mut raw);
    for field in fields {
        field.encode(&mut raw);
    }
    let hash = keccak256(&raw);
    SignedTx { tx: tx.into_signed(signature).into(), sender, hash, raw: raw.into(), impersonated: true }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{MemoryRoots, MemoryState};
    use super::*;

    const SENDER: Address = Address::repeat_byte(0xc0);
    const TARGET: Address = Address::repeat_byte(0xc1);

    fn base() -> Header {
        Header {
            number: 10,
            timestamp: 1_000,
            gas_limit: 30_000_000,
            base_fee_per_gas: Some(1_000_000_000),
            difficulty: U256::ZERO,
            ..Header::default()
        }
    }

    fn run(plans: Vec<BlockPlan>, options: Options) -> Result<Vec<SimulatedBlock>, CallError> {
        let state = MemoryState::default();
        let spec = ChainSpec::at(Fork::Shanghai, 1);
        let base = base();
        let hash = base.hash_slow();
        simulate(&spec, &base, hash, &state, &mut MemoryRoots::over(&state), plans, &options)
    }

    fn numbered(number: Option<u64>, time: Option<u64>) -> BlockPlan {
        let overrides = HeaderOverrides { number: number.map(U256::from), time, ..HeaderOverrides::default() };
        BlockPlan { overrides, ..BlockPlan::default() }
    }

    fn funded(balance: u64, calls: Vec<TransactionRequest>) -> BlockPlan {
        let mut state = StateOverride::default();
        state.entry(SENDER).or_default().balance = Some(U256::from(balance));
        BlockPlan { state: Some(state), calls, ..BlockPlan::default() }
    }

    fn transfer(value: u64) -> TransactionRequest {
        TransactionRequest::default().from(SENDER).to(TARGET).value(U256::from(value))
    }

    #[test]
    fn gaps_in_numbers_become_empty_blocks_twelve_seconds_apart() {
        let blocks = run(vec![numbered(Some(13), None), numbered(None, None)], Options::default()).unwrap();
        let places: Vec<_> = blocks.iter().map(|b| (b.block.header.number, b.block.header.timestamp)).collect();
        assert_eq!(places, [(11, 1_012), (12, 1_024), (13, 1_036), (14, 1_048)]);
        for pair in blocks.windows(2) {
            assert_eq!(pair[1].block.header.parent_hash, pair[0].block.hash);
        }
    }

    #[test]
    fn numbers_and_times_must_rise() {
        let code = |plans| run(plans, Options::default()).unwrap_err().code;
        assert_eq!(code(vec![numbered(Some(10), None)]), -38020);
        assert_eq!(code(vec![numbered(Some(12), None), numbered(Some(12), None)]), -38020);
        assert_eq!(code(vec![numbered(None, Some(1_000))]), -38021);
        assert_eq!(code(vec![numbered(Some(267), None)]), -38026);
        assert_eq!(code(vec![]), -32602);
    }

    #[test]
    fn balances_carry_over_to_the_next_block() {
        let blocks = run(vec![funded(100, vec![transfer(60)]), funded(40, vec![transfer(40)])], Options::default());
        assert!(blocks.unwrap().iter().all(|block| block.calls[0].success));
        let poor = run(vec![funded(100, vec![transfer(60), transfer(60)])], Options::default()).unwrap_err();
        assert_eq!(poor.code, -38014);
    }

    #[test]
    fn transfers_are_logged_on_demand_without_touching_the_block() {
        let plain = run(vec![funded(100, vec![transfer(60)])], Options::default()).unwrap();
        let traced = Options { trace_transfers: true, ..Options::default() };
        let logged = run(vec![funded(100, vec![transfer(60)])], traced).unwrap();
        assert!(plain[0].calls[0].logs.is_empty());
        assert_eq!(logged[0].calls[0].logs.len(), 1);
        assert_eq!(plain[0].block.hash, logged[0].block.hash);
    }

    #[test]
    fn validation_enforces_nonces_and_the_base_fee() {
        let validation = Options { validation: true, ..Options::default() };
        let with_nonce = |nonce| TransactionRequest { nonce: Some(nonce), ..transfer(1) };
        let code = |request| run(vec![funded(u64::MAX, vec![request])], validation).unwrap_err().code;
        assert_eq!(code(transfer(1)), -38012);
        assert_eq!(code(with_nonce(5)), -38011);
        assert!(run(vec![funded(100, vec![with_nonce(5)])], Options::default()).is_ok());
    }

    #[test]
    fn the_gas_budget_spans_all_blocks() {
        let options = Options { gas_cap: 30_000, ..Options::default() };
        let error = run(vec![funded(100, vec![transfer(1)]), funded(100, vec![transfer(1)])], options).unwrap_err();
        assert_eq!(error.code, -38013, "{}", error.message);
    }

    #[test]
    fn a_legacy_transaction_without_signature_has_three_zero_fields() {
        let message = Message { to: TxKind::Call(TARGET), gas_limit: 21_000, ..Message::default() };
        let tx = unsigned(&message, Fork::Frontier);
        assert!(tx.raw.ends_with(&[0x80, 0x80, 0x80, 0x80, 0x80]));
        assert_eq!(tx.hash, keccak256(&tx.raw));
    }
}
