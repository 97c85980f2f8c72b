//! revm's mainnet transaction handler with the minimum-charge rule of the 0G profiles in its settlement.

use std::marker::PhantomData;

use revm::context_interface::result::{EVMError, HaltReason, ResultGas};
use revm::context_interface::Transaction as _;
use revm::handler::{post_execution, EvmTr, FrameResult, Handler};
use revm::inspector::{Inspector, InspectorHandler};
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::InitialAndFloorGas;

use super::{EvmContext, RawEvm};
use crate::execution::spec::MinGasUsed;
use crate::primitives::ReadError;

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

impl<'a, I> InspectorHandler for TransactionHandler<'a, I>
where
    I: Inspector<EvmContext<'a>, EthInterpreter>,
{
    type IT = EthInterpreter;
}
