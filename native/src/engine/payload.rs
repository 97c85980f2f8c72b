//! The payload of a block: what a proposer sends and every other node checks.
//!
//! ```text
//! payload     = version byte (0x01) ‖ RLP([header, transactions, withdrawals, impersonated])
//! header      = the Ethereum header (RLP list)
//! transactions= list of EIP-2718 encodings, each a byte string
//! withdrawals = list of EIP-4895 withdrawals, or the empty string before Shanghai
//! impersonated= list of [index, sender]: transactions of a devnet whose sender is not recovered
//! ```
//!
//! The decoder treats its input as hostile: the size is bounded before anything is allocated,
//! trailing bytes and other versions are refused, and every length is checked by the RLP reader.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::Header;
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::keccak256;
use alloy_rlp::{Decodable, Encodable, Header as RlpHeader};
use rayon::prelude::*;

use super::EngineError;
use crate::primitives::*;

/// Version of the format that this code writes, and the only one that it reads.
pub const PAYLOAD_VERSION: u8 = 1;
/// Larger payloads are refused unread (CometBFT's own block limit is about 53 MiB).
pub const MAX_PAYLOAD_BYTES: usize = 48 << 20;
/// Fewer transactions than this are recovered on the caller's thread.
const PARALLEL_RECOVERY: usize = 8;

fn bad(reason: impl Into<String>) -> EngineError {
    EngineError::Payload(reason.into())
}

/// Encodes a block as a payload.
pub(super) fn encode(block: &SealedBlock) -> Result<Vec<u8>, EngineError> {
    if !block.ommers.is_empty() {
        return Err(bad("a block with ommers cannot be proposed"));
    }
    let transactions: usize = block.transactions.iter().map(|tx| bytes_length(&tx.raw)).sum();
    let impersonated: Vec<(u64, Address)> = block
        .transactions
        .iter()
        .enumerate()
        .filter(|(_, tx)| tx.impersonated)
        .map(|(index, tx)| (index as u64, tx.sender))
        .collect();
    let impersonated_length: usize =
        impersonated.iter().map(|(index, sender)| list_length(index.length() + sender.length())).sum();
    let withdrawals_length = match &block.withdrawals {
        Some(list) => list.length(),
        None => 1,
    };
    let content =
        block.header.length() + list_length(transactions) + withdrawals_length + list_length(impersonated_length);
    let total = 1 + list_length(content);
    if total > MAX_PAYLOAD_BYTES {
        return Err(bad(format!("{total} bytes exceed the limit of {MAX_PAYLOAD_BYTES}")));
    }
    let mut out = Vec::with_capacity(total);
    out.push(PAYLOAD_VERSION);
    list(content).encode(&mut out);
    block.header.encode(&mut out);
    list(transactions).encode(&mut out);
    for tx in &block.transactions {
        tx.raw.as_ref().encode(&mut out);
    }
    match &block.withdrawals {
        Some(withdrawals) => withdrawals.encode(&mut out),
        None => out.push(alloy_rlp::EMPTY_STRING_CODE),
    }
    list(impersonated_length).encode(&mut out);
    for (index, sender) in impersonated {
        list(index.length() + sender.length()).encode(&mut out);
        index.encode(&mut out);
        sender.encode(&mut out);
    }
    Ok(out)
}

fn list(payload_length: usize) -> RlpHeader {
    RlpHeader { list: true, payload_length }
}

fn list_length(payload_length: usize) -> usize {
    payload_length + alloy_rlp::length_of_length(payload_length)
}

fn bytes_length(bytes: &[u8]) -> usize {
    bytes.length()
}

/// Decodes a payload and recovers its senders. `devnet`: impersonated senders are allowed.
pub(super) fn decode(payload: &[u8], devnet: bool) -> Result<SealedBlock, EngineError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(bad(format!("{} bytes exceed the limit of {MAX_PAYLOAD_BYTES}", payload.len())));
    }
    let (version, mut rest) = payload.split_first().ok_or_else(|| bad("is empty"))?;
    if *version != PAYLOAD_VERSION {
        return Err(bad(format!("version {version} is unknown, this node reads {PAYLOAD_VERSION}")));
    }
    let mut body = RlpHeader::decode_bytes(&mut rest, true).map_err(|error| bad(format!("body: {error}")))?;
    if !rest.is_empty() {
        return Err(bad(format!("{} trailing bytes", rest.len())));
    }
    let header = Header::decode(&mut body).map_err(|error| bad(format!("header: {error}")))?;
    let raws = decode_transactions(&mut body)?;
    let withdrawals = decode_withdrawals(&mut body)?;
    let impersonated = decode_impersonated(&mut body, raws.len())?;
    if !body.is_empty() {
        return Err(bad(format!("{} bytes after the last field", body.len())));
    }
    if !devnet && !impersonated.is_empty() {
        return Err(bad("impersonated senders outside a devnet"));
    }
    let restore = |(index, raw): (usize, &Bytes)| signed(index, raw, impersonated.get(&(index as u64)).copied());
    let transactions = if raws.len() < PARALLEL_RECOVERY {
        raws.iter().enumerate().map(restore).collect::<Result<Vec<_>, _>>()?
    } else {
        raws.par_iter().enumerate().map(restore).collect::<Result<Vec<_>, _>>()?
    };
    let hash = header.hash_slow();
    Ok(SealedBlock { header, hash, transactions, ommers: Vec::new(), withdrawals })
}

fn decode_transactions(body: &mut &[u8]) -> Result<Vec<Bytes>, EngineError> {
    let mut items = RlpHeader::decode_bytes(body, true).map_err(|error| bad(format!("transactions: {error}")))?;
    let mut raws = Vec::new();
    while !items.is_empty() {
        let raw = RlpHeader::decode_bytes(&mut items, false)
            .map_err(|error| bad(format!("transaction {}: {error}", raws.len())))?;
        raws.push(Bytes::copy_from_slice(raw));
    }
    Ok(raws)
}

fn decode_withdrawals(body: &mut &[u8]) -> Result<Option<Vec<Withdrawal>>, EngineError> {
    if body.first() == Some(&alloy_rlp::EMPTY_STRING_CODE) {
        *body = &body[1..];
        return Ok(None);
    }
    Vec::<Withdrawal>::decode(body).map(Some).map_err(|error| bad(format!("withdrawals: {error}")))
}

fn decode_impersonated(body: &mut &[u8], transactions: usize) -> Result<BTreeMap<u64, Address>, EngineError> {
    let fail = |error: alloy_rlp::Error| bad(format!("impersonated senders: {error}"));
    let mut items = RlpHeader::decode_bytes(body, true).map_err(fail)?;
    let mut senders = BTreeMap::new();
    while !items.is_empty() {
        let mut pair = RlpHeader::decode_bytes(&mut items, true).map_err(fail)?;
        let index = u64::decode(&mut pair).map_err(fail)?;
        let sender = Address::decode(&mut pair).map_err(fail)?;
        if !pair.is_empty() {
            return Err(bad("impersonated senders: an entry has more than two fields"));
        }
        if index >= transactions as u64 {
            return Err(bad(format!("impersonated senders: index {index}, but there are {transactions} transactions")));
        }
        // Ascending order makes the encoding unique.
        if senders.last_key_value().is_some_and(|(last, _)| *last >= index) {
            return Err(bad("impersonated senders: indices are not ascending"));
        }
        senders.insert(index, sender);
    }
    Ok(senders)
}

/// One transaction from its encoding; the sender is recovered unless the devnet names it.
fn signed(index: usize, raw: &Bytes, impersonated: Option<Address>) -> Result<Arc<SignedTx>, EngineError> {
    let tx = Transaction::decode_2718_exact(raw).map_err(|error| bad(format!("transaction {index}: {error}")))?;
    if tx.encode_2718_len() != raw.len() {
        return Err(bad(format!("transaction {index}: not in canonical encoding")));
    }
    let sender = match impersonated {
        Some(sender) => sender,
        None => tx.recover_signer().map_err(|error| bad(format!("transaction {index}: signature: {error}")))?,
    };
    Ok(Arc::new(SignedTx { hash: keccak256(raw), tx, sender, raw: raw.clone(), impersonated: impersonated.is_some() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{address, b256, hex};

    /// The transaction of EIP-155's example: sender 0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F, chain 1.
    const LEGACY: &str = "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83";

    fn sample() -> SealedBlock {
        let raw = Bytes::from(hex::decode(LEGACY).unwrap());
        let named = address!("00000000000000000000000000000000000000aa");
        let header = Header {
            number: 7,
            timestamp: 1_700_000_000,
            gas_limit: 30_000_000,
            base_fee_per_gas: Some(1_000_000_000),
            ..Default::default()
        };
        SealedBlock {
            hash: header.hash_slow(),
            header,
            transactions: vec![signed(0, &raw, None).unwrap(), signed(1, &raw, Some(named)).unwrap()],
            ommers: Vec::new(),
            withdrawals: Some(vec![Withdrawal { index: 1, validator_index: 2, address: named, amount: 3 }]),
        }
    }

    fn reason(payload: &[u8]) -> String {
        match decode(payload, true) {
            Err(EngineError::Payload(reason)) => reason,
            other => panic!("{:?}", other.map(|block| block.hash)),
        }
    }

    #[test]
    fn a_payload_decodes_to_the_block_it_was_made_from() {
        let block = sample();
        let decoded = decode(&encode(&block).unwrap(), true).unwrap();
        assert_eq!(decoded.hash, block.hash);
        assert_eq!(decoded.withdrawals, block.withdrawals);
        let senders: Vec<_> = decoded.transactions.iter().map(|tx| (tx.sender, tx.impersonated)).collect();
        assert_eq!(
            senders,
            [
                (address!("9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"), false),
                (address!("00000000000000000000000000000000000000aa"), true)
            ]
        );
    }

    #[test]
    fn the_golden_payload_does_not_change() {
        // A new format needs a new version byte and, deliberately, new bytes here.
        let payload = encode(&sample()).unwrap();
        assert_eq!(payload[0], 1);
        assert_eq!(payload.len(), 789);
        assert_eq!(keccak256(&payload), b256!("d1616a1af4151f624717d9d32deaf7e1571495293445c942ab5e18735ef147ee"));
    }

    #[test]
    fn an_unknown_version_is_refused() {
        let mut payload = encode(&sample()).unwrap();
        payload[0] = 2;
        assert_eq!(reason(&payload), "version 2 is unknown, this node reads 1");
        assert_eq!(reason(&[]), "is empty");
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut payload = encode(&sample()).unwrap();
        payload.push(0);
        assert_eq!(reason(&payload), "1 trailing bytes");
    }

    #[test]
    fn every_truncation_is_refused() {
        let payload = encode(&sample()).unwrap();
        for length in 0..payload.len() {
            reason(&payload[..length]);
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_before_it_is_allocated() {
        let mut payload = vec![PAYLOAD_VERSION, 0xff];
        payload.extend([0xff; 8]);
        assert!(reason(&payload).starts_with("body: "));
    }

    #[test]
    fn impersonation_is_refused_outside_a_devnet() {
        let payload = encode(&sample()).unwrap();
        assert!(matches!(decode(&payload, false), Err(EngineError::Payload(_))));
    }

    proptest::proptest! {
        #[test]
        fn flipped_bits_never_panic(position in 0usize..789, bit in 0u8..8) {
            let mut payload = encode(&sample()).unwrap();
            if position < payload.len() {
                payload[position] ^= 1 << bit;
            }
            // Either an error or another block; a panic fails the test.
            if let Ok(block) = decode(&payload, true) {
                proptest::prop_assert_eq!(encode(&block).unwrap(), payload);
            }
        }
    }
}
