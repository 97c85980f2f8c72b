//! The `eth`, `debug` and `testing` methods that read, call, simulate and trace.
//!
//! Every method decodes its arguments, resolves its block against the scope's one view, and writes its answer straight
//! into the response. [`encode`] holds the objects that several methods and the subscriptions share; [`logs`] what the
//! filters share.

use super::dispatch::{method, Class, Method};

mod account;
mod block;
mod block_id;
mod cache;
pub mod call;
mod chain;
mod config;
mod debug;
pub mod encode;
mod fees;
pub mod logs;
mod rlp;
mod simulate;
mod testing;
#[cfg(test)]
mod tests;
pub mod transaction;

pub use block_id::BlockId;
pub use cache::Caches;

/// Every method of this room, for the dispatcher's table.
pub const METHODS: &[Method] = &[
    method("eth_chainId", Class::Inline, chain::chain_id),
    method("eth_blockNumber", Class::Inline, chain::block_number),
    method("eth_syncing", Class::Inline, chain::syncing),
    method("eth_coinbase", Class::Inline, chain::coinbase),
    method("eth_config", Class::Inline, config::config),
    method("eth_capabilities", Class::Inline, chain::capabilities),
    method("eth_gasPrice", Class::Adaptive, fees::gas_price),
    method("eth_maxPriorityFeePerGas", Class::Adaptive, fees::max_priority_fee_per_gas),
    method("eth_baseFee", Class::Inline, fees::base_fee),
    method("eth_blobBaseFee", Class::Inline, fees::blob_base_fee),
    method("eth_feeHistory", Class::Heavy, fees::fee_history),
    method("eth_getBalance", Class::Inline, account::get_balance),
    method("eth_getTransactionCount", Class::Inline, account::get_transaction_count),
    method("eth_getCode", Class::Inline, account::get_code),
    method("eth_getStorageAt", Class::Inline, account::get_storage_at),
    method("eth_getStorageValues", Class::Heavy, account::get_storage_values),
    method("eth_getProof", Class::Heavy, account::get_proof),
    method("eth_getAccount", Class::Heavy, account::get_account),
    method("eth_getAccountInfo", Class::Inline, account::get_account_info),
    method("eth_getBlockByNumber", Class::Inline, block::get_block_by_number),
    method("eth_getBlockByHash", Class::Inline, block::get_block_by_hash),
    method("eth_getHeaderByNumber", Class::Inline, block::get_header_by_number),
    method("eth_getHeaderByHash", Class::Inline, block::get_header_by_hash),
    method("eth_getBlockTransactionCountByNumber", Class::Inline, block::get_transaction_count_by_number),
    method("eth_getBlockTransactionCountByHash", Class::Inline, block::get_transaction_count_by_hash),
    method("eth_getUncleCountByBlockNumber", Class::Inline, block::get_uncle_count_by_number),
    method("eth_getUncleCountByBlockHash", Class::Inline, block::get_uncle_count_by_hash),
    method("eth_getUncleByBlockNumberAndIndex", Class::Inline, block::get_uncle_by_number),
    method("eth_getUncleByBlockHashAndIndex", Class::Inline, block::get_uncle_by_hash),
    method("eth_getBlockReceipts", Class::Inline, block::get_block_receipts),
    method("eth_getTransactionByHash", Class::Inline, transaction::get_transaction_by_hash),
    method("eth_getTransactionByBlockNumberAndIndex", Class::Inline, transaction::get_by_number_and_index),
    method("eth_getTransactionByBlockHashAndIndex", Class::Inline, transaction::get_by_hash_and_index),
    method("eth_getRawTransactionByHash", Class::Inline, transaction::get_raw_by_hash),
    method("eth_getRawTransactionByBlockNumberAndIndex", Class::Inline, transaction::get_raw_by_number_and_index),
    method("eth_getRawTransactionByBlockHashAndIndex", Class::Inline, transaction::get_raw_by_hash_and_index),
    method("eth_getTransactionReceipt", Class::Inline, transaction::get_receipt),
    method("eth_getLogs", Class::Adaptive, logs::get_logs),
    method("eth_call", Class::Adaptive, call::call),
    method("eth_estimateGas", Class::Adaptive, call::estimate_gas),
    method("eth_createAccessList", Class::Heavy, call::create_access_list),
    method("eth_fillTransaction", Class::Heavy, call::fill_transaction),
    method("eth_simulateV1", Class::Heavy, simulate::simulate_v1),
    method("debug_getRawBlock", Class::Heavy, debug::get_raw_block),
    method("debug_getRawHeader", Class::Heavy, debug::get_raw_header),
    method("debug_getRawReceipts", Class::Heavy, debug::get_raw_receipts),
    method("debug_getRawTransaction", Class::Inline, transaction::get_raw_by_hash),
    method("debug_traceTransaction", Class::Heavy, debug::trace_transaction),
    method("debug_traceBlockByNumber", Class::Heavy, debug::trace_block_by_number),
    method("debug_traceBlockByHash", Class::Heavy, debug::trace_block_by_hash),
    method("debug_traceCall", Class::Heavy, debug::trace_call),
    method("testing_buildBlockV1", Class::Heavy, testing::build_block_v1),
];
