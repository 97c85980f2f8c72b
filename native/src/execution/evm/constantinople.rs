//! EIP-1283, the net gas metering that only Constantinople had: revm starts it with Istanbul's variant (EIP-2200),
//! which differs in prices and in its guard of 2,300 gas.

use revm::bytecode::opcode::SSTORE;
use revm::context_interface::cfg::gas_params::GasId;
use revm::context_interface::cfg::GasParams;
use revm::handler::instructions::EthInstructions;
use revm::interpreter::instructions::host::sstore_with_gas_accounting;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::{Instruction, InstructionContext, InstructionExecResult, InstructionResult};
use revm::primitives::hardfork::SpecId;

use super::EvmContext;

/// Gas of a write that changes nothing.
const NO_CHANGE: u64 = 200;
const SET: u64 = 20_000;
const RESET: u64 = 5_000;

pub(super) fn gas_params() -> GasParams {
    let mut params = GasParams::new_spec(SpecId::PETERSBURG);
    params.override_gas([
        (GasId::sstore_static(), NO_CHANGE),
        (GasId::sstore_set_without_load_cost(), SET - NO_CHANGE),
        (GasId::sstore_reset_without_cold_load_cost(), RESET - NO_CHANGE),
        (GasId::sstore_set_refund(), SET - NO_CHANGE),
        (GasId::sstore_reset_refund(), RESET - NO_CHANGE),
    ]);
    params
}

fn sstore<'a>(step: InstructionContext<'_, EvmContext<'a>, EthInterpreter>) -> InstructionExecResult {
    sstore_with_gas_accounting(step, |step, _, load| {
        let params = &step.host.cfg.gas_params;
        let cost = params.sstore_dynamic_gas(true, &load.data, false);
        let refund = params.sstore_refund(true, &load.data);
        if !step.interpreter.gas.record_regular_cost(cost) {
            return Err(InstructionResult::OutOfGas);
        }
        step.interpreter.gas.record_refund(refund);
        Ok(())
    })
}

pub(super) fn install<'a>(instructions: &mut EthInstructions<EthInterpreter, EvmContext<'a>>) {
    instructions.instruction_table_mut()[SSTORE as usize] = Instruction::new(sstore);
}
