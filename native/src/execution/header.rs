//! Rules of a header against its parent, and the proof-of-work difficulty formula.

use alloy_consensus::constants::EMPTY_OMMER_ROOT_HASH;
use alloy_consensus::Header;
use alloy_eips::eip4844::DATA_GAS_PER_BLOB;
use alloy_primitives::{B64, U256};

use super::spec::{ChainSpec, Fork, ELASTICITY_MULTIPLIER};
use super::BlockError;
use crate::primitives::Bytes;

/// Longest `extraData` (bytes).
pub const MAX_EXTRA_DATA: usize = 32;
/// A gas limit moves by less than 1/1024 of its parent's.
const GAS_LIMIT_BOUND_DIVISOR: u64 = 1024;
const MIN_GAS_LIMIT: u64 = 5_000;
/// Gas limits are 63-bit numbers.
const MAX_GAS_LIMIT: u64 = i64::MAX as u64;
const MIN_DIFFICULTY: u64 = 131_072;

fn invalid<T>(reason: String) -> Result<T, BlockError> {
    Err(BlockError::Invalid(reason))
}

fn expect<T: PartialEq + std::fmt::Debug>(field: &str, found: T, expected: T) -> Result<(), BlockError> {
    if found == expected {
        return Ok(());
    }
    invalid(format!("{field} is {found:?}, expected {expected:?}"))
}

fn expect_presence<T>(field: &str, value: &Option<T>, wanted: bool, fork: Fork) -> Result<(), BlockError> {
    match (value.is_some(), wanted) {
        (true, false) => invalid(format!("{field} must be absent in {fork:?}")),
        (false, true) => invalid(format!("{field} is missing in {fork:?}")),
        _ => Ok(()),
    }
}

/// Checks everything that a header says about itself and its parent, before execution.
pub fn validate(spec: &ChainSpec, parent: &Header, header: &Header, relaxed: bool) -> Result<(), BlockError> {
    let fork = spec.fork_of(header);
    expect("parentHash", header.parent_hash, parent.hash_slow())?;
    expect("number", header.number, parent.number + 1)?;
    if header.timestamp < parent.timestamp || (!relaxed && header.timestamp == parent.timestamp) {
        return invalid(format!("timestamp is {}, the parent's is {}", header.timestamp, parent.timestamp));
    }
    if header.extra_data.len() > MAX_EXTRA_DATA {
        return invalid(format!("extraData has {} bytes, at most {MAX_EXTRA_DATA}", header.extra_data.len()));
    }
    if header.gas_used > header.gas_limit {
        return invalid(format!("gasUsed {} exceeds gasLimit {}", header.gas_used, header.gas_limit));
    }
    if header.gas_limit > MAX_GAS_LIMIT {
        return invalid(format!("gasLimit {} exceeds {MAX_GAS_LIMIT}", header.gas_limit));
    }
    if !relaxed {
        gas_limit_bounds(spec, parent, header)?;
    }
    fees(spec, parent, header, relaxed, fork)?;
    presence(header, fork)?;
    if fork >= Fork::Paris {
        expect("difficulty", header.difficulty, U256::ZERO)?;
        expect("nonce", header.nonce, B64::ZERO)?;
        expect("sha3Uncles", header.ommers_hash, EMPTY_OMMER_ROOT_HASH)?;
    } else if !relaxed {
        expect("difficulty", header.difficulty, difficulty(spec, parent, header.timestamp))?;
        dao_extra_data(spec, header)?;
    }
    Ok(())
}

fn gas_limit_bounds(spec: &ChainSpec, parent: &Header, header: &Header) -> Result<(), BlockError> {
    let london_now = spec.fork_of(header) >= Fork::London;
    let scale = if london_now && spec.fork_of(parent) < Fork::London { ELASTICITY_MULTIPLIER } else { 1 };
    let before = parent.gas_limit.saturating_mul(scale);
    let bound = before / GAS_LIMIT_BOUND_DIVISOR;
    if header.gas_limit.abs_diff(before) >= bound {
        return invalid(format!("gasLimit is {}, it may differ from {before} by less than {bound}", header.gas_limit));
    }
    if header.gas_limit < MIN_GAS_LIMIT {
        return invalid(format!("gasLimit {} is below {MIN_GAS_LIMIT}", header.gas_limit));
    }
    Ok(())
}

fn fees(spec: &ChainSpec, parent: &Header, header: &Header, relaxed: bool, fork: Fork) -> Result<(), BlockError> {
    if !relaxed {
        let expected = spec.next_base_fee(parent, header.timestamp);
        expect("baseFeePerGas", header.base_fee_per_gas, expected)?;
    }
    if fork >= Fork::Cancun {
        let expected = spec.next_excess_blob_gas(parent, header.timestamp);
        expect("excessBlobGas", header.excess_blob_gas, expected)?;
        let used = header.blob_gas_used.unwrap_or(0);
        let max = spec.blob_limits(header.timestamp).1.saturating_mul(DATA_GAS_PER_BLOB);
        if used > max || !used.is_multiple_of(DATA_GAS_PER_BLOB) {
            return invalid(format!("blobGasUsed is {used}, expected a multiple of {DATA_GAS_PER_BLOB} up to {max}"));
        }
    }
    Ok(())
}

fn presence(header: &Header, fork: Fork) -> Result<(), BlockError> {
    let (shanghai, cancun) = (fork >= Fork::Shanghai, fork >= Fork::Cancun);
    expect_presence("baseFeePerGas", &header.base_fee_per_gas, fork >= Fork::London, fork)?;
    expect_presence("withdrawalsRoot", &header.withdrawals_root, shanghai, fork)?;
    expect_presence("blobGasUsed", &header.blob_gas_used, cancun, fork)?;
    expect_presence("excessBlobGas", &header.excess_blob_gas, cancun, fork)?;
    expect_presence("parentBeaconBlockRoot", &header.parent_beacon_block_root, cancun, fork)?;
    expect_presence("requestsHash", &header.requests_hash, fork >= Fork::Prague, fork)?;
    expect_presence("blockAccessListHash", &header.block_access_list_hash, false, fork)?;
    expect_presence("slotNumber", &header.slot_number, false, fork)
}

/// The ten blocks from the DAO fork on carry a marker (EIP-779).
fn dao_extra_data(spec: &ChainSpec, header: &Header) -> Result<(), BlockError> {
    let marked = spec.dao_fork.is_some_and(|fork| (fork..fork.saturating_add(10)).contains(&header.number));
    if marked {
        expect("extraData", &header.extra_data, &Bytes::from_static(b"dao-hard-fork"))?;
    }
    Ok(())
}

/// Difficulty of the child of `parent` by proof of work (Frontier, EIP-2, EIP-100 with its bomb delays).
pub fn difficulty(spec: &ChainSpec, parent: &Header, timestamp: u64) -> U256 {
    let number = parent.number + 1;
    let fork = spec.fork(number, timestamp);
    let step = parent.difficulty / U256::from(2048);
    let elapsed = timestamp.saturating_sub(parent.timestamp);
    let (up, periods) = if fork >= Fork::Byzantium {
        let uncles = if parent.ommers_hash == EMPTY_OMMER_ROOT_HASH { 1 } else { 2 };
        (uncles, elapsed / 9)
    } else if fork >= Fork::Homestead {
        (1, elapsed / 10)
    } else {
        (1, if elapsed < 13 { 0 } else { 2 })
    };
    let base = if periods <= up {
        parent.difficulty + step * U256::from(up - periods)
    } else {
        parent.difficulty.saturating_sub(step * U256::from((periods - up).min(99)))
    };
    let base = base.max(U256::from(MIN_DIFFICULTY));
    let delay = match fork {
        f if f >= Fork::GrayGlacier => 11_400_000,
        Fork::ArrowGlacier => 10_700_000,
        Fork::London => 9_700_000,
        Fork::MuirGlacier | Fork::Berlin => 9_000_000,
        Fork::Constantinople | Fork::Petersburg | Fork::Istanbul => 5_000_000,
        Fork::Byzantium => 3_000_000,
        _ => 0,
    };
    let period = number.saturating_sub(delay) / 100_000;
    if period > 1 {
        base + (U256::from(1) << (period - 2).min(255))
    } else {
        base
    }
}
