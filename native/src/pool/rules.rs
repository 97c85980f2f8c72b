//! Rules that a transaction must meet whatever the state: fork gating, gas, fees, sizes, sidecars.
//!
//! The checks run in geth's order and speak with geth's words, because clients match on both.

use alloy_consensus::Transaction as _;
use alloy_eips::eip7594::{BlobTransactionSidecarVariant, CELLS_PER_EXT_BLOB};
use alloy_primitives::{B256, U256};

use super::{PoolContext, PoolError};
use crate::execution::Fork;
use crate::primitives::Transaction;

const TX_GAS: u64 = 21_000;
const TX_CREATE_GAS: u64 = 53_000;
const ZERO_BYTE_GAS: u64 = 4;
const NONZERO_BYTE_GAS_FRONTIER: u64 = 68;
/// EIP-2028 (Istanbul).
const NONZERO_BYTE_GAS: u64 = 16;
/// EIP-2930.
const ACCESS_LIST_ADDRESS_GAS: u64 = 2_400;
const ACCESS_LIST_SLOT_GAS: u64 = 1_900;
/// EIP-3860.
const INITCODE_WORD_GAS: u64 = 2;
const MAX_INITCODE_SIZE: usize = 49_152;
/// EIP-7702: charged per authorization up front.
const AUTHORIZATION_GAS: u64 = 25_000;
/// EIP-7623: gas per token of the calldata floor; a non-zero byte is four tokens.
const FLOOR_TOKEN_GAS: u64 = 10;
/// EIP-7825 (Osaka): no transaction may ask for more gas.
const MAX_TX_GAS: u64 = 1 << 24;
/// EIP-4844: the blob base fee never falls below this.
const MIN_BLOB_FEE: u128 = 1;
const BLOB_GAS: u64 = 131_072;

/// Without tables the trusted setup is there sooner and 100 MB smaller; checking proofs does not use them.
const KZG_PRECOMPUTE: u64 = 0;

/// geth's bound for a transaction without blobs, bytes of its encoding.
const MAX_TX_SIZE: usize = 128 * 1024;
/// Bytes that one blob adds to the network form: blob, commitment, cell proofs and RLP headers.
const MAX_BLOB_SIZE: usize = 131_072 + 48 + 49 * CELLS_PER_EXT_BLOB + 64;

/// The largest encoding that is looked at, by the type byte of the raw transaction.
pub(super) fn max_size(is_blob: bool, ctx: &PoolContext) -> usize {
    if is_blob {
        let blobs = usize::try_from(ctx.max_blobs_per_tx).unwrap_or(usize::MAX);
        blobs.saturating_mul(MAX_BLOB_SIZE).saturating_add(MAX_TX_SIZE)
    } else {
        MAX_TX_SIZE
    }
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
    if ctx.fork >= Fork::Shanghai && tx.is_create() && tx.input().len() > MAX_INITCODE_SIZE {
        return invalid(format!(
            "max initcode size exceeded: code size {}, limit {MAX_INITCODE_SIZE}",
            tx.input().len()
        ));
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
    let intrinsic = intrinsic_gas(tx, ctx.fork);
    if gas < intrinsic {
        return invalid(format!("intrinsic gas too low: gas {gas}, minimum needed {intrinsic}"));
    }
    if ctx.fork >= Fork::Prague {
        let floor = floor_gas(tx.input());
        if gas < floor {
            return invalid(format!("insufficient gas for floor data gas cost: gas {gas}, minimum needed {floor}"));
        }
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

/// Gas that is charged before the first instruction runs.
fn intrinsic_gas(tx: &Transaction, fork: Fork) -> u64 {
    let create = tx.is_create();
    let base = if create && fork >= Fork::Homestead { TX_CREATE_GAS } else { TX_GAS };
    let nonzero_gas = if fork >= Fork::Istanbul { NONZERO_BYTE_GAS } else { NONZERO_BYTE_GAS_FRONTIER };
    let (zeros, nonzeros) = count_bytes(tx.input());
    let mut gas = base + zeros * ZERO_BYTE_GAS + nonzeros * nonzero_gas;
    if create && fork >= Fork::Shanghai {
        gas += (tx.input().len() as u64).div_ceil(32) * INITCODE_WORD_GAS;
    }
    for item in tx.access_list().into_iter().flat_map(|list| list.iter()) {
        gas += ACCESS_LIST_ADDRESS_GAS + item.storage_keys.len() as u64 * ACCESS_LIST_SLOT_GAS;
    }
    gas + tx.authorization_list().map_or(0, <[_]>::len) as u64 * AUTHORIZATION_GAS
}

/// EIP-7623: least gas of a transaction with this calldata.
fn floor_gas(data: &[u8]) -> u64 {
    let (zeros, nonzeros) = count_bytes(data);
    TX_GAS + (zeros + 4 * nonzeros) * FLOOR_TOKEN_GAS
}

fn count_bytes(data: &[u8]) -> (u64, u64) {
    let zeros = data.iter().filter(|byte| **byte == 0).count() as u64;
    (zeros, data.len() as u64 - zeros)
}

fn invalid<T>(message: String) -> Result<T, PoolError> {
    Err(PoolError::Invalid(message))
}
