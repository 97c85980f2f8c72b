//! Block execution: (parent state, transactions, block context) → outcome (skeleton: bodies to come).
//! Only `execution::evm` names revm types.
use std::time::Instant;

use alloy_consensus::Header;
use alloy_eips::eip4895::Withdrawal;
use alloy_rpc_types_eth::{state::StateOverride, AccessList, BlockOverrides, TransactionRequest};
use alloy_rpc_types_trace::geth::{GethDebugTracingCallOptions, GethDebugTracingOptions, GethTrace};
use crate::primitives::*;

/// Hard forks in order of activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    Frontier, Homestead, TangerineWhistle, SpuriousDragon, Byzantium, Constantinople, Petersburg,
    Istanbul, MuirGlacier, Berlin, London, ArrowGlacier, GrayGlacier, Paris, Shanghai, Cancun, Prague, Osaka, Bpo1, Bpo2,
}

/// The rules of one chain: id, fork schedule, blob schedule, gas rules. Built from a geth genesis.
#[derive(Clone, Debug)]
pub struct ChainSpec { pub chain_id: u64 /* more fields to come */ }

/// A parsed geth-format genesis.
pub struct Genesis { pub spec: ChainSpec, pub header: Header, pub alloc: StateDelta }

#[derive(Debug, thiserror::Error)]
pub enum GenesisError { #[error("genesis: {field}: {reason}")] Field { field: String, reason: String } }

impl Genesis {
    /// geth's JSON (config, alloc, header fields). `header.state_root` is computed.
    pub fn from_json(_json: &[u8]) -> Result<Genesis, GenesisError> { todo!() }
}

impl ChainSpec {
    pub fn fork(&self, _number: u64, _timestamp: u64) -> Fork { todo!() }
    /// EIP-1559 base fee of the child of `parent`; `None` before London.
    pub fn next_base_fee(&self, _parent: &Header, _timestamp: u64) -> Option<u64> { todo!() }
    pub fn next_excess_blob_gas(&self, _parent: &Header, _timestamp: u64) -> Option<u64> { todo!() }
    pub fn blob_base_fee(&self, _excess_blob_gas: u64, _timestamp: u64) -> u128 { todo!() }
    /// (target, max) blobs per block.
    pub fn blob_limits(&self, _timestamp: u64) -> (u64, u64) { todo!() }
}

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

/// Builds and executes the child of `parent` from `source`; transactions that cannot run are rejected back to it.
pub fn build_block(_spec: &ChainSpec, _parent: &Header, _parent_hash: B256, _attributes: &BlockAttributes, _state: &dyn StateRead,
    _roots: &mut dyn RootCalculator, _source: &mut dyn TxSource) -> Result<ExecutedBlock, BlockError> { todo!() }

/// Re-executes a complete block and checks every field of its header. `relaxed` accepts PoW headers without a seal
/// check and header fields that only a devnet may choose (base fee override, equal timestamps).
pub fn execute_block(_spec: &ChainSpec, _parent: &Header, _block: SealedBlock, _relaxed: bool, _state: &dyn StateRead,
    _roots: &mut dyn RootCalculator) -> Result<ExecutedBlock, BlockError> { todo!() }

/// The block context in which a call runs.
#[derive(Clone, Debug)]
pub struct BlockContext {
    pub number: u64, pub timestamp: u64, pub beneficiary: Address, pub gas_limit: u64, pub base_fee: Option<u64>,
    pub prevrandao: B256, pub difficulty: U256, pub excess_blob_gas: Option<u64>, pub parent_beacon_block_root: Option<B256>,
}
impl BlockContext { pub fn of(_header: &Header) -> BlockContext { todo!() } }

/// Bounds and overrides of a simulated call.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    pub state: Option<StateOverride>,
    pub block: Option<BlockOverrides>,
    pub gas_cap: u64,
    pub deadline: Option<Instant>,
}

#[derive(Clone, Debug)]
pub struct CallOutcome { pub success: bool, pub output: Bytes, pub gas_used: u64, pub logs: Vec<Log>, pub halt: Option<String> }

/// geth-shaped: code, message, data.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct CallError { pub code: i64, pub message: String, pub data: Option<Bytes> }

pub fn call(_spec: &ChainSpec, _context: &BlockContext, _state: &dyn StateRead, _request: &TransactionRequest, _options: &CallOptions) -> Result<CallOutcome, CallError> { todo!() }
/// Tight binary search, no padding.
pub fn estimate_gas(_spec: &ChainSpec, _context: &BlockContext, _state: &dyn StateRead, _request: &TransactionRequest, _options: &CallOptions) -> Result<u64, CallError> { todo!() }
/// The list, gas used with it, and the error of the last run if it failed.
pub fn create_access_list(_spec: &ChainSpec, _context: &BlockContext, _state: &dyn StateRead, _request: &TransactionRequest, _options: &CallOptions) -> Result<(AccessList, u64, Option<String>), CallError> { todo!() }
/// debug_traceTransaction/Block: traces of the transactions of `block` (`only`: just that index) on the state of its parent.
pub fn trace_block(_spec: &ChainSpec, _parent: &Header, _block: &SealedBlock, _state: &dyn StateRead, _only: Option<usize>, _options: &GethDebugTracingOptions, _deadline: Option<Instant>) -> Result<Vec<(B256, Result<GethTrace, String>)>, CallError> { todo!() }
pub fn trace_call(_spec: &ChainSpec, _context: &BlockContext, _state: &dyn StateRead, _request: &TransactionRequest, _trace: &GethDebugTracingCallOptions, _options: &CallOptions) -> Result<GethTrace, CallError> { todo!() }
