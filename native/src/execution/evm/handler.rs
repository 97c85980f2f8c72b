//! revm's mainnet transaction handler with the minimum-charge rule of the 0G profiles in its settlement.

use std::marker::PhantomData;

use alloy_primitives::KECCAK256_EMPTY;
use revm::context_interface::context::ContextError;
use revm::context_interface::result::{EVMError, HaltReason, ResultGas};
use revm::context_interface::JournalTr as _;
use revm::context_interface::Transaction as _;
use revm::handler::{post_execution, EvmTr, FrameResult, Handler, ItemOrResult};
use revm::inspector::{Inspector, InspectorEvmTr as _, InspectorHandler};
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_action::FrameInit;
use revm::interpreter::{FrameInput, InitialAndFloorGas};

use super::{EvmContext, RawEvm};
use crate::execution::spec::MinGasUsed;
use crate::primitives::{Address, ReadError, B256};

/// One transaction's handler; `min_gas_used` is `None` on chains without the rule.
pub(super) struct TransactionHandler<'a, I> {
    pub min_gas_used: Option<MinGasUsed>,
    marker: PhantomData<fn(&'a ()) -> I>,
}

impl<I> TransactionHandler<'_, I> {
    pub fn new(min_gas_used: Option<MinGasUsed>) -> Self {
        TransactionHandler { min_gas_used, marker: PhantomData }
    }
}

impl<'a, I> Handler for TransactionHandler<'a, I> {
    type Evm = RawEvm<'a, I>;
    type Error = EVMError<ReadError>;
    type HaltReason = HaltReason;

    fn run_exec_loop(&mut self, evm: &mut Self::Evm, first: FrameInit) -> Result<FrameResult, Self::Error> {
        let start =
            |evm: &mut Self::Evm, init| start_frame(evm, init, |evm, init| Ok(evm.frame_init(init)?.map_item(|_| ())));
        if let ItemOrResult::Result(result) = start(evm, first)? {
            return Ok(result);
        }
        loop {
            let result = match evm.frame_run()? {
                ItemOrResult::Item(init) => match start(evm, init)? {
                    ItemOrResult::Item(()) => continue,
                    ItemOrResult::Result(result) => result,
                },
                ItemOrResult::Result(result) => result,
            };
            if let Some(result) = evm.frame_return_result(result)? {
                return Ok(result);
            }
        }
    }

    fn post_execution(
        &self,
        evm: &mut Self::Evm,
        exec_result: &mut FrameResult,
        init_and_floor_gas: InitialAndFloorGas,
        eip7702_gas_refund: i64,
    ) -> Result<ResultGas, Self::Error> {
        self.refund(evm, exec_result, eip7702_gas_refund)?;
        let mut result_gas = post_execution::build_result_gas(
            exec_result.instruction_result().is_halt(),
            exec_result.gas(),
            init_and_floor_gas,
        );
        self.eip7623_check_gas_floor(evm, exec_result, init_and_floor_gas);
        if let Some(rule) = self.min_gas_used {
            // The sender pays, the beneficiary earns and the receipt shows the same figure.
            let least = rule.floor(evm.ctx_ref().tx.gas_limit());
            if result_gas.tx_gas_used() < least {
                let gas = exec_result.gas_mut();
                gas.set_spent(least);
                gas.set_refund(0);
                result_gas.set_total_gas_spent(least);
                result_gas.set_refunded(0);
            }
        }
        self.reimburse_caller(evm, exec_result)?;
        self.reward_beneficiary(evm, exec_result)?;
        Ok(result_gas)
    }
}

/// EIP-7610: creation fails at an address that holds storage, as if a contract were there. Such accounts cannot arise
/// on a live chain, but a genesis or a devnet edit can make them. While the frame starts, the account shows a code
/// hash, so that revm's own collision rule applies.
fn colliding<'a, I>(evm: &mut RawEvm<'a, I>, input: &FrameInput) -> Result<Option<Address>, ReadError> {
    let FrameInput::Create(create) = input else { return Ok(None) };
    let journal = &mut evm.ctx.journaled_state;
    let nonce = journal.load_account(create.caller())?.data.info.nonce;
    let address = create.created_address(nonce);
    if !journal.database.has_storage(address)? {
        return Ok(None);
    }
    // Where nonce or code are set, the stock rule refuses already.
    let vacant = match journal.inner.state.get(&address) {
        Some(account) => account.info.has_no_code_and_nonce(),
        None => {
            journal.database.account(address)?.is_none_or(|info| info.nonce == 0 && info.code_hash == KECCAK256_EMPTY)
        }
    };
    Ok(vacant.then_some(address))
}

/// Shows `hash` as the account's code hash, now or when it is loaded; what is warm stays as it is.
fn show_code<'a, I>(evm: &mut RawEvm<'a, I>, address: Address, hash: B256) {
    let journal = &mut evm.ctx.journaled_state;
    journal.database.pretend_code((hash != KECCAK256_EMPTY).then_some((address, hash)));
    if let Some(account) = journal.inner.state.get_mut(&address) {
        account.info.code_hash = hash;
    }
}

type Started = ItemOrResult<(), FrameResult>;

/// Starts a frame through `start` under the rule of EIP-7610.
fn start_frame<'a, I>(
    evm: &mut RawEvm<'a, I>,
    init: FrameInit,
    start: impl FnOnce(&mut RawEvm<'a, I>, FrameInit) -> Result<Started, ContextError<ReadError>>,
) -> Result<Started, ContextError<ReadError>> {
    let Some(address) = colliding(evm, &init.frame_input)? else {
        return start(evm, init);
    };
    show_code(evm, address, B256::repeat_byte(0xff));
    let started = start(evm, init);
    show_code(evm, address, KECCAK256_EMPTY);
    started
}

impl<'a, I> InspectorHandler for TransactionHandler<'a, I>
where
    I: Inspector<EvmContext<'a>, EthInterpreter>,
{
    type IT = EthInterpreter;

    fn inspect_run_exec_loop(&mut self, evm: &mut Self::Evm, first: FrameInit) -> Result<FrameResult, Self::Error> {
        let start = |evm: &mut Self::Evm, init| {
            start_frame(evm, init, |evm, init| Ok(evm.inspect_frame_init(init)?.map_item(|_| ())))
        };
        if let ItemOrResult::Result(result) = start(evm, first)? {
            return Ok(result);
        }
        loop {
            let result = match evm.inspect_frame_run()? {
                ItemOrResult::Item(init) => match start(evm, init)? {
                    ItemOrResult::Item(()) => continue,
                    ItemOrResult::Result(result) => result,
                },
                ItemOrResult::Result(result) => result,
            };
            if let Some(result) = evm.frame_return_result(result)? {
                return Ok(result);
            }
        }
    }
}
