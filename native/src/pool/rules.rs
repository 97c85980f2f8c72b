//! Rules that a transaction must meet whatever the state: fork gating, gas, fees, sizes, sidecars.
//!
//! The checks run in geth's order and speak with geth's words, because clients match on both.

use alloy_consensus::Transaction as _;
use alloy_eips::eip7594::{BlobTransactionSidecarVariant, CELLS_PER_EXT_BLOB};
use alloy_primitives::{B256, U256};

use super::{PoolContext, PoolError};
use crate::execution::evm::{intrinsic_gas, IntrinsicGas, Payload};
use crate::execution::Fork;
use crate::primitives::Transaction;

/// EIP-7825 (Osaka): no transaction may ask for more gas.
const MAX_TX_GAS: u64 = 1 << 24;
/// EIP-4844: the blob base fee never falls below this.
const MIN_BLOB_FEE: u128 = 1;
const BLOB_GAS: u64 = 131_072;

/// Without tables the trusted setup is there sooner and 100 MB smaller; checking proofs does not use them.
const KZG_PRECOMPUTE: u64 = 0;

/// geth's bound for a transaction without blobs, bytes of its encoding; a chain with larger code gets more.
const MAX_TX_SIZE: usize = 128 * 1024;
/// Bytes that one blob adds to the network form: blob, commitment, cell proofs and RLP headers.
const MAX_BLOB_SIZE: usize = 131_072 + 48 + 49 * CELLS_PER_EXT_BLOB + 64;

/// The largest encoding that is looked at, by the type byte of the raw transaction.
pub(super) fn max_size(is_blob: bool, ctx: &PoolContext) -> usize {
    let bare = MAX_TX_SIZE.max(ctx.max_initcode_size.saturating_add(MAX_TX_SIZE / 2));
    if !is_blob {
        return bare;
    }
    let blobs = usize::try_from(ctx.max_blobs_per_tx).unwrap_or(usize::MAX);
    blobs.saturating_mul(MAX_BLOB_SIZE).saturating_add(bare)
}

pub(super) fn oversized(size: usize, limit: usize) -> PoolError {
    PoolError::Invalid(format!("oversized data: transaction size {size}, limit {limit}"))
}

/// Everything but the signature and the sidecar.
pub(super) fn check_static(tx: &Transaction, min_tip: u128, ctx: &PoolContext) -> Result<(), PoolError> {
    check_type(tx, ctx)?;
    let blobs = tx.blob_versioned_hashes().map_or(0, <[B256]>::len) as u64;
    let max_blobs = ctx.max_blobs_per_tx.min(ctx.max_blobs_per_block);
    if blobs > max_blobs {
        return invalid(format!("transaction blob limit exceeded: blob count {blobs} exceeds max {max_blobs}"));
    }
    if ctx.fork >= Fork::Shanghai && tx.is_create() && tx.input().len() > ctx.max_initcode_size {
        let (size, limit) = (tx.input().len(), ctx.max_initcode_size);
        return invalid(format!("max initcode size exceeded: code size {size}, limit {limit}"));
    }
    let gas = tx.gas_limit();
    if ctx.fork >= Fork::Osaka && gas > MAX_TX_GAS {
        return invalid(format!("transaction gas limit too high (cap: {MAX_TX_GAS}, tx: {gas})"));
    }
    if gas > ctx.block_gas_limit {
        return invalid("exceeds block gas limit".into());
    }
    let (fee_cap, tip_cap) = fees(tx);
    if tip_cap > fee_cap {
        return invalid(format!(
            "max priority fee per gas higher than max fee per gas: maxPriorityFeePerGas: {tip_cap}, maxFeePerGas: {fee_cap}"
        ));
    }
    if let Some(chain_id) = tx.chain_id() {
        if chain_id != ctx.chain_id {
            return invalid(format!(
                "invalid sender: invalid chain id for signer: have {chain_id} want {}",
                ctx.chain_id
            ));
        }
        if ctx.fork < Fork::SpuriousDragon {
            return invalid("invalid sender: replay-protected transaction before EIP-155 (Spurious Dragon)".into());
        }
    }
    if tx.nonce() == u64::MAX {
        return invalid("nonce has max value".into());
    }
    let needed = gas_of(tx, ctx.fork);
    if gas < needed.initial {
        return invalid(format!("intrinsic gas too low: gas {gas}, minimum needed {}", needed.initial));
    }
    if ctx.fork >= Fork::Prague && gas < needed.floor {
        return invalid(format!(
            "insufficient gas for floor data gas cost: gas {gas}, minimum needed {}",
            needed.floor
        ));
    }
    if tip_cap < min_tip {
        return invalid(format!(
            "transaction gas price below minimum: gas tip cap {tip_cap}, minimum needed {min_tip}"
        ));
    }
    if tx.is_eip4844() {
        return check_blob_fields(tx);
    }
    if tx.is_eip7702() && tx.authorization_list().is_none_or(<[_]>::is_empty) {
        return invalid("set code tx must have at least one authorization tuple".into());
    }
    Ok(())
}

fn check_type(tx: &Transaction, ctx: &PoolContext) -> Result<(), PoolError> {
    let (since, name) = match tx {
        Transaction::Legacy(_) => return Ok(()),
        Transaction::Eip2930(_) => (Fork::Berlin, "Berlin"),
        Transaction::Eip1559(_) => (Fork::London, "London"),
        Transaction::Eip4844(_) => (Fork::Cancun, "Cancun"),
        Transaction::Eip7702(_) => (Fork::Prague, "Prague"),
    };
    if ctx.fork >= since {
        return Ok(());
    }
    let kind = tx.tx_type() as u8;
    invalid(format!("transaction type not supported: type {kind} rejected, pool not yet in {name}"))
}

fn check_blob_fields(tx: &Transaction) -> Result<(), PoolError> {
    let fee = tx.max_fee_per_blob_gas().unwrap_or_default();
    if fee < MIN_BLOB_FEE {
        return invalid(format!(
            "transaction gas price below minimum: blob fee cap {fee}, minimum needed {MIN_BLOB_FEE}"
        ));
    }
    let hashes = tx.blob_versioned_hashes().unwrap_or_default();
    if hashes.is_empty() {
        return invalid("blobless blob transaction".into());
    }
    match hashes.iter().position(|hash| hash[0] != alloy_eips::eip4844::VERSIONED_HASH_VERSION_KZG) {
        Some(index) => invalid(format!("blob {index} has invalid hash version")),
        None => Ok(()),
    }
}

/// Checks a sidecar against the hashes of its transaction, KZG proofs included, and brings it into the form of the
/// fork: from Osaka on an EIP-4844 sidecar gets cell proofs, as geth does for transactions that come over RPC.
pub(super) fn check_sidecar(
    sidecar: BlobTransactionSidecarVariant,
    hashes: &[B256],
    fork: Fork,
) -> Result<BlobTransactionSidecarVariant, PoolError> {
    let osaka = fork >= Fork::Osaka;
    if sidecar.is_eip7594() && !osaka {
        return invalid("unexpected sidecar version, want: 0, got: 1".into());
    }
    let (blobs, commitments) = (sidecar.blobs().len(), sidecar.commitments().len());
    if blobs != hashes.len() {
        return invalid(format!("invalid number of {blobs} blobs compared to {} blob hashes", hashes.len()));
    }
    if commitments != hashes.len() {
        return invalid(format!(
            "invalid number of {commitments} blob commitments compared to {} blob hashes",
            hashes.len()
        ));
    }
    let (proofs, wanted) = match &sidecar {
        BlobTransactionSidecarVariant::Eip4844(sidecar) => (sidecar.proofs.len(), blobs),
        BlobTransactionSidecarVariant::Eip7594(sidecar) => (sidecar.cell_proofs.len(), blobs * CELLS_PER_EXT_BLOB),
    };
    if proofs != wanted {
        return invalid(format!("invalid number of {proofs} blob proofs expected {wanted}"));
    }
    for (index, (computed, hash)) in sidecar.versioned_hashes().zip(hashes).enumerate() {
        if computed != *hash {
            return invalid(format!("blob {index}: computed hash {computed} mismatches transaction one {hash}"));
        }
    }
    let settings = c_kzg::ethereum_kzg_settings(KZG_PRECOMPUTE);
    sidecar.validate(hashes, settings).map_err(|error| PoolError::Invalid(format!("invalid blob proof: {error}")))?;
    if osaka && sidecar.is_eip4844() {
        return sidecar
            .try_convert_into_eip7594_with_settings(settings)
            .map_err(|error| PoolError::Invalid(format!("blob sidecar conversion failed: {error}")));
    }
    Ok(sidecar)
}

/// (max fee per gas, max priority fee per gas), wei; both are the gas price before EIP-1559.
pub(super) fn fees(tx: &Transaction) -> (u128, u128) {
    (tx.max_fee_per_gas(), tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas()))
}

/// The most that the transaction can take from its sender, wei: gas, blob gas and value. Saturates.
pub(super) fn cost(tx: &Transaction) -> U256 {
    let gas = U256::from(tx.gas_limit()).saturating_mul(U256::from(tx.max_fee_per_gas()));
    let blobs = tx.blob_versioned_hashes().map_or(0, <[B256]>::len) as u64;
    let blob_gas = U256::from(blobs.saturating_mul(BLOB_GAS));
    let blob_fee = blob_gas.saturating_mul(U256::from(tx.max_fee_per_blob_gas().unwrap_or_default()));
    gas.saturating_add(blob_fee).saturating_add(tx.value())
}

fn gas_of(tx: &Transaction, fork: Fork) -> IntrinsicGas {
    let access_list = tx.access_list().map_or(&[][..], |list| list.0.as_slice());
    let payload = Payload {
        input: tx.input().clone(),
        is_create: tx.is_create(),
        accounts: access_list.len() as u64,
        slots: access_list.iter().map(|item| item.storage_keys.len() as u64).sum(),
        authorizations: tx.authorization_list().map_or(0, <[_]>::len) as u64,
    };
    intrinsic_gas(fork, &payload)
}

fn invalid<T>(message: String) -> Result<T, PoolError> {
    Err(PoolError::Invalid(message))
}
