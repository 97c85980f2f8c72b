//! geth's tracers over revm-inspectors.

use alloy_rpc_types_trace::geth::{GethDebugTracerType, GethDebugTracingOptions, GethTrace};
use revm::context::TxEnv;
use revm::context_interface::context::ContextError;
use revm::context_interface::result::ResultAndState;
use revm::database_interface::DatabaseRef;
use revm::handler::FrameResult;
use revm::inspector::InspectorHandler as _;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::{
    CallInputs, CallOutcome, CreateInputs, CreateOutcome, FrameInput, InstructionResult, Interpreter,
};
use revm::state::{AccountInfo as EvmInfo, Bytecode};
use revm::{ExecuteEvm as _, Inspector};
use revm_inspectors::tracing::{DebugInspector, TransactionContext};

use super::handler::TransactionHandler;
use super::{message, Checks, EvmContext, EvmError, Machine, Message, Overlay};
use crate::primitives::*;

/// Bytes that the steps of one trace may hold, roughly.
const MAX_RECORDED: usize = 512 << 20;
/// What a step holds beside copies of stack and memory.
const STEP_BYTES: usize = 256;

/// What `tracer` may name; without a name the steps are traced. JavaScript is not among them.
const TRACERS: [&str; 8] = [
    "callTracer",
    "flatCallTracer",
    "prestateTracer",
    "4byteTracer",
    "stateGasTracer",
    "erc7562Tracer",
    "muxTracer",
    "noopTracer",
];

/// One of geth's tracers, reusable for transaction after transaction.
pub struct Tracer {
    inner: DebugInspector,
    /// What a step copies; `None` for tracers that keep no steps.
    copies: Option<Copies>,
    /// Steps of one transaction that are recorded.
    limit: u64,
    steps: u64,
    /// Bytes of all transactions so far: their traces stay in memory until the answer is out.
    recorded: usize,
}

/// Which parts of the machine each recorded step keeps.
struct Copies {
    stack: bool,
    memory: bool,
}

impl Tracer {
    pub fn new(mut options: GethDebugTracingOptions) -> Result<Tracer, String> {
        if let Some(GethDebugTracerType::JsTracer(name)) = &options.tracer {
            let name = name.chars().take(64).collect::<String>();
            return Err(format!("unknown tracer {name:?}; supported: {}", TRACERS.join(", ")));
        }
        accept_empty_configs(&mut options);
        let config = &options.config;
        let limit = config.limit.filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        let copies =
            Copies { stack: !config.disable_stack.unwrap_or(false), memory: config.enable_memory.unwrap_or(false) };
        let inner = DebugInspector::new(options).map_err(|e| e.to_string())?;
        let copies = matches!(inner, DebugInspector::Default(..)).then_some(copies);
        Ok(Tracer { inner, copies, limit, steps: 0, recorded: 0 })
    }

    /// Counts one step; false when the trace has grown too large.
    fn account(&mut self, interp: &Interpreter) -> bool {
        let Some(copies) = self.copies.as_ref().filter(|_| self.steps < self.limit) else { return true };
        self.steps += 1;
        let stack = if copies.stack { 32 * interp.stack.len() } else { 0 };
        let memory = if copies.memory { interp.memory.len() } else { 0 };
        self.recorded = self.recorded.saturating_add(STEP_BYTES + stack + memory);
        self.recorded <= MAX_RECORDED
    }
}

/// A muxed tracer without options may be given `{}` for them; the library wants `null`.
fn accept_empty_configs(options: &mut GethDebugTracingOptions) {
    let Some(parts) = options.tracer_config.0.as_object_mut() else { return };
    for name in ["4byteTracer", "noopTracer"] {
        if let Some(config) = parts.get_mut(name).filter(|config| **config == serde_json::json!({})) {
            *config = serde_json::Value::Null;
        }
    }
}

impl<'a> Inspector<EvmContext<'a>, EthInterpreter> for Tracer {
    fn initialize_interp(&mut self, interp: &mut Interpreter, context: &mut EvmContext<'a>) {
        self.inner.initialize_interp(interp, context);
    }

    fn step(&mut self, interp: &mut Interpreter, context: &mut EvmContext<'a>) {
        if !self.account(interp) {
            context.error = Err(ContextError::Custom(format!(
                "the trace exceeds {MAX_RECORDED} bytes; set \"limit\", leave out memory or stack, or use another tracer"
            )));
            interp.halt(InstructionResult::FatalExternalError);
            return;
        }
        self.inner.step(interp, context);
    }

    fn step_end(&mut self, interp: &mut Interpreter, context: &mut EvmContext<'a>) {
        self.inner.step_end(interp, context);
    }

    fn log(&mut self, context: &mut EvmContext<'a>, log: Log) {
        self.inner.log(context, log);
    }

    fn log_full(&mut self, interp: &mut Interpreter, context: &mut EvmContext<'a>, log: Log) {
        self.inner.log_full(interp, context, log);
    }

    fn call(&mut self, context: &mut EvmContext<'a>, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.inner.call(context, inputs)
    }

    fn call_end(&mut self, context: &mut EvmContext<'a>, inputs: &CallInputs, outcome: &mut CallOutcome) {
        self.inner.call_end(context, inputs, outcome);
    }

    fn create(&mut self, context: &mut EvmContext<'a>, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.inner.create(context, inputs)
    }

    fn create_end(&mut self, context: &mut EvmContext<'a>, inputs: &CreateInputs, outcome: &mut CreateOutcome) {
        self.inner.create_end(context, inputs, outcome);
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        Inspector::<EvmContext<'a>>::selfdestruct(&mut self.inner, contract, target, value);
    }

    fn frame_start(&mut self, context: &mut EvmContext<'a>, input: &mut FrameInput) -> Option<FrameResult> {
        self.inner.frame_start(context, input)
    }

    fn frame_end(&mut self, context: &mut EvmContext<'a>, input: &FrameInput, result: &mut FrameResult) {
        self.inner.frame_end(context, input, result);
    }
}

/// Where a traced transaction stands; empty for calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracePlace {
    pub block_hash: Option<B256>,
    pub index: Option<usize>,
    pub hash: Option<B256>,
}

/// Read-only access to the state before the traced transaction.
struct Before<'o, 'a>(&'o Overlay<'a>);

impl DatabaseRef for Before<'_, '_> {
    type Error = ReadError;

    fn basic_ref(&self, address: Address) -> Result<Option<EvmInfo>, ReadError> {
        Ok(self.0.peek_account(&address)?.map(|info| EvmInfo {
            balance: info.balance,
            nonce: info.nonce,
            code_hash: info.code_hash,
            account_id: None,
            code: None,
        }))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, ReadError> {
        self.0.bytecode(hash)
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, ReadError> {
        self.0.peek_slot(&address, &slot)
    }

    fn block_hash_ref(&self, _number: u64) -> Result<B256, ReadError> {
        Ok(B256::ZERO)
    }
}

/// geth leaves empty fields of a step out.
fn in_geth_form(mut trace: GethTrace) -> GethTrace {
    if let GethTrace::Default(frame) = &mut trace {
        for log in &mut frame.struct_logs {
            log.refund_counter = log.refund_counter.filter(|refund| *refund != 0);
            log.return_data = log.return_data.take().filter(|data| !data.is_empty());
            log.memory = log.memory.take().filter(|words| !words.is_empty());
        }
    }
    trace
}

impl Machine<'_, Tracer> {
    /// Runs a signed transaction of a block, commits it and returns its trace.
    pub fn trace_transaction(&mut self, tx: &SignedTx, place: TracePlace) -> Result<GethTrace, EvmError> {
        let checks = Checks { sender_is_eoa: !tx.impersonated, ..Checks::STRICT };
        self.trace_env(message::signed_env(&tx.tx, tx.sender), checks, place)
    }

    /// Runs a message, commits it and returns its trace.
    pub fn trace_message(&mut self, message: Message, checks: Checks) -> Result<GethTrace, EvmError> {
        self.trace_env(message.into(), checks, TracePlace::default())
    }

    fn trace_env(&mut self, tx: TxEnv, checks: Checks, place: TracePlace) -> Result<GethTrace, EvmError> {
        self.apply(checks);
        self.evm.ctx.tx = tx.clone();
        let run = TransactionHandler::new(self.min_gas_used).inspect_run(&mut self.evm);
        let result = match run {
            Ok(result) => result,
            Err(error) => {
                self.renew();
                return Err(self.failed(error));
            }
        };
        let done = ResultAndState { result, state: self.evm.finalize() };
        let context = TransactionContext { block_hash: place.block_hash, tx_index: place.index, tx_hash: place.hash };
        let mut before = Before(&self.evm.ctx.journaled_state.database);
        let trace = self
            .evm
            .inspector
            .inner
            .get_result(Some(context), &tx, &self.evm.ctx.block, &done, &mut before)
            .map(in_geth_form)
            .map_err(|e| EvmError::Other(e.to_string()));
        self.renew();
        self.commit(done.state)?;
        trace
    }

    /// Forgets what the tracer recorded.
    fn renew(&mut self) {
        self.evm.inspector.steps = 0;
        // Fails only for JavaScript tracers, which are not built in.
        let _ = self.evm.inspector.inner.fuse();
    }
}
