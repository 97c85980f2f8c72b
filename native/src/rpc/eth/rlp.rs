//! Consensus encodings of whole blocks and receipts: sizes for block objects, bytes for `debug_getRaw*`.

use alloy_consensus::Header;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::Log;
use alloy_rlp::Encodable;

use crate::primitives::{Receipt, ReceiptOutcome, SealedBlock, SignedTx};

/// Length in bytes of the RLP encoding of the whole block.
pub fn block_size(block: &SealedBlock) -> u64 {
    let list = |payload: usize| alloy_rlp::Header { list: true, payload_length: payload }.length_with_payload();
    let transactions = block.transactions.iter().map(|tx| envelope_length(tx)).sum();
    let mut payload = block.header.length() + list(transactions) + list(block.ommers.iter().map(Header::length).sum());
    if let Some(withdrawals) = &block.withdrawals {
        payload += list(withdrawals.iter().map(Withdrawal::length).sum());
    }
    list(payload) as u64
}

/// Length of a transaction as an item of a block's list: typed ones are wrapped as byte strings.
fn envelope_length(tx: &SignedTx) -> usize {
    if tx.tx.is_legacy() {
        return tx.raw.len();
    }
    alloy_rlp::Header { list: false, payload_length: tx.raw.len() }.length_with_payload()
}

/// The RLP encoding of the whole block.
pub fn block_rlp(block: &SealedBlock) -> Vec<u8> {
    let list = |payload: usize| alloy_rlp::Header { list: true, payload_length: payload };
    let transactions = list(block.transactions.iter().map(|tx| envelope_length(tx)).sum());
    let ommers = list(block.ommers.iter().map(Header::length).sum());
    let withdrawals = block.withdrawals.as_ref().map(|all| list(all.iter().map(Withdrawal::length).sum()));
    let payload = block.header.length()
        + transactions.length_with_payload()
        + ommers.length_with_payload()
        + withdrawals.as_ref().map_or(0, alloy_rlp::Header::length_with_payload);
    let mut out = Vec::with_capacity(payload + 9);
    list(payload).encode(&mut out);
    block.header.encode(&mut out);
    transactions.encode(&mut out);
    for tx in &block.transactions {
        if !tx.tx.is_legacy() {
            alloy_rlp::Header { list: false, payload_length: tx.raw.len() }.encode(&mut out);
        }
        out.extend_from_slice(&tx.raw);
    }
    ommers.encode(&mut out);
    for ommer in &block.ommers {
        ommer.encode(&mut out);
    }
    if let (Some(head), Some(all)) = (withdrawals, &block.withdrawals) {
        head.encode(&mut out);
        for withdrawal in all {
            withdrawal.encode(&mut out);
        }
    }
    out
}

/// The consensus encoding of a receipt: EIP-2718 type byte where typed, then RLP.
pub fn receipt_rlp(receipt: &Receipt) -> Vec<u8> {
    let logs_payload: usize = receipt.logs.iter().map(Log::length).sum();
    let logs = alloy_rlp::Header { list: true, payload_length: logs_payload };
    let outcome_length = match &receipt.outcome {
        ReceiptOutcome::Status(success) => success.length(),
        ReceiptOutcome::PostState(root) => root.length(),
    };
    let payload =
        outcome_length + receipt.cumulative_gas_used.length() + receipt.bloom.length() + logs.length_with_payload();
    let mut out = Vec::with_capacity(payload + 10);
    if receipt.tx_type != 0 {
        out.push(receipt.tx_type);
    }
    alloy_rlp::Header { list: true, payload_length: payload }.encode(&mut out);
    match &receipt.outcome {
        ReceiptOutcome::Status(success) => success.encode(&mut out),
        ReceiptOutcome::PostState(root) => root.encode(&mut out),
    }
    receipt.cumulative_gas_used.encode(&mut out);
    receipt.bloom.encode(&mut out);
    logs.encode(&mut out);
    for log in &receipt.logs {
        log.encode(&mut out);
    }
    out
}
