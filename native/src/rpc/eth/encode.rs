//! Blocks, transactions, receipts and logs as JSON-RPC objects, field by field as geth writes them.
//!
//! Pure functions over the chain's own types; subscriptions and filters reuse them.

use alloy_consensus::transaction::Transaction as _;
use alloy_consensus::{Header, Typed2718};
use alloy_eips::eip2930::AccessList;
use alloy_eips::eip4895::Withdrawal;
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{Address, Log, B256};

use super::rlp::block_size;
use crate::primitives::{Receipt, ReceiptOutcome, SealedBlock, SignedTx, Transaction};
use crate::rpc::json::{Json, Object};

/// Where a mined transaction stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub block_hash: &'a B256,
    pub number: u64,
    pub timestamp: u64,
    pub index: u64,
    pub base_fee: Option<u64>,
}

/// The members of a header. `pending` hides what a block that is not sealed has not yet: hash, nonce and miner.
fn header_members(object: &mut Object<'_>, header: &Header, hash: &B256, pending: bool) {
    object.field("number").quantity(header.number);
    if pending {
        object.field("hash").null();
        object.field("nonce").null();
        object.field("miner").null();
    } else {
        object.field("hash").hex(hash);
        object.field("nonce").hex(header.nonce.as_slice());
        object.field("miner").hex(header.beneficiary);
    }
    object.field("parentHash").hex(header.parent_hash);
    object.field("mixHash").hex(header.mix_hash);
    object.field("sha3Uncles").hex(header.ommers_hash);
    object.field("logsBloom").hex(header.logs_bloom.as_slice());
    object.field("stateRoot").hex(header.state_root);
    object.field("difficulty").quantity_u256(&header.difficulty);
    object.field("extraData").hex(&header.extra_data);
    object.field("gasLimit").quantity(header.gas_limit);
    object.field("gasUsed").quantity(header.gas_used);
    object.field("timestamp").quantity(header.timestamp);
    object.field("transactionsRoot").hex(header.transactions_root);
    object.field("receiptsRoot").hex(header.receipts_root);
    if let Some(base_fee) = header.base_fee_per_gas {
        object.field("baseFeePerGas").quantity(base_fee);
    }
    if let Some(root) = &header.withdrawals_root {
        object.field("withdrawalsRoot").hex(root);
    }
    if let Some(gas) = header.blob_gas_used {
        object.field("blobGasUsed").quantity(gas);
    }
    if let Some(gas) = header.excess_blob_gas {
        object.field("excessBlobGas").quantity(gas);
    }
    if let Some(root) = &header.parent_beacon_block_root {
        object.field("parentBeaconBlockRoot").hex(root);
    }
    if let Some(hash) = &header.requests_hash {
        object.field("requestsHash").hex(hash);
    }
}

/// A header object: `eth_getHeaderBy*` and `newHeads`.
pub fn header(out: &mut Json, header: &Header, hash: &B256, pending: bool) {
    let mut object = out.object();
    header_members(&mut object, header, hash, pending);
    object.end();
}

/// How a block object shows its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transactions {
    Hashes,
    Full,
}

/// A block object: `eth_getBlockBy*`.
pub fn block(out: &mut Json, block: &SealedBlock, shown: Transactions, pending: bool) {
    let mut object = out.object();
    block_members(&mut object, block, shown, pending);
    object.end();
}

/// The members of a block object, for answers that add their own (`eth_simulateV1`).
pub fn block_members(object: &mut Object<'_>, block: &SealedBlock, shown: Transactions, pending: bool) {
    header_members(object, &block.header, &block.hash, pending);
    object.field("size").quantity(block_size(block));
    let transactions = object.field("transactions");
    match shown {
        Transactions::Hashes => transactions.array(&block.transactions, |out, tx| out.hex(tx.hash.as_slice())),
        Transactions::Full => transactions.array(block.transactions.iter().enumerate(), |out, (index, tx)| {
            let place = place_in(block, index as u64);
            transaction(out, tx, (!pending).then_some(&place));
        }),
    }
    object.field("uncles").array(&block.ommers, |out, ommer| out.hex(ommer.hash_slow().as_slice()));
    if let Some(list) = &block.withdrawals {
        object.field("withdrawals").array(list, withdrawal);
    }
}

/// A header that stands as an uncle: a block object without transactions.
pub fn ommer(out: &mut Json, ommer: &Header) {
    let hash = ommer.hash_slow();
    let mut object = out.object();
    header_members(&mut object, ommer, &hash, false);
    let empty = SealedBlock { header: ommer.clone(), hash, transactions: vec![], ommers: vec![], withdrawals: None };
    object.field("size").quantity(block_size(&empty));
    object.field("uncles").raw("[]");
    object.end();
}

/// The place of transaction `index` of `block`.
pub fn place_in(block: &SealedBlock, index: u64) -> Place<'_> {
    Place {
        block_hash: &block.hash,
        number: block.header.number,
        timestamp: block.header.timestamp,
        index,
        base_fee: block.header.base_fee_per_gas,
    }
}

/// A withdrawal object; the amount is in gwei.
pub fn withdrawal(out: &mut Json, withdrawal: &Withdrawal) {
    let mut object = out.object();
    object.field("index").quantity(withdrawal.index);
    object.field("validatorIndex").quantity(withdrawal.validator_index);
    object.field("address").hex(withdrawal.address);
    object.field("amount").quantity(withdrawal.amount);
    object.end();
}

/// A transaction object; `place` is `None` for one that waits in the pool.
pub fn transaction(out: &mut Json, tx: &SignedTx, place: Option<&Place<'_>>) {
    let mut object = out.object();
    match place {
        Some(place) => {
            object.field("blockHash").hex(place.block_hash);
            object.field("blockNumber").quantity(place.number);
            object.field("blockTimestamp").quantity(place.timestamp);
            object.field("transactionIndex").quantity(place.index);
        }
        None => {
            object.field("blockHash").null();
            object.field("blockNumber").null();
            object.field("blockTimestamp").null();
            object.field("transactionIndex").null();
        }
    }
    object.field("hash").hex(tx.hash);
    object.field("from").hex(tx.sender);
    object.field("gasPrice").quantity_u128(shown_gas_price(&tx.tx, place.and_then(|place| place.base_fee)));
    transaction_members(&mut object, &tx.tx);
    object.end();
}

/// What `gasPrice` shows: paid per gas once mined, the fee cap before.
fn shown_gas_price(tx: &Transaction, base_fee: Option<u64>) -> u128 {
    match base_fee {
        Some(base_fee) => tx.effective_gas_price(Some(base_fee)),
        None => tx.max_fee_per_gas(),
    }
}

/// The members that follow from the signed transaction alone.
pub fn transaction_members(object: &mut Object<'_>, tx: &Transaction) {
    object.field("type").quantity(u64::from(tx.ty()));
    object.field("nonce").quantity(tx.nonce());
    object.field("gas").quantity(tx.gas_limit());
    optional_address(object.field("to"), tx.to().as_ref());
    object.field("value").quantity_u256(&tx.value());
    object.field("input").hex(tx.input());
    let signature = tx.signature();
    let parity = u64::from(signature.v());
    if tx.is_legacy() {
        let v = match tx.chain_id() {
            _ if signature.r().is_zero() && signature.s().is_zero() => 0,
            Some(id) => u128::from(id) * 2 + 35 + u128::from(parity),
            None => u128::from(27 + parity),
        };
        object.field("v").quantity_u128(v);
        if let Some(id) = tx.chain_id() {
            object.field("chainId").quantity(id);
        }
    } else {
        if !tx.is_eip2930() {
            object.field("maxFeePerGas").quantity_u128(tx.max_fee_per_gas());
            object.field("maxPriorityFeePerGas").quantity_u128(tx.max_priority_fee_per_gas().unwrap_or_default());
        }
        if let Some(fee) = tx.max_fee_per_blob_gas() {
            object.field("maxFeePerBlobGas").quantity_u128(fee);
        }
        if let Some(hashes) = tx.blob_versioned_hashes() {
            object.field("blobVersionedHashes").array(hashes, |out, hash| out.hex(hash.as_slice()));
        }
        if let Some(list) = tx.access_list() {
            access_list(object.field("accessList"), list);
        }
        if let Some(list) = tx.authorization_list() {
            object.field("authorizationList").array(list, authorization);
        }
        object.field("chainId").quantity(tx.chain_id().unwrap_or_default());
        object.field("v").quantity(parity);
        object.field("yParity").quantity(parity);
    }
    object.field("r").quantity_u256(&signature.r());
    object.field("s").quantity_u256(&signature.s());
}

/// An EIP-2930 access list.
pub fn access_list(out: &mut Json, list: &AccessList) {
    out.array(&list.0, |out, item| {
        let mut object = out.object();
        object.field("address").hex(item.address);
        object.field("storageKeys").array(&item.storage_keys, |out, key| out.hex(key.as_slice()));
        object.end();
    });
}

fn authorization(out: &mut Json, signed: &SignedAuthorization) {
    let mut object = out.object();
    object.field("chainId").quantity_u256(&signed.chain_id);
    object.field("address").hex(signed.address);
    object.field("nonce").quantity(signed.nonce);
    object.field("yParity").quantity(u64::from(signed.y_parity()));
    object.field("r").quantity_u256(&signed.r());
    object.field("s").quantity_u256(&signed.s());
    object.end();
}

/// Writes logs of one block: the members that they share are formatted once.
pub struct LogEncoder {
    shared: Json,
}

impl LogEncoder {
    /// `removed` marks logs of a block that left the chain.
    pub fn new(hash: &B256, number: u64, timestamp: u64, removed: bool) -> LogEncoder {
        let mut shared = Json::with_capacity(192);
        shared.raw(",\"blockNumber\":");
        shared.quantity(number);
        shared.raw(",\"blockHash\":");
        shared.hex(hash.as_slice());
        shared.raw(",\"blockTimestamp\":");
        shared.quantity(timestamp);
        shared.raw(if removed { ",\"removed\":true}" } else { ",\"removed\":false}" });
        LogEncoder { shared }
    }

    pub fn of(block: &SealedBlock) -> LogEncoder {
        LogEncoder::new(&block.hash, block.header.number, block.header.timestamp, false)
    }

    /// Appends one log object; `log_index` counts within the block.
    pub fn write(&self, out: &mut Json, log: &Log, tx_hash: &B256, tx_index: u64, log_index: u64) {
        out.reserve(self.shared.len() + 360 + log.data.data.len() * 2);
        out.raw("{\"address\":");
        out.hex(log.address.as_slice());
        out.raw(",\"topics\":");
        out.array(log.data.topics(), |out, topic| out.hex(topic.as_slice()));
        out.raw(",\"data\":");
        out.hex(&log.data.data);
        out.raw(",\"transactionHash\":");
        out.hex(tx_hash.as_slice());
        out.raw(",\"transactionIndex\":");
        out.quantity(tx_index);
        out.raw(",\"logIndex\":");
        out.quantity(log_index);
        out.raw(self.shared.as_bytes());
    }
}

/// A receipt object. `first_log` is the index of its first log within the block, `blob_gas_price` the price of blob
/// gas in its block (shown for blob transactions).
pub fn receipt(
    out: &mut Json,
    receipt: &Receipt,
    tx: &SignedTx,
    place: &Place<'_>,
    first_log: u64,
    blob_gas_price: u128,
    logs: &LogEncoder,
) {
    out.reserve(1200 + receipt.logs.len() * 700);
    let mut object = out.object();
    object.field("transactionHash").hex(tx.hash);
    object.field("transactionIndex").quantity(place.index);
    object.field("blockHash").hex(place.block_hash);
    object.field("blockNumber").quantity(place.number);
    object.field("from").hex(tx.sender);
    optional_address(object.field("to"), tx.tx.to().as_ref());
    optional_address(object.field("contractAddress"), receipt.contract_address.as_ref());
    object.field("type").quantity(u64::from(receipt.tx_type));
    object.field("gasUsed").quantity(receipt.gas_used);
    object.field("cumulativeGasUsed").quantity(receipt.cumulative_gas_used);
    object.field("effectiveGasPrice").quantity_u128(receipt.effective_gas_price);
    match &receipt.outcome {
        ReceiptOutcome::Status(success) => object.field("status").quantity(u64::from(*success)),
        ReceiptOutcome::PostState(root) => object.field("root").hex(root),
    }
    if let Some(gas) = tx.tx.blob_gas_used() {
        object.field("blobGasUsed").quantity(gas);
        object.field("blobGasPrice").quantity_u128(blob_gas_price);
    }
    object.field("logs").array(receipt.logs.iter().enumerate(), |out, (offset, log)| {
        logs.write(out, log, &tx.hash, place.index, first_log + offset as u64);
    });
    object.field("logsBloom").hex(receipt.bloom.as_slice());
    object.end();
}

fn optional_address(out: &mut Json, address: Option<&Address>) {
    match address {
        Some(address) => out.hex(address),
        None => out.null(),
    }
}
