//! Rules that a raw transaction must keep on its own, by fork: encoding, signature, intrinsic gas.
//!
//! The protocol allows prices of 256 bits, our transaction type (like every client's pool) 128: [`decode`] therefore
//! reads the fields itself and judges by the protocol alone.

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Transaction as _, Typed2718};
use alloy_eips::eip2930::AccessList;
use alloy_eips::eip7702::SignedAuthorization;
use alloy_primitives::{keccak256, Signature};
use alloy_rlp::{Decodable, Header};

use super::evm::{intrinsic_gas, Payload};
use super::spec::{ChainSpec, Fork};
use crate::primitives::*;

/// A transaction that the rules of a fork accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub hash: B256,
    pub sender: Address,
    /// Gas before the first instruction.
    pub intrinsic_gas: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    #[error("rlp: {0}")]
    Encoding(#[from] alloy_rlp::Error),
    #[error("{0} bytes follow the transaction")]
    TrailingBytes(usize),
    #[error("transaction type {0} is not supported in {1:?}")]
    Type(u8, Fork),
    #[error("chain id {found} is not {wanted}")]
    ChainId { found: u64, wanted: u64 },
    #[error("replay-protected signatures are not valid in {0:?}")]
    ReplayProtection(Fork),
    #[error("invalid signature")]
    Signature,
    #[error("nonce is at its maximum")]
    Nonce,
    #[error("gas limit times price exceeds 256 bits")]
    PriceOverflow,
    #[error("tip {tip} exceeds the fee cap {cap}")]
    Tip { tip: U256, cap: U256 },
    #[error("init code has {size} bytes, at most {limit}")]
    InitCode { size: usize, limit: usize },
    #[error("a transaction of type {0} needs a receiver")]
    NoReceiver(u8),
    #[error("{0} list is empty")]
    EmptyList(&'static str),
    #[error("intrinsic gas too low: have {have}, want {want}")]
    IntrinsicGas { have: u64, want: u64 },
}

/// The fork in which a transaction type appeared.
fn first_fork(ty: u8) -> Option<Fork> {
    Some(match ty {
        0 => Fork::Frontier,
        1 => Fork::Berlin,
        2 => Fork::London,
        3 => Fork::Cancun,
        4 => Fork::Prague,
        _ => return None,
    })
}

/// Type, chain id and signature under the rules of `fork`; returns the sender.
pub fn check_envelope(spec: &ChainSpec, fork: Fork, tx: &Transaction) -> Result<Address, ValidityError> {
    check_type(spec, fork, tx.ty(), tx.chain_id())?;
    // EIP-2: Homestead refuses the upper half of s.
    let sender = if fork >= Fork::Homestead { tx.recover_signer() } else { tx.recover_signer_unchecked() };
    sender.map_err(|_| ValidityError::Signature)
}

fn check_type(spec: &ChainSpec, fork: Fork, ty: u8, chain_id: Option<u64>) -> Result<(), ValidityError> {
    if first_fork(ty).is_none_or(|first| fork < first) {
        return Err(ValidityError::Type(ty, fork));
    }
    let Some(found) = chain_id else { return Ok(()) };
    if fork < Fork::SpuriousDragon {
        return Err(ValidityError::ReplayProtection(fork));
    }
    if found != spec.chain_id {
        return Err(ValidityError::ChainId { found, wanted: spec.chain_id });
    }
    Ok(())
}

/// What the rules look at in a transaction of any type.
struct Fields {
    ty: u8,
    chain_id: Option<u64>,
    nonce: u64,
    gas_limit: u64,
    /// Price of types 0 and 1, maximum fee of the others.
    cap: U256,
    tip: U256,
    payload: Payload,
    signing_hash: B256,
    signature: Signature,
}

/// Decodes a raw transaction and judges it under the rules that are active at the end of `spec`'s schedule.
pub fn decode(spec: &ChainSpec, raw: &[u8]) -> Result<Accepted, ValidityError> {
    let fork = spec.fork(u64::MAX, u64::MAX);
    let fields = match raw.first() {
        Some(ty) if *ty < 0xc0 => {
            check_type(spec, fork, *ty, None)?;
            typed(*ty, &raw[1..])?
        }
        _ => legacy(raw)?,
    };
    check_type(spec, fork, fields.ty, fields.chain_id)?;
    // EIP-2: Homestead refuses the upper half of s.
    if fork >= Fork::Homestead && fields.signature.normalize_s().is_some() {
        return Err(ValidityError::Signature);
    }
    let sender =
        fields.signature.recover_address_from_prehash(&fields.signing_hash).map_err(|_| ValidityError::Signature)?;
    let intrinsic_gas = check_fields(spec, fork, &fields)?;
    Ok(Accepted { hash: keccak256(raw), sender, intrinsic_gas })
}

fn check_fields(spec: &ChainSpec, fork: Fork, fields: &Fields) -> Result<u64, ValidityError> {
    if fields.nonce == u64::MAX {
        return Err(ValidityError::Nonce);
    }
    if fields.cap.checked_mul(U256::from(fields.gas_limit)).is_none() {
        return Err(ValidityError::PriceOverflow);
    }
    if fields.tip > fields.cap {
        return Err(ValidityError::Tip { tip: fields.tip, cap: fields.cap });
    }
    let payload = &fields.payload;
    let limit = spec.max_initcode_size();
    if fork >= Fork::Shanghai && payload.is_create && payload.input.len() > limit {
        return Err(ValidityError::InitCode { size: payload.input.len(), limit });
    }
    if fields.ty >= 3 && payload.is_create {
        return Err(ValidityError::NoReceiver(fields.ty));
    }
    if fields.ty == 4 && payload.authorizations == 0 {
        return Err(ValidityError::EmptyList("authorization"));
    }
    let gas = intrinsic_gas(fork, payload);
    let want = if fork >= Fork::Prague { gas.initial.max(gas.floor) } else { gas.initial };
    if fields.gas_limit < want {
        return Err(ValidityError::IntrinsicGas { have: fields.gas_limit, want });
    }
    Ok(gas.initial)
}

/// The payload of the list that `raw` consists of, and nothing after it.
fn sole_list(raw: &[u8]) -> Result<&[u8], ValidityError> {
    let mut rest = raw;
    let payload = Header::decode_bytes(&mut rest, true)?;
    if !rest.is_empty() {
        return Err(ValidityError::TrailingBytes(rest.len()));
    }
    Ok(payload)
}

/// Empty for a creation, else 20 bytes.
fn receiver(rest: &mut &[u8]) -> Result<Option<Address>, ValidityError> {
    let bytes = Header::decode_bytes(rest, false)?;
    match bytes.len() {
        0 => Ok(None),
        20 => Ok(Some(Address::from_slice(bytes))),
        _ => Err(alloy_rlp::Error::UnexpectedLength.into()),
    }
}

fn done(rest: &[u8]) -> Result<(), ValidityError> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(ValidityError::TrailingBytes(rest.len()))
    }
}

fn list_of(payload: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    Header { list: true, payload_length: payload.iter().map(|part| part.len()).sum() }.encode(&mut out);
    payload.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn legacy(raw: &[u8]) -> Result<Fields, ValidityError> {
    let payload = sole_list(raw)?;
    let rest = &mut &*payload;
    let nonce = u64::decode(rest)?;
    let cap = U256::decode(rest)?;
    let gas_limit = u64::decode(rest)?;
    let to = receiver(rest)?;
    U256::decode(rest)?;
    let input = Bytes::decode(rest)?;
    let signed = &payload[..payload.len() - rest.len()];
    let v = u64::decode(rest)?;
    let (r, s) = (U256::decode(rest)?, U256::decode(rest)?);
    done(rest)?;
    let (chain_id, odd) = match v {
        27 | 28 => (None, v == 28),
        // EIP-155: v = 2 * chain id + 35 + parity.
        35.. => (Some((v - 35) / 2), (v - 35) % 2 == 1),
        _ => return Err(ValidityError::Signature),
    };
    let protection = match chain_id {
        Some(id) => [alloy_rlp::encode(id), vec![0x80, 0x80]].concat(),
        None => Vec::new(),
    };
    Ok(Fields {
        ty: 0,
        chain_id,
        nonce,
        gas_limit,
        cap,
        tip: U256::ZERO,
        payload: Payload { input, is_create: to.is_none(), ..Payload::default() },
        signing_hash: keccak256(list_of(&[signed, &protection])),
        signature: Signature::new(r, s, odd),
    })
}

fn typed(ty: u8, body: &[u8]) -> Result<Fields, ValidityError> {
    let payload = sole_list(body)?;
    let rest = &mut &*payload;
    let chain_id = u64::decode(rest)?;
    let nonce = u64::decode(rest)?;
    let tip = if ty >= 2 { U256::decode(rest)? } else { U256::ZERO };
    let cap = U256::decode(rest)?;
    let gas_limit = u64::decode(rest)?;
    let to = receiver(rest)?;
    U256::decode(rest)?;
    let input = Bytes::decode(rest)?;
    let list = AccessList::decode(rest)?;
    let mut authorizations = 0;
    if ty == 3 {
        U256::decode(rest)?;
        if Vec::<B256>::decode(rest)?.is_empty() {
            return Err(ValidityError::EmptyList("blob hash"));
        }
    } else if ty == 4 {
        authorizations = Vec::<SignedAuthorization>::decode(rest)?.len() as u64;
    }
    let signed = &payload[..payload.len() - rest.len()];
    let odd = bool::decode(rest)?;
    let (r, s) = (U256::decode(rest)?, U256::decode(rest)?);
    done(rest)?;
    let signing = [&[ty], list_of(&[signed]).as_slice()].concat();
    Ok(Fields {
        ty,
        chain_id: Some(chain_id),
        nonce,
        gas_limit,
        cap,
        tip,
        payload: Payload {
            input,
            is_create: to.is_none(),
            accounts: list.0.len() as u64,
            slots: list.storage_keys_count() as u64,
            authorizations,
        },
        signing_hash: keccak256(signing),
        signature: Signature::new(r, s, odd),
    })
}

impl From<&Transaction> for Payload {
    fn from(tx: &Transaction) -> Payload {
        let list = tx.access_list();
        Payload {
            input: tx.input().clone(),
            is_create: tx.is_create(),
            accounts: list.map_or(0, |list| list.0.len() as u64),
            slots: list.map_or(0, |list| list.storage_keys_count() as u64),
            authorizations: tx.authorization_count().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy_consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy};
    use alloy_eips::eip2718::Encodable2718;
    use alloy_eips::eip7702::Authorization;
    use alloy_primitives::TxKind;
    use alloy_signer::SignerSync;
    use alloy_signer_local::PrivateKeySigner;

    use super::*;

    fn sign<T: SignableTransaction<Signature>>(tx: T) -> Transaction
    where
        alloy_consensus::Signed<T>: Into<Transaction>,
    {
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap();
        let signature = key.sign_hash_sync(&tx.signature_hash()).unwrap();
        tx.into_signed(signature).into()
    }

    /// One valid transaction per type.
    fn samples() -> Vec<Transaction> {
        let to = Address::repeat_byte(5);
        let key = PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap();
        let auth = Authorization { chain_id: U256::from(1), address: to, nonce: 0 };
        let auth = auth.clone().into_signed(key.sign_hash_sync(&auth.signature_hash()).unwrap());
        let kind = TxKind::Call(to);
        let gas_limit = 100_000;
        vec![
            sign(TxLegacy { chain_id: Some(1), gas_limit, gas_price: 7, to: kind, ..Default::default() }),
            sign(TxLegacy { chain_id: None, gas_limit, gas_price: 7, to: kind, ..Default::default() }),
            sign(TxEip2930 { chain_id: 1, gas_limit, gas_price: 7, to: kind, ..Default::default() }),
            sign(TxEip1559 { chain_id: 1, gas_limit, max_fee_per_gas: 7, to: kind, ..Default::default() }),
            sign(TxEip4844 {
                chain_id: 1,
                gas_limit,
                max_fee_per_gas: 7,
                to,
                blob_versioned_hashes: vec![B256::repeat_byte(1)],
                ..Default::default()
            }),
            sign(TxEip7702 {
                chain_id: 1,
                gas_limit,
                max_fee_per_gas: 7,
                to,
                authorization_list: vec![auth],
                ..Default::default()
            }),
        ]
    }

    #[test]
    fn hash_and_sender_agree_with_the_library_for_every_type() {
        let spec = ChainSpec::at(Fork::Osaka, 1);
        for tx in samples() {
            let accepted = decode(&spec, &tx.encoded_2718()).unwrap();
            assert_eq!(accepted.hash, *tx.tx_hash());
            assert_eq!(accepted.sender, tx.recover_signer().unwrap());
            assert_eq!(check_envelope(&spec, Fork::Osaka, &tx).unwrap(), accepted.sender);
        }
    }

    #[test]
    fn every_cut_and_every_appended_byte_is_refused() {
        let spec = ChainSpec::at(Fork::Osaka, 1);
        for tx in samples() {
            let raw = tx.encoded_2718();
            for end in 0..raw.len() {
                assert!(decode(&spec, &raw[..end]).is_err(), "cut at {end}");
            }
            assert!(decode(&spec, &[raw.as_slice(), &[0]].concat()).is_err());
        }
    }

    #[test]
    fn types_wait_for_their_fork() {
        for tx in samples() {
            let first = first_fork(tx.ty()).unwrap();
            for fork in Fork::ALL {
                let protected = tx.chain_id().is_some() && fork < Fork::SpuriousDragon;
                let accepted = check_envelope(&ChainSpec::at(fork, 1), fork, &tx).is_ok();
                assert_eq!(accepted, fork >= first && !protected, "type {} in {fork:?}", tx.ty());
            }
        }
    }
}
