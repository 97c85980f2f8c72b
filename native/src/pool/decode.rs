//! From raw bytes to a candidate of the pool: decoding, static rules, sender recovery. No lock is held here.

use std::sync::Arc;

use alloy_consensus::crypto::secp256k1::recover_signer_unchecked;
use alloy_consensus::transaction::{RlpEcdsaDecodableTx, SignerRecoverable};
use alloy_consensus::{Signed, Transaction as _, TxEip4844WithSidecar, TxLegacy};
use alloy_eips::eip2718::{Decodable2718, Eip2718Error, Encodable2718};
use alloy_eips::eip7594::BlobTransactionSidecarVariant;
use alloy_primitives::{Address, Bytes, B256, U256};
use alloy_rlp::Header;

use super::{rules, PoolContext, PoolError, PooledTx};
use crate::execution::Fork;
use crate::primitives::{SignedTx, Transaction};

const BLOB_TYPE: u8 = 3;
const LAST_TYPE: u8 = 4;
/// Bookkeeping of one pooled transaction beside its bytes: entry, index nodes, decoded fields.
const ENTRY_OVERHEAD: usize = 1024;

/// A transaction that met every rule that does not depend on the state.
#[derive(Debug)]
pub(super) struct Candidate {
    pub pooled: PooledTx,
    /// Wei per gas.
    pub fee_cap: u128,
    pub tip_cap: u128,
    /// Wei per blob gas; `None` for a transaction without blobs.
    pub blob_cap: Option<u128>,
    pub nonce: u64,
    pub gas: u64,
    /// Most that it can take from its sender, wei.
    pub cost: U256,
    /// Memory that it is charged for, bytes.
    pub size: usize,
}

impl Candidate {
    pub fn new(pooled: PooledTx) -> Candidate {
        let tx = &pooled.tx.tx;
        let (fee_cap, tip_cap) = rules::fees(tx);
        let sidecar = pooled.sidecar.as_ref().map_or(0, |sidecar| sidecar.size());
        Candidate {
            fee_cap,
            tip_cap,
            blob_cap: tx.max_fee_per_blob_gas(),
            nonce: tx.nonce(),
            gas: tx.gas_limit(),
            cost: rules::cost(tx),
            // The input is held twice: decoded and in the raw encoding.
            size: ENTRY_OVERHEAD + 2 * pooled.tx.raw.len() + sidecar,
            pooled,
        }
    }

    pub fn sender(&self) -> Address {
        self.pooled.tx.sender
    }

    pub fn hash(&self) -> B256 {
        self.pooled.tx.hash
    }
}

/// A decoded transaction whose sender is not known yet.
pub(super) struct Decoded {
    tx: Transaction,
    raw: Bytes,
    sidecar: Option<BlobTransactionSidecarVariant>,
}

impl Decoded {
    pub fn hash(&self) -> B256 {
        *self.tx.tx_hash()
    }
}

/// Decodes exactly one transaction; blob transactions in their network form. Bytes that do not encode back to
/// themselves are refused: the hash of a transaction is the hash of these bytes.
pub(super) fn decode(raw: &Bytes, ctx: &PoolContext) -> Result<Decoded, PoolError> {
    let is_blob = raw.first() == Some(&BLOB_TYPE);
    let limit = rules::max_size(is_blob, ctx);
    if raw.len() > limit {
        return Err(rules::oversized(raw.len(), limit));
    }
    match raw.first() {
        None => Err(PoolError::Invalid("typed transaction too short".into())),
        Some(_) if is_blob => decode_blob(raw),
        Some(kind) if (1..=LAST_TYPE).contains(kind) || *kind > 0x7f => decode_plain(raw),
        Some(_) => Err(PoolError::Invalid("transaction type not supported".into())),
    }
}

fn decode_plain(raw: &Bytes) -> Result<Decoded, PoolError> {
    let mut rest = raw.as_ref();
    let tx = if raw.first().is_some_and(|first| *first > 0x7f) {
        // Asked directly: the envelope would call every malformed list an unknown type.
        TxLegacy::rlp_decode_signed(&mut rest).map(Transaction::Legacy).map_err(|error| decode_error(error.into()))?
    } else {
        Transaction::decode_2718(&mut rest).map_err(decode_error)?
    };
    if !rest.is_empty() {
        return Err(PoolError::Invalid("rlp: input contains more than one value".into()));
    }
    if tx.encoded_2718() != raw.as_ref() {
        return Err(PoolError::Invalid("rlp: non-canonical encoding".into()));
    }
    Ok(Decoded { tx, raw: raw.clone(), sidecar: None })
}

fn decode_blob(raw: &Bytes) -> Result<Decoded, PoolError> {
    let mut rest = &raw[1..];
    if rest.is_empty() {
        return Err(PoolError::Invalid("typed transaction too short".into()));
    }
    if !has_sidecar(rest) {
        return decode_plain(raw);
    }
    let (with_sidecar, signature) =
        TxEip4844WithSidecar::<BlobTransactionSidecarVariant>::rlp_decode_with_signature(&mut rest)
            .map_err(|error| decode_error(error.into()))?;
    if !rest.is_empty() {
        return Err(PoolError::Invalid("rlp: input contains more than one value".into()));
    }
    let tx = Transaction::Eip4844(Signed::new_unhashed(with_sidecar.tx, signature));
    let bare = Bytes::from(tx.encoded_2718());
    Ok(Decoded { tx, raw: bare, sidecar: Some(with_sidecar.sidecar) })
}

/// The network form is a list whose first item is again a list (the transaction).
fn has_sidecar(payload: &[u8]) -> bool {
    let mut inner = payload;
    Header::decode(&mut inner).is_ok_and(|outer| outer.list) && inner.first().is_some_and(|byte| *byte >= 0xc0)
}

/// Static rules, sender recovery, sidecar: in the order of their cost.
pub(super) fn judge(decoded: Decoded, min_tip: u128, ctx: &PoolContext) -> Result<Candidate, PoolError> {
    let Decoded { tx, raw, sidecar } = decoded;
    rules::check_static(&tx, min_tip, ctx)?;
    let sender = recover(&tx, ctx.fork)?;
    let sidecar = match (tx.blob_versioned_hashes(), sidecar) {
        (Some(_), None) => return Err(PoolError::Invalid("missing sidecar in blob transaction".into())),
        (Some(hashes), Some(sidecar)) => Some(Arc::new(rules::check_sidecar(sidecar, hashes, ctx.fork)?)),
        (None, _) => None,
    };
    let hash = *tx.tx_hash();
    let tx = Arc::new(SignedTx { tx, sender, hash, raw, impersonated: false });
    Ok(Candidate::new(PooledTx { tx, sidecar }))
}

/// Static rules for a transaction whose sender is known. A blob transaction may come without its sidecar: a reorg
/// only knows what stood in the block.
pub(super) fn judge_recovered(pooled: PooledTx, ctx: &PoolContext) -> Result<Candidate, PoolError> {
    rules::check_static(&pooled.tx.tx, 0, ctx)?;
    Ok(Candidate::new(pooled))
}

fn recover(tx: &Transaction, fork: Fork) -> Result<Address, PoolError> {
    let recovered = if fork >= Fork::Homestead {
        tx.recover_signer()
    } else {
        // High s became invalid with EIP-2.
        recover_signer_unchecked(tx.signature(), tx.signature_hash())
    };
    recovered.map_err(|_| PoolError::Invalid("invalid sender: invalid transaction v, r, s values".into()))
}

/// Decodes the block form of a transaction that was in the pool before.
pub(super) fn decode_block_form(raw: &[u8]) -> Option<Transaction> {
    Transaction::decode_2718_exact(raw).ok()
}

/// geth's words for a malformed encoding.
fn decode_error(error: Eip2718Error) -> PoolError {
    use alloy_rlp::Error as Rlp;
    let error = match error {
        Eip2718Error::RlpError(error) => error,
        _ => return PoolError::Invalid("transaction type not supported".into()),
    };
    PoolError::Invalid(match error {
        Rlp::InputTooShort => "rlp: value size exceeds available input length".into(),
        Rlp::LeadingZero => "rlp: non-canonical integer (leading zero bytes)".into(),
        Rlp::NonCanonicalSingleByte | Rlp::NonCanonicalSize => "rlp: non-canonical size information".into(),
        Rlp::Overflow => "rlp: input string too long for its field".into(),
        Rlp::UnexpectedLength => "rlp: input string has the wrong size".into(),
        Rlp::UnexpectedString => "rlp: expected List".into(),
        Rlp::UnexpectedList => "rlp: expected String or Byte".into(),
        Rlp::ListLengthMismatch { expected, got } if got > expected => "rlp: too few elements for a transaction".into(),
        Rlp::ListLengthMismatch { .. } => "rlp: input list has too many elements for a transaction".into(),
        Rlp::Custom(text) => format!("rlp: {text}"),
    })
}

/// Senders of raw transactions, in parallel; `None` where a transaction does not decode or recover.
pub fn recover_many(raws: &[Bytes]) -> Vec<Option<Address>> {
    use rayon::prelude::*;
    let recover = |raw: &Bytes| -> Option<Address> {
        let tx = if raw.first() == Some(&BLOB_TYPE) { decode_blob(raw) } else { decode_plain(raw) }.ok()?.tx;
        tx.recover_signer().ok()
    };
    if raws.len() < super::PARALLEL_FROM {
        return raws.iter().map(recover).collect();
    }
    raws.par_iter().with_min_len(2).map(recover).collect()
}
