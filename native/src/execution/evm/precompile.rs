//! The hook for native contracts of a profile.

use std::fmt;
use std::sync::Arc;

use alloy_evm::precompiles::{DynPrecompile, PrecompileInput, PrecompilesMap};
use alloy_evm::EvmInternals;
use revm::precompile::secp256k1::ec_recover_run;
use revm::precompile::{PrecompileError, PrecompileHalt, PrecompileId, PrecompileOutput, PrecompileStatus};

use crate::primitives::*;

/// A contract in native code at a fixed address.
///
/// One that stores needs an account with a nonce in the genesis: EIP-161 removes empty accounts with all they hold.
pub trait Precompile: Send + Sync {
    fn address(&self) -> Address;
    fn name(&self) -> &'static str;
    fn call(&self, call: PrecompileCall<'_, '_>) -> PrecompileResult;
}

/// How a native contract ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrecompileResult {
    Return {
        gas_used: u64,
        output: Bytes,
    },
    /// State changes are undone, unused gas returns.
    Revert {
        gas_used: u64,
        output: Bytes,
    },
    /// State changes are undone, all gas is consumed.
    Fail(String),
    OutOfGas,
    /// The node is broken: the block cannot be executed.
    Fatal(String),
}

/// One call of a native contract and its access to the state.
pub struct PrecompileCall<'c, 'i> {
    pub input: &'c [u8],
    pub gas: u64,
    pub caller: Address,
    pub value: U256,
    pub is_static: bool,
    /// False under DELEGATECALL and CALLCODE.
    pub is_direct: bool,
    pub chain_id: u64,
    internals: &'c mut EvmInternals<'i>,
}

impl PrecompileCall<'_, '_> {
    pub fn block_number(&self) -> U256 {
        self.internals.block_number()
    }
    pub fn timestamp(&self) -> U256 {
        self.internals.block_timestamp()
    }
    pub fn load(&mut self, address: Address, slot: U256) -> Result<U256, String> {
        self.load_noting(address, slot).map(|load| load.value)
    }
    /// As SLOAD reads: the slot is warm for the rest of the transaction.
    pub fn load_noting(&mut self, address: Address, slot: U256) -> Result<Load, String> {
        self.internals.load_account(address).map_err(|e| e.to_string())?;
        let load = self.internals.sload(address, slot).map_err(|e| e.to_string())?;
        Ok(Load { value: load.data, was_cold: load.is_cold })
    }
    pub fn store(&mut self, address: Address, slot: U256, value: U256) -> Result<(), String> {
        self.internals.load_account(address).map_err(|e| e.to_string())?;
        self.internals.touch_account(address).map_err(|e| e.to_string())?;
        self.internals.sstore(address, slot, value).map(|_| ()).map_err(|e| e.to_string())
    }
    pub fn credit(&mut self, address: Address, amount: U256) -> Result<(), String> {
        self.internals.balance_incr(address, amount).map_err(|e| e.to_string())
    }
    pub fn log(&mut self, log: Log) {
        self.internals.log(log);
    }
}

/// A slot as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub value: U256,
    /// First touched by this transaction (EIP-2929).
    pub was_cold: bool,
}

/// Signer of `digest` by the rules of the precompile at address 1; `None` where that answers nothing.
pub fn recover(digest: &B256, r: &B256, s: &B256, v: u8) -> Option<Address> {
    let mut input = [0; 128];
    input[..32].copy_from_slice(digest.as_slice());
    input[63] = v;
    input[64..96].copy_from_slice(r.as_slice());
    input[96..].copy_from_slice(s.as_slice());
    let output = ec_recover_run(&input, u64::MAX).ok()?.bytes;
    (output.len() == 32).then(|| Address::from_slice(&output[12..]))
}

/// The native contracts of a chain beyond Ethereum's own.
#[derive(Clone, Default)]
pub struct PrecompileSet(Vec<Arc<dyn Precompile>>);

impl PrecompileSet {
    pub fn new(precompiles: Vec<Arc<dyn Precompile>>) -> PrecompileSet {
        PrecompileSet(precompiles)
    }

    pub(super) fn install(&self, map: &mut PrecompilesMap, chain_id: u64) {
        for precompile in &self.0 {
            let native = Arc::clone(precompile);
            let id = PrecompileId::custom(precompile.name());
            let adapter = DynPrecompile::new_stateful(id, move |input| run(native.as_ref(), chain_id, input));
            map.apply_precompile(&precompile.address(), |_| Some(adapter));
        }
    }
}

impl fmt::Debug for PrecompileSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|p| p.name())).finish()
    }
}

impl PartialEq for PrecompileSet {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| a.address() == b.address())
    }
}

impl Eq for PrecompileSet {}

fn run(
    native: &dyn Precompile,
    chain_id: u64,
    input: PrecompileInput<'_>,
) -> Result<PrecompileOutput, PrecompileError> {
    let is_direct = input.is_direct_call();
    let reservoir = input.reservoir;
    let mut internals = input.internals;
    let result = native.call(PrecompileCall {
        input: input.data,
        gas: input.gas,
        caller: input.caller,
        value: input.value,
        is_static: input.is_static,
        is_direct,
        chain_id,
        internals: &mut internals,
    });
    let (status, gas_used, bytes) = match result {
        PrecompileResult::Return { gas_used, output } => (PrecompileStatus::Success, gas_used, output),
        PrecompileResult::Revert { gas_used, output } => (PrecompileStatus::Revert, gas_used, output),
        PrecompileResult::Fail(reason) => {
            (PrecompileStatus::Halt(PrecompileHalt::other(reason)), input.gas, Bytes::new())
        }
        PrecompileResult::OutOfGas => (PrecompileStatus::Halt(PrecompileHalt::OutOfGas), input.gas, Bytes::new()),
        PrecompileResult::Fatal(reason) => return Err(PrecompileError::Fatal(reason)),
    };
    Ok(PrecompileOutput {
        status,
        gas_used,
        gas_refunded: 0,
        state_gas_used: 0,
        state_gas_spilled: 0,
        reservoir,
        bytes,
    })
}
