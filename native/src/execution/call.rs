//! Simulated calls: `eth_call`, `eth_estimateGas`, `eth_createAccessList`, with state and block overrides.
//!
//! Error texts and codes are geth's: 3 with data for reverts, -32000 for everything else a call may run into.

use alloy_eips::eip2930::AccessList;
use alloy_primitives::TxKind;
use alloy_rpc_types_eth::state::{AccountOverride, StateOverride};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest};

use super::evm::{AccessListRecorder, Checks, EvmError, Machine, Message, Outcome, Overlay, Unwatched};
use super::spec::{ChainSpec, Fork};
use super::{BlockContext, CallError, CallOptions, CallOutcome};
use crate::primitives::*;

/// Gas of a plain transfer.
const TRANSFER_GAS: u64 = 21_000;
/// Gas handed to the receiver of a value-bearing call.
const CALL_STIPEND: u64 = 2_300;
/// EIP-7825.
const TRANSACTION_GAS_CAP: u64 = 1 << 24;

impl CallError {
    pub fn new(code: i64, message: impl Into<String>) -> CallError {
        CallError { code, message: message.into(), data: None }
    }

    /// geth's catch-all server error.
    pub fn server(message: impl Into<String>) -> CallError {
        CallError::new(-32000, message)
    }

    pub fn invalid_params(message: impl Into<String>) -> CallError {
        CallError::new(-32602, message)
    }

    /// "execution reverted", with the decoded reason where the data carries one.
    pub fn reverted(data: Bytes) -> CallError {
        let message = match revert_reason(&data) {
            Some(reason) => format!("execution reverted: {reason}"),
            None => "execution reverted".to_owned(),
        };
        CallError { code: 3, message, data: Some(data) }
    }
}

impl From<ReadError> for CallError {
    fn from(error: ReadError) -> CallError {
        CallError::server(error.to_string())
    }
}

impl From<EvmError> for CallError {
    fn from(error: EvmError) -> CallError {
        match error {
            EvmError::Timeout => CallError::server("execution aborted (timeout)"),
            other => CallError::server(other.to_string()),
        }
    }
}

/// The text of `Error(string)` or `Panic(uint256)`.
pub fn revert_reason(data: &[u8]) -> Option<String> {
    let (selector, body) = data.split_first_chunk::<4>()?;
    let word = |at: usize| -> Option<usize> {
        let bytes = body.get(at..at.checked_add(32)?)?;
        usize::try_from(U256::from_be_slice(bytes)).ok()
    };
    match *selector {
        [0x08, 0xc3, 0x79, 0xa0] => {
            let offset = word(0)?;
            let length = word(offset)?;
            let start = offset.checked_add(32)?;
            let text = body.get(start..start.checked_add(length)?)?;
            Some(String::from_utf8_lossy(text).into_owned())
        }
        [0x4e, 0x48, 0x7b, 0x71] => {
            let code = U256::from_be_slice(body.get(..32)?);
            Some(match u64::try_from(code).ok().and_then(panic_text) {
                Some(text) => text.to_owned(),
                None => format!("unknown panic code: {code:#x}"),
            })
        }
        _ => None,
    }
}

/// Solidity's panic codes in geth's words.
fn panic_text(code: u64) -> Option<&'static str> {
    Some(match code {
        0x00 => "generic panic",
        0x01 => "assert(false)",
        0x11 => "arithmetic underflow or overflow",
        0x12 => "division or modulo by zero",
        0x21 => "enum overflow",
        0x22 => "invalid encoded storage byte array accessed",
        0x31 => "out-of-bounds array access; popping on an empty array",
        0x32 => "out-of-bounds access of an array or bytesN",
        0x41 => "out of memory",
        0x51 => "uninitialized function",
        _ => return None,
    })
}

/// A machine set up for one call: overrides applied, fees of the request understood.
pub(super) struct Prepared {
    pub context: BlockContext,
    pub blob_base_fee: Option<u128>,
}

/// Applies block overrides. The base fee becomes 0 for requests without a gas price, as nothing pays it.
pub(super) fn prepare(
    context: &BlockContext,
    overrides: Option<&BlockOverrides>,
    request: &TransactionRequest,
) -> Result<Prepared, CallError> {
    let mut context = context.clone();
    let mut blob_base_fee = None;
    if let Some(overrides) = overrides {
        apply_block_overrides(&mut context, overrides)?;
        blob_base_fee = overrides.blob_base_fee.map(|fee| fee.saturating_to());
    }
    if gas_price_of(request, context.base_fee)?.0 == 0 {
        context.base_fee = context.base_fee.map(|_| 0);
    }
    if request.max_fee_per_blob_gas.is_none_or(|fee| fee == 0) {
        blob_base_fee = Some(0);
    }
    Ok(Prepared { context, blob_base_fee })
}

pub(super) fn apply_block_overrides(context: &mut BlockContext, overrides: &BlockOverrides) -> Result<(), CallError> {
    let narrow = |name: &str, value: U256| {
        u64::try_from(value)
            .map_err(|_| CallError::invalid_params(format!("block override {name} exceeds 64 bits: {value}")))
    };
    if let Some(number) = overrides.number {
        context.number = narrow("number", number)?;
    }
    if let Some(time) = overrides.time {
        context.timestamp = time;
    }
    if let Some(limit) = overrides.gas_limit {
        context.gas_limit = limit;
    }
    if let Some(coinbase) = overrides.coinbase {
        context.beneficiary = coinbase;
    }
    if let Some(random) = overrides.random {
        context.prevrandao = random;
    }
    if let Some(difficulty) = overrides.difficulty {
        context.difficulty = difficulty;
    }
    if let Some(fee) = overrides.base_fee {
        context.base_fee = Some(narrow("baseFeePerGas", fee)?);
    }
    if let Some(root) = overrides.beacon_root {
        context.parent_beacon_block_root = Some(root);
    }
    Ok(())
}

/// (price or fee cap, tip) of a request; zero where it names none.
fn gas_price_of(request: &TransactionRequest, base_fee: Option<u64>) -> Result<(u128, Option<u128>), CallError> {
    let dynamic = request.max_fee_per_gas.is_some() || request.max_priority_fee_per_gas.is_some();
    if request.gas_price.is_some() && dynamic {
        return Err(CallError::server("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"));
    }
    if let Some(price) = request.gas_price {
        return Ok((price, None));
    }
    if !dynamic {
        return Ok((0, None));
    }
    if base_fee.is_none() {
        return Err(CallError::server("maxFeePerGas and maxPriorityFeePerGas are not valid before London is active"));
    }
    let cap = request.max_fee_per_gas.unwrap_or(0);
    let tip = request.max_priority_fee_per_gas.unwrap_or(0);
    if cap < tip && request.max_fee_per_gas.is_some() {
        return Err(CallError::server(format!("maxFeePerGas ({cap}) < maxPriorityFeePerGas ({tip})")));
    }
    Ok((cap.max(tip), Some(tip)))
}

/// Applies state overrides to an overlay (precompile moves are the machine's business, see [`apply_overrides`]).
fn apply_account_override(
    overlay: &mut Overlay<'_>,
    address: Address,
    account: &AccountOverride,
) -> Result<(), CallError> {
    let word = |value: &B256| U256::from_be_bytes(value.0);
    if let Some(nonce) = account.nonce {
        overlay.set_nonce(address, nonce)?;
    }
    if let Some(code) = &account.code {
        overlay.set_code(address, code.clone())?;
    }
    if let Some(balance) = account.balance {
        overlay.set_balance(address, balance)?;
    }
    match (&account.state, &account.state_diff) {
        (Some(_), Some(_)) => {
            return Err(CallError::invalid_params(format!("account {address} has both 'state' and 'stateDiff'")));
        }
        (Some(state), None) => {
            overlay.replace_storage(address, state.iter().map(|(k, v)| (word(k), word(v))))?;
        }
        (None, Some(diff)) => {
            for (key, value) in diff {
                overlay.set_slot(address, word(key), word(value))?;
            }
        }
        (None, None) => {}
    }
    Ok(())
}

/// Applies state overrides, in order of addresses; precompiles move first so that code may take their place.
pub fn apply_overrides<I>(machine: &mut Machine<'_, I>, overrides: &StateOverride) -> Result<(), CallError> {
    let mut ordered: Vec<_> = overrides.iter().collect();
    ordered.sort_by_key(|(address, _)| **address);
    let stock: Vec<Address> = overrides.keys().copied().filter(|address| machine.is_precompile(address)).collect();
    for (address, account) in &ordered {
        if let Some(target) = account.move_precompile_to {
            if !machine.is_precompile(address) {
                return Err(CallError::server(format!("account {address} is not a precompile")));
            }
            if overrides.contains_key(&target) {
                return Err(CallError::server(format!("account {target} has already been overridden by a precompile")));
            }
            if !machine.move_precompile(**address, target) {
                return Err(CallError::server(format!("precompile {address} cannot be moved to {target}")));
            }
        }
    }
    // An overridden precompile is one no more.
    for address in &stock {
        machine.remove_precompile(address);
    }
    for (address, account) in ordered {
        apply_account_override(machine.overlay(), *address, account)?;
    }
    Ok(())
}

/// Understands a request as a message with geth's defaults.
pub(super) fn message_of(
    spec: &ChainSpec,
    context: &BlockContext,
    request: &TransactionRequest,
    nonce: u64,
    gas_cap: u64,
) -> Result<Message, CallError> {
    if let (Some(input), Some(data)) = (&request.input.input, &request.input.data) {
        if input != data {
            return Err(CallError::invalid_params(
                r#"both "data" and "input" are set and not equal. Please use "input" to pass transaction call data"#,
            ));
        }
    }
    if let Some(id) = request.chain_id {
        if id != spec.chain_id {
            return Err(CallError::server(format!(
                "chainId does not match node's (have={id}, want={})",
                spec.chain_id
            )));
        }
    }
    let cap = if gas_cap == 0 { u64::MAX / 2 } else { gas_cap };
    let (gas_price, priority_fee) = gas_price_of(request, context.base_fee)?;
    let blob_hashes = request.blob_versioned_hashes.clone().unwrap_or_default();
    if request.blob_versioned_hashes.is_some() && blob_hashes.is_empty() {
        return Err(CallError::invalid_params("need at least 1 blob for a blob transaction"));
    }
    let authorizations = request.authorization_list.clone().unwrap_or_default();
    let to = request.to.unwrap_or(TxKind::Create);
    if to.is_create() && !blob_hashes.is_empty() {
        return Err(CallError::server("missing \"to\" in blob transaction"));
    }
    if to.is_create() && request.input.input().is_none_or(|data| data.is_empty()) {
        return Err(CallError::server("contract creation without any data provided"));
    }
    let tx_type = if request.authorization_list.is_some() {
        4
    } else if !blob_hashes.is_empty() {
        3
    } else if priority_fee.is_some() {
        2
    } else if request.access_list.is_some() {
        1
    } else {
        0
    };
    Ok(Message {
        tx_type,
        from: request.from.unwrap_or_default(),
        to,
        value: request.value.unwrap_or_default(),
        input: request.input.input().cloned().unwrap_or_default(),
        nonce: request.nonce.unwrap_or(nonce),
        gas_limit: request.gas.unwrap_or(cap).min(cap),
        gas_price,
        priority_fee,
        chain_id: Some(spec.chain_id),
        access_list: request.access_list.clone().unwrap_or_default(),
        blob_hashes,
        max_fee_per_blob_gas: request.max_fee_per_blob_gas.unwrap_or(0),
        authorizations,
    })
}

/// The checks of a simulated call: a request without prices pays nothing.
pub(super) fn checks_of(message: &Message) -> Checks {
    Checks { base_fee: message.gas_price > 0, ..Checks::CALL }
}

/// A machine and message for one request.
fn set_up<'a>(
    spec: &ChainSpec,
    context: &BlockContext,
    state: &'a dyn StateRead,
    request: &TransactionRequest,
    options: &CallOptions,
) -> Result<(Machine<'a>, Message, BlockContext), CallError> {
    let prepared = prepare(context, options.block.as_ref(), request)?;
    let message = message_of(spec, &prepared.context, request, 0, options.gas_cap)?;
    let machine = machine_for(spec, &prepared, state, options, Unwatched)?;
    Ok((machine, message, prepared.context))
}

/// A machine with all overrides of `options` applied.
pub(super) fn machine_for<'a, I>(
    spec: &ChainSpec,
    prepared: &Prepared,
    state: &'a dyn StateRead,
    options: &CallOptions,
    inspector: I,
) -> Result<Machine<'a, I>, CallError> {
    let mut overlay = Overlay::new(state);
    if let Some(hashes) = options.block.as_ref().and_then(|block| block.block_hash.as_ref()) {
        for (number, hash) in hashes {
            overlay.set_block_hash(*number, *hash);
        }
    }
    let mut machine = Machine::with_inspector(spec, &prepared.context, overlay, inspector);
    machine.set_deadline(options.deadline);
    if let Some(price) = prepared.blob_base_fee {
        machine.set_blob_base_fee(price);
    }
    if let Some(overrides) = &options.state {
        apply_overrides(&mut machine, overrides)?;
    }
    Ok(machine)
}

/// Errors of a call that did not succeed.
fn failure(outcome: Outcome) -> CallError {
    match outcome.halt {
        Some(halt) => CallError::server(halt.message),
        None => CallError::reverted(outcome.output),
    }
}

/// Runs a call. Reverts are errors of code 3 with the revert data; exceptional halts of code -32000.
pub fn call(
    spec: &ChainSpec,
    context: &BlockContext,
    state: &dyn StateRead,
    request: &TransactionRequest,
    options: &CallOptions,
) -> Result<CallOutcome, CallError> {
    let (mut machine, message, _) = set_up(spec, context, state, request, options)?;
    let checks = checks_of(&message);
    let gas = message.gas_limit;
    let outcome = machine.probe(message, checks).map_err(|error| match error {
        EvmError::Invalid { message, .. } => CallError::server(format!("err: {message} (supplied gas {gas})")),
        other => other.into(),
    })?;
    if !outcome.success {
        return Err(failure(outcome));
    }
    Ok(CallOutcome {
        success: true,
        output: outcome.output,
        gas_used: outcome.gas_used,
        logs: outcome.logs,
        halt: None,
    })
}

/// One try of an estimate.
enum Try {
    Enough {
        used: u64,
        spent: u64,
    },
    /// More gas may help.
    TooLittle,
    /// No gas helps.
    Failed(CallError),
}

struct Estimator<'a> {
    machine: Machine<'a>,
    message: Message,
    checks: Checks,
}

impl Estimator<'_> {
    fn attempt(&mut self, gas_limit: u64) -> Result<Try, CallError> {
        let message = Message { gas_limit, ..self.message.clone() };
        let outcome = match self.machine.probe(message, self.checks) {
            Ok(outcome) => outcome,
            Err(EvmError::Invalid { kind, .. }) if kind.is_gas() => return Ok(Try::TooLittle),
            Err(EvmError::Invalid { message, .. }) => {
                return Ok(Try::Failed(CallError::server(format!("failed with {gas_limit} gas: {message}"))));
            }
            Err(other) => return Err(other.into()),
        };
        if outcome.success {
            return Ok(Try::Enough { used: outcome.gas_used, spent: outcome.gas_spent });
        }
        // A revert may come from an inner call that ran dry: only at the highest limit it is final.
        if outcome.halt.as_ref().is_some_and(|halt| halt.out_of_gas) {
            return Ok(Try::TooLittle);
        }
        Ok(Try::Failed(failure(outcome)))
    }

    fn succeeds(&mut self, gas_limit: u64) -> Result<bool, CallError> {
        Ok(matches!(self.attempt(gas_limit)?, Try::Enough { .. }))
    }
}

/// The least gas limit with which the call succeeds: a binary search without padding.
pub fn estimate_gas(
    spec: &ChainSpec,
    context: &BlockContext,
    state: &dyn StateRead,
    request: &TransactionRequest,
    options: &CallOptions,
) -> Result<u64, CallError> {
    let (mut machine, message, context) = set_up(spec, context, state, request, options)?;
    // The minimum charge changes what is paid, not what is needed.
    machine.ignore_minimum_charge();
    let mut high = match request.gas {
        Some(gas) if gas >= TRANSFER_GAS => gas,
        _ => context.gas_limit,
    };
    if options.gas_cap != 0 {
        high = high.min(options.gas_cap);
    }
    if spec.fork_with_difficulty(context.number, context.timestamp, context.difficulty) >= Fork::Osaka {
        high = high.min(TRANSACTION_GAS_CAP);
    }
    high = high.min(allowance(&mut machine, &message)?);

    let checks = checks_of(&message);
    let plain = match message.to {
        TxKind::Call(to) => message.input.is_empty() && !has_code(&mut machine, to)?,
        TxKind::Create => false,
    };
    let mut estimator = Estimator { machine, message, checks };
    if plain && high >= TRANSFER_GAS && estimator.succeeds(TRANSFER_GAS)? {
        return Ok(TRANSFER_GAS);
    }
    search(&mut estimator, high)
}

fn search(estimator: &mut Estimator<'_>, mut high: u64) -> Result<u64, CallError> {
    let (used, spent) = match estimator.attempt(high)? {
        Try::Enough { used, spent } => (used, spent),
        Try::TooLittle => {
            return Err(CallError::server(format!("gas required exceeds allowance ({high})")));
        }
        Try::Failed(error) => return Err(error),
    };
    let mut low = used.saturating_sub(1);
    // Most calls need exactly what they spend; two tries then settle the matter.
    if spent < high {
        if estimator.succeeds(spent)? {
            high = spent;
            if low + 1 < high && !estimator.succeeds(high - 1)? {
                return Ok(high);
            }
        } else {
            low = spent;
            // EIP-150 holds back 1/64 of the gas of inner calls.
            let optimistic = spent.saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
            if optimistic < high {
                if estimator.succeeds(optimistic)? {
                    high = optimistic;
                } else {
                    low = optimistic;
                }
            }
        }
    }
    while low + 1 < high {
        // Estimates lie near the lower bound: do not jump far beyond it.
        let middle = (low + (high - low) / 2).min(low.saturating_mul(2).max(low + 1));
        if estimator.succeeds(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

fn has_code(machine: &mut Machine<'_>, address: Address) -> Result<bool, CallError> {
    if machine.is_precompile(&address) {
        return Ok(true);
    }
    let info = machine.overlay().account(address)?;
    Ok(info.is_some_and(|info| info.code_hash != alloy_primitives::KECCAK256_EMPTY))
}

/// How much gas the sender can pay for at the request's fee cap.
fn allowance(machine: &mut Machine<'_>, message: &Message) -> Result<u64, CallError> {
    if message.gas_price == 0 {
        return Ok(u64::MAX);
    }
    let balance = machine.overlay().account(message.from)?.map(|info| info.balance).unwrap_or_default();
    if balance < message.value {
        return Err(CallError::server("insufficient funds for transfer"));
    }
    let blob_gas = U256::from(message.blob_hashes.len()) * U256::from(alloy_eips::eip4844::DATA_GAS_PER_BLOB);
    let blobs = blob_gas.saturating_mul(U256::from(message.max_fee_per_blob_gas));
    let left = balance - message.value;
    if left < blobs {
        return Err(CallError::server("insufficient funds for gas * price + value"));
    }
    Ok(((left - blobs) / U256::from(message.gas_price)).saturating_to())
}

/// The list, gas used with it, and the error of the last run if it failed.
pub fn create_access_list(
    spec: &ChainSpec,
    context: &BlockContext,
    state: &dyn StateRead,
    request: &TransactionRequest,
    options: &CallOptions,
) -> Result<(AccessList, u64, Option<String>), CallError> {
    let prepared = prepare(context, options.block.as_ref(), request)?;
    let message = message_of(spec, &prepared.context, request, 0, options.gas_cap)?;
    let checks = checks_of(&message);
    let mut list = message.access_list.clone();
    loop {
        let recorder = AccessListRecorder::new(list.clone());
        let mut machine = machine_for(spec, &prepared, state, options, recorder)?;
        machine.ignore_minimum_charge();
        let attempt = Message { access_list: list.clone(), tx_type: message.tx_type.max(1), ..message.clone() };
        let outcome = machine
            .inspect(attempt, checks)
            .map_err(|error| CallError::server(format!("failed to apply transaction: err: {error}")))?;
        let found = machine.into_parts().1.into_access_list();
        // The list only grows, so that it settles.
        if found == list {
            let error = (!outcome.success).then(|| match outcome.halt {
                Some(halt) => halt.message,
                None => "execution reverted".to_owned(),
            });
            return Ok((found, outcome.gas_used, error));
        }
        list = found;
    }
}
