//! The adapter over revm and alloy-evm: the only module that names them.
//!
//! A [`Machine`] runs transactions, messages and system calls in one block context over an [`Overlay`]. Committed
//! effects stay in the overlay, which outlives the machine: later calls and later (simulated) blocks build on it.
//!
//! ```ignore
//! let mut machine = Machine::new(&spec, &context, Overlay::new(&state));
//! let outcome = machine.run(message, Checks::CALL)?;   // committed into the overlay
//! let delta = machine.into_overlay().delta();
//! ```

use std::time::Instant;

use alloy_evm::precompiles::PrecompilesMap;
use revm::context::{BlockEnv, CfgEnv, Evm as RevmEvm, Journal, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::cfg::GasParams;
use revm::context_interface::result::EVMError;
use revm::context_interface::JournalTr;
use revm::handler::instructions::EthInstructions;
use revm::handler::{EthFrame, Handler, PrecompileProvider, SystemCallTx};
use revm::inspector::InspectorHandler;
use revm::interpreter::interpreter::EthInterpreter;
use revm::precompile::{PrecompileSpecId, Precompiles};
use revm::primitives::hardfork::SpecId;
use revm::state::EvmState;
use revm::{Context, ExecuteEvm};

use super::spec::{ChainSpec, Fork, MinGasUsed};
use super::BlockContext;
use crate::primitives::*;

mod constantinople;
mod crypto;
mod handler;
mod message;
mod outcome;
mod overlay;
mod precompile;
mod tracer;
mod transfers;
mod watchdog;

/// No inspector.
pub use revm::inspector::NoOpInspector as Unwatched;
/// The inspector of `eth_createAccessList`.
pub use revm_inspectors::access_list::AccessListInspector as AccessListRecorder;

pub use message::{Checks, Message};
pub use outcome::{EvmError, Halt, InvalidKind, Outcome};
pub use overlay::Overlay;
pub use precompile::{recover, Load, Precompile, PrecompileCall, PrecompileResult, PrecompileSet};
pub use tracer::{TracePlace, Tracer};
pub use transfers::{IndexedLog, LogRecorder};

use handler::TransactionHandler;
use watchdog::Watchdog;

/// Memory that one execution may hold, in bytes; gas bounds it far below on any real chain.
const MEMORY_LIMIT: u64 = 1 << 30;

pub(super) type EvmContext<'a> = Context<BlockEnv, TxEnv, CfgEnv, Overlay<'a>, Journal<Overlay<'a>>, Watchdog>;
type RawEvm<'a, I> = RevmEvm<
    EvmContext<'a>,
    I,
    EthInstructions<EthInterpreter, EvmContext<'a>>,
    PrecompilesMap,
    EthFrame<EthInterpreter>,
>;

/// What watches an execution step by step.
pub trait Inspect<'a>: revm::Inspector<EvmContext<'a>, EthInterpreter> {}
impl<'a, T: revm::Inspector<EvmContext<'a>, EthInterpreter>> Inspect<'a> for T {}

/// An EVM in one block context, reused for all its transactions.
pub struct Machine<'a, I = Unwatched> {
    evm: RawEvm<'a, I>,
    min_gas_used: Option<MinGasUsed>,
}

fn spec_id(fork: Fork) -> SpecId {
    match fork {
        Fork::Frontier => SpecId::FRONTIER,
        Fork::Homestead => SpecId::HOMESTEAD,
        Fork::TangerineWhistle => SpecId::TANGERINE,
        Fork::SpuriousDragon => SpecId::SPURIOUS_DRAGON,
        Fork::Byzantium => SpecId::BYZANTIUM,
        // revm has no Constantinople of its own; see `constantinople` for the difference.
        Fork::Constantinople | Fork::Petersburg => SpecId::PETERSBURG,
        Fork::Istanbul | Fork::MuirGlacier => SpecId::ISTANBUL,
        Fork::Berlin => SpecId::BERLIN,
        Fork::London | Fork::ArrowGlacier | Fork::GrayGlacier => SpecId::LONDON,
        Fork::Paris => SpecId::MERGE,
        Fork::Shanghai => SpecId::SHANGHAI,
        Fork::Cancun => SpecId::CANCUN,
        Fork::Prague => SpecId::PRAGUE,
        Fork::Osaka | Fork::Bpo1 | Fork::Bpo2 => SpecId::OSAKA,
    }
}

fn block_env(spec: &ChainSpec, context: &BlockContext, fork: Fork) -> BlockEnv {
    let blob = (fork >= Fork::Cancun).then(|| {
        let excess_blob_gas = context.excess_blob_gas.unwrap_or(0);
        BlobExcessGasAndPrice { excess_blob_gas, blob_gasprice: spec.blob_base_fee(excess_blob_gas, context.timestamp) }
    });
    BlockEnv {
        number: U256::from(context.number),
        beneficiary: context.beneficiary,
        timestamp: U256::from(context.timestamp),
        gas_limit: context.gas_limit,
        basefee: context.base_fee.unwrap_or(0),
        difficulty: context.difficulty,
        prevrandao: (fork >= Fork::Paris).then_some(context.prevrandao),
        blob_excess_gas_and_price: blob,
        slot_num: 0,
    }
}

fn cfg_env(spec: &ChainSpec, context: &BlockContext, id: SpecId) -> CfgEnv {
    let mut cfg = CfgEnv::new_with_spec(id);
    cfg.chain_id = spec.chain_id;
    cfg.limit_contract_code_size = spec.max_code_size;
    cfg.memory_limit = MEMORY_LIMIT;
    cfg.max_blobs_per_tx = Some(spec.max_blobs_per_transaction(context.number, context.timestamp));
    cfg.blob_base_fee_update_fraction = spec.blob_params(context.timestamp).map(|params| params.update_fraction);
    cfg
}

impl<'a> Machine<'a> {
    pub fn new(spec: &ChainSpec, context: &BlockContext, overlay: Overlay<'a>) -> Machine<'a> {
        Machine::with_inspector(spec, context, overlay, Unwatched {})
    }
}

impl<'a, I> Machine<'a, I> {
    pub fn with_inspector(
        spec: &ChainSpec,
        context: &BlockContext,
        overlay: Overlay<'a>,
        inspector: I,
    ) -> Machine<'a, I> {
        crypto::install();
        let fork = spec.fork_with_difficulty(context.number, context.timestamp, context.difficulty);
        let id = spec_id(fork);
        let mut evm_context: EvmContext<'a> = Context::new(overlay, id);
        evm_context.cfg = cfg_env(spec, context, id);
        evm_context.block = block_env(spec, context, fork);
        let stock = Precompiles::new(PrecompileSpecId::from_spec_id(id));
        let mut precompiles = PrecompilesMap::from_static(stock);
        spec.precompiles.install(&mut precompiles, spec.chain_id);
        let mut instructions = EthInstructions::new_mainnet_with_spec(id);
        if fork == Fork::Constantinople {
            evm_context.cfg.set_gas_params(constantinople::gas_params());
            constantinople::install(&mut instructions);
        }
        Machine {
            evm: RevmEvm::new_with_inspector(evm_context, inspector, instructions, precompiles),
            min_gas_used: spec.min_gas_used(context.timestamp),
        }
    }

    /// Aborts executions that run past `deadline` with [`EvmError::Timeout`].
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        if deadline.is_some() && self.evm.ctx.chain.deadline.is_none() {
            watchdog::install(&mut self.evm.instruction);
        }
        self.evm.ctx.chain.deadline = deadline;
        self.evm.ctx.chain.expired = false;
    }

    /// Replaces the price of blob gas (a block override of simulated calls).
    pub fn set_blob_base_fee(&mut self, price: u128) {
        if let Some(blob) = &mut self.evm.ctx.block.blob_excess_gas_and_price {
            blob.blob_gasprice = price;
        }
    }

    /// Overriding precompiles moves no warmth: the stock addresses stay warm, new ones are cold.
    fn keep_warm_addresses(&mut self) {
        let journal = &mut self.evm.ctx.journaled_state;
        if journal.precompile_addresses().is_empty() {
            journal.warm_precompiles(PrecompileProvider::<EvmContext<'a>>::warm_addresses(&self.evm.precompiles));
        }
    }

    /// The precompile at `from` answers at `to` instead (a state override of simulated calls).
    pub fn move_precompile(&mut self, from: Address, to: Address) -> bool {
        self.keep_warm_addresses();
        self.evm.precompiles.move_precompiles([(from, to)]).is_ok()
    }

    /// Calls of `address` meet its code, if any, from now on.
    pub fn remove_precompile(&mut self, address: &Address) {
        self.keep_warm_addresses();
        self.evm.precompiles.apply_precompile(address, |_| None);
    }

    pub fn is_precompile(&self, address: &Address) -> bool {
        self.evm.precompiles.get(address).is_some()
    }

    pub fn precompile_addresses(&self) -> Vec<Address> {
        self.evm.precompiles.addresses().copied().collect()
    }

    pub fn overlay(&mut self) -> &mut Overlay<'a> {
        &mut self.evm.ctx.journaled_state.database
    }

    pub fn into_overlay(self) -> Overlay<'a> {
        self.evm.ctx.journaled_state.database
    }

    pub fn into_parts(self) -> (Overlay<'a>, I) {
        (self.evm.ctx.journaled_state.database, self.evm.inspector)
    }

    pub fn inspector(&mut self) -> &mut I {
        &mut self.evm.inspector
    }

    /// Switches the minimum charge of the profile off, for questions about the gas that is needed.
    pub fn ignore_minimum_charge(&mut self) {
        self.min_gas_used = None;
    }

    fn apply(&mut self, checks: Checks) {
        let cfg = &mut self.evm.ctx.cfg;
        cfg.disable_nonce_check = !checks.nonce;
        cfg.disable_balance_check = !checks.balance;
        cfg.disable_base_fee = !checks.base_fee;
        cfg.disable_eip3607 = !checks.sender_is_eoa;
        cfg.disable_block_gas_limit = !checks.block_gas_limit;
        cfg.disable_fee_charge = !checks.fees;
        cfg.tx_gas_limit_cap = if checks.gas_cap { None } else { Some(u64::MAX) };
    }

    fn facts(&self) -> outcome::Facts {
        let tx = &self.evm.ctx.tx;
        outcome::Facts {
            from: tx.caller,
            to: tx.kind,
            gas_price: tx.gas_price,
            priority_fee: tx.gas_priority_fee,
            base_fee: self.evm.ctx.block.basefee,
            input_len: tx.data.len(),
        }
    }

    fn failed(&mut self, error: EVMError<ReadError>) -> EvmError {
        // What the failed transaction loaded is of no use to the next one.
        let _ = self.evm.finalize();
        outcome::error(error, self.evm.ctx.chain.expired, self.facts())
    }

    fn transact_env(&mut self, tx: TxEnv, checks: Checks) -> Result<(Outcome, EvmState), EvmError> {
        self.apply(checks);
        self.evm.ctx.tx = tx;
        match TransactionHandler::new(self.min_gas_used).run(&mut self.evm) {
            Ok(result) => Ok((outcome::outcome(result), self.evm.finalize())),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn commit(&mut self, state: EvmState) -> Result<(), EvmError> {
        Ok(self.overlay().commit(state)?)
    }

    /// Runs a signed transaction as part of a block and commits it.
    pub fn transact(&mut self, tx: &SignedTx) -> Result<Outcome, EvmError> {
        let checks = Checks {
            // An impersonated sender may be a contract.
            sender_is_eoa: !tx.impersonated,
            ..Checks::STRICT
        };
        let (outcome, state) = self.transact_env(message::signed_env(&tx.tx, tx.sender), checks)?;
        self.commit(state)?;
        Ok(outcome)
    }

    /// Runs a message and commits it.
    pub fn run(&mut self, message: Message, checks: Checks) -> Result<Outcome, EvmError> {
        let (outcome, state) = self.transact_env(message.into(), checks)?;
        self.commit(state)?;
        Ok(outcome)
    }

    /// Runs a message and forgets what it did.
    pub fn probe(&mut self, message: Message, checks: Checks) -> Result<Outcome, EvmError> {
        Ok(self.transact_env(message.into(), checks)?.0)
    }

    /// A system call (EIP-2935 and others): from the system address, outside of gas accounting; committed.
    pub fn system_call(&mut self, contract: Address, input: Bytes) -> Result<Outcome, EvmError> {
        self.apply(Checks::CALL);
        self.evm.ctx.tx = TxEnv::new_system_tx(contract, input);
        match TransactionHandler::new(None).run_system_call(&mut self.evm) {
            Ok(result) => {
                let state = self.evm.finalize();
                self.commit(state)?;
                Ok(outcome::outcome(result))
            }
            Err(error) => Err(self.failed(error)),
        }
    }
}

impl<'a, I: Inspect<'a>> Machine<'a, I> {
    fn inspect_env(&mut self, tx: TxEnv, checks: Checks) -> Result<(Outcome, EvmState), EvmError> {
        self.apply(checks);
        self.evm.ctx.tx = tx;
        match TransactionHandler::new(self.min_gas_used).inspect_run(&mut self.evm) {
            Ok(result) => Ok((outcome::outcome(result), self.evm.finalize())),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// [`Machine::run`] under the eyes of the inspector.
    pub fn inspect(&mut self, message: Message, checks: Checks) -> Result<Outcome, EvmError> {
        let (outcome, state) = self.inspect_env(message.into(), checks)?;
        self.commit(state)?;
        Ok(outcome)
    }
}

/// The drained contracts of the DAO fork and the contract that got their balances.
pub(super) fn dao_accounts() -> (&'static [Address], Address) {
    use alloy_evm::eth::dao_fork::{DAO_HARDFORK_ACCOUNTS, DAO_HARDFORK_BENEFICIARY};
    (&DAO_HARDFORK_ACCOUNTS, DAO_HARDFORK_BENEFICIARY)
}

/// Gas that a transaction needs before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntrinsicGas {
    /// Consumed before the first instruction.
    pub initial: u64,
    /// Least gas charged for the calldata (EIP-7623); binds from Prague on.
    pub floor: u64,
}

/// The parts of a transaction that its intrinsic gas depends on.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    pub input: Bytes,
    pub is_create: bool,
    /// Addresses and slots of the access list.
    pub accounts: u64,
    pub slots: u64,
    /// Length of the EIP-7702 authorization list.
    pub authorizations: u64,
}

/// Intrinsic gas under the rules of a fork.
pub fn intrinsic_gas(fork: Fork, payload: &Payload) -> IntrinsicGas {
    let params = GasParams::new_spec(spec_id(fork));
    let gas = params.initial_tx_gas(
        &payload.input,
        payload.is_create,
        payload.accounts,
        payload.slots,
        payload.authorizations,
        None,
    );
    IntrinsicGas { initial: gas.initial_total_gas(), floor: gas.floor_gas() }
}
