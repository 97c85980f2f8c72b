//! Block execution: (parent state, transactions, block context) → outcome. Pure: nothing here touches a database,
//! a clock or a pool; the state comes through [`StateRead`], roots through [`RootCalculator`].
//!
//! * [`spec`]: fork schedule and fee formulas; [`genesis`]: geth's JSON.
//! * [`block`]: building and re-executing blocks; [`header`]: header rules; [`receipt`]: receipts.
//! * [`call`]: `eth_call`, gas estimates, access lists.
//! * [`trace`]: `debug_trace*`; [`fixtures`]: runners of the public test suites; [`validity`]: raw transactions.
//! * [`contracts`]: the native contracts: [`receipts`] of inferences, quotes of trusted hardware ([`dcap`]), proofs of
//!   random access ([`pora`]); [`calldata`] decodes for them as Solidity does.
//! * [`evm`]: the adapter over revm; nothing else names it.
//! * [`memory`]: a state in memory for fixtures and tests.

use std::time::Instant;

use alloy_consensus::Header;
use alloy_eips::eip4895::Withdrawal;
use alloy_rpc_types_eth::state::StateOverride;
use alloy_rpc_types_eth::BlockOverrides;

use crate::primitives::*;

pub mod block;
pub mod call;
pub mod calldata;
pub mod contracts;
mod dao;
pub mod dcap;
pub mod evm;
pub mod fixtures;
pub mod genesis;
pub mod header;
pub mod memory;
pub mod pora;
pub mod receipt;
pub mod receipts;
mod requests;
pub mod simulate;
pub mod spec;
pub mod trace;
pub mod validity;

pub use block::{build_block, execute_block};
pub use call::{call, create_access_list, estimate_gas};
pub use genesis::{Genesis, GenesisError};
pub use spec::{ChainSpec, Fork};
pub use trace::{trace_block, trace_call, TransactionTrace};

/// What the proposer chooses about a block.
#[derive(Clone, Debug)]
pub struct BlockAttributes {
    pub timestamp: u64,
    pub beneficiary: Address,
    pub prevrandao: B256,
    pub gas_limit: u64,
    /// Overrides the EIP-1559 rule (devnet control).
    pub base_fee: Option<u64>,
    pub withdrawals: Vec<Withdrawal>,
    pub parent_beacon_block_root: B256,
    pub extra_data: Bytes,
    /// Stop after this many transactions (automine: 1); `None` fills the block.
    pub max_transactions: Option<usize>,
}

#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The block breaks a rule; the text names the field, the value and the expectation.
    #[error("invalid block: {0}")]
    Invalid(String),
    #[error("invalid transaction {index} ({hash}): {reason}")]
    Transaction { index: usize, hash: B256, reason: String },
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The block context in which a call runs.
#[derive(Clone, Debug)]
pub struct BlockContext {
    pub number: u64,
    pub timestamp: u64,
    pub beneficiary: Address,
    pub gas_limit: u64,
    pub base_fee: Option<u64>,
    pub prevrandao: B256,
    pub difficulty: U256,
    pub excess_blob_gas: Option<u64>,
    pub parent_beacon_block_root: Option<B256>,
}

impl BlockContext {
    pub fn of(header: &Header) -> BlockContext {
        BlockContext {
            number: header.number,
            timestamp: header.timestamp,
            beneficiary: header.beneficiary,
            gas_limit: header.gas_limit,
            base_fee: header.base_fee_per_gas,
            prevrandao: header.mix_hash,
            difficulty: header.difficulty,
            excess_blob_gas: header.excess_blob_gas,
            parent_beacon_block_root: header.parent_beacon_block_root,
        }
    }
}

/// Bounds and overrides of a simulated call.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    pub state: Option<StateOverride>,
    pub block: Option<BlockOverrides>,
    /// Most gas a call may use; 0: unlimited.
    pub gas_cap: u64,
    pub deadline: Option<Instant>,
}

/// A call that ran to its end. [`call`] answers reverts and halts as [`CallError`].
#[derive(Clone, Debug)]
pub struct CallOutcome {
    pub success: bool,
    pub output: Bytes,
    pub gas_used: u64,
    pub logs: Vec<Log>,
    pub halt: Option<String>,
}

/// geth-shaped: code, message, data.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    pub code: i64,
    pub message: String,
    pub data: Option<Bytes>,
}

#[cfg(test)]
mod tests;
