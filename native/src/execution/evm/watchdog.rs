//! A deadline inside the interpreter: loops and calls look at the clock now and then.

use std::time::Instant;

use revm::bytecode::opcode::{CALL, CALLCODE, CREATE, CREATE2, DELEGATECALL, JUMPDEST, STATICCALL};
use revm::context_interface::context::ContextError;
use revm::handler::instructions::EthInstructions;
use revm::interpreter::instructions::{contract, control};
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::{Instruction, InstructionContext, InstructionExecResult, InstructionResult};

use super::EvmContext;

/// Guarded instructions between two looks at the clock: about 10 µs of a tight loop.
const STRIDE: u32 = 2_048;

/// Deadline state carried in the context of the EVM.
#[derive(Clone, Debug, Default)]
pub struct Watchdog {
    pub(super) deadline: Option<Instant>,
    pub(super) expired: bool,
    countdown: u32,
}

impl Watchdog {
    /// True when the time is up.
    fn tick(&mut self) -> bool {
        if self.expired {
            return true;
        }
        if self.countdown > 0 {
            self.countdown -= 1;
            return false;
        }
        self.countdown = STRIDE;
        self.expired = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        self.expired
    }
}

type Step<'s, 'a> = InstructionContext<'s, EvmContext<'a>, EthInterpreter>;

/// Runs `then` unless the deadline has passed; every loop and every recursion meets one of the guarded opcodes.
fn guarded<'s, 'a>(
    step: Step<'s, 'a>,
    then: impl FnOnce(Step<'s, 'a>) -> InstructionExecResult,
) -> InstructionExecResult {
    if step.host.chain.tick() {
        step.host.error = Err(ContextError::Custom("execution timeout".to_owned()));
        return Err(InstructionResult::FatalExternalError);
    }
    then(step)
}

fn jumpdest(step: Step<'_, '_>) -> InstructionExecResult {
    guarded(step, control::jumpdest)
}

fn call<const KIND: u8>(step: Step<'_, '_>) -> InstructionExecResult {
    guarded(step, contract::call::<KIND, _, _>)
}

fn create<const IS_CREATE2: bool>(step: Step<'_, '_>) -> InstructionExecResult {
    guarded(step, contract::create::<IS_CREATE2, _, _>)
}

/// Replaces the opcodes that every loop or recursion must pass by guarded ones of the same gas.
pub(super) fn install<'a>(instructions: &mut EthInstructions<EthInterpreter, EvmContext<'a>>) {
    let table = instructions.instruction_table_mut();
    let guards: [(u8, Instruction<EthInterpreter, EvmContext<'a>>); 7] = [
        (JUMPDEST, Instruction::new(jumpdest)),
        (CALL, Instruction::new(call::<CALL>)),
        (CALLCODE, Instruction::new(call::<CALLCODE>)),
        (DELEGATECALL, Instruction::new(call::<DELEGATECALL>)),
        (STATICCALL, Instruction::new(call::<STATICCALL>)),
        (CREATE, Instruction::new(create::<false>)),
        (CREATE2, Instruction::new(create::<true>)),
    ];
    for (opcode, instruction) in guards {
        table[opcode as usize] = instruction;
    }
}
