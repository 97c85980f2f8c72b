//! The `testing` namespace: builds a block without keeping it.

use std::collections::VecDeque;
use std::sync::Arc;

use alloy_consensus::transaction::{SignerRecoverable, Transaction as _};
use alloy_eips::eip2718::Decodable2718;
use alloy_eips::eip4895::Withdrawal;
use alloy_eips::eip7594::BlobTransactionSidecarVariant;
use alloy_primitives::{Address, Bytes, B256, U256};

use super::encode;
use crate::execution::{build_block, BlockAttributes, BlockError};
use crate::primitives::{ExecutedBlock, SignedTx, SkipReason, Transaction, TxSource};
use crate::rpc::params::invalid;
use crate::rpc::{Json, Params, RpcError, Scope};

/// `PayloadAttributesV3` of the engine API.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attributes {
    #[serde(with = "alloy_serde::quantity")]
    timestamp: u64,
    prev_randao: B256,
    suggested_fee_recipient: Address,
    withdrawals: Option<Vec<Withdrawal>>,
    parent_beacon_block_root: Option<B256>,
}

/// The given transactions in the given order; remembers why the first one was left out.
struct Listed {
    waiting: VecDeque<Arc<SignedTx>>,
    refused: Option<String>,
}

impl TxSource for Listed {
    fn next(&mut self) -> Option<Arc<SignedTx>> {
        if self.refused.is_some() {
            return None;
        }
        self.waiting.pop_front()
    }

    fn reject(&mut self, _tx: &SignedTx, reason: SkipReason) {
        self.refused.get_or_insert(match reason {
            SkipReason::NoRoom => "gas limit reached".to_owned(),
            SkipReason::NotNow(why) | SkipReason::Invalid(why) => why,
        });
    }
}

fn decode(raw: &Bytes) -> Result<Arc<SignedTx>, String> {
    let mut rest = raw.as_ref();
    let tx = Transaction::decode_2718(&mut rest).map_err(|error| error.to_string())?;
    if !rest.is_empty() {
        return Err("trailing bytes after the transaction".to_owned());
    }
    let sender = tx.recover_signer().map_err(|_| "invalid transaction v, r, s values".to_owned())?;
    let hash = *tx.tx_hash();
    Ok(Arc::new(SignedTx { tx, sender, hash, raw: raw.clone(), impersonated: false }))
}

/// The gas limit of the next block: towards `target`, by less than 1/1024 of the parent's.
fn next_gas_limit(parent: u64, target: u64) -> u64 {
    let step = (parent / 1024).saturating_sub(1);
    target.clamp(parent.saturating_sub(step), parent.saturating_add(step))
}

/// `testing_buildBlockV1(parentHash, attributes, transactions | null, extraData)`: an execution payload envelope.
pub fn build_block_v1(scope: &Scope<'_>, params: Params<'_>, out: &mut Json) -> Result<(), RpcError> {
    params.at_most(4)?;
    let parent_hash = params.hash(0)?;
    let attributes: Attributes = params.required(1)?;
    let raws: Option<Vec<Bytes>> = params.optional(2)?;
    let extra_data = if params.raw(3).is_some() { params.data(3)? } else { Bytes::new() };
    let view = scope.view()?;
    let head = view.head();
    if head.hash != parent_hash {
        return Err(RpcError::server("parentHash is not current head"));
    }
    let spec = scope.engine().spec();
    let attributes = BlockAttributes {
        timestamp: attributes.timestamp,
        beneficiary: attributes.suggested_fee_recipient,
        prevrandao: attributes.prev_randao,
        gas_limit: next_gas_limit(head.header.gas_limit, scope.engine().controls().gas_limit),
        base_fee: None,
        withdrawals: attributes.withdrawals.unwrap_or_default(),
        parent_beacon_block_root: attributes.parent_beacon_block_root.unwrap_or_default(),
        extra_data,
        max_transactions: None,
    };
    let mut roots = view.root_calculator();
    let mut build = |source: &mut dyn TxSource| {
        build_block(&spec, &head.header, head.hash, &attributes, &view.latest(), &mut *roots, source).map_err(|error| {
            match error {
                BlockError::Read(read) => RpcError::from(read),
                other => RpcError::server(other.to_string()),
            }
        })
    };
    let executed = match raws {
        Some(raws) => {
            let waiting = raws.iter().map(decode).collect::<Result<_, _>>().map_err(|why| invalid(2, why))?;
            let mut listed = Listed { waiting, refused: None };
            let executed = build(&mut listed)?;
            if let Some(why) = listed.refused {
                return Err(RpcError::server(why));
            }
            executed
        }
        None => {
            let context = scope.engine().pool_context();
            build(&mut *scope.engine().pool().best(context.base_fee, context.blob_base_fee))?
        }
    };
    let sidecars = executed
        .block
        .transactions
        .iter()
        .filter_map(|tx| scope.engine().pool().get(&tx.hash)?.sidecar)
        .collect::<Vec<_>>();
    write_envelope(&executed, &sidecars, out);
    Ok(())
}

/// What the beneficiary earns: the tips of all transactions.
fn block_value(executed: &ExecutedBlock) -> U256 {
    let base_fee = executed.block.header.base_fee_per_gas.unwrap_or(0);
    executed
        .block
        .transactions
        .iter()
        .zip(&executed.receipts)
        .map(|(tx, receipt)| {
            U256::from(tx.tx.effective_tip_per_gas(base_fee).unwrap_or(0)) * U256::from(receipt.gas_used)
        })
        .fold(U256::ZERO, U256::saturating_add)
}

fn write_envelope(executed: &ExecutedBlock, sidecars: &[Arc<BlobTransactionSidecarVariant>], out: &mut Json) {
    let (block, header) = (&executed.block, &executed.block.header);
    let mut envelope = out.object();
    let mut payload = envelope.field("executionPayload").object();
    payload.field("parentHash").hex(header.parent_hash);
    payload.field("feeRecipient").hex(header.beneficiary);
    payload.field("stateRoot").hex(header.state_root);
    payload.field("receiptsRoot").hex(header.receipts_root);
    payload.field("logsBloom").hex(header.logs_bloom);
    payload.field("prevRandao").hex(header.mix_hash);
    payload.field("blockNumber").quantity(header.number);
    payload.field("gasLimit").quantity(header.gas_limit);
    payload.field("gasUsed").quantity(header.gas_used);
    payload.field("timestamp").quantity(header.timestamp);
    payload.field("extraData").hex(&header.extra_data);
    payload.field("baseFeePerGas").quantity(header.base_fee_per_gas.unwrap_or(0));
    payload.field("blockHash").hex(block.hash);
    payload.field("transactions").array(&block.transactions, |out, tx| out.hex(&tx.raw));
    if let Some(list) = &block.withdrawals {
        payload.field("withdrawals").array(list, encode::withdrawal);
    }
    if let Some(gas) = header.blob_gas_used {
        payload.field("blobGasUsed").quantity(gas);
    }
    if let Some(gas) = header.excess_blob_gas {
        payload.field("excessBlobGas").quantity(gas);
    }
    payload.end();
    envelope.field("blockValue").quantity_u256(&block_value(executed));
    write_blobs(sidecars, envelope.field("blobsBundle"));
    envelope.field("executionRequests").array(&executed.requests, |out, request| out.hex(request));
    envelope.field("shouldOverrideBuilder").bool(false);
    envelope.end();
}

fn write_blobs(sidecars: &[Arc<BlobTransactionSidecarVariant>], out: &mut Json) {
    use BlobTransactionSidecarVariant as Variant;
    let mut bundle = out.object();
    let commitments = sidecars.iter().flat_map(|sidecar| sidecar.commitments());
    bundle.field("commitments").array(commitments, |out, bytes| out.hex(bytes));
    let proofs = sidecars.iter().flat_map(|sidecar| match &**sidecar {
        Variant::Eip4844(sidecar) => &sidecar.proofs,
        Variant::Eip7594(sidecar) => &sidecar.cell_proofs,
    });
    bundle.field("proofs").array(proofs, |out, bytes| out.hex(bytes));
    let blobs = sidecars.iter().flat_map(|sidecar| sidecar.blobs());
    bundle.field("blobs").array(blobs, |out, bytes| out.hex(bytes));
    bundle.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gas_limit_moves_towards_its_target_by_less_than_a_1024th() {
        assert_eq!(next_gas_limit(200_000_000, 30_000_000), 199_804_689);
        assert_eq!(next_gas_limit(30_000_000, 30_000_000), 30_000_000);
        assert_eq!(next_gas_limit(30_000_000, 60_000_000), 30_029_295);
        assert_eq!(next_gas_limit(30_000_000, 30_000_100), 30_000_100);
    }

    #[test]
    fn a_raw_transaction_with_trailing_bytes_is_refused() {
        assert!(decode(&Bytes::from_static(&[0xc0])).is_err());
        assert!(decode(&Bytes::new()).is_err());
    }
}
