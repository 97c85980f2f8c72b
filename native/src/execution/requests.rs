//! EIP-6110: deposit requests out of the logs of the deposit contract.

use alloy_primitives::b256;

use super::BlockError;
use crate::primitives::*;

/// keccak256("DepositEvent(bytes,bytes,bytes,bytes,bytes)").
const DEPOSIT_EVENT: B256 = b256!("0x649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5");
/// The five byte strings of the event: offset in the data, length. The layout is fixed by the EIP.
const FIELDS: [(usize, usize); 5] = [(160, 48), (256, 32), (320, 8), (384, 96), (512, 8)];
/// Length of the event data in bytes.
const EVENT_LENGTH: usize = 576;

/// The deposit requests of a block, one after another (192 bytes each).
pub(super) fn deposits(contract: Address, receipts: &[Receipt]) -> Result<Bytes, BlockError> {
    let mut out = Vec::new();
    for log in receipts.iter().flat_map(|receipt| &receipt.logs) {
        if log.address == contract && log.topics().first() == Some(&DEPOSIT_EVENT) {
            deposit(&log.data.data, &mut out)?;
        }
    }
    Ok(out.into())
}

fn deposit(data: &[u8], out: &mut Vec<u8>) -> Result<(), BlockError> {
    let word = |at: usize| U256::from_be_slice(&data[at..at + 32]);
    if data.len() != EVENT_LENGTH {
        return Err(BlockError::Invalid(format!("deposit event has {} bytes, expected {EVENT_LENGTH}", data.len())));
    }
    for (index, (offset, length)) in FIELDS.into_iter().enumerate() {
        if word(index * 32) != U256::from(offset) || word(offset) != U256::from(length) {
            return Err(BlockError::Invalid(format!("deposit event has a malformed field {index}")));
        }
        out.extend_from_slice(&data[offset + 32..offset + 32 + length]);
    }
    Ok(())
}
